//! The live keyspace behind [`Store`]: reads by the key API, writes by core commands that AOF and replicas receive.

use super::Context;
use super::call::Effect::{Local, Replicated};
use super::call::{Answer, with_known};
use super::key::ReadKey;
use super::string::OwnedString;
use crate::queue::fields::{Known, Word};
use crate::queue::number::{Style, call_argument};
use crate::queue::store::{End, Expiry, Kind, Store, StoreResult, Ttl};

/// The keyspace of the context's database.
#[derive(Clone, Copy)]
pub struct LiveStore(pub Context);

impl LiveStore {
    /// Several fields of a hash, from one look at the key; None where there is no such hash.
    pub fn fields<const N: usize>(&self, name: &[u8], fields: [Known; N]) -> Option<[Option<OwnedString>; N]> {
        let key = ReadKey::open(self.0, name).filter(|key| key.kind() == Kind::Hash)?;
        Some(fields.map(|field| with_known(field, |field| key.hget(field))))
    }

    /// MEMORY USAGE; 0 for no key.
    fn memory_usage(&self, key: &[u8], samples: &str) -> StoreResult<u64> {
        let words = [Word::from("USAGE"), key.into(), "SAMPLES".into(), samples.into()];
        Ok(self.0.call(c"MEMORY", Local, &words)?.integer() as u64)
    }
}

pub(super) fn score_text(score: f64) -> String {
    if score == f64::INFINITY {
        return "+inf".into();
    }
    if score == f64::NEG_INFINITY {
        return "-inf".into();
    }
    call_argument(score, Style::Digits17)
}

impl Store for LiveStore {
    fn kind(&self, key: &[u8]) -> Kind {
        ReadKey::open(self.0, key).map_or(Kind::None, |key| key.kind())
    }

    fn exists(&self, key: &[u8]) -> bool {
        self.0.has_key(&OwnedString::new(key))
    }

    fn ttl(&self, key: &[u8]) -> Ttl {
        ReadKey::open(self.0, key).map_or(Ttl::Missing, |key| key.ttl())
    }

    fn len(&self, key: &[u8]) -> u64 {
        ReadKey::open(self.0, key).map_or(0, |key| key.len())
    }

    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.0.call(c"GET", Local, &[key.into()])?.text())
    }

    fn hget(&self, key: &[u8], field: Word) -> Option<Vec<u8>> {
        let value = ReadKey::open(self.0, key)?.hget(&OwnedString::new(field.bytes()))?;
        Some(value.as_bytes().to_vec())
    }

    fn hmget<const N: usize>(&self, key: &[u8], fields: [Known; N]) -> Option<[Option<Vec<u8>>; N]> {
        let found = self.fields(key, fields)?;
        Some(found.map(|value| value.map(|value| value.as_bytes().to_vec())))
    }

    fn hstrlen(&self, key: &[u8], field: Word) -> StoreResult<u64> {
        if self.kind(key) != Kind::Hash {
            return Ok(0);
        }
        Ok(self.0.call(c"HSTRLEN", Local, &[key.into(), field])?.integer() as u64)
    }

    fn zscore(&self, key: &[u8], member: &[u8]) -> Option<f64> {
        ReadKey::open(self.0, key)?.zscore(&OwnedString::new(member))
    }

    fn zmax_score(&self, key: &[u8], min: f64, max: f64) -> Option<f64> {
        ReadKey::open(self.0, key)?.last_score(min, max)
    }

    fn zfirst_score(&self, key: &[u8]) -> Option<f64> {
        ReadKey::open(self.0, key)?.first_score()
    }

    fn zrange(&self, key: &[u8], offset: u64, count: u64) -> StoreResult<Vec<Vec<u8>>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if offset == 0
            && let Some(first) = ReadKey::open(self.0, key).and_then(|key| key.first_members(count))
        {
            return Ok(first);
        }
        let (start, stop) = (offset.to_string(), (offset + count - 1).to_string());
        Ok(self.0.call(c"ZRANGE", Local, &[key.into(), start.as_str().into(), stop.as_str().into()])?.texts())
    }

    fn zrandom(&self, key: &[u8], count: u64) -> StoreResult<Vec<Vec<u8>>> {
        let count = format!("-{count}");
        Ok(self.0.call(c"ZRANDMEMBER", Local, &[key.into(), count.as_str().into()])?.texts())
    }

    fn zrank(&self, key: &[u8], member: &[u8]) -> StoreResult<Option<u64>> {
        match self.0.call(c"ZRANK", Local, &[key.into(), member.into()])? {
            Answer::Integer(rank) => Ok(Some(rank as u64)),
            _ => Ok(None),
        }
    }

    fn zcount(&self, key: &[u8], min: f64, max: f64) -> StoreResult<u64> {
        let (min, max) = (score_text(min), score_text(max));
        let answer = self.0.call(c"ZCOUNT", Local, &[key.into(), min.as_str().into(), max.as_str().into()])?;
        Ok(answer.integer() as u64)
    }

    fn lindex(&self, key: &[u8], index: i64) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.0.call(c"LINDEX", Local, &[key.into(), index.to_string().as_str().into()])?.text())
    }

    fn lrange(&self, key: &[u8], start: i64, stop: i64) -> StoreResult<Vec<Vec<u8>>> {
        let (start, stop) = (start.to_string(), stop.to_string());
        Ok(self.0.call(c"LRANGE", Local, &[key.into(), start.as_str().into(), stop.as_str().into()])?.texts())
    }

    fn list_contains(&self, key: &[u8], element: &[u8]) -> StoreResult<bool> {
        Ok(self.0.call(c"LPOS", Local, &[key.into(), element.into()])?.text().is_some())
    }

    fn memory(&self, key: &[u8]) -> StoreResult<u64> {
        self.memory_usage(key, "0")
    }

    fn memory_estimate(&self, key: &[u8]) -> StoreResult<u64> {
        self.memory_usage(key, "16")
    }

    fn incr(&mut self, key: &[u8]) -> StoreResult<i64> {
        Ok(self.0.call(c"INCR", Replicated, &[key.into()])?.integer())
    }

    fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> StoreResult<()> {
        let millis;
        let mut words: Vec<Word> = vec![key.into(), value.into()];
        match expiry {
            Expiry::Clear => {}
            Expiry::Keep => words.push("KEEPTTL".into()),
            Expiry::Millis(ms) => {
                millis = ms.to_string();
                words.extend([Word::from("PX"), millis.as_str().into()]);
            }
        }
        self.0.call(c"SET", Replicated, &words).map(drop)
    }

    fn persist(&mut self, key: &[u8]) -> StoreResult<()> {
        self.0.call(c"PERSIST", Replicated, &[key.into()]).map(drop)
    }

    fn del(&mut self, keys: &[&[u8]]) -> StoreResult<u64> {
        let words: Vec<Word> = keys.iter().map(|&key| key.into()).collect();
        Ok(self.0.call(c"DEL", Replicated, &words)?.integer() as u64)
    }

    fn unlink(&mut self, keys: &[&[u8]]) -> StoreResult<()> {
        let words: Vec<Word> = keys.iter().map(|&key| key.into()).collect();
        self.0.call(c"UNLINK", Replicated, &words).map(drop)
    }

    fn hset(&mut self, key: &[u8], fields: &[(Word, Word)]) -> StoreResult<()> {
        let mut words: Vec<Word> = Vec::with_capacity(1 + 2 * fields.len());
        words.push(key.into());
        words.extend(fields.iter().flat_map(|&(field, value)| [field, value]));
        self.0.call(c"HSET", Replicated, &words).map(drop)
    }

    fn hdel(&mut self, key: &[u8], field: Word) -> StoreResult<()> {
        self.0.call(c"HDEL", Replicated, &[key.into(), field]).map(drop)
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> StoreResult<()> {
        self.0.call(c"RENAME", Replicated, &[from.into(), to.into()]).map(drop)
    }

    fn push_right(&mut self, key: &[u8], elements: &[Vec<u8>]) -> StoreResult<()> {
        let mut words: Vec<Word> = Vec::with_capacity(1 + elements.len());
        words.push(key.into());
        words.extend(elements.iter().map(Word::from));
        self.0.call(c"RPUSH", Replicated, &words).map(drop)
    }

    fn drop_left(&mut self, key: &[u8], count: u64) -> StoreResult<()> {
        let count = count.to_string();
        self.0.call(c"LTRIM", Replicated, &[key.into(), count.as_str().into(), "-1".into()]).map(drop)
    }

    fn push(&mut self, key: &[u8], end: End, element: &[u8]) -> StoreResult<()> {
        let command = match end {
            End::Left => c"LPUSH",
            End::Right => c"RPUSH",
        };
        self.0.call(command, Replicated, &[key.into(), element.into()]).map(drop)
    }

    fn lrem(&mut self, key: &[u8], count: i64, element: &[u8]) -> StoreResult<u64> {
        let count = count.to_string();
        Ok(self.0.call(c"LREM", Replicated, &[key.into(), count.as_str().into(), element.into()])?.integer() as u64)
    }

    fn zadd(&mut self, key: &[u8], score: f64, member: &[u8]) -> StoreResult<()> {
        let score = score_text(score);
        self.0.call(c"ZADD", Replicated, &[key.into(), score.as_str().into(), member.into()]).map(drop)
    }

    fn zrem(&mut self, key: &[u8], members: &[&[u8]]) -> StoreResult<u64> {
        let mut words: Vec<Word> = vec![key.into()];
        words.extend(members.iter().map(|&member| Word::from(member)));
        Ok(self.0.call(c"ZREM", Replicated, &words)?.integer() as u64)
    }

    fn zrem_range(&mut self, key: &[u8], offset: u64, count: u64) -> StoreResult<()> {
        let (start, stop) = (offset.to_string(), (offset + count - 1).to_string());
        let words = [key.into(), start.as_str().into(), stop.as_str().into()];
        self.0.call(c"ZREMRANGEBYRANK", Replicated, &words).map(drop)
    }

    fn sadd(&mut self, key: &[u8], member: &[u8]) -> StoreResult<()> {
        self.0.call(c"SADD", Replicated, &[key.into(), member.into()]).map(drop)
    }

    fn srem(&mut self, key: &[u8], member: &[u8]) -> StoreResult<bool> {
        Ok(self.0.call(c"SREM", Replicated, &[key.into(), member.into()])?.integer() > 0)
    }

    fn xadd(&mut self, key: &[u8], max: Option<u64>, fields: &[(Word, Word)]) -> StoreResult<()> {
        let max = max.map(|max| max.to_string());
        let mut words: Vec<Word> = Vec::with_capacity(5 + 2 * fields.len());
        words.push(key.into());
        if let Some(max) = &max {
            words.extend([Word::from("MAXLEN"), "~".into(), max.as_str().into()]);
        }
        words.push("*".into());
        words.extend(fields.iter().flat_map(|&(field, value)| [field, value]));
        self.0.call(c"XADD", Replicated, &words).map(drop)
    }

    fn xtrim(&mut self, key: &[u8], max: u64) -> StoreResult<u64> {
        let max = max.to_string();
        Ok(self.0.call(c"XTRIM", Replicated, &[key.into(), "MAXLEN".into(), max.as_str().into()])?.integer() as u64)
    }
}

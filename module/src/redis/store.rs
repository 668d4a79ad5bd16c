//! The live keyspace behind [`Store`]: reads by the key API, writes by core commands that AOF and replicas receive.

use std::ffi::c_int;
use std::ptr::null_mut;

use redis_module::raw;

use super::Context;
use super::api;
use super::call::Effect::{Local, Replicated};
use super::call::{Answer, with_known};
use super::string::OwnedString;
use crate::queue::fields::{Known, Word};
use crate::queue::number::{Style, call_argument};
use crate::queue::store::{End, Expiry, Kind, Store, StoreResult, Ttl};

/// The keyspace of the context's database.
#[derive(Clone, Copy)]
pub struct LiveStore(pub Context);

/// A key opened for reading, closed when dropped.
pub(super) struct Key(*mut raw::RedisModuleKey);

impl Key {
    pub(super) fn open(context: Context, name: &[u8]) -> Option<Self> {
        let name = OwnedString::new(name);
        // NOTOUCH: looking at a queue must not change what OBJECT IDLETIME says.
        let mode = (raw::REDISMODULE_READ | raw::REDISMODULE_OPEN_KEY_NOTOUCH) as c_int;
        // SAFETY: context and name are live; the server keeps its own reference to the name.
        let key: *mut raw::RedisModuleKey = unsafe { api!(RedisModule_OpenKey)(context.0, name.as_ptr(), mode).cast() };
        (!key.is_null()).then_some(Self(key))
    }

    pub(super) fn raw(&self) -> *mut raw::RedisModuleKey {
        self.0
    }

    pub(super) fn kind(&self) -> Kind {
        // SAFETY: the key is open.
        match unsafe { api!(RedisModule_KeyType)(self.0) } as isize {
            raw::REDISMODULE_KEYTYPE_EMPTY => Kind::None,
            raw::REDISMODULE_KEYTYPE_STRING => Kind::String,
            raw::REDISMODULE_KEYTYPE_LIST => Kind::List,
            raw::REDISMODULE_KEYTYPE_HASH => Kind::Hash,
            raw::REDISMODULE_KEYTYPE_SET => Kind::Set,
            raw::REDISMODULE_KEYTYPE_ZSET => Kind::ZSet,
            raw::REDISMODULE_KEYTYPE_STREAM => Kind::Stream,
            _ => Kind::Other,
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: opened by us, closed once.
        unsafe { api!(RedisModule_CloseKey)(self.0) }
    }
}

impl LiveStore {
    /// Several fields of a hash, from one look at the key; None where there is no such hash.
    pub fn fields<const N: usize>(&self, name: &[u8], fields: [Known; N]) -> Option<[Option<OwnedString>; N]> {
        let key = Key::open(self.0, name).filter(|key| key.kind() == Kind::Hash)?;
        Some(fields.map(|field| {
            with_known(field, |field| {
                let mut value: *mut raw::RedisModuleString = null_mut();
                // SAFETY: as in `hget`.
                unsafe {
                    let none = null_mut::<raw::RedisModuleString>();
                    let flags = raw::REDISMODULE_HASH_NONE as c_int;
                    api!(RedisModule_HashGet)(key.0, flags, field.as_ptr(), &mut value, none);
                    OwnedString::from_raw(value)
                }
            })
        }))
    }

    /// MEMORY USAGE; 0 for no key.
    fn memory_usage(&self, key: &[u8], samples: &str) -> StoreResult<u64> {
        let words = [Word::from("USAGE"), key.into(), "SAMPLES".into(), samples.into()];
        Ok(self.0.call(c"MEMORY", Local, &words)?.integer() as u64)
    }

    fn range(&self, name: &[u8], min: f64, max: f64) -> Option<f64> {
        let key = Key::open(self.0, name).filter(|key| key.kind() == Kind::ZSet)?;
        // SAFETY: the key is an open sorted set; the range is stopped before the key closes; the element is freed.
        unsafe {
            if api!(RedisModule_ZsetLastInScoreRange)(key.0, min, max, 0, 0) != 0 {
                return None;
            }
            let mut score = 0.0;
            let found = OwnedString::from_raw(api!(RedisModule_ZsetRangeCurrentElement)(key.0, &mut score));
            api!(RedisModule_ZsetRangeStop)(key.0);
            found.map(|_| score)
        }
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
        Key::open(self.0, key).map_or(Kind::None, |key| key.kind())
    }

    fn ttl(&self, key: &[u8]) -> Ttl {
        match Key::open(self.0, key) {
            None => Ttl::Missing,
            // SAFETY: the key is open.
            Some(key) => match unsafe { api!(RedisModule_GetExpire)(key.0) } {
                ms if ms < 0 => Ttl::Never,
                ms => Ttl::Millis(ms as u64),
            },
        }
    }

    fn len(&self, key: &[u8]) -> u64 {
        // SAFETY: the key is open.
        Key::open(self.0, key).map_or(0, |key| unsafe { api!(RedisModule_ValueLength)(key.0) } as u64)
    }

    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        Ok(self.0.call(c"GET", Local, &[key.into()])?.text())
    }

    fn hget(&self, key: &[u8], field: Word) -> Option<Vec<u8>> {
        let key = Key::open(self.0, key).filter(|key| key.kind() == Kind::Hash)?;
        let field = OwnedString::new(field.bytes());
        let mut value: *mut raw::RedisModuleString = null_mut();
        // SAFETY: the key is an open hash; one field and one place for its value, ended by NULL; the value is ours to free.
        unsafe {
            let none = null_mut::<raw::RedisModuleString>();
            api!(RedisModule_HashGet)(key.0, raw::REDISMODULE_HASH_NONE as c_int, field.as_ptr(), &mut value, none);
            OwnedString::from_raw(value).map(|value| value.as_bytes().to_vec())
        }
    }

    fn hmget<const N: usize>(&self, key: &[u8], fields: [Known; N]) -> Option<[Option<Vec<u8>>; N]> {
        let found = self.fields(key, fields)?;
        Some(found.map(|value| value.map(|value| value.as_bytes().to_vec())))
    }

    fn zscore(&self, key: &[u8], member: &[u8]) -> Option<f64> {
        let key = Key::open(self.0, key).filter(|key| key.kind() == Kind::ZSet)?;
        let member = OwnedString::new(member);
        let mut score = 0.0;
        // SAFETY: the key is an open sorted set, the member is live.
        let found = unsafe { api!(RedisModule_ZsetScore)(key.0, member.as_ptr(), &mut score) == 0 };
        found.then_some(score)
    }

    fn zmax_score(&self, key: &[u8], min: f64, max: f64) -> Option<f64> {
        self.range(key, min, max)
    }

    fn zfirst_score(&self, key: &[u8]) -> Option<f64> {
        let key = Key::open(self.0, key).filter(|key| key.kind() == Kind::ZSet)?;
        // SAFETY: as in `range`.
        unsafe {
            if api!(RedisModule_ZsetFirstInScoreRange)(key.0, f64::NEG_INFINITY, f64::INFINITY, 0, 0) != 0 {
                return None;
            }
            let mut score = 0.0;
            let found = OwnedString::from_raw(api!(RedisModule_ZsetRangeCurrentElement)(key.0, &mut score));
            api!(RedisModule_ZsetRangeStop)(key.0);
            found.map(|_| score)
        }
    }

    fn zrange(&self, key: &[u8], offset: u64, count: u64) -> StoreResult<Vec<Vec<u8>>> {
        if count == 0 {
            return Ok(Vec::new());
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

//! A keyspace in memory, for the unit tests of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::fields::{Known, Word};
use super::store::{End, Expiry, Kind, Store, StoreError, StoreResult, Ttl};
use super::walk::{Group, Page, Reach, Walk};

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(Vec<u8>, Option<u64>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    ZSet(BTreeMap<Vec<u8>, f64>),
    Stream(Vec<Vec<(Vec<u8>, Vec<u8>)>>),
}

/// Steps through the members of sets: prime to the size of most, so that every one is drawn as often.
static DRAWN: AtomicUsize = AtomicUsize::new(1);

/// Keys to values, and the keys at which GET fails. Empty collections vanish, as in Redis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fake(pub BTreeMap<Vec<u8>, Value>, BTreeSet<Vec<u8>>);

macro_rules! slot {
    ($self:ident, $key:expr, $kind:ident, $empty:expr) => {
        match $self.0.entry($key.to_vec()).or_insert_with(|| Value::$kind($empty)) {
            Value::$kind(inner) => inner,
            _ => return Err(StoreError("WRONGTYPE".into())),
        }
    };
}

impl Fake {
    fn sorted(&self, key: &[u8]) -> Vec<(f64, Vec<u8>)> {
        let Some(Value::ZSet(set)) = self.0.get(key) else { return Vec::new() };
        let mut all: Vec<_> = set.iter().map(|(member, score)| (*score, member.clone())).collect();
        all.sort_by(|a, b| a.partial_cmp(b).unwrap());
        all
    }

    fn prune(&mut self) {
        self.0.retain(|_, value| match value {
            Value::List(list) => !list.is_empty(),
            Value::Set(set) => !set.is_empty(),
            Value::ZSet(set) => !set.is_empty(),
            Value::Hash(hash) => !hash.is_empty(),
            _ => true,
        });
    }

    /// GET of this key is an error from now on.
    pub fn fail_on(&mut self, key: &[u8]) {
        self.1.insert(key.to_vec());
    }

    /// Names of events, oldest first.
    pub fn events(&self, key: &[u8]) -> Vec<String> {
        let Some(Value::Stream(entries)) = self.0.get(key) else { return Vec::new() };
        entries.iter().map(|fields| String::from_utf8(fields[0].1.clone()).unwrap()).collect()
    }
}

impl Store for Fake {
    fn kind(&self, key: &[u8]) -> Kind {
        match self.0.get(key) {
            None => Kind::None,
            Some(Value::Text(..)) => Kind::String,
            Some(Value::Hash(_)) => Kind::Hash,
            Some(Value::List(_)) => Kind::List,
            Some(Value::Set(_)) => Kind::Set,
            Some(Value::ZSet(_)) => Kind::ZSet,
            Some(Value::Stream(_)) => Kind::Stream,
        }
    }

    fn exists(&self, key: &[u8]) -> bool {
        self.0.contains_key(key)
    }

    fn ttl(&self, key: &[u8]) -> Ttl {
        match self.0.get(key) {
            None => Ttl::Missing,
            Some(Value::Text(_, Some(ms))) => Ttl::Millis(*ms),
            Some(_) => Ttl::Never,
        }
    }

    fn len(&self, key: &[u8]) -> u64 {
        (match self.0.get(key) {
            Some(Value::List(list)) => list.len(),
            Some(Value::Set(set)) => set.len(),
            Some(Value::ZSet(set)) => set.len(),
            Some(Value::Hash(hash)) => hash.len(),
            Some(Value::Stream(entries)) => entries.len(),
            Some(Value::Text(text, _)) => text.len(),
            None => 0,
        }) as u64
    }

    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        if self.1.contains(key) {
            return Err(StoreError("ERR as told".into()));
        }
        match self.0.get(key) {
            None => Ok(None),
            Some(Value::Text(text, _)) => Ok(Some(text.clone())),
            Some(_) => Err(StoreError("WRONGTYPE".into())),
        }
    }

    fn hget(&self, key: &[u8], field: Word) -> Option<Vec<u8>> {
        let Some(Value::Hash(hash)) = self.0.get(key) else { return None };
        hash.get(field.bytes()).cloned()
    }

    fn hmget<const N: usize>(&self, key: &[u8], fields: [Known; N]) -> Option<[Option<Vec<u8>>; N]> {
        (self.kind(key) == Kind::Hash).then(|| fields.map(|field| self.hget(key, field.into())))
    }

    fn hstrlen(&self, key: &[u8], field: Word) -> StoreResult<u64> {
        Ok(self.hget(key, field).map_or(0, |value| value.len() as u64))
    }

    fn zscore(&self, key: &[u8], member: &[u8]) -> Option<f64> {
        let Some(Value::ZSet(set)) = self.0.get(key) else { return None };
        set.get(member).copied()
    }

    fn zmax_score(&self, key: &[u8], min: f64, max: f64) -> Option<f64> {
        self.sorted(key).into_iter().map(|(score, _)| score).rfind(|score| (min..=max).contains(score))
    }

    fn zfirst_score(&self, key: &[u8]) -> Option<f64> {
        self.sorted(key).first().map(|(score, _)| *score)
    }

    fn zrange(&self, key: &[u8], offset: u64, count: u64) -> StoreResult<Vec<Vec<u8>>> {
        let all = self.sorted(key).into_iter().skip(offset as usize).take(count as usize);
        Ok(all.map(|(_, member)| member).collect())
    }

    fn zrandom(&self, key: &[u8], count: u64) -> StoreResult<Vec<Vec<u8>>> {
        let Some(Value::ZSet(set)) = self.0.get(key) else { return Ok(Vec::new()) };
        let members: Vec<&Vec<u8>> = set.keys().collect();
        let draw = || DRAWN.fetch_add(7919, Ordering::Relaxed) % members.len();
        Ok((0..count).map(|_| members[draw()].clone()).collect())
    }

    fn zrank(&self, key: &[u8], member: &[u8]) -> StoreResult<Option<u64>> {
        Ok(self.sorted(key).iter().position(|(_, one)| one == member).map(|at| at as u64))
    }

    fn zcount(&self, key: &[u8], min: f64, max: f64) -> StoreResult<u64> {
        Ok(self.sorted(key).into_iter().filter(|(score, _)| (min..=max).contains(score)).count() as u64)
    }

    fn lindex(&self, key: &[u8], index: i64) -> StoreResult<Option<Vec<u8>>> {
        let Some(Value::List(list)) = self.0.get(key) else { return Ok(None) };
        let at = if index < 0 { list.len() as i64 + index } else { index };
        Ok(list.get(at as usize).cloned())
    }

    fn lrange(&self, key: &[u8], start: i64, stop: i64) -> StoreResult<Vec<Vec<u8>>> {
        let Some(Value::List(list)) = self.0.get(key) else { return Ok(Vec::new()) };
        let length = list.len() as i64;
        let at = |index: i64| if index < 0 { length + index } else { index };
        let (start, stop) = (at(start).max(0), at(stop).min(length - 1));
        Ok((start..=stop).map(|index| list[index as usize].clone()).collect())
    }

    fn list_contains(&self, key: &[u8], element: &[u8]) -> StoreResult<bool> {
        Ok(matches!(self.0.get(key), Some(Value::List(list)) if list.iter().any(|one| one == element)))
    }

    fn memory(&self, key: &[u8]) -> StoreResult<u64> {
        Ok(self.len(key) * 10)
    }

    fn memory_estimate(&self, key: &[u8]) -> StoreResult<u64> {
        self.memory(key)
    }

    fn incr(&mut self, key: &[u8]) -> StoreResult<i64> {
        let now = self.get(key)?.map_or(0, |text| String::from_utf8(text).unwrap().parse().unwrap()) + 1i64;
        self.0.insert(key.to_vec(), Value::Text(now.to_string().into_bytes(), None));
        Ok(now)
    }

    fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> StoreResult<()> {
        let ttl = match (expiry, self.ttl(key)) {
            (Expiry::Millis(ms), _) | (Expiry::Keep, Ttl::Millis(ms)) => Some(ms),
            _ => None,
        };
        self.0.insert(key.to_vec(), Value::Text(value.to_vec(), ttl));
        Ok(())
    }

    fn persist(&mut self, key: &[u8]) -> StoreResult<()> {
        if let Some(Value::Text(_, ttl)) = self.0.get_mut(key) {
            *ttl = None;
        }
        Ok(())
    }

    fn del(&mut self, keys: &[&[u8]]) -> StoreResult<u64> {
        Ok(keys.iter().filter(|key| self.0.remove(**key).is_some()).count() as u64)
    }

    fn unlink(&mut self, keys: &[&[u8]]) -> StoreResult<()> {
        self.del(keys).map(drop)
    }

    fn hset(&mut self, key: &[u8], fields: &[(Word, Word)]) -> StoreResult<()> {
        let hash = slot!(self, key, Hash, BTreeMap::new());
        hash.extend(fields.iter().map(|(field, value)| (field.bytes().to_vec(), value.bytes().to_vec())));
        Ok(())
    }

    fn hdel(&mut self, key: &[u8], field: Word) -> StoreResult<()> {
        slot!(self, key, Hash, BTreeMap::new()).remove(field.bytes());
        self.prune();
        Ok(())
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> StoreResult<()> {
        let value = self.0.remove(from).ok_or_else(|| StoreError("ERR no such key".into()))?;
        self.0.insert(to.to_vec(), value);
        Ok(())
    }

    fn push_right(&mut self, key: &[u8], elements: &[Vec<u8>]) -> StoreResult<()> {
        slot!(self, key, List, Vec::new()).extend_from_slice(elements);
        Ok(())
    }

    fn drop_left(&mut self, key: &[u8], count: u64) -> StoreResult<()> {
        let list = slot!(self, key, List, Vec::new());
        list.drain(..list.len().min(count as usize));
        self.prune();
        Ok(())
    }

    fn push(&mut self, key: &[u8], end: End, element: &[u8]) -> StoreResult<()> {
        let list = slot!(self, key, List, Vec::new());
        let at = if end == End::Left { 0 } else { list.len() };
        list.insert(at, element.to_vec());
        Ok(())
    }

    fn lrem(&mut self, key: &[u8], count: i64, element: &[u8]) -> StoreResult<u64> {
        let list = slot!(self, key, List, Vec::new());
        let most = if count == 0 { list.len() } else { count.unsigned_abs() as usize };
        let mut gone = 0;
        while gone < most {
            let mut ids = list.iter();
            let found =
                if count < 0 { ids.rposition(|one| one == element) } else { ids.position(|one| one == element) };
            let Some(at) = found else { break };
            list.remove(at);
            gone += 1;
        }
        self.prune();
        Ok(gone as u64)
    }

    fn zadd(&mut self, key: &[u8], score: f64, member: &[u8]) -> StoreResult<()> {
        slot!(self, key, ZSet, BTreeMap::new()).insert(member.to_vec(), score);
        Ok(())
    }

    fn zrem(&mut self, key: &[u8], members: &[&[u8]]) -> StoreResult<u64> {
        let set = slot!(self, key, ZSet, BTreeMap::new());
        let gone = members.iter().filter(|member| set.remove(**member).is_some()).count();
        self.prune();
        Ok(gone as u64)
    }

    fn zrem_range(&mut self, key: &[u8], offset: u64, count: u64) -> StoreResult<()> {
        let going = self.zrange(key, offset, count)?;
        self.zrem(key, &going.iter().map(Vec::as_slice).collect::<Vec<_>>()).map(drop)
    }

    fn sadd(&mut self, key: &[u8], member: &[u8]) -> StoreResult<()> {
        slot!(self, key, Set, BTreeSet::new()).insert(member.to_vec());
        Ok(())
    }

    fn srem(&mut self, key: &[u8], member: &[u8]) -> StoreResult<bool> {
        let gone = slot!(self, key, Set, BTreeSet::new()).remove(member);
        self.prune();
        Ok(gone)
    }

    fn xadd(&mut self, key: &[u8], _max: Option<u64>, fields: &[(Word, Word)]) -> StoreResult<()> {
        let entry = fields.iter().map(|(field, value)| (field.bytes().to_vec(), value.bytes().to_vec())).collect();
        slot!(self, key, Stream, Vec::new()).push(entry);
        Ok(())
    }

    fn xtrim(&mut self, key: &[u8], max: u64) -> StoreResult<u64> {
        let entries = slot!(self, key, Stream, Vec::new());
        let gone = entries.len().saturating_sub(max as usize);
        entries.drain(..gone);
        Ok(gone as u64)
    }
}

/// Pieces of one item, so that every walk is in pieces.
fn piece(all: Vec<Vec<u8>>, cursor: Option<&[u8]>) -> Page {
    let start = cursor.map_or(0, |cursor| all.iter().take_while(|one| one.as_slice() < cursor).count());
    Page { items: all.get(start).cloned().into_iter().collect(), next: all.get(start + 1).cloned() }
}

impl Walk for Fake {
    fn keys(&self, prefix: &[u8], cursor: Option<&[u8]>) -> StoreResult<Page> {
        Ok(piece(self.0.keys().filter(|key| key.starts_with(prefix)).cloned().collect(), cursor))
    }

    fn members(&self, key: &[u8], group: Group, cursor: Option<&[u8]>) -> StoreResult<Page> {
        let all = match (group, self.0.get(key)) {
            (Group::Set, Some(Value::Set(set))) => set.iter().cloned().collect(),
            (Group::ZSet, Some(Value::ZSet(set))) => set.keys().cloned().collect(),
            _ => Vec::new(),
        };
        Ok(piece(all, cursor))
    }

    fn field_names(&self, key: &[u8]) -> StoreResult<Vec<Vec<u8>>> {
        let Some(Value::Hash(hash)) = self.0.get(key) else { return Ok(Vec::new()) };
        Ok(hash.keys().cloned().collect())
    }

    fn has_fields(&self, key: &[u8], fields: &[Known]) -> bool {
        fields.iter().all(|&field| self.hget(key, field.into()).is_some())
    }

    fn list_holds(&self, key: &[u8], element: &[u8], reach: Reach) -> StoreResult<bool> {
        let Some(Value::List(list)) = self.0.get(key) else { return Ok(false) };
        let part = match reach {
            Reach::Whole => &list[..],
            Reach::First(most) => &list[..list.len().min(most as usize)],
            Reach::Last(most) => &list[list.len().saturating_sub(most as usize)..],
        };
        Ok(part.iter().any(|one| one == element))
    }
}

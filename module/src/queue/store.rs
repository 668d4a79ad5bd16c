//! What the queue rules ask of a keyspace: reads that cost little and the core commands BullMQ's scripts use.
//!
//! Every write is one core Redis command, since that is what AOF and replicas receive.

use super::fields::{Known, Word};

/// Type of the value under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    None,
    String,
    List,
    Hash,
    Set,
    ZSet,
    Stream,
    Other,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::String => "string",
            Self::List => "list",
            Self::Hash => "hash",
            Self::Set => "set",
            Self::ZSet => "sorted set",
            Self::Stream => "stream",
            Self::Other => "module type",
        }
    }
}

/// Time to live of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    Missing,
    Never,
    Millis(u64),
}

/// What SET does with the time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Plain SET: the key no longer expires.
    Clear,
    /// PX, milliseconds.
    Millis(u64),
    /// KEEPTTL.
    Keep,
}

/// The end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// LPUSH: where new jobs go.
    Left,
    /// RPUSH: what a worker takes next.
    Right,
}

/// An error reply of the server to a command of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

pub type StoreResult<T> = Result<T, StoreError>;

/// Reads never write and never fail on a missing key; a key of another type reads as empty.
pub trait Store {
    fn kind(&self, key: &[u8]) -> Kind;
    /// Whether anything lies there: less to ask than the type.
    fn exists(&self, key: &[u8]) -> bool;
    fn ttl(&self, key: &[u8]) -> Ttl;
    /// Elements of a list, set, sorted set, hash or stream; 0 for no key.
    fn len(&self, key: &[u8]) -> u64;
    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>>;
    fn hget(&self, key: &[u8], field: Word) -> Option<Vec<u8>>;
    /// Several fields from one look; None where the key holds no hash.
    fn hmget<const N: usize>(&self, key: &[u8], fields: [Known; N]) -> Option<[Option<Vec<u8>>; N]>;
    /// Bytes of a field; 0 where there is none.
    fn hstrlen(&self, key: &[u8], field: Word) -> StoreResult<u64>;
    fn zscore(&self, key: &[u8], member: &[u8]) -> Option<f64>;
    /// Highest score within `min..=max`.
    fn zmax_score(&self, key: &[u8], min: f64, max: f64) -> Option<f64>;
    /// Lowest score of all.
    fn zfirst_score(&self, key: &[u8]) -> Option<f64>;
    /// Members in order, after `offset` of them, `count` at most.
    fn zrange(&self, key: &[u8], offset: u64, count: u64) -> StoreResult<Vec<Vec<u8>>>;
    /// `count` members drawn by lot, each from all of them; none where the key holds no sorted set.
    fn zrandom(&self, key: &[u8], count: u64) -> StoreResult<Vec<Vec<u8>>>;
    /// How many stand before the member; None where it is not in the set.
    fn zrank(&self, key: &[u8], member: &[u8]) -> StoreResult<Option<u64>>;
    fn zcount(&self, key: &[u8], min: f64, max: f64) -> StoreResult<u64>;
    /// Element at `index`, negative from the right.
    fn lindex(&self, key: &[u8], index: i64) -> StoreResult<Option<Vec<u8>>>;
    /// Elements from `start` to `stop`, both included, negative from the right.
    fn lrange(&self, key: &[u8], start: i64, stop: i64) -> StoreResult<Vec<Vec<u8>>>;
    fn list_contains(&self, key: &[u8], element: &[u8]) -> StoreResult<bool>;
    /// Bytes the key takes, as MEMORY USAGE with SAMPLES 0 says; 0 for no key.
    fn memory(&self, key: &[u8]) -> StoreResult<u64>;
    /// The same for a large key, from a few of its elements.
    fn memory_estimate(&self, key: &[u8]) -> StoreResult<u64>;

    fn incr(&mut self, key: &[u8]) -> StoreResult<i64>;
    fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> StoreResult<()>;
    fn persist(&mut self, key: &[u8]) -> StoreResult<()>;
    /// DEL; how many existed.
    fn del(&mut self, keys: &[&[u8]]) -> StoreResult<u64>;
    /// UNLINK, which leaves it to another thread to free what is large.
    fn unlink(&mut self, keys: &[&[u8]]) -> StoreResult<()>;
    fn hset(&mut self, key: &[u8], fields: &[(Word, Word)]) -> StoreResult<()>;
    fn hdel(&mut self, key: &[u8], field: Word) -> StoreResult<()>;
    /// RENAME of a key that exists; what lies at `to` is overwritten.
    fn rename(&mut self, from: &[u8], to: &[u8]) -> StoreResult<()>;
    fn push(&mut self, key: &[u8], end: End, element: &[u8]) -> StoreResult<()>;
    /// RPUSH of all of these, of which there is at least one.
    fn push_right(&mut self, key: &[u8], elements: &[Vec<u8>]) -> StoreResult<()>;
    /// LTRIM: the first `count` elements go.
    fn drop_left(&mut self, key: &[u8], count: u64) -> StoreResult<()>;
    /// LREM key count element; how many went.
    fn lrem(&mut self, key: &[u8], count: i64, element: &[u8]) -> StoreResult<u64>;
    fn zadd(&mut self, key: &[u8], score: f64, member: &[u8]) -> StoreResult<()>;
    fn zrem(&mut self, key: &[u8], members: &[&[u8]]) -> StoreResult<u64>;
    /// ZREMRANGEBYRANK of `count` members, which is not 0, after `offset` of them.
    fn zrem_range(&mut self, key: &[u8], offset: u64, count: u64) -> StoreResult<()>;
    fn sadd(&mut self, key: &[u8], member: &[u8]) -> StoreResult<()>;
    fn srem(&mut self, key: &[u8], member: &[u8]) -> StoreResult<bool>;
    /// XADD with an automatic id; `max` is `MAXLEN ~ max`.
    fn xadd(&mut self, key: &[u8], max: Option<u64>, fields: &[(Word, Word)]) -> StoreResult<()>;
    /// XTRIM to exactly `max` entries; how many went.
    fn xtrim(&mut self, key: &[u8], max: u64) -> StoreResult<u64>;
}

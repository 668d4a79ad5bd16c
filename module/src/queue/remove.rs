//! Removing a job whole: its keys, its dedup keys, its place in its parent.
//!
//! As removeJob of cleanJobsInSet (BullMQ 6.7), with these differences: an unfinished parent is never removed with its
//! last child but let go, with its priority, delay and event; a parent id may hold colons; only those of the six keys
//! that exist are named. Never removes a job that is locked, has unfinished children, or is what a scheduler runs next.

use super::error::Result;
use super::fields::Known;
use super::job::QueueKeys;
use super::keys::{FLOW_KEYS, LOGS_KEY, QueueName, SUB_KEYS};
use super::parent::Parent;
use super::store::{Kind, Store};

/// Why a job stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Children of it have not finished.
    Children,
    /// A worker holds its lock.
    Locked,
    /// It is the pending iteration of a job scheduler.
    Scheduler,
    /// Keys of it hold other types than BullMQ keeps there.
    WrongType,
    /// Its parent lies in a queue that is not the caller's to change.
    Rights,
}

/// Keys beside the hash that no job has, as is known without a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absent {
    /// No job of the queue has children.
    pub flows: bool,
    /// No job of the queue has logs.
    pub logs: bool,
    /// No job of any queue has, so that none has a parent that waits for it.
    pub parents: bool,
    /// No job is locked by a worker: its lock expires where it is not renewed (moveToActive, extendLock, BullMQ 6.7), and nothing
    /// of the database does.
    pub locks: bool,
}

/// What a removal did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Bytes that it freed, as MEMORY USAGE says.
    Removed {
        bytes: u64,
    },
    Kept(Kept),
}

/// What a removal needs to know of the job, from one look at each of its keys.
#[derive(Debug)]
pub struct Doomed {
    /// Its keys that exist, the hash first.
    keys: Vec<Vec<u8>>,
    dedup: Option<Vec<u8>>,
    parent: Option<Parent>,
}

/// Jobs whose own keys and ids go together: two commands for many of them.
#[derive(Debug, Default)]
pub struct Batch {
    keys: Vec<Vec<u8>>,
    ids: Vec<Vec<u8>>,
    /// Jobs of the batch whose going has changed other keys already.
    tied: usize,
}

impl Doomed {
    /// Looks at a job without touching it. `Err` inside says why it must stay.
    pub fn look(
        store: &impl Store,
        queue: &QueueName,
        keys: &QueueKeys,
        id: &[u8],
        absent: Absent,
    ) -> std::result::Result<Self, Kept> {
        let hash = queue.key(id);
        let fields = if absent.parents {
            store.hmget(&hash, [Known::Deid]).map(|[dedup]| [dedup, None])
        } else {
            store.hmget(&hash, [Known::Deid, Known::ParentKey])
        };
        let mut own = Vec::with_capacity(1);
        let [dedup, parent_key] = match fields {
            Some(fields) => {
                own.push(hash.clone());
                fields
            }
            None if store.kind(&hash) != Kind::None => return Err(Kept::WrongType),
            None => [const { None }; 2],
        };
        if id.starts_with(b"repeat:")
            && let Some(scheduler) = store.hget(&hash, Known::Rjk.into())
            && let Some(next) = store.zscore(&keys.repeat, &scheduler)
            && [b"repeat:", scheduler.as_slice(), b":", super::number::json(next).as_bytes()].concat() == id
        {
            return Err(Kept::Scheduler);
        }
        let parent = parent_key.filter(|key| !key.is_empty());
        let parent = parent.map(|key| {
            let link = store.hget(&hash, Known::Parent.into());
            Parent::from_fields(key, &link.unwrap_or_default())
        });
        let (length, mut sub) = (hash.len(), hash);
        let mut exists = |suffix: &str| {
            sub.truncate(length);
            sub.extend_from_slice(suffix.as_bytes());
            store.exists(&sub).then(|| sub.clone())
        };
        if !absent.locks && exists(":lock").is_some() {
            return Err(Kept::Locked);
        }
        let may_be = |suffix: &&str| match *suffix {
            LOGS_KEY => !absent.logs,
            of_flow => !(absent.flows && FLOW_KEYS.contains(&of_flow)),
        };
        for suffix in SUB_KEYS.into_iter().filter(may_be) {
            if let Some(key) = exists(suffix) {
                if suffix == ":dependencies" {
                    return Err(Kept::Children);
                }
                own.push(key);
            }
        }
        Ok(Self { keys: own, dedup, parent })
    }

    /// The parent, where it lies in another queue.
    pub fn foreign_parent(&self, queue: &QueueName) -> Option<&Parent> {
        self.parent.as_ref().filter(|parent| parent.base != queue.key(""))
    }

    /// Bytes of its keys, as MEMORY USAGE says.
    pub fn bytes(&self, store: &impl Store) -> Result<u64> {
        let mut bytes = 0;
        for key in &self.keys {
            bytes += store.memory(key)?;
        }
        Ok(bytes)
    }

    /// Lets its parent go and its dedup keys with it; its own keys and its id wait in the batch.
    pub fn detach(
        self,
        store: &mut impl Store,
        queue: &QueueName,
        id: Vec<u8>,
        now_ms: u64,
        batch: &mut Batch,
    ) -> Result<()> {
        batch.tied += usize::from(self.parent.is_some() || self.dedup.is_some());
        if let Some(parent) = &self.parent
            && store.kind(&parent.key) == Kind::Hash
            && parent.check(store).is_ok()
            && store.srem(&parent.dependencies(), &queue.key(&id))?
        {
            parent.release_if_free(store, now_ms as f64)?;
        }
        if let Some(rule) = &self.dedup {
            let owner = queue.key([b"de:", rule.as_slice()].concat());
            if store.kind(&owner) == Kind::String && store.get(&owner)?.as_deref() == Some(&id) {
                store.del(&[&owner, &queue.key([b"dn:", rule.as_slice()].concat())])?;
            }
        }
        batch.keys.extend(self.keys);
        batch.ids.push(id);
        Ok(())
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Writes what waits: ids out of their sorted set, keys deleted. To be called before the slice ends and before any
    /// error leaves it. `first` is the rank of the first id where they stood side by side when they were read: nothing
    /// has been written since, unless a job was tied to other keys, so that they can go by their places.
    pub fn flush_set(&mut self, store: &mut impl Store, set: &[u8], first: Option<u64>) -> Result<()> {
        match first.filter(|_| self.tied == 0) {
            _ if self.ids.is_empty() => {}
            Some(first) => store.zrem_range(set, first, self.ids.len() as u64)?,
            None => {
                let ids: Vec<&[u8]> = self.ids.iter().map(Vec::as_slice).collect();
                store.zrem(set, &ids)?;
            }
        }
        self.flush_keys(store)
    }

    /// As [`Batch::flush_set`] for a list, from its right end.
    pub fn flush_list(&mut self, store: &mut impl Store, list: &[u8]) -> Result<()> {
        for id in &self.ids {
            store.lrem(list, -1, id)?;
        }
        self.flush_keys(store)
    }

    fn flush_keys(&mut self, store: &mut impl Store) -> Result<()> {
        self.ids.clear();
        self.tied = 0;
        if !self.keys.is_empty() {
            let keys: Vec<&[u8]> = self.keys.iter().map(Vec::as_slice).collect();
            store.unlink(&keys)?;
            self.keys.clear();
        }
        Ok(())
    }
}

/// Removes what belongs to one job; the caller takes the id out of its list or set in the same slice.
pub fn remove_job(
    store: &mut impl Store,
    queue: &QueueName,
    keys: &QueueKeys,
    id: &[u8],
    now_ms: u64,
) -> Result<Removal> {
    let doomed = match Doomed::look(store, queue, keys, id, Absent::default()) {
        Ok(doomed) => doomed,
        Err(kept) => return Ok(Removal::Kept(kept)),
    };
    let bytes = doomed.bytes(store)?;
    let mut batch = Batch::default();
    doomed.detach(store, queue, id.to_vec(), now_ms, &mut batch)?;
    batch.flush_keys(store)?;
    Ok(Removal::Removed { bytes })
}

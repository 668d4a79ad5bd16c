//! Removing a finished job whole: its six keys, its dedup keys, its place in its parent.
//!
//! As removeJob of cleanJobsInSet (BullMQ 6.7), with these differences: an unfinished parent is never removed with its
//! last child but let go, with its priority, delay and event; a parent id may hold colons.

use super::dedup::delete_job;
use super::error::Result;
use super::fields::Known;
use super::job::QueueKeys;
use super::keys::{QueueName, sub_key};
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
}

/// What a removal did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    Removed { bytes: u64 },
    Kept(Kept),
}

/// Removes what belongs to a finished job; the caller takes the id out of its set in the same slice.
pub fn remove_finished(
    store: &mut impl Store,
    queue: &QueueName,
    keys: &QueueKeys,
    id: &[u8],
    now_ms: u64,
) -> Result<Removal> {
    let hash = queue.key(id);
    if let Some(kept) = keeps(store, keys, id, &hash) {
        return Ok(Removal::Kept(kept));
    }
    let bytes = store.memory(&hash)? + store.memory(&sub_key(&hash, ":logs"))?;
    if let Some(parent) = Parent::of_child(store, &hash)
        && store.kind(&parent.key) == Kind::Hash
        && parent.check(store).is_ok()
        && store.srem(&parent.dependencies(), &hash)?
    {
        parent.release_if_free(store, now_ms as f64)?;
    }
    if let Some(rule) = store.hget(&hash, Known::Deid.into()) {
        let owner = queue.key([b"de:", rule.as_slice()].concat());
        if store.kind(&owner) == Kind::String && store.get(&owner)?.as_deref() == Some(id) {
            store.del(&[&owner, &queue.key([b"dn:", rule.as_slice()].concat())])?;
        }
    }
    delete_job(store, &hash)?;
    Ok(Removal::Removed { bytes })
}

fn keeps(store: &impl Store, keys: &QueueKeys, id: &[u8], hash: &[u8]) -> Option<Kept> {
    if !matches!(store.kind(hash), Kind::None | Kind::Hash) {
        return Some(Kept::WrongType);
    }
    if store.kind(&sub_key(hash, ":lock")) != Kind::None {
        return Some(Kept::Locked);
    }
    if store.len(&sub_key(hash, ":dependencies")) > 0 {
        return Some(Kept::Children);
    }
    let scheduler = store.hget(hash, Known::Rjk.into())?;
    let next = store.zscore(&keys.repeat, &scheduler)?;
    let pending = [b"repeat:", scheduler.as_slice(), b":", super::number::json(next).as_bytes()].concat();
    (pending == id).then_some(Kept::Scheduler)
}

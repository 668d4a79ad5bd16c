//! Counts of a queue, each read in O(1).

use super::error::Result;
use super::fields::Known;
use super::job::QueueKeys;
use super::keys::QueueName;
use super::store::Store;

/// Jobs by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub waiting: u64,
    pub active: u64,
    pub delayed: u64,
    pub prioritized: u64,
    /// Jobs in the `paused` list that BullMQ 4 and 5 fill; 6 leaves them in `wait`.
    pub paused: u64,
    pub waiting_children: u64,
    pub completed: u64,
    pub failed: u64,
    pub is_paused: bool,
}

impl Counts {
    pub fn read(store: &impl Store, keys: &QueueKeys) -> Self {
        Self {
            waiting: store.len(&keys.wait),
            active: store.len(&keys.active),
            delayed: store.len(&keys.delayed),
            prioritized: store.len(&keys.prioritized),
            paused: store.len(&keys.paused),
            waiting_children: store.len(&keys.waiting_children),
            completed: store.len(&keys.completed),
            failed: store.len(&keys.failed),
            is_paused: store.hget(&keys.meta, Known::Paused.into()).is_some(),
        }
    }
}

/// Age of the job that leaves `wait` next, milliseconds; 0 where there is none.
pub fn oldest_waiting_ms(store: &impl Store, queue: &QueueName, keys: &QueueKeys, now_ms: u64) -> Result<u64> {
    age(store, queue, &keys.wait, Known::Timestamp, now_ms)
}

/// Run time of the job that has been active longest, milliseconds; 0 where there is none.
pub fn oldest_active_ms(store: &impl Store, queue: &QueueName, keys: &QueueKeys, now_ms: u64) -> Result<u64> {
    age(store, queue, &keys.active, Known::ProcessedOn, now_ms)
}

fn age(store: &impl Store, queue: &QueueName, list: &[u8], field: Known, now_ms: u64) -> Result<u64> {
    if store.kind(list) != super::store::Kind::List {
        return Ok(0);
    }
    let Some(id) = store.lindex(list, -1)? else { return Ok(0) };
    let since = store.hget(&queue.key(&id), field.into()).unwrap_or_default();
    let since = std::str::from_utf8(&since).ok().and_then(|text| text.parse::<f64>().ok());
    Ok(since.map_or(0, |since| (now_ms as f64 - since).max(0.0) as u64))
}

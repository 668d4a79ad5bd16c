//! Counts and ages of a queue, read without walking over its jobs.

use super::due::stored_delay_ms;
use super::error::Result;
use super::fields::Known;
use super::job::QueueKeys;
use super::keys::{QueueName, sub_key};
use super::store::{Kind, Store};

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

    /// Each number with the suffix of its key.
    pub fn by_suffix(&self) -> [(&'static str, u64); 8] {
        [
            ("wait", self.waiting),
            ("active", self.active),
            ("delayed", self.delayed),
            ("prioritized", self.prioritized),
            ("paused", self.paused),
            ("waiting-children", self.waiting_children),
            ("completed", self.completed),
            ("failed", self.failed),
        ]
    }
}

/// The longest running jobs whose locks are looked at.
const LOOKED_AT: i64 = 10;
/// A prioritized job's score is its priority times this, plus a counter (getPriorityScore).
const PRIORITY_STEP: f64 = 4_294_967_296.0;

/// How long jobs have been where they are. Each is read in O(log n) at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    pub oldest_waiting_ms: u64,
    pub oldest_active_ms: u64,
    /// Of the ten longest running jobs those whose lock has run out: their worker has gone silent.
    pub stalled: u64,
}

impl Ages {
    pub fn read(store: &impl Store, queue: &QueueName, keys: &QueueKeys, now_ms: u64) -> Result<Self> {
        let waiting = waiting_since(store, queue, keys)?;
        Self::with_waiting(store, queue, &keys.active, waiting, now_ms)
    }

    /// As [`Ages::read`] where it is known since when the oldest job waits; reads only of what runs.
    pub fn with_waiting(
        store: &impl Store,
        queue: &QueueName,
        active: &[u8],
        waiting_since: Option<f64>,
        now_ms: u64,
    ) -> Result<Self> {
        let running = match store.kind(active) {
            Kind::List => store.lrange(active, -LOOKED_AT, -1)?,
            _ => Vec::new(),
        };
        let since = running.last().and_then(|id| number(store.hget(&queue.key(id), Known::ProcessedOn.into())?));
        let stalled = running.iter().filter(|id| store.kind(&sub_key(&queue.key(id), ":lock")) == Kind::None).count();
        Ok(Self {
            oldest_waiting_ms: waited_ms(waiting_since, now_ms),
            oldest_active_ms: since.map_or(0, |since| passed(since, now_ms)),
            stalled: stalled as u64,
        })
    }
}

/// Since when the job has been due that leaves `wait` (or `paused`) next, or the next one of the highest or the lowest
/// priority, whichever waits longest; Unix milliseconds, which may lie ahead. None where none waits.
pub fn waiting_since(store: &impl Store, queue: &QueueName, keys: &QueueKeys) -> Result<Option<f64>> {
    let mut oldest: Option<f64> = None;
    let mut see = |id: &[u8]| {
        if let Some(due) = due(store, &queue.key(id)) {
            oldest = Some(oldest.map_or(due, |oldest| oldest.min(due)));
        }
    };
    for list in [&keys.wait, &keys.paused] {
        if store.kind(list) == Kind::List
            && let Some(id) = store.lindex(list, -1)?
        {
            see(&id);
        }
    }
    if let Some(last) = store.zmax_score(&keys.prioritized, f64::NEG_INFINITY, f64::INFINITY) {
        let lowest = (last / PRIORITY_STEP).floor() * PRIORITY_STEP;
        let before_lowest = store.zcount(&keys.prioritized, f64::NEG_INFINITY, lowest - 1.0)?;
        for first in [0, before_lowest] {
            store.zrange(&keys.prioritized, first, 1)?.iter().for_each(|id| see(id));
        }
    }
    Ok(oldest)
}

/// For how long a job waits that has been due since then, milliseconds; 0 where none waits.
pub fn waited_ms(since: Option<f64>, now_ms: u64) -> u64 {
    since.map_or(0, |since| passed(since, now_ms))
}

/// A job is due from its timestamp on, or after its own delay.
fn due(store: &impl Store, job: &[u8]) -> Option<f64> {
    let added = number(store.hget(job, Known::Timestamp.into())?)?;
    let delay = store.hget(job, Known::Opts.into()).map_or(0.0, |opts| stored_delay_ms(&opts));
    Some(added + delay)
}

fn number(text: Vec<u8>) -> Option<f64> {
    std::str::from_utf8(&text).ok()?.parse().ok()
}

fn passed(since: f64, now_ms: u64) -> u64 {
    (now_ms as f64 - since).max(0.0) as u64
}

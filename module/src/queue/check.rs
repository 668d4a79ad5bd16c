//! Checks of the keyspace before the first write: types of keys, the counter, the caps in `meta`.

use super::error::{QueueError, Result};
use super::fields::{Known, Word};
use super::job::QueueKeys;
use super::store::{Kind, Store};
use crate::text::short;

/// Refuses a key that holds another type than `expected`; a missing key is fine.
pub fn expect(store: &impl Store, key: &[u8], expected: Kind) -> Result<bool> {
    match store.kind(key) {
        Kind::None => Ok(false),
        found if found == expected => Ok(true),
        found => Err(QueueError::WrongType { key: short(key, 128), found: found.name(), expected: expected.name() }),
    }
}

/// Refuses other types than BullMQ's under these keys of a queue, given by their places in [`QueueKeys::all`].
pub fn expect_types(store: &impl Store, keys: &QueueKeys, places: impl IntoIterator<Item = usize>) -> Result<()> {
    let all = keys.all();
    for place in places {
        expect(store, all[place], QueueKeys::KINDS[place])?;
    }
    Ok(())
}

/// What `meta` says about writes, checked.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// `opts.maxLenEvents`; None where it is not set yet.
    pub max_events: Option<u64>,
    /// A new job must not wake a worker: paused, or as many active as the global concurrency allows.
    pub hold: bool,
}

/// A hash that only a queue's `meta` can be: every BullMQ client and every add writes one of these fields.
pub fn is_meta(store: &impl Store, key: &[u8]) -> bool {
    store.hget(key, Known::MaxLenEvents.into()).is_some()
        || store.hget(key, Word::from("version")).is_some_and(|version| version.starts_with(b"bullmq"))
}

/// BullMQ's cap where nobody set one (getOrSetMaxEvents).
pub const DEFAULT_MAX_EVENTS: u64 = 10_000;

impl Meta {
    pub fn read(store: &impl Store, keys: &QueueKeys) -> Result<Self> {
        Self::read_at(store, &keys.meta, &keys.active)
    }

    /// isQueuePausedOrMaxed and getOrSetMaxEvents, without the write.
    pub fn read_at(store: &impl Store, meta: &[u8], active: &[u8]) -> Result<Self> {
        if !expect(store, meta, Kind::Hash)? {
            return Ok(Self { max_events: None, hold: false });
        }
        let max_events = match store.hget(meta, Known::MaxLenEvents.into()) {
            None => None,
            Some(text) => Some(whole(&text).ok_or_else(|| {
                QueueError::bad(format!("opts.maxLenEvents of '{}' is not a whole number", short(meta, 128)))
            })?),
        };
        let hold = if store.hget(meta, Known::Paused.into()).is_some() {
            true
        } else if let Some(limit) = store.hget(meta, Known::Concurrency.into()) {
            expect(store, active, Kind::List)?;
            let limit = std::str::from_utf8(&limit)
                .ok()
                .and_then(|text| text.trim().parse::<f64>().ok())
                .ok_or_else(|| QueueError::bad(format!("concurrency of '{}' is not a number", short(meta, 128))))?;
            store.len(active) as f64 >= limit
        } else {
            false
        };
        Ok(Self { max_events, hold })
    }

    pub fn cap(&self) -> u64 {
        self.max_events.unwrap_or(DEFAULT_MAX_EVENTS)
    }
}

/// The value a counter such as `id` has now, with room for one more; 0 where it does not exist.
pub fn counter(store: &impl Store, key: &[u8]) -> Result<i64> {
    if !expect(store, key, Kind::String)? {
        return Ok(0);
    }
    let text = store.get(key)?.unwrap_or_default();
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.parse::<i64>().ok().filter(|value| *value < i64::MAX && value.to_string() == text))
        .ok_or_else(|| QueueError::bad(format!("counter '{}' is not a whole number that can grow", short(key, 128))))
}

fn whole(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fake::{Fake, Value};

    #[test]
    fn a_counter_is_what_incr_takes() {
        for (text, expected) in [("0", Some(0)), ("41", Some(41)), ("-3", Some(-3))] {
            let mut store = Fake::default();
            store.0.insert(b"id".to_vec(), Value::Text(text.into(), None));
            assert_eq!(counter(&store, b"id").ok(), expected, "{text}");
        }
        for text in ["", "+5", "007", "-0", " 1", "1 ", "1.0", "x", "9223372036854775807", "9223372036854775808"] {
            let mut store = Fake::default();
            store.0.insert(b"id".to_vec(), Value::Text(text.into(), None));
            assert!(counter(&store, b"id").is_err(), "{text:?}");
        }
        assert_eq!(counter(&Fake::default(), b"id").ok(), Some(0));
    }
}

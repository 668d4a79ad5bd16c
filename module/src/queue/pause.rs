//! Pausing a queue and letting it go on: what pause-7.lua of BullMQ 6.7 leaves behind.
//!
//! The waiting jobs of a paused queue stay in `wait`, and `meta` tells workers. BullMQ 4 and 5 move them to `paused` instead;
//! a queue that they paused gets its jobs back when it goes on, in pieces of a bounded length, the last of which lifts the
//! pause.

use super::add::delayed_marker;
use super::check::expect_types;
use super::error::Result;
use super::fields::{Known, Word};
use super::job::QueueKeys;
use super::store::{Kind, Store};

/// Jobs moved back from `paused` at a time.
const PIECE: i64 = 1000;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It was so already; nothing was written.
    Unneeded,
    /// A piece was done: call again.
    More,
}

/// Workers take no more jobs. Errors: a key has another type.
pub fn pause(store: &mut impl Store, keys: &QueueKeys) -> Result<Outcome> {
    check(store, keys)?;
    if store.hget(&keys.meta, Known::Paused.into()).is_some() {
        return Ok(Outcome::Unneeded);
    }
    store.hset(&keys.meta, &[(Known::Paused.into(), Known::One.into())])?;
    store.del(&[&keys.marker])?;
    tell(store, keys, Known::Paused)
}

/// Workers go on. Errors: a key has another type.
pub fn resume(store: &mut impl Store, keys: &QueueKeys) -> Result<Outcome> {
    check(store, keys)?;
    if store.hget(&keys.meta, Known::Paused.into()).is_none() {
        return Ok(Outcome::Unneeded);
    }
    let (old, waits) = (store.len(&keys.paused), store.kind(&keys.wait) != Kind::None);
    if old > 0 && waits {
        let jobs = store.lrange(&keys.paused, 0, PIECE - 1)?;
        store.push_right(&keys.wait, &jobs)?;
        store.drop_left(&keys.paused, jobs.len() as u64)?;
        if old > jobs.len() as u64 {
            return Ok(Outcome::More);
        }
    }
    store.hdel(&keys.meta, Known::Paused.into())?;
    if old > 0 && !waits {
        store.rename(&keys.paused, &keys.wait)?;
    }
    if store.len(&keys.wait) + store.len(&keys.prioritized) > 0 {
        store.zadd(&keys.marker, 0.0, b"0")?;
    } else {
        delayed_marker(store, &keys.delayed, &keys.marker)?;
    }
    tell(store, keys, Known::Resumed)
}

fn check(store: &impl Store, keys: &QueueKeys) -> Result<()> {
    use QueueKeys as Q;
    let touched = [Q::META, Q::WAIT, Q::PAUSED, Q::PRIORITIZED, Q::DELAYED, Q::MARKER, Q::EVENTS];
    expect_types(store, keys, touched)
}

fn tell(store: &mut impl Store, keys: &QueueKeys, event: Known) -> Result<Outcome> {
    store.xadd(&keys.events, None, &[(Known::Event.into(), Word::from(event))])?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::error::QueueError;
    use crate::queue::fake::Fake;
    use crate::queue::keys::QueueName;
    use crate::queue::store::End;

    fn keys() -> QueueKeys {
        QueueKeys::of(&QueueName::parse(b"bull:q").unwrap())
    }

    fn filled(list: &[u8], count: usize) -> Fake {
        let mut store = Fake::default();
        for id in 0..count {
            store.push(list, End::Right, format!("{list:?}{id}").as_bytes()).unwrap();
        }
        store
    }

    #[test]
    fn a_second_pause_or_resume_writes_nothing() {
        let (mut store, keys) = (filled(b"bull:q:wait", 2), keys());
        store.zadd(&keys.marker, 0.0, b"0").unwrap();
        let before = store.clone();
        assert_eq!(resume(&mut store, &keys).unwrap(), Outcome::Unneeded);
        assert_eq!(store, before);
        assert_eq!(pause(&mut store, &keys).unwrap(), Outcome::Done);
        assert_eq!(store.kind(&keys.marker), Kind::None);
        assert_eq!(store.len(&keys.wait), 2);
        let paused = store.clone();
        assert_eq!(pause(&mut store, &keys).unwrap(), Outcome::Unneeded);
        assert_eq!(store, paused);
        assert_eq!(resume(&mut store, &keys).unwrap(), Outcome::Done);
        assert_eq!(store.zscore(&keys.marker, b"0"), Some(0.0));
        assert_eq!(store.events(&keys.events), ["paused", "resumed"]);
    }

    #[test]
    fn jobs_that_an_older_client_put_aside_come_back_in_pieces_and_in_order() {
        let (mut store, keys) = (filled(b"bull:q:paused", 2500), keys());
        let aside = store.lrange(&keys.paused, 0, -1).unwrap();
        store.hset(&keys.meta, &[(Known::Paused.into(), Known::One.into())]).unwrap();
        let mut together = store.clone();
        assert_eq!(resume(&mut together, &keys).unwrap(), Outcome::Done, "renamed in one step");
        assert_eq!(together.lrange(&keys.wait, 0, -1).unwrap(), aside);

        store.push(&keys.wait, End::Left, b"newer").unwrap();
        for outcome in [Outcome::More, Outcome::More, Outcome::Done] {
            assert_eq!(store.hget(&keys.meta, Known::Paused.into()).as_deref(), Some(&b"1"[..]));
            assert_eq!(resume(&mut store, &keys).unwrap(), outcome);
        }
        let expected: Vec<_> = std::iter::once(b"newer".to_vec()).chain(aside).collect();
        assert_eq!(store.lrange(&keys.wait, 0, -1).unwrap(), expected);
        assert_eq!(store.kind(&keys.paused), Kind::None);
        assert_eq!(store.events(&keys.events), ["resumed"]);
    }

    #[test]
    fn a_key_of_another_type_is_an_error_and_nothing_is_written() {
        let keys = keys();
        for key in [&keys.meta, &keys.marker, &keys.events, &keys.paused] {
            let mut store = Fake::default();
            store.sadd(key, b"x").unwrap();
            let before = store.clone();
            assert!(matches!(pause(&mut store, &keys), Err(QueueError::WrongType { .. })));
            assert!(matches!(resume(&mut store, &keys), Err(QueueError::WrongType { .. })));
            assert_eq!(store, before);
        }
    }
}

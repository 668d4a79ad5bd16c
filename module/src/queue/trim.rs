//! Trimming finished jobs by age, in slices that each leave a valid state.

use super::check::expect;
use super::error::Result;
use super::fields::{Known, Word};
use super::job::QueueKeys;
use super::keys::QueueName;
use super::remove::{Removal, remove_finished};
use super::store::{Kind, Store};

/// Ids read from a set at a time: few enough that reading them costs far less than a slice.
const BATCH: u64 = 64;

/// What goes: jobs that finished at or before the time, milliseconds. None leaves the set alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Criteria {
    pub completed_before: Option<u64>,
    pub failed_before: Option<u64>,
    /// Removals at most; None for no limit.
    pub limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub examined: u64,
    pub completed: u64,
    pub failed: u64,
    pub bytes: u64,
    /// Jobs that fit the criteria and stay: locked, with unfinished children, or a scheduler's next iteration.
    pub kept: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Completed,
    Failed,
    Done,
}

/// A trim under way. It holds no job ids between slices, so jobs may come and go.
#[derive(Debug)]
pub struct Trim {
    queue: QueueName,
    keys: QueueKeys,
    criteria: Criteria,
    stage: Stage,
    /// Jobs of this stage that stay, which the next read passes over.
    skipped: u64,
    pub tally: Tally,
}

impl Trim {
    /// Errors: a key of the queue holds a wrong type.
    pub fn new(store: &impl Store, queue: QueueName, criteria: Criteria) -> Result<Self> {
        let keys = QueueKeys::of(&queue);
        for (key, kind) in [
            (&keys.completed, Kind::ZSet),
            (&keys.failed, Kind::ZSet),
            (&keys.events, Kind::Stream),
            (&keys.repeat, Kind::ZSet),
            (&keys.meta, Kind::Hash),
        ] {
            expect(store, key, kind)?;
        }
        Ok(Self { queue, keys, criteria, stage: Stage::Completed, skipped: 0, tally: Tally::default() })
    }

    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn removed(&self) -> u64 {
        self.tally.completed + self.tally.failed
    }

    /// Works until `expired` says the slice is over, asked after each job. True when nothing is left to do.
    pub fn slice(&mut self, store: &mut impl Store, now_ms: u64, mut expired: impl FnMut() -> bool) -> Result<bool> {
        while let Some((set, before)) = self.current() {
            let left = self.criteria.limit.map_or(BATCH, |limit| BATCH.min(limit.saturating_sub(self.removed())));
            let ids = match before {
                // The type may have changed since the last slice.
                Some(before) if left > 0 && expect(store, &set, Kind::ZSet)? => {
                    store.zrange_by_score(&set, f64::NEG_INFINITY, before as f64, self.skipped, left)?
                }
                _ => Vec::new(),
            };
            if ids.is_empty() {
                self.advance();
                continue;
            }
            for id in ids {
                self.tally.examined += 1;
                match remove_finished(store, &self.queue, &self.keys, &id, now_ms)? {
                    Removal::Removed { bytes } => {
                        store.zrem(&set, &[&id])?;
                        self.tally.bytes += bytes;
                        match self.stage {
                            Stage::Completed => self.tally.completed += 1,
                            _ => self.tally.failed += 1,
                        }
                    }
                    Removal::Kept(_) => {
                        self.skipped += 1;
                        self.tally.kept += 1;
                    }
                }
                if expired() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Jobs that still fit the criteria and could go.
    pub fn remaining(&self, store: &impl Store) -> Result<u64> {
        let mut left = 0;
        for (key, before) in
            [(&self.keys.completed, self.criteria.completed_before), (&self.keys.failed, self.criteria.failed_before)]
        {
            if let Some(before) = before
                && store.kind(key) == Kind::ZSet
            {
                left += store.zcount(key, f64::NEG_INFINITY, before as f64)?;
            }
        }
        Ok(left.saturating_sub(self.tally.kept))
    }

    /// The `cleaned` event that BullMQ's clean emits, once for the whole trim.
    pub fn announce(&self, store: &mut impl Store) -> Result<()> {
        if self.removed() > 0 && expect(store, &self.keys.events, Kind::Stream).is_ok() {
            let count = self.removed().to_string();
            store.xadd(
                &self.keys.events,
                None,
                &[(Known::Event.into(), Known::Cleaned.into()), (Known::Count.into(), Word::Bytes(count.as_bytes()))],
            )?;
        }
        Ok(())
    }

    /// The set of this stage, and the time before which its jobs go; None leaves it alone.
    fn current(&self) -> Option<(Vec<u8>, Option<u64>)> {
        match self.stage {
            Stage::Completed => Some((self.keys.completed.clone(), self.criteria.completed_before)),
            Stage::Failed => Some((self.keys.failed.clone(), self.criteria.failed_before)),
            Stage::Done => None,
        }
    }

    fn advance(&mut self) {
        self.skipped = 0;
        self.stage = match self.stage {
            Stage::Completed => Stage::Failed,
            Stage::Failed | Stage::Done => Stage::Done,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fake::{Fake, Value};

    const NOW: u64 = 1_000_000;

    fn queue() -> QueueName {
        QueueName::parse(b"bull:q").unwrap()
    }

    /// `count` completed jobs, one a second, the first at 1 s.
    fn finished(count: u64) -> Fake {
        let mut store = Fake::default();
        for job in 1..=count {
            let id = job.to_string();
            store.hset(&queue().key(&id), &[(Known::Name.into(), "n".into())]).unwrap();
            store.zadd(b"bull:q:completed", (job * 1000) as f64, id.as_bytes()).unwrap();
        }
        store
    }

    fn trim(store: &mut Fake, criteria: Criteria) -> Trim {
        let mut trim = Trim::new(store, queue(), criteria).unwrap();
        while !trim.slice(store, NOW, || true).unwrap() {}
        trim
    }

    #[test]
    fn only_what_is_old_enough_goes_and_nothing_is_left_of_it() {
        let mut store = finished(10);
        store.hset(b"bull:q:3:processed", &[("a".into(), "b".into())]).unwrap();
        store.push(b"bull:q:3:logs", crate::queue::store::End::Right, b"line").unwrap();
        let trim = trim(&mut store, Criteria { completed_before: Some(7000), ..Criteria::default() });
        assert_eq!((trim.tally.completed, trim.tally.failed), (7, 0));
        assert_eq!(store.len(b"bull:q:completed"), 3);
        // Three hashes and their sorted set.
        assert_eq!(store.0.len(), 4);
        assert_eq!(trim.remaining(&store).unwrap(), 0);
    }

    #[test]
    fn what_must_stay_is_passed_over_and_does_not_stop_the_trim() {
        let mut store = finished(5);
        store.set(b"bull:q:1:lock", b"t", crate::queue::store::Expiry::Clear).unwrap();
        store.sadd(b"bull:q:2:dependencies", b"bull:q:9").unwrap();
        store.hset(b"bull:q:repeat:s:5", &[(Known::Rjk.into(), "s".into())]).unwrap();
        store.zadd(b"bull:q:completed", 1.0, b"repeat:s:5").unwrap();
        store.zadd(b"bull:q:repeat", 5.0, b"s").unwrap();
        let trim = trim(&mut store, Criteria { completed_before: Some(NOW), ..Criteria::default() });
        assert_eq!((trim.tally.completed, trim.tally.kept), (3, 3));
        assert_eq!(store.len(b"bull:q:completed"), 3);
    }

    #[test]
    fn the_last_child_lets_its_parent_go_with_its_priority() {
        let mut store = Fake::default();
        let parent = b"bull:p:a:b:c";
        store.hset(parent, &[(Known::Priority.into(), "5".into())]).unwrap();
        store.zadd(b"bull:p:waiting-children", 1.0, b"a:b:c").unwrap();
        store.sadd(b"bull:p:a:b:c:dependencies", b"bull:q:1").unwrap();
        let link = br#"{"id":"a:b:c","queueKey":"bull:p"}"#;
        store
            .hset(
                b"bull:q:1",
                &[(Known::ParentKey.into(), Word::Bytes(parent)), (Known::Parent.into(), Word::Bytes(link))],
            )
            .unwrap();
        store.zadd(b"bull:q:failed", 1.0, b"1").unwrap();
        trim(&mut store, Criteria { failed_before: Some(NOW), ..Criteria::default() });
        assert_eq!(store.len(b"bull:p:waiting-children"), 0);
        assert_eq!(store.zscore(b"bull:p:prioritized", b"a:b:c"), Some(5.0 * 4_294_967_296.0 + 1.0));
        assert_eq!(store.events(b"bull:p:events"), ["waiting"]);
    }

    #[test]
    fn dedup_keys_go_only_with_their_owner() {
        let mut store = finished(2);
        for (job, dedup) in [("1", "x"), ("2", "y")] {
            store.hset(&queue().key(job), &[(Known::Deid.into(), dedup.into())]).unwrap();
        }
        store.set(b"bull:q:de:x", b"1", crate::queue::store::Expiry::Clear).unwrap();
        store.set(b"bull:q:de:y", b"77", crate::queue::store::Expiry::Clear).unwrap();
        store.hset(b"bull:q:dn:x", &[("name".into(), "n".into())]).unwrap();
        trim(&mut store, Criteria { completed_before: Some(NOW), ..Criteria::default() });
        assert_eq!(store.0.keys().map(Vec::as_slice).collect::<Vec<_>>(), [b"bull:q:de:y"]);
        assert!(matches!(store.0[&b"bull:q:de:y"[..]], Value::Text(..)));
    }

    #[test]
    fn a_limit_and_a_wrong_type_are_respected() {
        let mut store = finished(10);
        let trim = trim(&mut store, Criteria { completed_before: Some(NOW), limit: Some(4), ..Criteria::default() });
        assert_eq!((trim.tally.completed, trim.remaining(&store).unwrap()), (4, 6));
        store.del(&[b"bull:q:completed"]).unwrap();
        store.set(b"bull:q:completed", b"x", crate::queue::store::Expiry::Clear).unwrap();
        assert!(Trim::new(&store, queue(), Criteria::default()).is_err());
    }
}

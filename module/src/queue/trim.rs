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

//! Trimming a queue by criteria, in slices that each leave a valid state.
//!
//! Finished jobs that go are always the oldest ones of their set, whether age or number decides. The machine holds no
//! list of jobs between slices, only the place behind the last job that had to stay, so jobs may come and go, also by
//! other hands. A dry run walks the same way and writes nothing.
//!
//! Never removed: what [`Kept`](super::remove::Kept) names, an active or a delayed job.

mod criteria;
mod freed;
mod walk;

#[cfg(test)]
mod tests;

use super::check::{expect, expect_types};
use super::due::stored_delay_ms;
use super::error::Result;
use super::fields::{Known, Word};
use super::job::QueueKeys;
use super::keys::QueueName;
use super::remove::{Absent, Batch, Doomed};
use super::store::{Kind, Store};
pub use criteria::{Around, Criteria, Mode, Tally, Weigh};
use freed::Freed;
use walk::{SetWalk, TailWalk};

/// Ids read at a time, and jobs removed by one command: few enough to cost far less than a slice even where each freed page
/// waits for the allocator's background thread, which takes its lock from the main thread for milliseconds. With 64 others
/// waited two to three times as long, and a job cost the same (2026-11-26, Redis 7.0.15, two cores).
const BATCH: u64 = 8;
/// Events that go at a time: their nodes are freed within a fraction of a slice.
const EVENTS_STEP: u64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Completed,
    Failed,
    Waiting,
    Paused,
    Prioritized,
    Events,
    Bytes,
    Done,
}

/// The state whose jobs are being removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Completed,
    Failed,
    Waiting,
}

/// Bytes of the tally at which the queue is small enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Unknown,
    /// Short of the mark by the error of what is known: the queue is to be asked again there, where the error is smaller.
    Near(u64),
    Mark(u64),
}

/// Whether a stage has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    More,
    Over,
}

/// A trim under way.
#[derive(Debug)]
pub struct Trim {
    queue: QueueName,
    keys: QueueKeys,
    criteria: Criteria,
    mode: Mode,
    stage: Stage,
    completed: SetWalk,
    failed: SetWalk,
    prioritized: SetWalk,
    wait: TailWalk,
    paused: TailWalk,
    freed: Freed,
    /// Bytes that a job's place takes in its list or set, by [`Of`]; None before the first job.
    places: [Option<u64>; 3],
    goal: Goal,
    /// What is not looked for in this slice.
    absent: Absent,
    tally: Tally,
}

impl Trim {
    /// Errors: a key of the queue holds a wrong type.
    pub fn new(store: &impl Store, queue: QueueName, criteria: Criteria, mode: Mode) -> Result<Self> {
        let keys = QueueKeys::of(&queue);
        use QueueKeys as Q;
        let touched = [Q::COMPLETED, Q::FAILED, Q::EVENTS, Q::REPEAT, Q::META, Q::WAIT, Q::PAUSED, Q::PRIORITIZED];
        expect_types(store, &keys, touched)?;
        Ok(Self {
            queue,
            keys,
            criteria,
            mode,
            stage: Stage::Completed,
            completed: SetWalk::default(),
            failed: SetWalk::default(),
            prioritized: SetWalk::default(),
            wait: TailWalk::default(),
            paused: TailWalk::default(),
            freed: Freed::default(),
            places: [None; 3],
            goal: Goal::Unknown,
            absent: Absent::default(),
            tally: Tally::default(),
        })
    }

    pub fn queue(&self) -> &QueueName {
        &self.queue
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    pub fn tally(&self) -> Tally {
        Tally { bytes: self.tally.bytes + self.freed.bytes(), ..self.tally }
    }

    /// Works until `around` says that the slice is over. True when nothing is left to do.
    /// Errors: a key of another type, or the server's own; what was removed before is whole.
    pub fn slice(&mut self, store: &mut impl Store, now_ms: u64, around: &mut impl Weigh) -> Result<bool> {
        self.absent = around.absent();
        while self.stage != Stage::Done {
            let step = match self.stage {
                Stage::Completed => self.finished(store, Of::Completed, now_ms, around)?,
                Stage::Failed => self.finished(store, Of::Failed, now_ms, around)?,
                Stage::Waiting | Stage::Paused => self.tail(store, now_ms, around)?,
                Stage::Prioritized => self.by_priority(store, now_ms, around)?,
                Stage::Events => self.events(store)?,
                Stage::Bytes => self.by_bytes(store, now_ms, around)?,
                Stage::Done => Step::Over,
            };
            if step == Step::Over {
                self.stage = match self.stage {
                    Stage::Completed => Stage::Failed,
                    Stage::Failed => Stage::Waiting,
                    Stage::Waiting => Stage::Paused,
                    Stage::Paused => Stage::Prioritized,
                    Stage::Prioritized => Stage::Events,
                    Stage::Events => Stage::Bytes,
                    Stage::Bytes | Stage::Done => Stage::Done,
                };
            }
            if around.expired() {
                break;
            }
        }
        Ok(self.is_done())
    }

    /// How many of a set's oldest jobs fit the criteria, those included that must stay.
    fn fitting(&self, store: &impl Store, set: &[u8], before: Option<u64>, keep: Option<u64>) -> Result<u64> {
        if before.is_none() && keep.is_none() || !expect(store, set, Kind::ZSet)? {
            return Ok(0);
        }
        let aged = before.map_or(Ok(0), |before| store.zcount(set, f64::NEG_INFINITY, before as f64))?;
        let beyond = keep.map_or(0, |keep| store.len(set).saturating_sub(keep));
        Ok(aged.max(beyond))
    }

    /// Jobs that may still be removed.
    fn allowance(&self) -> u64 {
        self.criteria.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.tally.jobs()))
    }

    fn finished(&mut self, store: &mut impl Store, of: Of, now_ms: u64, around: &mut impl Around) -> Result<Step> {
        let set = self.finished_set(of).to_vec();
        let (before, keep) = match of {
            Of::Failed => (self.criteria.failed_before, self.criteria.keep_failed),
            _ => (self.criteria.completed_before, self.criteria.keep_completed),
        };
        let fitting = self.fitting(store, &set, before, keep)?;
        self.finished_batch(store, of, &set, fitting, now_ms, around)
    }

    fn finished_set(&self, of: Of) -> &[u8] {
        if of == Of::Failed { &self.keys.failed } else { &self.keys.completed }
    }

    fn finished_walk(&mut self, of: Of) -> &mut SetWalk {
        if of == Of::Failed { &mut self.failed } else { &mut self.completed }
    }

    /// A batch of the first `end` jobs of a set of finished ones.
    fn finished_batch(
        &mut self,
        store: &mut impl Store,
        of: Of,
        set: &[u8],
        end: u64,
        now_ms: u64,
        around: &mut impl Around,
    ) -> Result<Step> {
        let mut walk = std::mem::take(self.finished_walk(of));
        let step = self.set_batch(store, of, set, &mut walk, end, now_ms, around, |_, _| true);
        *self.finished_walk(of) = walk;
        step
    }

    /// The oldest finished jobs, of whichever state, until the queue takes no more bytes than it may.
    fn by_bytes(&mut self, store: &mut impl Store, now_ms: u64, around: &mut impl Weigh) -> Result<Step> {
        let Some(most) = self.criteria.max_bytes.filter(|_| self.allowance() > 0) else { return Ok(Step::Over) };
        if !self.is_known() {
            let Some((bytes, error)) = around.queue_bytes() else { return Ok(Step::More) };
            let gone = self.tally().bytes;
            // What a dry run has counted is still there.
            let bytes = if self.mode == Mode::DryRun { bytes.saturating_sub(gone) } else { bytes };
            let excess = bytes.saturating_sub(most);
            self.goal = if self.mode == Mode::Remove && error > 0 && excess > error.saturating_mul(2) {
                Goal::Near(gone + excess - error)
            } else {
                Goal::Mark(gone + excess)
            };
        }
        if self.is_small_enough() {
            return Ok(Step::Over);
        }
        let (completed, failed) = (self.oldest(store, Of::Completed)?, self.oldest(store, Of::Failed)?);
        let (of, other) = match (completed, failed) {
            (None, None) => return Ok(Step::Over),
            (Some(one), Some(other)) if other < one => (Of::Failed, Some(one)),
            (Some(_), other) => (Of::Completed, other),
            (None, Some(_)) => (Of::Failed, None),
        };
        let set = self.finished_set(of).to_vec();
        let end = match other {
            Some(other) => store.zcount(&set, f64::NEG_INFINITY, other)?,
            None => store.len(&set),
        };
        self.finished_batch(store, of, &set, end, now_ms, around)
    }

    /// When the oldest job of a set finished, those that stay left out.
    fn oldest(&mut self, store: &impl Store, of: Of) -> Result<Option<f64>> {
        let set = self.finished_set(of).to_vec();
        if !expect(store, &set, Kind::ZSet)? {
            return Ok(None);
        }
        let at = self.finished_walk(of).place(store, &set)?;
        let first = store.zrange(&set, at, 1)?;
        Ok(first.first().and_then(|id| store.zscore(&set, id)))
    }

    fn is_small_enough(&self) -> bool {
        matches!(self.goal, Goal::Mark(goal) if self.tally().bytes >= goal)
    }

    /// Enough is known to go on by.
    fn is_known(&self) -> bool {
        match self.goal {
            Goal::Unknown => false,
            Goal::Near(goal) => self.tally().bytes < goal,
            Goal::Mark(_) => true,
        }
    }

    /// Prioritized jobs stand by priority, not by age: all of them are looked at.
    fn by_priority(&mut self, store: &mut impl Store, now_ms: u64, around: &mut impl Around) -> Result<Step> {
        let set = self.keys.prioritized.clone();
        let Some(before) = self.criteria.waiting_before.filter(|_| store.kind(&set) != Kind::None) else {
            return Ok(Step::Over);
        };
        expect(store, &set, Kind::ZSet)?;
        let all = store.len(&set);
        let queue = self.queue.clone();
        let mut walk = std::mem::take(&mut self.prioritized);
        let fits = |store: &_, id: &[u8]| turn_began(store, &queue, id).is_some_and(|since| since <= before as f64);
        let step = self.set_batch(store, Of::Waiting, &set, &mut walk, all, now_ms, around, fits);
        self.prioritized = walk;
        step
    }

    /// A batch of the first `end` members of a set that `fits` names.
    #[expect(clippy::too_many_arguments, reason = "one place for the walk of three sets")]
    fn set_batch<S: Store>(
        &mut self,
        store: &mut S,
        of: Of,
        set: &[u8],
        walk: &mut SetWalk,
        end: u64,
        now_ms: u64,
        around: &mut impl Around,
        fits: impl Fn(&S, &[u8]) -> bool,
    ) -> Result<Step> {
        let at = if end == 0 { 0 } else { walk.place(store, set)? };
        let count = BATCH.min(end.saturating_sub(at)).min(self.allowance());
        if count == 0 {
            return Ok(Step::Over);
        }
        let ids = store.zrange(set, at, count)?;
        self.weigh_place(store, of, set)?;
        let mut batch = Batch::default();
        // The rank of the batch's first job, as long as its jobs stand side by side.
        let mut first = Some(at);
        let mut result = Ok(Step::More);
        for id in ids {
            match self.take(store, of, id.clone(), now_ms, around, &mut batch, &fits) {
                Ok(true) => {}
                Ok(false) => {
                    first = first.filter(|_| batch.is_empty()).map(|rank| rank + 1);
                    walk.pass(store, set, id);
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            if self.is_small_enough() || self.goal != Goal::Unknown && !self.is_known() || around.expired() {
                break;
            }
        }
        batch.flush_set(store, set, first)?;
        result
    }

    /// A batch from the right end of a list, where the jobs that waited longest stand.
    fn tail(&mut self, store: &mut impl Store, now_ms: u64, around: &mut impl Around) -> Result<Step> {
        let wait = self.stage == Stage::Waiting;
        let list = if wait { self.keys.wait.clone() } else { self.keys.paused.clone() };
        let Some(before) = self.criteria.waiting_before.filter(|_| self.allowance() > 0) else { return Ok(Step::Over) };
        if !expect(store, &list, Kind::List)? {
            return Ok(Step::Over);
        }
        let queue = self.queue.clone();
        let fits = |store: &_, id: &[u8]| turn_began(store, &queue, id).is_some_and(|since| since <= before as f64);
        let mut walk = std::mem::take(if wait { &mut self.wait } else { &mut self.paused });
        let ids = walk.next(store, &list, BATCH.min(self.allowance()))?;
        if !ids.is_empty() {
            self.weigh_place(store, Of::Waiting, &list)?;
        }
        let mut result = Ok(if ids.is_empty() { Step::Over } else { Step::More });
        let mut batch = Batch::default();
        for id in ids {
            match self.take(store, Of::Waiting, id.clone(), now_ms, around, &mut batch, fits) {
                Ok(true) => {}
                Ok(false) => walk.pass(id),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
            if around.expired() {
                break;
            }
        }
        *(if wait { &mut self.wait } else { &mut self.paused }) = walk;
        batch.flush_list(store, &list)?;
        result
    }

    fn weigh_place(&mut self, store: &impl Store, of: Of, key: &[u8]) -> Result<()> {
        if self.places[of as usize].is_none() {
            self.places[of as usize] = Some(store.memory_estimate(key)? / store.len(key).max(1));
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "one place for every kind of walk")]
    /// One job. True where it is gone, or is about to be with the batch; false where the walk must pass it.
    fn take<S: Store>(
        &mut self,
        store: &mut S,
        of: Of,
        id: Vec<u8>,
        now_ms: u64,
        around: &mut impl Around,
        batch: &mut Batch,
        fits: impl Fn(&S, &[u8]) -> bool,
    ) -> Result<bool> {
        self.tally.examined += 1;
        if !fits(store, &id) {
            return Ok(false);
        }
        let doomed = match Doomed::look(store, &self.queue, &self.keys, &id, self.absent) {
            Ok(doomed) if doomed.foreign_parent(&self.queue).is_none_or(|parent| around.may_release(parent)) => doomed,
            _ => {
                self.tally.kept += 1;
                return Ok(false);
            }
        };
        let bytes = if self.freed.wants(self.goal != Goal::Unknown) { Some(doomed.bytes(store)?) } else { None };
        if self.mode == Mode::Remove {
            doomed.detach(store, &self.queue, id, now_ms, batch)?;
        }
        self.freed.add(bytes);
        self.tally.bytes += self.places[of as usize].unwrap_or(0);
        *match of {
            Of::Completed => &mut self.tally.completed,
            Of::Failed => &mut self.tally.failed,
            Of::Waiting => &mut self.tally.waiting,
        } += 1;
        Ok(self.mode == Mode::Remove)
    }

    fn events(&mut self, store: &mut impl Store) -> Result<Step> {
        let Some(keep) = self.criteria.events else { return Ok(Step::Over) };
        // Room for the event that tells of this trim.
        let tells = self.tally.jobs() > 0 || self.criteria.max_bytes.is_some();
        let keep = keep.saturating_sub(u64::from(tells));
        let events = &self.keys.events;
        if !expect(store, events, Kind::Stream)? {
            return Ok(Step::Over);
        }
        let length = store.len(events);
        let excess = length.saturating_sub(keep);
        if excess == 0 {
            return Ok(Step::Over);
        }
        let step = match self.mode {
            Mode::Remove => excess.min(EVENTS_STEP),
            Mode::DryRun => excess,
        };
        let bytes = store.memory_estimate(events)?;
        let gone = if self.mode == Mode::Remove { store.xtrim(events, length - step)? } else { step };
        self.tally.events += gone;
        self.tally.bytes += bytes * gone / length;
        Ok(if step == excess { Step::Over } else { Step::More })
    }

    /// Jobs that fit the criteria, could go and are still there; of waiting jobs those that were not looked at.
    pub fn remaining(&self, store: &impl Store) -> Result<u64> {
        let criteria = &self.criteria;
        let mut left = 0;
        for (set, before, keep, walk) in [
            (&self.keys.completed, criteria.completed_before, criteria.keep_completed, &self.completed),
            (&self.keys.failed, criteria.failed_before, criteria.keep_failed, &self.failed),
        ] {
            let fitting = self.fitting(store, set, before, keep)?;
            if fitting > 0 {
                left += fitting.saturating_sub(walk.place(store, set)?);
            }
        }
        if criteria.waiting_before.is_some() && (!self.is_done() || self.allowance() == 0) {
            left += self.wait.unseen(store, &self.keys.wait) + self.paused.unseen(store, &self.keys.paused);
            if store.kind(&self.keys.prioritized) == Kind::ZSet {
                let walk = self.prioritized.place(store, &self.keys.prioritized)?;
                left += store.len(&self.keys.prioritized).saturating_sub(walk);
            }
        }
        Ok(left)
    }

    /// The `cleaned` event that BullMQ's clean emits, once for the whole trim.
    pub fn announce(&self, store: &mut impl Store) -> Result<()> {
        if self.mode == Mode::Remove && self.tally.jobs() > 0 && expect(store, &self.keys.events, Kind::Stream).is_ok()
        {
            let count = self.tally.jobs().to_string();
            store.xadd(
                &self.keys.events,
                None,
                &[(Known::Event.into(), Known::Cleaned.into()), (Known::Count.into(), Word::Bytes(count.as_bytes()))],
            )?;
        }
        Ok(())
    }
}

/// When a waiting job's turn began, Unix milliseconds: its last start, or else when it was added and its delay was over.
/// None where it cannot be told.
fn turn_began(store: &impl Store, queue: &QueueName, id: &[u8]) -> Option<f64> {
    let fields = [Known::ProcessedOn, Known::Timestamp, Known::Opts];
    let [started, added, opts] = store.hmget(&queue.key(id), fields)?;
    let number = |text: Vec<u8>| std::str::from_utf8(&text).ok()?.parse::<f64>().ok();
    started.and_then(number).or_else(|| Some(added.and_then(number)? + stored_delay_ms(&opts.unwrap_or_default())))
}

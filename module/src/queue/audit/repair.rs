//! The repairs: each is done at one moment with the look that found the damage, and leaves a valid state.
//!
//! An unfinished job is never removed but put back where it belongs; a locked one is left to its worker.

use super::judge::Scored;
use super::*;
use crate::queue::add::{enqueue_delayed, marker_if_free, priority_score, xadd_capped};
use crate::queue::dedup::delete_job;
use crate::queue::remove::{Absent, Doomed, Kept, Removal, remove_job};

impl Audit {
    /// Takes an id without a job, or with a ghost for one, out of the list or set under `key`, and the ghost with it.
    pub(super) fn drop_empty(&mut self, store: &mut impl Walk, key: &[u8], id: &[u8]) -> Result<Mended> {
        let job = self.queue.key(id);
        if is_locked(store, &job) {
            return Ok(Mended::No);
        }
        match store.kind(key) {
            Kind::List => drop(store.lrem(key, 0, id)?),
            _ => drop(store.zrem(key, &[id])?),
        }
        delete_job(store, &job)?;
        Ok(Mended::Yes)
    }

    pub(super) fn drop_ghost(&mut self, store: &mut impl Walk, id: &[u8]) -> Result<Mended> {
        let job = self.queue.key(id);
        if is_locked(store, &job) {
            return Ok(Mended::No);
        }
        delete_job(store, &job)?;
        Ok(Mended::Yes)
    }

    /// Leaves a job in one of the states that it is in: with its worker, or finished if it finished, or else where it
    /// will be run.
    pub(super) fn settle(
        &mut self,
        store: &mut impl Walk,
        id: &[u8],
        lists: &[Listed],
        sets: &[Scored],
    ) -> Result<Mended> {
        let job = self.queue.key(id);
        let has = |field: Known| store.hget(&job, field.into()).is_some_and(|value| value != b"0" && !value.is_empty());
        let finished = [Scored::Completed, Scored::Failed].into_iter().filter(|set| sets.contains(set));
        let waits_for_children = store.len(&sub_key(&job, ":dependencies")) > 0;
        let keep_list = |list| lists.contains(&list).then_some(Ok(list));
        let keep_set = |set| sets.contains(&set).then_some(Err(set));
        let locked = is_locked(store, &job);
        if locked && !lists.contains(&Listed::Active) {
            return Ok(Mended::No);
        }
        let by_value = |set: &Scored| match set {
            Scored::Completed => store.hget(&job, Known::ReturnValue.into()).is_some(),
            _ => true,
        };
        let keep = None
            .or_else(|| keep_list(Listed::Active).filter(|_| locked))
            .or_else(|| {
                let mut finished = finished.filter(|_| has(Known::FinishedOn));
                finished.clone().find(by_value).or_else(|| finished.next()).map(Err)
            })
            .or_else(|| keep_set(Scored::WaitingChildren).filter(|_| waits_for_children))
            .or_else(|| keep_set(Scored::Delayed).filter(|_| has(Known::Delay)))
            .or_else(|| keep_set(Scored::Prioritized).filter(|_| has(Known::Priority)))
            .or_else(|| keep_list(Listed::Wait))
            .or_else(|| keep_list(Listed::Paused))
            .or_else(|| keep_set(Scored::Prioritized))
            .or_else(|| keep_set(Scored::Delayed))
            .or_else(|| keep_list(Listed::Active))
            .or_else(|| keep_set(Scored::WaitingChildren))
            .or_else(|| keep_set(Scored::Completed))
            .or_else(|| keep_set(Scored::Failed));
        for &list in lists.iter().filter(|&&list| keep != Some(Ok(list))) {
            store.lrem(list_key(list, &self.keys), 0, id)?;
        }
        for &set in sets.iter().filter(|&&set| keep != Some(Err(set))) {
            store.zrem(set.key(&self.keys), &[id])?;
        }
        Ok(Mended::Yes)
    }

    /// A job in no state: one that finished goes, as does a scheduler's iteration that is no longer the next one; any
    /// other is put back where its fields say.
    pub(super) fn place_orphan(
        &mut self,
        store: &mut impl Walk,
        id: &[u8],
        now_ms: u64,
        around: &mut impl Around,
    ) -> Result<Mended> {
        let job = self.queue.key(id);
        let this = self.parent(id);
        if is_locked(store, &job) || this.check(store).is_err() {
            return Ok(Mended::No);
        }
        let has = |field: Known| store.hget(&job, field.into()).is_some_and(|value| !value.is_empty());
        let (finished, superseded) = (has(Known::FinishedOn), has(Known::Rjk));
        if finished || superseded {
            if let Ok(doomed) = Doomed::look(store, &self.queue, &self.keys, id, Absent::default())
                && doomed.foreign_parent(&self.queue).is_some_and(|parent| !around.may_release(parent))
            {
                return Ok(Mended::No);
            }
            match remove_job(store, &self.queue, &self.keys, id, now_ms)? {
                Removal::Removed { .. } => return Ok(Mended::Yes),
                Removal::Kept(Kept::Scheduler) => {}
                // Its children run yet: it stays, as one that failed.
                Removal::Kept(Kept::Children) if finished => {
                    let at = self.number(store, &job, Known::FinishedOn).unwrap_or(now_ms as f64);
                    store.zadd(&self.keys.failed, at, id)?;
                    return Ok(Mended::Yes);
                }
                Removal::Kept(_) => return Ok(Mended::No),
            }
        }
        self.enqueue_again(store, id, now_ms)?;
        Ok(Mended::Yes)
    }

    fn number(&self, store: &impl Store, job: &[u8], field: Known) -> Option<f64> {
        let text = store.hget(job, field.into())?;
        std::str::from_utf8(&text).ok()?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    fn enqueue_again(&mut self, store: &mut impl Walk, id: &[u8], now_ms: u64) -> Result<()> {
        let job = self.queue.key(id);
        let meta = Meta::read(store, &self.keys)?;
        let timestamp = self.number(store, &job, Known::Timestamp).unwrap_or(now_ms as f64);
        if store.len(&sub_key(&job, ":dependencies")) > 0 {
            store.zadd(&self.keys.waiting_children, timestamp, id)?;
            return xadd_capped(
                store,
                &self.keys.events,
                meta.cap(),
                &[(Known::Event.into(), Known::WaitingChildren.into()), (Known::JobId.into(), id.into())],
            );
        }
        let delay = self.number(store, &job, Known::Delay).filter(|&delay| delay > 0.0);
        if let Some(delay) = delay {
            return enqueue_delayed(store, &self.keys, id, timestamp, delay, meta.cap(), self.style);
        }
        match self.number(store, &job, Known::Priority).filter(|&priority| priority > 0.0) {
            Some(priority) => {
                let turn = store.incr(&self.keys.pc)?;
                store.zadd(&self.keys.prioritized, priority_score(priority as u32, turn), id)?;
            }
            // It has waited longer than all others.
            None => store.push(&self.keys.wait, End::Right, id)?,
        }
        marker_if_free(store, &self.keys.marker, meta.hold)?;
        xadd_capped(
            store,
            &self.keys.events,
            meta.cap(),
            &[(Known::Event.into(), Known::Waiting.into()), (Known::JobId.into(), id.into())],
        )
    }
}

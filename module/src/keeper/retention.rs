//! Keeps every queue of this node within the limits in force for it: `retain-*`, `keep-*`, `max-events`, `max-bytes`.
//!
//! A round over all queues begins once a second, also where nothing else happens. It only looks, in O(1) a queue; where
//! something is over a limit it begins a trim (`trims::start`), which shares the background's part of a core. Nothing on
//! replicas, while loading or while clients are paused: the next round of whoever is the primary does it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::trims::{self, Reason};
use super::{background, profiles, queues, sizes, standing};
use crate::queue::keys::QueueName;
use crate::queue::store::{Kind, Store};
use crate::queue::trim::Criteria;
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::store::LiveStore;
use crate::{config, metrics};

/// Time from the beginning of one round to that of the next.
const ROUND: Duration = Duration::from_secs(1);
/// A queue whose last trim removed nothing rests for so long for each job that had to stay, milliseconds.
const REST_MS_PER_KEPT: u64 = 10;
const LONGEST_REST_MS: u64 = 60_000;
/// And one whose trim failed.
const REST_AFTER_ERROR_MS: u64 = 10_000;

struct Round {
    began: Option<Instant>,
    /// The queue looked at last; None between rounds.
    at: Option<(i32, QueueName)>,
    running: bool,
}

static ROUND_STATE: Mutex<Round> = Mutex::new(Round { began: None, at: None, running: false });

/// Looks at queues for the length of a slice. In how many milliseconds to go on; None between rounds.
pub fn slice(context: Context) -> Option<u64> {
    if !context.may_write_unasked() {
        return None;
    }
    let mut at = {
        let mut round = ROUND_STATE.lock().unwrap_or_else(PoisonError::into_inner);
        if !round.running {
            if round.began.is_some_and(|began| began.elapsed() < ROUND) {
                return None;
            }
            *round = Round { began: Some(Instant::now()), at: None, running: true };
        }
        let wait = background::wait_ms();
        if wait > 0 {
            return Some(wait);
        }
        round.at.take()
    };
    let (start, length) = (Instant::now(), config::slice());
    let before = context.db();
    let now = now_ms();
    let mut over = false;
    while !over && start.elapsed() < length {
        at = queues::after(at.as_ref());
        match &at {
            Some((db, queue)) if context.select(*db) => look(context, *db, queue, now),
            Some(_) => {}
            None => over = true,
        }
    }
    context.select(before);
    let took = start.elapsed();
    metrics::slice_took(took.as_micros() as u64);
    background::spent(took);
    let mut round = ROUND_STATE.lock().unwrap_or_else(PoisonError::into_inner);
    (round.at, round.running) = (at, !over);
    (!over).then(|| background::wait_ms().max(1))
}

fn look(context: Context, db: i32, queue: &QueueName, now: u64) {
    let limits = profiles::limits(context, queue);
    let criteria = Criteria::in_force(&limits, now);
    if criteria == Criteria::default() || !is_over(context, db, queue, &criteria) || rests(db, queue, now) {
        return;
    }
    if let Err(error) = trims::start(context, queue, criteria, Reason::Retention) {
        trims::failed(db, queue, &error.to_string());
    }
}

/// Something of the queue is over its limits, as far as a look tells.
fn is_over(context: Context, db: i32, queue: &QueueName, criteria: &Criteria) -> bool {
    let Some(known) = standing::lately(context, queue) else { return false };
    let (store, counts) = (LiveStore(context), known.counts);
    let finished = |name: &str, jobs: u64, before: Option<u64>, keep: Option<u64>| {
        let many = keep.is_some_and(|keep| jobs > keep);
        if jobs == 0 || !many && before.is_none() {
            return false;
        }
        let set = queue.key(name);
        let old = || before.is_some_and(|before| store.zfirst_score(&set).is_some_and(|first| first <= before as f64));
        store.kind(&set) == Kind::ZSet && (many || old())
    };
    if finished("completed", counts.completed, criteria.completed_before, criteria.keep_completed)
        || finished("failed", counts.failed, criteria.failed_before, criteria.keep_failed)
    {
        return true;
    }
    if let Some(keep) = criteria.events {
        let events = queue.key("events");
        if store.len(&events) > keep && store.kind(&events) == Kind::Stream {
            return true;
        }
    }
    let Some(most) = criteria.max_bytes else { return false };
    counts.completed + counts.failed > 0 && sizes::of(db, queue, &counts).is_some_and(|size| size.total() > most)
}

fn rests(db: i32, queue: &QueueName, now: u64) -> bool {
    let Some(last) = trims::last(db, queue).filter(|last| last.reason == Some(Reason::Retention)) else {
        return false;
    };
    let rest = if last.failed {
        REST_AFTER_ERROR_MS
    } else if last.tally.jobs() + last.tally.events == 0 {
        last.tally.kept.saturating_mul(REST_MS_PER_KEPT).min(LONGEST_REST_MS)
    } else {
        0
    };
    // A clock that was set back ends the rest.
    now.abs_diff(last.at_ms) < rest
}

//! The policies' ticks: once every `bull.tick-ms` each policy sees the queues that it covers, a few at a time.
//!
//! A round goes through the queues of this node in their order. The facts of a batch are read once and shown to one policy
//! after the other; what they wish for is carried out before the next batch. A turn of the timer works for the length of a
//! slice and keeps its place. Nothing runs on a replica, while loading or while clients are paused.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::actions::{self, Wish};
use super::admission::{node, policies, queue_facts, report};
use super::{queues, standing};
use crate::policy::Queue;
use crate::queue::keys::QueueName;
use crate::queue::stats::waited_ms;
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::{config, metrics};

/// Queues in one call, as the world promises. A call has fuel for each of them, so few bound its time.
const BATCH: usize = 8;

/// A batch whose facts are known.
struct Batch {
    db: i32,
    facts: Vec<Queue>,
    /// Policies that have not seen it.
    left: VecDeque<String>,
}

struct Round {
    /// When the last round began, Unix milliseconds.
    began_ms: u64,
    /// The queue behind which the round goes on; None between rounds.
    place: Option<Place>,
    batch: Option<Batch>,
    wishes: VecDeque<Wish>,
}

enum Place {
    Start,
    Behind(i32, QueueName),
}

static ROUND: Mutex<Round> = Mutex::new(Round { began_ms: 0, place: None, batch: None, wishes: VecDeque::new() });

/// Never held across a call to the server.
fn round() -> MutexGuard<'static, Round> {
    ROUND.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Works for the length of a slice. True while the round has more.
pub fn slice(context: Context) -> bool {
    if !context.may_write_unasked() {
        if !context.is_primary() {
            // What a replica's policies wished for when it was a primary is not its business any more.
            let mut round = round();
            (round.place, round.batch) = (None, None);
            round.wishes.clear();
        }
        return false;
    }
    if !begin() {
        return false;
    }
    let (start, before) = (Instant::now(), context.db());
    let mut more = true;
    while more && start.elapsed() < config::slice() {
        more = step(context);
    }
    context.select(before);
    metrics::slice_took(start.elapsed().as_micros() as u64);
    more
}

/// Whether a round is under way, or begins now.
fn begin() -> bool {
    let now = now_ms();
    let mut round = round();
    if round.place.is_some() || round.batch.is_some() || !round.wishes.is_empty() {
        return true;
    }
    // A clock that was set back does not stop the ticks.
    if now.abs_diff(round.began_ms) < config::tick_ms() {
        return false;
    }
    round.began_ms = now;
    if policies().is_empty() {
        return false;
    }
    round.place = Some(Place::Start);
    true
}

/// One wish, one call, or the facts of one batch. False: the round is over.
fn step(context: Context) -> bool {
    let wish = round().wishes.pop_front();
    if let Some(wish) = wish {
        if let Some(rest) = actions::carry_out(context, wish) {
            round().wishes.push_front(rest);
        }
        return true;
    }
    let batch = round().batch.take();
    if let Some(mut batch) = batch {
        if let Some(policy) = batch.left.pop_front() {
            tick(&policy, &batch);
            round().batch = Some(batch);
        }
        return true;
    }
    let place = round().place.take();
    let found = match place {
        None => return false,
        Some(Place::Start) => queues::behind(None, BATCH),
        Some(Place::Behind(db, name)) => queues::behind(Some((db, name)), BATCH),
    };
    let Some((db, last)) = found.last().cloned() else { return false };
    let batch: Vec<QueueName> = found.into_iter().map(|(_, name)| name).collect();
    let left = policies().policies().iter().map(|policy| policy.name.clone()).collect();
    let facts = if context.select(db) { facts(context, &batch) } else { Vec::new() };
    let mut round = round();
    round.batch = Some(Batch { db, facts, left });
    round.place = Some(Place::Behind(db, last));
    true
}

fn facts(context: Context, batch: &[QueueName]) -> Vec<Queue> {
    let now = now_ms();
    let mut facts = Vec::with_capacity(batch.len());
    for name in batch {
        // A queue that vanished without an event is none.
        if let Some(known) = standing::lately(context, name) {
            facts.push(queue_facts(context, name, known.counts, waited_ms(known.waiting_since, now)));
        }
    }
    facts
}

fn tick(policy: &str, batch: &Batch) {
    let answer = policies().tick(policy, node(), &batch.facts);
    match answer {
        None => {}
        Some(Err(incident)) => report(incident),
        Some(Ok(wanted)) => {
            let wishes = actions::sift(policy, batch.db, wanted);
            round().wishes.extend(wishes);
        }
    }
}

//! The snapshot for everybody who wants numbers: a walk over the queues of this node, a slice of time a turn, and what
//! it found published at its end. Reads keys, writes none.
//!
//! A walk reads what has changed since the one before (`standing`), and of the others as many as [`AT_REST`] allows. It takes at
//! most [`SHARE`] of the time, so that it lasts longer where much changes: about a second with a thousand queues that all
//! do. A replica shows no queues, so that a sum over nodes counts each queue once; the walk is for `sizes` there.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rates::Glance;
use super::standing::{self, Net};
use super::{admission, guard, node, profiles, queues, rates, sizes, trims};
use crate::metrics::snapshot::{self, NodeFacts, PolicyFacts, QueueFacts, Rest, Snapshot, Standing};
use crate::metrics::{self, label};
use crate::policy::member::{Policy, State as PolicyState};
use crate::queue::keys::QueueName;
use crate::queue::stats::{Ages, waited_ms};
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::store::LiveStore;
use crate::{config, entry};

/// A slice is followed by so many times its own length without one: 0.5 % of a core.
const SHARE: u32 = 200;
/// Part of a core for reading queues of which nothing was heard: a hundred of them a second, about.
const AT_REST: f64 = 0.0005;
/// Longest slice, whatever `bull.slice-us` allows.
const LONGEST: Duration = Duration::from_micros(500);
/// From the start of a walk to the start of the next at least.
const PERIOD: Duration = Duration::from_millis(1000);
/// Queues taken from the registry at a time.
const BATCH: usize = 16;

struct Walk {
    began: Instant,
    after: Option<(i32, QueueName)>,
    queues: Vec<QueueFacts>,
    rest: Rest,
}

struct State {
    walk: Option<Walk>,
    next: Option<Instant>,
}

static STATE: Mutex<State> = Mutex::new(State { walk: None, next: None });
static NET: Mutex<Net> = Mutex::new(Net::new(AT_REST));

/// Databases were emptied, loaded or swapped, or this node's part has changed: what the walk has seen no longer holds.
pub fn on_change() {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    *state = State { walk: None, next: None };
}

/// A piece of the walk, where it is due.
pub fn slice(context: Context) {
    let start = Instant::now();
    let walk = {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next.is_some_and(|next| start < next) {
            return;
        }
        state.walk.take()
    };
    let mut walk = walk.unwrap_or_else(|| {
        rates::keep_shown_within(config::metrics_queues());
        Walk { began: start, after: None, queues: Vec::new(), rest: Rest::default() }
    });
    let before = context.db();
    let done = context.is_loading() || on(context, &mut walk, start);
    context.select(before);
    let took = start.elapsed();
    metrics::slice_took(took.as_micros() as u64);
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let rested = start + took * SHARE;
    if done {
        state.next = Some(rested.max(walk.began + PERIOD));
        drop(state);
        publish(context, walk);
    } else {
        state.next = Some(rested);
        state.walk = Some(walk);
    }
}

/// Goes on for the length of a slice. True at the end of the walk.
fn on(context: Context, walk: &mut Walk, start: Instant) -> bool {
    let length = config::slice().min(LONGEST);
    let now = now_ms();
    let primary = context.is_primary();
    net().save(start);
    loop {
        let batch = queues::next(walk.after.as_ref(), BATCH);
        if batch.is_empty() {
            net().wrap();
            return true;
        }
        for queue in batch {
            if context.select(queue.0)
                && let Some(seen) = see(context, &queue)
                && primary
            {
                show(context, &queue, seen, now, walk);
            }
            walk.after = Some(queue);
            if start.elapsed() >= length {
                return false;
            }
        }
    }
}

/// Never held across a call to the server.
fn net() -> MutexGuard<'static, Net> {
    NET.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a queue stands, read anew where it has changed or it is its turn.
fn see(context: Context, queue: &(i32, QueueName)) -> Option<(Glance, standing::Standing)> {
    let (db, name) = (queue.0, &queue.1);
    let glance = rates::glance(db, name);
    let at_rest = net().takes(queue);
    let known = if at_rest {
        let began = Instant::now();
        let known = standing::anew(context, name, glance.stirred);
        net().took(queue, began.elapsed());
        known
    } else {
        standing::now(context, name, glance.stirred)
    };
    known.map(|known| (glance, known))
}

fn show(context: Context, queue: &(i32, QueueName), seen: (Glance, standing::Standing), now: u64, walk: &mut Walk) {
    let (db, name, (glance, known)) = (queue.0, &queue.1, seen);
    let counts = known.counts;
    let ages = if counts.active > 0 {
        let (store, active) = (LiveStore(context), name.key("active"));
        Ages::with_waiting(&store, name, &active, known.waiting_since, now).unwrap_or_default()
    } else {
        Ages { oldest_waiting_ms: waited_ms(known.waiting_since, now), ..Ages::default() }
    };
    let standing = Standing {
        counts,
        ages,
        failed_last_hour: glance.failed_last_hour,
        size: sizes::of(db, name, &counts).unwrap_or_default(),
    };
    if !glance.shown {
        return walk.rest.add(&standing);
    }
    let text = name.display();
    let (prefix, label) = label::split(&text, |other| queues::knows(db, other.as_bytes()));
    walk.queues.push(QueueFacts {
        db,
        name: name.clone(),
        prefix,
        queue: label,
        standing,
        happened: rates::happened(db, name),
        limits: profiles::limits(context, name),
        verdicts: guard::of(db, name).policies,
    });
}

fn publish(context: Context, walk: Walk) {
    let rest = Rest { happened: rates::others(), ..walk.rest };
    let (used_memory, max_memory) = node::memory();
    let (registry, (queues_followed, running_jobs_timed)) = (queues::snapshot(), rates::sizes());
    snapshot::publish(Snapshot {
        number: 0,
        taken_ms: now_ms(),
        round_ms: walk.began.elapsed().as_millis() as u64,
        node: NodeFacts {
            primary: context.is_primary(),
            used_memory,
            max_memory,
            queues: registry.known,
            queues_followed,
            running_jobs_timed,
            scanning: registry.scanning,
            jobs_added: metrics::ADDED.get(),
            jobs_refused: metrics::REFUSED.get(),
            jobs_trimmed: metrics::TRIMMED_JOBS.get(),
            bytes_trimmed: metrics::TRIMMED_BYTES.get(),
            trims_running: trims::running(),
            slices: metrics::SLICES.get(),
            slices_us: metrics::SLICES_US.get(),
            longest_slice_us: metrics::longest_slice_us(),
            panics: entry::panics(),
            late_errors: metrics::LATE_ERRORS.get(),
        },
        guard: guard::totals(),
        policies: admission::policies().policies().iter().map(policy).collect(),
        queues: walk.queues,
        rest,
    });
}

fn policy(policy: &Policy) -> PolicyFacts {
    let counters = policy.counters;
    PolicyFacts {
        name: policy.name.clone(),
        version: policy.version().to_owned(),
        mode: policy.settings.mode.name(),
        digest: policy.code().map_or(String::new(), |code| code.compiled.digest[..12].to_owned()),
        suspended: matches!(policy.state(), PolicyState::Suspended | PolicyState::Broken),
        calls: counters.calls,
        admitted: counters.all.admitted,
        rejected: counters.all.rejected,
        deferred: counters.all.deferred,
        displaced: counters.all.displaced,
        observed: counters.all.observed,
        faults: counters.faults,
        times: policy.times.clone(),
    }
}

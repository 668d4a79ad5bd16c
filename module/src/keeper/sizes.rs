//! Estimates of the bytes that queues take, refined a little at each turn of the timer.
//!
//! All queues together get 0.4 % of a core, however many they are; a trim that needs a queue's bytes at once may add to
//! its estimate in its own slice. Reads only, so it also works on replicas.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::queues;
use super::rates::{self, Totals};
use crate::queue::job::{QueueKeys, Route};
use crate::queue::keys::QueueName;
pub use crate::queue::size::Size;
use crate::queue::size::{Arrivals, Estimate, Lot, Subject};
use crate::queue::stats::Counts;
use crate::redis::Context;
use crate::redis::events::Change;
use crate::redis::store::LiveStore;
use crate::{config, metrics};

/// Part of a core for all estimates together.
const SHARE: f64 = 0.004;
/// Time that may be saved up for one turn; a turn is no longer than a slice either.
const SAVED: Duration = Duration::from_millis(125);
/// Longest look at one queue where many want one, so that others have theirs.
const LOOK: Duration = Duration::from_micros(50);
/// Error, as a part of the total, below which a queue gets no more than a look.
const TARGET: f64 = 0.05;
/// Measuring for a trim ends after this, however large the error is.
const LONGEST: Duration = Duration::from_millis(250);
/// Queues with an estimate; further ones have none.
const MAX_QUEUES: usize = 20_000;

#[derive(Default)]
struct Entry {
    estimate: Estimate,
    /// What `rates` said at the last visit.
    seen: Totals,
    /// Time spent on it for trims since it was last good.
    pressed: Duration,
}

struct State {
    known: HashMap<(i32, QueueName), Entry>,
    lot: Lot,
    /// Where the round is.
    at: Option<(i32, QueueName)>,
    /// Since when time has been saved.
    since: Option<Instant>,
    /// Time spent beyond what was saved.
    debt: Duration,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    Mutex::new(State { known: HashMap::new(), lot: Lot(0x5eed), at: None, since: None, debt: Duration::ZERO })
});

/// Never held across a call to the server.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of a queue with these counts, from memory; None before it was first looked at.
pub fn of(db: i32, queue: &QueueName, counts: &Counts) -> Option<Size> {
    state().known.get(&(db, queue.clone())).map(|entry| entry.estimate.size(counts))
}

/// What a job that goes each way takes by the length of its data: bytes without data, and bytes for each byte of it.
pub fn of_data(db: i32, queue: &QueueName) -> [(f64, f64); 3] {
    let state = state();
    let fresh = Estimate::default();
    let estimate = state.known.get(&(db, queue.clone())).map_or(&fresh, |entry| &entry.estimate);
    ROUTES.map(|route| estimate.of_data(route))
}

/// The ways in, in the order of their numbers.
const ROUTES: [Route; 3] = [Route::Standard, Route::Prioritized, Route::Delayed];

/// Jobs came by a command whose data was seen: their bytes count at once.
pub fn arrived(db: i32, queue: &QueueName, arrivals: &[Arrivals; 3]) {
    if !queues::knows(db, queue.as_bytes()) {
        return;
    }
    let mut state = state();
    let name = (db, queue.clone());
    if state.known.len() >= MAX_QUEUES && !state.known.contains_key(&name) {
        return;
    }
    let entry = state.known.entry(name).or_default();
    for (route, arrivals) in ROUTES.into_iter().zip(arrivals) {
        if !arrivals.is_empty() {
            entry.estimate.arrived(route, *arrivals);
        }
    }
}

/// One turn: as many visits as the time that was saved up allows.
pub fn slice(context: Context) {
    if context.is_loading() {
        return;
    }
    let start = Instant::now();
    let budget = {
        let mut state = state();
        let saved = state.since.replace(start).map_or(Duration::ZERO, |since| start.duration_since(since).min(SAVED));
        let saved = saved.mul_f64(SHARE).min(config::slice());
        let paid = saved.min(state.debt);
        state.debt -= paid;
        saved - paid
    };
    if budget.is_zero() {
        return;
    }
    let before = context.db();
    let over = || start.elapsed() >= budget;
    // Few queues have long looks: each begins with counts and lists.
    let known = u32::try_from(queues::snapshot().known).unwrap_or(u32::MAX);
    let longest = LOOK.max(budget / known.max(1));
    // A queue of this round wants more than a look.
    let mut wanting = false;
    let mut wraps = 0;
    while !over() {
        let at = state().at.clone();
        let next = queues::after(at.as_ref());
        state().at.clone_from(&next);
        let Some((db, queue)) = next else {
            wraps += 1;
            if wraps > 1 && !std::mem::take(&mut wanting) || known == 0 {
                break;
            }
            continue;
        };
        if context.select(db) {
            let end = (start + budget).min(Instant::now() + longest);
            wanting |= visit(context, db, &queue, end);
        }
    }
    context.select(before);
    let took = start.elapsed();
    metrics::SIZING_US.add(took.as_micros() as u64);
    state().debt += took.saturating_sub(budget);
}

/// Looks at one queue. True where its error is still over the target.
fn visit(context: Context, db: i32, queue: &QueueName, end: Instant) -> bool {
    look(context, db, queue, TARGET, || Instant::now() >= end).is_some_and(|size| size.error_part() > TARGET)
}

/// Adds to the estimate of a queue in the context's database. None where it has no estimate.
fn look(context: Context, db: i32, queue: &QueueName, target: f64, over: impl FnMut() -> bool) -> Option<Size> {
    let store = LiveStore(context);
    let keys = QueueKeys::of(queue);
    let counts = Counts::read(&store, &keys);
    let totals = rates::totals(db, queue);
    let name = (db, queue.clone());
    let (mut entry, mut lot) = {
        let mut state = state();
        let lot = std::mem::replace(&mut state.lot, Lot(0));
        match state.known.remove(&name) {
            Some(entry) => (entry, lot),
            None if state.known.len() < MAX_QUEUES => (Entry::default(), lot),
            None => {
                state.lot = lot;
                return None;
            }
        }
    };
    let (now, then) = (&totals, &entry.seen);
    entry.estimate.turn_over(
        &counts,
        now.added.saturating_sub(then.added),
        now.completed.saturating_sub(then.completed),
        now.failed.saturating_sub(then.failed),
    );
    entry.seen = totals;
    let subject = Subject { queue, keys: &keys, counts: &counts };
    // What a failed read leaves out comes with the next look.
    let measured = entry.estimate.measure(&store, subject, target, &mut lot, over);
    let size = entry.estimate.size(&counts);
    let mut state = state();
    state.lot = lot;
    state.known.insert(name, entry);
    measured.is_ok().then_some(size)
}

/// The bytes of a queue in the context's database for a trim, and by how many they may be off: within 5 % or as well as a
/// quarter of a second of measuring makes them. None where that takes another slice.
pub fn for_trim(context: Context, queue: &QueueName, over: impl FnMut() -> bool) -> Option<(u64, u64)> {
    let begun = Instant::now();
    let db = context.db();
    let size = look(context, db, queue, TARGET, over);
    let mut state = state();
    let (Some(size), Some(entry)) = (size, state.known.get_mut(&(db, queue.clone()))) else { return Some((0, 0)) };
    entry.pressed += begun.elapsed();
    if size.error_part() > TARGET && entry.pressed < LONGEST {
        return None;
    }
    entry.pressed = Duration::ZERO;
    Some((size.total(), size.error))
}

/// A queue is no longer there.
pub fn forget(db: i32, queue: &QueueName) {
    state().known.remove(&(db, queue.clone()));
}

/// Databases came or went.
pub fn on_change(change: Change) {
    let mut state = state();
    match change {
        Change::Flushed(None) | Change::Loaded => state.known.clear(),
        Change::Flushed(Some(db)) => state.known.retain(|(of, _), _| *of != db),
        Change::Swapped(first, second) => state.known.retain(|(of, _), _| *of != first && *of != second),
        Change::Loading | Change::Primary(_) => {}
    }
}

//! Estimates of the bytes that queues take, refined a little at each turn of the timer.
//!
//! A queue is visited where it has changed (`standing`) and until its error is below the target; the others in turn, as far as
//! [`AT_REST`] allows: a job may grow without a word. All queues together get 0.4 % of a core, however many they are; a
//! trim that needs a queue's bytes at once may add to its estimate in its own slice. Reads only, so it also works on
//! replicas.

use std::collections::VecDeque;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::by_queue::ByQueue;
use super::queues;
use super::rates::{self, Totals};
use super::standing::{self, Net};
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
/// Part of a core for visits to queues of which nothing was heard.
const AT_REST: f64 = 0.0005;
/// Time that may be saved up for one turn; a turn is no longer than a slice either.
const SAVED: Duration = Duration::from_millis(125);
/// Longest look at one queue where many want one, so that others have theirs.
const LOOK: Duration = Duration::from_micros(50);
/// Error, as a part of the total, below which a queue gets no more than a look. Measuring ends where the sample says so, and
/// of sizes that differ a lot such samples are the ones that missed the largest: at 5 % one in some hundred was off by more.
const TARGET: f64 = 0.04;
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

impl Entry {
    fn arrived(&mut self, arrivals: &[Arrivals; 3]) {
        for (route, arrivals) in ROUTES.into_iter().zip(arrivals) {
            if !arrivals.is_empty() {
                self.estimate.arrived(route, *arrivals);
            }
        }
    }
}

struct State {
    known: ByQueue<Entry>,
    lot: Lot,
    /// Queues that have changed, or whose error is still over the target.
    due: VecDeque<(i32, QueueName)>,
    /// The same, to be found by name.
    waiting: ByQueue<()>,
    net: Net,
    /// Since when time has been saved.
    since: Option<Instant>,
    /// Time spent beyond what was saved.
    debt: Duration,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| {
    Mutex::new(State {
        known: ByQueue::new(),
        lot: Lot(0x5eed),
        due: VecDeque::new(),
        waiting: ByQueue::new(),
        net: Net::new(AT_REST),
        since: None,
        debt: Duration::ZERO,
    })
});

/// Never held across a call to the server.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of a queue with these counts, from memory; None before it was first looked at.
pub fn of(db: i32, queue: &QueueName, counts: &Counts) -> Option<Size> {
    state().known.get(db, queue).map(|entry| entry.estimate.size(counts))
}

/// What a job that goes each way takes by the length of its data: bytes without data, and bytes for each byte of it.
pub fn of_data(db: i32, queue: &QueueName) -> [(f64, f64); 3] {
    let state = state();
    let fresh = Estimate::default();
    let estimate = state.known.get(db, queue).map_or(&fresh, |entry| &entry.estimate);
    ROUTES.map(|route| estimate.of_data(route))
}

/// The ways in, in the order of their numbers.
const ROUTES: [Route; 3] = [Route::Standard, Route::Prioritized, Route::Delayed];

/// Jobs came by a command whose data was seen: their bytes count at once.
pub fn arrived(db: i32, queue: &QueueName, arrivals: &[Arrivals; 3]) {
    let mut state = state();
    if let Some(entry) = state.known.get_mut(db, queue) {
        entry.arrived(arrivals);
    } else if state.known.len() < MAX_QUEUES && queues::knows(db, queue.as_bytes()) {
        state.known.insert(db, queue.clone(), Entry::default()).arrived(arrivals);
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
        state.net.save(start);
        saved - paid
    };
    if budget.is_zero() {
        return;
    }
    let before = context.db();
    listen();
    let turn = Turn { context, start, budget };
    while !turn.is_over() && (turn.serve() | turn.at_rest()) {}
    context.select(before);
    let took = start.elapsed();
    metrics::SIZING_US.add(took.as_micros() as u64);
    state().debt += took.saturating_sub(budget);
}

/// Notes which queues have changed.
fn listen() {
    let changed = standing::take_changed();
    let mut state = state();
    for (db, name) in changed {
        if state.waiting.len() < MAX_QUEUES && state.waiting.get(db, &name).is_none() {
            state.waiting.insert(db, name.clone(), ());
            state.due.push_back((db, name));
        }
    }
}

struct Turn {
    context: Context,
    start: Instant,
    budget: Duration,
}

impl Turn {
    fn is_over(&self) -> bool {
        self.start.elapsed() >= self.budget
    }

    /// One queue that is due. False where none is.
    fn serve(&self) -> bool {
        let (next, others) = {
            let mut state = state();
            (state.due.pop_front(), u32::try_from(state.due.len()).unwrap_or(u32::MAX))
        };
        let Some((db, name)) = next else { return false };
        // Few queues have long looks: each begins with counts and lists.
        let wants = self.visit(db, &name, LOOK.max(self.budget / others.saturating_add(1)));
        let mut state = state();
        if wants {
            state.due.push_back((db, name));
        } else {
            state.waiting.remove(db, &name);
        }
        true
    }

    /// One queue at rest. False where there is no time for more.
    fn at_rest(&self) -> bool {
        let behind = {
            let state = state();
            if !state.net.has_time() {
                return false;
            }
            state.net.behind().cloned()
        };
        let Some(queue) = queues::after(behind.as_ref()) else {
            state().net.wrap();
            return false;
        };
        let begun = Instant::now();
        let (db, name) = &queue;
        let waits = state().waiting.get(*db, name).is_some();
        if !waits {
            self.visit(*db, name, LOOK);
        }
        state().net.took(&queue, begun.elapsed());
        true
    }

    /// Looks at one queue. True where its error is still over the target.
    fn visit(&self, db: i32, queue: &QueueName, longest: Duration) -> bool {
        let standing = if self.context.select(db) { standing::lately(self.context, queue) } else { None };
        let Some(standing) = standing else { return false };
        let end = (self.start + self.budget).min(Instant::now() + longest);
        look(self.context, db, queue, &standing.counts, || Instant::now() >= end)
            .is_some_and(|size| size.error_part() > TARGET)
    }
}

/// Adds to the estimate of a queue in the context's database. None where it has no estimate.
fn look(context: Context, db: i32, queue: &QueueName, counts: &Counts, over: impl FnMut() -> bool) -> Option<Size> {
    let store = LiveStore(context);
    let keys = QueueKeys::of(queue);
    let totals = rates::totals(db, queue);
    let (mut entry, mut lot) = {
        let mut state = state();
        let lot = std::mem::replace(&mut state.lot, Lot(0));
        match state.known.remove(db, queue) {
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
        counts,
        now.added.saturating_sub(then.added),
        now.completed.saturating_sub(then.completed),
        now.failed.saturating_sub(then.failed),
    );
    entry.seen = totals;
    let subject = Subject { queue, keys: &keys, counts };
    // What a failed read leaves out comes with the next look.
    let measured = entry.estimate.measure(&store, subject, TARGET, &mut lot, over);
    let size = entry.estimate.size(counts);
    let mut state = state();
    state.lot = lot;
    state.known.insert(db, queue.clone(), entry);
    measured.is_ok().then_some(size)
}

/// The bytes of a queue in the context's database for a trim, and by how many they may be off: within 5 % or as well as a
/// quarter of a second of measuring makes them. None where that takes another slice.
pub fn for_trim(context: Context, queue: &QueueName, over: impl FnMut() -> bool) -> Option<(u64, u64)> {
    let begun = Instant::now();
    let db = context.db();
    let counts = Counts::read(&LiveStore(context), &QueueKeys::of(queue));
    // What is remembered may be older than these counts, and a visit by it between two slices would undo what is measured.
    standing::forget(db, queue);
    let size = look(context, db, queue, &counts, over);
    let mut state = state();
    let (Some(size), Some(entry)) = (size, state.known.get_mut(db, queue)) else { return Some((0, 0)) };
    entry.pressed += begun.elapsed();
    if size.error_part() > TARGET && entry.pressed < LONGEST {
        return None;
    }
    entry.pressed = Duration::ZERO;
    Some((size.total(), size.error))
}

/// A queue is no longer there.
pub fn forget(db: i32, queue: &QueueName) {
    state().known.remove(db, queue);
}

/// Databases came or went.
pub fn on_change(change: Change) {
    let mut state = state();
    match change {
        Change::Flushed(None) | Change::Loaded => state.known.clear(),
        Change::Flushed(Some(db)) => state.known.clear_database(db),
        Change::Swapped(first, second) => [first, second].into_iter().for_each(|db| state.known.clear_database(db)),
        Change::Loading | Change::SlotsMoved | Change::Primary(_) => {}
    }
}

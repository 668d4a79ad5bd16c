//! What became of the add scripts of unmodified clients: counts of this node, and of each queue.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::queue::keys::QueueName;
use crate::redis::context::now_ms;
use crate::redis::log::{Level, log};
use crate::text::short;

/// What happened to an add script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The policies were asked.
    Guarded,
    /// They were, and the script ran without an error.
    Admitted,
    /// It did not run.
    Refused,
    /// It ran although a verdict was against it: the guard only observes.
    Observed,
    /// It ran unasked: a child, or a scheduler's next iteration.
    Passed,
}

/// Add scripts since the module was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub guarded: u64,
    pub admitted: u64,
    pub refused: u64,
    pub observed: u64,
    pub passed: u64,
    /// They looked like adds but could not be read, and ran unasked.
    pub unreadable: u64,
}

impl Counts {
    const ZERO: Self = Self { guarded: 0, admitted: 0, refused: 0, observed: 0, passed: 0, unreadable: 0 };

    fn add(&mut self, event: Event) {
        *match event {
            Event::Guarded => &mut self.guarded,
            Event::Admitted => &mut self.admitted,
            Event::Refused => &mut self.refused,
            Event::Observed => &mut self.observed,
            Event::Passed => &mut self.passed,
        } += 1;
    }
}

/// Most queues counted one by one; the others are in the node's counts only.
const MAX_QUEUES: usize = 10_000;
/// A script that cannot be read is logged once in this time, milliseconds.
const QUIET_MS: u64 = 10_000;

struct State {
    node: Counts,
    queues: BTreeMap<i32, BTreeMap<QueueName, Counts>>,
    tracked: usize,
}

static STATE: Mutex<State> = Mutex::new(State { node: Counts::ZERO, queues: BTreeMap::new(), tracked: 0 });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn queue(&mut self, db: i32, queue: &QueueName) -> Option<&mut Counts> {
        let queues = self.queues.entry(db).or_default();
        if !queues.contains_key(queue) {
            if self.tracked == MAX_QUEUES {
                return None;
            }
            self.tracked += 1;
            queues.insert(queue.clone(), Counts::ZERO);
        }
        queues.get_mut(queue)
    }
}

pub fn count(db: i32, queue: &QueueName, event: Event) {
    let mut state = state();
    state.node.add(event);
    if let Some(counts) = state.queue(db, queue) {
        counts.add(event);
    }
}

/// An add by its keys, of which `first` is one, whose arguments say nothing that we know.
pub fn unreadable(db: i32, first: &[u8]) {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    state().node.unreadable += 1;
    let now = now_ms();
    if now.saturating_sub(LAST_MS.load(Ordering::Relaxed)) >= QUIET_MS {
        LAST_MS.store(now, Ordering::Relaxed);
        let key = short(first, 128);
        log(Level::Warning, &format!("bull: the guard let an add script pass that it cannot read: {key} in db {db}"));
    }
}

/// Counts of this node.
pub fn totals() -> Counts {
    state().node
}

/// Counts of a queue; zeroes where nothing came.
pub fn of(db: i32, queue: &QueueName) -> Counts {
    state().queues.get(&db).and_then(|queues| queues.get(queue)).copied().unwrap_or_default()
}

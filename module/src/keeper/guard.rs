//! What became of the adds of this node and of each of its queues: counts of the add scripts of unmodified clients, and of
//! the verdicts on jobs by every way in.
//!
//! In memory only. A queue's counts go with the queue, and with a flush; those that nobody has touched for long give way
//! to others, so names that never become queues fill nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use crate::policy::member::Outcome;
use crate::queue::keys::QueueName;
use crate::redis::context::now_ms;
use crate::redis::events::Change;
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
    /// It looked like an add but could not be read, and ran unasked.
    Unreadable,
}

/// Add scripts since the module was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub guarded: u64,
    pub admitted: u64,
    pub refused: u64,
    pub observed: u64,
    pub passed: u64,
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
            Event::Unreadable => &mut self.unreadable,
        } += 1;
    }

    /// Names as users see them.
    pub fn fields(&self) -> [(&'static str, u64); 6] {
        [
            ("guarded", self.guarded),
            ("admitted", self.admitted),
            ("refused", self.refused),
            ("observed", self.observed),
            ("passed", self.passed),
            ("unreadable", self.unreadable),
        ]
    }
}

/// Verdicts other than admit, of jobs from commands and scripts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    pub rejected: u64,
    pub deferred: u64,
    pub displaced: u64,
    /// They did not bind: the policy or the guard observes.
    pub observed: u64,
}

impl Verdicts {
    fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Admitted => return,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Deferred => &mut self.deferred,
            Outcome::Displaced => &mut self.displaced,
            Outcome::Observed => &mut self.observed,
        } += 1;
    }

    fn sum(&self) -> u64 {
        self.rejected + self.deferred + self.displaced + self.observed
    }
}

/// Counts of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OfQueue {
    pub scripts: Counts,
    pub verdicts: Verdicts,
    /// The same by the policy's name.
    pub policies: BTreeMap<String, Verdicts>,
}

/// Most policies counted for one queue; the one with the fewest verdicts gives way.
const MAX_POLICIES: usize = 32;

impl OfQueue {
    fn verdict(&mut self, policy: &str, outcome: Outcome) {
        self.verdicts.add(outcome);
        if let Some(verdicts) = self.policies.get_mut(policy) {
            verdicts.add(outcome);
            return;
        }
        if self.policies.len() == MAX_POLICIES
            && let Some(least) = self.policies.iter().min_by_key(|(_, verdicts)| verdicts.sum())
        {
            let least = least.0.clone();
            self.policies.remove(&least);
        }
        self.policies.entry(policy.to_owned()).or_default().add(outcome);
    }
}

/// Queues of one generation; there are two.
const GENERATION: usize = 4096;
/// A script that cannot be read is logged once in this time, milliseconds.
const QUIET_MS: u64 = 10_000;

type ByQueue = HashMap<i32, HashMap<QueueName, OfQueue, RandomState>, RandomState>;

/// Counts by queue in bounded memory: when a generation is full the one before it goes, with those queues that nothing has
/// come to since.
#[derive(Debug, Default)]
struct Queues {
    young: ByQueue,
    old: ByQueue,
    /// Queues in `young`.
    count: usize,
}

impl Queues {
    fn at(&mut self, db: i32, queue: &QueueName, change: impl FnOnce(&mut OfQueue)) {
        if let Some(of) = self.young.get_mut(&db).and_then(|queues| queues.get_mut(queue)) {
            return change(of);
        }
        let mut of = self.old.get_mut(&db).and_then(|queues| queues.remove(queue)).unwrap_or_default();
        change(&mut of);
        if self.count == GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.count = 0;
        }
        self.count += 1;
        self.young.entry(db).or_default().insert(queue.clone(), of);
    }

    fn get(&self, db: i32, queue: &QueueName) -> Option<&OfQueue> {
        let of = |queues: &'_ ByQueue| queues.get(&db).is_some_and(|queues| queues.contains_key(queue));
        let side = if of(&self.young) { &self.young } else { &self.old };
        side.get(&db)?.get(queue)
    }

    fn forget(&mut self, db: i32, queue: &QueueName) {
        if let Some(queues) = self.young.get_mut(&db) {
            self.count -= usize::from(queues.remove(queue).is_some());
        }
        if let Some(queues) = self.old.get_mut(&db) {
            queues.remove(queue);
        }
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Flushed(None) | Change::Loaded => *self = Self::default(),
            Change::Flushed(Some(db)) => {
                self.old.remove(&db);
                self.count -= self.young.remove(&db).map_or(0, |queues| queues.len());
            }
            Change::Swapped(first, second) => {
                for side in [&mut self.young, &mut self.old] {
                    let (one, two) = (side.remove(&first), side.remove(&second));
                    side.extend(one.map(|queues| (second, queues)));
                    side.extend(two.map(|queues| (first, queues)));
                }
            }
            Change::Loading | Change::SlotsMoved | Change::Primary(_) => {}
        }
    }

    fn len(&self) -> usize {
        self.count + self.old.values().map(HashMap::len).sum::<usize>()
    }
}

struct State {
    node: Counts,
    /// Made at the first count.
    queues: Option<Queues>,
}

static STATE: Mutex<State> = Mutex::new(State { node: Counts::ZERO, queues: None });

/// Never held across a call to the server.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

static PRIMARY: AtomicBool = AtomicBool::new(true);
static LOADING: AtomicBool = AtomicBool::new(false);

/// Jobs enter here. A replica, or a load, repeats what was decided: a script of the replication link must not be renamed,
/// since no module may run one there that writes.
pub fn decides() -> bool {
    PRIMARY.load(Ordering::Relaxed) && !LOADING.load(Ordering::Relaxed)
}

/// The node's part in replication, where no event has told it.
pub fn set_primary(primary: bool) {
    PRIMARY.store(primary, Ordering::Relaxed);
}

/// What happened to one script.
pub fn count(db: i32, queue: &QueueName, events: &[Event]) {
    let mut state = state();
    events.iter().for_each(|event| state.node.add(*event));
    let queues = state.queues.get_or_insert_default();
    queues.at(db, queue, |of| events.iter().for_each(|event| of.scripts.add(*event)));
}

/// What a policy said about a job for this queue, whatever the job came by.
pub fn verdict(db: i32, queue: &QueueName, policy: &str, outcome: Outcome) {
    state().queues.get_or_insert_default().at(db, queue, |of| of.verdict(policy, outcome));
}

/// An add by its keys, of which `first` is one, whose arguments say nothing that we know. No queue: its name is none.
pub fn unreadable(db: i32, queue: Option<&QueueName>, first: &[u8]) {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    match queue {
        Some(queue) => count(db, queue, &[Event::Unreadable]),
        None => state().node.add(Event::Unreadable),
    }
    let now = now_ms();
    if now.abs_diff(LAST_MS.load(Ordering::Relaxed)) >= QUIET_MS {
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
pub fn of(db: i32, queue: &QueueName) -> OfQueue {
    state().queues.as_ref().and_then(|queues| queues.get(db, queue)).cloned().unwrap_or_default()
}

/// Queues that are counted one by one.
pub fn queues() -> u64 {
    state().queues.as_ref().map_or(0, Queues::len) as u64
}

/// The queue is gone.
pub fn forget(db: i32, queue: &QueueName) {
    if let Some(queues) = &mut state().queues {
        queues.forget(db, queue);
    }
}

pub fn on_change(change: Change) {
    match change {
        Change::Primary(primary) => set_primary(primary),
        Change::Loading => LOADING.store(true, Ordering::Relaxed),
        Change::Loaded => LOADING.store(false, Ordering::Relaxed),
        Change::Flushed(_) | Change::Swapped(..) | Change::SlotsMoved => {}
    }
    if let Some(queues) = &mut state().queues {
        queues.on_change(change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> QueueName {
        QueueName::parse(text.as_bytes()).expect("a name")
    }

    fn guarded(queues: &Queues, db: i32, queue: &str) -> u64 {
        queues.get(db, &name(queue)).map_or(0, |of| of.scripts.guarded)
    }

    #[test]
    fn many_names_take_no_more_room_and_a_busy_queue_stays() {
        let mut queues = Queues::default();
        for n in 0..5 * GENERATION {
            queues.at(0, &name(&format!("bull:{n}")), |of| of.scripts.add(Event::Guarded));
            if n % 1000 == 0 {
                queues.at(0, &name("bull:busy"), |of| of.scripts.add(Event::Guarded));
            }
            assert!(queues.len() <= 2 * GENERATION);
        }
        assert_eq!(guarded(&queues, 0, "bull:busy"), (5 * GENERATION).div_ceil(1000) as u64);
        assert_eq!(guarded(&queues, 0, "bull:0"), 0);
        assert_eq!(guarded(&queues, 0, &format!("bull:{}", 5 * GENERATION - 1)), 1);
    }

    #[test]
    fn counts_go_with_their_queue_and_database() {
        let mut queues = Queues::default();
        for (db, queue) in [(0, "bull:a"), (0, "bull:b"), (1, "bull:a"), (2, "bull:c")] {
            queues.at(db, &name(queue), |of| of.scripts.add(Event::Guarded));
        }
        queues.old = std::mem::take(&mut queues.young);
        queues.count = 0;
        queues.at(0, &name("bull:b"), |of| of.scripts.add(Event::Guarded));
        queues.forget(0, &name("bull:a"));
        assert_eq!([guarded(&queues, 0, "bull:a"), guarded(&queues, 0, "bull:b")], [0, 2]);
        queues.on_change(Change::Swapped(0, 2));
        assert_eq!([guarded(&queues, 2, "bull:b"), guarded(&queues, 0, "bull:c")], [2, 1]);
        assert_eq!(guarded(&queues, 0, "bull:b"), 0);
        queues.on_change(Change::Flushed(Some(2)));
        assert_eq!([guarded(&queues, 2, "bull:b"), guarded(&queues, 1, "bull:a")], [0, 1]);
        assert_eq!(queues.len(), 2);
        queues.on_change(Change::Flushed(None));
        assert_eq!(queues.len(), 0);
    }

    #[test]
    fn verdicts_by_policy_are_bounded() {
        let mut of = OfQueue::default();
        for outcome in [Outcome::Rejected, Outcome::Rejected, Outcome::Deferred, Outcome::Displaced, Outcome::Observed]
        {
            of.verdict("busy", outcome);
        }
        of.verdict("busy", Outcome::Admitted);
        let expected = Verdicts { rejected: 2, deferred: 1, displaced: 1, observed: 1 };
        assert_eq!((of.verdicts, of.policies["busy"]), (expected, expected));
        for n in 0..100 {
            of.verdict(&format!("p{n}"), Outcome::Rejected);
        }
        assert_eq!((of.policies.len(), of.policies["busy"]), (MAX_POLICIES, expected));
        assert!(of.policies.contains_key("p99"));
        assert_eq!(of.verdicts.rejected, 102);
    }
}

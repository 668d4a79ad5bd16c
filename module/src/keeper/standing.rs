//! How each queue stands, without reading at each question what has not changed.
//!
//! What was read of a queue holds until an entry of its events, a command of ours or a change of its `meta` tells of a
//! change, or a state that held jobs holds another number of them. That number is looked at once a second: BullMQ moves and
//! removes some jobs without a word (`clean`, `changePriority`), but none of its scripts fills an empty state so. For what
//! else may happen to keys, `survey` reads the queues at rest anew as well, within [`Net`]. Reads only.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::by_queue::ByQueue;
use super::rates;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::stats::{Counts, waiting_since};
use crate::queue::store::{Kind, Store};
use crate::redis::Context;
use crate::redis::store::LiveStore;

/// Queues that are remembered; further ones are read at each question.
const MAX_QUEUES: usize = 20_000;
/// So long what was seen of a queue is good where nothing tells of a change; `survey` comes by once a second.
const LATELY: Duration = Duration::from_millis(1200);

/// What is known of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    pub counts: Counts,
    /// Since when the oldest waiting job has been due, Unix milliseconds; None where none waits.
    pub waiting_since: Option<f64>,
}

#[derive(Clone, Copy)]
struct Known {
    standing: Standing,
    checked: Instant,
}

struct State {
    known: ByQueue<Known>,
    changed: Vec<(i32, QueueName)>,
}

static STATE: Mutex<State> = Mutex::new(State { known: ByQueue::new(), changed: Vec::new() });

/// Never held across a call to the server.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is remembered of a queue, where nothing has told of a change. `stirred`: something has.
fn remembered(db: i32, queue: &QueueName, stirred: bool) -> Option<Known> {
    if stirred { None } else { state().known.get(db, queue).copied() }
}

/// A queue of the context's database as it stands now; None where it does not exist. `stirred` is what
/// `rates::take_stirred` has said of it.
pub fn now(context: Context, queue: &QueueName, stirred: bool) -> Option<Standing> {
    let (store, db) = (LiveStore(context), context.db());
    match remembered(db, queue, stirred) {
        Some(known) if holds(&store, queue, &known.standing.counts) => {
            let standing = known.standing;
            if let Some(known) = state().known.get_mut(db, queue) {
                known.checked = Instant::now();
            }
            Some(standing)
        }
        _ => read(&store, db, queue, None),
    }
}

/// The same, as it stood a second ago at most where nothing has told of a change since.
pub fn lately(context: Context, queue: &QueueName) -> Option<Standing> {
    let db = context.db();
    let stirred = rates::take_stirred(db, queue);
    match remembered(db, queue, stirred) {
        Some(known) if known.checked.elapsed() < LATELY => Some(known.standing),
        _ => now(context, queue, stirred),
    }
}

/// The same, read anew.
pub fn anew(context: Context, queue: &QueueName, stirred: bool) -> Option<Standing> {
    let db = context.db();
    let known = remembered(db, queue, stirred).map(|known| known.standing);
    read(&LiveStore(context), db, queue, known)
}

/// The states that held jobs hold as many.
fn holds(store: &impl Store, queue: &QueueName, counts: &Counts) -> bool {
    let mut held = counts.by_suffix().into_iter().filter(|(_, jobs)| *jobs > 0).peekable();
    if held.peek().is_none() {
        return store.kind(&queue.key("meta")) == Kind::Hash;
    }
    held.all(|(suffix, jobs)| store.len(&queue.key(suffix)) == jobs)
}

fn read(store: &impl Store, db: i32, queue: &QueueName, known: Option<Standing>) -> Option<Standing> {
    let keys = QueueKeys::of(queue);
    if store.kind(&keys.meta) != Kind::Hash {
        return None;
    }
    let counts = Counts::read(store, &keys);
    let waiting_since = waiting_since(store, queue, &keys).unwrap_or_default();
    let standing = Standing { counts, waiting_since };
    let mut state = state();
    if state.known.len() < MAX_QUEUES || state.known.get(db, queue).is_some() {
        state.known.insert(db, queue.clone(), Known { standing, checked: Instant::now() });
    }
    if known != Some(standing) && state.changed.len() < MAX_QUEUES {
        state.changed.push((db, queue.clone()));
    }
    Some(standing)
}

/// Takes the queues that have changed since the last question, some of them more than once.
pub fn take_changed() -> Vec<(i32, QueueName)> {
    std::mem::take(&mut state().changed)
}

/// The queue is gone, or was changed by something that adds no event.
pub fn forget(db: i32, queue: &QueueName) {
    state().known.remove(db, queue);
}

/// Databases were emptied, loaded or swapped, or this node's part has changed.
pub fn on_change() {
    let mut state = state();
    state.known.clear();
    state.changed.clear();
}

/// Goes round the queues at rest, within a part of the time.
pub struct Net {
    share: f64,
    /// The queue read last in this round.
    behind: Option<(i32, QueueName)>,
    left: Duration,
    since: Option<Instant>,
}

impl Net {
    /// Most that may be saved up.
    const SAVED: Duration = Duration::from_secs(2);

    pub const fn new(share: f64) -> Self {
        Self { share, behind: None, left: Duration::ZERO, since: None }
    }

    /// Time has passed.
    pub fn save(&mut self, now: Instant) {
        let passed = self.since.replace(now).map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.left = (self.left + passed.mul_f64(self.share)).min(Self::SAVED.mul_f64(self.share));
    }

    /// There is time for a queue.
    pub fn has_time(&self) -> bool {
        !self.left.is_zero()
    }

    /// The queue whose turn is over, where the round has begun.
    pub const fn behind(&self) -> Option<&(i32, QueueName)> {
        self.behind.as_ref()
    }

    /// It is this queue's turn.
    pub fn takes(&self, queue: &(i32, QueueName)) -> bool {
        self.has_time() && self.behind.as_ref().is_none_or(|behind| queue > behind)
    }

    /// This queue was read.
    pub fn took(&mut self, queue: &(i32, QueueName), took: Duration) {
        self.left = self.left.saturating_sub(took);
        self.behind = Some(queue.clone());
    }

    /// The last queue was passed.
    pub fn wrap(&mut self) {
        if self.has_time() {
            self.behind = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_net_takes_every_queue_in_turn_within_its_share() {
        let queues: Vec<_> =
            (0..100).map(|at| (0, QueueName::parse(format!("bull:q{at:02}").as_bytes()).expect("a name"))).collect();
        let start = Instant::now();
        let mut net = Net::new(0.001);
        net.save(start);
        let mut reads = vec![0u32; queues.len()];
        for second in 1..=20 {
            net.save(start + Duration::from_secs(second));
            for (queue, reads) in queues.iter().zip(&mut reads) {
                if net.takes(queue) {
                    net.took(queue, Duration::from_micros(50));
                    *reads += 1;
                }
            }
            net.wrap();
        }
        // A thousandth of 20 s is 400 reads of 50 µs: four of each queue, one less at most for turns that begin anew.
        assert!(reads.iter().all(|&reads| (3..=4).contains(&reads)), "{reads:?}");
    }

    #[test]
    fn time_is_not_saved_for_long() {
        let start = Instant::now();
        let mut net = Net::new(0.001);
        net.save(start);
        net.save(start + Duration::from_secs(3600));
        assert_eq!(net.left, Duration::from_millis(2));
    }
}

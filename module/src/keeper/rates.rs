//! How fast jobs enter, start, finish and fail, by queue: totals, rates, wait and run times.
//!
//! The source is BullMQ's own event stream. Each of its scripts adds an entry at each change of state, also where the
//! job is gone at once (`removeOnComplete: true`), and the server tells of it within the script. Only the newest entry
//! is read. Replicas see the same entries: they keep rates warm for a failover and count no totals, so that a sum over
//! nodes counts each job once. Writes no key.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use foldhash::fast::RandomState;

use super::queues;
use super::starts::Starts;
use crate::config;
use crate::metrics::times::{Recent, Times};
use crate::metrics::window::{Hour, Minute};
use crate::queue::due::stored_delay_ms;
use crate::queue::fields::Known;
use crate::queue::keys::QueueName;
use crate::queue::script::Stores;
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::events::{self, Change};
use crate::redis::store::LiveStore;
use crate::redis::stream::{Entry, Fresh};

/// Queues that are followed; the events of further ones are not counted.
const MAX_QUEUES: usize = 20_000;
/// An entry whose id is older was not written now: it was migrated or replayed.
const FRESH_MS: u64 = 10_000;

/// What policies see of a queue's pace.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Jobs a second, over the last minute.
    pub added_per_sec: f64,
    pub failed_last_hour: u64,
}

/// Counts since the queue was first seen on this node as a primary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub added: u64,
    pub completed: u64,
    pub failed: u64,
    /// Times that a job was taken back from a worker that had gone silent.
    pub stalled: u64,
}

/// A queue's numbers at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Picture {
    pub totals: Totals,
    pub added_per_sec: f64,
    pub completed_per_sec: f64,
    pub failed_per_sec: f64,
    pub failed_last_hour: u64,
    /// From when a job was due to its first start: since the start of the node, and lately.
    pub wait: (Times, Times),
    /// From a job's last start to its end.
    pub run: (Times, Times),
}

/// What happened in a queue, or in several while they were not shown one by one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Happened {
    pub totals: Totals,
    pub wait: Times,
    pub run: Times,
}

#[derive(Default)]
struct Followed {
    /// It has series of its own; otherwise it also counts among the others.
    shown: bool,
    /// Something happened since `take_stirred`.
    stirred: bool,
    totals: Totals,
    added: Minute,
    completed: Minute,
    failed: Minute,
    failed_hour: Hour,
    wait: Recent,
    run: Recent,
}

/// Queues by name.
type Queues = HashMap<Box<[u8]>, Box<Followed>, RandomState>;

struct State {
    databases: Vec<(i32, Queues)>,
    queues: usize,
    starts: Starts,
    /// Queues that have series of their own; a place is kept until the queue is gone.
    shown: BTreeSet<(i32, Box<[u8]>)>,
    others: Happened,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);
static PRIMARY: AtomicBool = AtomicBool::new(true);
static LOADING: AtomicBool = AtomicBool::new(false);

/// Never held across a call to the server.
fn with<T>(work: impl FnOnce(&mut State) -> T) -> T {
    let mut state: MutexGuard<'_, Option<State>> = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    work(state.get_or_insert_with(|| State {
        databases: Vec::new(),
        queues: 0,
        starts: Starts::default(),
        shown: BTreeSet::new(),
        others: Happened::default(),
    }))
}

impl State {
    fn database(&mut self, db: i32) -> &mut Queues {
        let at = self.databases.iter().position(|(of, _)| *of == db).unwrap_or_else(|| {
            self.databases.push((db, Queues::default()));
            self.databases.len() - 1
        });
        &mut self.databases[at].1
    }

    fn get(&self, db: i32, queue: &[u8]) -> Option<&Followed> {
        self.databases.iter().find(|(of, _)| *of == db)?.1.get(queue).map(Box::as_ref)
    }

    /// A queue, and where it counts besides.
    fn get_mut(&mut self, db: i32, queue: &[u8]) -> Option<(&mut Followed, Option<&mut Happened>)> {
        let Self { databases, others, .. } = self;
        let followed = databases.iter_mut().find(|(of, _)| *of == db)?.1.get_mut(queue).map(Box::as_mut)?;
        let others = (!followed.shown).then_some(others);
        Some((followed, others))
    }

    /// Notes that something happens in the queue. False where it is not followed.
    fn stir(&mut self, db: i32, queue: &[u8]) -> bool {
        match self.get_mut(db, queue) {
            Some((followed, _)) => {
                followed.stirred = true;
                true
            }
            None => false,
        }
    }

    fn follow(&mut self, db: i32, queue: &[u8]) {
        if self.queues < MAX_QUEUES {
            let shown = self.show(db, queue);
            let fresh = Box::new(Followed { shown, stirred: true, ..Followed::default() });
            if self.database(db).insert(queue.into(), fresh).is_none() {
                self.queues += 1;
            }
        }
    }

    /// Gives the queue a place among those shown, where there is one.
    fn show(&mut self, db: i32, queue: &[u8]) -> bool {
        let entry = (db, queue.into());
        self.shown.contains(&entry) || (self.shown.len() < config::metrics_queues() && self.shown.insert(entry))
    }

    fn recount(&mut self) {
        self.databases.retain(|(_, queues)| !queues.is_empty());
        self.queues = self.databases.iter().map(|(_, queues)| queues.len()).sum();
    }
}

impl Followed {
    fn count(&mut self, others: Option<&mut Happened>, which: fn(&mut Totals) -> &mut u64, counted: bool) {
        *which(&mut self.totals) += u64::from(counted);
        if let Some(others) = others {
            *which(&mut others.totals) += u64::from(counted);
        }
    }
}

/// The pace of a queue in database `db`, from memory.
pub fn of(db: i32, queue: &QueueName) -> Pace {
    let now = now_ms();
    with(|state| {
        state.get(db, queue.as_bytes()).map_or(Pace::default(), |followed| Pace {
            added_per_sec: followed.added.per_second(now),
            failed_last_hour: followed.failed_hour.sum(now),
        })
    })
}

/// What was counted of a queue, from memory.
pub fn totals(db: i32, queue: &QueueName) -> Totals {
    with(|state| state.get(db, queue.as_bytes()).map_or(Totals::default(), |followed| followed.totals))
}

/// All numbers of a queue, from memory; zeroes where nothing happened yet.
pub fn picture(db: i32, queue: &QueueName) -> Picture {
    let now = now_ms();
    with(|state| {
        state.get(db, queue.as_bytes()).map_or(Picture::default(), |followed| Picture {
            totals: followed.totals,
            added_per_sec: followed.added.per_second(now),
            completed_per_sec: followed.completed.per_second(now),
            failed_per_sec: followed.failed.per_second(now),
            failed_last_hour: followed.failed_hour.sum(now),
            wait: (followed.wait.total, followed.wait.lately(now)),
            run: (followed.run.total, followed.run.lately(now)),
        })
    })
}

/// Whether something happened in the queue since the last question. True where that is not known: too many queues are
/// followed.
pub fn take_stirred(db: i32, queue: &QueueName) -> bool {
    with(|state| match state.get_mut(db, queue.as_bytes()) {
        Some((followed, _)) => std::mem::take(&mut followed.stirred),
        None => state.queues >= MAX_QUEUES,
    })
}

/// What a walk over the queues asks of each, in one look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Glance {
    /// As [`take_stirred`].
    pub stirred: bool,
    /// It has series of its own, from now on at the latest.
    pub shown: bool,
    pub failed_last_hour: u64,
}

pub fn glance(db: i32, queue: &QueueName) -> Glance {
    let now = now_ms();
    with(|state| {
        let room = state.shown.len() < config::metrics_queues();
        let full = state.queues >= MAX_QUEUES;
        if let Some((followed, _)) = state.get_mut(db, queue.as_bytes()) {
            let stirred = std::mem::take(&mut followed.stirred);
            let failed_last_hour = followed.failed_hour.sum(now);
            if followed.shown || !room {
                return Glance { stirred, shown: followed.shown, failed_last_hour };
            }
            followed.shown = true;
            state.shown.insert((db, queue.as_bytes().into()));
            return Glance { stirred, shown: true, failed_last_hour };
        }
        Glance { stirred: full, shown: state.show(db, queue.as_bytes()), failed_last_hour: 0 }
    })
}

/// Takes places away where the setting has become lower.
pub fn keep_shown_within(limit: usize) {
    with(|state| {
        while state.shown.len() > limit {
            let Some((db, queue)) = state.shown.pop_last() else { break };
            if let Some((followed, _)) = state.get_mut(db, &queue) {
                followed.shown = false;
            }
        }
    });
}

/// What happened in a queue since the node's start, from memory.
pub fn happened(db: i32, queue: &QueueName) -> Happened {
    with(|state| {
        state.get(db, queue.as_bytes()).map_or(Happened::default(), |followed| Happened {
            totals: followed.totals,
            wait: followed.wait.total,
            run: followed.run.total,
        })
    })
}

/// What happened in queues without series of their own.
pub fn others() -> Happened {
    with(|state| state.others)
}

/// Queues followed, and running jobs whose start is remembered.
pub fn sizes() -> (u64, u64) {
    with(|state| (state.queues as u64, state.starts.len() as u64))
}

/// How far the add script of the guard is that runs now.
static ADDING: AtomicU8 = AtomicU8::new(Adding::No as u8);

#[repr(u8)]
enum Adding {
    No,
    /// It has not told of its job yet.
    Begun,
    /// It has told: what else it tells counts for nothing here, and need not be read.
    Told,
}

fn adding() -> u8 {
    ADDING.load(Ordering::Relaxed)
}

/// Runs an add script of BullMQ, which adds one job at most, to this queue.
pub fn while_adding<T>(context: Context, queue: &QueueName, stores: Stores, run: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            ADDING.store(Adding::No as u8, Ordering::Relaxed);
        }
    }
    match stores {
        // Its first entry is that of its job, whatever stands in it.
        Stores::Always => {
            let (ran, told) = events::noting(run);
            if told {
                count_added(context, queue.as_bytes(), 1);
            }
            ran
        }
        Stores::Perhaps => {
            ADDING.store(Adding::Begun as u8, Ordering::Relaxed);
            let _reset = Reset;
            run()
        }
    }
}

/// An entry was added to the stream of events of `queue`.
pub fn on_entry(queue: &[u8], stream: Fresh) {
    if adding() == Adding::Told as u8 || LOADING.load(Ordering::Relaxed) {
        return;
    }
    let db = stream.context().db();
    if !with(|state| state.stir(db, queue)) && !begin(db, queue) {
        return;
    }
    let Some(entry) = stream.newest(has_job_of_interest) else { return };
    let now = now_ms();
    if now.abs_diff(entry.ms) <= FRESH_MS {
        count(stream.context(), db, queue, &entry, now);
    }
}

/// Follows a queue that is one. False: it is none, or there are too many.
fn begin(db: i32, queue: &[u8]) -> bool {
    queues::knows(db, queue)
        && with(|state| {
            state.follow(db, queue);
            state.get(db, queue).is_some()
        })
}

/// `jobs` were added to the queue by a command of ours, which no event told of.
pub fn added(context: Context, queue: &QueueName, jobs: u32) {
    count_added(context, queue.as_bytes(), jobs);
}

fn count_added(context: Context, queue: &[u8], jobs: u32) {
    let (db, now) = (context.db(), now_ms());
    let counted = if PRIMARY.load(Ordering::Relaxed) { jobs } else { 0 };
    let count = || {
        with(|state| {
            let (followed, others) = state.get_mut(db, queue)?;
            followed.stirred = true;
            followed.totals.added += u64::from(counted);
            if let Some(others) = others {
                others.totals.added += u64::from(counted);
            }
            followed.added.add(now, jobs);
            Some(())
        })
    };
    if count().is_none() && begin(db, queue) {
        count();
    }
}

fn has_job_of_interest(event: &[u8]) -> bool {
    matches!(event, b"active" | b"completed" | b"failed")
}

fn count(context: Context, db: i32, queue: &[u8], entry: &Entry, now: u64) {
    let counted = PRIMARY.load(Ordering::Relaxed);
    let event = entry.first.as_bytes();
    let job = entry.second.as_ref().map_or(&b""[..], |id| id.as_bytes());
    match event {
        b"added" => {
            if adding() == Adding::Begun as u8 {
                ADDING.store(Adding::Told as u8, Ordering::Relaxed);
            }
            count_added(context, queue, 1);
        }
        b"stalled" => with(|state| {
            let Some((followed, others)) = state.get_mut(db, queue) else { return };
            followed.count(others, |totals| &mut totals.stalled, counted);
        }),
        b"active" => {
            let waited = first_wait_us(context, queue, job, now);
            with(|state| {
                let key = state.starts.key(db, queue, job);
                state.starts.put(key, Instant::now());
                if let (Some(waited), Some((followed, others))) = (waited, state.get_mut(db, queue)) {
                    followed.wait.add(now, waited, counted);
                    if let Some(others) = others.filter(|_| counted) {
                        others.wait.add(waited);
                    }
                }
            });
        }
        b"completed" | b"failed" => {
            let started = with(|state| {
                let key = state.starts.key(db, queue, job);
                state.starts.take(key)
            });
            let ran = match started {
                Some(start) => Some(start.elapsed().as_micros() as u64),
                // Started before the module was there: by the worker's own clock, where the job still exists.
                None => since_us(context, queue, job, Known::ProcessedOn, now),
            };
            with(|state| {
                let Some((followed, mut others)) = state.get_mut(db, queue) else { return };
                if event == b"completed" {
                    followed.count(others.as_deref_mut(), |totals| &mut totals.completed, counted);
                    followed.completed.add(now, 1);
                } else {
                    followed.count(others.as_deref_mut(), |totals| &mut totals.failed, counted);
                    followed.failed.add(now, 1);
                    followed.failed_hour.add(now, 1);
                }
                if let Some(ran) = ran {
                    followed.run.add(now, ran, counted);
                    if let Some(others) = others.filter(|_| counted) {
                        others.run.add(ran);
                    }
                }
            });
        }
        _ => {}
    }
}

fn job_key(queue: &[u8], job: &[u8]) -> Vec<u8> {
    [queue, b":", job].concat()
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// How long a job was due before it starts for the first time; None for later starts. BullMQ adds the event before it
/// writes to the job (prepareJobForProcessing).
fn first_wait_us(context: Context, queue: &[u8], job: &[u8], now: u64) -> Option<u64> {
    let fields = [Known::Timestamp, Known::Opts, Known::AttemptsStarted, Known::AttemptsMade];
    let [timestamp, opts, started, made] = LiveStore(context).fields(&job_key(queue, job), fields)?;
    if [started, made].into_iter().flatten().any(|count| count.as_bytes() != b"0") {
        return None;
    }
    let delay = opts.map_or(0.0, |opts| stored_delay_ms(opts.as_bytes()));
    let due = number(timestamp?.as_bytes())? + delay;
    Some(((now as f64 - due).max(0.0) * 1000.0) as u64)
}

fn since_us(context: Context, queue: &[u8], job: &[u8], field: Known, now: u64) -> Option<u64> {
    let [since] = LiveStore(context).fields(&job_key(queue, job), [field])?;
    Some(((now as f64 - number(since?.as_bytes())?).max(0.0) * 1000.0) as u64)
}

/// The queue is gone from this node.
pub fn forget(db: i32, queue: &[u8]) {
    with(|state| {
        state.shown.remove(&(db, queue.into()));
        if state.database(db).remove(queue).is_some() {
            state.recount();
        }
    });
}

/// What the timer found: events of roles may have come before the module was loaded.
pub fn set_primary(primary: bool) {
    PRIMARY.store(primary, Ordering::Relaxed);
}

pub fn on_change(change: Change) {
    match change {
        Change::Primary(primary) => set_primary(primary),
        Change::Loading => LOADING.store(true, Ordering::Relaxed),
        Change::Loaded => LOADING.store(false, Ordering::Relaxed),
        Change::Flushed(of) => with(|state| {
            state.databases.retain(|(db, _)| of.is_some_and(|of| of != *db));
            state.shown.retain(|(db, _)| of.is_some_and(|of| of != *db));
            state.recount();
        }),
        Change::Swapped(first, second) => with(|state| {
            let swapped = |db| match db {
                _ if db == first => second,
                _ if db == second => first,
                _ => db,
            };
            state.databases.iter_mut().for_each(|(db, _)| *db = swapped(*db));
            state.shown = std::mem::take(&mut state.shown).into_iter().map(|(db, name)| (swapped(db), name)).collect();
        }),
        Change::SlotsMoved => {}
    }
}

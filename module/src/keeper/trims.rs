//! Trims that outlast their command, and those that no client asked for: each turn of the timer gives one a slice.
//!
//! A client's trim goes first and at full pace. The others share `bull.background-cpu-percent` of a core. A queue has
//! one trim without a client at a time. No slice on a replica, while loading or while clients are paused; what a node
//! had begun when it became a replica is dropped there, and its clients are told.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::queue::error::Result;
use crate::queue::keys::QueueName;
use crate::queue::parent::Parent;
use crate::queue::remove::Absent;
use crate::queue::trim::{Around, Criteria, Mode, Tally, Trim, Weigh};
use crate::redis::block::Waiting;
use crate::redis::context::{Access, User, now_ms};
use crate::redis::events::Change;
use crate::redis::log::{Level, log};
use crate::redis::reply::{Reply, map};
use crate::redis::store::LiveStore;
use crate::redis::{Context, timer};
use crate::text::short;
use crate::{config, metrics};

use super::sub_keys::{self, Part};
use super::{background, standing};

/// Queues whose last trim is remembered.
const MAX_QUEUES: usize = 100_000;
/// Trims without a client that may wait for their turn.
const MAX_UNASKED: usize = 10_000;

/// Who wants a trim that no client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An action of a policy's tick.
    Policy,
    /// The limits of the queue's profile.
    Retention,
    Emergency,
}

impl Reason {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Retention => "retention",
            Self::Emergency => "emergency",
        }
    }
}

/// What became of the wish for a trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    Begun,
    /// One without a client runs on this queue already, or too many wait: ask again later.
    Busy,
}

/// The last trim of a queue on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// When it ended, Unix milliseconds.
    pub at_ms: u64,
    pub tally: Tally,
    /// None: a client's BULL.TRIM.
    pub reason: Option<Reason>,
    /// It ended with an error, which the log has.
    pub failed: bool,
}

/// Whose trim it is.
enum Owner {
    Client {
        waiting: Waiting,
        /// Whose rights count; None where the server has no user for the client.
        user: Option<User>,
    },
    Nobody(Reason),
}

struct Job {
    trim: Trim,
    db: i32,
    owner: Owner,
}

#[derive(Default)]
struct State {
    asked: VecDeque<Job>,
    unasked: VecDeque<Job>,
    /// Queues with a trim without a client, the one at work included.
    busy: HashSet<(i32, QueueName)>,
    last: HashMap<(i32, QueueName), Last>,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

/// Never held across a call to the server.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Trims under way, those that wait for their turn included.
pub fn running() -> u64 {
    let state = state();
    (state.asked.len() + state.unasked.len()) as u64
}

/// Whether a trim without a client runs or waits on this queue.
pub fn is_running(db: i32, queue: &QueueName) -> bool {
    state().busy.contains(&(db, queue.clone()))
}

/// The last trim of a queue that ended on this node.
pub fn last(db: i32, queue: &QueueName) -> Option<Last> {
    state().last.get(&(db, queue.clone())).copied()
}

/// Goes on with a client's trim while the client waits.
pub fn push(context: Context, trim: Trim, waiting: Waiting, user: Option<User>) {
    state().asked.push_back(Job { trim, db: context.db(), owner: Owner::Client { waiting, user } });
    timer::hurry(context);
}

/// Begins a trim that no client waits for, in the context's database. Nothing is written here: the timer works.
/// Errors: a key of the queue holds a wrong type.
pub fn start(context: Context, queue: &QueueName, criteria: Criteria, reason: Reason) -> Result<Started> {
    let db = context.db();
    if is_running(db, queue) || state().unasked.len() >= MAX_UNASKED {
        return Ok(Started::Busy);
    }
    let trim = Trim::new(&LiveStore(context), queue.clone(), criteria, Mode::Remove)?;
    let mut state = state();
    state.busy.insert((db, queue.clone()));
    state.unasked.push_back(Job { trim, db, owner: Owner::Nobody(reason) });
    Ok(Started::Begun)
}

/// One slice, of a client's trim or of some that no client waits for.
pub fn slice(context: Context) {
    if !context.may_write_unasked() {
        return;
    }
    let asked = state().asked.pop_front();
    if let Some(job) = asked {
        if let Some(job) = work(context, job) {
            state().asked.push_back(job);
        }
    } else if background::wait_ms() == 0 {
        let (start, length) = (Instant::now(), config::slice());
        let mut worked = false;
        // Small trims share a slice; a long one is the last of its turn.
        while start.elapsed() < length / 2 {
            let Some(job) = state().unasked.pop_front() else { break };
            worked = true;
            if let Some(job) = work(context, job) {
                state().unasked.push_back(job);
                break;
            }
        }
        if worked {
            background::spent(start.elapsed());
        }
    }
}

/// In how many milliseconds the next slice is due; None where no trim waits, or none may work.
pub fn next(context: Context) -> Option<u64> {
    if !context.may_write_unasked() {
        return None;
    }
    let state = state();
    match (state.asked.is_empty(), state.unasked.is_empty()) {
        (false, _) => Some(1),
        (true, false) => Some(background::wait_ms().max(1)),
        (true, true) => None,
    }
}

/// A slice of one trim, which comes back where it is not done.
fn work(context: Context, mut job: Job) -> Option<Job> {
    let before = context.db();
    let result = if context.select(job.db) {
        let user = match &job.owner {
            Owner::Client { user, .. } => user.as_ref(),
            Owner::Nobody(_) => None,
        };
        run_slice(context, &mut job.trim, user).map_err(crate::error::Error::from)
    } else {
        Err(crate::error::Error::bad(format!("database {} is gone; the trim has ended", job.db)))
    };
    let left = match result {
        Ok(false) => Some(job),
        Ok(true) => {
            end(context, job);
            None
        }
        Err(error) => {
            fail(job, error);
            None
        }
    };
    context.select(before);
    left
}

fn end(context: Context, job: Job) {
    match job.owner {
        Owner::Client { waiting, .. } => waiting.answer(report(context, &job.trim, true)),
        Owner::Nobody(reason) => {
            announce(context, &job.trim);
            state().busy.remove(&(job.db, job.trim.queue().clone()));
            remember(job.db, job.trim.queue(), job.trim.tally(), Some(reason), false);
        }
    }
}

fn fail(job: Job, error: crate::error::Error) {
    match job.owner {
        Owner::Client { waiting, .. } => waiting.answer(error.into()),
        Owner::Nobody(reason) => {
            state().busy.remove(&(job.db, job.trim.queue().clone()));
            remember(job.db, job.trim.queue(), job.trim.tally(), Some(reason), true);
            complain(job.trim.queue(), &error.to_string());
        }
    }
}

/// A trim of the retention could not begin: logged, and remembered like one that failed.
pub fn failed(db: i32, queue: &QueueName, text: &str) {
    remember(db, queue, Tally::default(), Some(Reason::Retention), true);
    complain(queue, text);
}

/// Counts what a trim without a client met, and logs it once a second at most.
fn complain(queue: &QueueName, text: &str) {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    metrics::FAILED_TRIMS.add(1);
    let now = now_ms();
    if now.abs_diff(LAST_MS.swap(now, Ordering::Relaxed)) >= 1000 {
        let queue = short(queue.as_bytes(), 128);
        log(Level::Warning, &format!("bull: the trim of {queue} has ended early: {text}"));
    }
}

fn remember(db: i32, queue: &QueueName, tally: Tally, reason: Option<Reason>, failed: bool) {
    let mut state = state();
    let name = (db, queue.clone());
    if state.last.len() < MAX_QUEUES || state.last.contains_key(&name) {
        state.last.insert(name, Last { at_ms: now_ms(), tally, reason, failed });
    }
}

/// What a slice asks of this node.
pub struct Here<'a> {
    start: Instant,
    length: std::time::Duration,
    user: Option<&'a User>,
}

impl<'a> Here<'a> {
    /// A slice that begins now, with the rights of `user` where there is one.
    pub fn now(user: Option<&'a User>) -> Self {
        Self { start: Instant::now(), length: config::slice(), user }
    }

    pub fn elapsed_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }
}

impl Here<'_> {
    /// The rights cover these keys.
    pub fn may<'k>(&self, keys: impl IntoIterator<Item = &'k [u8]>, access: Access) -> bool {
        self.user.is_none_or(|user| user.first_denied(keys, access) == Ok(None))
    }
}

impl Around for Here<'_> {
    fn expired(&mut self) -> bool {
        self.start.elapsed() >= self.length
    }

    fn may_release(&mut self, parent: &Parent) -> bool {
        let Some(user) = self.user else { return true };
        user.first_denied(parent.touched().iter().map(Vec::as_slice), Access::Write) == Ok(None)
    }
}

/// What a slice of a trim asks besides: the bytes of its queue.
struct Weighing<'a, 'b> {
    here: &'a mut Here<'b>,
    context: Context,
    queue: QueueName,
}

impl Around for Weighing<'_, '_> {
    fn expired(&mut self) -> bool {
        self.here.expired()
    }

    fn may_release(&mut self, parent: &Parent) -> bool {
        self.here.may_release(parent)
    }
}

impl Weigh for Weighing<'_, '_> {
    fn queue_bytes(&mut self) -> Option<(u64, u64)> {
        let Self { here, context, queue } = self;
        super::sizes::for_trim(*context, queue, || here.expired())
    }

    fn absent(&mut self) -> Absent {
        // Locks are keys that expire.
        let locks = self.context.volatile_keys() == Some(0);
        let queue = self.queue.as_bytes();
        Absent {
            flows: !sub_keys::may_have(Part::Flow, queue),
            logs: !sub_keys::may_have(Part::Logs, queue),
            parents: !sub_keys::may_have_any(Part::Flow),
            locks,
        }
    }
}

/// Works for the length of a slice, with the rights of `user` where there is one. True when the trim is done.
pub fn run_slice(context: Context, trim: &mut Trim, user: Option<&User>) -> Result<bool> {
    let mut here = Here::now(user);
    let done = run_within(context, trim, &mut here);
    metrics::slice_took(here.elapsed_us());
    done
}

/// Works until the slice is over. True when the trim is done.
pub fn run_within(context: Context, trim: &mut Trim, here: &mut Here<'_>) -> Result<bool> {
    let before = trim.tally();
    let mut weighing = Weighing { here, context, queue: trim.queue().clone() };
    let done = trim.slice(&mut LiveStore(context), now_ms(), &mut weighing);
    if trim.mode() == Mode::Remove {
        let after = trim.tally();
        if after.jobs() > before.jobs() {
            standing::forget(context.db(), trim.queue());
        }
        metrics::TRIMMED_JOBS.add(after.jobs() - before.jobs());
        metrics::TRIMMED_BYTES.add(after.bytes.saturating_sub(before.bytes));
    }
    done
}

/// Tells QueueEvents of a trim that ran elsewhere and has ended, `failed` or not, and remembers it, in the context's
/// database.
pub fn ended(context: Context, trim: &Trim, reason: Reason, failed: bool) {
    announce(context, trim);
    remember(context.db(), trim.queue(), trim.tally(), Some(reason), failed);
}

fn announce(context: Context, trim: &Trim) {
    if let Err(error) = trim.announce(&mut LiveStore(context)) {
        metrics::late_error("trim", &error.to_string());
    }
}

/// The answer to BULL.TRIM, and the event that tells QueueEvents.
pub fn report(context: Context, trim: &Trim, done: bool) -> Reply {
    announce(context, trim);
    if trim.mode() == Mode::Remove {
        remember(context.db(), trim.queue(), trim.tally(), None, false);
    }
    let tally = trim.tally();
    map([
        ("examined", tally.examined.into()),
        ("completed", tally.completed.into()),
        ("failed", tally.failed.into()),
        ("waiting", tally.waiting.into()),
        ("events", tally.events.into()),
        ("kept", tally.kept.into()),
        ("bytes-freed", tally.bytes.into()),
        ("remaining", trim.remaining(&LiveStore(context)).unwrap_or(0).into()),
        ("done", Reply::Bool(done)),
    ])
}

/// A queue is no longer there.
pub fn forget(db: i32, queue: &QueueName) {
    state().last.remove(&(db, queue.clone()));
}

/// Databases that came or went, and this node's part.
pub fn on_change(change: Change) {
    let mut state = state();
    match change {
        Change::Primary(false) => {
            let asked = std::mem::take(&mut state.asked);
            state.unasked.clear();
            state.busy.clear();
            drop(state);
            for job in asked {
                let text = "READONLY this node became a replica in the middle of the trim; call the new primary";
                if let Owner::Client { waiting, .. } = job.owner {
                    waiting.answer(Reply::Error(text.into()));
                }
            }
        }
        Change::Flushed(None) => state.last.clear(),
        Change::Flushed(Some(db)) => state.last.retain(|(of, _), _| *of != db),
        Change::Swapped(first, second) => {
            let swapped = |db| match db {
                _ if db == first => second,
                _ if db == second => first,
                _ => db,
            };
            let State { asked, unasked, busy, last } = &mut *state;
            *busy = std::mem::take(busy).into_iter().map(|(db, name)| (swapped(db), name)).collect();
            asked.iter_mut().chain(unasked).for_each(|job| job.db = swapped(job.db));
            *last = std::mem::take(last).into_iter().map(|((db, name), one)| ((swapped(db), name), one)).collect();
        }
        Change::Primary(true) | Change::Loading | Change::Loaded | Change::SlotsMoved => {}
    }
}

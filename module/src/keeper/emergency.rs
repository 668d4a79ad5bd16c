//! The emergency run of this node: finished jobs, events and logs go, the least important queue first, until used memory
//! is below its target. One at a time, in slices of the timer, like a client's trim.
//!
//! Used memory is read anew after each piece of work, since it is the only thing that says when to stop. Nothing here
//! needs free memory: it works while Redis refuses writes. Unfinished jobs are never touched.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use wildmatch::WildMatch;

use super::trims::{self, Here, Reason};
use super::{profiles, queues};
use crate::queue::emergency::{COMPLETED_MS, FAILED_MS, LEAST_PORTION, Step, Work, next_portion};
use crate::queue::error::Result;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::logs::Logs;
use crate::queue::store::{Kind, Store};
use crate::queue::trim::{Around, Mode, Trim};
use crate::redis::block::Waiting;
use crate::redis::call::Effect;
use crate::redis::context::{Access, User, now_ms};
use crate::redis::events::Change;
use crate::redis::reply::{Reply, map};
use crate::redis::store::LiveStore;
use crate::redis::{Context, timer};
use crate::{config, metrics};

/// Priority of a queue that has none, as in the policy memory-budget.
const NO_PRIORITY: u32 = 3;
/// Queues named in a reply.
const SHOWN: usize = 100;
/// How far below its target a run goes, bytes: telling of it takes some again.
const MARGIN: u64 = 64 << 10;

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    pub mode: Mode,
    /// Share of maxmemory, percent.
    pub target: u64,
    /// Ages of the first step, milliseconds.
    pub completed_ms: u64,
    pub failed_ms: u64,
    /// Queues that it is about; None for all.
    pub pattern: Option<WildMatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Done,
    Stopped,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
        }
    }
}

/// A queue of the plan, and what went of it.
#[derive(Debug)]
struct Row {
    db: i32,
    queue: QueueName,
    priority: u32,
    /// Finished jobs when the plan was made.
    finished: u64,
    went: Went,
    /// A key of another type, or an error of the server: the queue is passed over.
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Went {
    completed: u64,
    failed: u64,
    events: u64,
    /// Jobs that lost their logs.
    logs: u64,
    job_bytes: u64,
    event_bytes: u64,
    log_bytes: u64,
}

impl Went {
    fn bytes(&self) -> u64 {
        self.job_bytes + self.event_bytes + self.log_bytes
    }
}

#[derive(Debug)]
enum Piece {
    Trim(Box<Trim>),
    Logs(Logs),
}

impl Piece {
    fn bytes(&self) -> u64 {
        match self {
            Self::Trim(trim) => trim.tally().bytes,
            Self::Logs(logs) => logs.tally().bytes,
        }
    }
}

/// A run.
pub struct Run {
    request: Request,
    user: Option<User>,
    /// Queues that were not looked at yet.
    survey: VecDeque<(i32, QueueName)>,
    rows: Vec<Row>,
    /// Position in [`Step::ALL`] and in `rows`.
    step: usize,
    at: usize,
    piece: Option<Piece>,
    state: State,
    /// Used memory at the start and now, and what it has to get below: None without maxmemory.
    before: u64,
    used: u64,
    target: Option<u64>,
    started_ms: u64,
    took_ms: u64,
    /// Used memory when pages were last given back, and bytes freed after which they are again.
    purged_at: u64,
    portion: u64,
}

struct Place {
    run: Option<Run>,
    waiting: Option<Waiting>,
    /// What the last run came to.
    last: Option<Reply>,
}

static PLACE: Mutex<Place> = Mutex::new(Place { run: None, waiting: None, last: None });

/// Never held across a call to the server.
fn place() -> MutexGuard<'static, Place> {
    PLACE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn is_running() -> bool {
    let place = place();
    place.run.is_some() || place.waiting.is_some()
}

/// Goes on with a run while its client waits.
pub fn push(context: Context, run: Run, waiting: Waiting) {
    let mut place = place();
    place.run = Some(run);
    place.waiting = Some(waiting);
    drop(place);
    timer::hurry(context);
}

/// Begins a run that no client waits for, with the ages that BULL.EMERGENCY has where none is given. False: one is under
/// way.
pub fn start(context: Context, target: u64) -> bool {
    if is_running() {
        return false;
    }
    let request =
        Request { mode: Mode::Remove, target, completed_ms: COMPLETED_MS, failed_ms: FAILED_MS, pattern: None };
    let run = Run::new(context, request, None);
    place().run = Some(run);
    true
}

/// What the run under way, or the last one, came to; None where there was none.
pub fn status(context: Context) -> Option<Reply> {
    let used = used_memory(context);
    let mut place = place();
    if let Some(run) = &mut place.run {
        run.used = used;
        return Some(run.report());
    }
    place.last.clone()
}

/// Ends the run under way. False where there is none.
pub fn stop(context: Context) -> bool {
    let (run, waiting) = {
        let mut place = place();
        (place.run.take(), place.waiting.take())
    };
    let Some(mut run) = run else { return false };
    run.end(context, State::Stopped);
    finish(run, waiting);
    true
}

/// Ends a run that no client waits for: it is over, or has had its one slice.
pub fn remember(mut run: Run, context: Context) -> Reply {
    if run.state == State::Running {
        run.end(context, State::Stopped);
    }
    let reply = run.report();
    place().last = Some(reply.clone());
    reply
}

fn finish(run: Run, waiting: Option<Waiting>) {
    let reply = run.report();
    place().last = Some(reply.clone());
    if let Some(waiting) = waiting {
        waiting.answer(reply);
    }
}

/// One slice. True where a run is under way.
pub fn slice(context: Context) -> bool {
    if !context.may_write_unasked() {
        return false;
    }
    let Some(mut run) = place().run.take() else { return false };
    if run.slice(context) {
        let waiting = place().waiting.take();
        finish(run, waiting);
        return false;
    }
    place().run = Some(run);
    true
}

/// A replica drops what it had begun, and its client is told. Databases change places under a run too rarely to follow:
/// it ends.
pub fn on_change(change: Change) {
    let text = match change {
        Change::Primary(false) => "READONLY this node became a replica in the middle of the run; call the new primary",
        Change::Swapped(..) => "ERR databases were swapped in the middle of the run; call again",
        _ => return,
    };
    let (run, waiting) = {
        let mut place = place();
        (place.run.take(), place.waiting.take())
    };
    drop(run);
    if let Some(waiting) = waiting {
        waiting.answer(Reply::Error(text.into()));
    }
}

fn used_memory(context: Context) -> u64 {
    context.server_number(c"memory", c"used_memory").unwrap_or(0)
}

impl Run {
    /// With the rights of `user` where there is one.
    pub fn new(context: Context, request: Request, user: Option<User>) -> Self {
        let used = used_memory(context);
        let max = context.server_number(c"memory", c"maxmemory").filter(|&max| max > 0);
        let target = max.map(|max| (u128::from(max) * u128::from(request.target) / 100) as u64);
        let mut survey = VecDeque::new();
        for (db, names) in queues::batches(1000) {
            let fits = |name: &QueueName| request.pattern.as_ref().is_none_or(|p| p.matches(&name.display()));
            survey.extend(names.into_iter().filter(fits).map(|name| (db, name)));
        }
        Self {
            request,
            user,
            survey,
            rows: Vec::new(),
            step: 0,
            at: 0,
            piece: None,
            state: State::Running,
            before: used,
            used,
            target,
            started_ms: now_ms(),
            took_ms: 0,
            purged_at: used,
            portion: LEAST_PORTION,
        }
    }

    /// Works for the length of a slice. True when the run is over.
    pub fn slice(&mut self, context: Context) -> bool {
        let user = self.user.take();
        let mut here = Here::now(user.as_ref());
        let before = context.db();
        while self.state == State::Running {
            self.work(context, &mut here);
            if here.expired() {
                break;
            }
        }
        context.select(before);
        metrics::slice_took(here.elapsed_us());
        self.user = user;
        self.took_ms = now_ms().saturating_sub(self.started_ms);
        self.state != State::Running
    }

    /// What used memory is, or in a dry run would be.
    fn predicted(&self) -> u64 {
        match self.request.mode {
            Mode::Remove => self.used,
            Mode::DryRun => {
                let freed: u64 = self.rows.iter().map(|row| row.went.bytes()).sum();
                let (more, again) = match (&self.piece, self.rows.get(self.at)) {
                    (Some(piece), Some(row)) => (piece.bytes(), self.counted_again(row)),
                    _ => (0, 0),
                };
                self.before.saturating_sub(freed - again + more)
            }
        }
    }

    /// Bytes that an earlier step of a dry run counted and this one counts again: nothing went in between.
    fn counted_again(&self, row: &Row) -> u64 {
        let again =
            self.request.mode == Mode::DryRun && Step::ALL.get(self.step).is_some_and(|&step| step > Step::Logs);
        if again { row.went.job_bytes + row.went.log_bytes } else { 0 }
    }

    fn is_under_target(&self) -> bool {
        self.target.is_some_and(|target| self.predicted() < target)
    }

    /// A piece of work: a queue of the survey, or a slice of what is done with a queue.
    fn work(&mut self, context: Context, here: &mut Here<'_>) {
        if self.target.is_some_and(|target| self.predicted() + MARGIN < target) {
            return self.end(context, State::Done);
        }
        if let Some((db, queue)) = self.survey.pop_front() {
            self.survey_queue(context, here, db, queue);
            if self.survey.is_empty() {
                self.rows.sort_by_key(|row| (Reverse(row.priority), Reverse(row.finished)));
            }
            return;
        }
        // Without a target nothing says that the harder steps are needed.
        let steps = if self.target.is_some() { Step::ALL.len() } else { 1 };
        if self.step >= steps || self.rows.is_empty() {
            return self.end(context, State::Done);
        }
        if self.at >= self.rows.len() {
            (self.step, self.at) = (self.step + 1, 0);
            return;
        }
        let row = &self.rows[self.at];
        let result = if row.error.is_some() || !context.select(row.db) { Ok(true) } else { self.piece(context, here) };
        match result {
            Ok(false) => {}
            Ok(true) => self.next_queue(context),
            Err(error) => {
                self.rows[self.at].error = Some(error.to_string());
                self.next_queue(context);
            }
        }
        if self.request.mode == Mode::Remove {
            self.used = used_memory(context);
            if self.used.saturating_add(self.portion) < self.purged_at {
                self.purge(context);
            }
        }
    }

    fn survey_queue(&mut self, context: Context, here: &Here<'_>, db: i32, queue: QueueName) {
        if !context.select(db) {
            return;
        }
        let store = LiveStore(context);
        let keys = QueueKeys::of(&queue);
        let (job, rule) = (queue.key("1"), queue.key("de:1"));
        let touched = [&keys.completed, &keys.failed, &keys.events, &keys.meta, &job, &rule];
        if store.kind(&keys.meta) != Kind::Hash || !here.may(touched.map(Vec::as_slice), Access::Write) {
            return;
        }
        let priority = profiles::limits(context, &queue, &keys).priority.unwrap_or(NO_PRIORITY);
        let finished = store.len(&keys.completed) + store.len(&keys.failed);
        self.rows.push(Row { db, queue, priority, finished, went: Went::default(), error: None });
    }

    /// A slice of this step's work on the queue at hand. True when it is done with the queue.
    fn piece(&mut self, context: Context, here: &mut Here<'_>) -> Result<bool> {
        let (step, mode) = (Step::ALL[self.step], self.request.mode);
        let now = now_ms();
        let mut store = LiveStore(context);
        let mut piece = match self.piece.take() {
            Some(piece) => piece,
            None => {
                let queue = self.rows[self.at].queue.clone();
                match step.work(self.request.completed_ms, self.request.failed_ms, now) {
                    Work::Trim(criteria) => Piece::Trim(Box::new(Trim::new(&store, queue, criteria, mode)?)),
                    Work::Logs => Piece::Logs(Logs::new(queue, mode)),
                }
            }
        };
        let result = match &mut piece {
            Piece::Trim(trim) => trims::run_within(context, trim, here),
            Piece::Logs(logs) => logs.slice(&mut store, here),
        };
        self.piece = Some(piece);
        result
    }

    /// Counts what the piece at hand did, and tells QueueEvents of it.
    fn settle(&mut self, context: Context) {
        let Some(piece) = self.piece.take() else { return };
        let (step, mode) = (Step::ALL[self.step], self.request.mode);
        let again = self.counted_again(&self.rows[self.at]) > 0;
        let row = &mut self.rows[self.at];
        match piece {
            Piece::Logs(logs) => {
                row.went.logs += logs.tally().jobs;
                row.went.log_bytes += logs.tally().bytes;
            }
            Piece::Trim(trim) => {
                let tally = trim.tally();
                if again {
                    row.went = Went { completed: 0, failed: 0, job_bytes: 0, log_bytes: 0, ..row.went };
                }
                row.went.completed += tally.completed;
                row.went.failed += tally.failed;
                row.went.events += tally.events;
                *(if step == Step::Events { &mut row.went.event_bytes } else { &mut row.went.job_bytes }) +=
                    tally.bytes;
                if mode == Mode::Remove && context.select(row.db) {
                    trims::ended(context, &trim, Reason::Emergency, row.error.is_some());
                }
            }
        }
    }

    fn next_queue(&mut self, context: Context) {
        self.settle(context);
        self.at += 1;
    }

    fn purge(&mut self, context: Context) {
        self.purged_at = self.used;
        let start = Instant::now();
        // An allocator that cannot do it says so; the pages then stay with the process.
        let _ = context.call(c"MEMORY", Effect::Local, &["PURGE".into()]);
        self.portion = next_portion(self.portion, start.elapsed(), config::slice());
    }

    fn end(&mut self, context: Context, state: State) {
        let before = context.db();
        self.settle(context);
        context.select(before);
        self.state = state;
        if self.request.mode == Mode::Remove {
            self.used = used_memory(context);
            if self.purged_at > self.used {
                self.purge(context);
            }
        }
    }

    pub fn report(&self) -> Reply {
        let count = |of: fn(&Went) -> u64| Reply::count(self.rows.iter().map(|row| of(&row.went)).sum());
        let touched = |row: &&Row| row.went != Went::default() || row.error.is_some();
        let plan = self.rows.iter().filter(touched).take(SHOWN).map(Row::reply).collect();
        let step = Step::ALL.get(self.step).or(Step::ALL.last()).map_or("", |step| step.name());
        map([
            ("state", self.state.name().into()),
            ("dry-run", Reply::Bool(self.request.mode == Mode::DryRun)),
            ("before", self.before.into()),
            ("target", self.target.map_or(Reply::Null, Reply::from)),
            ("after", self.predicted().into()),
            ("under-target", Reply::Bool(self.is_under_target())),
            ("step", step.into()),
            ("queues", Reply::count(self.rows.len() as u64)),
            ("completed", count(|went| went.completed)),
            ("failed", count(|went| went.failed)),
            ("events", count(|went| went.events)),
            ("logs", count(|went| went.logs)),
            ("bytes-freed", count(Went::bytes)),
            ("took-ms", self.took_ms.into()),
            ("plan", Reply::Array(plan)),
            ("done", Reply::Bool(self.state == State::Done)),
        ])
    }
}

impl Row {
    fn reply(&self) -> Reply {
        map([
            ("queue", Reply::bulk(self.queue.as_bytes())),
            ("db", Reply::Integer(i64::from(self.db))),
            ("priority", Reply::count(self.priority.into())),
            ("completed", self.went.completed.into()),
            ("failed", self.went.failed.into()),
            ("events", self.went.events.into()),
            ("logs", self.went.logs.into()),
            ("bytes-freed", self.went.bytes().into()),
            ("error", self.error.as_deref().map_or(Reply::Null, Reply::from)),
        ])
    }
}

//! One emergency run: the survey of the queues, then step by step through them, a piece of work at a time.
//!
//! Used memory is read anew after each piece, since it is the only thing that says when to stop.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::Instant;

use super::rows::{Row, Went};
use super::{Request, used_memory};
use crate::keeper::trims::{self, Here, Reason};
use crate::keeper::{profiles, queues};
use crate::queue::emergency::{LEAST_PORTION, Step, Work, next_portion};
use crate::queue::error::Result;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::logs::Logs;
use crate::queue::store::{Kind, Store};
use crate::queue::trim::{Around, Mode, Trim};
use crate::redis::Context;
use crate::redis::call::Effect;
use crate::redis::context::{Access, User, now_ms};
use crate::redis::reply::{Reply, map};
use crate::redis::store::LiveStore;
use crate::{config, metrics};

/// Priority of a queue that has none, as in the policy memory-budget.
const NO_PRIORITY: u32 = 3;
/// Queues named in a reply.
const SHOWN: usize = 100;
/// How far below its target a run goes, bytes: telling of it takes some again.
const MARGIN: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
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
    pub(super) state: State,
    /// Used memory at the start and now, and what it has to get below: None without maxmemory.
    before: u64,
    pub(super) used: u64,
    target: Option<u64>,
    started_ms: u64,
    took_ms: u64,
    /// Used memory when pages were last given back, and bytes freed after which they are again.
    purged_at: u64,
    portion: u64,
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
        // Others took and gave back memory since the last slice.
        if self.request.mode == Mode::Remove {
            self.used = used_memory(context);
        }
        // Giving pages back is a part of the slice, not on top of one: clients wait for both.
        if self.is_purge_due() {
            self.purge(context);
        }
        while self.state == State::Running && !here.expired() && !self.is_purge_due() {
            self.work(context, &mut here);
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

    /// Whether it is under its target still once what it did is told. Where it is not, the next piece begins where this one
    /// ended.
    fn stays_under_target(&mut self, context: Context) -> bool {
        if self.request.mode == Mode::Remove {
            self.settle(context);
            self.used = used_memory(context);
        }
        self.is_under_target()
    }

    /// A piece of work: a queue of the survey, or a slice of what is done with a queue.
    fn work(&mut self, context: Context, here: &mut Here<'_>) {
        if self.target.is_some_and(|target| self.predicted() + MARGIN < target) && self.stays_under_target(context) {
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
        let priority = profiles::limits(context, &queue).priority.unwrap_or(NO_PRIORITY);
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

    /// Enough was freed since pages were last given back.
    fn is_purge_due(&self) -> bool {
        self.request.mode == Mode::Remove && self.used.saturating_add(self.portion) < self.purged_at
    }

    fn purge(&mut self, context: Context) {
        self.purged_at = self.used;
        let start = Instant::now();
        // An allocator that cannot do it says so; the pages then stay with the process.
        let _ = context.call(c"MEMORY", Effect::Local, &["PURGE".into()]);
        self.portion = next_portion(self.portion, start.elapsed(), config::slice());
    }

    pub(super) fn end(&mut self, context: Context, state: State) {
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

//! One policy of the registry: its settings, its code and warm instance, its counters and its faults.
//!
//! A fault takes the instance away. A new one is made elsewhere, off the main thread, and seated here; until then the
//! policy answers ONERROR. Nothing in this file compiles, configures or frees an instance.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use wildmatch::WildMatch;

use super::audit::{Entry, Kind};
use super::compiled::Compiled;
use super::deeds::{Deed, Deeds, Effect};
use super::faults::{Fault, LoadError};
use super::instance::Instance;
use super::settings::Settings;
use super::times::Times;
use super::{Action, Job, Node, Queue, Source, Verdict};

/// Failures within [`WINDOW_MS`] after which a policy is suspended.
const MAX_FAULTS: usize = 10;
const WINDOW_MS: u64 = 60_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Jobs that the policy was to judge.
    pub calls: u64,
    /// Of these, the jobs that met its terms and entered without a call.
    pub unasked: u64,
    pub all: Outcomes,
    /// Of these, the jobs of unmodified clients.
    pub guarded: Outcomes,
    /// Calls that ONERROR answered: after a fault, while suspended, broken or not ready.
    pub unanswered: u64,
    pub ticks: u64,
    /// What it wished for at ticks.
    pub deeds: Deeds,
    pub faults: u64,
    /// Instances made anew after a fault.
    pub remade: u64,
    pub suspensions: u64,
}

/// What came of the jobs that a policy was asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub admitted: u64,
    pub rejected: u64,
    pub deferred: u64,
    pub displaced: u64,
    pub observed: u64,
}

/// What a policy's verdict on a job comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Admitted,
    Rejected,
    Deferred,
    Displaced,
    /// Other than admit, and not binding: the policy or the guard observes.
    Observed,
}

impl Outcomes {
    fn add(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Admitted => &mut self.admitted,
            Outcome::Rejected => &mut self.rejected,
            Outcome::Deferred => &mut self.deferred,
            Outcome::Displaced => &mut self.displaced,
            Outcome::Observed => &mut self.observed,
        } += 1;
    }
}

impl Counters {
    pub(super) fn add(&mut self, outcome: Outcome, source: Source) {
        self.all.add(outcome);
        if source == Source::Script {
            self.guarded.add(outcome);
        }
    }
}

/// Where a policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its file is known and its component not compiled yet: the server has just started.
    Loading,
    Ready,
    /// It failed, and a new instance is being made.
    Restarting,
    /// It failed too often and is not asked until LOAD, CONFIG or MODE.
    Suspended,
    /// Its files cannot be used.
    Broken,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Restarting => "restarting",
            Self::Suspended => "suspended",
            Self::Broken => "broken",
        }
    }
}

/// Code that compiled, and what is known of it.
#[derive(Clone)]
pub struct Code {
    pub compiled: Arc<Compiled>,
    pub compile_ms: u64,
}

enum Body {
    Loading,
    Broken,
    Ready {
        code: Code,
        /// None while a new one is made.
        instance: Option<Box<Instance>>,
        suspended: bool,
    },
}

/// The order for a new instance, in the place of one that failed.
pub struct Remake {
    pub policy: String,
    pub code: Code,
    pub config: String,
}

/// A fault that people should hear of, and what it leaves to be done off the main thread.
pub struct Incident {
    pub policy: String,
    pub text: String,
    /// This fault suspended the policy.
    pub suspended: bool,
    /// To be freed elsewhere: that takes longer than a command may.
    pub failed: Option<Box<Instance>>,
    pub remake: Option<Remake>,
}

/// What became of an instance that was made anew.
pub enum Seated {
    Done,
    /// The policy went, or has another code or configuration by now. To be freed elsewhere.
    Unwanted(Option<Box<Instance>>),
    /// It could not be made.
    Suspended(Incident),
}

/// What asking for a verdict gave.
pub enum Asked {
    Verdict(Verdict),
    Fault(Incident),
    /// It was not asked: suspended, broken, or without an instance.
    Nothing,
}

pub struct Policy {
    pub name: String,
    pub settings: Settings,
    pub counters: Counters,
    /// Run time of decisions.
    pub times: Times,
    /// Run time of calls of tick.
    pub tick_times: Times,
    pub last_error: Option<String>,
    /// Why an action of a tick was not carried out, the last one.
    pub last_ignored: Option<String>,
    pattern: WildMatch,
    body: Body,
    recent_faults: VecDeque<u64>,
    /// Calls after which its terms are void.
    age: u64,
}

impl Policy {
    pub fn ready(name: String, code: Code, settings: Settings, instance: Instance) -> Self {
        Self::with(name, settings, Body::Ready { code, instance: Some(Box::new(instance)), suspended: false })
    }

    /// A policy whose component is still to be compiled.
    pub fn loading(name: String, settings: Settings) -> Self {
        Self::with(name, settings, Body::Loading)
    }

    /// A policy that is on the disk and cannot be used.
    pub fn broken(name: String, settings: Settings, reason: String) -> Self {
        Self { last_error: Some(reason), ..Self::with(name, settings, Body::Broken) }
    }

    fn with(name: String, settings: Settings, body: Body) -> Self {
        Self {
            name,
            pattern: WildMatch::new(&settings.queues),
            settings,
            counters: Counters::default(),
            times: Times::default(),
            tick_times: Times::default(),
            last_error: None,
            last_ignored: None,
            body,
            recent_faults: VecDeque::new(),
            age: 0,
        }
    }

    pub fn state(&self) -> State {
        match &self.body {
            Body::Loading => State::Loading,
            Body::Broken => State::Broken,
            Body::Ready { suspended: true, .. } => State::Suspended,
            Body::Ready { instance: None, .. } => State::Restarting,
            Body::Ready { .. } => State::Ready,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(&self.body, Body::Ready { instance: Some(_), suspended: false, .. })
    }

    /// Terms that it gave at another age no longer stand.
    pub(super) fn age(&self) -> u64 {
        self.age
    }

    pub(super) fn grow_older(&mut self) {
        self.age += 1;
    }

    pub fn code(&self) -> Option<&Code> {
        match &self.body {
            Body::Ready { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The version that the policy tells; empty where it has not been asked.
    pub fn version(&self) -> &str {
        self.code().map_or("", |code| &code.compiled.description.version)
    }

    /// It wants to see this queue.
    pub fn covers(&self, queue: &str) -> bool {
        self.pattern.matches(queue)
    }

    /// Counts an action. Where it was ignored for another reason than the one before: what to tell people.
    pub fn note(&mut self, deed: Deed, effect: &Effect) -> Option<&str> {
        self.counters.deeds.add(deed, effect);
        let Effect::Ignored(reason) = effect else { return None };
        let told = format!("{}: {reason}", deed.name());
        if self.last_ignored.as_ref() == Some(&told) { None } else { Some(self.last_ignored.insert(told)) }
    }

    /// An entry for the audit about something done at a tick.
    pub fn deed(&self, kind: Kind, queue: String, now_ms: u64) -> Entry {
        Entry {
            at_ms: now_ms,
            policy: self.name.clone(),
            version: self.version().to_owned(),
            queue,
            job: None,
            kind,
            reason: String::new(),
            binds: true,
        }
    }

    /// Takes over what its predecessor has counted.
    pub(super) fn succeed(&mut self, old: &Self) {
        self.counters = old.counters;
        self.times = old.times.clone();
        self.tick_times = old.tick_times.clone();
    }

    /// Lifts a suspension. What it answers has to be made.
    #[must_use]
    pub fn resume(&mut self) -> Option<Remake> {
        self.recent_faults.clear();
        let Body::Ready { suspended, instance, .. } = &mut self.body else { return None };
        // Where it is not suspended, a new instance is under way already.
        let lifted = std::mem::replace(suspended, false);
        if lifted && instance.is_none() { self.remake() } else { None }
    }

    fn remake(&self) -> Option<Remake> {
        let code = self.code()?.clone();
        Some(Remake { policy: self.name.clone(), code, config: self.settings.config.clone() })
    }

    /// Seats an instance that was made for this policy. One that could not be made suspends the policy: the same code took
    /// the same configuration before, so another try would fail too.
    pub(super) fn seat(&mut self, order: &Remake, made: Result<Box<Instance>, LoadError>) -> Seated {
        let same_config = self.settings.config == order.config;
        let wanted = match &self.body {
            Body::Ready { code, instance: None, .. } => {
                Arc::ptr_eq(&code.compiled, &order.code.compiled) && same_config
            }
            _ => false,
        };
        match (&mut self.body, made) {
            (Body::Ready { instance, .. }, Ok(made)) if wanted => {
                *instance = Some(made);
                self.counters.remade += 1;
                Seated::Done
            }
            (Body::Ready { suspended, .. }, Err(error)) if wanted => {
                *suspended = true;
                self.counters.suspensions += 1;
                self.counters.faults += 1;
                let text = format!("could not be made anew: {error}");
                self.last_error = Some(text.clone());
                let policy = self.name.clone();
                Seated::Suspended(Incident { policy, text, suspended: true, failed: None, remake: None })
            }
            (_, made) => Seated::Unwanted(made.ok()),
        }
    }

    fn instance(&mut self) -> Option<&mut Instance> {
        match &mut self.body {
            Body::Ready { instance: Some(instance), suspended: false, .. } => Some(instance),
            _ => None,
        }
    }

    pub(super) fn ask(&mut self, node: Node, queue: &Queue, job: &Job) -> Asked {
        let Some(instance) = self.instance() else { return Asked::Nothing };
        let start = Instant::now();
        let verdict = instance.admit(node, queue, job);
        self.times.add(nanos(start));
        match verdict {
            Ok(verdict) => Asked::Verdict(verdict),
            Err(fault) => Asked::Fault(self.fault(&fault, node.now_ms)),
        }
    }

    /// None: it is not in a state to be ticked.
    pub(super) fn tick(&mut self, node: Node, queues: &[Queue]) -> Option<Result<Vec<Action>, Incident>> {
        // It may remember what it sees.
        self.grow_older();
        let instance = self.instance()?;
        let start = Instant::now();
        let actions = instance.tick(node, queues);
        self.tick_times.add(nanos(start));
        self.counters.ticks += 1;
        Some(actions.map_err(|fault| self.fault(&fault, node.now_ms)))
    }

    fn fault(&mut self, fault: &Fault, now_ms: u64) -> Incident {
        let text = fault.to_string();
        self.grow_older();
        self.counters.faults += 1;
        self.last_error = Some(text.clone());
        self.recent_faults.push_back(now_ms);
        while self.recent_faults.front().is_some_and(|&then| then + WINDOW_MS < now_ms) {
            self.recent_faults.pop_front();
        }
        let too_often = self.recent_faults.len() >= MAX_FAULTS;
        let mut failed = None;
        if let Body::Ready { instance, suspended, .. } = &mut self.body {
            failed = instance.take();
            *suspended = too_often;
        }
        if too_often {
            self.counters.suspensions += 1;
        }
        let remake = if too_often { None } else { self.remake() };
        Incident { policy: self.name.clone(), text, suspended: too_often, failed, remake }
    }

    /// Why the policy gave no verdict, for the client that ONERROR refuses.
    pub(super) fn excuse(&self) -> String {
        let what = match self.state() {
            State::Loading => return "the policy is being loaded".into(),
            State::Suspended => "is suspended",
            State::Broken => "is broken",
            State::Ready | State::Restarting => "failed",
        };
        format!("the policy {what}: {}", self.last_error.as_deref().unwrap_or("no verdict"))
    }
}

fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

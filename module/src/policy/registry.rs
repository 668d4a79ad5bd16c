//! The policies in force, in their order, and the walk over them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use wildmatch::WildMatch;

use super::compiled::Compiled;
use super::faults::Fault;
use super::instance::Instance;
use super::times::Times;
use super::{Action, Job, Node, Queue, Source, Verdict};

/// Whether a verdict binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    /// Verdicts are counted as what would have happened.
    Observe,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// The verdict where a policy gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    Admit,
    Reject,
}

impl OnError {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Reject => "reject",
        }
    }
}

/// How a policy is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    pub on_error: OnError,
    /// Pattern on qualified names; `*` and `?`.
    pub queues: String,
    /// Lower runs first; equals run by name.
    pub order: i64,
    /// JSON text.
    pub config: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mode: Mode::Enforce, on_error: OnError::Admit, queues: "*".into(), order: 100, config: "{}".into() }
    }
}

/// Failures within [`WINDOW_MS`] after which a policy is suspended.
const MAX_FAULTS: usize = 10;
const WINDOW_MS: u64 = 60_000;
/// Longest reason, bytes.
const MAX_REASON: usize = 256;

#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    pub calls: u64,
    pub faults: u64,
    pub all: Outcomes,
    /// Of these, the jobs of unmodified clients.
    pub guarded: Outcomes,
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
    fn add(&mut self, outcome: Outcome, source: Source) {
        self.all.add(outcome);
        if source == Source::Script {
            self.guarded.add(outcome);
        }
    }
}

/// A policy in force.
pub struct Policy {
    pub name: String,
    pub compiled: Arc<Compiled>,
    pub settings: Settings,
    pub counters: Counters,
    pub times: Times,
    pub last_error: Option<String>,
    pub suspended: bool,
    pub compile_ms: u64,
    pattern: WildMatch,
    instance: Option<Instance>,
    recent_faults: VecDeque<u64>,
}

impl Policy {
    pub fn new(name: String, compiled: Arc<Compiled>, settings: Settings, instance: Instance, compile_ms: u64) -> Self {
        Self {
            name,
            pattern: WildMatch::new(&settings.queues),
            compiled,
            settings,
            counters: Counters::default(),
            times: Times::default(),
            last_error: None,
            suspended: false,
            compile_ms,
            instance: Some(instance),
            recent_faults: VecDeque::new(),
        }
    }

    /// Lifts a suspension.
    pub fn resume(&mut self) {
        self.suspended = false;
        self.recent_faults.clear();
    }

    /// The warm instance, or a new one after a fault.
    fn instance(&mut self) -> Result<&mut Instance, Fault> {
        if self.instance.is_none() {
            let fresh = Instance::new(&self.compiled, &self.settings.config);
            self.instance = Some(fresh.map_err(|error| Fault::Reply(error.to_string()))?);
        }
        Ok(self.instance.as_mut().expect("made above"))
    }

    fn ask(&mut self, node: Node, queue: &Queue, job: &Job) -> Result<Verdict, Fault> {
        let instance = self.instance()?;
        let start = Instant::now();
        let verdict = instance.admit(node, queue, job);
        self.times.add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        if verdict.is_err() {
            self.instance = None;
        }
        verdict
    }

    fn fault(&mut self, fault: &Fault, now_ms: u64) -> Incident {
        self.counters.faults += 1;
        self.last_error = Some(fault.to_string());
        self.recent_faults.push_back(now_ms);
        while self.recent_faults.front().is_some_and(|&then| then + WINDOW_MS < now_ms) {
            self.recent_faults.pop_front();
        }
        self.suspended = self.recent_faults.len() >= MAX_FAULTS;
        Incident { policy: self.name.clone(), text: fault.to_string(), suspended: self.suspended }
    }
}

/// What the policies say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Admit,
    Reject { policy: String, reason: String },
    Defer { policy: String, millis: u64 },
    Displace { policy: String, jobs: u32 },
}

/// What happened on a walk besides its decision.
#[derive(Debug, Default)]
pub struct Notes {
    pub incidents: Vec<Incident>,
    /// Outcomes other than admitted, by the policy's name.
    pub outcomes: Vec<(String, Outcome)>,
}

/// A fault that people should hear of.
#[derive(Debug)]
pub struct Incident {
    pub policy: String,
    pub text: String,
    /// This fault suspended the policy.
    pub suspended: bool,
}

#[derive(Default)]
pub struct Registry {
    policies: Vec<Policy>,
}

impl Registry {
    pub const fn new() -> Self {
        Self { policies: Vec::new() }
    }

    pub fn policies(&self) -> &[Policy] {
        &self.policies
    }

    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Case matters in names.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Policy> {
        self.policies.iter_mut().find(|policy| policy.name == name)
    }

    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// Puts a policy in the place of the one with its name, which is handed back. Counters go on.
    pub fn replace(&mut self, mut policy: Policy) -> Option<Policy> {
        let old = self.remove(&policy.name);
        if let Some(old) = &old {
            policy.counters = old.counters;
            policy.times = old.times.clone();
        }
        self.policies.push(policy);
        self.policies.sort_by(|a, b| (a.settings.order, &a.name).cmp(&(b.settings.order, &b.name)));
        old
    }

    pub fn remove(&mut self, name: &str) -> Option<Policy> {
        let at = self.policies.iter().position(|policy| policy.name == name)?;
        Some(self.policies.remove(at))
    }

    /// Some policy wants to see jobs of this queue.
    pub fn covers(&self, queue: &str) -> bool {
        self.policies.iter().any(|policy| policy.pattern.matches(queue))
    }

    /// Ticks one policy with those of the queues that it covers. None: it is gone or suspended.
    pub fn tick(&mut self, name: &str, node: Node, mut queues: Vec<Queue>) -> Option<Result<Vec<Action>, Incident>> {
        let policy = self.get_mut(name).filter(|policy| !policy.suspended)?;
        queues.retain(|queue| policy.pattern.matches(&queue.name));
        let actions = policy.instance().and_then(|instance| instance.tick(node, &queues));
        Some(actions.map_err(|fault| {
            policy.instance = None;
            policy.fault(&fault, node.now_ms)
        }))
    }

    /// Walks the policies in order; the first verdict that binds ends the walk. Where the caller only observes, that verdict
    /// is counted as observed: the job enters all the same.
    pub fn decide(&mut self, node: Node, queue: &Queue, job: &Job, caller: Mode, notes: &mut Notes) -> Decision {
        for policy in &mut self.policies {
            if !policy.pattern.matches(&queue.name) {
                continue;
            }
            policy.counters.calls += 1;
            let verdict = if policy.suspended {
                None
            } else {
                match policy.ask(node, queue, job) {
                    Ok(verdict) => Some(verdict),
                    Err(fault) => {
                        notes.incidents.push(policy.fault(&fault, node.now_ms));
                        None
                    }
                }
            };
            let decision = policy.judge(verdict);
            let observes = policy.settings.mode == Mode::Observe;
            let outcome = match decision {
                Decision::Admit => Outcome::Admitted,
                _ if observes || caller == Mode::Observe => Outcome::Observed,
                Decision::Reject { .. } => Outcome::Rejected,
                Decision::Defer { .. } => Outcome::Deferred,
                Decision::Displace { .. } => Outcome::Displaced,
            };
            policy.counters.add(outcome, job.source);
            if outcome != Outcome::Admitted {
                notes.outcomes.push((policy.name.clone(), outcome));
                if !observes {
                    return decision;
                }
            }
        }
        Decision::Admit
    }
}

impl Policy {
    fn judge(&self, verdict: Option<Verdict>) -> Decision {
        let policy = || self.name.clone();
        match verdict {
            Some(Verdict::Admit) => Decision::Admit,
            Some(Verdict::Reject(reason)) => {
                let mut end = reason.len().min(MAX_REASON);
                while !reason.is_char_boundary(end) {
                    end -= 1;
                }
                Decision::Reject { policy: policy(), reason: reason[..end].to_owned() }
            }
            Some(Verdict::Defer(millis)) => Decision::Defer { policy: policy(), millis },
            Some(Verdict::Displace(jobs)) => Decision::Displace { policy: policy(), jobs },
            None if self.settings.on_error == OnError::Admit => Decision::Admit,
            None => {
                let state = if self.suspended { "is suspended" } else { "failed" };
                let why = self.last_error.as_deref().unwrap_or("no verdict");
                Decision::Reject { policy: policy(), reason: format!("the policy {state}: {why}") }
            }
        }
    }
}

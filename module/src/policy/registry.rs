//! The policies in force, in their order, and the walk over them.

use super::audit::{Audit, Entry, Kind};
use super::faults::LoadError;
use super::instance::Instance;
use super::member::{Asked, Incident, Outcome, Policy, Remake, Seated};
use super::settings::{Mode, OnError};
use super::{Action, Job, Node, Queue, Verdict};

/// Longest reason, bytes.
const MAX_REASON: usize = 256;

/// What the policies say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Admit,
    Reject { policy: String, reason: String },
    Defer { policy: String, millis: u64 },
    Displace { policy: String, jobs: u32 },
}

/// What happened on a walk besides its decision.
#[derive(Default)]
pub struct Notes {
    pub incidents: Vec<Incident>,
    /// Outcomes other than admitted, by the policy's name.
    pub outcomes: Vec<(String, Outcome)>,
}

#[derive(Default)]
pub struct Registry {
    policies: Vec<Policy>,
    pub audit: Audit,
}

impl Registry {
    pub const fn new() -> Self {
        Self { policies: Vec::new(), audit: Audit::new() }
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
            policy.succeed(old);
        }
        self.policies.push(policy);
        self.policies.sort_by(|a, b| (a.settings.order, &a.name).cmp(&(b.settings.order, &b.name)));
        old
    }

    pub fn remove(&mut self, name: &str) -> Option<Policy> {
        let at = self.policies.iter().position(|policy| policy.name == name)?;
        Some(self.policies.remove(at))
    }

    /// Seats an instance that was made after a fault.
    pub fn seat(&mut self, order: &Remake, made: Result<Box<Instance>, LoadError>) -> Seated {
        match self.get_mut(&order.policy) {
            Some(policy) => policy.seat(order, made),
            None => Seated::Unwanted(made.ok()),
        }
    }

    /// Some policy wants to see jobs of this queue.
    pub fn covers(&self, queue: &str) -> bool {
        self.policies.iter().any(|policy| policy.covers(queue))
    }

    /// Ticks one policy with those of the queues that it covers. None: it covers none, is gone, or in no state to be asked.
    pub fn tick(&mut self, name: &str, node: Node, queues: &[Queue]) -> Option<Result<Vec<Action>, Incident>> {
        let policy = self.get_mut(name)?;
        let covered: Vec<Queue> = queues.iter().filter(|queue| policy.covers(&queue.name)).cloned().collect();
        if covered.is_empty() {
            return None;
        }
        policy.tick(node, &covered)
    }

    /// Walks the policies in order; the first verdict that binds ends the walk. Where the caller only observes, that verdict
    /// is counted as observed: the job enters all the same.
    pub fn decide(&mut self, node: Node, queue: &Queue, job: &Job, caller: Mode, notes: &mut Notes) -> Decision {
        for policy in &mut self.policies {
            if !policy.covers(&queue.name) {
                continue;
            }
            policy.counters.calls += 1;
            let mut faulted = false;
            let verdict = match policy.ask(node, queue, job) {
                Asked::Verdict(verdict) => Some(verdict),
                Asked::Fault(incident) => {
                    faulted = true;
                    notes.incidents.push(incident);
                    None
                }
                Asked::Nothing => None,
            };
            if verdict.is_none() {
                policy.counters.unanswered += 1;
            }
            let decision = judge(policy, verdict);
            let observes = policy.settings.mode == Mode::Observe;
            let binds = !observes && caller == Mode::Enforce;
            if decision != Decision::Admit || faulted {
                self.audit.add(entry(policy, &decision, node, queue, job, binds));
            }
            let outcome = match &decision {
                Decision::Admit => Outcome::Admitted,
                _ if !binds => Outcome::Observed,
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

/// A reason as clients get it.
pub fn cut_reason(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    reason
}

fn judge(policy: &Policy, verdict: Option<Verdict>) -> Decision {
    let name = || policy.name.clone();
    match verdict {
        Some(Verdict::Admit) => Decision::Admit,
        Some(Verdict::Reject(reason)) => Decision::Reject { policy: name(), reason: cut_reason(reason) },
        Some(Verdict::Defer(millis)) => Decision::Defer { policy: name(), millis },
        Some(Verdict::Displace(jobs)) => Decision::Displace { policy: name(), jobs },
        None if policy.settings.on_error == OnError::Admit => Decision::Admit,
        None => Decision::Reject { policy: name(), reason: policy.excuse() },
    }
}

fn entry(policy: &Policy, decision: &Decision, node: Node, queue: &Queue, job: &Job, binds: bool) -> Entry {
    let (kind, reason) = match decision {
        Decision::Admit => (Kind::Fault, policy.last_error.clone().unwrap_or_default()),
        Decision::Reject { reason, .. } => (Kind::Reject, reason.clone()),
        Decision::Defer { millis, .. } => (Kind::Defer, format!("{millis} ms")),
        Decision::Displace { jobs, .. } => (Kind::Displace, format!("{jobs} jobs")),
    };
    Entry {
        at_ms: node.now_ms,
        policy: policy.name.clone(),
        version: policy.version().to_owned(),
        queue: queue.name.clone(),
        job: Some((job.name.clone(), job.bytes)),
        kind,
        reason,
        binds,
    }
}

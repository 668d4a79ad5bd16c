//! The policies in force, in their order, and the walk over them.

use super::audit::{Audit, Entry, Kind};
use super::faults::LoadError;
use super::instance::Instance;
use super::member::{Asked, Incident, Outcome, Policy, Remake, Seated};
use super::settings::{Mode, OnError};
use super::terms::{Place, Walks};
use super::{Action, Job, Node, Queue, Source, Terms, Verdict};
use crate::text::visible;

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
    walks: Walks,
    pub audit: Audit,
}

impl Registry {
    pub const fn new() -> Self {
        Self { policies: Vec::new(), walks: Walks::new(), audit: Audit::new() }
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
        self.walks.clear();
        self.policies.push(policy);
        self.policies.sort_by(|a, b| (a.settings.order, &a.name).cmp(&(b.settings.order, &b.name)));
        old
    }

    pub fn remove(&mut self, name: &str) -> Option<Policy> {
        let at = self.policies.iter().position(|policy| policy.name == name)?;
        self.walks.clear();
        Some(self.policies.remove(at))
    }

    /// Seats an instance that was made after a fault.
    pub fn seat(&mut self, order: &Remake, made: Result<Box<Instance>, LoadError>) -> Seated {
        match self.get_mut(&order.policy) {
            Some(policy) => policy.seat(order, made),
            None => Seated::Unwanted(made.ok()),
        }
    }

    /// Where the walk of a queue is. A walk is one of a database: each has limits of its own.
    pub fn walk(&mut self, db: i32, queue: &str) -> Place {
        self.walks.find(&self.policies, db, queue)
    }

    /// A queue's limits changed: what policies said by the old ones is void.
    pub fn forget_terms(&mut self) {
        self.walks.clear();
    }

    /// What meets these terms enters without a call, and none of its facts matter but those that they name. None: some
    /// policy is to be asked.
    pub fn terms(&mut self, place: Place, max_memory: u64) -> Option<Terms> {
        self.walks.at(place)?.terms(&self.policies, max_memory)
    }

    /// A job met the terms of all policies on the walk.
    pub fn met(&mut self, place: Place, source: Source) {
        let Some(walk) = self.walks.at(place) else { return };
        for stop in &walk.stops {
            let counters = &mut self.policies[stop.policy].counters;
            counters.calls += 1;
            counters.unasked += 1;
            counters.add(Outcome::Admitted, source);
        }
    }

    /// Ticks one policy with those of the queues that it covers. None: it covers none, is gone, or in no state to be asked.
    pub fn tick(&mut self, name: &str, node: Node, queues: &[Queue]) -> Option<Result<Vec<Action>, Incident>> {
        let policy = self.get_mut(name)?;
        let covered: Vec<Queue> = queues.iter().filter(|queue| policy.covers(&queue.name)).cloned().collect();
        if covered.is_empty() {
            return None;
        }
        let answer = policy.tick(node, &covered);
        if let Some(Err(incident)) = &answer {
            let entry = Entry { reason: incident.text.clone(), ..policy.deed(Kind::Fault, String::new(), node.now_ms) };
            self.audit.add(entry);
        }
        answer
    }

    /// Walks the policies in order; the first verdict that binds ends the walk. Where the caller only observes, that verdict
    /// is counted as observed: the job enters all the same.
    pub fn decide(
        &mut self,
        place: Place,
        node: Node,
        queue: &Queue,
        job: &Job,
        caller: Mode,
        notes: &mut Notes,
    ) -> Decision {
        let Some(walk) = self.walks.at(place) else { return Decision::Admit };
        for stop in &mut walk.stops {
            let policy = &mut self.policies[stop.policy];
            policy.counters.calls += 1;
            if stop.terms(policy, node.max_memory).is_some_and(|terms| terms.meet(node, queue, job.bytes)) {
                policy.counters.unasked += 1;
                policy.counters.add(Outcome::Admitted, job.source);
                continue;
            }
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
            let terms = match &verdict {
                Some(Verdict::AdmitWhile(terms)) => Some(*terms),
                _ => None,
            };
            stop.give(policy, node.max_memory, terms);
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

/// A reason as clients get it and the log keeps it: short, and nothing that a terminal would obey.
pub fn cut_reason(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    visible(&reason)
}

fn judge(policy: &Policy, verdict: Option<Verdict>) -> Decision {
    let name = || policy.name.clone();
    match verdict {
        Some(Verdict::Admit | Verdict::AdmitWhile(_)) => Decision::Admit,
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

//! The policies in force, and asking them: facts in, one decision out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{changes, guard, node as sampled, profiles, queues, rates, sizes};
use crate::policy::member::{Incident, State};
use crate::policy::registry::{Decision, Notes, Registry};
use crate::policy::settings::Mode;
use crate::policy::terms::Place;
use crate::policy::{Job, Limits, Node, Queue, Source, Terms};
use crate::queue::job::{NewJob, QueueKeys, Route};
use crate::queue::keys::QueueName;
use crate::queue::script::{Origin, ScriptJob};
use crate::queue::size::Arrivals;
use crate::queue::stats::Counts;
use crate::queue::store::Store;
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::log::{Level, log};
use crate::redis::names::Names;
use crate::redis::script::Ran;
use crate::redis::store::LiveStore;

static POLICIES: Mutex<Registry> = Mutex::new(Registry::new());

/// Never held across a call to the server.
pub fn policies() -> MutexGuard<'static, Registry> {
    POLICIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The job that asks, in the words of the policy world.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    job: Asking<'a>,
    /// Observe: the caller lets the job enter whatever the decision is.
    caller: Mode,
}

#[derive(Clone, Copy)]
enum Asking<'a> {
    Command(&'a NewJob<'a>),
    Script(&'a ScriptJob<'a>),
}

impl<'a> Facts<'a> {
    pub fn of(job: &'a NewJob<'_>) -> Self {
        Self { job: Asking::Command(job), caller: Mode::Enforce }
    }

    pub fn of_script(job: &'a ScriptJob<'_>, caller: Mode) -> Self {
        Self { job: Asking::Script(job), caller }
    }

    fn bytes(&self) -> u64 {
        match self.job {
            Asking::Command(job) => job.data.len() as u64,
            Asking::Script(job) => job.data.len() as u64,
        }
    }

    fn source(&self) -> Source {
        match self.job {
            Asking::Command(_) => Source::Command,
            Asking::Script(_) => Source::Script,
        }
    }

    fn job(&self) -> Job {
        match self.job {
            Asking::Command(job) => Job {
                name: job_name(job.name),
                bytes: job.data.len() as u64,
                delay_ms: job.options.delay as u64,
                priority: job.options.priority,
                attempts: job.options.attempts,
                child: job.options.parent.is_some(),
                scheduled: job.options.scheduler.is_some(),
                source: Source::Command,
            },
            Asking::Script(job) => Job {
                name: job_name(job.name),
                bytes: job.data.len() as u64,
                delay_ms: job.delay_ms,
                priority: job.priority,
                attempts: job.attempts,
                child: job.origin == Origin::Child,
                scheduled: matches!(job.origin, Origin::FirstIteration | Origin::NextIteration | Origin::Scheduler(_)),
                source: Source::Script,
            },
        }
    }
}

/// Longest name of a job that policies see, bytes: as long as a queue's may be.
const MAX_JOB_NAME: usize = 1024;

/// The beginning of a job's name. A guest has little memory: a name that does not fit would be the policy's fault, and a
/// producer could have it suspended.
fn job_name(name: &[u8]) -> String {
    // Whole characters up to the end, whatever is behind it.
    let mut text = String::from_utf8_lossy(&name[..name.len().min(MAX_JOB_NAME + 3)]).into_owned();
    text.truncate(text.floor_char_boundary(MAX_JOB_NAME));
    text
}

/// Asks for the jobs of one queue within one command. The queue's facts are read at the first job that needs them, then
/// counted on; a job that meets the terms of all policies needs few or none.
pub struct Asker<'a> {
    context: Context,
    queue: &'a QueueName,
    keys: &'a QueueKeys,
    /// The queue's keys as strings of the server, where the store would have to make them.
    names: Option<&'a Names>,
    place: Option<Place>,
    backlog: Option<u64>,
    facts: Option<Queue>,
    /// Bytes of a job without data, and for each byte of data, by the way it goes.
    of_data: [(f64, f64); 3],
    arrivals: [Arrivals; 3],
}

impl<'a> Asker<'a> {
    pub fn new(context: Context, queue: &'a QueueName, keys: &'a QueueKeys) -> Self {
        let (of_data, arrivals) = Default::default();
        Self { context, queue, keys, names: None, place: None, backlog: None, facts: None, of_data, arrivals }
    }

    /// For one question, by what lies in the keyspace.
    pub fn once(context: Context, queue: &'a QueueName, keys: &'a QueueKeys, names: &'a Names) -> Self {
        Self { names: Some(names), ..Self::new(context, queue, keys) }
    }

    /// Walks the policies, by the counts of `store`.
    pub fn judge(&mut self, store: &impl Store, facts: &Facts<'_>) -> Decision {
        let (_, max_memory) = sampled::memory();
        let (place, terms) = {
            let mut policies = policies();
            if policies.is_empty() {
                return Decision::Admit;
            }
            let place = *self.place.get_or_insert_with(|| policies.walk(self.context.db(), self.queue.as_str()));
            (place, policies.terms(place, max_memory))
        };
        if terms.is_some_and(|terms| self.meets(store, &terms, facts.bytes())) {
            policies().met(place, facts.source());
            return Decision::Admit;
        }
        let (db, name) = (self.context.db(), self.queue);
        let (job, caller) = (facts.job(), facts.caller);
        let mut notes = Notes::default();
        let queue = self.read(store);
        let (place, decision) = {
            let mut policies = policies();
            // Reading facts may tell of a profile that expired, which ends all walks.
            let place = policies.walk(db, name.as_str());
            (place, policies.decide(place, node(), queue, &job, caller, &mut notes))
        };
        self.place = Some(place);
        notes.incidents.into_iter().for_each(report);
        for (policy, outcome) in &notes.outcomes {
            guard::verdict(db, name, policy, *outcome);
        }
        decision
    }

    /// As [`Terms::meet`], reading no more than the terms name.
    fn meets(&mut self, store: &impl Store, terms: &Terms, job_bytes: u64) -> bool {
        terms.job_bytes.is_none_or(|most| job_bytes <= most)
            && terms.used_memory_below.is_none_or(|below| sampled::memory().0 < below)
            && terms.until_ms.is_none_or(|until| now_ms() < until)
            && terms.backlog_below.is_none_or(|below| self.backlog(store) < below)
            && terms.queue_bytes.is_none_or(|most| self.read(store).bytes.saturating_add(job_bytes) <= most)
    }

    fn backlog(&mut self, store: &impl Store) -> u64 {
        const SLOTS: [usize; 3] = [QueueKeys::WAIT, QueueKeys::PAUSED, QueueKeys::PRIORITIZED];
        let (context, keys, names) = (self.context, self.keys, self.names);
        *self.backlog.get_or_insert_with(|| match names {
            Some(names) => names.len(context, SLOTS),
            None => SLOTS.map(|slot| store.len(keys.all()[slot])).into_iter().sum(),
        })
    }

    fn read(&mut self, store: &impl Store) -> &Queue {
        let (context, name, keys) = (self.context, self.queue, self.keys);
        if self.facts.is_none() {
            self.tell();
            self.of_data = sizes::of_data(context.db(), name);
        }
        self.facts.get_or_insert_with(|| queue_facts(context, name, Counts::read(store, keys), 0))
    }

    /// Some policy was shown the queue's facts, its bytes among them.
    pub fn has_read(&self) -> bool {
        self.facts.is_some()
    }

    /// A job with so many bytes of data went this way since the facts were read.
    pub fn entered(&mut self, route: Route, bytes: u64) {
        if let (Some(backlog), Route::Standard | Route::Prioritized) = (&mut self.backlog, route) {
            *backlog += 1;
        }
        let Some(queue) = &mut self.facts else { return };
        self.arrivals[route as usize].count(bytes);
        let (plain, byte) = self.of_data[route as usize];
        queue.bytes = queue.bytes.saturating_add((plain + byte * bytes as f64) as u64);
        match route {
            Route::Standard => queue.waiting += 1,
            Route::Prioritized => queue.prioritized += 1,
            Route::Delayed => queue.delayed += 1,
        }
    }

    /// The queue changed in another way: the next question reads it again.
    pub fn forget(&mut self) {
        self.backlog = None;
        self.facts = None;
    }

    /// Tells the estimate of the queue's bytes of the jobs that entered.
    pub fn tell(&mut self) {
        let arrivals = std::mem::take(&mut self.arrivals);
        if arrivals.iter().any(|arrivals| !arrivals.is_empty()) {
            sizes::arrived(self.context.db(), self.queue, &arrivals);
        }
    }
}

/// Runs the script of a job that a guarded client adds, and tells the estimate of the queue's bytes of the job if its
/// queue grew by one.
pub fn run_add(context: Context, queue: &QueueName, job: &ScriptJob<'_>, run: impl FnOnce() -> Ran) -> Ran {
    if policies().is_empty() {
        return run();
    }
    let (route, store) = (job.route(), LiveStore(context));
    let place = queue.key(match route {
        Route::Standard => "wait",
        Route::Prioritized => "prioritized",
        Route::Delayed => "delayed",
    });
    let before = store.len(&place);
    let ran = run();
    if store.len(&place) > before {
        let mut arrivals = <[Arrivals; 3]>::default();
        arrivals[route as usize].count(job.data.len() as u64);
        sizes::arrived(context.db(), queue, &arrivals);
    }
    ran
}

/// What a policy would see of this job now, were it sent by this kind of sender.
pub fn trial_facts(
    context: Context,
    queue: &QueueName,
    keys: &QueueKeys,
    job: &NewJob<'_>,
    source: Source,
) -> (Node, Queue, Job) {
    let counts = Counts::read(&LiveStore(context), keys);
    let facts = queue_facts(context, queue, counts, 0);
    (node(), facts, Job { source, ..Facts::of(job).job() })
}

pub(super) fn queue_facts(context: Context, name: &QueueName, counts: Counts, oldest_waiting_ms: u64) -> Queue {
    let db = context.db();
    let size = sizes::of(db, name, &counts).unwrap_or_default();
    let (pace, limits) = (rates::of(db, name), profiles::limits(context, name));
    Queue {
        name: name.as_str().to_owned(),
        waiting: counts.waiting + counts.paused,
        active: counts.active,
        delayed: counts.delayed,
        prioritized: counts.prioritized,
        waiting_children: counts.waiting_children,
        completed: counts.completed,
        failed: counts.failed,
        paused: counts.is_paused,
        oldest_waiting_ms,
        bytes: size.total(),
        retained_bytes: size.retained(),
        added_per_sec: pace.added_per_sec,
        failed_last_hour: pace.failed_last_hour,
        limits: Limits {
            priority: limits.priority,
            concurrency: limits.concurrency,
            max_jobs: limits.max_jobs,
            max_bytes: limits.max_bytes,
            max_job_bytes: limits.max_job_bytes,
        },
    }
}

pub(super) fn node() -> Node {
    let (used_memory, max_memory) = sampled::memory();
    let queues = u32::try_from(queues::snapshot().known).unwrap_or(u32::MAX);
    Node { now_ms: now_ms(), used_memory, max_memory, queues }
}

/// Faults are logged once a second at most; a suspension always.
const QUIET_MS: u64 = 1000;

/// Tells of a fault, and has a new instance made.
pub(super) fn report(incident: Incident) {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    let now = now_ms();
    let Incident { policy, text, suspended, failed, remake } = incident;
    if suspended {
        log(Level::Warning, &format!("bull: policy {policy} is suspended after repeated failures, the last: {text}"));
    } else if now.saturating_sub(LAST_MS.swap(now, Ordering::Relaxed)) >= QUIET_MS {
        log(Level::Warning, &format!("bull: policy {policy} failed: it {text}"));
    }
    match remake {
        Some(order) => changes::remake(order, failed),
        None => changes::discard(failed),
    }
}

/// Policies, their faults, and how many are suspended or broken, for INFO.
pub struct Summary {
    pub policies: u64,
    pub faults: u64,
    pub suspended: u64,
    pub broken: u64,
}

pub fn summary() -> Summary {
    let policies = policies();
    let all = policies.policies();
    let count = |state| all.iter().filter(|policy| policy.state() == state).count() as u64;
    Summary {
        policies: all.len() as u64,
        faults: all.iter().map(|policy| policy.counters.faults).sum(),
        suspended: count(State::Suspended),
        broken: count(State::Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_between_characters_and_never_grows() {
        assert_eq!(job_name("a\u{4e00}".as_bytes()), "a\u{4e00}");
        assert_eq!(job_name(&[b'x'; MAX_JOB_NAME]), "x".repeat(MAX_JOB_NAME));
        let long = "\u{4e00}".repeat(1000);
        assert_eq!(job_name(long.as_bytes()), "\u{4e00}".repeat(341));
        assert_eq!(job_name(&[0xff; 5000]), "\u{fffd}".repeat(341));
    }
}

//! This node in numbers at a moment. The timer makes it, whoever wants numbers takes the newest; nobody reads the
//! keyspace for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::keeper::guard::{Counts as GuardCounts, Verdicts};
use crate::keeper::rates::Happened;
use crate::keeper::sizes::Size;
use crate::policy::times::Times as PolicyTimes;
use crate::queue::keys::QueueName;
use crate::queue::profile::Limits;
use crate::queue::stats::{Ages, Counts};

#[derive(Debug, Default)]
pub struct Snapshot {
    /// Counts up; 0 is the empty one before the first.
    pub number: u64,
    /// Unix time, milliseconds.
    pub taken_ms: u64,
    /// From the first queue that was read for it to the last, milliseconds.
    pub round_ms: u64,
    pub node: NodeFacts,
    pub guard: GuardCounts,
    pub policies: Vec<PolicyFacts>,
    /// Queues shown one by one; none on a replica.
    pub queues: Vec<QueueFacts>,
    /// The others together.
    pub rest: Rest,
}

#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    pub primary: bool,
    pub used_memory: u64,
    /// 0: no limit.
    pub max_memory: u64,
    pub queues: u64,
    pub queues_followed: u64,
    pub running_jobs_timed: u64,
    pub scanning: bool,
    pub jobs_added: u64,
    pub jobs_refused: u64,
    pub jobs_trimmed: u64,
    pub bytes_trimmed: u64,
    pub trims_running: u64,
    pub slices: u64,
    pub slices_us: u64,
    pub longest_slice_us: u64,
    pub panics: u64,
    pub late_errors: u64,
}

#[derive(Clone, Debug)]
pub struct PolicyFacts {
    pub name: String,
    pub version: String,
    pub mode: &'static str,
    /// The first twelve digits; empty before it is compiled.
    pub digest: String,
    /// It is not asked: suspended after failures, or its files cannot be used.
    pub suspended: bool,
    pub calls: u64,
    pub admitted: u64,
    pub rejected: u64,
    pub deferred: u64,
    pub displaced: u64,
    pub observed: u64,
    pub faults: u64,
    pub times: PolicyTimes,
}

#[derive(Clone, Debug)]
pub struct QueueFacts {
    pub db: i32,
    pub name: QueueName,
    /// Prefix and name for labels.
    pub prefix: String,
    pub queue: String,
    pub standing: Standing,
    /// Since the start.
    pub happened: Happened,
    pub limits: Limits,
    /// By the policy's name.
    pub verdicts: BTreeMap<String, Verdicts>,
}

/// How a queue, or several together, stand at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    pub counts: Counts,
    /// Of several queues the highest ages, and the sum of stalled jobs.
    pub ages: Ages,
    pub failed_last_hour: u64,
    pub size: Size,
}

/// Queues that are not shown one by one.
#[derive(Clone, Debug, Default)]
pub struct Rest {
    pub queues: u64,
    pub standing: Standing,
    /// While they were not shown.
    pub happened: Happened,
}

static NEWEST: Mutex<Option<Arc<Snapshot>>> = Mutex::new(None);

/// Any thread.
pub fn newest() -> Arc<Snapshot> {
    NEWEST.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
}

/// Puts the next one in place, with its number.
pub fn publish(mut snapshot: Snapshot) {
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    snapshot.number = newest.as_ref().map_or(0, |last| last.number) + 1;
    let old = newest.replace(Arc::new(snapshot));
    // Freeing takes time: not under the lock.
    drop(newest);
    drop(old);
}

impl Rest {
    /// One more queue that has no series of its own.
    pub fn add(&mut self, queue: &Standing) {
        self.queues += 1;
        let all = &mut self.standing;
        let (sum, counts) = (&mut all.counts, queue.counts);
        sum.waiting += counts.waiting;
        sum.paused += counts.paused;
        sum.active += counts.active;
        sum.delayed += counts.delayed;
        sum.prioritized += counts.prioritized;
        sum.waiting_children += counts.waiting_children;
        sum.completed += counts.completed;
        sum.failed += counts.failed;
        all.ages.oldest_waiting_ms = all.ages.oldest_waiting_ms.max(queue.ages.oldest_waiting_ms);
        all.ages.oldest_active_ms = all.ages.oldest_active_ms.max(queue.ages.oldest_active_ms);
        all.ages.stalled += queue.ages.stalled;
        all.failed_last_hour += queue.failed_last_hour;
        all.size.add(&queue.size);
    }
}

//! What a trim is told and what it tells: its criteria, its tally, and what it asks of those who run its slices.
//!
//! Nothing here looks at a queue.

use crate::queue::parent::Parent;
use crate::queue::profile::Limits;
use crate::queue::remove::Absent;

/// What goes: jobs that any of the criteria names. None leaves that part of the queue alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Criteria {
    /// Completed jobs that finished at or before this time, Unix milliseconds.
    pub completed_before: Option<u64>,
    /// Failed jobs that finished at or before this time, Unix milliseconds.
    pub failed_before: Option<u64>,
    /// Completed jobs that stay, the newest.
    pub keep_completed: Option<u64>,
    /// Failed jobs that stay, the newest.
    pub keep_failed: Option<u64>,
    /// Waiting, paused and prioritized jobs whose turn began at or before this time, Unix milliseconds.
    pub waiting_before: Option<u64>,
    /// Events that stay in the queue's stream, the newest.
    pub events: Option<u64>,
    /// Bytes of the queue above which its oldest finished jobs go, after all that the other criteria name.
    pub max_bytes: Option<u64>,
    /// Jobs removed at most; None for no limit.
    pub limit: Option<u64>,
}

impl Criteria {
    /// The retention that a queue's limits ask for at this time, Unix milliseconds.
    pub fn in_force(limits: &Limits, now_ms: u64) -> Self {
        Self {
            completed_before: limits.retain_completed_ms.map(|age| now_ms.saturating_sub(age)),
            failed_before: limits.retain_failed_ms.map(|age| now_ms.saturating_sub(age)),
            keep_completed: limits.keep_completed,
            keep_failed: limits.keep_failed,
            events: limits.max_events,
            max_bytes: limits.max_bytes,
            ..Self::default()
        }
    }
}

/// Whether what is found goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Remove,
    /// It is counted and stays.
    DryRun,
}

/// What a trim has done so far; in a dry run what it would have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub examined: u64,
    pub completed: u64,
    pub failed: u64,
    pub waiting: u64,
    /// Entries of the event stream.
    pub events: u64,
    /// Bytes of jobs' keys, of their places in lists and sets, and of events; measured for the first jobs, then extrapolated from a sample.
    pub bytes: u64,
    /// Jobs that fit the criteria and stay, for a reason that [`Kept`](crate::queue::remove::Kept) names.
    pub kept: u64,
}

impl Tally {
    /// Jobs that went, of any state.
    pub fn jobs(&self) -> u64 {
        self.completed + self.failed + self.waiting
    }
}

/// What a slice asks of those who run it.
pub trait Around {
    /// The slice is over. Asked after each job.
    fn expired(&mut self) -> bool;
    /// The caller may change this parent, which lies in another queue. Asked before its child goes.
    fn may_release(&mut self, parent: &Parent) -> bool;
}

/// What a trim's slice asks besides.
pub trait Weigh: Around {
    /// The bytes of the queue as it is, and by how many they may be off; None where finding out takes longer than this
    /// slice.
    fn queue_bytes(&mut self) -> Option<(u64, u64)>;
    /// What need not be looked for in this slice. Asked once.
    fn absent(&mut self) -> Absent;
}

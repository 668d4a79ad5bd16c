//! A queue's limits, as its profile and the node's defaults set them.

/// None: no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// 1 is the most important queue.
    pub priority: Option<u32>,
    /// Jobs that may run at a time.
    pub concurrency: Option<u32>,
    /// Jobs that may wait.
    pub max_jobs: Option<u64>,
    pub max_bytes: Option<u64>,
    pub max_job_bytes: Option<u64>,
    /// Age at which completed jobs go, milliseconds.
    pub retain_completed_ms: Option<u64>,
    /// Age at which failed jobs go, milliseconds.
    pub retain_failed_ms: Option<u64>,
    /// Completed jobs that stay, the newest.
    pub keep_completed: Option<u64>,
    /// Failed jobs that stay, the newest.
    pub keep_failed: Option<u64>,
    /// Events that stay in the queue's stream.
    pub max_events: Option<u64>,
}

//! Records for unit tests on the host, with values that say nothing: a small plain job, an empty queue, a node at
//! rest. A test changes what it is about:
//!
//! ```
//! use bull_policy_sdk::{Queue, test_kit};
//!
//! let busy = Queue { waiting: 500, ..test_kit::queue("bull:mail") };
//! assert_eq!((busy.waiting, busy.active), (500, 0));
//! ```
//!
//! Nothing here talks to a server; an end-to-end test of a policy belongs to the module's tests.

use crate::{Job, Limits, Node, Queue, Source};

/// 2026-01-01 00:00:00 UTC in milliseconds: the time on [`node`].
pub const NOW_MS: u64 = 1_767_225_600_000;

/// A job of 100 bytes sent by BULL.ADD, with no delay, priority, parent or scheduler.
#[must_use]
pub fn job() -> Job {
    Job {
        name: "job".into(),
        bytes: 100,
        delay_ms: 0,
        priority: 0,
        attempts: 1,
        child: false,
        scheduled: false,
        source: Source::Command,
    }
}

/// An empty queue that is not paused. The name is the qualified one, such as `bull:mail`.
#[must_use]
pub fn queue(name: &str) -> Queue {
    Queue {
        name: name.into(),
        waiting: 0,
        active: 0,
        delayed: 0,
        prioritized: 0,
        waiting_children: 0,
        completed: 0,
        failed: 0,
        paused: false,
        oldest_waiting_ms: 0,
        bytes: 0,
        retained_bytes: 0,
        added_per_sec: 0.0,
        failed_last_hour: 0,
        limits: Limits { priority: None, concurrency: None, max_jobs: None, max_bytes: None, max_job_bytes: None },
    }
}

/// A node with one queue that uses 10 MiB and has no memory limit, at [`NOW_MS`].
#[must_use]
pub fn node() -> Node {
    Node { now_ms: NOW_MS, used_memory: 10 << 20, max_memory: 0, queues: 1 }
}

//! The queues of an emergency run's plan: how important each is, what went of it, and how that is told.

use crate::queue::keys::QueueName;
use crate::redis::reply::{Reply, map};

/// A queue of the plan, and what went of it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) db: i32,
    pub(super) queue: QueueName,
    pub(super) priority: u32,
    /// Finished jobs when the plan was made.
    pub(super) finished: u64,
    pub(super) went: Went,
    /// A key of another type, or an error of the server: the queue is passed over.
    pub(super) error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Went {
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) events: u64,
    /// Jobs that lost their logs.
    pub(super) logs: u64,
    pub(super) job_bytes: u64,
    pub(super) event_bytes: u64,
    pub(super) log_bytes: u64,
}

impl Went {
    pub(super) fn bytes(&self) -> u64 {
        self.job_bytes + self.event_bytes + self.log_bytes
    }
}

impl Row {
    pub(super) fn reply(&self) -> Reply {
        map([
            ("queue", Reply::bulk(self.queue.as_bytes())),
            ("db", Reply::Integer(i64::from(self.db))),
            ("priority", Reply::count(self.priority.into())),
            ("completed", self.went.completed.into()),
            ("failed", self.went.failed.into()),
            ("events", self.went.events.into()),
            ("logs", self.went.logs.into()),
            ("bytes-freed", self.went.bytes().into()),
            ("error", self.error.as_deref().map_or(Reply::Null, Reply::from)),
        ])
    }
}

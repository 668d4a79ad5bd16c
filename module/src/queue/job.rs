//! A job that asks to enter, and the names of the queue's keys that its entry touches.

use std::rc::Rc;

use super::data::check;
use super::error::{QueueError, Result};
use super::keys::QueueName;
use super::opts::JobOptions;
use super::store::Kind;
use crate::text::short;

/// A job after all checks that need no keyspace.
#[derive(Debug)]
pub struct NewJob<'a> {
    pub name: &'a [u8],
    /// JSON text, stored byte for byte.
    pub data: &'a [u8],
    pub options: Rc<JobOptions>,
    /// Time of the call, milliseconds.
    pub now_ms: u64,
}

impl<'a> NewJob<'a> {
    /// Errors: a name that is not UTF-8, data over `sizeLimit`, data that fails [`check`] where `validate`.
    pub fn new(
        name: &'a [u8],
        data: &'a [u8],
        options: impl Into<Rc<JobOptions>>,
        now_ms: u64,
        validate: DataCheck,
    ) -> Result<Self> {
        let options = options.into();
        if std::str::from_utf8(name).is_err() {
            return Err(QueueError::bad("job name is not valid UTF-8"));
        }
        if let Some(limit) = options.size_limit.filter(|&limit| data.len() as f64 > limit) {
            let name = short(name, 64);
            return Err(QueueError::bad(format!("the size of job {name} exceeds the limit {limit} bytes")));
        }
        if validate == DataCheck::Json {
            check(data)?;
        }
        Ok(Self { name, data, options, now_ms })
    }

    /// `job.timestamp`: the option, or the time of the call.
    pub fn timestamp(&self) -> f64 {
        self.options.timestamp.unwrap_or(self.now_ms as f64)
    }

    /// Makes the job wait at least so many milliseconds from now on, whatever its timestamp.
    pub fn defer(&mut self, ms: u64) {
        let age = self.now_ms as f64 - self.timestamp();
        Rc::make_mut(&mut self.options).defer(ms as f64 + age);
    }

    pub fn route(&self) -> Route {
        if self.options.delay > 0.0 {
            Route::Delayed
        } else if self.options.priority > 0 {
            Route::Prioritized
        } else {
            Route::Standard
        }
    }
}

/// Whether `data` is parsed before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataCheck {
    Json,
    Off,
}

/// Where a job goes: delay wins over priority, priority over LIFO (BullMQ 6.7 `addJobToTransaction`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Standard,
    Prioritized,
    Delayed,
}

/// The keys of a queue, spelled out once.
#[derive(Debug)]
pub struct QueueKeys {
    pub wait: Vec<u8>,
    pub paused: Vec<u8>,
    pub active: Vec<u8>,
    pub prioritized: Vec<u8>,
    pub delayed: Vec<u8>,
    pub waiting_children: Vec<u8>,
    pub completed: Vec<u8>,
    pub failed: Vec<u8>,
    pub meta: Vec<u8>,
    pub id: Vec<u8>,
    pub pc: Vec<u8>,
    pub marker: Vec<u8>,
    pub events: Vec<u8>,
    pub repeat: Vec<u8>,
}

impl QueueKeys {
    /// How many there are.
    pub const COUNT: usize = 14;
    /// Places in [`QueueKeys::all`].
    pub const WAIT: usize = 0;
    pub const PAUSED: usize = 1;
    pub const ACTIVE: usize = 2;
    pub const PRIORITIZED: usize = 3;
    pub const DELAYED: usize = 4;
    pub const WAITING_CHILDREN: usize = 5;
    pub const COMPLETED: usize = 6;
    pub const FAILED: usize = 7;
    pub const META: usize = 8;
    pub const ID: usize = 9;
    pub const PC: usize = 10;
    pub const MARKER: usize = 11;
    pub const EVENTS: usize = 12;
    pub const REPEAT: usize = 13;
    /// Their types, in the order of [`QueueKeys::all`].
    pub const KINDS: [Kind; Self::COUNT] = [
        Kind::List,
        Kind::List,
        Kind::List,
        Kind::ZSet,
        Kind::ZSet,
        Kind::ZSet,
        Kind::ZSet,
        Kind::ZSet,
        Kind::Hash,
        Kind::String,
        Kind::String,
        Kind::ZSet,
        Kind::Stream,
        Kind::ZSet,
    ];
    /// Those that adds write to, as a rule.
    pub const WRITTEN: [usize; 5] = [Self::WAIT, Self::ID, Self::PC, Self::MARKER, Self::EVENTS];
    /// Those that an add may write to whatever its own way in: a policy may defer the job or displace others.
    pub const ANY_ADD: [usize; 6] = [Self::META, Self::ID, Self::EVENTS, Self::MARKER, Self::WAIT, Self::DELAYED];

    /// All of them, in the order of the fields.
    pub fn all(&self) -> [&[u8]; Self::COUNT] {
        [
            &self.wait,
            &self.paused,
            &self.active,
            &self.prioritized,
            &self.delayed,
            &self.waiting_children,
            &self.completed,
            &self.failed,
            &self.meta,
            &self.id,
            &self.pc,
            &self.marker,
            &self.events,
            &self.repeat,
        ]
    }

    pub fn of(queue: &QueueName) -> Self {
        Self {
            wait: queue.key("wait"),
            paused: queue.key("paused"),
            active: queue.key("active"),
            prioritized: queue.key("prioritized"),
            delayed: queue.key("delayed"),
            waiting_children: queue.key("waiting-children"),
            completed: queue.key("completed"),
            failed: queue.key("failed"),
            meta: queue.key("meta"),
            id: queue.key("id"),
            pc: queue.key("pc"),
            marker: queue.key("marker"),
            events: queue.key("events"),
            repeat: queue.key("repeat"),
        }
    }
}

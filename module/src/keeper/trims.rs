//! Trims that outlast their command: each turn of the timer gives one of them a slice.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::queue::error::Result;
use crate::queue::trim::Trim;
use crate::redis::block::Waiting;
use crate::redis::context::now_ms;
use crate::redis::reply::{Reply, map};
use crate::redis::store::LiveStore;
use crate::redis::{Context, timer};
use crate::{config, metrics};

/// A trim whose client waits.
pub struct Job {
    pub trim: Trim,
    pub db: i32,
    pub waiting: Waiting,
}

static JOBS: Mutex<VecDeque<Job>> = Mutex::new(VecDeque::new());

fn jobs() -> MutexGuard<'static, VecDeque<Job>> {
    JOBS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn running() -> u64 {
    jobs().len() as u64
}

pub fn push(context: Context, job: Job) {
    jobs().push_back(job);
    timer::hurry(context);
}

/// One slice of one trim. True where work waits and may be done.
pub fn slice(context: Context) -> bool {
    if !context.may_write_unasked() {
        return false;
    }
    let Some(mut job) = jobs().pop_front() else { return false };
    context.select(job.db);
    match run_slice(context, &mut job.trim) {
        Ok(false) => jobs().push_back(job),
        Ok(true) => job.waiting.answer(report(context, &job.trim, true)),
        Err(error) => job.waiting.answer(crate::error::Error::from(error).into()),
    }
    running() > 0
}

/// Works for the length of a slice. True when the trim is done.
pub fn run_slice(context: Context, trim: &mut Trim) -> Result<bool> {
    let before = trim.tally;
    let start = Instant::now();
    let length = config::slice();
    let done = trim.slice(&mut LiveStore(context), now_ms(), || start.elapsed() >= length);
    metrics::slice_took(start.elapsed().as_micros() as u64);
    let jobs = trim.tally.completed + trim.tally.failed - before.completed - before.failed;
    metrics::TRIMMED_JOBS.add(jobs);
    metrics::TRIMMED_BYTES.add(trim.tally.bytes - before.bytes);
    done
}

/// The answer to BULL.TRIM, and the event that tells QueueEvents.
pub fn report(context: Context, trim: &Trim, done: bool) -> Reply {
    let mut store = LiveStore(context);
    if let Err(error) = trim.announce(&mut store) {
        metrics::late_error("trim", &error.to_string());
    }
    let tally = trim.tally;
    map([
        ("examined", tally.examined.into()),
        ("completed", tally.completed.into()),
        ("failed", tally.failed.into()),
        ("kept", tally.kept.into()),
        ("bytes-freed", tally.bytes.into()),
        ("remaining", trim.remaining(&store).unwrap_or(0).into()),
        ("done", Reply::Bool(done)),
    ])
}

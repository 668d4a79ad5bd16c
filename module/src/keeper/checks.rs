//! Checks of queues that outlast their command: one at a time gets the timer's slices, those that wait for another look
//! let the next one in.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::trims::Here;
use crate::metrics;
use crate::queue::audit::{Audit, Fault, Step, is_due};
use crate::queue::error::Result;
use crate::redis::block::Waiting;
use crate::redis::context::{User, now_ms};
use crate::redis::events::Change;
use crate::redis::reply::Reply;
use crate::redis::store::LiveStore;
use crate::redis::{Context, timer};

/// Most checks at a time: each may remember a million ids.
const MOST: usize = 16;

/// A check whose client waits.
pub struct Job {
    pub audit: Audit,
    pub db: i32,
    pub waiting: Waiting,
    /// Whose rights count; None where the server has no user for the client.
    pub user: Option<User>,
    /// Not before this time, milliseconds.
    pub due: u64,
}

static JOBS: Mutex<VecDeque<Job>> = Mutex::new(VecDeque::new());

fn jobs() -> MutexGuard<'static, VecDeque<Job>> {
    JOBS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn has_room() -> bool {
    jobs().len() < MOST
}

pub fn push(context: Context, job: Job) {
    jobs().push_back(job);
    timer::hurry(context);
}

/// One slice of one check. True where work waits and may be done. A check that repairs nothing waits as well while
/// clients are paused: a key that expires as it is looked at is a write.
pub fn slice(context: Context) -> bool {
    if !context.may_write_unasked() {
        return false;
    }
    let now = now_ms();
    let next = {
        let mut jobs = jobs();
        jobs.iter().position(|job| is_due(job.due, now)).and_then(|at| jobs.remove(at))
    };
    let Some(mut job) = next else { return false };
    let before = context.db();
    if !context.select(job.db) {
        let text = format!("database {} is gone; the check has ended", job.db);
        job.waiting.answer(crate::error::Error::bad(text).into());
        return true;
    }
    let result = run_slice(context, &mut job.audit, job.user.as_ref());
    context.select(before);
    match result {
        Ok(Step::Done) => job.waiting.answer(report(&job.audit, true)),
        Ok(Step::More) => jobs().push_front(job),
        Ok(Step::Later(due)) => {
            job.due = due;
            jobs().push_back(job);
        }
        Err(error) => job.waiting.answer(crate::error::Error::from(error).into()),
    }
    jobs().iter().any(|job| is_due(job.due, now))
}

/// Works for the length of a slice, with the rights of `user` where there is one.
pub fn run_slice(context: Context, audit: &mut Audit, user: Option<&User>) -> Result<Step> {
    let mut here = Here::now(user);
    let step = audit.slice(&mut LiveStore(context), now_ms(), &mut here);
    metrics::slice_took(here.elapsed_us());
    step
}

/// The answer to BULL.CHECK.
pub fn report(audit: &Audit, done: bool) -> Reply {
    let tally = &audit.tally;
    let mut fields = vec![("examined".to_owned(), tally.examined.into()), ("found".to_owned(), tally.found().into())];
    fields.extend(Fault::ALL.map(|fault| (fault.plural().to_owned(), tally.count(fault).into())));
    fields.push(("repaired".to_owned(), tally.repaired.into()));
    fields.push(("unsure".to_owned(), tally.unsure.into()));
    let named = tally.named.iter().map(|line| line.as_str().into()).collect();
    fields.push(("findings".to_owned(), Reply::Array(named)));
    fields.push(("done".to_owned(), Reply::Bool(done)));
    Reply::Map(fields)
}

/// Databases that changed places, and this node's part: a replica drops what it had begun.
pub fn on_change(change: Change) {
    match change {
        Change::Primary(false) => {
            let dropped = std::mem::take(&mut *jobs());
            for job in dropped {
                let text = "READONLY this node became a replica in the middle of the check; call the new primary";
                job.waiting.answer(Reply::Error(text.into()));
            }
        }
        Change::Swapped(first, second) => {
            for job in jobs().iter_mut() {
                job.db = match job.db {
                    db if db == first => second,
                    db if db == second => first,
                    db => db,
                };
            }
        }
        _ => {}
    }
}

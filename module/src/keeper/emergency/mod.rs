//! The emergency run of this node: finished jobs, events and logs go, the least important queue first, until used memory
//! is below its target. One at a time, in slices of the timer, like a client's trim.
//!
//! Nothing here needs free memory: it works while Redis refuses writes. Unfinished jobs are never touched.

mod rows;
mod run;

use std::sync::{Mutex, MutexGuard, PoisonError};

use wildmatch::WildMatch;

pub use self::run::Run;
use self::run::State;
use crate::queue::emergency::{COMPLETED_MS, FAILED_MS};
use crate::queue::trim::Mode;
use crate::redis::block::Waiting;
use crate::redis::events::Change;
use crate::redis::reply::Reply;
use crate::redis::{Context, timer};

/// What is asked for.
#[derive(Debug)]
pub struct Request {
    pub mode: Mode,
    /// Share of maxmemory, percent.
    pub target: u64,
    /// Ages of the first step, milliseconds.
    pub completed_ms: u64,
    pub failed_ms: u64,
    /// Queues that it is about; None for all.
    pub pattern: Option<WildMatch>,
}

struct Place {
    run: Option<Run>,
    waiting: Option<Waiting>,
    /// What the last run came to.
    last: Option<Reply>,
}

static PLACE: Mutex<Place> = Mutex::new(Place { run: None, waiting: None, last: None });

/// Never held across a call to the server.
fn place() -> MutexGuard<'static, Place> {
    PLACE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn is_running() -> bool {
    let place = place();
    place.run.is_some() || place.waiting.is_some()
}

/// Goes on with a run while its client waits.
pub fn push(context: Context, run: Run, waiting: Waiting) {
    let mut place = place();
    place.run = Some(run);
    place.waiting = Some(waiting);
    drop(place);
    timer::hurry(context);
}

/// Begins a run that no client waits for, with the ages that BULL.EMERGENCY has where none is given. False: one is under
/// way.
pub fn start(context: Context, target: u64) -> bool {
    if is_running() {
        return false;
    }
    let request =
        Request { mode: Mode::Remove, target, completed_ms: COMPLETED_MS, failed_ms: FAILED_MS, pattern: None };
    let run = Run::new(context, request, None);
    place().run = Some(run);
    true
}

/// What the run under way, or the last one, came to; None where there was none.
pub fn status(context: Context) -> Option<Reply> {
    let used = used_memory(context);
    let mut place = place();
    if let Some(run) = &mut place.run {
        run.used = used;
        return Some(run.report());
    }
    place.last.clone()
}

/// Ends the run under way. False where there is none.
pub fn stop(context: Context) -> bool {
    let (run, waiting) = {
        let mut place = place();
        (place.run.take(), place.waiting.take())
    };
    let Some(mut run) = run else { return false };
    run.end(context, State::Stopped);
    finish(run, waiting);
    true
}

/// Ends a run that no client waits for: it is over, or has had its one slice.
pub fn remember(mut run: Run, context: Context) -> Reply {
    if run.state == State::Running {
        run.end(context, State::Stopped);
    }
    let reply = run.report();
    place().last = Some(reply.clone());
    reply
}

fn finish(run: Run, waiting: Option<Waiting>) {
    let reply = run.report();
    place().last = Some(reply.clone());
    if let Some(waiting) = waiting {
        waiting.answer(reply);
    }
}

/// One slice. True where a run is under way.
pub fn slice(context: Context) -> bool {
    if !context.may_write_unasked() {
        return false;
    }
    // A run that panics takes its client with it: nobody waits for it, and the next one may begin.
    let (run, waiting) = {
        let mut place = place();
        (place.run.take(), place.waiting.take())
    };
    let Some(mut run) = run else { return false };
    if run.slice(context) {
        finish(run, waiting);
        return false;
    }
    let mut place = place();
    (place.run, place.waiting) = (Some(run), waiting);
    true
}

/// A replica drops what it had begun, and its client is told. Databases change places under a run too rarely to follow:
/// it ends.
pub fn on_change(change: Change) {
    let text = match change {
        Change::Primary(false) => "READONLY this node became a replica in the middle of the run; call the new primary",
        Change::Swapped(..) => "ERR databases were swapped in the middle of the run; call again",
        _ => return,
    };
    let (run, waiting) = {
        let mut place = place();
        (place.run.take(), place.waiting.take())
    };
    drop(run);
    if let Some(waiting) = waiting {
        waiting.answer(Reply::Error(text.into()));
    }
}

fn used_memory(context: Context) -> u64 {
    context.server_number(c"memory", c"used_memory").unwrap_or(0)
}

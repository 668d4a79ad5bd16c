//! BULL.EVAL and BULL.EVALSHA: what the command filter makes of the add scripts of unmodified BullMQ clients.
//!
//! The policies are asked about the job that the script's arguments hold; then the client's own script runs, unchanged and
//! with that client's rights, or nothing is written at all. Jobs that were accepted before are never asked about: children
//! of jobs, further iterations, and all scripts that do not add.

use std::cell::Cell;
use std::ffi::CStr;
use std::rc::Rc;

use super::answer;
use super::prepared::{Prepared, prepared};
use crate::config::{self, Guard};
use crate::error::{Error, Result};
use crate::keeper::admission::{Asker, Facts, run_add};
use crate::keeper::guard::{self, Event};
use crate::keeper::rates;
use crate::metrics;
use crate::policy::registry::Decision;
use crate::policy::settings::Mode;
use crate::queue::displace::displace;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::script::{Origin, ScriptJob, Shape, queue_name, read, recognise, shape};
use crate::queue::stats::Counts;
use crate::queue::store::Store;
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::filter::Passing;
use crate::redis::reply::Reply;
use crate::redis::script::Ran;
use crate::redis::store::LiveStore;
use crate::redis::string::Args;

/// The names that the filter gives, first BULL.EVAL for each shape by its number, then BULL.EVALSHA: the command needs not
/// look for the shape again.
pub fn names() -> impl Iterator<Item = &'static str> {
    ["BULL.EVAL", "BULL.EVALSHA"].into_iter().flat_map(|name| std::iter::repeat_n(name, shape::COUNT))
}

/// The filter's question: which of the names does this command have from now on?
pub fn rename(passing: Passing) -> Option<usize> {
    if config::guard() == Guard::Off {
        return None;
    }
    let name = passing.get(0);
    let names = match name.len() {
        4 if name.eq_ignore_ascii_case(b"EVAL") => 0,
        7 if name.eq_ignore_ascii_case(b"EVALSHA") => shape::COUNT,
        _ => return None,
    };
    if !guard::decides() {
        return None;
    }
    recognise(passing.len(), |at| passing.get(at)).map(|number| names + number)
}

pub fn eval(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(run(context, args, c"EVAL"))
}

pub fn evalsha(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(run(context, args, c"EVALSHA"))
}

/// None: the script has answered the client.
fn run(context: Context, args: Args<'_>, command: &CStr) -> Result<Option<Reply>> {
    let word = |at: usize| args.get(at).unwrap_or_default();
    let number = args.renamed().map(|place| place % shape::COUNT);
    let number = number.or_else(|| recognise(args.len(), word));
    let Some(shape) = number.and_then(shape::numbered) else {
        let name = command.to_string_lossy();
        return Err(Error::bad(format!("BULL.{name} runs the add scripts of BullMQ only; use {name} for others")));
    };
    // The switch may have been turned, or the node's part, while the command waited in MULTI.
    let mode = config::guard();
    if mode == Guard::Off || !guard::decides() {
        context.run_script(command, args);
        return Ok(None);
    }
    match readable(context, shape, args) {
        None => {
            let queue = queue_name(shape, word).and_then(|name| QueueName::parse(name).ok());
            guard::unreadable(context.db(), queue.as_ref(), word(3));
            context.run_script(command, args);
        }
        Some((queue, job)) => {
            let add = Add { context, command, args, queue, job, sized: Cell::new(false) };
            match mode {
                Guard::Enforce => add.enforce()?,
                _ => add.observe(),
            }
        }
    }
    Ok(None)
}

fn readable<'a>(context: Context, shape: &Shape, args: Args<'a>) -> Option<(Rc<Prepared>, ScriptJob<'a>)> {
    let job = read(shape, |at| args.get(at).unwrap_or_default())?;
    Some((prepared(context, job.queue).ok()?, job))
}

struct Add<'a> {
    context: Context,
    command: &'a CStr,
    args: Args<'a>,
    queue: Rc<Prepared>,
    job: ScriptJob<'a>,
    /// The policies were shown the queue's bytes.
    sized: Cell<bool>,
}

impl Add<'_> {
    fn count(&self, events: &[Event]) {
        guard::count(self.context.db(), &self.queue.queue, events);
    }

    /// Of a job that the policies were asked about.
    fn run(&self) -> Ran {
        let (context, queue) = (self.context, &self.queue.queue);
        let run =
            || rates::while_adding(context, queue, self.job.stores, || context.run_script(self.command, self.args));
        // Terms that name no bytes leave the estimate to its own looks, as they do in BULL.ADD.
        let ran = if self.sized.get() { run_add(context, queue, &self.job, run) } else { run() };
        self.count(match ran {
            Ran::Failed => &[Event::Guarded],
            Ran::Answered(_) => &[Event::Guarded, Event::Admitted],
        });
        ran
    }

    /// The job was accepted before, with what it belongs to.
    fn passes(&self) -> bool {
        match self.job.origin {
            Origin::Child | Origin::NextIteration => true,
            Origin::Scheduler(id) => LiveStore(self.context).zscore(&self.queue.keys.repeat, id).is_some(),
            Origin::Producer | Origin::FirstIteration => false,
        }
    }

    fn judge(&self, caller: Mode) -> Decision {
        let facts = Facts::of_script(&self.job, caller);
        let Prepared { queue, keys, names, .. } = &*self.queue;
        let mut asker = Asker::once(self.context, queue, keys, names);
        let decision = asker.judge(&LiveStore(self.context), &facts);
        self.sized.set(asker.has_read());
        decision
    }

    fn enforce(&self) -> Result<()> {
        if self.passes() {
            self.count(&[Event::Passed]);
            self.context.run_script(self.command, self.args);
            return Ok(());
        }
        match self.judge(Mode::Enforce) {
            Decision::Admit => self.run(),
            Decision::Reject { policy, reason } => return Err(self.refuse(policy, reason)),
            // It is late enough already.
            Decision::Defer { millis, .. } if self.job.delay_ms >= millis => self.run(),
            Decision::Defer { policy, millis } => {
                return Err(
                    self.refuse(policy, format!("asks for a delay of {millis} ms; add the job with that delay"))
                );
            }
            Decision::Displace { jobs, .. } => {
                self.displace(jobs);
                return Ok(());
            }
        };
        Ok(())
    }

    fn observe(&self) {
        if self.passes() {
            self.count(&[Event::Passed]);
            self.context.run_script(self.command, self.args);
            return;
        }
        match self.judge(Mode::Observe) {
            Decision::Admit => {}
            Decision::Defer { millis, .. } if self.job.delay_ms >= millis => {}
            _ => self.count(&[Event::Observed]),
        }
        self.run();
    }

    fn refuse(&self, policy: String, reason: String) -> Error {
        self.count(&[Event::Guarded, Event::Refused]);
        metrics::REFUSED.add(1);
        if self.command == c"EVAL" {
            self.context.remember_script(self.args.get(1).unwrap_or_default());
        }
        Error::Reject { policy, reason }
    }

    /// The script runs first: where it fails, or its job is in the queue already, no other job goes for it. Nobody sees
    /// the queue in between.
    fn displace(&self, jobs: u32) {
        let Prepared { queue, keys, .. } = &*self.queue;
        let mut store = LiveStore(self.context);
        let before = unfinished(&store, keys);
        let Ran::Answered(reply) = self.run() else { return };
        let Some(id) = reply.text() else { return };
        if unfinished(&store, keys) <= before {
            return;
        }
        if let Err(error) = displace(&mut store, queue, keys, jobs, id, now_ms()) {
            metrics::late_error("a displacement", &error.to_string());
        }
    }
}

fn unfinished(store: &impl Store, keys: &QueueKeys) -> u64 {
    let counts = Counts::read(store, keys);
    counts.waiting + counts.paused + counts.prioritized + counts.delayed + counts.waiting_children
}

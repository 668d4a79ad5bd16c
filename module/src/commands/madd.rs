//! BULL.MADD: many jobs of one queue in one command, each as BULL.ADD would add it.
//!
//! A job that is refused is an error at its place and keeps none of the others out. Never more than [`MAX_JOBS`] jobs, since
//! the main thread adds them in one go.

use std::rc::Rc;

use super::answer;
use super::gate::Gate;
use super::parse::Cursor;
use super::prepared::{options, prepared};
use crate::error::{Error, Result};
use crate::queue::job::NewJob;
use crate::queue::opts::{JobOptions, Words};
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::reply::Reply;
use crate::redis::string::Args;
use crate::{config, queue};

/// Most jobs of one command: some ten milliseconds of the main thread.
pub const MAX_JOBS: usize = 1000;

/// Where the first job's name lies among the arguments.
const FIRST_NAME: usize = 2;

/// The word for a job without options.
const NO_OPTIONS: &[u8] = b"-";

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(add_many(context, args).map(Some))
}

fn add_many(context: Context, args: Args<'_>) -> Result<Reply> {
    let mut cursor = Cursor::new(args, 1);
    let queue = prepared(context, cursor.required("the queue")?)?;
    let words = cursor.left();
    if words == 0 || !words.is_multiple_of(3) {
        return Err(Error::bad(format!(
            "BULL.MADD needs a name, data and options (JSON, or - for none) for each job; {words} words follow the queue"
        )));
    }
    if words / 3 > MAX_JOBS {
        return Err(Error::bad(format!("BULL.MADD takes at most {MAX_JOBS} jobs, not {}; send several", words / 3)));
    }
    let now = now_ms();
    let mut jobs = Vec::with_capacity(words / 3);
    while cursor.left() > 0 {
        let name = cursor.required("the job's name")?;
        let data = cursor.required("the job's data")?;
        let opts = match cursor.required("the job's options")? {
            NO_OPTIONS => options(b""),
            b"" => JobOptions::parse(Some(b""), Words::default()).map(Rc::new),
            text => options(text),
        };
        let job = opts.and_then(|options| NewJob::new(name, data, options, now, config::data_check()));
        jobs.push(job);
    }
    let mut gate = Gate::open("BULL.MADD", context, args, &queue)?;
    for job in jobs.iter().flatten() {
        gate.may_enter(job)?;
    }
    let enter = |(index, job): (usize, queue::error::Result<NewJob<'_>>)| {
        job.map_err(Error::from).and_then(|job| gate.enter(job, FIRST_NAME + 3 * index))
    };
    let replies = jobs.into_iter().enumerate().map(enter);
    Ok(Reply::Array(replies.map(|entered| entered.map_or_else(Reply::from, Reply::Bulk)).collect()))
}

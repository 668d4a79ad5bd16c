//! BULL.MADD: many jobs of one queue in one command, each as BULL.ADD would add it.
//!
//! A job that is refused is an error at its place and keeps none of the others out. Never more than [`MAX_JOBS`] jobs, since
//! the main thread adds them in one go.

use super::parse::Cursor;
use super::{add, answer, queue};
use crate::error::{Error, Result};
use crate::queue::job::QueueKeys;
use crate::queue::opts::{JobOptions, Words};
use crate::redis::Context;
use crate::redis::reply::Reply;
use crate::redis::string::Args;

/// Most jobs of one command: some ten milliseconds of the main thread.
pub const MAX_JOBS: usize = 1000;

/// The word for a job without options.
const NO_OPTIONS: &[u8] = b"-";

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(add_many(context, args).map(Some))
}

fn add_many(context: Context, args: Args<'_>) -> Result<Reply> {
    let mut cursor = Cursor::new(args, 1);
    let queue = queue(context, cursor.required("the queue")?)?;
    let words = cursor.left();
    if words == 0 || !words.is_multiple_of(3) {
        return Err(Error::bad(format!(
            "BULL.MADD needs a name, data and options (JSON, or - for none) for each job; {words} words follow the queue"
        )));
    }
    if words / 3 > MAX_JOBS {
        return Err(Error::bad(format!("BULL.MADD takes at most {MAX_JOBS} jobs, not {}; send several", words / 3)));
    }
    let keys = QueueKeys::of(&queue);
    let mut replies = Vec::with_capacity(words / 3);
    while cursor.left() > 0 {
        let name = cursor.required("the job's name")?;
        let data = cursor.required("the job's data")?;
        let opts = Some(cursor.required("the job's options")?).filter(|&opts| opts != NO_OPTIONS);
        let entered = JobOptions::parse(opts, Words::default())
            .map_err(Error::from)
            .and_then(|options| add::enter(context, &queue, &keys, name, data, options));
        replies.push(entered.unwrap_or_else(Reply::from));
    }
    Ok(Reply::Array(replies))
}

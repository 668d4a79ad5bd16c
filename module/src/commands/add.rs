//! BULL.ADD: one job enters, or nothing is written.

use std::rc::Rc;

use super::answer;
use super::gate::Gate;
use super::parse::Cursor;
use super::prepared::{options, prepared};
use crate::config;
use crate::error::Result;
use crate::queue::job::NewJob;
use crate::queue::opts::{JobOptions, MAX_PRIORITY, Words};
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::reply::Reply;
use crate::redis::string::Args;

/// Where the job's name lies among the arguments.
const NAME: usize = 2;

const WORDS: [&str; 6] = ["ID", "DELAY", "PRIORITY", "LIFO", "TIMESTAMP", "OPTS"];

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(add(context, args).map(Some))
}

fn add(context: Context, args: Args<'_>) -> Result<Reply> {
    let mut cursor = Cursor::new(args, 1);
    let queue = prepared(context, cursor.required("the queue")?)?;
    let name = cursor.required("the job's name")?;
    let data = cursor.required("the job's data")?;
    let (mut words, mut opts) = (Words::default(), None);
    while let Some(word) = cursor.word(&WORDS)? {
        match word {
            "ID" => words.id = Some(cursor.value(word)?),
            "DELAY" => words.delay_ms = Some(cursor.duration(word)?),
            "PRIORITY" => words.priority = Some(cursor.number(word, 0, i64::from(MAX_PRIORITY))? as u32),
            "LIFO" => words.lifo = true,
            "TIMESTAMP" => words.timestamp_ms = Some(cursor.number(word, 0, 9_007_199_254_740_991)? as u64),
            _ => opts = Some(cursor.value(word)?),
        }
    }
    // An empty text is no options to the function, and an error to the caller.
    let options = match opts {
        Some(text) if words == Words::default() && !text.is_empty() => options(text)?,
        None if words == Words::default() => options(b"")?,
        _ => Rc::new(JobOptions::parse(opts, words)?),
    };
    let job = NewJob::new(name, data, options, now_ms(), config::data_check())?;
    let mut gate = Gate::open("BULL.ADD", context, args, &queue)?;
    gate.may_enter(&job)?;
    gate.enter(job, NAME).map(Reply::Bulk)
}

//! BULL.PANIC and BULL.STEP: a panic, and what happens at a step of a change, for the tests. Only in builds with the feature
//! `fault-injection`.

use std::thread::sleep;
use std::time::Duration;

use super::parse::Cursor;
use crate::error::Error;
use crate::policy::steps::{ALL, arm};
use crate::redis::Context;
use crate::redis::fault::die;
use crate::redis::reply::Reply;
use crate::redis::string::Args;
use crate::text::short;

pub fn run(_context: Context, _args: Args<'_>) -> Option<Reply> {
    panic!("asked for by BULL.PANIC: 一 %s%n")
}

/// Ends the process when a step of this name is reached, or lets it wait there for so many milliseconds.
pub fn at_step(_context: Context, args: Args<'_>) -> Option<Reply> {
    let mut cursor = Cursor::new(args, 1);
    super::answer(cursor.required("the step").and_then(|wanted| {
        let step = ALL.into_iter().find(|step| format!("{step:?}").as_bytes() == wanted);
        let step = step.ok_or_else(|| Error::bad(format!("no step '{}'", short(wanted, 64))))?;
        match cursor.left() {
            0 => arm(step, Box::new(die)),
            _ => {
                let wait = Duration::from_millis(cursor.number("the time", 0, 60_000)?.unsigned_abs());
                arm(step, Box::new(move || sleep(wait)));
            }
        }
        Ok(Some(Reply::Simple("OK")))
    }))
}

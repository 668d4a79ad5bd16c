//! BULL.EMERGENCY: memory is freed at the cost of finished jobs, events and logs, the least important queue first.

use wildmatch::WildMatch;

use super::answer;
use super::parse::Cursor;
use crate::error::{Error, Result};
use crate::keeper::emergency::{self, Request, Run};
use crate::queue::emergency::{COMPLETED_MS, FAILED_MS, TARGET_PERCENT};
use crate::queue::trim::Mode;
use crate::redis::Context;
use crate::redis::block::wait;
use crate::redis::context::Setting;
use crate::redis::reply::Reply;
use crate::redis::string::Args;

const WORDS: [&str; 7] = ["DRYRUN", "TARGET", "COMPLETED", "FAILED", "MATCH", "STATUS", "STOP"];

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(emergency(context, args))
}

fn emergency(context: Context, args: Args<'_>) -> Result<Option<Reply>> {
    let only = |word: &[u8]| args.len() == 2 && args.get(1).is_some_and(|first| first.eq_ignore_ascii_case(word));
    if only(b"STATUS") {
        return Ok(Some(emergency::status(context).unwrap_or(Reply::Null)));
    }
    if only(b"STOP") {
        return match emergency::stop(context) {
            true => Ok(Some(Reply::Simple("OK"))),
            false => Err(Error::bad("no emergency run is under way")),
        };
    }
    let mut request = Request {
        mode: Mode::Remove,
        target: TARGET_PERCENT,
        completed_ms: COMPLETED_MS,
        failed_ms: FAILED_MS,
        pattern: None,
    };
    let mut cursor = Cursor::new(args, 1);
    while let Some(word) = cursor.word(&WORDS)? {
        match word {
            "DRYRUN" => request.mode = Mode::DryRun,
            "TARGET" => request.target = cursor.number(word, 1, 100)? as u64,
            "COMPLETED" => request.completed_ms = cursor.duration(word)?,
            "FAILED" => request.failed_ms = cursor.duration(word)?,
            "STATUS" | "STOP" => return Err(Error::bad(format!("{word} stands alone: BULL.EMERGENCY {word}"))),
            _ => request.pattern = Some(WildMatch::new(cursor.text(word)?)),
        }
    }
    if emergency::is_running() {
        return Err(Error::bad("an emergency run is under way; see BULL.EMERGENCY STATUS, end it with STOP"));
    }
    let mut run = Run::new(context, request, context.user());
    if run.slice(context) || context.setting() == Setting::Nested {
        return Ok(Some(emergency::remember(run, context)));
    }
    emergency::push(context, run, wait(context));
    Ok(None)
}

//! BULL.TRIM: jobs and events that criteria name go, in slices between which other clients are served.

use super::parse::Cursor;
use super::{answer, queue};
use crate::error::{Error, Result};
use crate::keeper::{profiles, trims};
use crate::queue::error::QueueError;
use crate::queue::job::QueueKeys;
use crate::queue::store::{Kind, Store};
use crate::queue::trim::{Criteria, Mode, Trim};
use crate::redis::Context;
use crate::redis::block;
use crate::redis::context::{Access, Setting, now_ms};
use crate::redis::reply::Reply;
use crate::redis::store::LiveStore;
use crate::redis::string::Args;
use crate::text::short;

const WORDS: [&str; 9] =
    ["COMPLETED", "FAILED", "KEEPCOMPLETED", "KEEPFAILED", "WAITING", "EVENTS", "MAXBYTES", "LIMIT", "DRYRUN"];

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(trim(context, args))
}

fn trim(context: Context, args: Args<'_>) -> Result<Option<Reply>> {
    let mut cursor = Cursor::new(args, 1);
    let queue = queue(context, cursor.required("the queue")?)?;
    let now = now_ms();
    let (mut criteria, mut mode) = (Criteria::default(), Mode::Remove);
    while let Some(word) = cursor.word(&WORDS)? {
        match word {
            "COMPLETED" => criteria.completed_before = Some(now.saturating_sub(cursor.duration(word)?)),
            "FAILED" => criteria.failed_before = Some(now.saturating_sub(cursor.duration(word)?)),
            "WAITING" => criteria.waiting_before = Some(now.saturating_sub(cursor.duration(word)?)),
            "KEEPCOMPLETED" => criteria.keep_completed = Some(cursor.number(word, 0, i64::MAX)? as u64),
            "KEEPFAILED" => criteria.keep_failed = Some(cursor.number(word, 0, i64::MAX)? as u64),
            "EVENTS" => criteria.events = Some(cursor.number(word, 0, i64::MAX)? as u64),
            "MAXBYTES" => criteria.max_bytes = Some(cursor.size(word)?),
            "LIMIT" => criteria.limit = Some(cursor.number(word, 1, i64::MAX)? as u64),
            _ => mode = Mode::DryRun,
        }
    }
    let store = LiveStore(context);
    let keys = QueueKeys::of(&queue);
    let marks = [&keys.meta, &keys.id, &keys.wait, &keys.completed, &keys.failed, &keys.events];
    if marks.iter().all(|key| store.kind(key) == Kind::None) {
        return Err(Error::NoQueue(queue.display().into_owned()));
    }
    // A job's key stands for all of them: their names are not known yet.
    let (job, dedup) = (queue.key("1"), queue.key("de:1"));
    let (wait, paused, prioritized) = (&keys.wait, &keys.paused, &keys.prioritized);
    let finished = [&keys.completed, &keys.failed, &keys.events, &keys.meta, &job, &dedup];
    let waiting = [wait, paused, prioritized].into_iter().filter(|_| criteria.waiting_before.is_some());
    let touched = finished.into_iter().chain(waiting).map(Vec::as_slice);
    if let Some(denied) = context.first_denied(touched, Access::Write) {
        return Err(QueueError::NoPermission(short(denied, 128)).into());
    }
    if criteria == (Criteria { limit: criteria.limit, ..Criteria::default() }) {
        let limits = profiles::limits(context, &queue);
        criteria = Criteria { limit: criteria.limit, ..Criteria::in_force(&limits, now) };
    }
    let user = context.user();
    let mut trim = Trim::new(&store, queue, criteria, mode)?;
    let done = trims::run_slice(context, &mut trim, user.as_ref())?;
    if done || context.setting() == Setting::Nested {
        return Ok(Some(trims::report(context, &trim, done)));
    }
    trims::push(context, trim, block::wait(context), user);
    Ok(None)
}

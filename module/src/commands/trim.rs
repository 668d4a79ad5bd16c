//! BULL.TRIM: finished jobs older than a time go, in slices between which other clients are served.

use super::parse::Cursor;
use super::{answer, queue};
use crate::error::{Error, Result};
use crate::keeper::trims::{self, Job};
use crate::queue::error::QueueError;
use crate::queue::job::QueueKeys;
use crate::queue::store::{Kind, Store};
use crate::queue::trim::{Criteria, Trim};
use crate::redis::Context;
use crate::redis::block::wait;
use crate::redis::context::{Access, Setting, now_ms};
use crate::redis::reply::Reply;
use crate::redis::store::LiveStore;
use crate::redis::string::Args;
use crate::text::short;

const WORDS: [&str; 3] = ["COMPLETED", "FAILED", "LIMIT"];

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(trim(context, args))
}

fn trim(context: Context, args: Args<'_>) -> Result<Option<Reply>> {
    let mut cursor = Cursor::new(args, 1);
    let queue = queue(context, cursor.required("the queue")?)?;
    let now = now_ms();
    let mut criteria = Criteria::default();
    while let Some(word) = cursor.word(&WORDS)? {
        match word {
            "COMPLETED" => criteria.completed_before = Some(now.saturating_sub(cursor.duration(word)?)),
            "FAILED" => criteria.failed_before = Some(now.saturating_sub(cursor.duration(word)?)),
            _ => criteria.limit = Some(cursor.number(word, 1, i64::MAX)? as u64),
        }
    }
    if criteria.completed_before.is_none() && criteria.failed_before.is_none() {
        return Err(Error::bad("say what to trim: COMPLETED <age>, FAILED <age> or both, such as COMPLETED 7d"));
    }
    let store = LiveStore(context);
    let keys = QueueKeys::of(&queue);
    if [&keys.meta, &keys.id, &keys.completed, &keys.failed].iter().all(|key| store.kind(key) == Kind::None) {
        return Err(Error::NoQueue(queue.display().into_owned()));
    }
    // A job's key stands for all of them: their names are not known yet.
    let touched = [&keys.completed, &keys.failed, &keys.events, &keys.meta, &queue.key("1"), &queue.key("de:1")];
    if let Some(denied) = context.first_denied(touched.map(Vec::as_slice), Access::Write) {
        return Err(QueueError::NoPermission(short(denied, 128)).into());
    }
    let mut trim = Trim::new(&store, queue, criteria)?;
    let done = trims::run_slice(context, &mut trim)?;
    if done || context.setting() == Setting::Nested {
        return Ok(Some(trims::report(context, &trim, done)));
    }
    let job = Job { trim, db: context.db(), waiting: wait(context, None) };
    trims::push(context, job);
    Ok(None)
}

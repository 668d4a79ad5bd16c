//! BULL.ADD: one job enters, or nothing is written.

use super::parse::Cursor;
use super::{answer, queue};
use crate::error::{Error, Result};
use crate::keeper::admission::{Facts, judge};
use crate::policy::registry::Decision;
use crate::queue::add::Plan;
use crate::queue::displace::displace_oldest;
use crate::queue::error::QueueError;
use crate::queue::job::{NewJob, QueueKeys};
use crate::queue::keys::{QueueName, slot};
use crate::queue::number::Style;
use crate::queue::opts::{JobOptions, MAX_PRIORITY, Words};
use crate::redis::Context;
use crate::redis::context::{Access, now_ms, server_version};
use crate::redis::reply::Reply;
use crate::redis::store::LiveStore;
use crate::redis::string::Args;
use crate::text::short;
use crate::{config, metrics};

const WORDS: [&str; 6] = ["ID", "DELAY", "PRIORITY", "LIFO", "TIMESTAMP", "OPTS"];

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(add(context, args).map(Some))
}

fn add(context: Context, args: Args<'_>) -> Result<Reply> {
    let mut cursor = Cursor::new(args, 1);
    let queue = queue(context, cursor.required("the queue")?)?;
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
    let options = JobOptions::parse(opts, words)?;
    enter(context, &queue, &QueueKeys::of(&queue), name, data, options)
}

/// One job enters, and its id is the answer; or nothing is written. Checks, asks the policies, writes.
pub(super) fn enter(
    context: Context,
    queue: &QueueName,
    keys: &QueueKeys,
    name: &[u8],
    data: &[u8],
    options: JobOptions,
) -> Result<Reply> {
    let mut job = NewJob::new(name, data, options, now_ms(), config::data_check())?;
    let mut store = LiveStore(context);

    let plan = Plan::check(&store, queue, keys, &job, style())?;
    if context.is_cluster()
        && let Some(parent) = &job.options.parent
        && slot(&parent.key()) != queue.slot()
    {
        let parent = short(&parent.key(), 128);
        let text = format!("parent '{parent}' lies in another slot than the queue; give both the same hash tag");
        return Err(QueueError::CrossSlot(text).into());
    }
    let touched = Plan::touched(queue, keys, &job);
    if let Some(denied) = context.first_denied(touched.iter().map(Vec::as_slice), Access::Write) {
        return Err(QueueError::NoPermission(short(denied, 128)).into());
    }

    let facts = Facts::of(queue, keys, &job);
    match judge(context, &facts) {
        Decision::Admit => {}
        Decision::Reject { policy, reason } => {
            metrics::REFUSED.add(1);
            return Err(Error::Reject { policy, reason });
        }
        Decision::Defer { millis, .. } => {
            job.options.defer(millis);
            // The job goes elsewhere now: check the way there.
            Plan::check(&store, queue, keys, &job, style())?;
        }
        Decision::Displace { jobs, .. } => displace_oldest(&mut store, queue, keys, jobs, now_ms())?,
    }
    let added =
        plan.write(&mut store, &job).inspect_err(|error| metrics::late_error("BULL.ADD", &error.to_string()))?;
    metrics::ADDED.add(1);
    Ok(Reply::bulk(added.id()))
}

/// How this server's Lua prints numbers, which BullMQ's data follows.
/// How this server prints numbers that are not whole.
pub(super) fn style() -> Style {
    if server_version() >= 0x0007_0200 { Style::Shortest } else { Style::Digits17 }
}

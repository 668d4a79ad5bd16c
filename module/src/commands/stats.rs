//! BULL.STATS: a queue in numbers, or this node and its queues. Each number is read in O(1).

use super::parse::Cursor;
use super::queues::{DEFAULT_COUNT, readable};
use super::{answer, queue};
use crate::error::{Error, Result};
use crate::keeper;
use crate::keeper::admission::policies;
use crate::metrics;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::stats::{Counts, oldest_active_ms, oldest_waiting_ms};
use crate::queue::store::{Kind, Store};
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::reply::{Reply, map};
use crate::redis::store::LiveStore;
use crate::redis::string::Args;

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(stats(context, args).map(Some))
}

fn stats(context: Context, args: Args<'_>) -> Result<Reply> {
    let mut cursor = Cursor::new(args, 1);
    match cursor.optional() {
        None => Ok(node(context)),
        Some(name) => {
            cursor.finish()?;
            one(context, &queue(context, name)?)
        }
    }
}

fn one(context: Context, queue: &QueueName) -> Result<Reply> {
    let store = LiveStore(context);
    let keys = QueueKeys::of(queue);
    for (key, kind) in [
        (&keys.meta, Kind::Hash),
        (&keys.wait, Kind::List),
        (&keys.active, Kind::List),
        (&keys.delayed, Kind::ZSet),
        (&keys.prioritized, Kind::ZSet),
        (&keys.waiting_children, Kind::ZSet),
        (&keys.completed, Kind::ZSet),
        (&keys.failed, Kind::ZSet),
        (&keys.events, Kind::Stream),
    ] {
        crate::queue::check::expect(&store, key, kind)?;
    }
    let counts = Counts::read(&store, &keys);
    let unfinished = counts.waiting + counts.active + counts.delayed + counts.prioritized + counts.waiting_children;
    if store.kind(&keys.meta) == Kind::None
        && store.kind(&keys.id) == Kind::None
        && unfinished + counts.paused + counts.completed + counts.failed == 0
    {
        return Err(Error::NoQueue(queue.display().into_owned()));
    }
    let now = now_ms();
    let mut fields = count_fields(counts);
    fields.extend([
        ("oldest-waiting-ms".to_owned(), oldest_waiting_ms(&store, queue, &keys, now)?.into()),
        ("oldest-active-ms".to_owned(), oldest_active_ms(&store, queue, &keys, now)?.into()),
        ("events".to_owned(), store.len(&keys.events).into()),
    ]);
    Ok(Reply::Map(fields))
}

fn count_fields(counts: Counts) -> Vec<(String, Reply)> {
    [
        ("waiting", counts.waiting.into()),
        ("active", counts.active.into()),
        ("delayed", counts.delayed.into()),
        ("prioritized", counts.prioritized.into()),
        ("paused", counts.paused.into()),
        ("waiting-children", counts.waiting_children.into()),
        ("completed", counts.completed.into()),
        ("failed", counts.failed.into()),
        ("is-paused", Reply::Bool(counts.is_paused)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

fn node(context: Context) -> Reply {
    keeper::node::sample(context);
    let (used, max) = keeper::node::memory();
    let store = LiveStore(context);
    let names = readable(context);
    let rows = names.iter().take(DEFAULT_COUNT).map(|name| {
        let mut row = vec![("queue".to_owned(), Reply::bulk(name.as_bytes()))];
        row.extend(count_fields(Counts::read(&store, &QueueKeys::of(name))));
        Reply::Map(row)
    });
    let rows = Reply::Array(rows.collect());
    let policies = policies().policies().iter().map(|policy| Reply::from(policy.name.as_str())).collect();
    map([
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("used-memory", used.into()),
        ("max-memory", max.into()),
        ("jobs-added", metrics::ADDED.get().into()),
        ("jobs-refused", metrics::REFUSED.get().into()),
        ("jobs-trimmed", metrics::TRIMMED_JOBS.get().into()),
        ("policies", Reply::Array(policies)),
        ("queue-count", (names.len() as u64).into()),
        ("queues", rows),
    ])
}

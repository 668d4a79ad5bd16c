//! BULL.STATS: a queue in numbers, or this node and its queues. Each number is read in O(1).

use super::parse::Cursor;
use super::queues::{DEFAULT_COUNT, readable};
use super::{answer, footprint, queue};
use crate::error::{Error, Result};
use crate::keeper;
use crate::keeper::admission::policies;
use crate::keeper::guard::{self, OfQueue};
use crate::keeper::rates::{self, Picture};
use crate::metrics;
use crate::metrics::times::Times;
use crate::queue::check::expect_types;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::stats::{Ages, Counts};
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
    use QueueKeys as Q;
    let jobs = [Q::WAIT, Q::ACTIVE, Q::DELAYED, Q::PRIORITIZED, Q::WAITING_CHILDREN, Q::COMPLETED, Q::FAILED];
    expect_types(&store, &keys, [Q::META, Q::EVENTS].into_iter().chain(jobs))?;
    let counts = Counts::read(&store, &keys);
    let unfinished = counts.waiting + counts.active + counts.delayed + counts.prioritized + counts.waiting_children;
    if store.kind(&keys.meta) == Kind::None
        && store.kind(&keys.id) == Kind::None
        && unfinished + counts.paused + counts.completed + counts.failed == 0
    {
        return Err(Error::NoQueue(queue.display().into_owned()));
    }
    let ages = Ages::read(&store, queue, &keys, now_ms())?;
    let mut fields = count_fields(counts);
    fields.extend([
        ("oldest-waiting-ms".to_owned(), ages.oldest_waiting_ms.into()),
        ("oldest-active-ms".to_owned(), ages.oldest_active_ms.into()),
        ("stalled".to_owned(), ages.stalled.into()),
        ("events".to_owned(), store.len(&keys.events).into()),
    ]);
    fields.extend(footprint::fields(context, queue, &counts));
    fields.extend(pace_fields(&rates::picture(context.db(), queue)));
    fields.extend(verdict_fields(&guard::of(context.db(), queue)));
    Ok(Reply::Map(fields))
}

/// What became of the queue's adds since the module was loaded, or the queue made.
fn verdict_fields(of: &OfQueue) -> Vec<(String, Reply)> {
    let policies = of.policies.iter().map(|(name, verdicts)| {
        let row = map([
            ("rejected", verdicts.rejected.into()),
            ("deferred", verdicts.deferred.into()),
            ("displaced", verdicts.displaced.into()),
            ("observed", verdicts.observed.into()),
        ]);
        (name.clone(), row)
    });
    let fields = [
        ("rejected-total", of.verdicts.rejected.into()),
        ("deferred-total", of.verdicts.deferred.into()),
        ("displaced-total", of.verdicts.displaced.into()),
        ("observed-total", of.verdicts.observed.into()),
        ("verdicts-by-policy", Reply::Map(policies.collect())),
        ("guard", guard_counts(&of.scripts)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Add scripts of unmodified clients.
fn guard_counts(counts: &guard::Counts) -> Reply {
    Reply::Map(counts.fields().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect())
}

/// What the queue's events told since this node became a primary; rates and times are of late.
fn pace_fields(picture: &Picture) -> Vec<(String, Reply)> {
    let mut fields: Vec<(&str, Reply)> = vec![
        ("added-total", picture.totals.added.into()),
        ("completed-total", picture.totals.completed.into()),
        ("failed-total", picture.totals.failed.into()),
        ("stalled-total", picture.totals.stalled.into()),
        ("added-per-sec", decimal(picture.added_per_sec)),
        ("completed-per-sec", decimal(picture.completed_per_sec)),
        ("failed-per-sec", decimal(picture.failed_per_sec)),
        ("failed-last-hour", picture.failed_last_hour.into()),
    ];
    let (wait, run) = (picture.wait.1, picture.run.1);
    let of = |times: &Times, share: f64| decimal(times.percentile_us(share) as f64 / 1000.0);
    fields.extend([
        ("wait-p50-ms", of(&wait, 0.50)),
        ("wait-p95-ms", of(&wait, 0.95)),
        ("wait-p99-ms", of(&wait, 0.99)),
        ("run-p50-ms", of(&run, 0.50)),
        ("run-p95-ms", of(&run, 0.95)),
        ("run-p99-ms", of(&run, 0.99)),
    ]);
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A number as text, with one digit behind the point.
fn decimal(value: f64) -> Reply {
    Reply::Text(format!("{value:.1}"))
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
        ("guard", guard_counts(&guard::totals())),
        ("policies", Reply::Array(policies)),
        ("queue-count", (names.len() as u64).into()),
        ("queues", rows),
    ])
}

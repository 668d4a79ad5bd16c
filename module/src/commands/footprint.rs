//! What BULL.STATS says of a queue's bytes, of its limits, and of the last trim. All from memory.

use crate::keeper::{profiles, sizes, trims};
use crate::queue::keys::QueueName;
use crate::queue::profile::FIELDS;
use crate::queue::stats::Counts;
use crate::redis::Context;
use crate::redis::reply::{Reply, map};

/// Bytes are null before the queue was first looked at, `last-trim` before its first trim on this node.
pub fn fields(context: Context, queue: &QueueName, counts: &Counts) -> Vec<(String, Reply)> {
    let size = sizes::of(context.db(), queue, counts);
    let number = |of: &dyn Fn(&sizes::Size) -> u64| size.as_ref().map_or(Reply::Null, |size| of(size).into());
    let percent = size.map_or(Reply::Null, |size| format!("{:.1}", size.error_part() * 100.0).into());
    let limits = profiles::limits(context, queue).values();
    let limits =
        FIELDS.iter().zip(limits).map(|(name, value)| ((*name).to_owned(), value.map_or(Reply::Null, Reply::from)));
    let last = trims::last(context.db(), queue).map_or(Reply::Null, |last| {
        map([
            ("at-ms", last.at_ms.into()),
            ("by", last.reason.map_or("command", trims::Reason::name).into()),
            ("removed", last.tally.jobs().into()),
            ("events", last.tally.events.into()),
            ("bytes-freed", last.tally.bytes.into()),
        ])
    });
    let fields: Vec<(&str, Reply)> = vec![
        ("bytes", number(&|size| size.total())),
        ("bytes-error-percent", percent),
        ("bytes-waiting", number(&|size| size.unfinished)),
        ("bytes-finished", number(&|size| size.finished)),
        ("bytes-events", number(&|size| size.events)),
        ("bytes-logs", number(&|size| size.logs)),
        ("retained-bytes", number(&|size| size.retained())),
        ("limits", Reply::Map(limits.collect())),
        ("last-trim", last),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

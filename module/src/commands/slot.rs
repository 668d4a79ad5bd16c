//! BULL.SLOT: where a queue lies in a cluster, and whether all its keys lie together.

use super::answer;
use super::parse::Cursor;
use crate::error::Result;
use crate::queue::fields::Word;
use crate::queue::keys::QueueName;
use crate::redis::Context;
use crate::redis::call::{Answer, Effect};
use crate::redis::reply::{Reply, map};
use crate::redis::string::Args;

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(slot(context, args).map(Some))
}

fn slot(context: Context, args: Args<'_>) -> Result<Reply> {
    let mut cursor = Cursor::new(args, 1);
    let queue = QueueName::parse(cursor.required("the queue")?)?;
    cursor.finish()?;
    let tag = queue.hash_tag();
    let node = if context.is_cluster() { serving_node(context, queue.slot()) } else { None };
    Ok(map([
        ("hash-tag", tag.map_or(Reply::Null, Reply::bulk)),
        ("slot", u64::from(queue.slot()).into()),
        ("same-slot", Reply::Bool(tag.is_some())),
        ("node", node.map_or(Reply::Null, Reply::Text)),
    ]))
}

/// `host:port` of the primary that serves a slot, as CLUSTER SLOTS tells.
fn serving_node(context: Context, slot: u16) -> Option<String> {
    let Ok(Answer::List(ranges)) = context.call(c"CLUSTER", Effect::Local, &[Word::from("SLOTS")]) else { return None };
    ranges.into_iter().find_map(|range| {
        let Answer::List(mut parts) = range else { return None };
        let (from, to) = (parts.first()?.integer(), parts.get(1)?.integer());
        if parts.len() < 3 || !(from..=to).contains(&i64::from(slot)) {
            return None;
        }
        let Answer::List(mut node) = parts.swap_remove(2) else { return None };
        let port = node.get(1)?.integer();
        let host = node.swap_remove(0).text().unwrap_or_default();
        Some(format!("{}:{port}", String::from_utf8_lossy(&host)))
    })
}

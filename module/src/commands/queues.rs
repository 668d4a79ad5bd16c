//! BULL.QUEUES: the names of the queues on this node.

use wildmatch::WildMatch;

use super::answer;
use super::parse::Cursor;
use crate::error::Result;
use crate::keeper;
use crate::queue::keys::QueueName;
use crate::redis::Context;
use crate::redis::context::Access;
use crate::redis::reply::Reply;
use crate::redis::string::Args;

/// Names in one reply where COUNT does not say.
pub const DEFAULT_COUNT: usize = 1000;

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(list(context, args).map(Some))
}

fn list(context: Context, args: Args<'_>) -> Result<Reply> {
    let mut cursor = Cursor::new(args, 1);
    let (mut pattern, mut count) = (None, DEFAULT_COUNT);
    while let Some(word) = cursor.word(&["MATCH", "COUNT"])? {
        match word {
            "MATCH" => pattern = Some(WildMatch::new(cursor.text(word)?)),
            _ => count = cursor.number(word, 1, 1_000_000)? as usize,
        }
    }
    let fits = |name: &QueueName| pattern.as_ref().is_none_or(|pattern| pattern.matches(&name.display()));
    let names = readable(context).into_iter().filter(fits).take(count);
    Ok(Reply::Array(names.map(|name| Reply::bulk(name.as_bytes())).collect()))
}

/// Queues that the caller may read, sorted.
pub fn readable(context: Context) -> Vec<QueueName> {
    let mut names = keeper::queues::list(context);
    names.retain(|name| context.first_denied([name.as_bytes()], Access::Read).is_none());
    names
}

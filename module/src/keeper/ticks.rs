//! The policies' ticks: rounds over the queues of this node, one policy and one batch of queues a turn.

use std::sync::{Mutex, PoisonError};

use super::admission::{node, policies, queue_facts, report};
use super::queues;
use crate::config;
use crate::policy::{Action, Queue};
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::stats::{Counts, oldest_waiting_ms};
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::log::{Level, log};
use crate::redis::store::LiveStore;
use crate::text::short;

/// Queues in one call, as the world promises.
const BATCH: usize = 100;
/// Notices logged of one call; the others are counted in the last line.
const MAX_NOTICES: usize = 20;

struct Round {
    next_ms: u64,
    /// Calls that are left: policy and database.
    left: Vec<(String, i32, Vec<QueueName>)>,
}

static ROUND: Mutex<Round> = Mutex::new(Round { next_ms: 0, left: Vec::new() });

/// One call to one policy. True while the round has more.
pub fn slice(context: Context) -> bool {
    let now = now_ms();
    let mut round = ROUND.lock().unwrap_or_else(PoisonError::into_inner);
    if round.left.is_empty() {
        if now < round.next_ms || !context.is_primary() || context.is_loading() {
            return false;
        }
        round.next_ms = now + config::tick_ms();
        let names: Vec<String> = policies().policies().iter().map(|policy| policy.name.clone()).collect();
        if names.is_empty() {
            return false;
        }
        round.left = queues::batches(BATCH)
            .into_iter()
            .flat_map(|(db, batch)| names.iter().map(move |name| (name.clone(), db, batch.clone())).collect::<Vec<_>>())
            .collect();
    }
    let Some((policy, db, batch)) = round.left.pop() else { return false };
    let more = !round.left.is_empty();
    drop(round);
    if context.select(db) {
        tick(context, &policy, &batch, now);
    }
    more
}

fn tick(context: Context, policy: &str, batch: &[QueueName], now: u64) {
    let store = LiveStore(context);
    let facts: Vec<Queue> = batch
        .iter()
        .map(|name| {
            let keys = QueueKeys::of(name);
            let oldest = oldest_waiting_ms(&store, name, &keys, now).unwrap_or(0);
            queue_facts(context, name, &keys, Counts::read(&store, &keys), oldest)
        })
        .collect();
    let answer = policies().tick(policy, node(), &facts);
    match answer {
        None => {}
        Some(Err(incident)) => report(incident),
        Some(Ok(actions)) => {
            let notices: Vec<_> = actions
                .iter()
                .filter_map(|action| match action {
                    Action::Notice(notice) => Some(notice),
                    _ => None,
                })
                .collect();
            for notice in notices.iter().take(MAX_NOTICES) {
                let (queue, text) = (short(notice.queue.as_bytes(), 128), short(notice.text.as_bytes(), 256));
                log(Level::Notice, &format!("bull: {policy}: {queue}: {text}"));
            }
            if notices.len() > MAX_NOTICES {
                log(Level::Notice, &format!("bull: {policy}: and {} more notices", notices.len() - MAX_NOTICES));
            }
        }
    }
}

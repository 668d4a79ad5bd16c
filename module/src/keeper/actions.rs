//! What policies wish for at ticks, checked and carried out. A wish is input, not an order.
//!
//! It must name a queue that this node has, that the policy covers, and whose keys lie in one slot; its numbers must make
//! sense. What does not pass is counted and ignored, and INFO tells the last reason. A policy in observe does nothing.

use std::sync::{Mutex, PoisonError};

use super::admission::policies;
use super::trims::{self, Reason, Started};
use super::{emergency, node, queues};
use crate::policy::audit::Kind;
use crate::policy::deeds::{Deed, Effect};
use crate::policy::settings::Mode;
use crate::policy::{Action, Trim};
use crate::queue::error::QueueError;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::pause::{Outcome, pause, resume};
use crate::queue::trim::Criteria;
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::log::{Level, log};
use crate::redis::store::LiveStore;
use crate::text::short;

/// Actions taken of one call; the others are ignored.
const MAX_ACTIONS: usize = 100;
/// Notices logged of one call; the others are counted in the last line.
const MAX_NOTICES: usize = 20;
/// Notices logged in a second, of all policies together; the others are counted in the next one.
const MAX_NOTICES_A_SECOND: u64 = 100;

/// An action that waits for its turn.
pub struct Wish {
    policy: String,
    db: i32,
    action: Action,
    /// Events to keep, asked for with a trim of the same queue: one trim does both, since a queue has one at a time.
    keep_events: Option<u64>,
}

/// Logs the notices of a call, and answers with what is to be done.
pub fn sift(policy: &str, db: i32, actions: Vec<Action>) -> Vec<Wish> {
    let (notices, others): (Vec<_>, Vec<_>) =
        actions.into_iter().partition(|action| matches!(action, Action::Notice(_)));
    for notice in notices.iter().take(MAX_NOTICES) {
        if let Action::Notice(notice) = notice {
            let (queue, text) = (short(notice.queue.as_bytes(), 128), short(notice.text.as_bytes(), 256));
            tell(&format!("bull: {policy}: {queue}: {text}"));
        }
    }
    if notices.len() > MAX_NOTICES {
        tell(&format!("bull: {policy}: and {} more notices", notices.len() - MAX_NOTICES));
    }
    let (mut wishes, mut registry) = (Vec::new(), policies());
    let Some(member) = registry.get_mut(policy) else { return wishes };
    for _ in &notices {
        member.note(Deed::Notice, &Effect::Done);
    }
    for (at, action) in others.into_iter().enumerate() {
        let deed = Deed::of(&action);
        if at >= MAX_ACTIONS {
            member.note(deed, &Effect::Ignored(format!("more than {MAX_ACTIONS} actions of one call")));
        } else if member.settings.mode == Mode::Observe {
            member.note(deed, &Effect::Observed);
        } else if let Some((trim, keep)) = same_trim(&mut wishes, &action) {
            trim.keep_events = Some(keep);
        } else {
            wishes.push(Wish { policy: policy.to_owned(), db, action, keep_events: None });
        }
    }
    wishes
}

/// The trim among the wishes that can take this trim of events with it.
fn same_trim<'a>(wishes: &'a mut [Wish], action: &Action) -> Option<(&'a mut Wish, u64)> {
    let Action::TrimEvents(wanted) = action else { return None };
    let same = |wish: &&mut Wish| matches!(&wish.action, Action::Trim(trim) if trim.queue == wanted.queue);
    Some((wishes.iter_mut().find(same)?, wanted.keep))
}

/// Notices of the second that runs, and those that were left out since the last that was logged.
struct Told {
    second: u64,
    lines: u64,
    left_out: u64,
}

/// Logs a notice, unless policies have filled this second.
fn tell(line: &str) {
    static TOLD: Mutex<Told> = Mutex::new(Told { second: 0, lines: 0, left_out: 0 });
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let second = now_ms() / 1000;
    if told.second != second {
        (told.second, told.lines) = (second, 0);
    }
    if told.lines >= MAX_NOTICES_A_SECOND {
        told.left_out += 1;
        return;
    }
    told.lines += 1;
    let left_out = std::mem::take(&mut told.left_out);
    drop(told);
    if left_out > 0 {
        log(
            Level::Notice,
            &format!(
                "bull: {left_out} notices of policies were left out, at most {MAX_NOTICES_A_SECOND} a second are logged"
            ),
        );
    }
    log(Level::Notice, line);
}

/// Does what is wished for, or a piece of it; the rest comes back.
pub fn carry_out(context: Context, wish: Wish) -> Option<Wish> {
    let deed = Deed::of(&wish.action);
    let effect = match act(context, &wish) {
        Ok(Some(effect)) => effect,
        Ok(None) => return Some(wish),
        Err(reason) => Effect::Ignored(reason),
    };
    let mut policies = policies();
    let member = policies.get_mut(&wish.policy)?;
    if let Some(told) = member.note(deed, &effect) {
        log(Level::Warning, &format!("bull: {}: ignored {told}", wish.policy));
    }
    if wish.keep_events.is_some() {
        member.note(Deed::TrimEvents, &effect);
    }
    let kind = match deed {
        Deed::Pause => Kind::Pause,
        Deed::Resume => Kind::Resume,
        Deed::Emergency => Kind::Emergency,
        _ => return None,
    };
    if effect == Effect::Done {
        let queue = named(&wish.action).unwrap_or_default().to_owned();
        let entry = member.deed(kind, queue, now_ms());
        policies.audit.add(entry);
    }
    None
}

/// The queue that an action names.
fn named(action: &Action) -> Option<&str> {
    match action {
        Action::Trim(trim) => Some(&trim.queue),
        Action::TrimEvents(trim) => Some(&trim.queue),
        Action::Pause(queue) | Action::Resume(queue) => Some(queue),
        Action::Notice(_) | Action::Emergency(_) => None,
    }
}

/// None: a piece was done, and there is more. Errors: why not, one line.
fn act(context: Context, wish: &Wish) -> Result<Option<Effect>, String> {
    let Some(name) = named(&wish.action) else { return node_wide(context, &wish.action).map(Some) };
    let queue = checked(context, wish, name)?;
    if !context.select(wish.db) {
        return Err(format!("database {} is gone", wish.db));
    }
    let (keys, mut store) = (QueueKeys::of(&queue), LiveStore(context));
    let told = |error: QueueError| error.to_string();
    let outcome = match &wish.action {
        Action::Pause(_) => pause(&mut store, &keys).map_err(told)?,
        Action::Resume(_) => resume(&mut store, &keys).map_err(told)?,
        Action::Trim(wanted) => {
            let criteria = Criteria { events: wish.keep_events, ..criteria(wanted)? };
            return begin(context, &queue, criteria).map(Some);
        }
        Action::TrimEvents(wanted) => {
            let criteria = Criteria { events: Some(wanted.keep), ..Criteria::default() };
            return begin(context, &queue, criteria).map(Some);
        }
        Action::Notice(_) | Action::Emergency(_) => Outcome::Unneeded,
    };
    Ok(match outcome {
        Outcome::Done => Some(Effect::Done),
        Outcome::Unneeded => Some(Effect::Unneeded),
        Outcome::More => None,
    })
}

/// A queue of this node that the policy covers.
fn checked(context: Context, wish: &Wish, name: &str) -> Result<QueueName, String> {
    let queue = QueueName::parse(name.as_bytes()).map_err(|error| error.to_string())?;
    let shown = short(name.as_bytes(), 128);
    if !policies().get(&wish.policy).is_some_and(|policy| policy.covers(name)) {
        return Err(format!("queue '{shown}' is not one that the policy covers"));
    }
    if !queues::knows(wish.db, name.as_bytes()) {
        return Err(format!("no queue '{shown}' on this node"));
    }
    if context.is_cluster() && queue.hash_tag().is_none() {
        return Err(format!("the keys of queue '{shown}' lie in several slots"));
    }
    Ok(queue)
}

fn criteria(wanted: &Trim) -> Result<Criteria, String> {
    let now = now_ms();
    let criteria = Criteria {
        completed_before: wanted.completed_ms.map(|age| now.saturating_sub(age)),
        failed_before: wanted.failed_ms.map(|age| now.saturating_sub(age)),
        keep_completed: wanted.keep_completed,
        keep_failed: wanted.keep_failed,
        max_bytes: wanted.max_bytes,
        ..Criteria::default()
    };
    if criteria == Criteria::default() {
        return Err("it names no criterion".into());
    }
    Ok(criteria)
}

fn begin(context: Context, queue: &QueueName, criteria: Criteria) -> Result<Effect, String> {
    match trims::start(context, queue, criteria, Reason::Policy).map_err(|error| error.to_string())? {
        Started::Begun => Ok(Effect::Done),
        Started::Busy => Ok(Effect::Unneeded),
    }
}

fn node_wide(context: Context, action: &Action) -> Result<Effect, String> {
    let Action::Emergency(percent) = action else { return Ok(Effect::Unneeded) };
    if !(1..=100).contains(percent) {
        return Err(format!("{percent} is no percentage of maxmemory from 1 to 100"));
    }
    let (used, max) = node::memory();
    if max == 0 {
        return Err("this server has no maxmemory".into());
    }
    let over = u128::from(used) * 100 > u128::from(max) * u128::from(*percent);
    let begun = over && emergency::start(context, u64::from(*percent));
    Ok(if begun { Effect::Done } else { Effect::Unneeded })
}

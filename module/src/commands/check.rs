//! BULL.CHECK: finds what is broken in a queue, and mends it where asked, in slices between which others are served.

use super::parse::Cursor;
use super::{answer, queue};
use crate::error::{Error, Result};
use crate::keeper::checks::{self, Job};
use crate::queue::audit::{Audit, Mode, Scope, Step};
use crate::queue::error::QueueError;
use crate::queue::job::QueueKeys;
use crate::queue::store::{Kind, Store};
use crate::redis::Context;
use crate::redis::block::wait;
use crate::redis::context::{Access, Setting};
use crate::redis::reply::Reply;
use crate::redis::store::LiveStore;
use crate::redis::string::Args;
use crate::text::short;

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(check(context, args))
}

fn check(context: Context, args: Args<'_>) -> Result<Option<Reply>> {
    let mut cursor = Cursor::new(args, 1);
    let queue = queue(context, cursor.required("the queue")?)?;
    let (mut mode, mut limit) = (Mode::Find, None);
    while let Some(word) = cursor.word(&["REPAIR", "LIMIT"])? {
        match word {
            "REPAIR" => mode = Mode::Repair,
            _ => limit = Some(cursor.number(word, 1, i64::MAX)? as u64),
        }
    }
    let store = LiveStore(context);
    let keys = QueueKeys::of(&queue);
    let any = [
        &keys.meta,
        &keys.id,
        &keys.events,
        &keys.wait,
        &keys.paused,
        &keys.active,
        &keys.prioritized,
        &keys.delayed,
        &keys.waiting_children,
        &keys.completed,
        &keys.failed,
    ];
    if any.iter().all(|key| store.kind(key) == Kind::None) {
        return Err(Error::NoQueue(queue.display().into_owned()));
    }
    // A job's key stands for all of them: their names are not known yet.
    let (job, rule) = (queue.key("1"), queue.key("de:1"));
    let touched = any.into_iter().chain([&keys.marker, &keys.pc, &keys.repeat, &job, &rule]);
    let access = if mode == Mode::Repair { Access::Write } else { Access::Read };
    if let Some(denied) = context.first_denied(touched.map(Vec::as_slice), access) {
        return Err(QueueError::NoPermission(short(denied, 128)).into());
    }
    let scope = if context.is_cluster() { Scope::OwnSlot } else { Scope::Everything };
    let mut audit = Audit::new(&store, queue, mode, scope, limit, super::gate::style())?;
    let client = context.setting() == Setting::Client;
    if client && !checks::has_room() {
        return Err(Error::bad("16 checks are under way already; wait until one of them ends"));
    }
    let user = context.user();
    let due = match checks::run_slice(context, &mut audit, user.as_ref())? {
        Step::Done => return Ok(Some(checks::report(&audit, true))),
        _ if !client => return Ok(Some(checks::report(&audit, false))),
        Step::More => 0,
        Step::Later(due) => due,
    };
    checks::push(context, Job { audit, db: context.db(), waiting: wait(context), user, due });
    Ok(None)
}

//! BULL.POLICY: loading and steering policies. What shows them is in `policy_show.rs`.
//!
//! The command reads its arguments and waits; `keeper::changes` does the work behind and answers.

use std::sync::Arc;

use super::answer;
use super::parse::Cursor;
use crate::config;
use crate::error::{Error, Result};
use crate::keeper::changes;
use crate::keeper::ticket::{self, Ticket};
use crate::policy::faults::LoadError;
use crate::policy::settings::{MAX_ORDER, Mode, OnError, Wanted, check_config, check_pattern, is_name};
use crate::redis::Context;
use crate::redis::context::Setting;
use crate::redis::reply::Reply;
use crate::redis::string::Args;
use crate::text::short;

pub fn load(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(start_load(context, args).map(|()| None))
}

fn start_load(context: Context, args: Args<'_>) -> Result<()> {
    let mut cursor = Cursor::new(args, 2);
    let name = policy_name(&mut cursor)?;
    let mut wanted = Wanted::default();
    while cursor.left() > 1 {
        match cursor.word(&["CONFIG", "MODE", "QUEUES", "ORDER", "ONERROR"])? {
            Some(word @ "CONFIG") => wanted.config = Some(config_text(cursor.text(word)?)?),
            Some(word @ "MODE") => wanted.mode = Some(mode(cursor.value(word)?)?),
            Some(word @ "QUEUES") => {
                let pattern = cursor.text(word)?;
                check_pattern(pattern).map_err(Error::bad)?;
                wanted.queues = Some(pattern.to_owned());
            }
            Some(word @ "ORDER") => wanted.order = Some(cursor.number(word, -MAX_ORDER, MAX_ORDER)?),
            Some(word) => wanted.on_error = Some(on_error(cursor.value(word)?)?),
            None => break,
        }
    }
    let wasm = cursor.required("the component's bytes (redis-cli -x reads them from its input)")?;
    let max = config::policy_limits().wasm_bytes;
    if wasm.len() > max {
        return Err(LoadError::TooLarge { bytes: wasm.len(), max }.into());
    }
    changes::load(open(context, "LOAD")?, name, wanted, wasm.to_vec());
    Ok(())
}

pub fn config(context: Context, args: Args<'_>) -> Option<Reply> {
    let mut cursor = Cursor::new(args, 2);
    let start = || {
        let name = policy_name(&mut cursor)?;
        let config = config_text(cursor.text("the configuration")?)?;
        cursor.finish()?;
        changes::configure(open(context, "CONFIG")?, name, config);
        Ok(None)
    };
    answer({ start }())
}

pub fn set_mode(context: Context, args: Args<'_>) -> Option<Reply> {
    let mut cursor = Cursor::new(args, 2);
    let start = || {
        let name = policy_name(&mut cursor)?;
        let mode = mode(cursor.required("the mode")?)?;
        cursor.finish()?;
        changes::set_mode(open(context, "MODE")?, name, mode);
        Ok(None)
    };
    answer({ start }())
}

pub fn remove(context: Context, args: Args<'_>) -> Option<Reply> {
    let mut cursor = Cursor::new(args, 2);
    let start = || {
        let name = policy_name(&mut cursor)?;
        cursor.finish()?;
        changes::remove(open(context, "REMOVE")?, name);
        Ok(None)
    };
    answer({ start }())
}

pub fn reload(context: Context, args: Args<'_>) -> Option<Reply> {
    let start = || {
        Cursor::new(args, 2).finish()?;
        changes::reload(open(context, "RELOAD")?);
        Ok(None)
    };
    answer(start())
}

/// Makes the client wait, where it can.
pub(super) fn open(context: Context, sub: &str) -> Result<Arc<Ticket>> {
    if context.setting() == Setting::Nested {
        return Err(Error::bad(format!(
            "BULL.POLICY {sub} works in the background and cannot run in MULTI or a script"
        )));
    }
    Ok(ticket::open(context))
}

/// The next argument as a policy's name.
pub(super) fn policy_name(cursor: &mut Cursor<'_>) -> Result<String> {
    let name = cursor.required("the policy's name")?;
    match std::str::from_utf8(name) {
        Ok(text) if is_name(name) => Ok(text.to_owned()),
        _ => Err(Error::bad(format!(
            "policy name '{}' must be 1 to 64 of a-z 0-9 - _ . and not start with a dot",
            short(name, 64)
        ))),
    }
}

fn mode(text: &[u8]) -> Result<Mode> {
    [Mode::Enforce, Mode::Observe]
        .into_iter()
        .find(|mode| text.eq_ignore_ascii_case(mode.name().as_bytes()))
        .ok_or_else(|| Error::bad(format!("MODE must be enforce or observe, not '{}'", short(text, 64))))
}

fn on_error(text: &[u8]) -> Result<OnError> {
    [OnError::Admit, OnError::Reject]
        .into_iter()
        .find(|verdict| text.eq_ignore_ascii_case(verdict.name().as_bytes()))
        .ok_or_else(|| Error::bad(format!("ONERROR must be admit or reject, not '{}'", short(text, 64))))
}

fn config_text(text: &str) -> Result<String> {
    check_config(text).map_err(Error::bad)?;
    Ok(text.to_owned())
}

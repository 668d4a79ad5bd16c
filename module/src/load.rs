//! The order of work at load. What cannot be undone comes last, since a failed load unmaps the module.

use crate::redis::abi::{LoadArgument, LoadContext, Status};
use crate::redis::command::register;
use crate::redis::log::{Level, log};
use crate::{commands, config, entry, keeper, metrics, redis};

/// Called by the server once, after the crate has looked up the module API.
pub fn load(context: &LoadContext, args: &[LoadArgument]) -> Status {
    let context = redis::context::of_load(context);
    entry::quiet_panics();
    match entry::guarded("load", || start(context, args.len())) {
        Some(Ok(())) => Status::Ok,
        Some(Err(text)) => {
            log(Level::Warning, &format!("bull: not loaded: {text}"));
            Status::Err
        }
        None => Status::Err,
    }
}

fn start(context: redis::Context, args: usize) -> Result<(), String> {
    if args > 0 {
        return Err("loadmodule takes no arguments here; set bull.* in redis.conf instead".into());
    }
    register(context, commands::commands().collect())
        .map_err(|name| format!("the server refused the command {name}"))?;
    redis::config::register(context, config::SETTINGS)
        .map_err(|name| format!("the server refused the setting {name}"))?;
    if !redis::info::register(context, metrics::info) {
        return Err("the server refused the INFO section".into());
    }
    if !redis::events::subscribe(context, keeper::HANDLERS) {
        return Err("the server refused a subscription to its events".into());
    }
    redis::timer::start(context, keeper::tick, 1);
    // Last, and no reason to fail: a load that fails after it would leave the filter dangling.
    if !redis::filter::register(context, commands::eval::rename) {
        log(Level::Warning, "bull: the server refused the command filter; bull.guard has no effect");
    }
    log(Level::Notice, &format!("bull {} loaded", env!("CARGO_PKG_VERSION")));
    Ok(())
}

/// Unloading is refused: a queued MULTI would jump into unmapped code. Switches in the configuration turn things off.
pub fn unload(_context: &LoadContext) -> Status {
    log(Level::Warning, "bull: MODULE UNLOAD is refused; restart the server without the loadmodule line");
    Status::Err
}

//! The order of work at load. What cannot be undone comes last, since a failed load unmaps the module.

use crate::queue::script::shape::LEAST_WORDS;
use crate::redis::abi::{LoadArgument, LoadContext, Status};
use crate::redis::command::register;
use crate::redis::log::{Level, log};
use crate::text::short;
use crate::{commands, config, entry, keeper, metrics, redis};

/// Called by the server once, after the crate has looked up the module API.
pub fn load(context: &LoadContext, args: &[LoadArgument]) -> Status {
    let context = redis::context::of_load(context);
    entry::quiet_panics();
    match entry::guarded("load", || start(context, args)) {
        Some(Ok(())) => Status::Ok,
        Some(Err(text)) => {
            log(Level::Warning, &format!("bull: not loaded: {text}"));
            Status::Err
        }
        None => Status::Err,
    }
}

fn start(context: redis::Context, args: &[LoadArgument]) -> Result<(), String> {
    let arguments = arguments(args)?;
    context.set_options();
    redis::alloc::keep_here();
    register(context, commands::commands().collect())
        .map_err(|name| format!("the server refused the command {name}"))?;
    redis::config::register(context, config::SETTINGS)
        .map_err(|name| format!("the server refused the setting {name}"))?;
    for (name, value) in arguments {
        config::preset(name, value)?;
    }
    if !redis::info::register(context, metrics::info) {
        return Err("the server refused the INFO section".into());
    }
    if !redis::events::subscribe(context, keeper::HANDLERS) {
        return Err("the server refused a subscription to its events".into());
    }
    keeper::torn::open(context);
    redis::timer::start(context, keeper::tick, 1);
    keeper::guard::set_primary(context.is_primary());
    // Last, and no reason to fail: a load that fails after it would leave the filter dangling.
    let names: Vec<&str> = commands::eval::names().collect();
    if !redis::filter::register(context, LEAST_WORDS, &names, commands::eval::rename) {
        log(Level::Warning, "bull: the server refused the command filter; bull.guard has no effect");
    }
    match config::policies_folder() {
        Ok(folder) => keeper::changes::start(folder),
        Err(error) => log(Level::Warning, &format!("bull: policies are kept in memory only: {error}")),
    }
    metrics::http::start();
    log(Level::Notice, &format!("bull {} loaded", env!("CARGO_PKG_VERSION")));
    Ok(())
}

/// `loadmodule <file> [policies <folder>] [profiles <file>]`: pairs of a word and its value.
fn arguments(args: &[LoadArgument]) -> Result<Vec<(&'static str, String)>, String> {
    let mut pairs = Vec::new();
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let Some(&known) = LOAD_WORDS.iter().find(|known| word.as_slice().eq_ignore_ascii_case(known.as_bytes()))
        else {
            let shown = short(word.as_slice(), 64);
            return Err(format!("unknown argument '{shown}' of loadmodule; known are {}", LOAD_WORDS.join(", ")));
        };
        let value = args.next().ok_or_else(|| format!("argument {known} of loadmodule needs a value"))?;
        let value =
            std::str::from_utf8(value.as_slice()).map_err(|_| format!("argument {known} is not valid UTF-8"))?;
        pairs.push((known, value.to_owned()));
    }
    Ok(pairs)
}

/// Arguments of loadmodule, each the name of a setting.
const LOAD_WORDS: [&str; 2] = ["policies", "profiles"];

/// Unloading is refused: a queued MULTI would jump into unmapped code. Switches in the configuration turn things off.
pub fn unload(_context: &LoadContext) -> Status {
    log(Level::Warning, "bull: MODULE UNLOAD is refused; restart the server without the loadmodule line");
    Status::Err
}

//! BULL.POLICY: loading, listing and steering policies.
//!
//! Compiling and configuring run on one background thread; the main thread only swaps a pointer. A policy that fails
//! anywhere on the way leaves the old one in force.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::answer;
use super::parse::Cursor;
use crate::config;
use crate::entry::guarded;
use crate::error::{Error, Result};
use crate::keeper::admission::policies;
use crate::policy::compiled::Compiled;
use crate::policy::faults::LoadError;
use crate::policy::instance::Instance;
use crate::policy::registry::{Mode, OnError, Policy};
use crate::redis::Context;
use crate::redis::block::{Waiting, lower_priority, on_main_thread, wait};
use crate::redis::context::Setting;
use crate::redis::log::{Level, log};
use crate::redis::reply::{Reply, map};
use crate::redis::string::Args;
use crate::text::short;

/// Longest wait for a load, milliseconds.
const LOAD_MS: u64 = 10_000;
/// Stack of the compiling thread, bytes.
const THREAD_STACK: usize = 8 << 20;

type Work = Box<dyn FnOnce() + Send>;

pub fn load(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(start_load(context, args))
}

fn start_load(context: Context, args: Args<'_>) -> Result<Option<Reply>> {
    refuse_nested(context, "LOAD")?;
    let mut cursor = Cursor::new(args, 2);
    let name = policy_name(cursor.required("the policy's name")?)?;
    // What is not said stays as it is in the policy of that name.
    let mut settings = policies().get(&name).map(|policy| policy.settings.clone()).unwrap_or_default();
    while cursor.left() > 1 {
        match cursor.word(&["CONFIG", "MODE", "QUEUES", "ORDER", "ONERROR"])? {
            Some(word @ "CONFIG") => settings.config = json_object(cursor.text(word)?)?,
            Some(word @ "MODE") => settings.mode = mode(cursor.value(word)?)?,
            Some(word @ "QUEUES") => settings.queues = cursor.text(word)?.to_owned(),
            Some(word @ "ORDER") => settings.order = cursor.number(word, -1_000_000, 1_000_000)?,
            Some(word) => settings.on_error = on_error(cursor.value(word)?)?,
            None => break,
        }
    }
    let wasm = cursor.required("the component's bytes (redis-cli -x reads them from its input)")?;
    let limits = config::policy_limits();
    if wasm.len() > limits.wasm_bytes {
        return Err(LoadError::TooLarge { bytes: wasm.len(), max: limits.wasm_bytes }.into());
    }
    let wasm = wasm.to_vec();
    let waiting = wait(context, Some(LOAD_MS));
    let started = Instant::now();
    run_behind(Box::new(move || {
        let made = guarded("compiling a policy", || {
            let compiled = Arc::new(Compiled::new(&wasm, limits)?);
            let instance = Instance::new(&compiled, &settings.config)?;
            Ok(Policy::new(name, compiled, settings, instance, started.elapsed().as_millis() as u64))
        });
        let made = made.unwrap_or_else(|| Err(LoadError::Compile("internal error, see the server's log".into())));
        finish(waiting, started, made.map_err(Error::from));
    }))?;
    Ok(None)
}

/// Swaps the policy in on the main thread, unless its client has been told that it took too long.
fn finish(waiting: Waiting, started: Instant, made: Result<Policy>) {
    on_main_thread(Box::new(move |_| {
        let reply = match made {
            Ok(_) if started.elapsed() >= Duration::from_millis(LOAD_MS) => Err(Error::Policy("took too long".into())),
            Ok(policy) => {
                let digest = &policy.compiled.digest[..12];
                let version = &policy.compiled.description.version;
                log(Level::Notice, &format!("bull: policy {} {version} ({digest}) is in force", policy.name));
                let reply = map([
                    ("name", policy.name.as_str().into()),
                    ("version", version.as_str().into()),
                    ("digest", policy.compiled.digest.as_str().into()),
                    ("bytes", (policy.compiled.bytes as u64).into()),
                    ("compile-ms", policy.compile_ms.into()),
                ]);
                let old = policies().replace(policy);
                discard(old);
                Ok(reply)
            }
            Err(error) => Err(error),
        };
        waiting.answer(reply.unwrap_or_else(Reply::from));
    }));
}

pub fn config(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(start_config(context, args))
}

fn start_config(context: Context, args: Args<'_>) -> Result<Option<Reply>> {
    refuse_nested(context, "CONFIG")?;
    let mut cursor = Cursor::new(args, 2);
    let name = known_name(&mut cursor)?;
    let text = json_object(cursor.text("the configuration")?)?;
    cursor.finish()?;
    let (compiled, mut settings, compile_ms) = {
        let policies = policies();
        let policy = policies.get(&name).ok_or_else(|| unknown(&name))?;
        (policy.compiled.clone(), policy.settings.clone(), policy.compile_ms)
    };
    settings.config = text;
    let waiting = wait(context, Some(LOAD_MS));
    let started = Instant::now();
    run_behind(Box::new(move || {
        let made = guarded("configuring a policy", || Instance::new(&compiled, &settings.config));
        let made = made.unwrap_or_else(|| Err(LoadError::Config("internal error, see the server's log".into())));
        let made = made.map(|instance| Policy::new(name, compiled, settings, instance, compile_ms));
        finish(waiting, started, made.map_err(Error::from));
    }))?;
    Ok(None)
}

pub fn list(_context: Context, args: Args<'_>) -> Option<Reply> {
    answer(Cursor::new(args, 2).finish().map(|()| {
        Some(Reply::Array(
            policies()
                .policies()
                .iter()
                .map(|policy| {
                    map([
                        ("name", policy.name.as_str().into()),
                        ("version", policy.compiled.description.version.as_str().into()),
                        ("mode", policy.settings.mode.name().into()),
                        ("queues", policy.settings.queues.as_str().into()),
                        ("order", Reply::Integer(policy.settings.order)),
                        ("state", state(policy).into()),
                        ("summary", policy.compiled.description.summary.as_str().into()),
                    ])
                })
                .collect(),
        ))
    }))
}

pub fn info(_context: Context, args: Args<'_>) -> Option<Reply> {
    let mut cursor = Cursor::new(args, 2);
    answer(known_name(&mut cursor).and_then(|name| {
        cursor.finish()?;
        let policies = policies();
        let policy = policies.get(&name).ok_or_else(|| unknown(&name))?;
        let (told, counters) = (&policy.compiled.description, policy.counters);
        Ok(Some(map([
            ("name", policy.name.as_str().into()),
            ("describes-itself-as", told.name.as_str().into()),
            ("version", told.version.as_str().into()),
            ("summary", told.summary.as_str().into()),
            ("digest", policy.compiled.digest.as_str().into()),
            ("bytes", (policy.compiled.bytes as u64).into()),
            ("mode", policy.settings.mode.name().into()),
            ("onerror", policy.settings.on_error.name().into()),
            ("queues", policy.settings.queues.as_str().into()),
            ("order", Reply::Integer(policy.settings.order)),
            ("config", policy.settings.config.as_str().into()),
            ("state", state(policy).into()),
            ("calls", counters.calls.into()),
            ("admitted", counters.all.admitted.into()),
            ("rejected", counters.all.rejected.into()),
            ("deferred", counters.all.deferred.into()),
            ("displaced", counters.all.displaced.into()),
            ("observed", counters.all.observed.into()),
            ("faults", counters.faults.into()),
            ("guard-admitted", counters.guarded.admitted.into()),
            ("guard-rejected", counters.guarded.rejected.into()),
            ("guard-deferred", counters.guarded.deferred.into()),
            ("guard-displaced", counters.guarded.displaced.into()),
            ("guard-observed", counters.guarded.observed.into()),
            ("p50-ns", policy.times.percentile(0.5).into()),
            ("p99-ns", policy.times.percentile(0.99).into()),
            ("compile-ms", policy.compile_ms.into()),
            ("fuel", policy.compiled.limits.fuel.into()),
            ("memory", (policy.compiled.limits.memory as u64).into()),
            ("last-error", policy.last_error.as_deref().map_or(Reply::Null, Reply::from)),
        ])))
    }))
}

pub fn remove(_context: Context, args: Args<'_>) -> Option<Reply> {
    let mut cursor = Cursor::new(args, 2);
    answer(known_name(&mut cursor).and_then(|name| {
        cursor.finish()?;
        let old = policies().remove(&name).ok_or_else(|| unknown(&name))?;
        discard(Some(old));
        Ok(Some(Reply::Simple("OK")))
    }))
}

pub fn set_mode(_context: Context, args: Args<'_>) -> Option<Reply> {
    let mut cursor = Cursor::new(args, 2);
    answer(known_name(&mut cursor).and_then(|name| {
        let wanted = mode(cursor.required("the mode")?)?;
        cursor.finish()?;
        let mut policies = policies();
        let policy = policies.get_mut(&name).ok_or_else(|| unknown(&name))?;
        policy.settings.mode = wanted;
        policy.resume();
        Ok(Some(Reply::Simple("OK")))
    }))
}

/// One line a subcommand, from the table of commands.
pub fn help(_context: Context, args: Args<'_>) -> Option<Reply> {
    answer(Cursor::new(args, 2).finish().map(|()| {
        let lines = super::commands().filter_map(|command| {
            let sub = command.name.strip_prefix("BULL.POLICY|")?;
            Some(Reply::Text(format!("{sub}: {}", command.summary)))
        });
        Some(Reply::Array(lines.collect()))
    }))
}

fn state(policy: &Policy) -> &'static str {
    if policy.suspended { "suspended" } else { "ready" }
}

fn refuse_nested(context: Context, sub: &str) -> Result<()> {
    if context.setting() == Setting::Nested {
        return Err(Error::bad(format!(
            "BULL.POLICY {sub} compiles in the background and cannot run in MULTI or a script"
        )));
    }
    Ok(())
}

fn policy_name(name: &[u8]) -> Result<String> {
    let fine = (1..=64).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(byte))
        && !name.starts_with(b".");
    match std::str::from_utf8(name) {
        Ok(name) if fine => Ok(name.to_owned()),
        _ => Err(Error::bad(format!(
            "policy name '{}' must be 1 to 64 of a-z 0-9 - _ . and not start with a dot",
            short(name, 64)
        ))),
    }
}

fn known_name(cursor: &mut Cursor<'_>) -> Result<String> {
    policy_name(cursor.required("the policy's name")?)
}

fn unknown(name: &str) -> Error {
    Error::Policy(format!("no policy '{name}' is loaded; BULL.POLICY LIST shows what is"))
}

fn mode(text: &[u8]) -> Result<Mode> {
    if text.eq_ignore_ascii_case(b"enforce") {
        Ok(Mode::Enforce)
    } else if text.eq_ignore_ascii_case(b"observe") {
        Ok(Mode::Observe)
    } else {
        Err(Error::bad(format!("MODE must be enforce or observe, not '{}'", short(text, 64))))
    }
}

fn on_error(text: &[u8]) -> Result<OnError> {
    if text.eq_ignore_ascii_case(b"admit") {
        Ok(OnError::Admit)
    } else if text.eq_ignore_ascii_case(b"reject") {
        Ok(OnError::Reject)
    } else {
        Err(Error::bad(format!("ONERROR must be admit or reject, not '{}'", short(text, 64))))
    }
}

fn json_object(text: &str) -> Result<String> {
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(Error::bad(format!("the configuration must be a JSON object: {error}"))),
    }
}

/// Frees a policy's code and memory off the main thread: unmapping takes longer than a command may.
fn discard(old: Option<Policy>) {
    if old.is_some() {
        // Where the thread cannot be had, it is freed here.
        let _ = run_behind(Box::new(move || drop(old)));
    }
}

/// Hands work to the one background thread, which is started with the first piece.
fn run_behind(work: Work) -> Result<()> {
    static QUEUE: Mutex<Option<Sender<Work>>> = Mutex::new(None);
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    let work = match queue.as_ref() {
        None => work,
        Some(sender) => match sender.send(work) {
            Ok(()) => return Ok(()),
            Err(unsent) => unsent.0,
        },
    };
    let (sender, receiver) = channel::<Work>();
    let thread = std::thread::Builder::new().name("bull-policies".into()).stack_size(THREAD_STACK);
    let spawned = thread.spawn(move || {
        lower_priority();
        for work in receiver {
            guarded("the policy thread", work);
        }
    });
    match (spawned, sender.send(work)) {
        (Ok(_), Ok(())) => {
            *queue = Some(sender);
            Ok(())
        }
        _ => Err(Error::Policy("the background thread could not be started".into())),
    }
}

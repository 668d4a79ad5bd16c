//! BULL.POLICY's views: the policies in force, one of them, the last decisions, the list of subcommands.

use super::answer;
use super::parse::Cursor;
use super::policy::policy_name;
use crate::error::{Error, Result};
use crate::keeper::admission::policies;
use crate::keeper::changes::unknown;
use crate::policy::audit::{Entry, KEPT, Kind};
use crate::policy::deeds::Deed;
use crate::policy::member::Policy;
use crate::redis::Context;
use crate::redis::reply::{Reply, map};
use crate::redis::string::Args;
use crate::text::short;

pub fn list(_context: Context, args: Args<'_>) -> Option<Reply> {
    answer(Cursor::new(args, 2).finish().map(|()| Some(Reply::Array(policies().policies().iter().map(row).collect()))))
}

fn row(policy: &Policy) -> Reply {
    map([
        ("name", policy.name.as_str().into()),
        ("version", policy.version().into()),
        ("digest", policy.code().map_or(Reply::Null, |code| code.compiled.digest.as_str().into())),
        ("mode", policy.settings.mode.name().into()),
        ("queues", policy.settings.queues.as_str().into()),
        ("order", Reply::Integer(policy.settings.order)),
        ("state", policy.state().name().into()),
        ("last-error", last_error(policy)),
        ("summary", policy.code().map_or("", |code| &code.compiled.description.summary).into()),
    ])
}

fn last_error(policy: &Policy) -> Reply {
    policy.last_error.as_deref().map_or(Reply::Null, Reply::from)
}

pub fn info(_context: Context, args: Args<'_>) -> Option<Reply> {
    let mut cursor = Cursor::new(args, 2);
    answer(policy_name(&mut cursor).and_then(|name| {
        cursor.finish()?;
        let policies = policies();
        let policy = policies.get(&name).ok_or_else(|| unknown(&name))?;
        Ok(Some(Reply::Map(facts(policy).into_iter().map(|(name, value)| (name.to_owned(), value)).collect())))
    }))
}

fn facts(policy: &Policy) -> Vec<(&'static str, Reply)> {
    let Policy { settings, counters, times, tick_times, .. } = policy;
    let mut facts: Vec<(&'static str, Reply)> = vec![
        ("name", policy.name.as_str().into()),
        ("state", policy.state().name().into()),
        ("mode", settings.mode.name().into()),
        ("onerror", settings.on_error.name().into()),
        ("queues", settings.queues.as_str().into()),
        ("order", Reply::Integer(settings.order)),
        ("config", settings.config.as_str().into()),
        ("last-error", last_error(policy)),
        ("calls", counters.calls.into()),
        ("unasked", counters.unasked.into()),
        ("admitted", counters.all.admitted.into()),
        ("rejected", counters.all.rejected.into()),
        ("deferred", counters.all.deferred.into()),
        ("displaced", counters.all.displaced.into()),
        ("observed", counters.all.observed.into()),
        ("guard-admitted", counters.guarded.admitted.into()),
        ("guard-rejected", counters.guarded.rejected.into()),
        ("guard-deferred", counters.guarded.deferred.into()),
        ("guard-displaced", counters.guarded.displaced.into()),
        ("guard-observed", counters.guarded.observed.into()),
        ("unanswered", counters.unanswered.into()),
        ("ticks", counters.ticks.into()),
        ("actions-unneeded", counters.deeds.unneeded.into()),
        ("actions-ignored", counters.deeds.ignored.into()),
        ("actions-observed", counters.deeds.observed.into()),
        ("last-ignored", policy.last_ignored.as_deref().map_or(Reply::Null, Reply::from)),
        ("faults", counters.faults.into()),
        ("remade", counters.remade.into()),
        ("suspensions", counters.suspensions.into()),
    ];
    for (name, deed) in [
        ("notices", Deed::Notice),
        ("trims", Deed::Trim),
        ("event-trims", Deed::TrimEvents),
        ("pauses", Deed::Pause),
        ("resumes", Deed::Resume),
        ("emergencies", Deed::Emergency),
    ] {
        facts.push((name, counters.deeds.done(deed).into()));
    }
    for (name, times, share) in [
        ("p50-ns", times, 0.5),
        ("p95-ns", times, 0.95),
        ("p99-ns", times, 0.99),
        ("tick-p50-ns", tick_times, 0.5),
        ("tick-p99-ns", tick_times, 0.99),
    ] {
        facts.push((name, times.percentile(share).into()));
    }
    if let Some(code) = policy.code() {
        let (compiled, told) = (&code.compiled, &code.compiled.description);
        facts.extend([
            ("describes-itself-as", told.name.as_str().into()),
            ("version", told.version.as_str().into()),
            ("summary", told.summary.as_str().into()),
            ("digest", compiled.digest.as_str().into()),
            ("bytes", (compiled.bytes as u64).into()),
            ("compile-ms", code.compile_ms.into()),
            ("fuel", compiled.limits.fuel.into()),
            ("memory", (compiled.limits.memory as u64).into()),
            ("config-schema", told.config_schema.as_str().into()),
        ]);
    }
    facts
}

/// Decisions shown where COUNT is not given.
const DEFAULT_COUNT: i64 = 10;

pub fn log(_context: Context, args: Args<'_>) -> Option<Reply> {
    answer(decisions(args).map(Some))
}

/// The newest decisions that were not a plain admit.
fn decisions(args: Args<'_>) -> Result<Reply> {
    let mut cursor = Cursor::new(args, 2);
    let (mut count, mut name, mut kind) = (DEFAULT_COUNT, None, None);
    while let Some(word) = cursor.word(&["COUNT", "POLICY", "VERDICT"])? {
        match word {
            "COUNT" => count = cursor.number(word, 1, KEPT as i64)?,
            // A policy that is gone may still have entries.
            "POLICY" => name = Some(policy_name(&mut cursor)?),
            _ => kind = Some(verdict(cursor.value(word)?)?),
        }
    }
    let policies = policies();
    let entries = policies.audit.newest().filter(|entry| {
        name.as_ref().is_none_or(|name| *name == entry.policy) && kind.is_none_or(|kind| kind == entry.kind)
    });
    Ok(Reply::Array(entries.take(count.unsigned_abs() as usize).map(decision).collect()))
}

fn verdict(text: &[u8]) -> Result<Kind> {
    Kind::ALL.into_iter().find(|kind| text.eq_ignore_ascii_case(kind.name().as_bytes())).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::name).join(", ");
        Error::bad(format!("VERDICT must be one of {known}, not '{}'", short(text, 64)))
    })
}

fn decision(entry: &Entry) -> Reply {
    let (job, bytes) = match &entry.job {
        Some((name, bytes)) => (name.as_str().into(), (*bytes).into()),
        None => (Reply::Null, Reply::Null),
    };
    map([
        ("time", entry.at_ms.into()),
        ("policy", entry.policy.as_str().into()),
        ("version", entry.version.as_str().into()),
        ("queue", entry.queue.as_str().into()),
        ("job", job),
        ("bytes", bytes),
        ("verdict", entry.kind.name().into()),
        ("reason", entry.reason.as_str().into()),
        ("effect", if entry.binds { "enforced" } else { "observed" }.into()),
    ])
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

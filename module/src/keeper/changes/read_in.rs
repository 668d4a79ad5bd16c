//! What the policies' folder holds, compiled where it differs from what is in force, and handed to the desk.
//!
//! The work of the compiling thread: it puts nothing in force itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Body, DESK, Held, compile, desk};
use crate::config;
use crate::policy::files::{Folder, Found, Record};
use crate::policy::member::Code;
use crate::policy::settings::Settings;
use crate::redis::reply::{Reply, map};

/// What became of the files at a RELOAD.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) loaded: u64,
    unchanged: u64,
    removed: u64,
    pub(super) broken: Vec<String>,
}

impl Tally {
    pub(super) fn reply(&self) -> Reply {
        map([
            ("loaded", self.loaded.into()),
            ("unchanged", self.unchanged.into()),
            ("removed", self.removed.into()),
            ("broken", Reply::Array(self.broken.iter().map(|text| text.as_str().into()).collect())),
        ])
    }
}

pub(super) trait LockOrInner<T> {
    fn lock_or_inner(&self) -> MutexGuard<'_, T>;
}

impl<T> LockOrInner<T> for Mutex<T> {
    fn lock_or_inner(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of the folder, its component compiled or the reason why not.
pub(super) struct ReadIn {
    pub(super) settings: Settings,
    pub(super) wasm: String,
    pub(super) code: std::result::Result<Code, String>,
}

/// Compiles what the folder holds and differs from what the desk had, and hands each to the desk as it is ready. The work
/// of the compiling thread.
pub(super) fn read_in(folder: &Folder, found: Vec<Found>, seen: &BTreeMap<String, Held>, tally: &Arc<Mutex<Tally>>) {
    for name in seen.keys().filter(|name| found.iter().all(|found| found.name != **name)) {
        let (name, change, tally) = (name.clone(), seen[name].change, Arc::clone(tally));
        let _ = DESK.run(Box::new(move || {
            let mut desk = desk();
            if desk.held.get(&name).is_some_and(|held| held.change == change) {
                tally.lock_or_inner().removed += 1;
                desk.drop_policy(None, name);
            }
        }));
    }
    for Found { name, record } in found {
        let (settings, wasm, code) = match record {
            Ok(record) => {
                let code = match in_force(seen.get(&name), &record) {
                    Some((settings, _)) if *settings == record.settings => {
                        tally.lock_or_inner().unchanged += 1;
                        continue;
                    }
                    Some((_, code)) => Ok(code.clone()),
                    None => compile_record(folder, &record),
                };
                (record.settings, record.wasm, code)
            }
            Err(error) => (Settings::default(), String::new(), Err(error.to_string())),
        };
        let change = seen.get(&name).map_or(0, |held| held.change);
        let tally = Arc::clone(tally);
        let read = ReadIn { settings, wasm, code };
        let _ = DESK.run(Box::new(move || desk().take_in(name, change, read, &tally)));
    }
}

/// The code that runs, where the record means just that: the same file with the same digest, under today's limits.
fn in_force<'a>(held: Option<&'a Held>, record: &Record) -> Option<(&'a Settings, &'a Code)> {
    let held = held?;
    let Body::Ready { code, wasm } = &held.body else { return None };
    let same = *wasm == record.wasm
        && record.digest.as_ref() == Some(&code.compiled.digest)
        && code.compiled.limits == config::policy_limits();
    same.then_some((&held.settings, code))
}

fn compile_record(folder: &Folder, record: &Record) -> std::result::Result<Code, String> {
    let wasm = folder.component(record, config::policy_limits().wasm_bytes).map_err(|error| error.to_string())?;
    let code = compile(&wasm).map_err(|error| format!("{}: {error}", record.wasm))?;
    match &record.digest {
        Some(digest) if !digest.eq_ignore_ascii_case(&code.compiled.digest) => {
            Err(format!("{} has the digest {}, its settings want {digest}", record.wasm, code.compiled.digest))
        }
        _ => Ok(code),
    }
}

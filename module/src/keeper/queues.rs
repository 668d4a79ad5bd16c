//! The queues of this node: found by a sliced SCAN after each load, kept by keyspace events. On its way the scan finds the keys
//! of jobs (`sub_keys`).
//!
//! A queue is a hash `<queue>:meta` with `opts.maxLenEvents` or `version`, which every BullMQ client and every add
//! writes. Readers check that the hash still exists, so a queue that vanished without an event is never shown.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{rates, sizes, standing, sub_keys, trims};
use crate::config;
use crate::metrics;
use crate::queue::check::is_meta;
use crate::queue::fields::Word;
use crate::queue::keys::{QueueName, is_sub_key};
use crate::queue::store::{Kind, Store};
use crate::redis::Context;
use crate::redis::call::{Answer, Effect};
use crate::redis::events::Change;
use crate::redis::store::LiveStore;

/// Most queues remembered; further ones are not listed.
const MAX_QUEUES: usize = 100_000;

const SUFFIX: &[u8] = b":meta";

struct State {
    known: BTreeSet<(i32, QueueName)>,
    /// Database and cursor of the scan under way.
    scan: Option<(i32, Vec<u8>)>,
}

static STATE: Mutex<State> = Mutex::new(State { known: BTreeSet::new(), scan: Some((0, Vec::new())) });

/// Never held across a call to the server, which could come back here by an event.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Snapshot {
    pub known: u64,
    pub scanning: bool,
}

pub fn snapshot() -> Snapshot {
    let state = state();
    Snapshot { known: state.known.len() as u64, scanning: state.scan.is_some() }
}

/// Queues of the context's database, sorted; those that no longer exist are forgotten on the way.
pub fn list(context: Context) -> Vec<QueueName> {
    let db = context.db();
    let names: Vec<QueueName> =
        state().known.iter().filter(|(of, _)| *of == db).map(|(_, name)| name.clone()).collect();
    let store = LiveStore(context);
    let (alive, gone): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| store.kind(&name.key("meta")) == Kind::Hash);
    if !gone.is_empty() {
        let mut state = state();
        for name in gone {
            rates::forget(db, name.as_bytes());
            trims::forget(db, &name);
            sizes::forget(db, &name);
            standing::forget(db, &name);
            state.known.remove(&(db, name));
        }
    }
    alive
}

/// The queue behind this one, in the order of databases and names; the first one behind None.
pub fn after(at: Option<&(i32, QueueName)>) -> Option<(i32, QueueName)> {
    let state = state();
    match at {
        Some(at) => state.known.range((Bound::Excluded(at), Bound::Unbounded)).next().cloned(),
        None => state.known.first().cloned(),
    }
}

/// All queues by database, in batches.
pub fn batches(size: usize) -> Vec<(i32, Vec<QueueName>)> {
    let mut batches: Vec<(i32, Vec<QueueName>)> = Vec::new();
    for (db, name) in &state().known {
        match batches.last_mut() {
            Some((of, batch)) if of == db && batch.len() < size => batch.push(name.clone()),
            _ => batches.push((*db, vec![name.clone()])),
        }
    }
    batches
}

/// Up to `count` queues of one database in their order, behind this one; none where it was the last.
pub fn behind(place: Option<(i32, QueueName)>, count: usize) -> Vec<(i32, QueueName)> {
    let from = place.map_or(Bound::Unbounded, Bound::Excluded);
    let state = state();
    let mut found = state.known.range((from, Bound::Unbounded));
    let Some(first) = found.next() else { return Vec::new() };
    std::iter::once(first).chain(found.take_while(|(db, _)| *db == first.0)).take(count).cloned().collect()
}

/// The next queues behind `after`, in the order of databases and names.
pub fn next(after: Option<&(i32, QueueName)>, count: usize) -> Vec<(i32, QueueName)> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    state().known.range((from, Bound::Unbounded)).take(count).cloned().collect()
}

/// The name, without its suffix, is that of a queue of this node.
pub fn knows(db: i32, name: &[u8]) -> bool {
    QueueName::parse(name).is_ok_and(|name| state().known.contains(&(db, name)))
}

/// The queue whose `:meta` this key is.
pub(super) fn name_of(key: &[u8]) -> Option<QueueName> {
    QueueName::parse(key.strip_suffix(SUFFIX)?).ok()
}

pub fn on_key(context: Context, key: &[u8], gone: bool) {
    let Some(name) = name_of(key) else { return };
    let entry = (context.db(), name);
    standing::forget(entry.0, &entry.1);
    if gone {
        state().known.remove(&entry);
        rates::forget(entry.0, entry.1.as_bytes());
        trims::forget(entry.0, &entry.1);
        sizes::forget(entry.0, &entry.1);
    } else if !state().known.contains(&entry) && is_meta(&LiveStore(context), key) {
        remember(entry);
    }
}

fn remember(entry: (i32, QueueName)) {
    let mut state = state();
    if state.known.len() < MAX_QUEUES {
        state.known.insert(entry);
    }
}

pub fn on_change(change: Change) {
    let mut state = state();
    match change {
        Change::Flushed(None) => state.known.clear(),
        Change::Flushed(Some(db)) => state.known.retain(|(of, _)| *of != db),
        Change::Loaded => {
            state.known.clear();
            state.scan = Some((0, Vec::new()));
        }
        Change::SlotsMoved => state.scan = Some((0, Vec::new())),
        Change::Loading | Change::Primary(_) => {}
        Change::Swapped(first, second) => {
            let swapped = |db| match db {
                _ if db == first => second,
                _ if db == second => first,
                _ => db,
            };
            state.known = std::mem::take(&mut state.known).into_iter().map(|(db, name)| (swapped(db), name)).collect();
            // What the scan has not seen may now stand where it was already.
            if state.scan.is_some() {
                state.scan = Some((0, Vec::new()));
            }
        }
    }
}

/// A piece of the scan. True while there is more to do.
pub fn scan_slice(context: Context) -> bool {
    if context.is_loading() {
        return state().scan.is_some();
    }
    let Some((mut db, mut cursor)) = state().scan.take() else { return false };
    let start = Instant::now();
    let before = context.db();
    let mut done = false;
    while !done && start.elapsed() < config::slice() {
        // The first database that does not exist ends the scan.
        if !context.select(db) {
            done = true;
            sub_keys::all_seen();
            break;
        }
        match scan_step(context, db, &cursor) {
            Some(next) if next == b"0" => (db, cursor) = (db + 1, Vec::new()),
            Some(next) => cursor = next,
            None => done = true,
        }
    }
    context.select(before);
    metrics::slice_took(start.elapsed().as_micros() as u64);
    if !done {
        state().scan.get_or_insert((db, cursor));
    }
    !done
}

fn scan_step(context: Context, db: i32, cursor: &[u8]) -> Option<Vec<u8>> {
    let cursor = if cursor.is_empty() { b"0" } else { cursor };
    // `:meta` and the further keys of jobs, and a few more.
    let words: [Word; 5] = [cursor.into(), "MATCH".into(), "*:[mdpful]*[asdl]".into(), "COUNT".into(), "100".into()];
    let Ok(Answer::List(mut parts)) = context.call(c"SCAN", Effect::Local, &words) else { return None };
    let keys = parts.pop()?.texts();
    let store = LiveStore(context);
    for key in keys {
        // A queue's set of failed jobs ends like a hash of failed children.
        if is_sub_key(&key) && !(key.ends_with(b":failed") && store.kind(&key) == Kind::ZSet) {
            sub_keys::on_key(&key);
        }
        if let Some(name) = name_of(&key).filter(|_| is_meta(&store, &key)) {
            remember((db, name));
        }
    }
    parts.pop()?.text()
}

//! The limits in force for a queue: its profile, filled up by the node's defaults.
//!
//! Kept in memory and dropped when the server tells of a change of the profile's key, so that an answer costs one look
//! into a map. Profiles are read again when they are next asked for.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use wildmatch::WildMatch;

use super::admission::policies;
use super::by_queue::ByQueue;
use crate::queue::keys::QueueName;
use crate::queue::profile::{Defaults, Limits, SUFFIX};
use crate::redis::Context;
use crate::redis::events::Change;
use crate::redis::store::LiveStore;

/// Most queues remembered; beyond that the memory starts anew.
const MAX_QUEUES: usize = 100_000;

#[derive(Default)]
struct State {
    defaults: Defaults,
    known: ByQueue<Limits>,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

/// Never held across a call to the server, which could come back here by an event.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Limits of a queue in the context's database.
pub fn limits(context: Context, queue: &QueueName) -> Limits {
    let db = context.db();
    let defaults = {
        let state = state();
        if let Some(limits) = state.known.get(db, queue) {
            return *limits;
        }
        let name = queue.display();
        state.defaults.of(|pattern| WildMatch::new(pattern).matches(&name))
    };
    let limits = Limits::read(&LiveStore(context), queue, defaults);
    let mut state = state();
    if state.known.len() >= MAX_QUEUES {
        state.known.clear();
    }
    *state.known.insert(db, queue.clone(), limits)
}

/// Takes over the defaults of a file; an empty path is no file. Errors: what is wrong with it, one line.
pub fn load_defaults(path: &str) -> Result<(), String> {
    let defaults = if path.is_empty() {
        Defaults::default()
    } else {
        let text = std::fs::read(path).map_err(|error| format!("profiles file '{path}': {error}"))?;
        Defaults::parse(&text).map_err(|error| format!("profiles file '{path}' {error}"))?
    };
    policies().forget_terms();
    let mut state = state();
    state.defaults = defaults;
    state.known.clear();
    Ok(())
}

/// A key of ours or of a queue changed.
pub fn on_key(context: Context, key: &[u8]) {
    let Some(name) = key.strip_suffix(SUFFIX.as_bytes()).and_then(|key| key.strip_suffix(b":")) else { return };
    let Ok(queue) = QueueName::parse(name) else { return };
    let db = context.db();
    policies().forget_terms();
    state().known.remove(db, &queue);
}

/// Whole databases came or went.
pub fn on_change(change: Change) {
    if !matches!(change, Change::Primary(_)) {
        policies().forget_terms();
        state().known.clear();
    }
}

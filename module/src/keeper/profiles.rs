//! The limits in force for a queue: its profile, filled up by the node's defaults.
//!
//! Kept in memory and dropped when the server tells of a change of the profile's key, so that an answer costs one look
//! into a map. Profiles are read again when they are next asked for.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use wildmatch::WildMatch;

use super::admission::policies;
use crate::queue::job::QueueKeys;
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
    known: HashMap<i32, HashMap<QueueName, Limits>>,
    count: usize,
}

impl State {
    fn forget_all(&mut self) {
        self.known.clear();
        self.count = 0;
    }
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

/// Never held across a call to the server, which could come back here by an event.
fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Limits of a queue in the context's database.
pub fn limits(context: Context, queue: &QueueName, _keys: &QueueKeys) -> Limits {
    let db = context.db();
    let defaults = {
        let state = state();
        if let Some(limits) = state.known.get(&db).and_then(|queues| queues.get(queue)) {
            return *limits;
        }
        let name = queue.display();
        state.defaults.of(|pattern| WildMatch::new(pattern).matches(&name))
    };
    let limits = Limits::read(&LiveStore(context), queue, defaults);
    let mut state = state();
    if state.count >= MAX_QUEUES {
        state.forget_all();
    }
    if state.known.entry(db).or_default().insert(queue.clone(), limits).is_none() {
        state.count += 1;
    }
    limits
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
    state.forget_all();
    Ok(())
}

/// A key of ours or of a queue changed.
pub fn on_key(context: Context, key: &[u8]) {
    let Some(name) = key.strip_suffix(SUFFIX.as_bytes()).and_then(|key| key.strip_suffix(b":")) else { return };
    let Ok(queue) = QueueName::parse(name) else { return };
    let db = context.db();
    policies().forget_terms();
    let mut state = state();
    if state.known.get_mut(&db).is_some_and(|queues| queues.remove(&queue).is_some()) {
        state.count -= 1;
    }
}

/// Whole databases came or went.
pub fn on_change(change: Change) {
    if !matches!(change, Change::Primary(_)) {
        policies().forget_terms();
        state().forget_all();
    }
}

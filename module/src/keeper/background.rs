//! The share of a core that work nobody waits for may take (`bull.background-cpu-percent`), kept by pauses.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{config, metrics};

/// Before this no background work.
static UNTIL: Mutex<Option<Instant>> = Mutex::new(None);

/// Milliseconds until background work may go on; 0 where it may at once.
pub fn wait_ms() -> u64 {
    let until = *UNTIL.lock().unwrap_or_else(PoisonError::into_inner);
    let left = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()));
    left.as_micros().div_ceil(1000) as u64
}

/// So much background work was done: the pause begins that makes it no more than its share.
pub fn spent(work: Duration) {
    metrics::BACKGROUND_US.add(work.as_micros() as u64);
    *UNTIL.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + config::pause_after(work));
}

//! The server's memory, sampled so that a decision need not ask for INFO, which takes 20 µs.

use std::sync::atomic::{AtomicU64, Ordering};

use super::admission::policies;
use crate::redis::Context;
use crate::redis::context::now_ms;

static USED: AtomicU64 = AtomicU64::new(0);
static MAX: AtomicU64 = AtomicU64::new(0);
static SAMPLED_MS: AtomicU64 = AtomicU64::new(0);

/// Age at which a sample is taken anew, milliseconds, while there are policies.
const FRESH_MS: u64 = 100;
/// And while nobody but the metrics asks.
const UNASKED_MS: u64 = 1000;

/// The timer's turn.
pub fn turn(context: Context) {
    sample_after(context, if policies().is_empty() { UNASKED_MS } else { FRESH_MS });
}

/// Makes sure that what [`memory`] says is a tenth of a second old at most.
pub fn sample(context: Context) {
    sample_after(context, FRESH_MS);
}

fn sample_after(context: Context, fresh: u64) {
    let now = now_ms();
    if now.abs_diff(SAMPLED_MS.load(Ordering::Relaxed)) < fresh {
        return;
    }
    SAMPLED_MS.store(now, Ordering::Relaxed);
    let [used, max] = context.server_numbers(c"memory", [c"used_memory", c"maxmemory"]);
    USED.store(used.unwrap_or(0), Ordering::Relaxed);
    MAX.store(max.unwrap_or(0), Ordering::Relaxed);
}

/// Bytes in use and maxmemory (0 for no limit), a tenth of a second old at most; a second where there is no policy.
pub fn memory() -> (u64, u64) {
    (USED.load(Ordering::Relaxed), MAX.load(Ordering::Relaxed))
}

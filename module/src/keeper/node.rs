//! The server's memory, sampled so that a decision need not ask for INFO.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::redis::Context;
use crate::redis::context::now_ms;

static USED: AtomicU64 = AtomicU64::new(0);
static MAX: AtomicU64 = AtomicU64::new(0);
static SAMPLED_MS: AtomicU64 = AtomicU64::new(0);

/// Age at which a sample is taken anew, milliseconds.
const FRESH_MS: u64 = 100;

pub fn sample(context: Context) {
    let now = now_ms();
    if now.abs_diff(SAMPLED_MS.load(Ordering::Relaxed)) < FRESH_MS {
        return;
    }
    SAMPLED_MS.store(now, Ordering::Relaxed);
    USED.store(context.server_number(c"memory", c"used_memory").unwrap_or(0), Ordering::Relaxed);
    MAX.store(context.server_number(c"memory", c"maxmemory").unwrap_or(0), Ordering::Relaxed);
}

/// Bytes in use and maxmemory (0 for no limit), at most a tenth of a second old.
pub fn memory() -> (u64, u64) {
    (USED.load(Ordering::Relaxed), MAX.load(Ordering::Relaxed))
}

//! The one timer. It runs a function on the main thread and is armed again after each run, never inside it.
//!
//! The server's timers go by the time of day: where the clock is set back by a day, they come a day later. So the server's
//! cron, which goes by the monotonic clock, arms a timer anew that is overdue.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::abi::RawContext;
use super::{Context, api};
use crate::entry::guarded;

/// Work of the timer; answers in how many milliseconds it wants to run again.
pub type Tick = fn(Context) -> u64;

static TICK: OnceLock<Tick> = OnceLock::new();
static ARMED: AtomicU64 = AtomicU64::new(0);
/// When the next run is due, milliseconds since the first arming, by the monotonic clock.
static DUE_MS: AtomicU64 = AtomicU64::new(0);
static RUNNING: AtomicBool = AtomicBool::new(false);

/// Where a tick panicked, the next one comes after this.
const AFTER_PANIC_MS: u64 = 1000;
/// So late is no busy server any more: the cron runs as seldom as the timer then.
const OVERDUE_MS: u64 = 500;

/// Sets the work and arms the timer for the first time.
pub fn start(context: Context, tick: Tick, after_ms: u64) {
    if TICK.set(tick).is_ok() {
        arm(context, after_ms);
    }
}

/// Makes the next run come at once instead of when it was due. Main thread, not from the tick itself.
pub fn hurry(context: Context) {
    if RUNNING.load(Ordering::Relaxed) || TICK.get().is_none() {
        return;
    }
    // SAFETY: the id is that of our one pending timer, or one that has run, which the server refuses.
    unsafe { api!(RedisModule_StopTimer)(context.0, ARMED.load(Ordering::Relaxed), null_mut()) };
    arm(context, 1);
}

/// Arms the timer anew where it should have run long ago. Called by the server's cron.
pub(super) fn watch(context: Context) {
    if monotonic_ms() > DUE_MS.load(Ordering::Relaxed).saturating_add(OVERDUE_MS) {
        hurry(context);
    }
}

/// Milliseconds since the first call.
fn monotonic_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn arm(context: Context, after_ms: u64) {
    DUE_MS.store(monotonic_ms().saturating_add(after_ms), Ordering::Relaxed);
    // SAFETY: the context is live, the callback takes no data.
    let id = unsafe { api!(RedisModule_CreateTimer)(context.0, after_ms as i64, Some(fire), null_mut()) };
    ARMED.store(id, Ordering::Relaxed);
}

extern "C" fn fire(context: *mut RawContext, _data: *mut c_void) {
    let context = Context(context);
    let Some(tick) = TICK.get() else { return };
    RUNNING.store(true, Ordering::Relaxed);
    let next = guarded("the timer", || tick(context)).unwrap_or(AFTER_PANIC_MS);
    RUNNING.store(false, Ordering::Relaxed);
    arm(context, next.max(1));
}

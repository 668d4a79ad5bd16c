//! Every call from C passes here: a panic ends in this file, as an error reply, a counter and a log line.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::redis::log::{Level, log};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics caught since the module was loaded.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Runs `work`; None where it panicked. `place` names it in the log.
///
/// State behind a lock may be half changed then; everything kept between calls is written in one step for that reason.
pub fn guarded<T>(place: &str, work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Some(value),
        Err(panic) => {
            PANICS.fetch_add(1, Ordering::Relaxed);
            log(Level::Warning, &format!("bull: internal error in {place}: {}", message(panic.as_ref())));
            None
        }
    }
}

/// Keeps the standard hook from writing to stderr, which a daemon has closed; the log line above says it all.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        log(Level::Warning, &format!("bull: panic at {place}"));
    }));
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

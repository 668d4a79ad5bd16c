//! Counters of this node, their INFO sections, the snapshot that others read, and what Prometheus gets. Reads no key.

mod exposition;
pub mod http;
pub mod label;
pub mod render;
pub mod snapshot;
pub mod times;
pub mod window;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::redis::info::Section;
use crate::redis::log::{Level, log};
use crate::{entry, keeper};

/// A number that only grows.
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

pub static ADDED: Counter = Counter::new();
pub static REFUSED: Counter = Counter::new();
pub static TRIMMED_JOBS: Counter = Counter::new();
pub static TRIMMED_BYTES: Counter = Counter::new();
pub static SLICES: Counter = Counter::new();
/// Errors after the first write of an operation: none is known to be possible.
pub static LATE_ERRORS: Counter = Counter::new();
pub static SLICES_US: Counter = Counter::new();
/// Trims without a client that ended with an error.
pub static FAILED_TRIMS: Counter = Counter::new();
/// Main-thread time spent on estimating bytes, microseconds.
pub static SIZING_US: Counter = Counter::new();
/// Main-thread time spent on trims that no client waits for and on looking for them, microseconds.
pub static BACKGROUND_US: Counter = Counter::new();
static LONGEST_SLICE_US: AtomicU64 = AtomicU64::new(0);
/// Changes of policies that the main thread put into force.
static SWAPS: Counter = Counter::new();
static LONGEST_SWAP_US: AtomicU64 = AtomicU64::new(0);

/// A change of policies kept the main thread for so long.
pub fn swap_took(micros: u64) {
    SWAPS.add(1);
    LONGEST_SWAP_US.fetch_max(micros, Ordering::Relaxed);
}

pub fn slice_took(micros: u64) {
    SLICES.add(1);
    SLICES_US.add(micros);
    LONGEST_SLICE_US.fetch_max(micros, Ordering::Relaxed);
}

/// Microseconds.
pub fn longest_slice_us() -> u64 {
    LONGEST_SLICE_US.load(Ordering::Relaxed)
}

/// Counts and logs an error that came after the first write.
pub fn late_error(place: &str, text: &str) {
    LATE_ERRORS.add(1);
    log(Level::Warning, &format!("bull: error after the first write of {place}: {text}"));
}

/// The sections of `INFO bull`.
pub fn info() -> Vec<Section> {
    let queues = keeper::queues::snapshot();
    let (followed, timed) = keeper::rates::sizes();
    let guard = keeper::guard::totals();
    let policies = keeper::admission::summary();
    vec![
        Section {
            name: "jobs",
            fields: vec![
                ("jobs_added", ADDED.get()),
                ("jobs_refused_by_policy", REFUSED.get()),
                ("jobs_trimmed", TRIMMED_JOBS.get()),
                ("bytes_trimmed", TRIMMED_BYTES.get()),
            ],
        },
        Section {
            name: "keeper",
            fields: vec![
                ("queues", queues.known),
                ("queues_followed", followed),
                ("running_jobs_timed", timed),
                ("queue_scan_running", u64::from(queues.scanning)),
                ("trims_running", keeper::trims::running()),
                ("trims_failed", FAILED_TRIMS.get()),
                ("sizing_us", SIZING_US.get()),
                ("background_us", BACKGROUND_US.get()),
                ("slices", SLICES.get()),
                ("slices_us", SLICES_US.get()),
                ("longest_slice_us", longest_slice_us()),
            ],
        },
        Section {
            name: "guard",
            fields: vec![
                ("guard_guarded", guard.guarded),
                ("guard_admitted", guard.admitted),
                ("guard_refused", guard.refused),
                ("guard_observed", guard.observed),
                ("guard_passed", guard.passed),
                ("guard_unreadable", guard.unreadable),
                ("guard_queues_counted", keeper::guard::queues()),
            ],
        },
        Section {
            name: "policies",
            fields: vec![
                ("policies", policies.policies),
                ("policy_faults", policies.faults),
                ("policies_suspended", policies.suspended),
                ("policies_broken", policies.broken),
                ("policy_swaps", SWAPS.get()),
                ("longest_policy_swap_us", LONGEST_SWAP_US.load(Ordering::Relaxed)),
            ],
        },
        Section {
            name: "errors",
            fields: vec![("panics", entry::panics()), ("errors_after_first_write", LATE_ERRORS.get())],
        },
    ]
}

//! `CONFIG bull.*`: the table of settings and what they are now.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::policy::engine::Limits;
use crate::queue::job::DataCheck;
use crate::redis::config::{Place, Setting, Text};
use crate::{keeper, metrics};

static SLICE_US: AtomicI64 = AtomicI64::new(500);
static BACKGROUND_PERCENT: AtomicI64 = AtomicI64::new(25);
static TICK_MS: AtomicI64 = AtomicI64::new(1000);
static VALIDATE_DATA: AtomicBool = AtomicBool::new(true);
static METRICS_QUEUES: AtomicI64 = AtomicI64::new(200);
static POLICY_FUEL: AtomicI64 = AtomicI64::new(100_000);
static POLICY_MEMORY: AtomicI64 = AtomicI64::new(1024 * 1024);
static POLICY_MAX_BYTES: AtomicI64 = AtomicI64::new(512 * 1024);

static GUARD: AtomicI64 = AtomicI64::new(0);

/// What happens to the add scripts of unmodified clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// They are left alone.
    Off,
    /// Policies are asked, and no verdict binds.
    Observe,
    Enforce,
}

static PROFILES: Text =
    Text { value: Mutex::new(String::new()), default: "", immutable: true, check: keeper::profiles::load_defaults };

/// A path that is relative counts from the server's `dir` at its start. Whether it can be used shows when it is.
static POLICIES: Text =
    Text { value: Mutex::new(String::new()), default: "bull-policies", immutable: true, check: |_| Ok(()) };

static METRICS_ADDR: Text =
    Text { value: Mutex::new(String::new()), default: "", immutable: false, check: metrics::http::listen };

/// The settings, as README and tests list them.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "guard",
        place: Place::Choice { value: &GUARD, default: 0, words: &["off", "observe", "enforce"] },
        summary: "Whether policies see the jobs of unmodified BullMQ clients, and whether their verdicts bind.",
    },
    Setting {
        name: "slice-us",
        place: Place::Number { value: &SLICE_US, default: 500, min: 50, max: 10_000, memory: false },
        summary: "Longest piece of background or trim work on the main thread, microseconds.",
    },
    Setting {
        name: "background-cpu-percent",
        place: Place::Number { value: &BACKGROUND_PERCENT, default: 25, min: 1, max: 90, memory: false },
        summary: "Most of one core that trims nobody waits for may take, percent.",
    },
    Setting {
        name: "tick-ms",
        place: Place::Number { value: &TICK_MS, default: 1000, min: 100, max: 3_600_000, memory: false },
        summary: "Time between two rounds of the policies' ticks, milliseconds.",
    },
    Setting {
        name: "policies",
        place: Place::Text(&POLICIES),
        summary: "Folder in which policies are kept over a restart; empty for none. Set at load only.",
    },
    Setting {
        name: "profiles",
        place: Place::Text(&PROFILES),
        summary: "JSON file with the limits of queues that set none themselves; set at load only.",
    },
    Setting {
        name: "validate-data",
        place: Place::Switch { value: &VALIDATE_DATA, default: true },
        summary: "Refuse job data that is not one valid JSON text.",
    },
    Setting {
        name: "metrics-addr",
        place: Place::Text(&METRICS_ADDR),
        summary: "Where /metrics is served: a port on 127.0.0.1, or <address>:<port>; empty: not served.",
    },
    Setting {
        name: "metrics-queues",
        place: Place::Number { value: &METRICS_QUEUES, default: 200, min: 0, max: 10_000, memory: false },
        summary: "Queues with series of their own in the metrics; the others are summed.",
    },
    Setting {
        name: "policy-fuel",
        place: Place::Number { value: &POLICY_FUEL, default: 100_000, min: 1_000, max: 10_000_000, memory: false },
        summary: "Fuel of one decision; describe, configure and start-up get 100 times as much. Applies at the next LOAD.",
    },
    Setting {
        name: "policy-memory",
        place: Place::Number { value: &POLICY_MEMORY, default: 1 << 20, min: 1 << 16, max: 16 << 20, memory: true },
        summary: "Linear memory of a policy, bytes. Applies at the next LOAD.",
    },
    Setting {
        name: "policy-max-bytes",
        place: Place::Number { value: &POLICY_MAX_BYTES, default: 512 << 10, min: 1 << 10, max: 4 << 20, memory: true },
        summary: "Largest component that LOAD accepts, bytes.",
    },
];

pub fn slice() -> Duration {
    Duration::from_micros(SLICE_US.load(Ordering::Relaxed) as u64)
}

pub fn guard() -> Guard {
    match GUARD.load(Ordering::Relaxed) {
        0 => Guard::Off,
        1 => Guard::Observe,
        _ => Guard::Enforce,
    }
}

/// The pause that follows a piece of background work, so that it takes no more than its part of a core.
pub fn pause_after(work: Duration) -> Duration {
    work.mul_f64(100.0 / BACKGROUND_PERCENT.load(Ordering::Relaxed).clamp(1, 100) as f64 - 1.0)
}

/// Milliseconds.
pub fn tick_ms() -> u64 {
    TICK_MS.load(Ordering::Relaxed) as u64
}

/// Queues with series of their own.
pub fn metrics_queues() -> usize {
    METRICS_QUEUES.load(Ordering::Relaxed) as usize
}

pub fn data_check() -> DataCheck {
    if VALIDATE_DATA.load(Ordering::Relaxed) { DataCheck::Json } else { DataCheck::Off }
}

/// The folder of policies. Errors: the server's own folder is not known.
pub fn policies_folder() -> std::io::Result<Option<PathBuf>> {
    let text = POLICIES.get();
    if text.is_empty() { Ok(None) } else { std::path::absolute(text).map(Some) }
}

pub fn policy_limits() -> Limits {
    Limits {
        fuel: POLICY_FUEL.load(Ordering::Relaxed) as u64,
        memory: POLICY_MEMORY.load(Ordering::Relaxed) as usize,
        wasm_bytes: POLICY_MAX_BYTES.load(Ordering::Relaxed) as usize,
    }
}

/// Sets a text at load, as an argument of loadmodule. Errors: what is wrong with the value.
pub fn preset(name: &str, value: String) -> Result<(), String> {
    for setting in SETTINGS {
        if let Place::Text(text) = &setting.place
            && setting.name == name
        {
            return text.set(value);
        }
    }
    Err(format!("no setting is named {name}"))
}

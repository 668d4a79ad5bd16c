//! The one wasmtime engine and the limits of a call.

use std::sync::OnceLock;

use wasmtime::{Config, Engine, Store, StoreLimits, StoreLimitsBuilder};

use super::faults::LoadError;

/// What a policy may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Fuel of one call.
    pub fuel: u64,
    /// Linear memory, bytes. Also a limit of time: the first touch of a page costs about 2 us.
    pub memory: usize,
    /// Size of the component, bytes.
    pub wasm_bytes: usize,
}

/// Elements of a table.
const TABLE_ELEMENTS: usize = 1000;
/// Core instances, tables and memories of one component: its module and the adapters around it.
const PARTS: usize = 16;
/// What a reply may take of the host, bytes. Without a bound a list of 64 Ki strings that all name the same MiB of the guest
/// is copied 64 Ki times.
const REPLY: usize = 64 * 1024;
/// Stack of a call, bytes; the main thread has 8 MiB, and Lua or the server may be below us.
const STACK: usize = 256 * 1024;

/// What a store carries.
pub struct Held {
    limits: StoreLimits,
}

static ENGINE: OnceLock<Engine> = OnceLock::new();

/// The engine, made at first use.
pub fn engine() -> Result<&'static Engine, LoadError> {
    if let Some(engine) = ENGINE.get() {
        return Ok(engine);
    }
    let engine = Engine::new(&config()).map_err(|error| LoadError::Engine(format!("{error:#}")))?;
    Ok(ENGINE.get_or_init(|| engine))
}

fn config() -> Config {
    let mut config = Config::new();
    config
        // Redis re-installs its own SIGSEGV handlers at CONFIG SET crash-log-enabled; traps must not need one.
        .signals_based_traps(false)
        // A bound that does not depend on the clock or on another thread, and that covers bulk operations.
        .consume_fuel(true)
        .max_wasm_stack(STACK)
        // With copy-on-write off and nothing reserved, memories are malloc'ed: no mmap a call, counted by Redis.
        .memory_init_cow(false)
        .memory_reservation(0)
        .memory_guard_size(0)
        .memory_reservation_for_growth(64 * 1024)
        // The same bits on every machine.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        // Unwind tables are registered under a lock of libgcc that a fork could inherit.
        .native_unwind_info(false)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    config
}

/// A store with its limits, filled for one call.
pub fn store(limits: Limits) -> Result<Store<Held>, LoadError> {
    let held = Held {
        limits: StoreLimitsBuilder::new()
            .memory_size(limits.memory)
            .table_elements(TABLE_ELEMENTS)
            .instances(PARTS)
            .tables(PARTS)
            .memories(1)
            .trap_on_grow_failure(true)
            .build(),
    };
    let mut store = Store::new(engine()?, held);
    store.limiter(|held| &mut held.limits);
    store.set_hostcall_fuel(REPLY);
    store.set_fuel(limits.fuel).map_err(|error| LoadError::Engine(format!("{error:#}")))?;
    Ok(store)
}

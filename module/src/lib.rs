//! redis-bull: a Redis module that keeps BullMQ queues within bounds. See ARCHITECTURE.md for the map.

pub mod commands;
pub mod config;
pub mod entry;
pub mod error;
pub mod keeper;
pub mod load;
pub mod metrics;
pub mod policy;
pub mod queue;
pub mod redis;
pub mod text;

/// What the server calls first. Unit tests run without a server, on the system's allocator.
#[cfg(not(test))]
#[allow(clippy::disallowed_methods, reason = "the macro logs fixed texts of its own")]
mod declaration {
    use crate::load::{load, unload};
    use crate::redis::alloc::ModuleAlloc;

    redis_module::redis_module! {
        name: "bull",
        version: 100,
        allocator: (ModuleAlloc, ModuleAlloc),
        data_types: [],
        init: load,
        deinit: unload,
        commands: [],
    }
}

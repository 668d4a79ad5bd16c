//! redis-bull: a Redis module that keeps BullMQ queues within bounds. See ARCHITECTURE.md for the map.

#[cfg(feature = "server")]
pub mod commands;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod entry;
#[cfg(feature = "server")]
pub mod error;
#[cfg(feature = "server")]
pub mod keeper;
#[cfg(feature = "server")]
pub mod load;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "policy-files")]
pub mod policy;
pub mod queue;
#[cfg(feature = "server")]
pub mod redis;
pub mod text;

/// What the server calls first. Unit tests run without a server, on the system's allocator.
#[cfg(all(feature = "server", not(test)))]
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

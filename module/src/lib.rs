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

#[cfg(not(test))]
use {load::load, load::unload, redis::alloc::ModuleAlloc};

// Tests run without a server, on the system's allocator.
#[cfg(not(test))]
redis_module::redis_module! {
    name: "bull",
    version: 100,
    allocator: (ModuleAlloc, ModuleAlloc),
    data_types: [],
    init: load,
    deinit: unload,
    commands: [],
}

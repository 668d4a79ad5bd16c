//! Names for the C types that cross the border, so that no other file names the raw bindings.

pub use redis_module::raw::{
    RedisModuleCtx as RawContext, RedisModuleInfoCtx as RawInfo, RedisModuleString as RawString,
};

/// What the crate's macro hands to the function that loads the module.
pub use redis_module::{Context as LoadContext, RedisString as LoadArgument, Status};

/// What a C callback answers.
pub use std::ffi::{c_char, c_int, c_void};

pub const OK: c_int = 0;
pub const ERR: c_int = 1;

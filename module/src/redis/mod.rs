//! The border to Redis: the only folder that names `redis_module` or its raw functions, and the only one with `unsafe`.
//!
//! What leaves this folder is safe to call from the main thread. It knows no BullMQ rule and no policy.

pub mod abi;
pub mod alloc;
pub mod block;
pub mod call;
pub mod command;
pub mod config;
pub mod context;
mod effects;
pub mod events;
#[cfg(feature = "fault-injection")]
pub mod fault;
pub mod filter;
pub mod info;
mod key;
pub mod log;
pub mod names;
pub mod queue_store;
pub mod reply;
pub mod script;
pub mod store;
pub mod stream;
pub mod string;
pub mod timer;
pub mod walk;

pub use context::Context;

/// A function of the server's module API, which the macro of the crate has looked up before anything runs.
macro_rules! api {
    ($name:ident) => {
        redis_module::raw::$name.expect(concat!(stringify!($name), " exists since Redis 7.0"))
    };
}
pub(crate) use api;

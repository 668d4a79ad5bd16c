//! Policies: WebAssembly components that decide whether a job enters.
//!
//! *engine* (one, its settings) → *compiled* policy (checked code) → *instance* (running, warm) → *member* of the
//! *registry*, which walks over them. *files* keeps them over a restart. Knows neither Redis nor keys: facts come in,
//! verdicts go out.

#[cfg(feature = "server")]
pub mod audit;
#[cfg(feature = "server")]
pub mod compiled;
#[cfg(feature = "server")]
pub mod deeds;
#[cfg(feature = "server")]
pub mod engine;
pub mod faults;
pub mod files;
#[cfg(feature = "server")]
pub mod instance;
#[cfg(feature = "server")]
pub mod member;
#[cfg(feature = "server")]
pub mod registry;
#[cfg(all(test, feature = "server"))]
mod released;
pub mod screen;
pub mod settings;
pub mod steps;
#[cfg(feature = "server")]
pub mod terms;
#[cfg(feature = "server")]
pub mod times;

/// The world of wit/1.0.0.
#[cfg(feature = "server")]
pub mod bindings {
    #![allow(clippy::all, reason = "generated from wit/1.0.0")]
    wasmtime::component::bindgen!({ path: "../wit/1.0.0", world: "guard" });
}

#[cfg(feature = "server")]
pub use bindings::bull::policy::types::{Action, Job, Limits, Node, Queue, Source, Terms, Trim, TrimEvents, Verdict};

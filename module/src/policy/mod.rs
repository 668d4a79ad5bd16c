//! Policies: WebAssembly components that decide whether a job enters.
//!
//! *engine* (one, its settings) → *compiled* policy (checked code) → *instance* (running, warm) → *member* of the
//! *registry*, which walks over them. *files* keeps them over a restart. Knows neither Redis nor keys: facts come in,
//! verdicts go out.

pub mod audit;
pub mod compiled;
pub mod deeds;
pub mod engine;
pub mod faults;
pub mod files;
pub mod instance;
pub mod member;
pub mod registry;
pub mod screen;
pub mod settings;
pub mod steps;
pub mod terms;
pub mod times;

/// The world of wit/1.0.0.
pub mod bindings {
    #![allow(clippy::all, reason = "generated from wit/1.0.0")]
    wasmtime::component::bindgen!({ path: "../wit/1.0.0", world: "guard" });
}

pub use bindings::bull::policy::types::{Action, Job, Limits, Node, Queue, Source, Terms, Trim, TrimEvents, Verdict};

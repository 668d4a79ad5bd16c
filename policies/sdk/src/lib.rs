//! What a redis-bull policy is written with.
//!
//! A policy is a WebAssembly component that the module asks before a job enters a queue. This crate holds the Rust
//! side of its world, `guard` in `wit/`: the records ([`Job`], [`Queue`], [`Node`]), the answers ([`Verdict`],
//! [`Action`]), the trait to implement ([`Policy`]) and the macro that exports it ([`export_policy!`]). [`config`]
//! reads a JSON configuration with errors that name the key; [`pattern`] matches names of queues; `test_kit` makes
//! records for unit tests.
//!
//! ```
//! use bull_policy_sdk::{Description, Job, Node, Policy, Queue, Verdict, export_policy};
//!
//! struct Small;
//!
//! impl Policy for Small {
//!     fn describe() -> Description {
//!         Description {
//!             name: "small".into(),
//!             version: "1.0.0".into(),
//!             summary: "Refuses jobs over 1000 bytes.".into(),
//!             config_schema: "{}".into(),
//!         }
//!     }
//!
//!     fn configure(_config: &str) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn admit(&mut self, _node: &Node, _queue: &Queue, job: &Job) -> Verdict {
//!         if job.bytes > 1000 { Verdict::Reject(format!("{} bytes of at most 1000", job.bytes)) } else { Verdict::Admit }
//!     }
//! }
//!
//! export_policy!(Small);
//! # fn main() {}
//! ```
//!
//! What this crate never does: it imports nothing from the host. There is no clock, randomness, file, network or
//! environment behind it, and a policy that pulls one in does not become a component. Time comes from
//! [`Node::now_ms`]. It also keeps no job and no queue between calls; what a policy wants to remember it holds in
//! itself, within the server's memory limit for policies.

pub mod bindings;
pub mod config;
pub mod pattern;
mod policy;
#[cfg(feature = "test-kit")]
pub mod test_kit;

pub use bindings::bull::policy::types::{Limits, Notice, Source, Terms, Trim, TrimEvents};
pub use bindings::{Action, Description, Job, Node, Queue, Verdict};
pub use policy::{Policy, Slot};

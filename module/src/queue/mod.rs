//! The rules of BullMQ's data, as pure code over a [`store::Store`].
//!
//! Knows keys, fields, scores, events and the order of writes as BullMQ's scripts make them. Never names Redis'
//! module API or a policy: the store is a trait, so every rule runs on the host in a unit test.

pub mod add;
pub mod audit;
pub mod check;
mod cjson;
pub mod data;
pub mod dedup;
pub mod displace;
pub mod due;
pub mod emergency;
pub mod error;
pub mod fields;
pub mod job;
pub mod keys;
pub mod logs;
pub mod number;
pub mod opts;
pub mod parent;
pub mod pause;
pub mod profile;
pub mod remove;
pub mod script;
pub mod size;
pub mod stats;
pub mod store;
pub mod trim;
pub mod units;
pub mod walk;

#[cfg(any(test, feature = "fake-store"))]
pub mod fake;

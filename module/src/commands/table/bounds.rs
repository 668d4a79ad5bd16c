//! Commands that keep queues within bounds.

use super::super::trim;
use super::{QUEUE, option};
use crate::redis::command::{ArgKind, Definition, KeyUse};

pub(super) static COMMANDS: &[Definition] = &[Definition {
    name: "BULL.TRIM",
    run: Some(trim::run),
    flags: "write",
    categories: "write slow",
    arity: -2,
    key: KeyUse::Delete,
    summary: "Removes finished jobs older than an age, whole and in time slices.",
    complexity: "O(N) with the jobs removed, never longer than a slice at a time",
    since: "0.1.0",
    args: &[
        QUEUE,
        option("completed", "COMPLETED", ArgKind::String, "Age from which completed jobs go, such as 7d; 0 for all."),
        option("failed", "FAILED", ArgKind::String, "Age from which failed jobs go."),
        option("limit", "LIMIT", ArgKind::Integer, "Removals at most."),
    ],
}];

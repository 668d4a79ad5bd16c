//! The table of commands, a file a family. Registration, COMMAND DOCS, the README's table and the tests all read it.

mod bounds;
mod guard;
mod jobs;
mod policies;
mod reading;

use crate::redis::command::{Arg, ArgKind, Definition};

pub(super) const fn arg(name: &'static str, kind: ArgKind, summary: &'static str) -> Arg {
    Arg { name, kind, token: None, optional: false, multiple: false, summary }
}

pub(super) const fn option(name: &'static str, token: &'static str, kind: ArgKind, summary: &'static str) -> Arg {
    Arg { name, kind, token: Some(token), optional: true, multiple: false, summary }
}

pub(super) const QUEUE: Arg = arg("queue", ArgKind::Key, "Qualified name <prefix>:<name>, without a colon behind it.");

/// All commands; a container comes before its subcommands.
pub fn commands() -> impl Iterator<Item = &'static Definition> {
    [jobs::COMMANDS, guard::COMMANDS, reading::COMMANDS, bounds::COMMANDS, policies::COMMANDS, FAULTS]
        .into_iter()
        .flatten()
}

#[cfg(not(feature = "fault-injection"))]
static FAULTS: &[Definition] = &[];

#[cfg(feature = "fault-injection")]
static FAULTS: &[Definition] = &[
    Definition {
        name: "BULL.PANIC",
        run: Some(super::fault::run),
        flags: "",
        categories: "slow",
        arity: -1,
        key: crate::redis::command::KeyUse::None,
        summary: "Panics. Test builds only.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[],
    },
    Definition {
        name: "BULL.STEP",
        run: Some(super::fault::at_step),
        flags: "admin",
        categories: "admin dangerous slow",
        arity: -2,
        key: crate::redis::command::KeyUse::None,
        summary: "Ends the process at a step of a change of policies, or waits there. Test builds only.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[
            arg("step", ArgKind::String, "Name of the step."),
            Arg { optional: true, ..arg("milliseconds", ArgKind::Integer, "Time to wait.") },
        ],
    },
];

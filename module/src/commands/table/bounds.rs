//! Commands that keep queues within bounds.

use super::super::{profile, trim};
use super::{QUEUE, arg, option};
use crate::redis::command::{Arg, ArgKind, Definition, KeyUse};

pub(super) static COMMANDS: &[Definition] = &[
    Definition {
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
            option(
                "completed",
                "COMPLETED",
                ArgKind::String,
                "Age from which completed jobs go, such as 7d; 0 for all.",
            ),
            option("failed", "FAILED", ArgKind::String, "Age from which failed jobs go."),
            option("limit", "LIMIT", ArgKind::Integer, "Removals at most."),
        ],
    },
    Definition {
        name: "BULL.PROFILE",
        run: None,
        flags: "",
        categories: "",
        arity: -2,
        key: KeyUse::None,
        summary: "A container for the commands of queues' limits.",
        complexity: "Depends on subcommand.",
        since: "0.1.0",
        args: &[],
    },
    Definition {
        name: "BULL.PROFILE|GET",
        run: Some(profile::get),
        flags: "readonly fast",
        categories: "read fast",
        arity: 3,
        key: KeyUse::Read,
        summary: "The limits in force for a queue: its profile over the node's defaults.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[QUEUE],
    },
    Definition {
        name: "BULL.PROFILE|SET",
        run: Some(profile::set),
        flags: "write deny-oom fast",
        categories: "write fast",
        arity: -5,
        key: KeyUse::Insert,
        summary: "Sets limits of a queue; the value none lifts a default.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[
            QUEUE,
            Arg {
                name: "limit",
                kind: ArgKind::Block(&[
                    arg("field", ArgKind::String, "Name of the limit, such as max-jobs."),
                    arg("value", ArgKind::String, "A number, a size, a duration or none."),
                ]),
                token: None,
                optional: false,
                multiple: true,
                summary: "A limit and its value.",
            },
        ],
    },
    Definition {
        name: "BULL.PROFILE|DEL",
        run: Some(profile::del),
        flags: "write fast",
        categories: "write fast",
        arity: -3,
        key: KeyUse::Delete,
        summary: "Gives fields of a queue's profile, or all of it, back to the defaults.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[
            QUEUE,
            Arg {
                name: "field",
                kind: ArgKind::String,
                token: None,
                optional: true,
                multiple: true,
                summary: "Name of a limit.",
            },
        ],
    },
];

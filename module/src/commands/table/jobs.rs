//! Commands that add jobs.

use super::super::{add, madd};
use super::{QUEUE, arg, option};
use crate::redis::command::{Arg, ArgKind, Definition, KeyUse};

pub(super) static COMMANDS: &[Definition] = &[
    Definition {
        name: "BULL.ADD",
        run: Some(add::run),
        flags: "write deny-oom fast",
        categories: "write fast",
        arity: -4,
        key: KeyUse::Insert,
        summary: "Adds a job to a BullMQ queue, as BullMQ's own add does.",
        complexity: "O(log(N)) with the jobs in the set it enters, O(1) for a standard job",
        since: "0.1.0",
        args: &[
            QUEUE,
            arg("job-name", ArgKind::String, "Name of the job."),
            arg("data", ArgKind::String, "One JSON text, stored byte for byte."),
            option("id", "ID", ArgKind::String, "A custom id."),
            option("delay", "DELAY", ArgKind::String, "Milliseconds, or a time such as 90s or 7d."),
            option("priority", "PRIORITY", ArgKind::Integer, "0 to 2097151; lower runs first, 0 before all."),
            Arg {
                name: "lifo",
                kind: ArgKind::Token,
                token: Some("LIFO"),
                optional: true,
                multiple: false,
                summary: "Runs before the jobs that wait.",
            },
            option("timestamp", "TIMESTAMP", ArgKind::Integer, "Unix time of the job, milliseconds."),
            option("opts", "OPTS", ArgKind::String, "BullMQ's JobsOptions as JSON."),
        ],
    },
    Definition {
        name: "BULL.MADD",
        run: Some(madd::run),
        flags: "write deny-oom fast",
        categories: "write fast",
        arity: -5,
        key: KeyUse::Insert,
        summary: "Adds many jobs to a BullMQ queue; each has its id or its own error in the reply.",
        complexity: "O(N) with the jobs, 1000 at most",
        since: "0.1.0",
        args: &[
            QUEUE,
            Arg {
                name: "job",
                kind: ArgKind::Block(&[
                    arg("job-name", ArgKind::String, "Name of the job."),
                    arg("data", ArgKind::String, "One JSON text, stored byte for byte."),
                    arg("opts", ArgKind::String, "BullMQ's JobsOptions as JSON, or - for none."),
                ]),
                token: None,
                optional: false,
                multiple: true,
                summary: "A job.",
            },
        ],
    },
];

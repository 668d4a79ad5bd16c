//! Commands that only read, and the check, which mends where asked.

use super::super::{check, metrics, queues, slot, stats};
use super::{QUEUE, option};
use crate::redis::command::{Arg, ArgKind, Definition, KeyUse};

pub(super) static COMMANDS: &[Definition] = &[
    Definition {
        name: "BULL.STATS",
        run: Some(stats::run),
        flags: "readonly fast",
        categories: "read fast",
        arity: -1,
        key: KeyUse::ReadOptional,
        summary: "Counts of a queue, or of this node and each of its queues.",
        complexity: "O(1) for a queue, O(N) with the queues of the node",
        since: "0.1.0",
        args: &[Arg {
            name: "queue",
            kind: ArgKind::Key,
            token: None,
            optional: true,
            multiple: false,
            summary: "Qualified name; without it, the node.",
        }],
    },
    Definition {
        name: "BULL.QUEUES",
        run: Some(queues::run),
        flags: "readonly",
        categories: "read slow",
        arity: -1,
        key: KeyUse::None,
        summary: "Names of the queues on this node that the caller may read, sorted.",
        complexity: "O(N) with the queues of the node",
        since: "0.1.0",
        args: &[
            option("pattern", "MATCH", ArgKind::Pattern, "* for any text, ? for one character."),
            option("count", "COUNT", ArgKind::Integer, "Names at most, 1000 unless said."),
        ],
    },
    Definition {
        name: "BULL.SLOT",
        run: Some(slot::run),
        flags: "readonly fast",
        categories: "read fast",
        arity: 2,
        key: KeyUse::Read,
        summary: "Hash tag and slot of a queue, and the node that serves it in a cluster.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[QUEUE],
    },
    Definition {
        name: "BULL.CHECK",
        run: Some(check::run),
        flags: "write",
        categories: "write slow",
        arity: -2,
        key: KeyUse::Delete,
        summary: "Finds what is broken in a queue's keys while it is used, and mends what can be mended safely.",
        complexity: "O(N) with the jobs of the queue and the keys of the node, in slices between which other clients are served",
        since: "0.1.0",
        args: &[
            QUEUE,
            Arg {
                name: "repair",
                kind: ArgKind::Token,
                token: Some("REPAIR"),
                optional: true,
                multiple: false,
                summary: "Mend what is found.",
            },
            option("limit", "LIMIT", ArgKind::Integer, "Findings after which it stops."),
        ],
    },
    Definition {
        name: "BULL.METRICS",
        run: Some(metrics::run),
        flags: "readonly",
        categories: "read slow",
        arity: 1,
        key: KeyUse::None,
        summary: "The metrics of this node in Prometheus' text format, as /metrics serves them; at most a few seconds old.",
        complexity: "O(N) with the queues shown, on a thread of its own",
        since: "0.1.0",
        args: &[],
    },
];

//! The table of commands. Registration, COMMAND DOCS, the README's table and the tests all read it.

use super::{add, policy, queues, slot, stats, trim};
use crate::redis::command::{Arg, ArgKind, Definition, KeyUse};

const fn arg(name: &'static str, kind: ArgKind, summary: &'static str) -> Arg {
    Arg { name, kind, token: None, optional: false, multiple: false, summary }
}

const fn option(name: &'static str, token: &'static str, kind: ArgKind, summary: &'static str) -> Arg {
    Arg { name, kind, token: Some(token), optional: true, multiple: false, summary }
}

const QUEUE: Arg = arg("queue", ArgKind::Key, "Qualified name <prefix>:<name>, without a colon behind it.");
const POLICY: Arg = arg("name", ArgKind::String, "Name of the policy.");

const MODES: ArgKind = ArgKind::OneOf(&[
    Arg { name: "enforce", kind: ArgKind::Token, token: Some("ENFORCE"), optional: false, multiple: false, summary: "Verdicts bind." },
    Arg { name: "observe", kind: ArgKind::Token, token: Some("OBSERVE"), optional: false, multiple: false, summary: "Verdicts are counted only." },
]);

const ON_ERROR: ArgKind = ArgKind::OneOf(&[
    Arg { name: "admit", kind: ArgKind::Token, token: Some("ADMIT"), optional: false, multiple: false, summary: "The job enters." },
    Arg { name: "reject", kind: ArgKind::Token, token: Some("REJECT"), optional: false, multiple: false, summary: "The job is refused." },
]);

pub static COMMANDS: &[Definition] = &[
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
            Arg { name: "lifo", kind: ArgKind::Token, token: Some("LIFO"), optional: true, multiple: false, summary: "Runs before the jobs that wait." },
            option("timestamp", "TIMESTAMP", ArgKind::Integer, "Unix time of the job, milliseconds."),
            option("opts", "OPTS", ArgKind::String, "BullMQ's JobsOptions as JSON."),
        ],
    },
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
        args: &[Arg { name: "queue", kind: ArgKind::Key, token: None, optional: true, multiple: false, summary: "Qualified name; without it, the node." }],
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
    },
    Definition {
        name: "BULL.POLICY",
        run: None,
        flags: "",
        categories: "",
        arity: -2,
        key: KeyUse::None,
        summary: "A container for the commands of policies.",
        complexity: "Depends on subcommand.",
        since: "0.1.0",
        args: &[],
    },
    Definition {
        name: "BULL.POLICY|LOAD",
        run: Some(policy::load),
        flags: "admin deny-oom deny-script no-monitor",
        categories: "admin dangerous slow",
        arity: -4,
        key: KeyUse::None,
        summary: "Loads a policy, or replaces the one of that name without a gap.",
        complexity: "O(N) with the size of the component, in the background",
        since: "0.1.0",
        args: &[
            POLICY,
            option("config", "CONFIG", ArgKind::String, "A JSON object for the policy."),
            option("mode", "MODE", MODES, ""),
            option("queues", "QUEUES", ArgKind::Pattern, "Qualified names it covers; * and ?."),
            option("order", "ORDER", ArgKind::Integer, "Lower is asked first, 100 unless said."),
            option("onerror", "ONERROR", ON_ERROR, "The verdict where the policy fails; admit unless said."),
            arg("wasm", ArgKind::String, "The component's bytes."),
        ],
    },
    Definition {
        name: "BULL.POLICY|LIST",
        run: Some(policy::list),
        flags: "admin",
        categories: "admin dangerous slow",
        arity: 2,
        key: KeyUse::None,
        summary: "The policies in the order in which they are asked.",
        complexity: "O(N) with the policies",
        since: "0.1.0",
        args: &[],
    },
    Definition {
        name: "BULL.POLICY|INFO",
        run: Some(policy::info),
        flags: "admin",
        categories: "admin dangerous slow",
        arity: 3,
        key: KeyUse::None,
        summary: "A policy's settings, counters and run time.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[POLICY],
    },
    Definition {
        name: "BULL.POLICY|REMOVE",
        run: Some(policy::remove),
        flags: "admin",
        categories: "admin dangerous slow",
        arity: 3,
        key: KeyUse::None,
        summary: "Takes a policy out of force.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[POLICY],
    },
    Definition {
        name: "BULL.POLICY|CONFIG",
        run: Some(policy::config),
        flags: "admin deny-script",
        categories: "admin dangerous slow",
        arity: 4,
        key: KeyUse::None,
        summary: "Gives a policy another configuration, in place.",
        complexity: "O(N) with the configuration, in the background",
        since: "0.1.0",
        args: &[POLICY, arg("config", ArgKind::String, "A JSON object.")],
    },
    Definition {
        name: "BULL.POLICY|MODE",
        run: Some(policy::set_mode),
        flags: "admin",
        categories: "admin dangerous slow",
        arity: 4,
        key: KeyUse::None,
        summary: "Lets a policy's verdicts bind, or only be counted; lifts a suspension.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[POLICY, arg("mode", MODES, "")],
    },
    #[cfg(feature = "fault-injection")]
    Definition {
        name: "BULL.PANIC",
        run: Some(super::fault::run),
        flags: "",
        categories: "slow",
        arity: -1,
        key: KeyUse::None,
        summary: "Panics. Test builds only.",
        complexity: "O(1)",
        since: "0.1.0",
        args: &[],
    },
];

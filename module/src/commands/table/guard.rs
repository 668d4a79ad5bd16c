//! Commands that the command filter makes of the add scripts of unmodified clients.

use super::super::eval;
use super::arg;
use crate::redis::command::{Arg, ArgKind, Definition, KeyUse};

/// As EVAL and EVALSHA: whether a script may write, and how much memory there must be, is decided by what it calls.
const FLAGS: &str = "deny-script may-replicate no-mandatory-keys allow-stale getkeys-api";

const COUNT: Arg = arg("numkeys", ArgKind::Integer, "How many keys follow.");
const KEYS: Arg = Arg {
    name: "key",
    kind: ArgKind::Key,
    token: None,
    optional: true,
    multiple: true,
    summary: "KEYS of the script, all of one queue.",
};
const ARGUMENTS: Arg = Arg {
    name: "arg",
    kind: ArgKind::String,
    token: None,
    optional: true,
    multiple: true,
    summary: "ARGV of the script.",
};

pub(super) static COMMANDS: &[Definition] = &[
    Definition {
        name: "BULL.EVAL",
        run: Some(eval::eval),
        flags: FLAGS,
        categories: "slow scripting",
        arity: -3,
        key: KeyUse::Numbered,
        summary: "What EVAL of a BullMQ add script becomes while bull.guard is on: asks the policies, then runs it.",
        complexity: "That of the script.",
        since: "0.1.0",
        args: &[arg("script", ArgKind::String, "The script's text."), COUNT, KEYS, ARGUMENTS],
    },
    Definition {
        name: "BULL.EVALSHA",
        run: Some(eval::evalsha),
        flags: FLAGS,
        categories: "slow scripting",
        arity: -3,
        key: KeyUse::Numbered,
        summary: "What EVALSHA of a BullMQ add script becomes while bull.guard is on: asks the policies, then runs it.",
        complexity: "That of the script.",
        since: "0.1.0",
        args: &[arg("sha1", ArgKind::String, "The script's digest."), COUNT, KEYS, ARGUMENTS],
    },
];

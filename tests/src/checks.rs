//! What several tests ask of the module's replies.

use std::collections::BTreeSet;

use crate::client::{Client, Reply};
use crate::printable;

/// Codes that an error reply may start with: the module's own, and Redis's.
const CODES: [&str; 17] = [
    "ERR",
    "WRONGTYPE",
    "NOQUEUE",
    "BULLREJECT",
    "BULLMISSINGPARENT",
    "BULLPARENT",
    "BULLPOLICY",
    "OOM",
    "MOVED",
    "CROSSSLOT",
    "READONLY",
    "NOPERM",
    "MISCONF",
    "NOREPLICAS",
    "EXECABORT",
    "NOSCRIPT",
    "BUSY",
];
/// No error needs more bytes, whatever the argument was that it names.
const LONGEST_ERROR: usize = 1000;

/// The module's commands on this server, in lower case.
pub fn commands(client: &mut Client) -> BTreeSet<String> {
    let reply = client.ok(&["COMMAND", "LIST", "FILTERBY", "PATTERN", "bull.*"]);
    let names: BTreeSet<String> = reply.items().iter().map(|name| name.text().to_lowercase()).collect();
    assert!(names.contains("bull.add"), "this server has no BULL.ADD, only {names:?}");
    names
}

/// What is wrong with an error reply, if anything: it must be one short line of printable ASCII
/// with a known code and a text.
pub fn error_fault(line: &[u8]) -> Option<String> {
    let shown = printable(line);
    if !line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        return Some(format!("not printable ASCII: {shown}"));
    }
    if line.len() > LONGEST_ERROR {
        return Some(format!("{} bytes long: {shown}", line.len()));
    }
    let text = String::from_utf8_lossy(line);
    let (code, rest) = text.split_once(' ').unwrap_or((&text, ""));
    if !CODES.contains(&code) {
        return Some(format!("unknown code: {shown}"));
    }
    rest.trim().is_empty().then(|| format!("no text: {shown}"))
}

/// The faults of all errors within a reply.
pub fn faults(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Error(line) => error_fault(line).into_iter().collect(),
        Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items.iter().flat_map(faults).collect(),
        Reply::Map(pairs) => pairs.iter().flat_map(|(key, value)| [faults(key), faults(value)].concat()).collect(),
        _ => vec![],
    }
}

/// Adds a job with the words given and returns its id.
pub fn add(client: &mut Client, queue: &str, data: &str, words: &[&str]) -> String {
    let command = [&["BULL.ADD", queue, "job", data], words].concat();
    client.ok(&command).text()
}

/// Moves a waiting job to `completed` or `failed` as a worker would leave it, at this moment.
pub fn finish(client: &mut Client, queue: &str, id: &str, state: &str, at_ms: u64) {
    let at = at_ms.to_string();
    let key = |suffix: &str| format!("{queue}:{suffix}");
    assert_eq!(client.ok(&["LREM", &key("wait"), "1", id]).int(), 1, "job {id} waits");
    let outcome = if state == "completed" { ["returnvalue", "null"] } else { ["failedReason", "no"] };
    client.ok(&["HSET", &key(id), "finishedOn", &at, "processedOn", &at, "atm", "1", outcome[0], outcome[1]]);
    client.ok(&["RPUSH", &key(&format!("{id}:logs")), "a row"]);
    client.ok(&["ZADD", &key(state), &at, id]);
}

/// The server's clock in milliseconds.
pub fn now_ms(client: &mut Client) -> u64 {
    let reply = client.ok(&["TIME"]);
    let part = |at: usize| u64::try_from(reply.items()[at].int()).expect("a time after 1970");
    part(0) * 1000 + part(1) / 1000
}

/// What a LOAD answers that was not done in time. Compiling gives way to all other programs of the machine.
const TOO_LATE: &str = "BULLPOLICY not done within 10 s; nothing was changed";

/// BULL.POLICY LOAD, again where other programs kept it from being done in time.
pub fn try_load(client: &mut Client, name: &str, words: &[&str], wasm: &[u8]) -> Reply {
    for _ in 0..5 {
        let reply = load_once(client, name, words, wasm);
        if reply.error().as_deref() != Some(TOO_LATE) {
            return reply;
        }
    }
    load_once(client, name, words, wasm)
}

/// BULL.POLICY LOAD.
pub fn load_once(client: &mut Client, name: &str, words: &[&str], wasm: &[u8]) -> Reply {
    let mut command: Vec<&[u8]> = vec![b"BULL.POLICY", b"LOAD", name.as_bytes()];
    command.extend(words.iter().map(|word| word.as_bytes()));
    command.push(wasm);
    client.cmd(&command)
}

/// BULL.POLICY LOAD of a policy that must be taken.
#[track_caller]
pub fn load(client: &mut Client, name: &str, words: &[&str], wasm: &[u8]) -> Reply {
    let reply = try_load(client, name, words, wasm);
    assert!(reply.error().is_none(), "BULL.POLICY LOAD {name}: {reply:?}");
    reply
}

/// The queue that [`seed`] fills.
pub const SEEDED: &str = "bull:q";

/// Empties the server and makes one queue with a job in every state, so that there is something to spoil.
pub fn seed(client: &mut Client) {
    client.ok(&["FLUSHALL"]);
    let parent = r#"{"parent":{"id":"custom","queue":"bull:q"}}"#;
    let wordings: [&[&str]; 7] = [
        &[],
        &[],
        &[],
        &["DELAY", "1h"],
        &["PRIORITY", "3"],
        &["ID", "custom"],
        &["OPTS", r#"{"deduplication":{"id":"d"}}"#],
    ];
    let ids: Vec<String> = wordings.iter().map(|words| add(client, SEEDED, "{}", words)).collect();
    add(client, SEEDED, "{}", &["OPTS", parent]);
    let now = now_ms(client);
    finish(client, SEEDED, &ids[0], "completed", now - 1000);
    finish(client, SEEDED, &ids[1], "failed", now - 1000);
}

/// Whether this server has the command that the words begin with.
pub fn known<W: AsRef<[u8]>>(commands: &BTreeSet<String>, call: &[W]) -> bool {
    let word =
        |at: usize| call.get(at).map(|word| String::from_utf8_lossy(word.as_ref()).to_lowercase()).unwrap_or_default();
    let container = commands.iter().any(|name| name.starts_with(&format!("{}|", word(0))));
    commands.contains(&format!("{}|{}", word(0), word(1))) || (commands.contains(&word(0)) && !container)
}

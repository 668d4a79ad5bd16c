//! Keys of a queue that have another type than BullMQ gives them: an add sees it before it writes,
//! and every other command lives with it.

use bull_tests::checks::{SEEDED, commands, error_fault, faults, known, seed};
use bull_tests::{Client, Dump, Reply, Server};

const QUEUE: &str = SEEDED;

/// Kinds of adds, with the keys that each of them writes or decides by.
const TOUCHED: [(&[&str], &[&str]); 7] = [
    (&[], &["meta", "id", "wait", "marker", "events"]),
    (&["LIFO"], &["meta", "id", "wait", "marker", "events"]),
    (&["DELAY", "50"], &["meta", "id", "delayed", "marker", "events"]),
    (&["PRIORITY", "2"], &["meta", "id", "prioritized", "pc", "marker", "events"]),
    (&["ID", "mine"], &["meta", "id", "wait", "marker", "events", "mine"]),
    (&["OPTS", r#"{"deduplication":{"id":"d"}}"#], &["meta", "id", "wait", "de:d"]),
    (&["OPTS", r#"{"parent":{"id":"p","queue":"bull:q"}}"#], &["meta", "id", "wait", "p:dependencies"]),
];

/// All keys of a queue that a command may look at.
const KEYS: [&str; 18] = [
    "wait",
    "paused",
    "active",
    "prioritized",
    "delayed",
    "waiting-children",
    "completed",
    "failed",
    "meta",
    "id",
    "pc",
    "marker",
    "events",
    "stalled",
    "repeat",
    "mine",
    "de:d",
    "p:dependencies",
];

/// Gives a key a type that BullMQ never gives it.
fn spoil(client: &mut Client, suffix: &str) {
    let key = format!("{QUEUE}:{suffix}");
    client.ok(&["DEL", &key]);
    if ["id", "pc", "de:d", "mine", "meta"].contains(&suffix) {
        client.ok(&["RPUSH", &key, "spoilt"]);
    } else {
        client.ok(&["SET", &key, "spoilt"]);
    }
}

#[test]
fn an_add_looks_at_the_types_of_its_keys_first() {
    let mut server = Server::start();
    let mut client = server.client();
    for (words, touched) in TOUCHED {
        for suffix in KEYS {
            client.ok(&["FLUSHALL"]);
            client.ok(&["HSET", "bull:q:p", "name", "parent"]);
            spoil(&mut client, suffix);
            let before = Dump::take(&mut client);
            let reply = client.cmd(&[&["BULL.ADD", QUEUE, "name", "{}"], words].concat());
            let diff = before.diff(&Dump::take(&mut client), ["before", "after"]);
            if touched.contains(&suffix) {
                assert_eq!(reply.code().as_deref(), Some("WRONGTYPE"), "{words:?} with {suffix} spoilt: {reply:?}");
            }
            if let Reply::Error(line) = &reply {
                assert_eq!(error_fault(line), None, "{words:?} with {suffix} spoilt");
                assert!(diff.is_empty(), "{words:?} with {suffix} spoilt failed and wrote:\n{diff}");
            }
        }
    }
    server.assert_alive();
}

#[test]
fn counters_that_are_no_numbers_refuse_an_add() {
    let mut server = Server::start();
    let mut client = server.client();
    for (key, words) in [("id", &[][..]), ("pc", &["PRIORITY", "1"])] {
        for value in ["", "x", "1.5", "9223372036854775807"] {
            client.ok(&["FLUSHALL"]);
            client.ok(&["SET", &format!("{QUEUE}:{key}"), value]);
            let before = Dump::take(&mut client);
            let reply = client.cmd(&[&["BULL.ADD", QUEUE, "name", "{}"], words].concat());
            let Reply::Error(line) = &reply else { panic!("{key} = {value:?}: {reply:?}") };
            assert_eq!(error_fault(line), None);
            let diff = before.diff(&Dump::take(&mut client), ["before", "after"]);
            assert!(diff.is_empty(), "{key} = {value:?} wrote:\n{diff}");
        }
    }
    server.assert_alive();
}

#[test]
fn other_commands_survive_keys_of_other_types() {
    let mut server = Server::start();
    let mut client = server.client();
    let commands = commands(&mut client);
    let calls: [&[&str]; 7] = [
        &["BULL.TRIM", QUEUE, "COMPLETED", "0", "FAILED", "0"],
        &["BULL.STATS", QUEUE],
        &["BULL.STATS"],
        &["BULL.QUEUES"],
        &["BULL.SLOT", QUEUE],
        &["BULL.CHECK", QUEUE],
        &["BULL.PROFILE", "GET", QUEUE],
    ];
    for call in calls.iter().filter(|call| known(&commands, call)) {
        for suffix in KEYS.iter().chain(&["1", "1:logs", "guard:profile"]) {
            seed(&mut client);
            spoil(&mut client, suffix);
            let before = Dump::take(&mut client);
            let reply = client.cmd(call);
            assert_eq!(faults(&reply), Vec::<String>::new(), "{call:?} with {suffix} spoilt");
            if matches!(reply, Reply::Error(_)) {
                let diff = before.diff(&Dump::take(&mut client), ["before", "after"]);
                assert!(diff.is_empty(), "{call:?} with {suffix} spoilt failed and wrote:\n{diff}");
            }
        }
    }
    server.assert_alive();
}

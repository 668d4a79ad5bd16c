//! Bad calls: each is answered by one sane line of error, nothing is written, the server lives.
//!
//! Two nets: calls that must be refused, and any value at any place of a call that is right
//! otherwise. Commands that this server lacks are left out.

use bull_tests::checks::{SEEDED, commands, error_fault, faults, known, seed};
use bull_tests::{Dump, Reply, Server, printable};

const QUEUE: &str = SEEDED;
const MEGABYTE: usize = 1 << 20;

/// Values that nobody meant: NUL, format directives, text that is not ASCII, text that is not
/// UTF-8, control characters, what looks like RESP, numbers at their limits, and a megabyte.
fn hostile() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = [
        "",
        "\0",
        "a\0b",
        "%s%n%s%n",
        "\u{4e00}",
        "-",
        "-1",
        "0",
        "NaN",
        "1e400",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999d",
        "\r\n-ERR\r\n",
        "\x1b[31m",
        "{}",
        "[[[[",
        "{\"a\":1e999}",
        "OPTS",
        "lifo",
        ":",
        "bull:q:",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    values.push(vec![0xff, 0xfe, 0x80]);
    values.push(b"\"\xc3\x28\"".to_vec());
    values.push(b"[".repeat(100_000));
    values.push(vec![b'x'; MEGABYTE]);
    values.push("\u{4e00}".repeat(MEGABYTE / 3).into_bytes());
    values
}

fn shown(call: &[&[u8]]) -> String {
    call.iter().map(|word| printable(&word[..word.len().min(60)])).collect::<Vec<_>>().join(" ")
}

/// Calls that must be refused, each word separated by one space.
const REFUSED: &str = "\
BULL.ADD bull:q
BULL.ADD bull:q name
BULL.ADD bull:q name notjson
BULL.ADD bull:q name {
BULL.ADD bull:q name {}{}
BULL.ADD bull:q name {'a':1}
BULL.ADD bull:q name undefined
BULL.ADD bull:q name 01
BULL.ADD bull:q name {} NOSUCHWORD
BULL.ADD bull:q name {} NOSUCHWORD 1
BULL.ADD bull:q name {} ID
BULL.ADD bull:q name {} DELAY
BULL.ADD bull:q name {} PRIORITY
BULL.ADD bull:q name {} TIMESTAMP
BULL.ADD bull:q name {} OPTS
BULL.ADD bull:q name {} ID a ID b
BULL.ADD bull:q name {} ID a id a
BULL.ADD bull:q name {} DELAY 1 DELAY 2
BULL.ADD bull:q name {} PRIORITY 1 PRIORITY 1
BULL.ADD bull:q name {} LIFO lifo
BULL.ADD bull:q name {} TIMESTAMP 1 TIMESTAMP 2
BULL.ADD bull:q name {} OPTS {} OPTS {}
BULL.ADD bull:q name {} ID 12
BULL.ADD bull:q name {} ID -5
BULL.ADD bull:q name {} ID 0
BULL.ADD bull:q name {} ID 0:1
BULL.ADD bull:q name {} ID a:b
BULL.ADD bull:q name {} DELAY -1
BULL.ADD bull:q name {} DELAY 1.5
BULL.ADD bull:q name {} DELAY 5w
BULL.ADD bull:q name {} DELAY s
BULL.ADD bull:q name {} DELAY 99999999999999999999
BULL.ADD bull:q name {} DELAY 9223372036854775807d
BULL.ADD bull:q name {} PRIORITY -1
BULL.ADD bull:q name {} PRIORITY 2097152
BULL.ADD bull:q name {} PRIORITY 1.5
BULL.ADD bull:q name {} PRIORITY x
BULL.ADD bull:q name {} TIMESTAMP -1
BULL.ADD bull:q name {} TIMESTAMP now
BULL.ADD bull:q name {} OPTS {
BULL.ADD bull:q name {} OPTS []
BULL.ADD bull:q name {} OPTS 5
BULL.ADD bull:q name {} OPTS \"x\"
BULL.ADD bull:q name {} OPTS {\"priority\":2097152}
BULL.ADD bull:q name {} OPTS {\"priority\":1.5}
BULL.ADD bull:q name {} OPTS {\"jobId\":\"12\"}
BULL.ADD bull:q name {} OPTS {\"sizeLimit\":1}
BULL.ADD bull:q name {} OPTS {\"deduplication\":{}}
BULL.ADD bull:q name {} OPTS {\"parent\":{\"id\":\"gone\",\"queue\":\"bull:q\"}}
BULL.ADD bull:q name {} OPTS {\"failParentOnFailure\":true,\"removeDependencyOnFailure\":true}
BULL.MADD bull:q
BULL.MADD bull:q name {}
BULL.MADD bull:q name {} - name
BULL.MADD bull:q name {} - name {}
BULL.QUEUES MATCH
BULL.QUEUES COUNT
BULL.QUEUES COUNT -1
BULL.QUEUES COUNT x
BULL.QUEUES MATCH a MATCH b
BULL.QUEUES NOSUCHWORD
BULL.STATS bull:nosuch
BULL.STATS bull:q extra
BULL.SLOT
BULL.SLOT bull:q extra
BULL.CHECK
BULL.CHECK bull:nosuch
BULL.CHECK bull:q LIMIT
BULL.CHECK bull:q LIMIT -1
BULL.CHECK bull:q REPAIR REPAIR
BULL.CHECK bull:q NOSUCHWORD
BULL.METRICS extra
BULL.PROFILE
BULL.PROFILE NOSUCH bull:q
BULL.PROFILE GET
BULL.PROFILE SET bull:q
BULL.PROFILE SET bull:q priority
BULL.PROFILE SET bull:q nosuch 1
BULL.PROFILE SET bull:q priority x
BULL.PROFILE SET bull:q max-jobs -1
BULL.PROFILE SET bull:q max-bytes 1tb5
BULL.PROFILE DEL bull:q nosuch
BULL.TRIM
BULL.TRIM bull:nosuch COMPLETED 0
BULL.TRIM bull:q NOSUCHWORD
BULL.TRIM bull:q COMPLETED
BULL.TRIM bull:q COMPLETED -1
BULL.TRIM bull:q COMPLETED 1y
BULL.TRIM bull:q COMPLETED 99999999999999999999d
BULL.TRIM bull:q COMPLETED 0 COMPLETED 0
BULL.TRIM bull:q FAILED
BULL.TRIM bull:q FAILED x
BULL.TRIM bull:q KEEPCOMPLETED -1
BULL.TRIM bull:q KEEPFAILED x
BULL.TRIM bull:q WAITING -1
BULL.TRIM bull:q EVENTS -1
BULL.TRIM bull:q MAXBYTES 1zb
BULL.TRIM bull:q COMPLETED 0 LIMIT -1
BULL.TRIM bull:q COMPLETED 0 LIMIT x
BULL.TRIM bull:q COMPLETED 0 DRYRUN DRYRUN
BULL.EMERGENCY NOSUCHWORD
BULL.EMERGENCY TARGET -1
BULL.EMERGENCY TARGET 101
BULL.EMERGENCY COMPLETED -1
BULL.POLICY LOAD name
BULL.POLICY LOAD name wasm
BULL.POLICY LOAD ../name wasm
BULL.POLICY LOAD name MODE nosuch wasm
BULL.POLICY LOAD name ONERROR nosuch wasm
BULL.POLICY LOAD name ORDER x wasm
BULL.POLICY LOAD name CONFIG notjson wasm
BULL.POLICY LOAD name MODE enforce MODE observe wasm
BULL.POLICY INFO nosuch
BULL.POLICY REMOVE nosuch
BULL.POLICY CONFIG nosuch {}
BULL.POLICY MODE nosuch enforce
BULL.POLICY TEST nosuch bull:q
BULL.POLICY LOG COUNT -1
BULL.POLICY LOG NOSUCHWORD
BULL.EVAL return 0
BULL.EVAL return -1
BULL.EVAL return x
BULL.EVAL redis.call('set','bull:q:x','1') 0
BULL.EVALSHA nosuch 0
BULL.EVALSHA nosuch 2 a";

#[test]
fn bad_calls_are_refused_and_write_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    let commands = commands(&mut client);
    seed(&mut client);
    let before = Dump::take(&mut client);
    let mut wrong = Vec::new();
    let mut refused = 0;
    for line in REFUSED.lines() {
        let call: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        if !known(&commands, &call) {
            continue;
        }
        refused += 1;
        match client.cmd(&call) {
            Reply::Error(text) => wrong.extend(error_fault(&text).map(|fault| format!("{line}: {fault}"))),
            reply => wrong.push(format!("{line}: answered {reply:?}")),
        }
        let diff = before.diff(&Dump::take(&mut client), ["before", "after"]);
        if !diff.is_empty() {
            wrong.push(format!("{line} wrote:\n{diff}"));
            seed(&mut client);
        }
    }
    assert!(wrong.is_empty(), "{} of {refused} calls:\n{}", wrong.len(), wrong.join("\n"));
    assert!(refused > 50, "only {refused} calls were known here");
    server.assert_alive();
}

#[test]
fn data_that_is_not_json_never_enters() {
    let mut server = Server::start();
    let mut client = server.client();
    let json: [&[u8]; 8] = [
        b"-1",
        b"0",
        b"{}",
        b"1e400",
        b"{\"a\":1e999}",
        b"9223372036854775807",
        b"9223372036854775808",
        b"18446744073709551616",
    ];
    for value in hostile().iter().filter(|value| !json.contains(&value.as_slice())) {
        for call in [
            [b"BULL.ADD".as_slice(), QUEUE.as_bytes(), b"name", value].as_slice(),
            &[b"BULL.ADD", QUEUE.as_bytes(), b"name", b"{}", b"OPTS", value],
        ] {
            let Reply::Error(line) = client.cmd(call) else { panic!("{} entered", shown(call)) };
            assert_eq!(error_fault(&line), None, "{}", shown(call));
        }
    }
    assert!(Dump::take(&mut client).0.is_empty());
    server.assert_alive();
}

/// Calls that are right, for any of whose words something hostile is put in.
const RIGHT: [&[&str]; 24] = [
    &[
        "BULL.ADD",
        QUEUE,
        "name",
        "{}",
        "ID",
        "x",
        "DELAY",
        "5",
        "PRIORITY",
        "3",
        "LIFO",
        "TIMESTAMP",
        "1",
        "OPTS",
        "{}",
    ],
    &["BULL.MADD", QUEUE, "name", "{}", "-", "name", "1", "{}"],
    &["BULL.QUEUES", "MATCH", "*", "COUNT", "5"],
    &["BULL.STATS", QUEUE],
    &["BULL.SLOT", QUEUE],
    &["BULL.CHECK", QUEUE, "LIMIT", "5"],
    &["BULL.CHECK", QUEUE, "REPAIR"],
    &["BULL.METRICS"],
    &["BULL.PROFILE", "GET", QUEUE],
    &["BULL.PROFILE", "SET", QUEUE, "priority", "3", "max-bytes", "1mb"],
    &["BULL.PROFILE", "DEL", QUEUE, "priority"],
    &["BULL.TRIM", QUEUE, "COMPLETED", "1h", "FAILED", "1h", "LIMIT", "5"],
    &[
        "BULL.TRIM",
        QUEUE,
        "KEEPCOMPLETED",
        "5",
        "KEEPFAILED",
        "5",
        "WAITING",
        "1h",
        "EVENTS",
        "9",
        "MAXBYTES",
        "1gb",
        "DRYRUN",
    ],
    &["BULL.EMERGENCY", "DRYRUN", "TARGET", "80", "COMPLETED", "1d", "FAILED", "7d", "MATCH", "*"],
    &["BULL.EMERGENCY", "STATUS"],
    &[
        "BULL.POLICY",
        "LOAD",
        "p",
        "CONFIG",
        "{}",
        "MODE",
        "enforce",
        "QUEUES",
        "*",
        "ORDER",
        "1",
        "ONERROR",
        "admit",
        "wasm",
    ],
    &["BULL.POLICY", "LIST"],
    &["BULL.POLICY", "INFO", "p"],
    &["BULL.POLICY", "CONFIG", "p", "{}"],
    &["BULL.POLICY", "MODE", "p", "observe"],
    &["BULL.POLICY", "TEST", "p", QUEUE, "{}"],
    &["BULL.POLICY", "LOG", "COUNT", "5", "POLICY", "p", "VERDICT", "reject"],
    &["BULL.EVAL", "return 1", "1", "bull:q:wait", "x"],
    &["BULL.EVALSHA", "abc", "1", "bull:q:wait", "x"],
];

#[test]
fn anything_anywhere_is_answered_sanely() {
    let mut server = Server::start();
    let mut client = server.client();
    let commands = commands(&mut client);
    seed(&mut client);
    let mut before = Dump::take(&mut client);
    let values = hostile();
    let mut wrong = Vec::new();
    for right in RIGHT.iter().filter(|right| known(&commands, right)) {
        // A subcommand that does not exist is answered by Redis, with the word as it is.
        let container = commands.iter().any(|name| name.starts_with(&format!("{}|", right[0].to_lowercase())));
        for at in 1 + usize::from(container)..=right.len() {
            for value in &values {
                let mut call: Vec<&[u8]> = right.iter().map(|word| word.as_bytes()).collect();
                if at < call.len() {
                    call[at] = value;
                } else {
                    call.push(value);
                }
                let reply = client.cmd(&call);
                wrong.extend(faults(&reply).into_iter().map(|fault| format!("{}: {fault}", shown(&call))));
                let after = Dump::take(&mut client);
                if after != before {
                    if matches!(reply, Reply::Error(_)) {
                        let diff = before.diff(&after, ["before", "after"]);
                        wrong.push(format!("{} failed and wrote:\n{diff}", shown(&call)));
                    }
                    seed(&mut client);
                    before = Dump::take(&mut client);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(40)].join("\n"));
    server.assert_alive();
}

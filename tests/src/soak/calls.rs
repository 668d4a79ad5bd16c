//! Random calls of every command, from a seed: words that belong, words that do not, values at their limits, wrong types at
//! the queue's keys, add scripts with torn msgpack, components with flipped bytes. The server must live, answer each call
//! with a reply or one sane line of error, and give its memory back. What the calls did is not looked at: that is the
//! model test's.

use std::time::Instant;

use super::memory::used;
use super::{Row, Seed};
use crate::checks::{commands, faults};
use crate::client::{Client, printable_words};
use crate::{Server, workspace};

/// Calls sent in one write.
const BATCH: u64 = 100;
/// Calls after which all keys and policies go, so that the server stays small.
const ROUND: u64 = 2_000;
/// Memory that may be in use after the last round and was not after the first: fragments, not leaks.
const SLACK: i64 = 4 << 20;

const QUEUES: [&str; 6] = ["bull:a", "bull:b", "bull:a:b", "{t}:q", "x:y", "bull:"];
const SUFFIXES: [&str; 10] =
    ["wait", "active", "prioritized", "delayed", "completed", "failed", "meta", "id", "events", "1"];
const VALUES: [&str; 30] = [
    "",
    "0",
    "1",
    "2",
    "-1",
    "10",
    "1000",
    "9223372036854775807",
    "18446744073709551616",
    "1e400",
    "NaN",
    "1d",
    "7d",
    "50ms",
    "99999999999d",
    "{}",
    "[]",
    "null",
    "\"x\"",
    "{\"a\":1}",
    "{\"attempts\":3,\"backoff\":{\"type\":\"fixed\",\"delay\":5}}",
    "{\"delay\":10}",
    "{\"priority\":3}",
    "{\"deduplication\":{\"id\":\"d\",\"ttl\":1}}",
    "{\"removeOnComplete\":true}",
    "{\"parent\":{\"id\":\"1\",\"queue\":\"bull:a\"}}",
    "a:b",
    "*",
    "%s%n",
    "\u{4e00}\0\r\n",
];
const NAMES: [&str; 4] = ["p", "q", "no such", "payload-cap"];

/// A command and the words that it may know.
const COMMANDS: [(&str, &[&str]); 13] = [
    ("BULL.ADD", &["ID", "DELAY", "PRIORITY", "LIFO", "TIMESTAMP", "OPTS", "name"]),
    ("BULL.MADD", &["JOBS", "1", "2", "3", "name", "OPTS"]),
    (
        "BULL.TRIM",
        &[
            "COMPLETED",
            "FAILED",
            "WAITING",
            "KEEP",
            "KEEPCOMPLETED",
            "KEEPFAILED",
            "EVENTS",
            "MAXBYTES",
            "LIMIT",
            "DRYRUN",
        ],
    ),
    ("BULL.STATS", &["FULL"]),
    ("BULL.QUEUES", &["PATTERN", "COUNT", "CURSOR"]),
    ("BULL.SLOT", &[]),
    (
        "BULL.PROFILE",
        &["GET", "SET", "DEL", "max-jobs", "max-bytes", "priority", "keep-completed", "retain-failed", "max-events"],
    ),
    ("BULL.EMERGENCY", &["TARGET", "DRYRUN", "STATUS", "STOP", "MAXJOBS"]),
    ("BULL.METRICS", &[]),
    ("BULL.POLICY LIST", &[]),
    ("BULL.POLICY MODE", &["p", "q", "enforce", "observe"]),
    ("BULL.POLICY CONFIG", &["p", "q", "{\"max-bytes\":10}"]),
    ("BULL.POLICY", &["INFO", "REMOVE", "LOG", "TEST", "HELP", "RELOAD", "p", "q"]),
];

/// Calls that are right, `$` for a queue; most are sent as they are, some with a word bent.
const RIGHT: [&str; 28] = [
    "BULL.ADD $ n {\"a\":1}",
    "BULL.ADD $ n {}",
    "BULL.ADD $ n [1,2] DELAY 10",
    "BULL.ADD $ n 1 PRIORITY 3",
    "BULL.ADD $ n {} LIFO",
    "BULL.ADD $ n {} ID own",
    "BULL.ADD $ n {} ID other DELAY 1000",
    "BULL.ADD $ n {} OPTS {\"attempts\":3,\"lifo\":true}",
    "BULL.ADD $ n {} OPTS {\"deduplication\":{\"id\":\"d\",\"ttl\":5}}",
    "BULL.ADD $ n {} OPTS {\"parent\":{\"id\":\"1\",\"queue\":\"bull:a\"}}",
    "BULL.ADD $ n {} OPTS {\"deduplication\":{\"id\":\"d\",\"replace\":true}}",
    "BULL.ADD $ n {} TIMESTAMP 1",
    "BULL.MADD $ n {} - m 1 {\"delay\":5}",
    "BULL.MADD $ n {} - n {} - n {} - n {} -",
    "BULL.STATS $",
    "BULL.SLOT $",
    "BULL.QUEUES",
    "BULL.TRIM $ COMPLETED 0 FAILED 0",
    "BULL.TRIM $ WAITING 0",
    "BULL.TRIM $ KEEPCOMPLETED 1 KEEPFAILED 1",
    "BULL.TRIM $ EVENTS 5",
    "BULL.TRIM $ MAXBYTES 1000",
    "BULL.TRIM $",
    "BULL.TRIM $ COMPLETED 0 DRYRUN",
    "BULL.PROFILE SET $ max-jobs 10",
    "BULL.PROFILE GET $",
    "BULL.PROFILE DEL $",
    "BULL.METRICS",
];

/// `calls` random calls.
///
/// # Panics
/// With the seed and the call where a reply is no sane one, a panic was counted, or memory did not come back.
pub fn calls(calls: u64, seed: u64) -> Row {
    let started = Instant::now();
    let mut random = Seed(seed);
    let mut server = Server::start();
    let mut client = server.client();
    let known = commands(&mut client);
    let known: Vec<_> = COMMANDS.iter().filter(|(name, _)| known.contains(&first(name).to_lowercase())).collect();
    let component =
        std::fs::read(workspace().join("target/policies/payload_cap.wasm")).expect("scripts/build-policies");
    // The first component makes the compiler take memory that it keeps: about 4 MB.
    load_whole(&mut client, &component);
    let (mut errors, mut settled) = (0, None);
    for batch in 0..calls.div_ceil(BATCH) {
        let batch_of_calls: Vec<_> = (0..BATCH).map(|_| call(&mut random, &known, &component)).collect();
        let replies = client
            .pipeline(&batch_of_calls)
            .unwrap_or_else(|error| panic!("seed {seed}, calls {}…: {error}", batch * BATCH));
        for (words, reply) in batch_of_calls.iter().zip(&replies) {
            errors += u64::from(reply.error().is_some());
            // The server's own texts quote what they were given.
            let servers = reply.error().is_some_and(|text| text.to_lowercase().starts_with("err unknown subcommand"));
            let faults = if words[0].starts_with(b"BULL.") && !servers { faults(reply) } else { vec![] };
            assert!(faults.is_empty(), "seed {seed}: {} gave {faults:?}", printable_words(words));
        }
        if ((batch + 1) * BATCH).is_multiple_of(ROUND) {
            clear(&mut client);
            settled.get_or_insert_with(|| used(&mut client));
        }
    }
    clear(&mut client);
    server.assert_alive();
    let grown = used(&mut client) - settled.unwrap_or(i64::MAX);
    assert!(grown < SLACK, "seed {seed}: {grown} bytes did not come back");
    let info = client.ok(&["INFO", "bull"]).text();
    for counter in ["bull_panics:0", "bull_errors_after_first_write:0"] {
        assert!(info.contains(counter), "seed {seed}: INFO bull has no {counter}:\n{info}");
    }
    Row {
        scenario: "random calls",
        seed,
        faults: calls,
        took: started.elapsed(),
        note: format!("{errors} refused, {} KB more in use than after the first round", grown / 1024),
        ..Row::default()
    }
}

fn first(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

fn clear(client: &mut Client) {
    client.ok(&["FLUSHALL"]);
    for name in NAMES {
        let _ = client.cmd(&["BULL.POLICY", "REMOVE", name]);
    }
}

fn call(random: &mut Seed, known: &[&(&str, &[&str])], component: &[u8]) -> Vec<Vec<u8>> {
    match random.within(0, 20_000) {
        0 => load(random, component),
        1..60 => plant(random),
        // Few: a check that misses a marker looks for it for three seconds.
        60..61 => check(random),
        61..1000 => script(random),
        1000..14_000 => right(random),
        _ => {
            let (name, words) = known[random.within(0, known.len() as u64) as usize];
            let mut call: Vec<Vec<u8>> = name.split(' ').map(|word| word.as_bytes().to_vec()).collect();
            if random.within(0, 20) != 0 && !name.starts_with("BULL.POLICY") && *name != "BULL.EMERGENCY" {
                call.push(pick(random, &QUEUES));
            }
            for _ in 0..random.within(0, 7) {
                call.push(if random.within(0, 2) == 0 && !words.is_empty() {
                    pick(random, words)
                } else {
                    value(random)
                });
            }
            call
        }
    }
}

fn right(random: &mut Seed) -> Vec<Vec<u8>> {
    let text = pick(random, &RIGHT);
    let mut call: Vec<Vec<u8>> = text.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
    for word in call.iter_mut().filter(|word| *word == b"$") {
        *word = pick(random, &QUEUES[..4]);
    }
    if random.within(0, 6) == 0 {
        let at = random.within(1, call.len() as u64 + 1) as usize;
        match call.get_mut(at) {
            Some(word) => bend(random, word),
            None => call.push(value(random)),
        }
    }
    call
}

fn pick(random: &mut Seed, from: &[&str]) -> Vec<u8> {
    from[random.within(0, from.len() as u64) as usize].as_bytes().to_vec()
}

/// A value from the list, sometimes bent, sometimes noise.
fn value(random: &mut Seed) -> Vec<u8> {
    if random.within(0, 20) == 0 {
        return noise(random, 300);
    }
    let mut value = pick(random, &VALUES);
    if random.within(0, 5) == 0 {
        bend(random, &mut value);
    }
    value
}

fn noise(random: &mut Seed, most: u64) -> Vec<u8> {
    (0..random.within(0, most)).map(|_| random.draw() as u8).collect()
}

/// Changes, drops or doubles a piece.
fn bend(random: &mut Seed, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.within(0, bytes.len() as u64) as usize;
    match random.within(0, 3) {
        0 => bytes[at] ^= 1 << random.within(0, 8),
        1 => bytes.truncate(at),
        _ => bytes.extend_from_within(at..),
    }
}

/// A key of a queue as another type, as a client that went wrong would leave it.
fn plant(random: &mut Seed) -> Vec<Vec<u8>> {
    let (queue, suffix) = (pick(random, &QUEUES), pick(random, &SUFFIXES));
    let key = [queue.as_slice(), b":", &suffix].concat();
    let words: &[&[u8]] = match random.within(0, 7) {
        0 => &[b"SET", &key, b"x"],
        1 => &[b"RPUSH", &key, b"1", b"0:0"],
        2 => &[b"ZADD", &key, b"1", b"1", b"0", b"0"],
        3 => &[b"SADD", &key, b"1"],
        4 => &[b"HSET", &key, b"name", b"n", b"data", b"{}", b"timestamp", b"1"],
        _ => &[b"DEL", &key],
    };
    words.iter().map(|word| word.to_vec()).collect()
}

fn check(random: &mut Seed) -> Vec<Vec<u8>> {
    let mut call = vec![b"BULL.CHECK".to_vec(), pick(random, &QUEUES)];
    call.extend((0..random.within(0, 3)).map(|_| pick(random, &["REPAIR", "LIMIT", "1", "x"])));
    call
}

/// What looks like BullMQ's add script: its keys, and msgpack that is right, bent, or noise.
fn script(random: &mut Seed) -> Vec<Vec<u8>> {
    let base = [pick(random, &QUEUES), b":".to_vec()].concat();
    let keys = ["wait", "paused", "meta", "id", "completed", "delayed", "active", "events", "marker"];
    let count = random.within(6, 10) as usize;
    let mut call = vec![b"EVALSHA".to_vec(), vec![b'a'; 40], count.to_string().into_bytes()];
    call.extend(keys[..count].iter().map(|suffix| [base.as_slice(), suffix.as_bytes()].concat()));
    let mut array = vec![0x99, 0xa0 + base.len().min(31) as u8];
    array.extend_from_slice(&base[..base.len().min(31)]);
    array.extend_from_slice(b"\xa0\xa4name\xcb\x42\x79\x00\x00\x00\x00\x00\x00\xc0\xc0\xc0\xc0\xc0");
    let mut options = b"\x82\xa8attempts\x03\xa5delay\xcd\x03\xe8".to_vec();
    for part in [&mut array, &mut options] {
        match random.within(0, 4) {
            0 => bend(random, part),
            1 => *part = noise(random, 80),
            _ => {}
        }
    }
    call.extend([array, value(random), options]);
    call
}

fn load_whole(client: &mut Client, component: &[u8]) {
    let reply = client.cmd(&[&b"BULL.POLICY"[..], b"LOAD", b"p", component]);
    assert!(reply.error().is_none(), "BULL.POLICY LOAD: {reply:?}");
    clear(client);
}

fn load(random: &mut Seed, component: &[u8]) -> Vec<Vec<u8>> {
    let mut wasm = component.to_vec();
    for _ in 0..random.within(0, 4) {
        bend(random, &mut wasm);
    }
    wasm.truncate(component.len() * 2);
    vec![b"BULL.POLICY".to_vec(), b"LOAD".to_vec(), pick(random, &NAMES), wasm]
}

//! The guard before unmodified BullMQ clients: Node 4, 5 and 6 from npm, and Python from PyPI.

use bull_tests::checks::load;
use bull_tests::client::printable_words;
use bull_tests::clients::{Kind, output};
use bull_tests::dump::assert_same;
use bull_tests::server::Builder;
use bull_tests::tap::{Exchange, Tap};
use bull_tests::{Client, Dump, Server, guests};

/// Operations of a run; `GUARD_OPERATIONS` for more.
fn operations() -> String {
    std::env::var("GUARD_OPERATIONS").unwrap_or_else(|_| "300".to_owned())
}

/// A counter of INFO.
fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.ok(&["INFO", "everything"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("bull_guard_{field}:")));
    line.unwrap_or_else(|| panic!("no bull_guard_{field} in INFO")).trim().parse().expect("a number")
}

/// Nothing that these answer has to do with jobs, and much of it differs from server to server. redis-py names the scripts
/// of a pipeline in the order of a set of objects, which is another each time.
const ABOUT_THE_SERVER: [&[u8]; 5] = [b"info", b"hello", b"client", b"command", b"script"];

/// Hashes keep the order of their fields: that of a hash table is each server's own, and HGETALL shows it.
fn in_order() -> Builder {
    Server::builder().config("hash-max-listpack-value 1000000").config("hash-max-listpack-entries 1000")
}

/// What one run left.
struct Run {
    said: String,
    heard: Vec<Vec<Exchange>>,
    dump: Dump,
}

fn run(server: &Server, kind: Kind, seed: u64) -> Run {
    let tap = Tap::on(server.port());
    let mut command = kind.command("seeded");
    command.args(["--port", &tap.port().to_string(), "--seed", &seed.to_string(), "--count", &operations()]);
    let (output, said) = output(command);
    assert!(output.status.success(), "{}, seed {seed}:\n{said}", kind.name());
    let mut heard = tap.finish();
    for exchanges in &mut heard {
        exchanges.retain(|(words, _)| !ABOUT_THE_SERVER.contains(&words[0].to_ascii_lowercase().as_slice()));
    }
    heard.retain(|exchanges| !exchanges.is_empty());
    // Clients open several connections at once; what they send over each tells them apart.
    heard.sort_by_cached_key(|exchanges| exchanges.iter().map(|(words, _)| words.clone()).collect::<Vec<_>>());
    Run { said, heard, dump: Dump::take(&mut server.client()).without_stream_ids() }
}

#[track_caller]
fn assert_equal(left: &Run, right: &Run, names: [&str; 2]) {
    let between = |one: &str, two: &str| {
        let differing = one.lines().zip(two.lines()).find(|(a, b)| a != b);
        assert!(one == two, "{} and {} tell the client different things: {differing:?}", names[0], names[1]);
    };
    between(&left.said, &right.said);
    assert_eq!(left.heard.len(), right.heard.len(), "connections to {} and {}", names[0], names[1]);
    for (one, two) in left.heard.iter().zip(&right.heard) {
        for ((words, mine), (others, theirs)) in one.iter().zip(two) {
            assert!(words == others, "{}\nand {}", printable_words(words), printable_words(others));
            assert_eq!(mine, theirs, "{} and {} answer {}", names[0], names[1], printable_words(words));
        }
        assert_eq!(one.len(), two.len(), "commands to {} and {}", names[0], names[1]);
    }
    assert_same(&left.dump, &right.dump, names);
}

/// A stock server, one whose guard observes a policy that would refuse everything, and one that enforces a policy that
/// admits everything: replies on the wire, what the client makes of them, and all keys are equal.
fn a_guard_that_lets_all_in_is_not_seen(kind: Kind) {
    for seed in [1, 2] {
        let stock = in_order().with_module(false).start();
        let bare = run(&stock, kind, seed);
        assert!(bare.dump.0.len() > 50, "{} keys only: {}", bare.dump.0.len(), bare.said);
        for (mode, wasm) in [("observe", guests::rejecting(b"no")), ("enforce", guests::admit_all())] {
            let mut server = in_order().config(format!("bull.guard {mode}")).start();
            let mut client = server.client();
            load(&mut client, "all", &[], &wasm);
            let guarded = run(&server, kind, seed);
            assert_equal(&bare, &guarded, ["a stock server", mode]);
            // It was there all the time.
            let [asked, admitted, observed] = ["guarded", "admitted", "observed"].map(|name| info(&mut client, name));
            assert!(asked > 100 && admitted > 100, "{mode}: {asked} asked, {admitted} admitted");
            assert!(info(&mut client, "passed") > 20, "{mode}: children pass");
            assert_eq!(observed, if mode == "observe" { asked } else { 0 }, "{mode}");
            assert_eq!([info(&mut client, "refused"), info(&mut client, "unreadable")], [0, 0], "{mode}");
            server.assert_alive();
        }
    }
}

#[test]
fn v4_does_not_see_a_guard_that_lets_all_in() {
    a_guard_that_lets_all_in_is_not_seen(Kind::V4);
}

#[test]
fn v5_does_not_see_a_guard_that_lets_all_in() {
    a_guard_that_lets_all_in_is_not_seen(Kind::V5);
}

#[test]
fn v6_does_not_see_a_guard_that_lets_all_in() {
    a_guard_that_lets_all_in_is_not_seen(Kind::V6);
}

#[test]
fn python_does_not_see_a_guard_that_lets_all_in() {
    a_guard_that_lets_all_in_is_not_seen(Kind::Python);
}

#[test]
fn a_flow_is_whole_after_a_refused_add() {
    for kind in [Kind::V4, Kind::V5, Kind::V6] {
        let mut server = Server::builder().config("bull.guard enforce").start();
        load(&mut server.client(), "no", &["QUEUES", "bull:shut"], &guests::rejecting(b"no"));
        let mut command = kind.command("flow-after-refusal");
        command.args(["--port", &server.port().to_string()]);
        let (output, said) = output(command);
        assert!(output.status.success(), "{}:\n{said}", kind.name());
        server.assert_alive();
    }
}

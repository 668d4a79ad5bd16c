//! What policies cost: a decision within BULL.ADD, a round of ticks, and a swap under load. Everything in one run, with and
//! without; figures are of this machine.

mod budgets;
mod swaps;

use bull_tests::checks::load;
use bull_tests::probe::Probe;
use bull_tests::{Client, Server, workspace};

/// Adds of a block; the queue is emptied after each.
const ADDS: usize = 5000;
/// Blocks with each set of policies, taken in turns.
const BLOCKS: usize = 15;
const QUEUES: usize = 1000;

fn main() {
    let only = std::env::args().nth(1);
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wanted("decisions") {
        println!("== what a policy adds to BULL.ADD");
        decisions();
    }
    if wanted("ticks") {
        println!("== ticks over {QUEUES} queues");
        ticks();
    }
    if wanted("swaps") {
        println!("== swaps under {} commands a second", swaps::RATE);
        swaps::swaps();
    }
    // By its name alone: it takes 8 GB of memory.
    if only.as_deref() == Some("budgets") {
        println!("== byte budgets at full size");
        budgets::budgets();
    }
}

fn number(client: &mut Client, policy: &str, field: &str) -> u64 {
    let shown = client.ok(&["BULL.POLICY", "INFO", policy]);
    u64::try_from(shown.get(field).unwrap_or_else(|| panic!("no {field}")).int()).expect("a count")
}

fn info(client: &mut Client, section: &str, field: &str) -> String {
    // Redis 7.0 writes commands as they were registered, later ones in lower case.
    let text = client.ok(&["INFO", section]).text().to_lowercase();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("no {field}"));
    line.trim_start_matches(':').to_owned()
}

/// Microseconds of the server's own clock for one of the adds of a block.
fn block(client: &mut Client) -> f64 {
    client.ok(&["CONFIG", "RESETSTAT"]);
    let calls: Vec<_> = (0..ADDS).map(|_| vec!["BULL.ADD", "bull:q", "job", r#"{"order":1}"#]).collect();
    for reply in client.pipeline(&calls).expect("replies") {
        assert_eq!(reply.error(), None);
    }
    let stats = info(client, "commandstats", "cmdstat_bull.add");
    client.ok(&["FLUSHALL"]);
    let usec = stats.split(',').find_map(|part| part.strip_prefix("usec_per_call=")).expect("a time");
    usec.parse().expect("a number")
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn built(file: &str) -> Vec<u8> {
    let path = workspace().join("target/policies").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run scripts/build-policies", path.display()))
}

/// Most that a policy of a set may add to BULL.ADD, microseconds: the difference to the same adds without them, in the same
/// run. The first that is called for each job also pays for the queue's facts, which are read once a command.
const PROMISE_US: f64 = 1.0;

fn decisions() {
    let server = Server::start();
    let mut client = server.client();
    let shipped = [
        ("payload-cap", built("payload_cap.wasm"), ""),
        ("backlog-guard", built("backlog_guard.wasm"), ""),
        ("memory-budget", built("memory_budget.wasm"), ""),
    ];
    // It counts jobs a second, so it can name no terms and is called for each of them.
    let called = ["rate-cap", "rate-cap-2", "rate-cap-3"]
        .map(|name| (name, built("rate_cap.wasm"), r#"{"max-per-second":1000000}"#));
    // Sets of policies, each beside the one without any.
    let sets: [(&str, &[_]); 6] = [
        ("none", &[]),
        ("payload-cap", &shipped[..1]),
        ("payload-cap and backlog-guard", &shipped[..2]),
        ("these and memory-budget", &shipped),
        ("rate-cap, called for each job", &called[..1]),
        ("three of them", &called),
    ];
    block(&mut client);
    let mut times = vec![Vec::new(); sets.len()];
    let mut of_calls = (0, 0);
    for _ in 0..BLOCKS {
        for ((_, policies), times) in sets.iter().zip(&mut times) {
            for (name, wasm, config) in *policies {
                let words: &[&str] = if config.is_empty() { &[] } else { &["CONFIG", config] };
                load(&mut client, name, words, wasm);
            }
            times.push(block(&mut client));
            for (name, ..) in *policies {
                if *name == called[0].0 {
                    of_calls = (number(&mut client, name, "p50-ns"), number(&mut client, name, "p99-ns"));
                }
                client.ok(&["BULL.POLICY", "REMOVE", name]);
            }
        }
    }
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    let mut broken = Vec::new();
    for (((name, policies), times), median) in sets.iter().zip(&times).zip(&medians) {
        let each = if policies.is_empty() { 0.0 } else { (median - medians[0]) / policies.len() as f64 };
        let (least, most) = (times[0], times[times.len() - 1]);
        println!("{name}: {median:.2} us an add ({least:.2} to {most:.2}), {each:+.2} us a policy");
        // One alone that is called is told, not held to it: most of it are the facts.
        if each > PROMISE_US && policies.len() != 1 {
            broken.push(format!("{name}: {each:.2} us a policy, {PROMISE_US} us are promised"));
        }
    }
    println!("a call of rate-cap: p50 {} ns, p99 {} ns", of_calls.0, of_calls.1);
    assert!(broken.is_empty(), "{}", broken.join("; "));
}

fn ticks() {
    let server = Server::builder().config("bull.tick-ms 100").start();
    let mut client = server.client();
    for at in 0..QUEUES {
        client.ok(&["BULL.ADD", &format!("bull:q{at}"), "job", "{}"]);
    }
    for (name, file) in [("backlog-guard", "backlog_guard.wasm"), ("memory-budget", "memory_budget.wasm")] {
        load(&mut client, name, &[], &built(file));
        let from = number(&mut client, name, "ticks");
        let rounds = 20 * QUEUES.div_ceil(8) as u64;
        let probe = Probe::start(server.port());
        server.wait_until("twenty rounds", |client| number(client, name, "ticks") >= from + rounds);
        let waits = probe.stop();
        let call = number(&mut client, name, "tick-p50-ns") as f64 / 1000.0;
        let round = call * QUEUES.div_ceil(8) as f64 / 1000.0;
        println!(
            "{name}: {call:.1} us a call of 8 queues, {round:.2} ms a round; longest slice of all work {} us; {waits:?}",
            info(&mut client, "bull", "bull_longest_slice_us")
        );
        assert!(round < 5.0, "a round takes {round:.2} ms");
        client.ok(&["BULL.POLICY", "REMOVE", name]);
    }
}

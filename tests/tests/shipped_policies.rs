//! The policies that ship, as scripts/build-policies writes them, in a real server.

use std::process::Command;

use bull_tests::checks::{add, load};
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Server, engine, workspace};

/// A built policy.
fn built(file: &str) -> Vec<u8> {
    let path = workspace().join("target/policies").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run scripts/build-policies", path.display()))
}

/// A JSON text of exactly so many bytes.
fn data(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

fn refusal(client: &mut Client, queue: &str, bytes: usize) -> Option<String> {
    client.cmd(&["BULL.ADD", queue, "job", &data(bytes)]).error()
}

#[test]
fn payload_cap_refuses_data_over_the_cap_and_writes_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    let config = r#"{"max-job-bytes":100,"queues":[{"match":"*batch","max-job-bytes":1000}]}"#;
    load(&mut client, "payload-cap", &["CONFIG", config], &built("payload_cap.wasm"));
    for (queue, cap) in [("bull:mail", 100), ("bull:batch", 1000)] {
        add(&mut client, queue, &data(cap), &[]);
        let before = Dump::take(&mut client);
        let expected = format!("BULLREJECT payload-cap data {} of at most {cap} bytes", cap + 1);
        assert_eq!(refusal(&mut client, queue, cap + 1), Some(expected));
        assert_same(&before, &Dump::take(&mut client), ["before the refusal", "after it"]);
    }
    client.ok(&["BULL.POLICY", "CONFIG", "payload-cap", "{}"]);
    add(&mut client, "bull:mail", &data(1 << 20), &[]);
    let expected = "BULLREJECT payload-cap data 1048577 of at most 1048576 bytes";
    assert_eq!(refusal(&mut client, "bull:mail", (1 << 20) + 1).as_deref(), Some(expected));
    server.assert_alive();
}

/// The world is open to other languages: one policy is written in C.
#[test]
fn the_policy_in_c_plays_its_transcript() {
    if Command::new("clang").arg("--version").output().is_err() {
        println!("skipped: clang is not installed, so there is no policy in C (apt-get install clang)");
        return;
    }
    let component = workspace().join("target/policies/rate_cap.wasm");
    assert!(component.exists(), "{} is missing: run scripts/build-policies", component.display());
    let output = Command::new(workspace().join("scripts/policy"))
        .arg("test")
        .arg(component)
        .arg("--script")
        .arg(workspace().join("policies/c/rate-cap/server.txt"))
        .arg("--server")
        .arg(engine::binary(&engine::chosen()))
        .arg("--module")
        .arg(engine::module())
        .output()
        .expect("scripts/policy starts");
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    assert!(output.status.success() && text.contains("commands, as expected"), "{text}");
}

/// A tick has 8 queues at most, with the longest names there are: they fit into its room.
#[test]
fn the_policy_in_c_takes_the_largest_tick() {
    let Ok(wasm) = std::fs::read(workspace().join("target/policies/rate_cap.wasm")) else {
        let clang = Command::new("clang").arg("--version").output();
        assert!(clang.is_err(), "target/policies/rate_cap.wasm is missing: run scripts/build-policies");
        println!("skipped: clang is not installed, so there is no policy in C (apt-get install clang)");
        return;
    };
    let mut server = Server::builder().config("bull.tick-ms 100").start();
    let mut client = server.client();
    for queue in 0..150 {
        add(&mut client, &format!("bull:{}{queue:03}", "x".repeat(1000)), "{}", &[]);
    }
    load(&mut client, "rate-cap", &[], &wasm);
    // Two rounds of ticks, in 19 batches each.
    let shown = |client: &mut Client| client.ok(&["BULL.POLICY", "INFO", "rate-cap"]);
    server.wait_until("two rounds", |client| shown(client).get("ticks").expect("a count").int() >= 38);
    let info = shown(&mut client);
    assert_eq!(info.get("faults").expect("a count").int(), 0, "{info:?}");
    server.assert_alive();
}

/// A guest built against wit/1.0.0 and kept: whatever becomes of the host, it has to load and answer.
#[test]
fn a_kept_guest_of_world_1_0_0_loads_and_answers() {
    let mut server = Server::start();
    let mut client = server.client();
    let kept = std::fs::read(workspace().join("tests/fixtures/guests/payload-cap-1.0.0.wasm")).expect("the fixture");
    load(&mut client, "kept", &["CONFIG", r#"{"max-job-bytes":100}"#], &kept);
    add(&mut client, "bull:mail", &data(100), &[]);
    let expected = "BULLREJECT kept data 101 of at most 100 bytes";
    assert_eq!(refusal(&mut client, "bull:mail", 101).as_deref(), Some(expected));
    let refused = client.cmd(&["BULL.POLICY", "CONFIG", "kept", r#"{"max-job-bytes":0}"#]).error().expect("an error");
    assert!(refused.contains("max-job-bytes: expected a whole number from 1 to 536870912, not 0"), "{refused}");
    server.assert_alive();
}

/// The six queues of deploy/profiles/tasks.json, the most important first.
const TASKS: [&str; 6] = ["critical", "high", "normal", "low", "batch", "scheduled"];
const MAX_MEMORY: u64 = 96 << 20;

fn used_memory(client: &mut Client) -> u64 {
    let info = client.ok(&["INFO", "memory"]).text();
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a line").trim().parse().expect("bytes")
}

/// Fills memory to so many percent of its limit, or empties it to them, with keys that are no queue's.
fn fill(client: &mut Client, percent: u64) {
    const PIECE: u64 = 256 << 10;
    let wanted = MAX_MEMORY / 100 * percent;
    let mut pieces = client.ok(&["EXISTS", "filler:0"]).int();
    while client.ok(&["EXISTS", &format!("filler:{pieces}")]).int() == 1 {
        pieces += 1;
    }
    while used_memory(client) + PIECE < wanted {
        client.ok(&["SETRANGE", &format!("filler:{pieces}"), &(PIECE - 4096).to_string(), "x"]);
        pieces += 1;
    }
    while used_memory(client) > wanted && pieces > 0 {
        pieces -= 1;
        client.ok(&["DEL", &format!("filler:{pieces}")]);
    }
}

#[test]
fn memory_budget_sheds_the_least_important_queues_first() {
    let profiles = workspace().join("deploy/profiles/tasks.json");
    let mut server = Server::builder()
        .config(format!("maxmemory {MAX_MEMORY}"))
        .config(format!("bull.profiles {}", profiles.display()))
        .config("bull.tick-ms 100")
        .start();
    let mut client = server.client();
    load(&mut client, "memory-budget", &[], &built("memory_budget.wasm"));
    // Memory stays under its limit and moves in it: percent filled, then how many of the queues still take jobs.
    for (percent, passing) in [(70, 6), (82, 3), (87, 2), (93, 1), (87, 2), (82, 3), (70, 6)] {
        fill(&mut client, percent);
        let used = used_memory(&mut client) * 100 / MAX_MEMORY;
        assert!(used.abs_diff(percent) <= 1, "{used} % filled, not {percent}");
        // The module samples the server's memory about ten times a second.
        server.wait_until(&format!("{passing} queues pass at {percent} %"), |client| {
            let passes = TASKS.map(|task| refusal(client, &format!("bull:{{tasks:{task}}}"), 100).is_none());
            passes == std::array::from_fn(|at| at < passing)
        });
        let used = used_memory(&mut client) * 100 / MAX_MEMORY;
        assert!(used.abs_diff(percent) <= 1, "{used} % after the jobs, not {percent}");
    }
    let refused = |client: &mut Client| {
        fill(client, 93);
        refusal(client, "bull:{tasks:low}", 100)
    };
    let expected = "BULLREJECT memory-budget memory is short: priority 4 waits, up to 1 passes";
    server.wait_until("the reason is told", |client| refused(client).as_deref() == Some(expected));
    for told in ["over 80 %: jobs of priority 3 at most pass", "over 90 %: jobs of priority 1 at most pass"] {
        assert!(server.log().contains(told), "{told}\n{}", server.log());
    }
    server.assert_alive();
}

/// What all keys of a queue take, by the server's own count.
fn bytes_of(client: &mut Client, queue: &str) -> u64 {
    let mut cursor = "0".to_owned();
    let mut sum = 0;
    loop {
        let page = client.ok(&["SCAN", &cursor, "MATCH", &format!("{queue}:*"), "COUNT", "1000"]);
        for key in page.items()[1].items() {
            let usage = client.ok(&["MEMORY", "USAGE", &key.text(), "SAMPLES", "0"]);
            sum += u64::try_from(usage.int()).expect("bytes");
        }
        cursor = page.items()[0].text();
        if cursor == "0" {
            return sum;
        }
    }
}

#[test]
fn memory_budget_holds_a_queue_s_bytes_within_the_error_of_their_estimate() {
    if engine::chosen() != engine::DEFAULT {
        return; // Ten seconds, for a policy that is the same on all engines.
    }
    const BUDGET: u64 = 8 << 20;
    let mut server = Server::builder().config("bull.tick-ms 100").start();
    let mut client = server.client();
    load(&mut client, "memory-budget", &[], &built("memory_budget.wasm"));
    // A budget is held as well as bytes are estimated: jobs of all sizes leave an error of some percent.
    for (queue, smallest, largest, percent) in [("bull:even", 2000, 2001, 5), ("bull:mixed", 50, 8000, 10)] {
        client.ok(&["BULL.PROFILE", "SET", queue, "max-bytes", &BUDGET.to_string()]);
        // Some hundred jobs a second: estimates have 0.4 % of a core. The producer comes back when it is refused, until
        // it is refused for good.
        let pace = std::time::Duration::from_millis(1);
        let (mut refused, mut size) = (0, smallest);
        while refused < 100 {
            size = if size + 37 < largest { size + 37 } else { smallest };
            match refusal(&mut client, queue, size) {
                None => {
                    refused = 0;
                    std::thread::sleep(pace);
                }
                Some(text) => {
                    assert!(text.starts_with("BULLREJECT memory-budget queue of "), "{text}");
                    refused += 1;
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
            }
        }
        let bytes = bytes_of(&mut client, queue);
        assert!(bytes.abs_diff(BUDGET) * 100 <= BUDGET * percent, "{queue}: {bytes} of {BUDGET} bytes");
        println!("{queue}: {bytes} of {BUDGET} bytes");
    }
    server.assert_alive();
}

//! The policies that ship, as scripts/build-policies writes them, in a real server.

use bull_tests::checks::{add, load};
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Server, workspace};

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

#[test]
fn memory_budget_sheds_the_least_important_queues_first() {
    let mut server = Server::start();
    let mut client = server.client();
    client.ok(&["SETRANGE", "filler", "60000000", "x"]);
    let config = r#"{"queues":[{"match":"*critical","priority":1},{"match":"*low","priority":6}]}"#;
    load(&mut client, "memory-budget", &["CONFIG", config], &built("memory_budget.wasm"));
    let info = client.ok(&["INFO", "memory"]).text();
    let used: u64 =
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a line").parse().expect("bytes");
    // Memory stays and its limit moves: percent filled, then whether critical, normal and low jobs are refused.
    let cases = [(50, [false, false, false]), (81, [false, false, true]), (95, [false, true, true]), (50, [false; 3])];
    for (percent, expected) in cases {
        client.ok(&["CONFIG", "SET", "maxmemory", &(used * 100 / percent).to_string()]);
        // The module samples the server's memory about ten times a second.
        server.wait_until(&format!("{expected:?} at {percent} %"), |client| {
            ["bull:critical", "bull:normal", "bull:low"].map(|queue| refusal(client, queue, 100).is_some()) == expected
        });
    }
    server.assert_alive();
}

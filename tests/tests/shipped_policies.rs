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

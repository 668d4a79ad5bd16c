//! More jobs than fit into memory: stock BullMQ stops with OOM; with retention and memory-budget on from the start it never
//! gets there.

use std::process::Command;

use bull_tests::checks::load;
use bull_tests::server::Server;
use bull_tests::workspace;

const MAXMEMORY: &str = "maxmemory 32mb";

/// Runs unmodified producers and a worker; what they saw, by name.
fn run(server: &Server) -> impl Fn(&str) -> u64 + use<> {
    let output = Command::new("node")
        .arg(workspace().join("tests/bullmq/bounds.mjs"))
        .args(["--port", &server.port().to_string()])
        .output()
        .unwrap_or_else(|error| panic!("node does not run ({error}): install Node 20"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", text.trim());
    move |name| {
        let rest = text.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("no {name} in {text}"));
        rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().expect("a number")
    }
}

#[test]
fn without_the_module_memory_fills_and_work_stops() {
    let server = Server::builder().with_module(false).config(MAXMEMORY).config("maxmemory-policy noeviction").start();
    let seen = run(&server);
    assert!(seen("oom") > 0 && seen("completed") < 16_000);
}

#[test]
fn with_retention_and_memory_budget_it_never_gets_there() {
    let mut server =
        Server::builder().config(MAXMEMORY).config("maxmemory-policy noeviction").config("bull.guard enforce").start();
    let mut client = server.client();
    let wasm = std::fs::read(workspace().join("target/policies/memory_budget.wasm")).expect("scripts/build-policies");
    load(&mut client, "memory-budget", &[], &wasm);
    client.ok(&["BULL.PROFILE", "SET", "bull:{bounds:work}", "keep-completed", "500", "max-events", "1000"]);
    let seen = run(&server);
    assert_eq!((seen("oom"), seen("added"), seen("completed")), (0, 16_000, 16_000));
    server.wait_until("the queue is within its limits", |client| {
        client.ok(&["ZCARD", "bull:{bounds:work}:completed"]).int() <= 500
            && client.ok(&["XLEN", "bull:{bounds:work}:events"]).int() <= 1000
    });
    server.assert_alive();
}

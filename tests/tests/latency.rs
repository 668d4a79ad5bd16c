//! How long others wait while policies misbehave. The only test of its file, so that nothing else
//! runs beside it.

use std::time::Duration;

use bull_tests::checks::{add, load, try_load};
use bull_tests::probe::{Latency, Probe};
use bull_tests::{Server, guests};

/// No command of another client may wait longer for a policy.
const LONGEST_WAIT: Duration = Duration::from_millis(5);
/// Runs at most, those that the machine spoiled included.
const RUNS: usize = 8;

/// Loads and runs everything hostile while one probe counts how long others wait, and another one
/// how long they wait on an idle stock server, which is what the machine itself adds. Last, how long the server's main
/// thread was ready to run and had no core.
fn run() -> (Latency, Latency, Duration) {
    let (mut server, idle) = (Server::start(), Server::stock());
    let mut client = server.client();
    // Made before anybody measures: making them takes a core for longer than a scheduler's slice.
    let failing = guests::failing();
    let noise: Vec<_> = (0..5).map(|seed| guests::noise(seed, 200 * 1024)).collect();
    let endless = guests::looping_configure();
    let before = waited_for_core(&server);
    let (probe, control) = (Probe::start(server.port()), Probe::start(idle.port()));
    for (name, wasm) in failing {
        load(&mut client, name, &[], &wasm);
        for _ in 0..5 {
            add(&mut client, "bull:q", "{}", &[]);
        }
        client.ok(&["BULL.POLICY", "REMOVE", name]);
    }
    for bytes in &noise {
        let reply = try_load(&mut client, "noise", &[], bytes);
        assert_eq!(reply.code().as_deref(), Some("BULLPOLICY"));
    }
    let reply = try_load(&mut client, "endless", &[], &endless);
    assert_eq!(reply.code().as_deref(), Some("BULLPOLICY"));
    let (ours, idle) = (probe.stop(), control.stop());
    let no_core = waited_for_core(&server) - before;
    server.assert_alive();
    (ours, idle, no_core)
}

/// What the kernel counts for a thread that wants to run and may not (schedstat's second number).
fn waited_for_core(server: &Server) -> Duration {
    let info = server.client().ok(&["INFO", "server"]).text();
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a process id");
    let path = format!("/proc/{0}/task/{0}/schedstat", pid.trim());
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    Duration::from_nanos(text.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0))
}

#[test]
fn nobody_waits_for_a_hostile_policy() {
    let (mut late, mut measured) = (Vec::new(), 0);
    for _ in 0..RUNS {
        let (ours, idle, no_core) = run();
        println!("beside hostile policies {ours:?}; on an idle stock server {idle:?}; without a core {no_core:?}");
        // Where the idle server was late too, the machine was.
        if idle.max >= LONGEST_WAIT {
            continue;
        }
        measured += 1;
        // Other programs on the machine take the core from a busy server; that part of a wait is theirs.
        if ours.max.saturating_sub(no_core) >= LONGEST_WAIT {
            late.push((ours, no_core));
        }
    }
    assert!(measured > 0, "the machine is too busy to measure {LONGEST_WAIT:?}: free a core and try again");
    assert!(
        late.len() < 2,
        "a PING waited longer than {LONGEST_WAIT:?} in {} of {measured} runs: {late:?}",
        late.len()
    );
}

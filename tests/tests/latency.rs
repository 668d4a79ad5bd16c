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
/// how long they wait on an idle stock server, which is what the machine itself adds.
fn run() -> (Latency, Latency) {
    let (mut server, idle) = (Server::start(), Server::stock());
    let mut client = server.client();
    // Made before anybody measures: making them takes a core for longer than a scheduler's slice.
    let failing = guests::failing();
    let noise: Vec<_> = (0..5).map(|seed| guests::noise(seed, 200 * 1024)).collect();
    let endless = guests::looping_configure();
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
    let seen = (probe.stop(), control.stop());
    server.assert_alive();
    seen
}

#[test]
fn nobody_waits_for_a_hostile_policy() {
    let mut late = Vec::new();
    for _ in 0..RUNS {
        let (ours, idle) = run();
        println!("beside hostile policies {ours:?}; on an idle stock server {idle:?}");
        if ours.max < LONGEST_WAIT {
            return;
        }
        // Where the idle server was late too, the machine was. Else it may still be chance: a busy process loses the
        // processor to others sooner than an idle one.
        if idle.max < LONGEST_WAIT {
            late.push(ours);
        }
        assert!(late.len() < 3, "a PING waited longer than {LONGEST_WAIT:?}, three times: {late:?}");
    }
    panic!("the machine is too busy to measure {LONGEST_WAIT:?}: free a core and try again");
}

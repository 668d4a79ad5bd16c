//! How long others wait while policies misbehave. The only test of its file, so that nothing else
//! runs beside it.

use std::time::Duration;

use bull_tests::checks::{add, load, try_load};
use bull_tests::cores::Others;
use bull_tests::probe::{Latency, Probe};
use bull_tests::{Client, Reply, Server, corpus, guests};

/// No command of another client may wait longer for a policy.
const LONGEST_WAIT: Duration = Duration::from_millis(5);
/// Runs that count.
const RUNS: usize = 8;
/// Runs at most, those that other programs spoiled included.
const TRIES: usize = 40;
/// What a program of the machine takes from a single PING is counted and taken off. What our own threads may have taken is
/// not, so beside other busy programs a PING may look late: where they used so many cores, or an idle server kept its clients waiting so long,
/// they spoiled the run.
const FOREIGN_CORES: f64 = 0.2;
const IDLE_WAIT: Duration = Duration::from_millis(2);
/// How often everything hostile happens in a run.
const ROUNDS: usize = 4;

/// Loads and runs everything hostile while one probe counts how long others wait, and another one
/// how long they wait on an idle stock server, which is what the machine itself adds. Last, how many cores other
/// programs used.
fn run() -> (Latency, Latency, f64) {
    let (mut server, idle) = (Server::builder().config("bull.tick-ms 100").start(), Server::stock());
    let mut client = server.client();
    // Made before anybody measures: making them takes a core for longer than a scheduler's slice.
    let (contained, refused, ticking) = (corpus::contained(), corpus::refused(), corpus::ticking());
    // Passes the screen, and takes the compiler a good part of a second.
    let bomb = guests::slow_to_compile(200);
    // Starts the thread that compiles, so that the probe counts what it takes.
    let reply = try_load(&mut client, "first", &[], &refused[1].bytes);
    assert_eq!(reply.code().as_deref(), Some("BULLPOLICY"));
    let others = Others::than(&[server.process(), idle.process()]);
    let (probe, control) = (Probe::watching(server.port(), server.process()), Probe::start(idle.port()));
    for _ in 0..ROUNDS {
        for case in &contained {
            load(&mut client, case.name, &[], &case.bytes);
            for _ in 0..5 {
                add(&mut client, "bull:q", "{}", &[]);
            }
            client.ok(&["BULL.POLICY", "REMOVE", case.name]);
        }
        for case in &refused {
            let reply = try_load(&mut client, "case", &[], &case.bytes);
            assert_eq!(reply.code().as_deref(), Some("BULLPOLICY"), "{}", case.name);
        }
    }
    for case in &ticking {
        load(&mut client, case.name, &[], &case.bytes);
        let failed =
            |client: &mut Client| client.ok(&["BULL.POLICY", "INFO", case.name]).get("faults") != Some(Reply::Int(0));
        server.wait_until(case.name, failed);
        client.ok(&["BULL.POLICY", "REMOVE", case.name]);
    }
    load(&mut client, "bomb", &[], &bomb);
    let seen = (probe.stop(), control.stop(), others.cores());
    server.assert_alive();
    seen
}

#[test]
fn nobody_waits_for_a_hostile_policy() {
    let mut measured = 0;
    for _ in 0..TRIES {
        let (ours, idle, foreign_cores) = run();
        println!(
            "beside hostile policies {ours:?}; on an idle stock server {idle:?}; others used {foreign_cores:.2} cores"
        );
        let spoiled = foreign_cores >= FOREIGN_CORES || idle.max >= IDLE_WAIT;
        if ours.own >= LONGEST_WAIT && spoiled {
            continue;
        }
        assert!(ours.own < LONGEST_WAIT, "a PING waited longer than {LONGEST_WAIT:?}: {ours:?}; idle: {idle:?}");
        measured += 1;
        if measured == RUNS {
            return;
        }
    }
    panic!("the machine is too busy to measure {LONGEST_WAIT:?}: {measured} of {RUNS} runs; free a core and try again");
}

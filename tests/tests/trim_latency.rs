//! How long others wait beside a large trim and beside the retention. The only test of its file, so that nothing else runs
//! beside it. `TRIM_JOBS` sets how many jobs go (50,000; the promise is about a million).

use std::time::Duration;

use bull_tests::Server;
use bull_tests::client::Client;
use bull_tests::cores::Others;
use bull_tests::engine::chosen;
use bull_tests::probe::{Latency, Probe};

/// No command of another client waits longer for a trim.
const LONGEST_WAIT: Duration = Duration::from_millis(5);
/// And one in a hundred no more than this longer than on an idle server.
const P99_MORE: Duration = Duration::from_millis(2);
/// Runs that count, of each kind.
const RUNS: usize = 1;
/// Runs at most, those that other programs spoiled included.
const TRIES: usize = 12;
/// Where other programs used so many cores, or an idle server kept its clients waiting so long, they spoiled the run.
const FOREIGN_CORES: f64 = 0.2;
const IDLE_WAIT: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Trim,
    Retention,
}

fn fill(client: &mut Client, jobs: u64) {
    let script = "redis.call('HSET', KEYS[1] .. 'meta', 'opts.maxLenEvents', '10000') \
        for i = ARGV[1], ARGV[2] do redis.call('HSET', KEYS[1] .. i, 'name', 'n', 'data', string.rep('x', 1024), \
            'opts', '{}', 'timestamp', '1', 'processedOn', '2', 'finishedOn', '3', 'returnvalue', 'null') \
        redis.call('ZADD', KEYS[1] .. 'completed', i, i) end";
    for at in (1..=jobs).step_by(5000) {
        let end = (at + 4999).min(jobs);
        client.ok(&["EVAL", script, "1", "bull:q:", &at.to_string(), &end.to_string()]);
    }
}

/// One probe beside the work, one on an idle stock server, and how many cores other programs used.
fn run(kind: Kind, jobs: u64) -> (Latency, Latency, f64) {
    let (mut server, idle) = (Server::start(), Server::stock());
    let mut client = server.client();
    fill(&mut client, jobs);
    let others = Others::than(&[server.process(), idle.process()]);
    let (probe, control) = (Probe::watching(server.port(), server.process()), Probe::start(idle.port()));
    match kind {
        Kind::Trim => drop(client.ok(&["BULL.TRIM", "bull:q", "COMPLETED", "0"])),
        Kind::Retention => drop(client.ok(&["BULL.PROFILE", "SET", "bull:q", "keep-completed", "0"])),
    }
    while client.ok(&["ZCARD", "bull:q:completed"]).int() > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    let seen = (probe.stop(), control.stop(), others.cores());
    server.assert_alive();
    seen
}

#[test]
fn nobody_waits_for_a_trim() {
    if chosen() != "redis-7.0" {
        println!("measured on redis-7.0 only");
        return;
    }
    let jobs = std::env::var("TRIM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(50_000);
    for kind in [Kind::Trim, Kind::Retention] {
        let mut measured = 0;
        for _ in 0..TRIES {
            let (ours, idle, foreign_cores) = run(kind, jobs);
            println!(
                "{kind:?} of {jobs}: {ours:?}; on an idle stock server {idle:?}; others used {foreign_cores:.2} cores"
            );
            let spoiled = foreign_cores >= FOREIGN_CORES || idle.max >= IDLE_WAIT;
            let late = ours.own >= LONGEST_WAIT || ours.own_p99 >= idle.p99 + P99_MORE;
            if late && spoiled {
                continue;
            }
            assert!(!late, "a PING waited too long beside a {kind:?}: {ours:?}; idle: {idle:?}");
            measured += 1;
            if measured == RUNS {
                break;
            }
        }
        // A machine that is never free proves nothing; the bench says what it saw (scripts/bench trim).
        assert!(measured > 0, "the machine is too busy to measure {LONGEST_WAIT:?} in {TRIES} runs; free a core");
    }
}

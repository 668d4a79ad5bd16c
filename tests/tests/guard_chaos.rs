//! The guard under load while the server is paused, fails over, forgets its scripts and its keys, and while the guard and
//! its policies are switched: no crash, no job lost, none doubled, no flow half written.
//!
//! Runs on the default engine; `GUARD_CHAOS_SECONDS` makes the loads longer, and runs them on any engine.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bull_tests::checks::load;
use bull_tests::clients::Kind;
use bull_tests::dump::assert_same;
use bull_tests::engine;
use bull_tests::producers::{Found, Plan, Producers, Said, Until};
use bull_tests::soak::Seed;
use bull_tests::soak::proxy::Proxy;
use bull_tests::{Client, Dump, Reply, Server, guests, workspace};

/// Producers of each kind of job, shared out among the clients.
const PRODUCERS: usize = 20;

/// How long loads may take to go on.
const PATIENCE: Duration = Duration::from_secs(60);

/// So many jobs of each client must have gone through.
const ENOUGH: usize = 100;

/// How long a load lasts. None: not on this engine, whose runs have no time for it.
fn seconds() -> Option<u64> {
    match std::env::var("GUARD_CHAOS_SECONDS") {
        Ok(text) => Some(text.parse().expect("GUARD_CHAOS_SECONDS is a number")),
        Err(_) => (engine::chosen() == engine::DEFAULT).then_some(3),
    }
}

/// One load at a time: three of them and their servers starve each other on two cores.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process, so that each run is another; printed where something is found.
fn seed() -> u64 {
    let given = std::env::var("GUARD_SEED").ok().map(|text| text.parse().expect("GUARD_SEED is a number"));
    given.unwrap_or_else(|| u64::from(std::process::id()))
}

fn prefix(kind: Kind) -> String {
    format!("bull-{}", kind.name())
}

fn start(kinds: &[Kind], port: u16) -> Vec<(Kind, Producers)> {
    let until = Until::Seconds(600);
    let plan = |kind| {
        Producers::start(&Plan {
            kind,
            port,
            cluster: false,
            prefix: &prefix(kind),
            name: "limited",
            producers: u32::try_from(PRODUCERS.div_ceil(kinds.len())).expect("a few"),
            until,
        })
    };
    kinds.iter().map(|kind| (*kind, plan(*kind))).collect()
}

fn stop(mut loads: Vec<(Kind, Producers)>) -> Vec<(Kind, Said)> {
    loads.iter_mut().for_each(|(_, load)| load.stop());
    loads.into_iter().map(|(kind, load)| (kind, load.finish())).collect()
}

/// What a LOAD is not told stays as it was.
const ENFORCE: [&str; 2] = ["MODE", "enforce"];

/// Another policy, another configuration, or none.
fn swap_policy(seed: &mut Seed, client: &mut Client) {
    match seed.within(0, 7) {
        0 => load(client, "p", &ENFORCE, &guests::admit_all()),
        1 => load(client, "p", &ENFORCE, &guests::rejecting(b"no")),
        2 => load(client, "p", &ENFORCE, &guests::deferring(100)),
        3 => load(client, "p", &ENFORCE, &guests::trapping()),
        4 => load(client, "p", &["MODE", "observe"], &guests::rejecting(b"no")),
        5 => client.cmd(&["BULL.POLICY", "REMOVE", "p"]),
        _ => limit(client),
    };
}

/// The policy that lets jobs in as workers take them out.
fn limit(client: &mut Client) -> Reply {
    let path = workspace().join("target/policies/backlog_guard.wasm");
    let built = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run scripts/build", path.display()));
    load(client, "p", &["MODE", "enforce", "CONFIG", r#"{"max-jobs":100}"#], &built)
}

fn switch_guard(seed: &mut Seed, client: &mut Client) {
    let mode = ["off", "observe", "enforce", "enforce"][seed.within(0, 4) as usize];
    client.ok(&["CONFIG", "SET", "bull.guard", mode]);
}

/// What is wrong, after what may happen to a job in such a run: `gone` were flushed, and connections of a failover break.
fn judge(over: &[(Kind, Said)], dump: &Dump, gone: &[BTreeSet<u64>], broken: Broken) -> String {
    let mut faults = String::new();
    for ((kind, said), gone) in over.iter().zip(gone) {
        let found = Found::read(dump, &prefix(*kind), "limited");
        let mut lost = found.lost(*kind, said);
        lost.retain(|n| !gone.contains(n));
        let reran = if broken == Broken::Never { Found::reran(said) } else { vec![] };
        let what = found.faults(*kind, said);
        if !(what.is_empty() && lost.is_empty() && reran.is_empty()) {
            faults += &format!("{kind:?}: {what}lost {lost:?}, run twice {reran:?}\n");
        }
        // A worker's own script may be forgotten between its SCRIPT LOAD and its MULTI, guard or not.
        let strange = found.failed.iter().find(|reason| !reason.contains("No matching script"));
        assert!(strange.is_none() || broken == Broken::Always, "{kind:?}: failed jobs: {:?}", found.failed);
        assert!(said.acked.len() > ENOUGH, "{kind:?}: only {} jobs went through: {:?}", said.acked.len(), said.other);
    }
    faults
}

/// Whether connections broke in a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Broken {
    Never,
    Always,
}

fn acked(loads: &[(Kind, Producers)]) -> usize {
    loads.iter().map(|(_, load)| load.said().acked.len()).sum()
}

/// Each load goes on, also one whose slow worker has let a backlog grow and that would be refused for long; and each has come
/// as far as [`judge`] wants to see, however few turns it had.
fn go_on(client: &mut Client, loads: &[(Kind, Producers)], start_seed: u64) {
    load(client, "p", &ENFORCE, &guests::admit_all());
    let before: Vec<usize> = loads.iter().map(|(_, load)| load.said().acked.len()).collect();
    let end = Instant::now() + PATIENCE;
    for ((kind, load), before) in loads.iter().zip(&before) {
        while load.said().acked.len() <= (before + 50).max(ENOUGH) {
            let said = || load.said().refused.iter().next_back().map(|(n, error)| format!("{n}: {error}"));
            let queue = format!("{}:limited", prefix(*kind));
            assert!(
                Instant::now() < end,
                "GUARD_SEED={start_seed}: the load of {kind:?} does not go on; the last refusal was {:?}, {:?}\n{:?}\n{:?}",
                said(),
                load.said().other,
                client.cmd(&["BULL.STATS", &queue]),
                client.cmd(&["BULL.POLICY", "INFO", "p"])
            );
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn pauses_flushed_scripts_switches_and_swaps() {
    let Some(seconds) = seconds() else { return };
    let _alone = alone();
    let start_seed = seed();
    let mut seed = Seed(start_seed);
    let mut server = Server::builder().config("bull.guard enforce").start();
    let mut client = server.client();
    let loads = start(&Kind::ALL, server.port());
    server.wait_until("the loads run", |_| acked(&loads) > 50);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        match seed.within(0, 5) {
            0 => drop(client.ok(&["CLIENT", "PAUSE", &seed.within(1, 80).to_string(), "WRITE"])),
            1 => drop(client.ok(&["CLIENT", "PAUSE", &seed.within(1, 80).to_string(), "ALL"])),
            2 => drop(client.ok(&["SCRIPT", "FLUSH", ["SYNC", "ASYNC"][seed.within(0, 2) as usize]])),
            3 => switch_guard(&mut seed, &mut client),
            _ => swap_policy(&mut seed, &mut client),
        }
        thread::sleep(seed.millis(5, 60));
    }
    go_on(&mut client, &loads, start_seed);
    let over = stop(loads);
    let faults = judge(&over, &Dump::take(&mut client), &vec![BTreeSet::new(); 4], Broken::Never);
    assert!(faults.is_empty(), "GUARD_SEED={start_seed}\n{faults}");
    server.assert_alive();
}

#[test]
fn flushed_keys() {
    let Some(seconds) = seconds() else { return };
    let _alone = alone();
    let start_seed = seed();
    let mut seed = Seed(start_seed);
    let mut server = Server::builder().config("bull.guard enforce").start();
    let mut client = server.client();
    let mut loads = start(&Kind::ALL, server.port());
    let mut gone = Vec::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while gone.is_empty() || Instant::now() < end {
        let before = acked(&loads);
        limit(&mut client);
        server.wait_until("the loads run", |_| acked(&loads) > before + 100);
        swap_policy(&mut seed, &mut client);
        client
            .ok(&[["FLUSHALL", "FLUSHDB"][seed.within(0, 2) as usize], ["SYNC", "ASYNC"][seed.within(0, 2) as usize]]);
        // What was sent before the flush may come to be told later.
        let marks: Vec<u64> = loads.iter().map(|(_, load)| load.said().marks).collect();
        loads.iter_mut().for_each(|(_, load)| load.mark());
        server.wait_until("all that was sent is told", |_| {
            loads.iter().zip(&marks).all(|((_, load), before)| load.said().marks > *before)
        });
        gone = loads.iter().map(|(_, load)| load.said().sent.keys().copied().collect::<BTreeSet<_>>()).collect();
    }
    go_on(&mut client, &loads, start_seed);
    let over = stop(loads);
    let faults = judge(&over, &Dump::take(&mut client), &gone, Broken::Never);
    assert!(faults.is_empty(), "GUARD_SEED={start_seed}\n{faults}");
    server.assert_alive();
}

fn follows(client: &mut Client) -> bool {
    client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
}

fn is_primary(client: &mut Client) -> bool {
    client.ok(&["ROLE"]).items()[0].text() == "master"
}

/// Without the Python client: it sends again what broke off, and so doubles jobs by itself.
#[test]
fn failovers() {
    let Some(seconds) = seconds() else { return };
    let _alone = alone();
    let start_seed = seed();
    let mut seed = Seed(start_seed);
    let first = Server::builder().config("bull.guard enforce").start();
    let second = Server::builder().config("bull.guard enforce").replica_of(&first).start();
    let mut servers = [first, second];
    servers[1].wait_until("the replica follows", follows);
    let proxy = Proxy::to(servers[0].port());
    let loads = start(&[Kind::V4, Kind::V5, Kind::V6], proxy.port());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0;
    while count == 0 || Instant::now() < end {
        let before = acked(&loads);
        let mut client = servers[0].client();
        limit(&mut client);
        servers[0].wait_until("the loads run", |_| acked(&loads) > before + 60);
        for _ in 0..3 {
            swap_policy(&mut seed, &mut client);
            switch_guard(&mut seed, &mut client);
            thread::sleep(seed.millis(1, 30));
        }
        servers[1].wait_until("the replica follows", follows);
        let to = servers[1].port().to_string();
        client.ok(&["FAILOVER", "TO", "127.0.0.1", &to, "TIMEOUT", "15000"]);
        servers[1].wait_until("the replica is primary", is_primary);
        servers[0].wait_until("the primary is replica", |client| !is_primary(client));
        servers.swap(0, 1);
        proxy.switch(servers[0].port());
        servers.iter_mut().for_each(Server::assert_alive);
        count += 1;
    }
    go_on(&mut servers[0].client(), &loads, start_seed);
    let over = stop(loads);
    servers[1].wait_until("the replica follows", follows);
    let mut client = servers[0].client();
    client.ok(&["SET", "end", "1"]);
    assert_eq!(client.ok(&["WAIT", "1", "10000"]).int(), 1);
    let dumps = [0, 1].map(|at: usize| {
        let mut dump = Dump::take(&mut servers[at].client());
        // These run out by themselves.
        dump.0.retain(|key, _| !key.ends_with(b":stalled-check") && !key.ends_with(b":lock"));
        dump
    });
    let faults = judge(&over, &dumps[0], &vec![BTreeSet::new(); 3], Broken::Always);
    assert!(faults.is_empty(), "GUARD_SEED={start_seed}, {count} failovers\n{faults}");
    assert_same(&dumps[0], &dumps[1], ["primary", "replica"]);
    servers.iter_mut().for_each(Server::assert_alive);
}

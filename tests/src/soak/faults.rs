//! Servers that die, change roles, stand still and reload while real clients work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::checks::{Checks, must_be_sound};
use super::load::{Load, QUEUE, Said};
use super::oracle::{Findings, judge};
use super::proxy::Proxy;
use super::{Row, Seed};
use crate::{Client, Dump, Server};

/// Jobs a second that the load sends.
pub(super) const RATE: u32 = 300;

/// Trims finished jobs again and again, whatever becomes of the server.
pub(super) struct Trims {
    pub(super) port: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Trims {
    pub(super) fn start(port: u16) -> Trims {
        let (port, stop) = (Arc::new(AtomicU16::new(port)), Arc::new(AtomicBool::new(false)));
        let (at, stopped) = (Arc::clone(&port), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut answered = 0;
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(mut client) = Client::connect(at.load(Ordering::Relaxed)) {
                    while let Ok(reply) = client.try_cmd(&["BULL.TRIM", QUEUE, "COMPLETED", "300", "FAILED", "300"]) {
                        answered += u64::from(reply.error().is_none());
                        if stopped.load(Ordering::Relaxed) || reply.code().as_deref() == Some("READONLY") {
                            break;
                        }
                        thread::sleep(Duration::from_millis(30));
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
            answered
        });
        Trims { port, stop, thread: Some(thread) }
    }

    pub(super) fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("one thread").join().expect("the trims' thread")
    }
}

impl Drop for Trims {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub(super) fn verdict(what: &str, seed: u64, found: &Findings, said: &Said) {
    assert!(said.drained, "{what}, seed {seed}: jobs that can run were left: {}", said.left);
    assert!(found.is_clean(), "{what}, seed {seed}:\n{}", found.text());
}

pub(super) fn row(scenario: &'static str, seed: u64, faults: u64, said: &Said, start: Instant, note: String) -> Row {
    // A scenario that found something has panicked.
    Row { scenario, seed, faults, acked: said.acked.len() as u64, took: start.elapsed(), note, ..Row::default() }
}

pub(super) fn must_equal(what: &str, seed: u64, one: &Dump, two: &Dump, names: [&str; 2]) {
    // Throttles of the workers' stalled check and locks run out between one look and the next.
    let lasting = |dump: &Dump| {
        let mut dump = dump.clone();
        dump.0.retain(|key, _| !key.ends_with(b":stalled-check") && !key.ends_with(b":lock"));
        dump
    };
    let diff = lasting(one).diff(&lasting(two), names);
    assert!(diff.is_empty(), "{what}, seed {seed}:\n{diff}");
}

pub(super) fn link_is_up(client: &mut Client) -> bool {
    client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
}

pub(super) fn role(client: &mut Client) -> String {
    let reply = client.ok(&["ROLE"]);
    reply.items()[0].text()
}

/// FAILOVER between two nodes with the module, `count` times, in the middle of adds, work and trims.
pub fn failovers(count: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let first = Server::start();
    let second = Server::builder().replica_of(&first).start();
    second.wait_until("the link is up", link_is_up);
    let proxy = Proxy::to(first.port());
    let load = Load::start(proxy.port(), seed, RATE);
    let trims = Trims::start(first.port());
    let checks = Checks::start(Arc::clone(&trims.port));
    let mut servers = [first, second];
    for _ in 0..count {
        load.wait_for(load.acked() + schedule.within(5, 60) as usize);
        thread::sleep(schedule.millis(0, 30));
        let to = servers[1].port().to_string();
        servers[1].wait_until("the replica follows", link_is_up);
        let reply = servers[0].client().cmd(&["FAILOVER", "TO", "127.0.0.1", &to, "TIMEOUT", "15000"]);
        assert!(reply.error().is_none(), "FAILOVER, seed {seed}: {reply:?}");
        servers[1].wait_until("the replica is primary", |client| role(client) == "master");
        servers[0].wait_until("the primary is replica", |client| role(client) == "slave");
        servers.swap(0, 1);
        proxy.switch(servers[0].port());
        trims.port.store(servers[0].port(), Ordering::Relaxed);
        servers.iter_mut().for_each(Server::assert_alive);
    }
    let checked = checks.stop("failovers", seed);
    let trimmed = trims.stop();
    let said = load.stop();
    let [primary, replica] = &servers;
    let mut client = primary.client();
    replica.wait_until("the link is up", link_is_up);
    client.ok(&["SET", "end", "1"]);
    assert_eq!(client.ok(&["WAIT", "1", "10000"]).int(), 1, "the replica has all, seed {seed}");
    client.ok(&["DEL", "end"]);
    assert_eq!(client.ok(&["WAIT", "1", "10000"]).int(), 1, "the replica has all, seed {seed}");
    let dump = Dump::take(&mut client);
    verdict("failovers", seed, &judge(&dump, QUEUE, &said), &said);
    must_be_sound("failovers", seed, primary);
    must_equal("failovers", seed, &dump, &Dump::take(&mut replica.client()), ["primary", "replica"]);
    row(
        "FAILOVER",
        seed,
        count,
        &said,
        start,
        format!("{trimmed} trims, {checked} checks; {} adds unknown", said.unknown.len()),
    )
}

/// CLIENT PAUSE (ALL and WRITE), reloads of the data set, full and partial resynchronisations of a stock replica, in
/// turns, `count` in all.
pub fn disturbances(count: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let mut server = Server::builder().appendonly(true).config("appendfsync everysec").start();
    let mut replica = Server::builder().with_module(false).replica_of(&server).start();
    replica.wait_until("the link is up", link_is_up);
    let load = Load::start(server.port(), seed, RATE);
    let trims = Trims::start(server.port());
    let checks = Checks::start(Arc::clone(&trims.port));
    for _ in 0..count {
        load.wait_for(load.acked() + schedule.within(5, 40) as usize);
        let mut client = server.client();
        match schedule.within(0, 7) {
            0 => drop(client.ok(&["CLIENT", "PAUSE", &schedule.within(1, 80).to_string(), "ALL"])),
            1 => drop(client.ok(&["CLIENT", "PAUSE", &schedule.within(1, 80).to_string(), "WRITE"])),
            2 => drop(client.ok(&["DEBUG", "RELOAD"])),
            3 => drop(client.ok(&["CLIENT", "KILL", "TYPE", "replica"])),
            4 => drop(client.ok(&["SCRIPT", "FLUSH"])),
            5 => {
                // Refused while one runs, which is as good.
                let _ = client.cmd(&["BGREWRITEAOF"]);
            }
            _ => {
                replica.kill9();
                replica.start_again();
                replica.wait_until("the link is up", link_is_up);
            }
        }
        server.assert_alive();
    }
    let checked = checks.stop("disturbances", seed);
    let trimmed = trims.stop();
    let said = load.stop();
    let mut client = server.client();
    replica.wait_until("the link is up", link_is_up);
    client.ok(&["SET", "end", "1"]);
    assert_eq!(client.ok(&["WAIT", "1", "10000"]).int(), 1, "the replica has all, seed {seed}");
    let dump = Dump::take(&mut client);
    verdict("disturbances", seed, &judge(&dump, QUEUE, &said), &said);
    must_be_sound("disturbances", seed, &server);
    must_equal("disturbances", seed, &dump, &Dump::take(&mut replica.client()), ["primary", "stock replica"]);
    client.ok(&["DEBUG", "RELOAD"]);
    must_equal("disturbances", seed, &dump, &Dump::take(&mut client), ["before", "after the RDB reload"]);
    server.shutdown();
    server.start_again();
    must_equal("disturbances", seed, &dump, &Dump::take(&mut server.client()), ["before", "after the AOF reload"]);
    let note = format!("pauses, reloads, resyncs, SCRIPT FLUSH, AOF rewrites; {trimmed} trims, {checked} checks");
    row("disturbances", seed, count, &said, start, note)
}

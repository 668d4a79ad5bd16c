//! Snapshots and AOF rewrites while policies are compiled and swapped: a child of the server inherits no lock that keeps it
//! from ending, and what it writes is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::checks::{add, load as load_policy};
use crate::soak::faults::must_equal;
use crate::soak::load::QUEUE;
use crate::soak::{Row, Seed};
use crate::{Client, Dump, Server, guests};

/// Children for each of `times`.
const CHILDREN: u64 = 12;

/// # Panics
/// With the seed, where a child does not end within 20 s, fails, or writes something else than is there.
pub fn children(times: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let mut server =
        Server::builder().plain().appendonly(true).config("appendfsync no").config("bull.guard enforce").start();
    let stop = Arc::new(AtomicBool::new(false));
    let loads = [300, 1200].map(|functions| {
        let (port, stopped) = (server.port(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut client = Client::connect(port).expect("a running server");
            let mut done = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                // Another component each time: one that was compiled already costs nothing.
                let component = guests::slow_to_compile(functions + done as usize % 50);
                load_policy(&mut client, &format!("p{functions}"), &["QUEUES", QUEUE], &component);
                done += 1;
            }
            done
        })
    });
    let mut client = server.client();
    let mut jobs = 0;
    for turn in 0..CHILDREN * times {
        for _ in 0..schedule.within(1, 20) {
            add(&mut client, QUEUE, "{}", &[]);
            jobs += 1;
        }
        let (command, running, status) = match turn % 2 {
            0 => ("BGSAVE", "rdb_bgsave_in_progress:1", "rdb_last_bgsave_status:ok"),
            _ => ("BGREWRITEAOF", "aof_rewrite_in_progress:1", "aof_last_bgrewrite_status:ok"),
        };
        client.ok(&[command]);
        server.wait_until("the child has ended", |client| {
            let info = client.ok(&["INFO", "persistence"]).text();
            !info.contains(running) && !info.contains("aof_rewrite_scheduled:1")
        });
        let info = client.ok(&["INFO", "persistence"]).text();
        assert!(info.contains(status), "{command}, seed {seed}: {info}");
    }
    stop.store(true, Ordering::Relaxed);
    let compiled: u64 = loads.into_iter().map(|load| load.join().expect("a load")).sum();
    client.ok(&["BGSAVE"]);
    server.wait_until("the child has ended", |client| {
        client.ok(&["INFO", "persistence"]).text().contains("rdb_bgsave_in_progress:0")
    });
    let dump = Dump::take(&mut client);
    let stock = Server::builder().with_module(false).with_file("dump.rdb", server.dir().join("dump.rdb")).start();
    must_equal("children", seed, &dump, &Dump::take(&mut stock.client()), ["ours", "a stock server from the snapshot"]);
    server.kill9();
    server.start_again();
    must_equal("children", seed, &dump, &Dump::take(&mut server.client()), ["ours", "after a start from the AOF"]);
    let note = format!("BGSAVE and BGREWRITEAOF while {compiled} components were compiled");
    let (faults, took) = (CHILDREN * times, start.elapsed());
    Row { scenario: "children beside compiling", seed, faults, acked: jobs, took, note, ..Row::default() }
}

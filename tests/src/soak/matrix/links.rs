//! Replicas behind a slow network and one that parts: partial and full resynchronisations under load, buffers that
//! overflow. In the end the primary, a replica with the module and one without hold the same.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::await_replicas;
use crate::soak::checks::{Checks, must_be_sound};
use crate::soak::faults::{RATE, Trims, link_is_up, must_equal, row, verdict};
use crate::soak::load::{Load, QUEUE};
use crate::soak::oracle::judge;
use crate::soak::proxy::Proxy;
use crate::soak::{Row, Seed};
use crate::{Client, Dump, Server};

/// Turns of the weather for each of `times`.
const TURNS: u64 = 6;

/// # Panics
/// With the seed, where a job is lost or torn, or where copies differ.
pub fn links(times: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let server = Server::builder()
        .plain()
        .config("repl-timeout 2")
        .config("repl-ping-replica-period 1")
        .config("repl-backlog-size 16kb")
        .config("client-output-buffer-limit replica 256kb 0 0")
        .start();
    let proxy = Proxy::to(server.port());
    let behind = |module: bool| {
        let replica = Server::builder().with_module(module).config("repl-timeout 2");
        replica.config(format!("replicaof 127.0.0.1 {}", proxy.port())).start()
    };
    let replicas = [behind(true), behind(false)];
    replicas.iter().for_each(|replica| replica.wait_until("the link is up", link_is_up));
    let load = Load::start(server.port(), seed, RATE);
    let trims = Trims::start(server.port());
    let checks = Checks::start(Arc::clone(&trims.port));
    for turn in 0..TURNS * times {
        load.wait_for(load.acked() + schedule.within(5, 40) as usize);
        match (turn + schedule.within(0, 2)) % 4 {
            0 => {
                proxy.lag(schedule.millis(1, 50));
                thread::sleep(schedule.millis(100, 400));
            }
            1 => {
                proxy.part();
                thread::sleep(schedule.millis(50, 600));
            }
            2 => {
                // Longer than the timeout of the link.
                proxy.part();
                thread::sleep(Duration::from_millis(3200));
            }
            _ => proxy.switch(server.port()),
        }
        proxy.heal();
    }
    let checked = checks.stop("links", seed);
    let trimmed = trims.stop();
    let said = load.stop();
    // A link that breaks while the copies are read would be no fault of theirs.
    let all = replicas.iter().chain([&server]);
    all.for_each(|server| drop(server.client().ok(&["CONFIG", "SET", "repl-timeout", "60"])));
    replicas.iter().for_each(|replica| replica.wait_until("the link is up", link_is_up));
    let mut client = server.client();
    await_replicas(&mut client, 2, seed);
    let dump = Dump::take(&mut client);
    verdict("links", seed, &judge(&dump, QUEUE, &said), &said);
    must_be_sound("links", seed, &server);
    for (replica, name) in replicas.iter().zip(["a replica", "a replica without the module"]) {
        must_equal("links", seed, &dump, &Dump::take(&mut replica.client()), ["the primary", name]);
    }
    let (full, partial) = (stat(&mut client, "sync_full:"), stat(&mut client, "sync_partial_ok:"));
    let note = format!("{full} full, {partial} partial resynchronisations; {trimmed} trims, {checked} checks");
    row("partitions and lag", seed, TURNS * times, &said, start, note)
}

fn stat(client: &mut Client, name: &str) -> String {
    let info = client.ok(&["INFO", "stats"]).text();
    info.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
}

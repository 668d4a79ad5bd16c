//! How long others wait, without the module's work and beside it: a PING a millisecond on a server at rest, and on one with
//! real clients, trims, a policy that is asked for each add and one that is swapped.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::faults::{RATE, Trims, row};
use super::load::{Load, QUEUE};
use super::{Row, Seed};
use crate::checks::load as load_policy;
use crate::probe::{Latency, Probe};
use crate::{Server, guests};

/// Probes for so many seconds each way.
///
/// # Panics
/// Where the server goes.
pub fn pace(seconds: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let mut server =
        Server::builder().plain().appendonly(true).config("appendfsync everysec").config("bull.guard enforce").start();
    let mut client = server.client();
    let probe = Probe::watching(server.port(), server.process());
    thread::sleep(Duration::from_secs(seconds));
    let idle = probe.stop();
    load_policy(&mut client, "steady", &["QUEUES", QUEUE], &guests::admit_all());
    let load = Load::start(server.port(), seed, RATE);
    let trims = Trims::start(server.port());
    load.wait_for(load.acked() + 50);
    let probe = Probe::watching(server.port(), server.process());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut swaps = 0;
    while Instant::now() < end {
        load_policy(&mut client, "swapped", &["QUEUES", QUEUE], &guests::admitting(swaps));
        swaps += 1;
        thread::sleep(schedule.millis(400, 600));
    }
    let loaded = probe.stop();
    let trimmed = trims.stop();
    let said = load.stop();
    server.assert_alive();
    // A third of the rate: a machine that others use too.
    let least = seconds * u64::from(RATE) / 3;
    assert!(said.acked.len() as u64 > least, "only {} jobs came in {seconds} s, seed {seed}", said.acked.len());
    let note =
        format!("{trimmed} trims, {swaps} policies loaded; own part of the longest wait {:.2} ms", ms(loaded.own));
    let probe = json!([seen("at rest", &idle), seen("under load", &loaded)]);
    Row { probe: Some(probe), ..row("probe of 1 kHz", seed, 0, &said, start, note) }
}

fn ms(long: Duration) -> f64 {
    long.as_secs_f64() * 1000.0
}

fn seen(what: &str, latency: &Latency) -> serde_json::Value {
    let us = |long: Duration| u64::try_from(long.as_micros()).unwrap_or(u64::MAX);
    json!({
        "what": what,
        "samples": latency.samples,
        "p50": us(latency.p50),
        "p99": us(latency.p99),
        "p999": us(latency.p999),
        "max": us(latency.max),
    })
}

//! An AOF that ends anywhere: whatever byte the machine stopped at, no job is torn.
//!
//! redis-check-aof says for each length up to where the file is good, which is what a server with `aof-load-truncated yes`
//! keeps; each such prefix is loaded into a stock server and looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use super::load::{Load, QUEUE};
use super::oracle::structure;
use super::{Row, Seed};
use crate::{Dump, Server};

const FILE: &str = "appendonlydir/appendonly.aof.1.incr.aof";
const CHECKER: &str = "redis-check-aof";

/// Cuts the last `tail` bytes of an AOF of mixed work at each byte.
///
/// # Panics
/// Where a prefix holds a torn job, or redis-check-aof (Debian's redis-tools) is not there.
pub fn truncations(tail: usize, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let server = Server::builder().appendonly(true).config("appendfsync no").start();
    let load = Load::start(server.port(), seed, 300);
    let mut client = server.client();
    let length = || fs::metadata(server.dir().join(FILE)).map_or(0, |data| data.len() as usize);
    while length() < tail + 64 * 1024 {
        load.wait_for(load.acked() + schedule.within(20, 40) as usize);
        let _ = client.cmd(&["BULL.TRIM", QUEUE, "COMPLETED", "50", "FAILED", "50"]);
    }
    drop(load);
    drop(client);
    let whole = fs::read(server.dir().join(FILE)).expect("an AOF");
    let dir = server.dir().to_owned();
    drop(server);

    fs::create_dir_all(&dir).expect("a folder");
    let ends = good_ends(&whole, tail, &dir.join("cut.aof"));
    let cuts = ends.values().sum::<u64>();
    let stock = Server::builder().with_module(false).appendonly(true).start();
    let mut client = stock.client();
    for end in ends.keys() {
        fs::write(stock.dir().join(FILE), &whole[..*end]).expect("an AOF of ours");
        client.ok(&["DEBUG", "LOADAOF"]);
        let found = structure(&Dump::take(&mut client), QUEUE);
        assert!(found.is_clean(), "an AOF cut at byte {end}, seed {seed}:\n{}", found.text());
    }
    let _ = fs::remove_dir_all(dir);
    let note = format!("{} different ends, each loaded by a stock server", ends.len());
    Row { scenario: "AOF cut at each byte", seed, faults: cuts, took: start.elapsed(), note, ..Row::default() }
}

/// Where the file is good up to, by how many of the cuts it is.
fn good_ends(whole: &[u8], tail: usize, path: &Path) -> BTreeMap<usize, u64> {
    let mut ends = BTreeMap::new();
    let shortest = whole.len().saturating_sub(tail);
    fs::write(path, whole).expect("a file of ours");
    let file = fs::OpenOptions::new().write(true).open(path).expect("a file of ours");
    for length in (shortest + 1..=whole.len()).rev() {
        file.set_len(length as u64).expect("a file of ours");
        *ends.entry(good_end(path)).or_insert(0) += 1;
    }
    ends
}

fn good_end(path: &Path) -> usize {
    let output = Command::new(CHECKER)
        .arg(path)
        .output()
        .unwrap_or_else(|error| panic!("{CHECKER} does not run ({error}): install Debian's redis-tools"));
    let text = String::from_utf8_lossy(&output.stdout);
    let good = text.split("ok_up_to=").nth(1).and_then(|rest| rest.split(',').next()?.trim().parse().ok());
    good.unwrap_or_else(|| panic!("{CHECKER} says nothing of the file: {text}"))
}

//! Kills -9 under a real load, by how the server keeps its data: what was acknowledged and must still be there is there
//! once, and what is there is whole.
//!
//! With an AOF, `appendfsync always` loses nothing. `everysec` loses nothing either, since the file is written before the
//! reply, but where a sync that takes long holds the write up: then up to two seconds may go. With RDB alone, what came
//! after the last finished snapshot began may go.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::aof::history;
use super::checks::{Checks, must_be_sound};
use super::faults::{RATE, Trims, must_equal, row, verdict};
use super::load::{Load, QUEUE};
use super::oracle::judge;
use super::{Row, Seed};
use crate::{Client, Dump, Server, workspace};

/// The server holds a write up for a sync so long at most.
const HELD_UP: Duration = Duration::from_secs(2);

/// How the server keeps its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Keeping {
    /// AOF, appendfsync always.
    Always,
    /// AOF, appendfsync everysec.
    EverySecond,
    /// Snapshots that the scenario asks for, and no AOF.
    Snapshots,
}

impl Keeping {
    fn scenario(self) -> &'static str {
        match self {
            Keeping::Always => "kill -9, appendfsync always",
            Keeping::EverySecond => "kill -9, appendfsync everysec",
            Keeping::Snapshots => "kill -9, RDB only",
        }
    }

    fn server(self) -> Server {
        match self {
            Keeping::Always => Server::builder().appendonly(true).config("appendfsync always").start(),
            Keeping::EverySecond => Server::builder().appendonly(true).config("appendfsync everysec").start(),
            Keeping::Snapshots => Server::builder().plain().start(),
        }
    }
}

/// The times between which acknowledgements may be lost: from what the disk has to the kill.
type Gap = (Instant, Instant);

/// Kills the server `count` times.
///
/// # Panics
/// With the seed, where a job is lost that had to be kept, is there twice, or is torn, or where a stock server reads
/// something else from the files.
pub fn kills(count: u64, seed: u64, keeping: Keeping) -> Row {
    let start = Instant::now();
    let scenario = keeping.scenario();
    let mut schedule = Seed(seed);
    let mut server = keeping.server();
    let load = Load::start(server.port(), seed, RATE);
    let trims = Trims::start(server.port());
    let checks = Checks::start(Arc::clone(&trims.port));
    let mut gaps: Vec<Gap> = Vec::new();
    let (mut saved, mut torn) = (start, 0);
    for _ in 0..count {
        if keeping == Keeping::Snapshots {
            saved = snapshot(&mut server.client());
        }
        load.wait_for(load.acked() + schedule.within(5, 60) as usize);
        thread::sleep(schedule.millis(0, 20));
        if keeping == Keeping::Snapshots && schedule.within(0, 3) == 0 {
            // Killed in the middle of a snapshot, the one before counts.
            let _ = server.client().cmd(&["BGSAVE"]);
        }
        let held_up =
            keeping == Keeping::EverySecond && persistence(&mut server.client(), "aof_pending_bio_fsync:") != "0";
        server.kill9();
        let killed = Instant::now();
        // An acknowledgement goes through node and a pipe before it is heard here.
        let heard = load.catch_up();
        match keeping {
            Keeping::EverySecond if held_up => gaps.push((killed - HELD_UP, heard)),
            Keeping::Snapshots => gaps.push((saved, heard)),
            Keeping::Always | Keeping::EverySecond => {}
        }
        server.start_again();
        let cut = server.log().matches("Truncating the AOF").count();
        if cut > torn {
            torn = cut;
            mended(&server);
        }
    }
    let checked = checks.stop(scenario, seed);
    let trimmed = trims.stop();
    let mut said = load.stop();
    let acked = said.acked.len() as u64;
    let dump = Dump::take(&mut server.client());
    let lost = judge(&dump, QUEUE, &said).lost.len();
    let may_go = |at: &Instant| gaps.iter().any(|(from, to)| (from..=to).contains(&at));
    let heard = std::mem::take(&mut said.heard);
    said.acked.retain(|n, _| !may_go(&heard[n]));
    let kept = said.acked.len() as u64;
    let found = judge(&dump, QUEUE, &said);
    if keeping != Keeping::Snapshots {
        tell(&server, seed, &found.lost);
    }
    verdict(scenario, seed, &found, &said);
    must_be_sound(scenario, seed, &server);
    if keeping == Keeping::Snapshots {
        snapshot(&mut server.client());
    }
    server.kill9();
    server.start_again();
    must_equal(scenario, seed, &dump, &Dump::take(&mut server.client()), ["before the last kill", "after it"]);
    let stock = stock_from(&server, keeping);
    must_equal(scenario, seed, &dump, &Dump::take(&mut stock.client()), ["ours", "a stock server from the files"]);
    let note = match keeping {
        Keeping::Always => String::new(),
        _ => format!("{lost} lost of the {} that may be lost; ", acked - kept),
    };
    let note =
        format!("{note}{torn} torn AOFs; {trimmed} trims, {checked} checks; {} adds unknown", said.unknown.len());
    Row { acked, ..row(scenario, seed, count, &said, start, note) }
}

/// A kill in the middle of a write cuts a MULTI in two; until the module's rewrite has ended, the next kill may still find
/// the half that the server left in the file.
fn mended(server: &Server) {
    // A turn of the timer asks for it.
    thread::sleep(Duration::from_millis(50));
    server.wait_until("the AOF is written anew", |client| {
        ["aof_rewrite_in_progress:", "aof_rewrite_scheduled:"].iter().all(|field| persistence(client, field) == "0")
    });
}

/// What the event stream and the AOF say of jobs that are lost. The AOF stays in target/soak.
fn tell(server: &Server, seed: u64, lost: &[String]) {
    let files: Vec<_> = fs::read_dir(server.dir().join("appendonlydir")).into_iter().flatten().flatten().collect();
    let kept = workspace().join(format!("target/soak/failed-{seed}"));
    if !lost.is_empty() && fs::create_dir_all(&kept).is_ok() {
        files.iter().for_each(|file| drop(fs::copy(file.path(), kept.join(file.file_name()))));
        let _ = fs::write(kept.join("log"), server.log());
        eprintln!("the AOF and the server's log are in {}", kept.display());
    }
    for id in lost.iter().take(3).filter_map(|line| line.rsplit(' ').next()) {
        eprintln!("job {id}, by its events:");
        for entry in server.client().ok(&["XRANGE", &format!("{QUEUE}:events"), "-", "+"]).items() {
            let words = entry.items()[1].strings();
            if words.iter().any(|word| word == id) {
                eprintln!("  {} {}", entry.items()[0].text(), words.join(" "));
            }
        }
        eprintln!("and by the AOF:");
        for file in files.iter().filter(|file| file.path().extension().is_some_and(|end| end == "aof")) {
            eprint!("{}", fs::read(file.path()).map_or(String::new(), |whole| history(&whole, QUEUE, id)));
        }
    }
}

/// A field of INFO persistence.
fn persistence(client: &mut Client, name: &str) -> String {
    let info = client.ok(&["INFO", "persistence"]).text();
    let value = info.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap_or_else(|| panic!("INFO persistence has no {name}")).trim().to_owned()
}

/// A finished snapshot, and when it began.
fn snapshot(client: &mut Client) -> Instant {
    let began = Instant::now();
    client.ok(&["BGSAVE"]);
    while persistence(client, "rdb_bgsave_in_progress:") == "1" {
        thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(persistence(client, "rdb_last_bgsave_status:"), "ok");
    began
}

fn stock_from(server: &Server, keeping: Keeping) -> Server {
    let stock = Server::builder().with_module(false);
    match keeping {
        Keeping::Snapshots => stock.with_file("dump.rdb", server.dir().join("dump.rdb")).start(),
        _ => stock.appendonly(true).with_file("appendonlydir", server.dir().join("appendonlydir")).start(),
    }
}

//! A disk that is full: for the AOF, for a snapshot, for the files of policies. Adds are refused before their first write,
//! what was acknowledged stays, reading goes on, and so does all once there is room again.

use std::fs;
use std::time::Instant;

use crate::checks::{load as load_policy, try_load};
use crate::client::{Client, Reply};
use crate::soak::checks::must_be_sound;
use crate::soak::load::{QUEUE, Said};
use crate::soak::oracle::judge;
use crate::soak::{Row, Seed};
use crate::{Dump, Server, guests};

/// So many disks become full for each of `times`: an AOF's, a snapshot's, that of the policies.
///
/// # Panics
/// With the seed, where a job is lost, torn, or written after a refusal, or where the server does not go on.
pub fn disk(times: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let mut acked = 0;
    for _ in 0..times {
        acked += full_aof(&mut schedule, seed);
        acked += full_snapshot(&mut schedule, seed);
        full_policies(seed);
    }
    let note = "of the AOF, of a snapshot, of the policies' files".to_owned();
    Row { scenario: "full disk", seed, faults: 3 * times, acked, took: start.elapsed(), note, ..Row::default() }
}

/// Adds one or five jobs and says what became of each.
fn add(client: &mut Client, schedule: &mut Seed, said: &mut Said) -> Reply {
    let data = |n: u64| format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat((n % 300) as usize));
    let first = said.sent + 1;
    let single = schedule.within(0, 2) == 0;
    let count = if single { 1 } else { 5 };
    said.sent += count;
    let reply = if single {
        client.cmd(&["BULL.ADD", QUEUE, "job", &data(first)])
    } else {
        let jobs = (first..first + count).flat_map(|n| ["job".to_owned(), data(n), "-".to_owned()]);
        client.cmd(&["BULL.MADD".to_owned(), QUEUE.to_owned()].into_iter().chain(jobs).collect::<Vec<_>>())
    };
    let each: Vec<Reply> = match &reply {
        Reply::Array(items) => items.clone(),
        one => vec![one.clone(); count as usize],
    };
    for (n, reply) in (first..).zip(each) {
        match reply.error() {
            Some(text) => drop(said.refused.insert(n, text)),
            None => drop(said.acked.insert(n, reply.text())),
        }
    }
    reply
}

/// Adds until the server says that its disk is full, and sees that nothing changes from there on.
fn until_refused(client: &mut Client, schedule: &mut Seed, said: &mut Said, seed: u64) {
    let full = loop {
        let reply = add(client, schedule, said);
        if reply.error().is_some() {
            break reply;
        }
        assert!(said.sent < 100_000, "the disk is never full, seed {seed}");
    };
    assert_eq!(full.code().as_deref(), Some("MISCONF"), "seed {seed}: {full:?}");
    let before = Dump::take(client);
    for _ in 0..20 {
        assert_eq!(add(client, schedule, said).code().as_deref(), Some("MISCONF"), "seed {seed}");
    }
    let writes: [&[&str]; 4] = [
        &["BULL.TRIM", QUEUE, "WAITING", "0"],
        &["BULL.PROFILE", "SET", QUEUE, "max-jobs", "5"],
        &["BULL.CHECK", QUEUE, "REPAIR"],
        &["BULL.EMERGENCY"],
    ];
    for words in writes {
        let reply = client.cmd(words);
        assert_eq!(reply.code().as_deref(), Some("MISCONF"), "seed {seed}: {words:?} {reply:?}");
    }
    // Reading goes on.
    let stats = client.ok(&["BULL.STATS", QUEUE]);
    assert_eq!(stats.get("waiting").map(|count| count.int()), Some(said.acked.len() as i64), "seed {seed}");
    let diff = before.diff(&Dump::take(client), ["full", "after refusals"]);
    assert!(diff.is_empty(), "seed {seed}: refused, and written:\n{diff}");
}

fn full_aof(schedule: &mut Seed, seed: u64) -> u64 {
    let limit = schedule.within(40_000, 200_000);
    let mut server =
        Server::builder().plain().appendonly(true).config("appendfsync everysec").full_disk_at(limit).start();
    let mut client = server.client();
    let mut said = Said::default();
    until_refused(&mut client, schedule, &mut said, seed);
    server.free_disk();
    goes_on(&mut server, schedule, &mut said, seed);
    // With everysec a write waits up to two seconds for a sync that takes long.
    server.wait_until("all is in the AOF", |client| {
        client.ok(&["INFO", "persistence"]).text().contains("aof_buffer_length:0\r")
    });
    server.kill9();
    server.start_again();
    let dump = Dump::take(&mut server.client());
    let found = judge(&dump, QUEUE, &said);
    assert!(found.is_clean(), "a full AOF, seed {seed}:\n{}", found.text());
    must_be_sound("a full AOF", seed, &server);
    said.acked.len() as u64
}

fn full_snapshot(schedule: &mut Seed, seed: u64) -> u64 {
    // Refusing to write after a failed snapshot needs a save point.
    let mut server = Server::builder().plain().config("save 86400 1").full_disk_at(20_000).start();
    let mut client = server.client();
    let mut said = Said::default();
    while said.acked.len() < 300 {
        add(&mut client, schedule, &mut said);
    }
    client.ok(&["BGSAVE"]);
    server.wait_until("the snapshot has failed", |client| {
        client.ok(&["INFO", "persistence"]).text().contains("rdb_last_bgsave_status:err")
    });
    until_refused(&mut client, schedule, &mut said, seed);
    assert!(!server.dir().join("dump.rdb").exists(), "half a snapshot, seed {seed}");
    server.free_disk();
    client.ok(&["BGSAVE"]);
    goes_on(&mut server, schedule, &mut said, seed);
    let found = judge(&Dump::take(&mut client), QUEUE, &said);
    assert!(found.is_clean(), "a full snapshot, seed {seed}:\n{}", found.text());
    client.ok(&["DEBUG", "RELOAD"]);
    let found = judge(&Dump::take(&mut client), QUEUE, &said);
    assert!(found.is_clean(), "a full snapshot, reloaded, seed {seed}:\n{}", found.text());
    said.acked.len() as u64
}

/// There is room: adds are let in again, and stay.
fn goes_on(server: &mut Server, schedule: &mut Seed, said: &mut Said, seed: u64) {
    server.wait_until("adds are let in again", |client| add(client, schedule, said).error().is_none());
    let mut client = server.client();
    for _ in 0..20 {
        let reply = add(&mut client, schedule, said);
        assert!(reply.error().is_none(), "there is room, seed {seed}: {reply:?}");
    }
    server.assert_alive();
}

/// A component that does not fit: the old policy stays in force and on the disk.
fn full_policies(seed: u64) {
    let small = guests::versioned(1);
    let large =
        guests::Guest::new("large").extra(&format!("(data (i32.const 20000) \"{}\")", "x".repeat(40_000))).build();
    assert!(small.len() < 30_000 && large.len() > 30_000, "{} and {} bytes", small.len(), large.len());
    let mut server = Server::builder().plain().full_disk_at(30_000).start();
    let mut client = server.client();
    load_policy(&mut client, "p", &["ORDER", "7"], &small);
    let info = |client: &mut Client| {
        let reply = client.ok(&["BULL.POLICY", "INFO", "p"]);
        ["digest", "order", "state"].map(|field| reply.get(field).map(|value| value.text()))
    };
    let before = info(&mut client);
    let reply = try_load(&mut client, "p", &["ORDER", "9"], &large);
    assert_eq!(reply.code().as_deref(), Some("BULLPOLICY"), "seed {seed}: {reply:?}");
    assert_eq!(info(&mut client), before, "seed {seed}");
    let temporary = fs::read_dir(server.dir().join("bull-policies")).expect("the policies' folder");
    let names: Vec<_> = temporary.map(|entry| entry.expect("a file").file_name()).collect();
    assert_eq!(names.len(), 2, "left behind, seed {seed}: {names:?}");
    server.restart();
    server.wait_until("the policy is back", |client| info(client)[2].as_deref() == Some("ready"));
    assert_eq!(info(&mut server.client()), before, "seed {seed}");
    server.free_disk();
    load_policy(&mut server.client(), "p", &["ORDER", "9"], &large);
    assert_ne!(info(&mut server.client()), before, "seed {seed}");
}

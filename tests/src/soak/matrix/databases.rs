//! Two databases that change places, reloads, and flushes, while clients of RESP3 add on a server with I/O threads: each
//! acknowledged job is in exactly one database, a flush takes what was there and nothing later, and a stock replica holds
//! the same.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::await_replicas;
use crate::checks::now_ms;
use crate::client::{Client, Reply};
use crate::dump::Value;
use crate::soak::faults::{link_is_up, must_equal};
use crate::soak::load::QUEUE;
use crate::soak::oracle::structure;
use crate::soak::{Row, Seed};
use crate::{Dump, Server};

const ADDERS: usize = 4;
/// Swaps, or flushes, for each of `times`.
const TURNS: u64 = 10;

/// Clients of RESP3 that add until they are stopped.
struct Adders {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicU64>,
    /// The first number that each of them has on its way: those below were answered.
    under_way: Arc<[AtomicU64; ADDERS]>,
    acked: Arc<Mutex<Vec<u64>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Adders {
    fn start(port: u16) -> Adders {
        let (stop, next, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::default());
        let under_way: Arc<[AtomicU64; ADDERS]> = Arc::default();
        let threads = (0..ADDERS)
            .map(|at| {
                let (stop, next, under_way) = (Arc::clone(&stop), Arc::clone(&next), Arc::clone(&under_way));
                let acked: Arc<Mutex<Vec<u64>>> = Arc::clone(&acked);
                thread::spawn(move || {
                    let mut client = Client::connect(port).expect("a running server").resp3();
                    while !stop.load(Ordering::Relaxed) {
                        let first = next.fetch_add(3, Ordering::SeqCst);
                        under_way[at].store(first, Ordering::SeqCst);
                        let data = |n: u64| format!("{{\"n\":{n}}}");
                        let one = taken(&client.cmd(&["BULL.ADD", QUEUE, "job", &data(first)]));
                        let many = ["BULL.MADD", QUEUE, "job", &data(first + 1), "-", "job", &data(first + 2), "-"];
                        let two = taken(&client.cmd(&many));
                        let stats = client.cmd(&["BULL.STATS", QUEUE]);
                        assert!(matches!(stats, Reply::Map(_) | Reply::Error(_)), "RESP3: {stats:?}");
                        let said = [(one, first..first + 1), (two, first + 1..first + 3)];
                        let mut acked = acked.lock().unwrap_or_else(PoisonError::into_inner);
                        acked.extend(said.into_iter().filter(|(taken, _)| *taken).flat_map(|(_, numbers)| numbers));
                        drop(acked);
                        thread::sleep(Duration::from_millis(2));
                    }
                })
            })
            .collect();
        Adders { stop, next, under_way, acked, threads }
    }

    fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("an adder"));
        Arc::try_unwrap(self.acked).expect("no adder is left").into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the jobs were taken. In the middle of a DEBUG RELOAD the server itself refuses, and none of them may be there.
fn taken(reply: &Reply) -> bool {
    if reply.code().as_deref() == Some("LOADING") {
        return false;
    }
    assert!(reply.error().is_none(), "{reply:?}");
    if let Reply::Array(each) = &reply {
        assert!(each.iter().all(|reply| reply.error().is_none()), "{reply:?}");
    }
    true
}

fn servers() -> (Server, Server) {
    let server = Server::builder()
        .plain()
        .appendonly(true)
        .config("appendfsync everysec")
        .config("io-threads 4")
        .config("io-threads-do-reads yes")
        // Clients are answered within each load, not only behind the first 512 KB.
        .config("loading-process-events-interval-bytes 1024")
        .start();
    let replica = Server::builder().with_module(false).replica_of(&server).start();
    replica.wait_until("the link is up", link_is_up);
    (server, replica)
}

/// The numbers of all jobs in a dump.
fn numbers(dump: &Dump) -> Vec<u64> {
    let data = dump.0.values().filter_map(|entry| match &entry.value {
        Value::Hash(fields) => fields.get(&b"data"[..]),
        _ => None,
    });
    data.filter_map(|data| std::str::from_utf8(data).ok()?.strip_prefix("{\"n\":")?.strip_suffix('}')?.parse().ok())
        .collect()
}

/// The dumps of databases 0 and 1, whole, equal on the replica, and counted right by BULL.STATS.
fn look(server: &Server, replica: &Server, what: &str, seed: u64) -> [Dump; 2] {
    await_replicas(&mut server.client(), 1, seed);
    [0, 1].map(|number: usize| {
        let select = |server: &Server| {
            let mut client = server.client();
            client.ok(&["SELECT", &number.to_string()]);
            client
        };
        let (mut client, mut copy) = (select(server), select(replica));
        let dump = Dump::take(&mut client);
        must_equal(what, seed, &dump, &Dump::take(&mut copy), ["the primary", "a stock replica"]);
        let found = structure(&dump, QUEUE);
        assert!(found.is_clean(), "{what}, database {number}, seed {seed}:\n{}", found.text());
        if found.jobs > 0 {
            let stats = client.ok(&["BULL.STATS", QUEUE]);
            assert_eq!(stats.get("waiting").map(|count| count.int()), Some(found.jobs as i64), "{what}, seed {seed}");
            assert_eq!(client.ok(&["BULL.QUEUES"]).strings(), [QUEUE], "{what}, database {number}, seed {seed}");
            let check = client.ok(&["BULL.CHECK", QUEUE]);
            assert_eq!(check.get("found").map(|count| count.int()), Some(0), "{what}, seed {seed}: {check:?}");
        }
        dump
    })
}

/// SWAPDB and DEBUG RELOAD.
///
/// # Panics
/// With the seed, where a job is in no database or in both, or where copies differ.
pub fn databases(times: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let (mut server, replica) = servers();
    let adders = Adders::start(server.port());
    let mut client = server.client();
    for turn in 0..TURNS * times {
        thread::sleep(schedule.millis(5, 60));
        match turn % 5 {
            4 => drop(client.ok(&["DEBUG", "RELOAD"])),
            _ => drop(client.ok(&["SWAPDB", "0", "1"])),
        }
    }
    let acked = adders.stop();
    let dumps = look(&server, &replica, "SWAPDB", seed);
    let mut there: Vec<u64> = dumps.iter().flat_map(numbers).collect();
    there.sort_unstable();
    let mut wanted = acked.clone();
    wanted.sort_unstable();
    assert_eq!(there, wanted, "SWAPDB, seed {seed}: the jobs of both databases, and those acknowledged");
    server.shutdown();
    server.start_again();
    must_equal("SWAPDB", seed, &dumps[0], &Dump::take(&mut server.client()), ["before", "after a start from the AOF"]);
    let note = "SWAPDB, DEBUG RELOAD; io-threads 4, RESP3".to_owned();
    let acked = acked.len() as u64;
    Row { scenario: "databases", seed, faults: TURNS * times, acked, took: start.elapsed(), note, ..Row::default() }
}

/// FLUSHALL and FLUSHDB, at once and in the background.
///
/// # Panics
/// With the seed, where something of before a flush is left, something of after it is gone, or copies differ.
pub fn flushes(times: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let (mut server, replica) = servers();
    let adders = Adders::start(server.port());
    let mut client = server.client();
    let (mut gone, mut unsure) = (0, 0);
    for turn in 0..TURNS * times {
        thread::sleep(schedule.millis(5, 60));
        // Whatever a client that had no core for a while still sends, all numbers below were answered before the flush.
        gone = adders.under_way.iter().map(|first| first.load(Ordering::SeqCst)).min().unwrap_or(0);
        client.ok(&[["FLUSHALL", "FLUSHDB"][turn as usize % 2], ["SYNC", "ASYNC"][schedule.within(0, 2) as usize]]);
        unsure = adders.next.load(Ordering::SeqCst);
    }
    server.wait_until("adds go on", |_| adders.next.load(Ordering::SeqCst) > unsure + 60);
    let acked = adders.stop();
    let [dump, other] = look(&server, &replica, "FLUSHALL", seed);
    assert!(other.0.is_empty(), "FLUSHALL, seed {seed}: nothing wrote to database 1");
    let there = numbers(&dump);
    assert!(
        there.iter().all(|n| *n >= gone),
        "FLUSHALL, seed {seed}: of before {gone} is left {:?}",
        there.iter().min()
    );
    let lost: Vec<_> = acked.iter().filter(|n| **n >= unsure && !there.contains(n)).collect();
    assert!(lost.is_empty(), "FLUSHALL, seed {seed}: added after the flush and gone: {lost:?}");
    assert!(there.len() < acked.len(), "FLUSHALL, seed {seed}: nothing was flushed");
    // A queue that is empty is none, and does not come back by itself.
    client.ok(&["FLUSHALL"]);
    let now = now_ms(&mut client);
    server.wait_until("no queue is left", |client| client.ok(&["BULL.QUEUES"]).items().is_empty());
    assert_eq!(client.cmd(&["BULL.STATS", QUEUE]).code().as_deref(), Some("NOQUEUE"), "seed {seed}, at {now}");
    server.assert_alive();
    let note = "FLUSHALL, FLUSHDB, SYNC and ASYNC; io-threads 4, RESP3".to_owned();
    let acked = acked.len() as u64;
    Row { scenario: "flushes", seed, faults: TURNS * times, acked, took: start.elapsed(), note, ..Row::default() }
}

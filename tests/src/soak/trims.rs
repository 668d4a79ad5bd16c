//! Failovers and pauses in the middle of trims: of one that a client waits for, and of one that the retention began.
//!
//! Each turn fills a queue with finished jobs, some of them the last children of waiting parents in another queue, lets the
//! trim begin, pauses clients, fails over, and lets the new primary finish. Every parent must be let go exactly once.

use std::thread;
use std::time::Instant;

use super::faults::{link_is_up, must_equal, role};
use super::{Row, Seed};
use crate::{Client, Dump, Server};

const QUEUE: &str = "bull:{t}:work";
const PARENTS: &str = "bull:{t}:parents";
/// Finished jobs a turn, one in [`FLOW`] with a parent.
const JOBS: u64 = 8000;
const FLOW: u64 = 40;

/// Who wants the trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A client that calls BULL.TRIM, and calls the new primary again.
    ByClient,
    /// The queue's profile: nobody calls.
    ByProfile,
}

fn fill(client: &mut Client) {
    let script = "local base, parents, flow = KEYS[1], KEYS[2], tonumber(ARGV[2]) \
        for i = 1, ARGV[1] do local id = 'j' .. i local job = base .. id \
        redis.call('HSET', job, 'name', 'n', 'data', '{}', 'opts', '{}', 'finishedOn', i) \
        redis.call('RPUSH', job .. ':logs', 'line') redis.call('ZADD', base .. 'failed', i, id) \
        if i % flow == 0 then local p = parents .. 'p' .. i redis.call('HSET', p, 'name', 'p', 'data', '{}', 'opts', '{}') \
        redis.call('SADD', p .. ':dependencies', job) redis.call('ZADD', parents .. 'waiting-children', i, 'p' .. i) \
        redis.call('HSET', job, 'parentKey', p, 'parent', cjson.encode({id = 'p' .. i, queueKey = KEYS[3]})) end end \
        for _, q in ipairs({base, parents}) do redis.call('HSET', q .. 'meta', 'opts.maxLenEvents', '10000') end";
    let (base, parents) = (format!("{QUEUE}:"), format!("{PARENTS}:"));
    client.ok(&["EVAL", script, "3", &base, &parents, PARENTS, &JOBS.to_string(), &FLOW.to_string()]);
}

fn left(client: &mut Client) -> u64 {
    u64::try_from(client.ok(&["ZCARD", &format!("{QUEUE}:failed")]).int()).unwrap_or(0)
}

fn await_replica(primary: &mut Client, seed: u64) {
    primary.ok(&["SET", "{t}end", "1"]);
    assert_eq!(primary.ok(&["WAIT", "1", "10000"]).int(), 1, "the replica has all, seed {seed}");
}

/// Fails over in the middle of a trim, `count` times.
///
/// # Panics
/// Where a server dies, primary and replica differ, a job is left or half removed, or a parent is not let go once.
pub fn trims(count: u64, seed: u64, wanted: Wanted) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let first = Server::builder().appendonly(true).config("appendfsync no").config("bull.slice-us 60").start();
    let second = Server::builder().config("bull.slice-us 60").replica_of(&first).start();
    second.wait_until("the link is up", link_is_up);
    let mut servers = [first, second];
    let (mut in_the_middle, mut answered) = (0, 0);
    for turn in 0..count {
        let mut client = servers[0].client();
        client.ok(&["FLUSHALL"]);
        fill(&mut client);
        await_replica(&mut client, seed);
        servers[1].wait_until("the replica follows", link_is_up);
        let port = servers[0].port();
        let caller = match wanted {
            Wanted::ByClient => Some(thread::spawn(move || {
                // The connection may be cut when the node becomes a replica.
                let reply = Client::connect(port).ok()?.try_cmd(&["BULL.TRIM", QUEUE, "FAILED", "0"]).ok()?;
                reply.error().is_none().then_some(())
            })),
            Wanted::ByProfile => {
                client.ok(&["BULL.PROFILE", "SET", QUEUE, "keep-failed", "0"]);
                None
            }
        };
        servers[0].wait_until("the trim has begun", |client| left(client) < JOBS);
        thread::sleep(schedule.millis(0, 40));
        let pause = schedule.within(1, 30).to_string();
        match turn % 3 {
            0 => drop(client.ok(&["CLIENT", "PAUSE", &pause, "WRITE"])),
            1 => drop(client.ok(&["CLIENT", "PAUSE", &pause, "ALL"])),
            _ => {}
        }
        let to = servers[1].port().to_string();
        let reply = client.cmd(&["FAILOVER", "TO", "127.0.0.1", &to, "TIMEOUT", "15000"]);
        assert!(reply.error().is_none(), "FAILOVER, seed {seed}: {reply:?}");
        servers[1].wait_until("the replica is primary", |client| role(client) == "master");
        servers[0].wait_until("the primary is replica", |client| role(client) == "slave");
        servers.swap(0, 1);
        let mut client = servers[0].client();
        in_the_middle += u64::from(left(&mut client) > 0);
        answered += u64::from(caller.is_some_and(|caller| caller.join().expect("the caller").is_some()));
        if wanted == Wanted::ByClient {
            let reply = client.ok(&["BULL.TRIM", QUEUE, "FAILED", "0"]);
            assert_eq!(reply.get("done").map(|done| done.int()), Some(1), "seed {seed}: {reply:?}");
        }
        servers[0].wait_until("the new primary has finished", |client| left(client) == 0);
        servers[0].wait_until("no trim is under way", |client| {
            client.ok(&["INFO", "bull"]).text().contains("bull_trims_running:0")
        });
        servers[1].wait_until("the link is up", link_is_up);
        await_replica(&mut client, seed);
        check(&mut client, seed, turn);
        must_equal(
            "failover in mid-trim",
            seed,
            &Dump::take(&mut client),
            &Dump::take(&mut servers[1].client()),
            ["primary", "replica"],
        );
        servers.iter_mut().for_each(Server::assert_alive);
    }
    assert!(in_the_middle * 2 >= count, "only {in_the_middle} of {count} failovers met a trim under way, seed {seed}");
    let scenario = match wanted {
        Wanted::ByClient => "FAILOVER and CLIENT PAUSE in mid-trim",
        Wanted::ByProfile => "FAILOVER and CLIENT PAUSE in mid-retention",
    };
    let note = format!("{in_the_middle} met it under way, {answered} callers were answered before");
    Row { scenario, seed, faults: count, acked: count * JOBS, took: start.elapsed(), note, ..Row::default() }
}

/// Nothing of the finished jobs is left, and each parent waits, once.
fn check(client: &mut Client, seed: u64, turn: u64) {
    let keys = client.ok(&["KEYS", &format!("{QUEUE}:j*")]);
    assert!(keys.items().is_empty(), "seed {seed}, turn {turn}: left are {keys:?}");
    let mut waiting = client.ok(&["LRANGE", &format!("{PARENTS}:wait"), "0", "-1"]).strings();
    let all = waiting.len() as u64;
    waiting.sort_unstable();
    waiting.dedup();
    assert_eq!((all, waiting.len() as u64), (JOBS / FLOW, JOBS / FLOW), "seed {seed}, turn {turn}: parents let go");
    let held = ["waiting-children", "delayed", "prioritized"].map(|state| format!("{PARENTS}:{state}"));
    assert_eq!(client.ok(&["EXISTS", &held[0], &held[1], &held[2]]).int(), 0, "seed {seed}, turn {turn}");
}

/// Failovers from the environment's `TRIM_FAILOVERS`: 50 are the long form.
pub fn turns() -> u64 {
    std::env::var("TRIM_FAILOVERS").ok().and_then(|turns| turns.parse().ok()).unwrap_or(4)
}

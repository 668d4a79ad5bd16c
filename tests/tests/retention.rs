//! Queues stay within their limits by themselves: idle ones too, on primaries only, never while clients are paused.

use bull_tests::checks::{add, finish, load, now_ms};
use bull_tests::client::{Client, Reply};
use bull_tests::dump::Dump;
use bull_tests::server::Server;
use bull_tests::wishes::{Wish, wishing};
use bull_tests::workspace;

const QUEUE: &str = "bull:q";

fn profile(client: &mut Client, queue: &str, limits: &[&str]) {
    client.ok(&[&["BULL.PROFILE", "SET", queue][..], limits].concat());
}

/// Finished jobs made inside the server, one a second, the youngest of this moment.
fn finished(client: &mut Client, queue: &str, state: &str, jobs: u64) {
    let script = "redis.call('HSET', KEYS[1] .. 'meta', 'opts.maxLenEvents', '10000') for i = 1, ARGV[2] do \
        local id = ARGV[1] .. i redis.call('HSET', KEYS[1] .. id, 'name', 'n', 'data', string.rep('x', 500)) \
        redis.call('RPUSH', KEYS[1] .. id .. ':logs', 'line') \
        redis.call('ZADD', KEYS[1] .. ARGV[1], ARGV[3] - (ARGV[2] - i) * 1000, id) end";
    let now = now_ms(client).to_string();
    client.ok(&["EVAL", script, "1", &format!("{queue}:"), state, &jobs.to_string(), &now]);
}

fn count(client: &mut Client, queue: &str, state: &str) -> i64 {
    client.ok(&["ZCARD", &format!("{queue}:{state}")]).int()
}

fn counter(client: &mut Client, name: &str) -> i64 {
    let info = client.ok(&["INFO", "bull"]).text();
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name}")).trim().parse().expect("a number")
}

#[test]
fn an_idle_queue_is_brought_within_each_of_its_limits() {
    let server = Server::start();
    let mut client = server.client();
    finished(&mut client, QUEUE, "completed", 100);
    finished(&mut client, QUEUE, "failed", 100);
    for _ in 0..50 {
        client.ok(&["XADD", "bull:q:events", "*", "event", "added"]);
    }
    profile(&mut client, QUEUE, &["retain-completed", "60s", "keep-failed", "7", "max-events", "20"]);
    server.wait_until("the finished jobs are within their limits", |client| {
        count(client, QUEUE, "completed") <= 60 && count(client, QUEUE, "failed") == 7
    });
    server.wait_until("the events are", |client| client.ok(&["XLEN", "bull:q:events"]).int() <= 20);
    // The newest stayed, and nothing is left of the others.
    assert!(client.ok(&["ZSCORE", "bull:q:failed", "failed94"]) != Reply::Null);
    assert_eq!(client.ok(&["EXISTS", "bull:q:failed93", "bull:q:failed93:logs", "bull:q:completed1"]).int(), 0);
    // As they age they go, without a client that does anything.
    let left = count(&mut client, QUEUE, "completed");
    server.wait_until("another one is too old", |client| count(client, QUEUE, "completed") < left - 1);
    // To a number of bytes.
    finished(&mut client, QUEUE, "completed", 2000);
    profile(&mut client, QUEUE, &["retain-completed", "none", "max-bytes", "500kb"]);
    server.wait_until("the queue is small enough", |client| {
        let stats = client.ok(&["BULL.STATS", QUEUE]);
        let bytes = stats.get("bytes").expect("bytes").text().parse::<i64>().unwrap_or(i64::MAX);
        bytes <= 500 << 10
    });
    let left = count(&mut client, QUEUE, "completed");
    assert!(left > 300, "{left} jobs of 2000 left");
    let stats = client.ok(&["BULL.STATS", QUEUE]);
    let last = stats.get("last-trim").expect("last-trim");
    assert_eq!(last.get("by").expect("by").text(), "retention");
    assert_eq!(stats.get("limits").and_then(|limits| limits.get("keep-failed")).map(|keep| keep.int()), Some(7));
    assert_eq!(counter(&mut client, "bull_trims_failed"), 0);
}

#[test]
fn many_queues_live_by_the_nodes_file() {
    let file = workspace().join("deploy/profiles/tasks.json");
    let server = Server::builder().config(format!("bull.profiles \"{}\"", file.display())).start();
    let mut client = server.client();
    let script = "for q = 1, 300 do local base = KEYS[1] .. q .. ':{tasks:low}:' \
        redis.call('HSET', base .. 'meta', 'opts.maxLenEvents', '10000') for i = 1, 20 do \
        redis.call('HSET', base .. i, 'name', 'n') redis.call('ZADD', base .. 'completed', i % 2 * ARGV[1], i) end end";
    let now = now_ms(&mut client).to_string();
    client.ok(&["EVAL", script, "1", "bull-", &now]);
    server.wait_until("all queues are within their limits", |client| {
        (1..=300).all(|q| count(client, &format!("bull-{q}:{{tasks:low}}"), "completed") == 10)
    });
}

#[test]
fn what_must_stay_stays_and_rests() {
    let server = Server::start();
    let mut client = server.client();
    finished(&mut client, QUEUE, "completed", 5);
    // Like every lock of BullMQ it expires, some time.
    client.ok(&["SET", "bull:q:completed1:lock", "token", "PX", "600000"]);
    client.ok(&["SADD", "bull:q:completed2:dependencies", "bull:q:child"]);
    client.ok(&["HSET", "bull:q:repeat:s:5", "rjk", "s"]);
    client.ok(&["ZADD", "bull:q:completed", "5", "repeat:s:5"]);
    client.ok(&["ZADD", "bull:q:repeat", "5", "s"]);
    let active = add(&mut client, QUEUE, "{}", &[]);
    client.ok(&["LMOVE", "bull:q:wait", "bull:q:active", "RIGHT", "LEFT"]);
    add(&mut client, QUEUE, "{}", &[]);
    profile(&mut client, QUEUE, &["retain-completed", "0", "keep-completed", "0", "max-bytes", "1"]);
    server.wait_until("all that can go is gone", |client| count(client, QUEUE, "completed") == 3);
    let rounds = |client: &mut Client| {
        let stats = client.ok(&["BULL.STATS", QUEUE]);
        stats.get("last-trim").and_then(|last| last.get("at-ms").map(|at| at.int()))
    };
    // Later rounds find the same three and let them be.
    let first = rounds(&mut client);
    server.wait_until("another round", |client| rounds(client) > first);
    let left = client.ok(&["ZRANGE", "bull:q:completed", "0", "-1"]).strings();
    assert_eq!(left, ["repeat:s:5", "completed1", "completed2"]);
    assert_eq!(client.ok(&["LRANGE", "bull:q:active", "0", "-1"]).strings(), [active]);
    assert_eq!(client.ok(&["LLEN", "bull:q:wait"]).int(), 1);
}

#[test]
fn it_is_silent_while_clients_are_paused() {
    let mut server = Server::builder().appendonly(true).start();
    let mut client = server.client();
    let replica = Server::builder().with_module(false).replica_of(&server).start();
    replica.wait_until("the link is up", |client| {
        client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
    });
    finished(&mut client, QUEUE, "completed", 20_000);
    profile(&mut client, QUEUE, &["keep-completed", "0"]);
    server.wait_until("the retention works", |client| count(client, QUEUE, "completed") < 20_000);
    // A pause of all clients ends by itself; one of writers when we have looked.
    for (mode, ms) in [("WRITE", "60000"), ("ALL", "150"), ("WRITE", "60000")] {
        client.ok(&["CLIENT", "PAUSE", ms, mode]);
        if mode == "WRITE" {
            let before = count(&mut client, QUEUE, "completed");
            std::thread::sleep(std::time::Duration::from_millis(80));
            assert_eq!(count(&mut client, QUEUE, "completed"), before, "written while clients were paused");
            client.ok(&["CLIENT", "UNPAUSE"]);
        }
    }
    // The event of its end may come with a later slice than the last job's removal.
    server.wait_until("it is done", |client| client.ok(&["XLEN", "bull:q:events"]).int() == 1);
    assert_eq!(count(&mut client, QUEUE, "completed"), 0);
    // Not WAIT: there may be another replica, which the mode of the suite brings.
    client.ok(&["SET", "end", "1"]);
    replica.wait_until("it has all", |client| client.ok(&["EXISTS", "end"]).int() == 1);
    let diff = Dump::take(&mut client).diff(&Dump::take(&mut replica.client()), ["primary", "replica"]);
    assert_eq!(diff, "");
    server.assert_alive();
}

#[test]
fn a_replica_writes_nothing_until_it_is_the_primary() {
    let mut server = Server::start();
    let mut client = server.client();
    finished(&mut client, QUEUE, "completed", 50);
    let replica = Server::builder().replica_of(&server).start();
    replica.wait_until("the data is here", |client| count(client, QUEUE, "completed") == 50);
    // A queue that only the replica would shorten, had it the right to: the primary's own round waits for its clients.
    client.ok(&["BULL.PROFILE", "SET", QUEUE, "retain-failed", "1d"]);
    client.ok(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let mut other = replica.client();
    other.ok(&["CONFIG", "SET", "replica-read-only", "no"]);
    other.ok(&["HSET", "bull:q:guard:profile", "keep-completed", "10"]);
    let slices = counter(&mut other, "bull_slices");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(count(&mut other, QUEUE, "completed"), 50, "a replica trimmed");
    assert_eq!(counter(&mut other, "bull_background_us"), 0, "after {slices} slices");
    other.ok(&["REPLICAOF", "NO", "ONE"]);
    let done = |client: &mut Client| count(client, QUEUE, "completed") == 10;
    replica.wait_until("the new primary keeps the queue within its limits", done);
    server.assert_alive();
}

#[test]
fn the_retention_leaves_nothing_broken() {
    let server = Server::start();
    let mut client = server.client();
    profile(&mut client, QUEUE, &["keep-completed", "3", "max-events", "50"]);
    for n in 0..30 {
        let id = add(&mut client, QUEUE, &format!("{{\"n\":{n}}}"), &[]);
        let at = now_ms(&mut client);
        finish(&mut client, QUEUE, &id, "completed", at);
    }
    server.wait_until("three are left", |client| count(client, QUEUE, "completed") == 3);
    let check = client.ok(&["BULL.CHECK", QUEUE]);
    assert_eq!(check.get("found").expect("found").int(), 0, "{check:?}");
}

#[test]
fn a_policy_that_trims_at_each_tick_keeps_it_away_from_no_queue() {
    let server = Server::builder().config("bull.tick-ms 100").start();
    let mut client = server.client();
    finished(&mut client, QUEUE, "completed", 100);
    let policy = wishing(&[Wish::TrimEvents { queue: QUEUE.into(), keep: 10 }]).build();
    load(&mut client, "events", &[], &policy);
    server.wait_until("it ticks", |client| {
        client.ok(&["BULL.POLICY", "INFO", "events"]).get("ticks").is_some_and(|ticks| ticks.int() > 3)
    });
    profile(&mut client, QUEUE, &["keep-completed", "7"]);
    server.wait_until("the finished jobs are within their limit", |client| count(client, QUEUE, "completed") == 7);
}

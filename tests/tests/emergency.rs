//! BULL.EMERGENCY: the least important queue first, no more than is needed, never an unfinished job, also over maxmemory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bull_tests::checks::now_ms;
use bull_tests::clients::{node, output};
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Reply, Server};

const DAY_MS: u64 = 86_400_000;

fn field(reply: &Reply, name: &str) -> i64 {
    reply.get(name).unwrap_or_else(|| panic!("no {name} in {reply:?}")).int()
}

/// A queue with jobs that completed so long ago, some that failed, some that wait, logs and events.
fn fill(client: &mut Client, queue: &str, jobs: usize, age_ms: u64) {
    let script = "local q, at = KEYS[1], ARGV[2] \
        redis.call('HSET', q..':meta', 'opts.maxLenEvents', '10000') \
        for i = 1, ARGV[1] do \
          redis.call('HSET', q..':'..i, 'name', 'n', 'data', string.rep('x', 500), 'timestamp', at, 'finishedOn', at) \
          redis.call('RPUSH', q..':'..i..':logs', string.rep('y', 100)) \
          redis.call('XADD', q..':events', '*', 'event', 'completed', 'jobId', i, 'returnvalue', 'null') \
          if i % 4 == 0 then redis.call('ZADD', q..':failed', at, i) else redis.call('ZADD', q..':completed', at, i) end \
        end \
        for i = 1, 50 do \
          redis.call('HSET', q..':w'..i, 'name', 'n', 'data', '{}', 'timestamp', at) \
          redis.call('RPUSH', q..':w'..i..':logs', 'row') \
          redis.call('LPUSH', q..':wait', 'w'..i) \
        end redis.call('ZADD', q..':marker', 0, '0')";
    let at = (now_ms(client) - age_ms).to_string();
    client.ok(&["EVAL", script, "1", queue, &jobs.to_string(), &at]);
}

fn used(client: &mut Client) -> u64 {
    let info = client.ok(&["INFO", "memory"]).text();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("used_memory");
    line.trim().parse().expect("a number")
}

/// Sets maxmemory so that 80 % of it, the target, is `above` bytes less than what is used now.
fn press(client: &mut Client, above: u64) {
    let limit = (used(client) - above) * 100 / 80;
    client.ok(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
}

fn finished(client: &mut Client, queue: &str) -> i64 {
    ["completed", "failed"].map(|set| client.ok(&["ZCARD", &format!("{queue}:{set}")]).int()).iter().sum()
}

fn assert_unfinished_whole(client: &mut Client, queue: &str) {
    assert_eq!(client.ok(&["LLEN", &format!("{queue}:wait")]).int(), 50, "{queue}");
    for id in 1..=50 {
        let keys = [format!("{queue}:w{id}"), format!("{queue}:w{id}:logs")];
        assert_eq!(client.ok(&["EXISTS", &keys[0], &keys[1]]).int(), 2, "{queue}:w{id}");
    }
    let check = client.ok(&["BULL.CHECK", queue]);
    assert_eq!(field(&check, "found"), 0, "{check:?}");
}

const QUEUES: [(&str, Option<&str>); 3] = [("bull:top", Some("1")), ("bull:plain", None), ("bull:low", Some("5"))];

fn three(client: &mut Client, jobs: usize, age_ms: u64) {
    for (queue, priority) in QUEUES {
        fill(client, queue, jobs, age_ms);
        if let Some(priority) = priority {
            client.ok(&["BULL.PROFILE", "SET", queue, "priority", priority]);
        }
    }
}

#[test]
fn the_least_important_queue_pays_and_no_more_goes_than_is_needed() {
    let server = Server::start();
    let mut client = server.client();
    three(&mut client, 6000, 8 * DAY_MS);
    press(&mut client, 1_500_000);
    let reply = client.ok(&["BULL.EMERGENCY"]);
    assert_eq!((field(&reply, "done"), field(&reply, "under-target")), (1, 1), "{reply:?}");
    assert_eq!(reply.get("step").expect("step").text(), "old");
    let left = QUEUES.map(|(queue, _)| finished(&mut client, queue));
    assert_eq!(left[..2], [6000, 6000], "others were left alone");
    assert!(left[2] > 500 && left[2] < 6000, "{left:?}: it went on under its target, or did nothing");
    let rows = reply.get("plan").expect("plan");
    assert_eq!(rows.items().len(), 1);
    assert_eq!(rows.items()[0].get("queue").expect("queue").text(), "bull:low");
    // And on with more to free than that queue has: then the one without a priority, and the most important last.
    let one = field(&reply, "bytes-freed") / (6000 - left[2]);
    press(&mut client, ((left[2] + 1500) * one) as u64);
    client.ok(&["BULL.EMERGENCY"]);
    let left = QUEUES.map(|(queue, _)| finished(&mut client, queue));
    assert_eq!((left[0], left[2]), (6000, 0));
    assert!(left[1] < 6000, "{left:?}");
    for (queue, _) in QUEUES {
        assert_unfinished_whole(&mut client, queue);
    }
}

#[test]
fn harder_steps_follow_in_their_order_and_spare_what_has_not_finished() {
    let server = Server::start();
    let mut client = server.client();
    three(&mut client, 3000, 1000);
    // What each step can free is more than a run is asked for and what else comes and goes in the server's memory.
    let event = "for _ = 1, 3000 do redis.call('XADD', KEYS[1], '*', 'event', 'progress', 'data', ARGV[1]) end";
    for (queue, _) in QUEUES {
        client.ok(&["EVAL", event, "1", &format!("{queue}:events"), &"z".repeat(500)]);
    }
    let mut steps: Vec<String> = Vec::new();
    for _ in 0..80 {
        press(&mut client, 500_000);
        let reply = client.ok(&["BULL.EMERGENCY"]);
        let step = reply.get("step").expect("step").text();
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        if field(&reply, "under-target") == 0 {
            break;
        }
    }
    // All jobs are young: the steps by age find nothing.
    assert_eq!(steps, ["events", "logs", "finished"]);
    for (queue, _) in QUEUES {
        assert_eq!(finished(&mut client, queue), 0);
        // 100 stay, and what BULL.EMERGENCY itself tells QueueEvents.
        assert!(client.ok(&["XLEN", &format!("{queue}:events")]).int() <= 140);
        assert_unfinished_whole(&mut client, queue);
    }
}

#[test]
fn a_dry_run_says_what_would_go_and_writes_nothing() {
    let server = Server::start();
    let mut client = server.client();
    three(&mut client, 4000, 2 * DAY_MS);
    press(&mut client, 5_000_000);
    let before = Dump::take(&mut client);
    let dry = client.ok(&["BULL.EMERGENCY", "DRYRUN", "COMPLETED", "1d", "FAILED", "1d"]);
    assert_same(&before, &Dump::take(&mut client), ["before", "after the dry run"]);
    assert_eq!((field(&dry, "dry-run"), field(&dry, "under-target")), (1, 1), "{dry:?}");
    let wet = client.ok(&["BULL.EMERGENCY", "COMPLETED", "1d", "FAILED", "1d"]);
    for name in ["completed", "bytes-freed"] {
        let (said, went) = (field(&dry, name) as f64, field(&wet, name) as f64);
        assert!((said / went - 1.0).abs() < 0.25, "{name}: {said} said, {went} went: {dry:?} {wet:?}");
    }
    let freed = (field(&wet, "before") - field(&wet, "after")) as f64;
    assert!((field(&wet, "bytes-freed") as f64 / freed - 1.0).abs() < 0.25, "{wet:?}");
}

#[test]
fn without_maxmemory_only_the_first_step_is_done() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, "bull:old", 500, 30 * DAY_MS);
    fill(&mut client, "bull:young", 500, DAY_MS / 2);
    let reply = client.ok(&["BULL.EMERGENCY", "MATCH", "bull:*"]);
    assert_eq!((finished(&mut client, "bull:old"), finished(&mut client, "bull:young")), (0, 500), "{reply:?}");
    assert_eq!(reply.get("target"), Some(Reply::Null));
    assert_eq!((field(&reply, "completed"), field(&reply, "failed"), field(&reply, "events")), (375, 125, 0));
    // The event that tells QueueEvents of it.
    let last = client.ok(&["XREVRANGE", "bull:old:events", "+", "-", "COUNT", "1"]);
    assert_eq!(last.items()[0].items()[1].strings(), ["event", "cleaned", "count", "500"]);
}

#[test]
fn it_works_while_the_server_refuses_writes() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, "bull:q", 5000, 8 * DAY_MS);
    let limit = used(&mut client) - 1_000_000;
    client.ok(&["CONFIG", "SET", "maxmemory", &limit.to_string()]);
    let add = |client: &mut Client| client.cmd(&["BULL.ADD", "bull:q", "job", "{}"]);
    assert_eq!(add(&mut client).code().as_deref(), Some("OOM"));
    let reply = client.ok(&["BULL.EMERGENCY", "TARGET", "70"]);
    assert_eq!((field(&reply, "done"), field(&reply, "under-target")), (1, 1), "{reply:?}");
    assert!(add(&mut client).error().is_none());
    assert!(used(&mut client) < limit * 75 / 100);
}

#[test]
fn stock_workers_go_on_after_it_and_no_unfinished_job_is_lost() {
    let mut server = Server::start();
    let mut command = node("emergency.mjs");
    command.args(["--port", &server.port().to_string()]);
    let (output, text) = output(command);
    println!("{}", text.trim());
    assert!(output.status.success(), "{text}");
    server.assert_alive();
}

#[test]
fn it_can_be_watched_and_stopped_while_others_are_served() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.ok(&["BULL.EMERGENCY", "STATUS"]), Reply::Null);
    assert_eq!(client.cmd(&["BULL.EMERGENCY", "STOP"]).code().as_deref(), Some("ERR"));
    for words in [["STATUS", "DRYRUN"], ["DRYRUN", "STOP"]] {
        let error = client.cmd(&["BULL.EMERGENCY", words[0], words[1]]).error().expect("an error");
        assert!(error.contains("stands alone"), "{error}");
    }
    fill(&mut client, "bull:q", 60_000, 8 * DAY_MS);
    // The shortest slices: it lasts for seconds.
    client.ok(&["CONFIG", "SET", "bull.slice-us", "50"]);
    let mut other = server.client();
    let run = thread::spawn(move || client.cmd(&["BULL.EMERGENCY"]));
    while finished(&mut other, "bull:q") == 60_000 {}
    let status = other.ok(&["BULL.EMERGENCY", "STATUS"]);
    assert_eq!(status.get("state").expect("state").text(), "running");
    assert_eq!(other.cmd(&["BULL.EMERGENCY"]).code().as_deref(), Some("ERR"), "two at a time");
    for _ in 0..20 {
        assert_eq!(other.cmd(&["PING"]), Reply::Simple("PONG".into()));
    }
    other.ok(&["BULL.EMERGENCY", "STOP"]);
    let reply = run.join().expect("the run's client");
    assert_eq!((reply.get("state").expect("state").text(), field(&reply, "done")), ("stopped".into(), 0));
    let left = finished(&mut other, "bull:q");
    assert!(left > 0 && left < 60_000);
    assert_eq!(field(&reply, "completed") + field(&reply, "failed"), 60_000 - left, "{reply:?}");
    let status = other.ok(&["BULL.EMERGENCY", "STATUS"]);
    assert_eq!(status.get("state").expect("state").text(), "stopped");
    assert_unfinished_whole(&mut other, "bull:q");
    // In MULTI one slice is done.
    other.ok(&["MULTI"]);
    other.ok(&["BULL.EMERGENCY"]);
    let replies = other.ok(&["EXEC"]);
    assert_eq!(field(&replies.items()[0], "done"), 0);
    assert!(finished(&mut other, "bull:q") > 0);
}

#[test]
fn it_goes_on_where_others_take_memory_between_its_slices() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, "bull:q", 30_000, 8 * DAY_MS);
    // The shortest slices: others come between all pieces of work.
    client.ok(&["CONFIG", "SET", "bull.slice-us", "50"]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut other = server.client();
        let over = &over;
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                other.ok(&["SETRANGE", "much", "300000", "x"]);
                other.ok(&["DEL", "much"]);
            }
        });
        let replies: Vec<Reply> = (0..20)
            .map(|_| {
                press(&mut client, 400_000);
                client.ok(&["BULL.EMERGENCY"])
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        for reply in replies {
            assert_eq!((field(&reply, "done"), field(&reply, "under-target")), (1, 1), "{reply:?}");
        }
    });
    assert!(finished(&mut client, "bull:q") > 0, "all went: nothing says when it stops");
}

#[test]
fn it_waits_while_clients_are_paused_and_reaches_the_replica() {
    let mut server = Server::builder().appendonly(true).start();
    let replica = Server::builder().with_module(false).replica_of(&server).start();
    replica.wait_until("the link is up", |client| {
        client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
    });
    let mut client = server.client();
    fill(&mut client, "bull:q", 30_000, 8 * DAY_MS);
    let mut other = server.client();
    let run = thread::spawn(move || client.cmd(&["BULL.EMERGENCY"]));
    while finished(&mut other, "bull:q") == 30_000 {}
    for _ in 0..10 {
        other.ok(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        let before = finished(&mut other, "bull:q");
        assert_eq!(finished(&mut other, "bull:q"), before, "a slice ran while clients were paused");
        other.ok(&["CLIENT", "UNPAUSE"]);
    }
    let reply = run.join().expect("the run's client");
    assert_eq!(field(&reply, "done"), 1, "{reply:?}");
    assert_eq!(other.ok(&["WAIT", "1", "10000"]).int(), 1);
    assert_same(&Dump::take(&mut other), &Dump::take(&mut replica.client()), ["the primary", "a stock replica"]);
    server.assert_alive();
}

#[test]
fn only_queues_that_the_caller_may_change_are_touched() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, "bull:a", 100, 30 * DAY_MS);
    fill(&mut client, "bull:b", 100, 30 * DAY_MS);
    client.ok(&["ACL", "SETUSER", "helper", "on", "nopass", "+bull.emergency", "~bull:a*"]);
    client.ok(&["AUTH", "helper", "x"]);
    let reply = client.ok(&["BULL.EMERGENCY"]);
    client.ok(&["AUTH", "default", ""]);
    assert_eq!((finished(&mut client, "bull:a"), finished(&mut client, "bull:b")), (0, 100), "{reply:?}");
}

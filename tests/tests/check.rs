//! BULL.CHECK: what is broken is found and mended, nothing false is found beside live clients, others are served meanwhile.

use bull_tests::checks::{SEEDED, seed};
use bull_tests::clients::{Kind, output};
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Reply, Server};

const JOBS: usize = 60_000;

fn field(reply: &Reply, name: &str) -> i64 {
    reply.get(name).unwrap_or_else(|| panic!("no {name} in {reply:?}")).int()
}

/// Waiting and finished jobs, made inside the server, a hundredth of them without a hash.
fn fill(client: &mut Client, jobs: usize) {
    let script = "redis.call('HSET','bull:q:meta','opts.maxLenEvents','10000','paused','1') \
        for i=1,ARGV[1] do \
        if i % 100 ~= 0 then redis.call('HSET','bull:q:'..i,'name','n','data','{}','timestamp','1') end \
        if i % 2 == 0 then redis.call('LPUSH','bull:q:wait',i) else redis.call('ZADD','bull:q:completed',i,i) end end";
    client.ok(&["EVAL", script, "0", &jobs.to_string()]);
}

/// A script of `tests/bullmq` against a server with the module.
fn run(kind: Kind, only: &str) {
    let mut server = Server::start();
    let mut command = kind.command("check");
    command.args(["--port", &server.port().to_string(), "--only", only]);
    let (output, text) = output(command);
    assert!(output.status.success(), "check.mjs of {kind:?}:\n{text}");
    server.assert_alive();
}

#[test]
fn nothing_false_is_found_beside_live_clients_of_v6() {
    run(Kind::V6, "live");
}

#[test]
fn nothing_false_is_found_beside_live_clients_of_v5() {
    run(Kind::V5, "live");
}

#[test]
fn seeded_damage_is_found_and_mended_and_workers_go_on() {
    run(Kind::V6, "damage");
}

#[test]
fn queues_are_sound_after_every_trim_and_workers_finish_what_is_left() {
    run(Kind::V6, "TRIM");
}

#[test]
fn others_are_served_between_the_slices() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, JOBS);
    // Many short slices: even who seldom has a core comes in between.
    client.ok(&["CONFIG", "SET", "bull.slice-us", "50"]);
    let mut other = server.client();
    let check = std::thread::spawn(move || client.cmd(&["BULL.CHECK", "bull:q", "REPAIR"]));
    let mut served = 0;
    while !check.is_finished() {
        assert_eq!(other.cmd(&["PING"]), Reply::Simple("PONG".into()));
        served += 1;
    }
    let reply = check.join().expect("the check's client");
    let gone = JOBS as i64 / 100;
    assert_eq!((field(&reply, "found"), field(&reply, "dangling-ids"), field(&reply, "repaired")), (gone, gone, gone));
    assert!(reply.get("findings").expect("findings").items().len() == 20, "{reply:?}");
    println!("{served} served");
    assert!(served > 100, "only {served} commands were served beside the check");
    let again = other.ok(&["BULL.CHECK", "bull:q"]);
    assert_eq!((field(&again, "found"), field(&again, "unsure"), field(&again, "done")), (0, 0, 1));
    assert!(field(&again, "examined") > 2 * (JOBS as i64 - gone), "{again:?}");
    assert_eq!(other.ok(&["LLEN", "bull:q:wait"]).int(), JOBS as i64 / 2 - gone);
}

#[test]
fn inside_multi_one_slice_is_done_and_a_limit_ends_it() {
    let server = Server::start();
    let mut client = server.client();
    fill(&mut client, JOBS);
    client.ok(&["MULTI"]);
    client.ok(&["BULL.CHECK", "bull:q"]);
    let replies = client.ok(&["EXEC"]);
    assert_eq!(field(&replies.items()[0], "done"), 0);
    let reply = client.ok(&["BULL.CHECK", "bull:q", "REPAIR", "LIMIT", "3"]);
    assert_eq!((field(&reply, "found"), field(&reply, "repaired")), (3, 3));
}

#[test]
fn a_repair_waits_while_clients_are_paused_and_reaches_the_replica() {
    let mut server = Server::builder().appendonly(true).start();
    let replica = Server::builder().with_module(false).replica_of(&server).start();
    replica.wait_until("the link is up", |client| {
        client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
    });
    let mut client = server.client();
    fill(&mut client, JOBS);
    let mut other = server.client();
    let check = std::thread::spawn(move || client.cmd(&["BULL.CHECK", "bull:q", "REPAIR"]));
    let full = JOBS as i64 / 2;
    while other.ok(&["LLEN", "bull:q:wait"]).int() == full {}
    for _ in 0..10 {
        other.ok(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        let lengths = |client: &mut Client| {
            (client.ok(&["LLEN", "bull:q:wait"]).int(), client.ok(&["ZCARD", "bull:q:completed"]).int())
        };
        let before = lengths(&mut other);
        assert_eq!(lengths(&mut other), before, "a slice wrote while clients were paused");
        other.ok(&["CLIENT", "UNPAUSE"]);
    }
    let reply = check.join().expect("the check's client");
    assert_eq!((field(&reply, "repaired"), field(&reply, "done")), (JOBS as i64 / 100, 1));
    assert_eq!(other.ok(&["WAIT", "1", "10000"]).int(), 1, "the replica has all");
    assert_same(&Dump::take(&mut other), &Dump::take(&mut replica.client()), ["the primary", "a stock replica"]);
    server.restart();
    assert_same(&Dump::take(&mut server.client()), &Dump::take(&mut replica.client()), ["from the AOF", "the replica"]);
}

#[test]
fn what_cannot_be_checked_is_said() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.cmd(&["BULL.CHECK", "bull:none"]).code().as_deref(), Some("NOQUEUE"));
    seed(&mut client);
    client.ok(&["ACL", "SETUSER", "looker", "on", "nopass", "+bull.check", "%R~bull:q", "%R~bull:q:*"]);
    client.ok(&["AUTH", "looker", "x"]);
    assert_eq!(client.cmd(&["BULL.CHECK", SEEDED, "REPAIR"]).code().as_deref(), Some("NOPERM"));
    client.ok(&["AUTH", "default", ""]);
    client.ok(&["DEL", "bull:q:delayed"]);
    client.ok(&["SET", "bull:q:delayed", "x"]);
    assert_eq!(client.cmd(&["BULL.CHECK", SEEDED]).code().as_deref(), Some("WRONGTYPE"));
}

#[test]
fn a_seeded_queue_is_sound() {
    let server = Server::start();
    let mut client = server.client();
    seed(&mut client);
    let reply = client.ok(&["BULL.CHECK", SEEDED]);
    assert_eq!((field(&reply, "found"), field(&reply, "done")), (0, 1), "{reply:?}");
}

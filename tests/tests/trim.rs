//! Trims in slices: others are served in between, nothing is left behind, nothing is written where it must not be.

use bull_tests::client::{Client, Reply, encode};
use bull_tests::server::Server;

const JOBS: usize = 40_000;

/// Finished jobs as BullMQ leaves them, made inside the server.
fn finished(client: &mut Client, jobs: usize) {
    let script = "redis.call('HSET','bull:q:meta','opts.maxLenEvents','10000') \
        for i=1,ARGV[1] do redis.call('HSET','bull:q:'..i,'name','n','data','{}') \
        redis.call('RPUSH','bull:q:'..i..':logs','line') \
        redis.call('ZADD','bull:q:completed',i,i) end";
    let reply = client.cmd(&["EVAL", script, "0", &jobs.to_string()]);
    assert!(!matches!(reply, Reply::Error(_)), "{reply:?}");
}

fn field(reply: &Reply, name: &str) -> i64 {
    reply.get(name).unwrap_or_else(|| panic!("no {name} in {reply:?}")).int()
}

#[test]
fn others_are_served_between_the_slices_and_nothing_is_left() {
    let server = Server::start();
    let mut client = server.client();
    finished(&mut client, JOBS);
    let mut other = server.client();
    let trim = std::thread::spawn(move || client.cmd(&["BULL.TRIM", "bull:q", "COMPLETED", "1d"]));
    let mut served = 0;
    while !trim.is_finished() {
        assert_eq!(other.cmd(&["PING"]), Reply::Simple("PONG".into()));
        served += 1;
    }
    let reply = trim.join().expect("the trim's client");
    assert_eq!((field(&reply, "completed"), field(&reply, "remaining"), field(&reply, "done")), (JOBS as i64, 0, 1));
    assert!(field(&reply, "bytes-freed") > JOBS as i64 * 50);
    assert!(served > 100, "only {served} commands were served beside the trim");
    // The queue's meta and its events.
    assert_eq!(other.cmd(&["DBSIZE"]), Reply::Int(2));
}

#[test]
fn inside_multi_one_slice_is_done() {
    let server = Server::start();
    let mut client = server.client();
    finished(&mut client, JOBS);
    client.cmd(&["MULTI"]);
    client.cmd(&["BULL.TRIM", "bull:q", "COMPLETED", "0"]);
    let Reply::Array(replies) = client.cmd(&["EXEC"]) else { panic!("EXEC failed") };
    let (gone, left) = (field(&replies[0], "completed"), field(&replies[0], "remaining"));
    assert_eq!((gone + left, field(&replies[0], "done")), (JOBS as i64, 0));
    assert!(gone > 0 && left > 0);
    assert_eq!(client.cmd(&["ZCARD", "bull:q:completed"]), Reply::Int(left));
}

#[test]
fn a_trim_waits_while_clients_are_paused_and_the_server_lives() {
    let mut server = Server::builder().appendonly(true).start();
    let mut client = server.client();
    finished(&mut client, JOBS);
    let mut other = server.client();
    let trim = std::thread::spawn(move || client.cmd(&["BULL.TRIM", "bull:q", "COMPLETED", "0"]));
    while other.cmd(&["ZCARD", "bull:q:completed"]) == Reply::Int(JOBS as i64) {}
    for _ in 0..20 {
        other.cmd(&["CLIENT", "PAUSE", "30", "WRITE"]);
        let before = other.cmd(&["ZCARD", "bull:q:completed"]);
        assert_eq!(other.cmd(&["ZCARD", "bull:q:completed"]), before, "a slice ran while clients were paused");
        other.cmd(&["CLIENT", "UNPAUSE"]);
    }
    let reply = trim.join().expect("the trim's client");
    assert_eq!(field(&reply, "done"), 1);
    server.assert_alive();
}

#[test]
fn a_trim_whose_client_left_is_finished() {
    let server = Server::start();
    let mut client = server.client();
    finished(&mut client, JOBS);
    let mut leaving = server.client();
    leaving.send(&encode(&["BULL.TRIM", "bull:q", "COMPLETED", "0"])).expect("sent");
    while client.cmd(&["ZCARD", "bull:q:completed"]) == Reply::Int(JOBS as i64) {}
    drop(leaving);
    while client.cmd(&["EXISTS", "bull:q:completed"]) == Reply::Int(1) {}
    assert_eq!(client.cmd(&["EXISTS", "bull:q:1", "bull:q:1:logs"]), Reply::Int(0));
}

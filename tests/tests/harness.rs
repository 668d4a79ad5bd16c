//! The harness itself, on stock servers: what it finds must be true before anything else is.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bull_tests::dump::assert_same;
use bull_tests::probe::Probe;
use bull_tests::{Client, Dump, Reply, Server};

fn fill(client: &mut Client) {
    client.ok(&["SET", "s", "v", "PX", "600000"]);
    client.ok(&[b"RPUSH".as_slice(), b"l", b"\x00\xff", b"2"]);
    client.ok(&["SADD", "set", "a", "b"]);
    client.ok(&["HSET", "h", "f", "1", "g", "2"]);
    client.ok(&["ZADD", "z", "1.5", "m", "12884901889", "n"]);
    client.ok(&["XADD", "x", "*", "event", "added", "jobId", "1"]);
}

#[test]
fn a_dump_is_the_same_after_a_restart_with_an_aof_and_after_a_kill() {
    let mut server = Server::builder().with_module(false).appendonly(true).start();
    fill(&mut server.client());
    let before = Dump::take(&mut server.client());
    assert_eq!(before.0.len(), 6);
    server.restart();
    assert_same(&before, &Dump::take(&mut server.client()), ["before", "after the restart"]);
    server.kill9();
    server.start_again();
    assert_same(&before, &Dump::take(&mut server.client()), ["before", "after the kill"]);
    server.assert_alive();
}

#[test]
fn a_dump_sees_each_kind_of_change() {
    let server = Server::stock();
    let mut client = server.client();
    let changes: [&[&str]; 7] = [
        &["PERSIST", "s"],
        &["SADD", "set", "c"],
        &["LSET", "l", "1", "3"],
        &["HSET", "h", "g", "3"],
        &["ZADD", "z", "1.6", "m"],
        &["XADD", "x", "*", "event", "waiting", "jobId", "1"],
        &["DEL", "l"],
    ];
    for change in changes {
        client.ok(&["FLUSHALL"]);
        fill(&mut client);
        let before = Dump::take(&mut client);
        client.ok(change);
        let after = Dump::take(&mut client);
        assert_ne!(before, after, "{change:?}");
        assert!(before.diff(&after, ["before", "after"]).contains(&format!("key {}", change[1])), "{change:?}");
    }
}

#[test]
fn a_stock_replica_has_an_equal_dump() {
    let primary = Server::stock();
    let replica = Server::builder().with_module(false).replica_of(&primary).start();
    replica.wait_until("the link is up", |client| {
        client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
    });
    let mut client = primary.client();
    fill(&mut client);
    assert_eq!(client.ok(&["WAIT", "1", "5000"]), Reply::Int(1));
    assert_same(&Dump::take(&mut client), &Dump::take(&mut replica.client()), ["primary", "replica"]);
}

#[test]
fn the_client_speaks_both_protocols_and_sends_raw_bytes() {
    let server = Server::stock();
    let mut old = server.client();
    assert!(matches!(old.cmd(&["HGETALL", "none"]), Reply::Array(_)));
    assert_eq!(old.cmd(&["NOSUCH"]).code().as_deref(), Some("ERR"));
    assert_eq!(old.pipeline(&[vec!["PING"], vec!["ECHO", "a"]]).expect("two replies").len(), 2);
    let mut new = server.client().resp3();
    assert!(matches!(new.cmd(&["CONFIG", "GET", "port"]), Reply::Map(_)));
    assert_eq!(new.cmd(&["GET", "none"]), Reply::Null);
    assert!(matches!(new.cmd(&["SUBSCRIBE", "c"]), Reply::Push(_)));
    old.send(b"*1\r\n$4\r\nPING\r\n").expect("a connection");
    assert_eq!(old.read().expect("a reply"), Reply::Simple("PONG".into()));
}

#[test]
fn the_probe_sees_a_stop_of_the_server() {
    let server = Server::stock();
    let probe = Probe::watching(server.port(), server.process());
    // Long against the time that a probe may have no core.
    server.client().ok(&["DEBUG", "SLEEP", "0.5"]);
    let seen = probe.stop();
    assert!(seen.own >= Duration::from_millis(80), "nobody else had the core: {seen:?}");
    assert!(seen.max >= Duration::from_millis(90), "{seen:?}");
    assert!(seen.p50 <= seen.p99 && seen.p99 <= seen.max, "{seen:?}");
}

#[test]
fn a_crash_fails_the_test_when_the_server_is_dropped() {
    let server = Server::stock();
    assert!(server.client().try_cmd(&["DEBUG", "SEGFAULT"]).is_err());
    server_end(&server);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(server)));
    let text = *dropped.expect_err("a panic").downcast::<String>().expect("a text");
    assert!(text.starts_with("the server crashed"), "{text}");
}

/// Waits for the end of the crash report: nobody listens any more.
fn server_end(server: &Server) {
    while Client::connect(server.port()).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let broken = catch_unwind(|| Server::builder().with_module(false).config("no-such-setting yes").start());
    let text = *broken.expect_err("a panic").downcast::<String>().expect("a text");
    assert!(text.contains("did not start"), "{text}");
}

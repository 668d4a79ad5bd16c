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
    // Many short slices: even who seldom has a core comes in between.
    client.ok(&["CONFIG", "SET", "bull.slice-us", "50"]);
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
    println!("{served} served");
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
fn trims_checks_and_an_emergency_go_on_side_by_side_in_short_slices() {
    let server = Server::start();
    let mut client = server.client();
    finished(&mut client, JOBS / 4);
    let script = "redis.call('HSET', 'bull:r:meta', 'opts.maxLenEvents', '10000') \
        for i = 1, ARGV[1] do redis.call('HSET', 'bull:r:'..i, 'name', 'n', 'data', '{}', 'finishedOn', '1') \
        redis.call('ZADD', 'bull:r:failed', i, i) end";
    client.ok(&["EVAL", script, "0", &(JOBS / 4).to_string()]);
    // One kind of work takes all of a turn.
    client.ok(&["CONFIG", "SET", "bull.slice-us", "50"]);
    client.ok(&["CONFIG", "SET", "maxmemory", "1gb"]);
    // Kept within its profile by the retention, beside the others.
    client.ok(&["BULL.PROFILE", "SET", "bull:r", "keep-failed", "10"]);
    let calls: [&[&str]; 3] =
        [&["BULL.TRIM", "bull:q", "COMPLETED", "0"], &["BULL.CHECK", "bull:q"], &["BULL.EMERGENCY", "DRYRUN"]];
    let callers = calls.map(|words| {
        let mut caller = server.client();
        let words: Vec<String> = words.iter().map(|&word| word.into()).collect();
        std::thread::spawn(move || caller.cmd(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    });
    for caller in callers {
        let reply = caller.join().expect("a caller");
        assert_eq!(field(&reply, "done"), 1, "{reply:?}");
    }
    while client.ok(&["ZCARD", "bull:r:failed"]).int() > 10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
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
        other.ok(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        let before = other.cmd(&["ZCARD", "bull:q:completed"]);
        assert_eq!(other.cmd(&["ZCARD", "bull:q:completed"]), before, "a slice ran while clients were paused");
        other.ok(&["CLIENT", "UNPAUSE"]);
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

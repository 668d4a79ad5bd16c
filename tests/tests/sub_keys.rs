//! A trim looks for the keys of flows and for logs only where the node may have some: in whatever way such a key came, it is
//! found.

use bull_tests::client::{Client, Reply};
use bull_tests::server::Server;

const KEYS: [&str; 5] = [":dependencies", ":processed", ":failed", ":unsuccessful", ":logs"];

fn key(queue: &str, rest: &str) -> String {
    format!("{queue}:{rest}")
}

/// One finished job, `1`.
fn finished(client: &mut Client, queue: &str) {
    client.ok(&["HSET", &key(queue, "meta"), "opts.maxLenEvents", "10000"]);
    client.ok(&["HSET", &key(queue, "1"), "name", "n", "data", "{}"]);
    client.ok(&["ZADD", &key(queue, "completed"), "1", "1"]);
}

/// The scan after a load is over: from now on the node knows.
fn scanned(server: &Server) {
    server.wait_until("the scan is over", |client| {
        client.ok(&["INFO", "bull"]).text().contains("bull_queue_scan_running:0")
    });
}

fn field(reply: &Reply, name: &str) -> i64 {
    reply.get(name).unwrap_or_else(|| panic!("no {name} in {reply:?}")).int()
}

/// Trims all that is finished: a job with children that have not finished stays, and of another nothing does.
#[track_caller]
fn trims_whole(client: &mut Client, queue: &str) {
    let stays = client.ok(&["EXISTS", &key(queue, "1:dependencies")]).int();
    let reply = client.ok(&["BULL.TRIM", queue, "COMPLETED", "0"]);
    assert_eq!((field(&reply, "kept"), field(&reply, "completed")), (stays, 1 - stays), "{queue}: {reply:?}");
    let keys: Vec<String> = KEYS.iter().map(|suffix| key(queue, &format!("1{suffix}"))).collect();
    let words: Vec<&str> = ["EXISTS"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    assert_eq!(client.ok(&words).int(), stays, "{queue}: keys of the job are left");
    assert_eq!(client.ok(&["EXISTS", &key(queue, "1")]).int(), stays, "{queue}");
}

/// The ways in which a client makes a set or a hash of a flow under the name `$KEY`.
const WAYS: [&[&[&str]]; 9] = [
    &[&["SADD", "$KEY", "bull:child:1"]],
    &[&["HSET", "$KEY", "bull:child:1", "null"]],
    &[&["EVAL", "return redis.call('HSET', KEYS[1], 'bull:child:1', 'null')", "1", "$KEY"]],
    &[&["MULTI"], &["SADD", "$KEY", "bull:child:1"], &["EXEC"]],
    &[&["SADD", "plain", "x"], &["RENAME", "plain", "$KEY"]],
    &[&["HSET", "plain-hash", "x", "y"], &["COPY", "plain-hash", "$KEY"]],
    &[&["SADD", "one", "x"], &["SUNIONSTORE", "$KEY", "one"]],
    &[&["SELECT", "1"], &["HSET", "$KEY", "x", "y"], &["MOVE", "$KEY", "0"], &["SELECT", "0"]],
    &[&["SADD", "away", "x"], &["SMOVE", "away", "$KEY", "x"]],
];

/// The ways in which a client makes a list of logs.
const LOGS: [&[&[&str]]; 8] = [
    &[&["RPUSH", "$KEY", "line"]],
    &[&["EVAL", "return redis.call('RPUSH', KEYS[1], 'line')", "1", "$KEY"]],
    &[&["MULTI"], &["LPUSH", "$KEY", "line"], &["EXEC"]],
    &[&["RPUSH", "plain-list", "x", "y"], &["LMOVE", "plain-list", "$KEY", "LEFT", "RIGHT"]],
    &[&["RENAME", "plain-list", "$KEY"]],
    &[&["RPUSH", "other-list", "x"], &["COPY", "other-list", "$KEY"]],
    &[&["SORT", "other-list", "ALPHA", "STORE", "$KEY"]],
    &[&["SELECT", "1"], &["RPUSH", "$KEY", "x"], &["MOVE", "$KEY", "0"], &["SELECT", "0"]],
];

#[test]
fn logs_are_found_however_they_came() {
    let server = Server::builder().plain().start();
    let mut client = server.client();
    scanned(&server);
    for (number, way) in LOGS.iter().enumerate() {
        let queue = format!("bull:{{logs-{number}}}");
        finished(&mut client, &queue);
        let name = key(&queue, "1:logs");
        for command in *way {
            let words: Vec<&str> =
                command.iter().map(|word| if *word == "$KEY" { name.as_str() } else { *word }).collect();
            client.ok(&words);
        }
        assert_eq!(client.ok(&["EXISTS", &name]).int(), 1, "{way:?}");
        trims_whole(&mut client, &queue);
    }
    let Reply::Bulk(dump) = client.ok(&["DUMP", "other-list"]) else { panic!("no dump") };
    finished(&mut client, "bull:restored");
    client.ok(&[&b"RESTORE"[..], b"bull:restored:1:logs", b"0", &dump]);
    trims_whole(&mut client, "bull:restored");
}

#[test]
fn keys_of_flows_are_found_however_they_came() {
    // A cluster has one database, and keys of one slot in a command.
    let server = Server::builder().plain().start();
    let mut client = server.client();
    scanned(&server);
    for (number, way) in WAYS.iter().enumerate() {
        for suffix in [":dependencies", ":processed", ":failed"] {
            let queue = format!("bull:{{way-{number}}}:{}", &suffix[1..]);
            finished(&mut client, &queue);
            let name = key(&queue, &format!("1{suffix}"));
            for command in *way {
                let words: Vec<&str> =
                    command.iter().map(|word| if *word == "$KEY" { name.as_str() } else { *word }).collect();
                client.ok(&words);
            }
            trims_whole(&mut client, &queue);
        }
    }
    // A parent whose last child failed: the set went, what stays of it is the sorted set.
    let queue = "bull:q";
    finished(&mut client, queue);
    client.ok(&["SADD", "bull:q:1:dependencies", "bull:child:1"]);
    client.ok(&["SREM", "bull:q:1:dependencies", "bull:child:1"]);
    client.ok(&["ZADD", "bull:q:1:unsuccessful", "1", "bull:child:1"]);
    trims_whole(&mut client, queue);
    // A key whose value is restored.
    let dump = client.ok(&["DUMP", "plain-hash"]);
    let Reply::Bulk(dump) = dump else { panic!("{dump:?}") };
    finished(&mut client, "bull:restored");
    client.ok(&[&b"RESTORE"[..], b"bull:restored:1:unsuccessful", b"0", &dump]);
    trims_whole(&mut client, "bull:restored");
}

#[test]
fn they_are_found_after_loads_and_swaps_and_on_a_new_primary() {
    let mut server = Server::builder().appendonly(true).start();
    let mut client = server.client();
    scanned(&server);
    let fill = |client: &mut Client, queue: &str| {
        finished(client, queue);
        client.ok(&["HSET", &key(queue, "1:processed"), "bull:child:1", "null"]);
        client.ok(&["ZADD", &key(queue, "1:unsuccessful"), "1", "bull:child:2"]);
        client.ok(&["RPUSH", &key(queue, "1:logs"), "line"]);
    };
    for queue in ["bull:at-once", "bull:scanned", "bull:reloaded", "bull:followed", "bull:{x}"] {
        fill(&mut client, queue);
    }
    // Others, so that the scan takes a while.
    let others = "for i = 1, 20000 do redis.call('SET', 'other:' .. i, 'x') end";
    client.ok(&["EVAL", others, "0"]);
    server.restart();
    let mut client = server.client();
    trims_whole(&mut client, "bull:at-once");
    scanned(&server);
    trims_whole(&mut client, "bull:scanned");
    client.ok(&["DEBUG", "RELOAD"]);
    scanned(&server);
    trims_whole(&mut client, "bull:reloaded");

    let replica = Server::builder().replica_of(&server).config("save ''").start();
    replica.wait_until("it follows", |client| client.cmd(&["EXISTS", "bull:followed:1"]) == Reply::Int(1));
    scanned(&replica);
    fill(&mut client, "bull:streamed");
    replica.wait_until("it hears", |client| client.cmd(&["EXISTS", "bull:streamed:1:unsuccessful"]) == Reply::Int(1));
    let mut new = replica.client();
    new.ok(&["REPLICAOF", "NO", "ONE"]);
    for queue in ["bull:followed", "bull:streamed"] {
        trims_whole(&mut new, queue);
    }
    // A load of nothing: all that comes then is told of.
    new.ok(&["FLUSHALL"]);
    fill(&mut new, "bull:after");
    trims_whole(&mut new, "bull:after");
}

#[test]
fn what_has_no_flows_is_trimmed_by_the_same_rules() {
    let server = Server::start();
    let mut client = server.client();
    scanned(&server);
    for (id, also) in [("1", "lock"), ("2", "logs"), ("3", "")] {
        client.ok(&["HSET", "bull:q:meta", "opts.maxLenEvents", "10000"]);
        client.ok(&["HSET", &format!("bull:q:{id}"), "name", "n"]);
        client.ok(&["ZADD", "bull:q:completed", id, id]);
        match also {
            "lock" => drop(client.ok(&["SET", "bull:q:1:lock", "token", "PX", "100000"])),
            "logs" => drop(client.ok(&["RPUSH", "bull:q:2:logs", "line"])),
            _ => {}
        }
    }
    let reply = client.ok(&["BULL.TRIM", "bull:q", "COMPLETED", "0"]);
    assert_eq!((field(&reply, "kept"), field(&reply, "completed")), (1, 2), "a locked job stays: {reply:?}");
    assert_eq!(client.ok(&["EXISTS", "bull:q:2:logs", "bull:q:2", "bull:q:3"]).int(), 0);
    client.ok(&["DEL", "bull:q:1:lock"]);
    let reply = client.ok(&["BULL.TRIM", "bull:q", "COMPLETED", "0"]);
    assert_eq!((field(&reply, "kept"), field(&reply, "completed")), (0, 1), "{reply:?}");
}

//! Profiles: what is in force is the queue's own hash over the node's file, whoever changes it and however.

use bull_tests::client::{Client, Reply};
use bull_tests::server::Server;
use bull_tests::workspace;

fn limit(client: &mut Client, queue: &str, field: &str) -> Option<i64> {
    let reply = client.ok(&["BULL.PROFILE", "GET", queue]);
    match reply.get(field).unwrap_or_else(|| panic!("no {field} in {reply:?}")) {
        Reply::Null => None,
        value => Some(value.int()),
    }
}

fn with_file() -> Server {
    let file = workspace().join("deploy/profiles/tasks.json");
    Server::builder().config(format!("bull.profiles \"{}\"", file.display())).start()
}

#[test]
fn the_specifications_queues_have_their_limits_without_a_profile() {
    let server = with_file();
    let mut client = server.client();
    for queue in ["bull:{tasks:normal}", "bull:{tasks-normal}", "other:{tasks:normal}"] {
        assert_eq!(limit(&mut client, queue, "priority"), Some(3), "{queue}");
        assert_eq!(limit(&mut client, queue, "max-jobs"), Some(200_000));
        assert_eq!(limit(&mut client, queue, "retain-completed"), Some(3 * 86_400_000));
        assert_eq!(limit(&mut client, queue, "retain-failed"), Some(14 * 86_400_000));
    }
    assert_eq!(limit(&mut client, "bull:else", "priority"), None);
    assert!(client.cmd(&["CONFIG", "SET", "bull.profiles", ""]).error().is_some(), "it is set at load only");
}

#[test]
fn each_way_in_which_a_profile_changes_is_seen() {
    let server = with_file();
    let mut client = server.client();
    let (queue, key) = ("bull:{tasks:high}", "bull:{tasks:high}:guard:profile");
    let expect = |client: &mut Client, wanted: i64, what: &str| {
        assert_eq!(limit(client, queue, "max-jobs"), Some(wanted), "after {what}");
    };
    let steps: &[(&[&str], i64)] = &[
        (&["PING"], 50_000),
        (&["BULL.PROFILE", "SET", queue, "max-jobs", "7", "max-bytes", "1mb"], 7),
        (&["HSET", key, "max-jobs", "8"], 8),
        (&["HDEL", key, "max-jobs"], 50_000),
        (&["HSET", key, "max-jobs", "9"], 9),
        (&["DEL", key], 50_000),
        (&["EVAL", "redis.call('HSET',KEYS[1],'max-jobs','10')", "1", key], 10),
        (&["RENAME", key, "bull:elsewhere"], 50_000),
        (&["COPY", "bull:elsewhere", key], 10),
        (&["MOVE", key, "3"], 50_000),
        (&["RENAME", "bull:elsewhere", key], 10),
        (&["BULL.PROFILE", "DEL", queue, "max-jobs"], 50_000),
        (&["BULL.PROFILE", "SET", queue, "max-jobs", "11"], 11),
        (&["SWAPDB", "0", "3"], 10),
        (&["SWAPDB", "0", "3"], 11),
        (&["UNLINK", key], 50_000),
        (&["BULL.PROFILE", "SET", queue, "max-jobs", "12"], 12),
        (&["FLUSHALL", "ASYNC"], 50_000),
        (&["BULL.PROFILE", "SET", queue, "max-jobs", "13"], 13),
        (&["BULL.PROFILE", "DEL", queue], 50_000),
    ];
    for (step, wanted) in steps {
        client.ok(step);
        // Valkey 8.1 leaves a client in the other database after MOVE where a module listens to keyspace events.
        client.ok(&["SELECT", "0"]);
        expect(&mut client, *wanted, &step.join(" "));
    }
    client.ok(&["HSET", key, "max-jobs", "14"]);
    let dump = client.ok(&["DUMP", key]);
    expect(&mut client, 14, "HSET");
    client.ok(&["DEL", key]);
    expect(&mut client, 50_000, "DEL");
    client.ok(&[b"RESTORE", key.as_bytes(), b"0", dump.bytes()]);
    expect(&mut client, 14, "RESTORE");
    client.ok(&["PEXPIRE", key, "20"]);
    server.wait_until("the profile expires", |client| limit(client, queue, "max-jobs") == Some(50_000));
}

#[test]
fn a_replica_and_a_restart_know_the_profile() {
    let mut server = Server::builder().appendonly(true).start();
    server.client().ok(&["BULL.PROFILE", "SET", "bull:q", "keep-failed", "5", "retain-failed", "1d"]);
    let replica = Server::builder().replica_of(&server).start();
    replica.wait_until("the profile is here", |client| limit(client, "bull:q", "keep-failed") == Some(5));
    server.client().ok(&["BULL.PROFILE", "SET", "bull:q", "keep-failed", "6"]);
    replica.wait_until("the change is here", |client| limit(client, "bull:q", "keep-failed") == Some(6));
    replica.client().ok(&["REPLICAOF", "NO", "ONE"]);
    replica.client().ok(&["BULL.PROFILE", "SET", "bull:q", "keep-failed", "none"]);
    assert_eq!(limit(&mut replica.client(), "bull:q", "keep-failed"), None);
    server.restart();
    assert_eq!(limit(&mut server.client(), "bull:q", "keep-failed"), Some(6));
    assert_eq!(limit(&mut server.client(), "bull:q", "retain-failed"), Some(86_400_000));
}

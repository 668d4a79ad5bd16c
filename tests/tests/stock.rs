//! What the module writes belongs to stock servers too: they open its RDB and its AOF, follow it as
//! replicas, and never hear a command that they do not know.

use std::fs;
use std::path::Path;

use bull_tests::checks::{add, commands, finish, now_ms};
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Reply, Server};

const QUEUES: [&str; 2] = ["bull:emails", "bull:{tasks:critical}"];
const PARENT: &str = r#"{"parent":{"id":"p1","queue":"QUEUE"},"failParentOnFailure":true}"#;

/// Adds of all kinds, finished jobs, and trims, in two queues.
fn mixed(client: &mut Client) {
    for queue in QUEUES {
        for n in 0..5 {
            add(client, queue, &format!(r#"{{"n":{n},"text":"\u4e00 é"}}"#), &[]);
        }
        add(client, queue, "{}", &["LIFO"]);
        add(client, queue, "[]", &["DELAY", "1h", "OPTS", r#"{"attempts":3,"backoff":500}"#]);
        add(client, queue, "1", &["PRIORITY", "7"]);
        add(client, queue, "2", &["PRIORITY", "3", "TIMESTAMP", "1795000000000"]);
        add(client, queue, "null", &["ID", "order-1"]);
        add(client, queue, "null", &["id", "order-1"]);
        for options in [
            r#"{"deduplication":{"id":"simple"}}"#,
            r#"{"deduplication":{"id":"ttl","ttl":600000,"extend":true}}"#,
            r#"{"delay":60000,"deduplication":{"id":"replace","ttl":600000,"replace":true}}"#,
        ] {
            add(client, queue, "{}", &["OPTS", options]);
            add(client, queue, "{}", &["OPTS", options]);
        }
        add(client, queue, "{}", &["ID", "p1"]);
        add(client, queue, "{}", &["OPTS", &PARENT.replace("QUEUE", queue)]);
        if commands(client).contains("bull.madd") {
            let many = ["BULL.MADD", queue, "a", "1", "-", "b", "not json", "-", "c", "3", r#"{"delay":5000}"#];
            let replies = client.ok(&many);
            assert!(matches!(replies.items(), [Reply::Bulk(_), Reply::Error(_), Reply::Bulk(_)]), "{replies:?}");
        }

        let now = now_ms(client);
        for (id, state, age) in [("1", "completed", 9000), ("2", "completed", 1000), ("3", "failed", 9000)] {
            finish(client, queue, id, state, now - age);
        }
        client.ok(&["BULL.TRIM", queue, "COMPLETED", "5s", "FAILED", "5s"]);
        let left = |client: &mut Client, id: &str| {
            client.ok(&["EXISTS", &format!("{queue}:{id}"), &format!("{queue}:{id}:logs")]).int()
        };
        assert_eq!(["1", "2", "3"].map(|id| left(client, id)), [0, 2, 0], "left by the trim of {queue}");
    }
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.expect("a readable folder").path());
    paths.map(|path| (path.display().to_string(), fs::read(&path).expect("a readable file"))).collect()
}

fn assert_no_module_command(dir: &Path) {
    for (name, bytes) in files(dir) {
        let found = bytes.to_ascii_lowercase().windows(5).position(|window| window == b"bull.");
        assert_eq!(found, None, "{name} has a command of the module");
    }
}

#[test]
fn a_stock_server_opens_the_rdb() {
    let mut server = Server::start();
    let mut client = server.client();
    mixed(&mut client);
    client.ok(&["SAVE"]);
    let ours = Dump::take(&mut client);
    let stock = Server::builder().with_module(false).with_file("dump.rdb", server.dir().join("dump.rdb")).start();
    assert_same(&ours, &Dump::take(&mut stock.client()), ["ours", "stock from the RDB"]);
    server.assert_alive();
}

#[test]
fn a_stock_server_opens_the_aof() {
    let mut server = Server::builder().appendonly(true).start();
    let mut client = server.client();
    mixed(&mut client);
    let ours = Dump::take(&mut client);
    let folder = server.dir().join("appendonlydir");
    assert_no_module_command(&folder);
    let stock = || Server::builder().with_module(false).appendonly(true).with_file("appendonlydir", &folder).start();
    assert_same(&ours, &Dump::take(&mut stock().client()), ["ours", "stock from the AOF"]);

    client.ok(&["BGREWRITEAOF"]);
    server.wait_until("the AOF is rewritten", |client| {
        let info = client.ok(&["INFO", "persistence"]).text();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    });
    assert_no_module_command(&folder);
    assert_same(&ours, &Dump::take(&mut stock().client()), ["ours", "stock from the rewritten AOF"]);
    server.assert_alive();
}

#[test]
fn our_own_aof_and_a_kill_lose_nothing() {
    let mut server = Server::builder().appendonly(true).start();
    mixed(&mut server.client());
    let before = Dump::take(&mut server.client());
    server.kill9();
    server.start_again();
    assert_same(&before, &Dump::take(&mut server.client()), ["before the kill", "after it"]);
}

#[test]
fn a_stock_replica_follows() {
    let primary = Server::start();
    let mut client = primary.client();
    // Some jobs travel with the first synchronisation, the others one by one.
    add(&mut client, "bull:first", "{}", &[]);
    let mut replica = Server::builder().with_module(false).replica_of(&primary).start();
    let up = |client: &mut Client| client.ok(&["INFO", "replication"]).text().contains("master_link_status:up");
    replica.wait_until("the link is up", up);
    mixed(&mut client);
    assert_eq!(client.ok(&["WAIT", "1", "10000"]), Reply::Int(1), "the replica has all");
    assert_same(&Dump::take(&mut client), &Dump::take(&mut replica.client()), ["primary", "replica"]);
    assert!(up(&mut replica.client()), "the link is still up");
    let offset = |client: &mut Client, field: &str| {
        let info = client.ok(&["INFO", "stats"]).text();
        info.lines().find_map(|line| line.strip_prefix(field).map(str::to_owned)).expect("a field of INFO stats")
    };
    assert_eq!(offset(&mut client, "sync_full:"), "1", "the replica synchronised once only");
    assert_eq!(offset(&mut replica.client(), "unexpected_error_replies:"), "0");
    replica.assert_alive();
}

#[test]
fn a_replica_with_the_module_refuses_writes() {
    let primary = Server::start();
    let mut replica = Server::builder().replica_of(&primary).start();
    replica.wait_until("the link is up", |client| {
        client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
    });
    let mut client = replica.client();
    for command in [vec!["BULL.ADD", "bull:q", "job", "{}"], vec!["BULL.TRIM", "bull:q", "COMPLETED", "0"]] {
        assert_eq!(client.cmd(&command).code().as_deref(), Some("READONLY"), "{command:?}");
    }
    assert!(Dump::take(&mut client).0.is_empty());
    replica.assert_alive();
}

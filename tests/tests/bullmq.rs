//! Unmodified BullMQ clients from npm against this module: the scripts of `tests/bullmq`, each on a
//! server of its own.

use bull_tests::clients::{node, output};
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Server};

/// Runs a script against the server; its whole output is the failure's text.
fn run(server: &mut Server, script: &str, words: &[&str]) {
    let mut command = node(script);
    command.args(["--port", &server.port().to_string()]).args(words);
    let (output, text) = output(command);
    let wrong: Vec<&str> = text.lines().filter(|line| !line.starts_with("ok  ")).collect();
    assert!(output.status.success(), "{script} {words:?}:\n{}", wrong.join("\n"));
    server.assert_alive();
}

#[test]
fn bullmq_agrees_with_itself() {
    let mut stock = Server::stock();
    run(&mut stock, "add-differential.mjs", &["--oracle"]);
    run(&mut stock, "worker.mjs", &["--oracle"]);
}

#[test]
fn a_native_add_leaves_what_bullmq_leaves() {
    run(&mut Server::start(), "add-differential.mjs", &[]);
}

#[test]
fn workers_of_v6_run_native_jobs() {
    run(&mut Server::start(), "worker.mjs", &["--client", "bullmq"]);
}

#[test]
fn workers_of_v5_run_native_jobs() {
    run(&mut Server::start(), "worker.mjs", &["--client", "bullmq5"]);
}

#[test]
fn jobs_of_v4_are_counted_and_trimmed() {
    run(&mut Server::start(), "worker.mjs", &["--client", "bullmq4"]);
}

/// Database 0 is what BullMQ left, database 1 what this module left.
fn both(client: &mut Client) -> [Dump; 2] {
    ["0", "1"].map(|database| {
        client.ok(&["SELECT", database]);
        Dump::take(client)
    })
}

fn assert_copy(left: &[Dump; 2], right: &[Dump; 2], name: &str) {
    for (left, right) in left.iter().zip(right) {
        assert_same(left, right, ["the primary", name]);
    }
}

#[test]
fn random_jobs_leave_what_bullmq_leaves_here_and_in_every_copy() {
    let mut server = Server::builder().appendonly(true).config("appendfsync everysec").start();
    let mut replica = Server::builder().with_module(false).replica_of(&server).start();
    let up = |client: &mut Client| client.ok(&["INFO", "replication"]).text().contains("master_link_status:up");
    replica.wait_until("the link is up", up);
    run(&mut server, "random-differential.mjs", &["--jobs", "2400"]);

    let mut client = server.client();
    assert_eq!(client.ok(&["WAIT", "1", "10000"]).int(), 1, "the replica has all");
    let primary = both(&mut client);
    assert!(primary.iter().all(|dump| dump.0.len() > 1000), "both sides hold the jobs of the run");
    assert_copy(&primary, &both(&mut replica.client()), "a stock replica");
    replica.assert_alive();

    client.ok(&["SAVE"]);
    let from_rdb = Server::builder().with_module(false).with_file("dump.rdb", server.dir().join("dump.rdb")).start();
    assert_copy(&primary, &both(&mut from_rdb.client()), "a stock server from the RDB");

    server.shutdown();
    let folder = server.dir().join("appendonlydir");
    let from_aof = Server::builder().with_module(false).appendonly(true).with_file("appendonlydir", folder).start();
    assert_copy(&primary, &both(&mut from_aof.client()), "a stock server from the AOF");
}

#[test]
fn random_jobs_leave_what_bullmq_5_leaves() {
    run(&mut Server::start(), "random-differential.mjs", &["--client", "bullmq5"]);
}

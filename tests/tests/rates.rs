//! Totals, rates and times of BULL.STATS: with real workers, and through all that may make them wrong.

use std::process::Command;

use bull_tests::checks::add;
use bull_tests::{Client, Server, workspace};

const QUEUE: &str = "bull:{q}";

/// A number of BULL.STATS.
#[track_caller]
fn stat(client: &mut Client, queue: &str, name: &str) -> f64 {
    let reply = client.ok(&["BULL.STATS", queue]);
    let value = reply.get(name).unwrap_or_else(|| panic!("BULL.STATS has no {name}"));
    value.text().parse().unwrap_or_else(|_| panic!("{name} is {value:?}"))
}

fn add_many(client: &mut Client, count: usize) {
    (0..count).for_each(|_| drop(add(client, QUEUE, "{}", &[])));
}

/// Runs measure.mjs, which fails by itself where the numbers are wrong.
fn measure(client: &str, jobs: &str) {
    let mut server = Server::start();
    let output = Command::new("node")
        .arg(workspace().join("tests/bullmq/measure.mjs"))
        .args(["--port", &server.port().to_string(), "--client", client, "--jobs", jobs])
        .output()
        .unwrap_or_else(|error| panic!("node does not run ({error}): install Node 20"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "measure.mjs --client {client}:\n{text}");
    println!("{client}: {}", text.trim());
    server.assert_alive();
}

#[test]
fn a_hundred_thousand_jobs_of_real_workers_are_counted_exactly() {
    measure("bullmq", "100000");
}

#[test]
fn older_clients_are_counted_too() {
    measure("bullmq5", "3000");
    measure("bullmq4", "3000");
}

#[test]
fn numbers_start_anew_with_the_queue() {
    let server = Server::start();
    let mut client = server.client();
    add_many(&mut client, 5);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 5.0);
    assert!(stat(&mut client, QUEUE, "added-per-sec") > 0.0);
    client.ok(&["FLUSHALL"]);
    add_many(&mut client, 2);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 2.0);
    // As obliterate ends.
    client.ok(&["DEL", "bull:{q}:meta", "bull:{q}:wait", "bull:{q}:events"]);
    add_many(&mut client, 3);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 3.0);
    client.ok(&["SWAPDB", "0", "1"]);
    assert_eq!(client.cmd(&["BULL.STATS", QUEUE]).code().as_deref(), Some("NOQUEUE"));
    client.ok(&["SELECT", "1"]);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 3.0);
    client.ok(&["FLUSHDB"]);
    add_many(&mut client, 1);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 1.0);
}

#[test]
fn only_events_of_queues_count() {
    let server = Server::start();
    let mut client = server.client();
    client.ok(&["XADD", "foreign:events", "*", "event", "added", "jobId", "1"]);
    add_many(&mut client, 1);
    // Odd entries of others in the stream of a queue: passed over.
    client.ok(&["XADD", "bull:{q}:events", "*", "event", "active"]);
    client.ok(&["XADD", "bull:{q}:events", "*", "event", "completed"]);
    client.ok(&["XADD", "bull:{q}:events", "*", "", ""]);
    client.ok(&["XADD", "bull:{q}:events", "*", "event", "progress", "jobId", "1", "data", "{}"]);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 1.0);
    let info = client.ok(&["INFO", "bull"]).text();
    assert!(info.lines().any(|line| line.trim() == "bull_queues_followed:1"), "{info}");
}

#[test]
fn a_restart_counts_nothing_twice() {
    let mut server = Server::builder().appendonly(true).start();
    let mut client = server.client();
    add_many(&mut client, 20);
    server.kill9();
    server.start_again();
    let mut client = server.client();
    server.wait_until("the queue is found", |client| !client.ok(&["BULL.QUEUES"]).items().is_empty());
    assert_eq!(stat(&mut client, QUEUE, "waiting"), 20.0);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 0.0);
    assert_eq!(stat(&mut client, QUEUE, "added-per-sec"), 0.0);
    add_many(&mut client, 1);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 1.0);
}

#[test]
fn a_replica_keeps_rates_warm_and_counts_no_totals() {
    let primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    let mut client = primary.client();
    replica.wait_until("the link is up", |client| {
        client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
    });
    add_many(&mut client, 10);
    replica.wait_until("ten jobs have come over", |client| {
        client.cmd(&["BULL.STATS", QUEUE]).error().is_none() && stat(client, QUEUE, "waiting") == 10.0
    });
    let mut other = replica.client();
    assert_eq!(stat(&mut other, QUEUE, "added-total"), 0.0);
    assert!(stat(&mut other, QUEUE, "added-per-sec") > 0.0);
    other.ok(&["REPLICAOF", "NO", "ONE"]);
    add_many(&mut other, 4);
    assert_eq!(stat(&mut other, QUEUE, "added-total"), 4.0);
    assert_eq!(stat(&mut client, QUEUE, "added-total"), 10.0);
}

#[test]
fn a_queue_that_migrates_leaves_its_numbers_behind() {
    let (from, to) = (Server::start(), Server::start());
    let mut client = from.client();
    add_many(&mut client, 3);
    let keys = client.ok(&["KEYS", "bull:*"]).strings();
    let port = to.port().to_string();
    let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
    migrate.extend(keys.iter().map(String::as_str));
    client.ok(&migrate);
    assert!(client.ok(&["BULL.QUEUES"]).items().is_empty());
    let mut other = to.client();
    assert_eq!(other.ok(&["BULL.QUEUES"]).strings(), [QUEUE]);
    assert_eq!((stat(&mut other, QUEUE, "waiting"), stat(&mut other, QUEUE, "added-total")), (3.0, 0.0));
    // Entries that are replayed one by one, as atomic slot migration does, have happened elsewhere.
    other.ok(&["DEL", "bull:{q}:events"]);
    other.ok(&["XADD", "bull:{q}:events", "1700000000000-0", "event", "added", "jobId", "1"]);
    assert_eq!(stat(&mut other, QUEUE, "added-total"), 0.0);
    add_many(&mut other, 1);
    assert_eq!(stat(&mut other, QUEUE, "added-total"), 1.0);
}

#[test]
fn waits_count_from_when_a_job_is_due() {
    let server = Server::start();
    let mut client = server.client();
    let now = bull_tests::checks::now_ms(&mut client);
    // Due nine minutes ago, after a delay of 51 minutes.
    let hour_ago = (now - 3_600_000).to_string();
    let id = add(&mut client, QUEUE, "{}", &["TIMESTAMP", &hour_ago, "DELAY", "51m"]);
    client.ok(&["HSET", &format!("{QUEUE}:{id}"), "delay", "0"]);
    client.ok(&["XADD", "bull:{q}:events", "*", "event", "active", "jobId", &id, "prev", "waiting"]);
    let waited = stat(&mut client, QUEUE, "wait-p50-ms");
    assert!((300_000.0..=600_000.0).contains(&waited), "{waited}");
    client.ok(&["HSET", &format!("{QUEUE}:{id}"), "processedOn", &hour_ago, "ats", "1"]);
    client.ok(&["XADD", "bull:{q}:events", "*", "event", "completed", "jobId", &id]);
    assert!(stat(&mut client, QUEUE, "run-p99-ms") < 60_000.0, "by our own clock, not the worker's");
    // A second start is no wait; a job that started unseen counts by its own field.
    client.ok(&["XADD", "bull:{q}:events", "*", "event", "failed", "jobId", &id]);
    assert!(stat(&mut client, QUEUE, "run-p99-ms") > 1_800_000.0);
    assert_eq!((stat(&mut client, QUEUE, "failed-total"), stat(&mut client, QUEUE, "failed-last-hour")), (1.0, 1.0));
}

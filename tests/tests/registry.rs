//! The queues that a node knows (BULL.QUEUES, `bull_queues`) after failovers, full resyncs, moves of slots and obliterate: all
//! that are there, and none that is not.

use std::ops::RangeInclusive;
use std::process::Command;

use bull_tests::checks::add;
use bull_tests::cluster::Cluster;
use bull_tests::server::{Builder, Server};
use bull_tests::{Client, workspace};

/// A primary and a replica that follows it. Each knows the other's events, whoever is what later.
fn pair() -> [Server; 2] {
    let primary = Server::builder().plain().start();
    let replica = Server::builder().replica_of(&primary).start();
    replica.wait_until("the replica follows", follows);
    [primary, replica]
}

fn role_field(client: &mut Client, field: &str) -> bool {
    client.ok(&["INFO", "replication"]).text().lines().any(|line| line.trim() == field)
}

fn follows(client: &mut Client) -> bool {
    role_field(client, "master_link_status:up")
}

fn is_primary(client: &mut Client) -> bool {
    role_field(client, "role:master")
}

/// What BULL.QUEUES answers.
fn queues(client: &mut Client) -> Vec<String> {
    client.ok(&["BULL.QUEUES"]).strings()
}

/// Waits until these are the queues of a server: for its list, and for the number it counts, which asks no key.
fn wait_for(server: &Server, wanted: &[&str]) {
    let count = format!("bull_queues:{}", wanted.len());
    let what = format!("the server on port {} knows {wanted:?}", server.port());
    server.wait_until(&what, |client| {
        let counted = client.ok(&["INFO", "bull"]).text().lines().any(|line| line.trim() == count);
        counted && queues(client) == wanted
    });
}

/// Every key of a queue, the counter and the event stream too.
fn remove(client: &mut Client, queue: &str) {
    let keys = client.ok(&["KEYS", &format!("{queue}:*")]).strings();
    client.ok(&[vec!["DEL".to_owned()], keys].concat());
}

#[test]
fn after_a_failover_both_nodes_know_the_same_queues() {
    let [old, new] = pair();
    let mut client = old.client();
    add(&mut client, "bull:{a}", "{}", &[]);
    add(&mut client, "bull:{b}", "{}", &[]);
    wait_for(&new, &["bull:{a}", "bull:{b}"]);
    client.ok(&["FAILOVER", "TO", "127.0.0.1", &new.port().to_string(), "TIMEOUT", "10000"]);
    new.wait_until("the replica is primary", is_primary);
    old.wait_until("the primary follows", |client| !is_primary(client) && follows(client));
    [&old, &new].into_iter().for_each(|server| wait_for(server, &["bull:{a}", "bull:{b}"]));

    // The new primary counts, and what changes there is known on both.
    let mut client = new.client();
    add(&mut client, "bull:{c}", "{}", &[]);
    add(&mut client, "bull:{a}", "{}", &[]);
    remove(&mut client, "bull:{b}");
    [&old, &new].into_iter().for_each(|server| wait_for(server, &["bull:{a}", "bull:{c}"]));
    let stats = client.ok(&["BULL.STATS", "bull:{a}"]);
    assert_eq!(stats.get("waiting").map(|waiting| waiting.int()), Some(2));
    new.wait_until("the metrics show the new primary's queues", |client| {
        let text = client.ok(&["BULL.METRICS"]).text();
        let shown = |queue: &str| text.contains(&format!("bullmq_queue_waiting{{prefix=\"bull\",queue=\"{queue}\"}}"));
        shown("a") && shown("c") && !shown("b") && text.contains("\nbull_primary 1.0\n")
    });
}

#[test]
fn after_a_full_resync_only_the_primarys_queues_are_left() {
    let [primary, replica] = pair();
    let (mut client, mut other) = (primary.client(), replica.client());
    add(&mut client, "bull:{kept}", "{}", &[]);
    wait_for(&replica, &["bull:{kept}"]);
    // It goes its own way, so that nothing but all data brings it back.
    other.ok(&["REPLICAOF", "NO", "ONE"]);
    add(&mut other, "bull:{lost}", "{}", &[]);
    other.ok(&["SELECT", "1"]);
    add(&mut other, "bull:{lost-too}", "{}", &[]);
    add(&mut client, "bull:{new}", "{}", &[]);
    remove(&mut client, "bull:{kept}");
    other.ok(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
    replica.wait_until("the replica follows", follows);
    let stats = client.ok(&["INFO", "stats"]).text();
    assert!(stats.lines().any(|line| line == "sync_full:2"), "the second sync was to be a full one: {stats}");
    wait_for(&replica, &["bull:{new}"]);
    assert!(queues(&mut other).is_empty(), "of the other database");
    // It hears of what comes afterwards.
    add(&mut client, "bull:{later}", "{}", &[]);
    wait_for(&replica, &["bull:{later}", "bull:{new}"]);
}

/// Two primaries of a cluster, a queue on the first, and what of it the servers know before.
fn cluster_with_a_queue(builder: &Builder) -> (Cluster, String) {
    let cluster = Cluster::start(2, builder);
    let queue = format!("bull:{}", cluster.tag_on(0, "moves"));
    let mut client = cluster.nodes[0].client();
    (0..50).for_each(|_| drop(add(&mut client, &queue, "{}", &[])));
    // Two jobs whose only children have failed: what is left of the flow is a sorted set, of which no event tells here.
    for id in ["f1", "f2"] {
        client.ok(&["HSET", &format!("{queue}:{id}"), "name", "job"]);
        client.ok(&["ZADD", &format!("{queue}:completed"), "1", id]);
        client.ok(&["ZADD", &format!("{queue}:{id}:unsuccessful"), "1", "child"]);
    }
    wait_for(&cluster.nodes[0], &[&queue]);
    wait_for(&cluster.nodes[1], &[]);
    (cluster, queue)
}

fn assert_moved(cluster: &Cluster, queue: &str, counted: RangeInclusive<i64>) {
    wait_for(&cluster.nodes[0], &[]);
    wait_for(&cluster.nodes[1], &[queue]);
    let mut client = cluster.nodes[1].client();
    assert_eq!(add(&mut client, queue, "{}", &[]), "51");
    let stats = client.ok(&["BULL.STATS", queue]);
    let number = |name: &str| stats.get(name).map(|value| value.int());
    assert_eq!(number("waiting"), Some(51), "jobs came over");
    let added = number("added-total").expect("a count");
    assert!(counted.contains(&added), "counts begin anew: {added}");
    // The new node knows that it may have keys of flows, before its scan is over and after.
    let sets = ["f1", "f2"].map(|id| format!("{queue}:{id}:unsuccessful"));
    assert_eq!(client.ok(&["EXISTS", &sets[0], &sets[1]]).int(), 2);
    for left in [1, 0] {
        client.ok(&["BULL.TRIM", queue, "COMPLETED", "0", "LIMIT", "1"]);
        assert_eq!(client.ok(&["EXISTS", &sets[0], &sets[1]]).int(), left, "keys of removed jobs are left");
        cluster.nodes[1].wait_until("the scan is over", |client| {
            client.ok(&["INFO", "bull"]).text().contains("bull_queue_scan_running:0")
        });
    }
    let moved = cluster.nodes[0].client().cmd(&["BULL.STATS", queue]);
    assert_eq!(moved.code().as_deref(), Some("MOVED"));
}

#[test]
fn a_queue_moves_with_its_slot() {
    let (cluster, queue) = cluster_with_a_queue(&Server::builder().plain());
    let [mut from, mut to] = [0, 1].map(|at: usize| cluster.nodes[at].client());
    let slot = from.ok(&["CLUSTER", "KEYSLOT", &queue]).int().to_string();
    let [source, target] = [&mut from, &mut to].map(|client| client.ok(&["CLUSTER", "MYID"]).text());
    to.ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
    from.ok(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
    let keys = from.ok(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).strings();
    let port = cluster.nodes[1].port().to_string();
    let start = ["MIGRATE", "127.0.0.1", &port, "", "0", "10000", "KEYS"].map(str::to_owned);
    from.ok(&[start.to_vec(), keys].concat());
    to.ok(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
    from.ok(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]);
    assert_moved(&cluster, &queue, 1..=1);
}

#[test]
fn a_queue_moves_with_its_slot_by_migrateslots() {
    let (cluster, queue) = cluster_with_a_queue(&Server::builder().plain());
    let [mut from, mut to] = [0, 1].map(|at: usize| cluster.nodes[at].client());
    let slot = from.ok(&["CLUSTER", "KEYSLOT", &queue]).int().to_string();
    let target = to.ok(&["CLUSTER", "MYID"]).text();
    let migrate = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", &slot, &slot, "NODE", &target];
    let reply = from.cmd(&migrate);
    if reply.error().is_some_and(|error| error.to_lowercase().contains("unknown subcommand")) {
        return println!("skipped: this server has no CLUSTER MIGRATESLOTS");
    }
    assert!(reply.error().is_none(), "{reply:?}");
    cluster.nodes[1]
        .wait_until("the slot is the second node's", |client| client.cmd(&["BULL.STATS", &queue]).error().is_none());
    // The slot comes over as commands, which look like adds to a node that hears of the queue on the way.
    assert_moved(&cluster, &queue, 1..=51);
}

/// Runs obliterate.mjs, which fails by itself where the queue stays known.
fn obliterate(client: &str) {
    let [primary, replica] = pair();
    add(&mut primary.client(), "bull:{stays}", "{}", &[]);
    let output = Command::new("node")
        .arg(workspace().join("tests/bullmq/obliterate.mjs"))
        .args(["--port", &primary.port().to_string(), "--client", client])
        .output()
        .unwrap_or_else(|error| panic!("node does not run ({error}): install Node 20"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "obliterate.mjs --client {client}:\n{text}");
    [&primary, &replica].into_iter().for_each(|server| wait_for(server, &["bull:{stays}"]));
}

#[test]
fn an_obliterated_queue_is_forgotten() {
    obliterate("bullmq");
    obliterate("bullmq4");
}

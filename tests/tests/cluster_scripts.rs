//! `scripts/cluster` and the runbooks form, place, verify and push: they make the cluster of the specification, and what
//! is wrong in it is found.

use std::fs;

use bull_tests::client::Reply;
use bull_tests::loopback::Loopback;
use bull_tests::{engine, workspace};

const LOW: &str = "bull:{tasks:low}";

fn jobs(cluster: &Loopback, queue: &str) -> i64 {
    let mut client = cluster.client(cluster.node_of(&format!("{queue}:wait")));
    client.ok(&["BULL.STATS", queue]).get("waiting").expect("a count").int()
}

/// The placement of the repository with one queue on another shard.
fn moved(cluster: &Loopback, from: &str, to: &str) -> String {
    let text = fs::read_to_string(workspace().join("deploy/placement")).expect("a file of ours");
    assert!(text.contains(from));
    let path = cluster.site.path("placement");
    fs::write(&path, text.replace(from, to)).expect("a file");
    path
}

#[test]
fn a_cluster_is_made_proven_spoilt_and_mended() {
    let mut cluster = Loopback::up(&["--acl"]);
    cluster.verify();
    // Again without harm.
    if engine::chosen() == engine::DEFAULT {
        cluster.script(&["up"]);
    }
    let mut client = cluster.client(cluster.node_of(&format!("{LOW}:wait")));
    for n in 0..2500 {
        client.ok(&["BULL.ADD", LOW, "n", &format!(r#"{{"n":{n}}}"#)]);
    }

    // A queue with jobs goes to another shard and back, whole.
    let placement = moved(&cluster, "queue bull:{tasks:low} 2 ", "queue bull:{tasks:low} 3 ");
    let before = cluster.node_of(&format!("{LOW}:wait"));
    cluster.site.set("BULL_PLACEMENT", &placement);
    let env = fs::read_to_string(cluster.env()).expect("the file of up");
    fs::write(cluster.env(), env.replace("BULL_PLACEMENT=", "# BULL_PLACEMENT=")).expect("the file of up");
    let said = cluster.runbook("place", &["--dry-run"]);
    assert!(said.contains("would"), "{said}");
    assert_eq!(cluster.node_of(&format!("{LOW}:wait")), before, "a dry run moves nothing");
    cluster.runbook("place", &["--yes"]);
    cluster.verify();
    assert_ne!(cluster.node_of(&format!("{LOW}:wait")), before);
    assert_eq!(jobs(&cluster, LOW), 2500);
    // The placement of the repository is not met now, and verify says so.
    fs::write(cluster.env(), &env).expect("the file of up");
    let wrong = cluster.wrong();
    assert!(wrong.contains("bull:{tasks:low}: slot 12670 is on shard 2"), "{wrong}");
    assert!(wrong.contains("every slot is on the shard of the placement (1 elsewhere)"), "{wrong}");
    cluster.runbook("place", &["--yes"]);
    cluster.verify();
    assert_eq!(jobs(&cluster, LOW), 2500);
    assert_eq!(cluster.node_of(&format!("{LOW}:wait")), before);
    let mut replica = cluster.client(before + 3);
    replica.ok(&["READONLY"]);
    assert_eq!(replica.ok(&["LLEN", &format!("{LOW}:wait")]), Reply::Int(2500), "the replica has them as well");
    let gone = cluster.client(before % 3 + 1 + 3).ok(&["DBSIZE"]).int();
    assert!(gone < 20, "no copy stays behind on the other replica: {gone} keys");

    // The users, with the real client.
    cluster.node_script("acl.mjs", &[]);

    // What follows is the same on every engine.
    if engine::chosen() != engine::DEFAULT {
        return;
    }
    // A policy that a node lacks, or has otherwise.
    cluster.client(5).ok(&["BULL.POLICY", "REMOVE", "payload-cap"]);
    cluster.client(2).ok(&["BULL.POLICY", "MODE", "payload-cap", "observe"]);
    let wrong = cluster.wrong();
    assert!(wrong.contains(&format!("{} has the policies of", cluster.port(5))), "{wrong}");
    assert!(wrong.contains(&format!("{} has the policies of", cluster.port(2))), "{wrong}");
    let drift = cluster.try_runbook("push", &["--check"]);
    assert!(!drift.status.success());
    let said = cluster.runbook("push", &["--yes"]);
    assert_eq!(said.matches("has loaded").count(), 2, "the others have it: {said}");
    cluster.runbook("push", &["--check"]);
    cluster.verify();

    // A slot that stayed half-way, and a key in a slot that its node does not serve.
    let slot = client.ok(&["CLUSTER", "KEYSLOT", LOW]).int().to_string();
    let mut other = cluster.client(1);
    let owner = client.ok(&["CLUSTER", "MYID"]).text();
    other.ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &owner]);
    other.ok(&["ASKING"]);
    other.ok(&["SET", &format!("{LOW}:stray"), "x"]);
    let wrong = cluster.wrong();
    assert!(wrong.contains("has no slot half-way"), "{wrong}");
    assert!(wrong.contains("holds no key of a slot that it does not serve (1)"), "{wrong}");
    other.ok(&["ASKING"]);
    other.ok(&["DEL", &format!("{LOW}:stray")]);
    cluster.runbook("place", &[]);
    cluster.verify();

    // A node that is away.
    cluster.script(&["kill", "6"]);
    let wrong = cluster.wrong();
    assert!(wrong.contains(&format!("127.0.0.1:{} answers", cluster.port(6))), "{wrong}");
    assert!(wrong.contains("shard 3 has a replica online (0)"), "{wrong}");
    cluster.script(&["start", "6"]);
    cluster.runbook("push", &["--yes"]);
    cluster.site.wait_until("the replica is back", || cluster.try_runbook("verify", &[]).status.success());
}

/// The servers of the wheels are built without TLS.
#[test]
fn every_user_works_by_tls_with_a_certificate_and_nobody_without() {
    if engine::chosen() != engine::DEFAULT {
        return;
    }
    let cluster = Loopback::up(&["--acl", "--tls"]);
    cluster.verify();
    let said = cluster.node_script("acl.mjs", &[]);
    assert!(said.contains("without a certificate: no connection"), "{said}");
}

#[test]
fn a_placement_that_cannot_be_met_is_refused_in_words() {
    let site = bull_tests::deploy::Site::new();
    let file = site.path("placement");
    let run = |text: &str| {
        fs::write(&file, text).expect("a file");
        let env = site.path("env");
        fs::write(&env, format!("BULL_NODES=127.0.0.1:1\nBULL_PLACEMENT={file}\n")).expect("a file");
        site.refused("deploy/runbooks/verify", &["--env", &env])
    };
    let whole = "shard 1 0-16383\n";
    for (text, says) in [
        ("shard 1 0-5\n", "the ranges have 6 slots of 16384"),
        ("shard 1 0-16383\nshard 2 7\n", "slot 7 is there twice"),
        (&format!("{whole}queue bull:{{a}} 2 100 1\n"), "queue bull:{a} is on shard 2, which is none of the file"),
        (&format!("{whole}queue bull:a 1 100 1\n"), "queue bull:a has no hash tag"),
        (&format!("{whole}queue bull:{{a}} 1 99 1\n"), "the weights sum to 99, not 100"),
        (&format!("{whole}queue bull:{{a}} 1\n"), "neither"),
    ] {
        let said = run(text);
        assert!(said.contains(says), "{text}: {said}");
    }
}

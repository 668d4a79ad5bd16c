//! `scripts/cluster` and the runbooks form, place, verify and push: they make the cluster of the specification, and what
//! is wrong in it is found.

use std::fs;
use std::process::Stdio;

use bull_tests::client::Reply;
use bull_tests::deploy::all;
use bull_tests::loopback::Loopback;
use bull_tests::{clients, engine, workspace};

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

/// A short form of the specification's load, which the servers must take whole; a job that ran again is none of theirs.
fn load(cluster: &Loopback, words: &[&str]) {
    clients::install();
    let words: Vec<&str> = ["load", "--json"].into_iter().chain(words.iter().copied()).collect();
    let said = cluster.script(&words);
    let facts: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let count = |name: &str| facts[name].as_u64().unwrap_or_else(|| panic!("no {name}: {said}"));
    assert!(count("sent") > 100, "{said}");
    assert_eq!(count("acknowledged"), count("sent"), "{said}");
    assert_eq!(count("once") + count("again"), count("sent"), "{said}");
    assert_eq!((count("unfinished"), count("doubled")), (0, 0), "{said}");
    assert_eq!(count("concurrency"), 58, "{said}");
}

#[test]
fn a_cluster_is_made_proven_spoilt_and_mended() {
    let mut cluster = Loopback::up(&["--acl"]);
    cluster.verify();
    load(&cluster, &["--seconds", "4"]);
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
    cluster.site.wait_until("the replica has them as well", || {
        replica.ok(&["LLEN", &format!("{LOW}:wait")]) == Reply::Int(2500)
    });
    let mut other = cluster.client(before % 3 + 1 + 3);
    cluster.site.wait_until("no copy stays behind on the other replica", || other.ok(&["DBSIZE"]).int() < 20);

    // The users, with the real client.
    cluster.node_script("acl.mjs", &[]);

    // What follows is the same on every engine.
    if engine::chosen() != engine::DEFAULT {
        return;
    }
    // The load tells of jobs that are gone: workers are slow, so jobs wait, and those of one queue are deleted.
    let words = ["load", "--json", "--seconds", "4", "--rate", "100", "--work-ms", "1000", "--lock-ms", "1000"];
    let slow = cluster.site.command("scripts/cluster").args(words).stdout(Stdio::piped()).spawn().expect("it runs");
    let batch = "bull:{tasks:batch}:wait";
    let mut owner = cluster.client(cluster.node_of(batch));
    // At once: a worker may take one between a look and the deletion.
    let script = "if redis.call('LLEN', KEYS[1]) > 5 then return redis.call('DEL', KEYS[1]) end return 0";
    cluster.site.wait_until("jobs wait and are deleted", || owner.ok(&["EVAL", script, "1", batch]).int() == 1);
    let output = slow.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1), "{}", all(&output));
    let facts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    // Those of the queue with 2500 jobs before them have not run either.
    assert!(facts["absent"].as_u64() > Some(5) && facts["lost"].as_u64() >= facts["absent"].as_u64(), "{facts}");

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
    load(&cluster, &["--seconds", "3", "--rate", "200", "--wait"]);
    // A certificate of another authority is none, whatever name is on it and whatever password comes with it.
    let other = cluster.site.path("other");
    cluster.site.run("deploy/tls/certs", &[other.as_str(), "localhost", "127.0.0.1"]);
    let port = cluster.port(1).to_string();
    let ca = cluster.folder().join("tls/ca.crt").display().to_string();
    let password = cluster.variable("BULL_PASSWORD_ADMIN").expect("of up");
    let ping = |folder: &str| {
        let [cert, key] = ["crt", "key"].map(|end| format!("{folder}/client-admin.{end}"));
        let words = ["-e", "-p", &port, "--tls", "--cacert", &ca, "--cert", &cert, "--key", &key, "--user", "admin"];
        cluster.site.try_run("redis-cli", &[&words[..], &["--pass", &password, "--no-auth-warning", "PING"]].concat())
    };
    assert!(ping(&cluster.folder().join("tls").display().to_string()).status.success());
    let refused = ping(&other);
    assert!(!refused.status.success() && !all(&refused).contains("PONG"), "{}", all(&refused));
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

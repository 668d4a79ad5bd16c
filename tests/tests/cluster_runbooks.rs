//! The runbooks of `deploy/runbooks` that change a cluster under load: each ends in the state that its head promises, and
//! the load that goes on meanwhile loses nothing. On Redis 7.0 and Valkey 9.1: moves of slots differ there, all else does not.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bull_tests::client::Reply;
use bull_tests::deploy::all;
use bull_tests::loopback::Loopback;
use bull_tests::{clients, engine};

const QUEUES: [&str; 6] = ["critical", "high", "normal", "low", "batch", "scheduled"];

/// One cluster and its load at a time; None on engines where all this is the same as on another.
fn turn() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let mine = engine::chosen() == engine::DEFAULT || engine::chosen() == "valkey-9.1";
    mine.then(|| ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}

fn queue(name: &str) -> String {
    format!("bull:{{tasks:{name}}}")
}

/// `scripts/cluster load` in the background: BullMQ's own clients on the six queues.
struct Load {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Load {
    fn start(cluster: &Loopback, words: &[&str]) -> Load {
        clients::install();
        let mut command = cluster.site.command("scripts/cluster");
        command.args(["load", "--json", "--seconds", "900", "--rate", "200", "--lock-ms", "4000"]).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the load runs");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Load { child, lines }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().expect("its input"), "{line}").expect("the load reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "the load ended: {:?}", self.child.wait());
        line
    }

    /// Waits until so many jobs are acknowledged.
    fn until(&mut self, jobs: u64) {
        self.tell(&format!("at {jobs}"));
        assert_eq!(self.line(), format!("sent {jobs}\n"));
    }

    /// Ends it, and has it account for every job.
    fn end(mut self) -> Facts {
        self.tell("stop");
        let line = self.line();
        let facts = Facts(serde_json::from_str(&line).expect("JSON"));
        println!("{line}");
        self.child.wait().expect("it ends");
        facts
    }
}

struct Facts(serde_json::Value);

impl Facts {
    fn count(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("no number {name}: {}", self.0))
    }

    /// All that was acknowledged ran and is there once, and nothing is left undone.
    fn assert_whole(&self) {
        for name in ["lost", "absent", "doubled", "unfinished", "unanswered"] {
            assert_eq!(self.count(name), 0, "{name}: {}", self.0);
        }
        assert_eq!(self.count("acknowledged"), self.count("sent"), "{}", self.0);
    }
}

fn leads(cluster: &Loopback, node: u16) -> bool {
    cluster.client(node).ok(&["ROLE"]).items()[0].text() == "master"
}

/// Jobs of a queue that completed eight days ago, straight into the keys.
fn old_jobs(cluster: &Loopback, queue: &str, jobs: usize, bytes: usize) {
    let mut client = cluster.client(cluster.node_of(&format!("{queue}:meta")));
    let script = "local q = KEYS[1]:sub(1, -6) \
        local at = redis.call('TIME')[1] * 1000 - 8 * 86400000 \
        redis.call('HSET', KEYS[1], 'opts.maxLenEvents', '10000') \
        for i = 1, ARGV[1] do \
          redis.call('HSET', q..':old'..i, 'name', 'n', 'data', string.rep('x', ARGV[2]), 'timestamp', at, 'finishedOn', at) \
          redis.call('ZADD', q..':completed', at, 'old'..i) \
        end return 1";
    client.ok(&["EVAL", script, "1", &format!("{queue}:meta"), &jobs.to_string(), &bytes.to_string()]);
}

fn completed(cluster: &Loopback, queue: &str) -> i64 {
    cluster.client(cluster.node_of(&format!("{queue}:meta"))).ok(&["ZCARD", &format!("{queue}:completed")]).int()
}

/// BULL.CHECK finds nothing on any queue of the load.
fn assert_consistent(cluster: &Loopback) {
    for name in QUEUES {
        let queue = queue(name);
        let mut client = cluster.client(cluster.node_of(&format!("{queue}:meta")));
        let found = client.ok(&["BULL.CHECK", &queue]);
        assert_eq!(found.get("found").expect("a count").int(), 0, "{queue}: {found:?}");
    }
}

/// The placement with another in place of some lines, for the cluster.
fn replace_in_placement(cluster: &Loopback, changes: &[(&str, &str)]) {
    let path = cluster.site.path("placement");
    let before = cluster.variable("BULL_PLACEMENT").expect("the file of up");
    let mut text = fs::read_to_string(&before).expect("a placement");
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    fs::write(&path, text).expect("a file");
    if before != path {
        cluster.edit_env(&before, &path);
    }
}

#[test]
fn a_primary_dies_under_load_and_its_replica_goes_on_with_every_job() {
    let Some(_turn) = turn() else { return };
    let cluster = Loopback::up(&["--acl"]);
    let mut load = Load::start(&cluster, &["--wait"]);
    load.until(400);
    let critical = queue("critical");
    let before = cluster.client(1).ok(&["BULL.STATS", &critical]);
    assert!(before.get("completed").expect("a count").int() > 0, "{before:?}");
    // A queue beside it in its slot, whose retention is the replica's business in a moment.
    let beside = format!("{critical}-beside");
    // A connection of its own has written nothing that WAIT would wait for.
    let mut profile = cluster.client(1);
    profile.ok(&["BULL.PROFILE", "SET", &beside, "keep-completed", "10"]);
    assert!(profile.ok(&["WAIT", "1", "10000"]).int() >= 1, "the replica has the profile");

    cluster.script(&["kill", "1"]);
    let clock = std::time::Instant::now();
    cluster.site.wait_until("the replica leads", || leads(&cluster, 4));
    println!("node 4 leads {} ms after the death of node 1", clock.elapsed().as_millis());
    let wrong = cluster.wrong();
    assert!(wrong.contains("shard 1 has a replica online (0)"), "{wrong}");
    // Producers and workers of all queues go on by themselves.
    load.until(1600);

    let mut primary = cluster.client(4);
    let stats = primary.ok(&["BULL.STATS", &critical]);
    assert!(stats.get("completed").expect("a count").int() > before.get("completed").expect("a count").int());
    let limits = primary.ok(&["BULL.PROFILE", "GET", &critical]);
    assert_eq!(limits.get("max-jobs").expect("of the profile").int(), 10000);
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(1_100_000));
    let verdict = primary.cmd(&["BULL.ADD", &critical, "large", &large]);
    assert!(matches!(&verdict, Reply::Error(text) if text.starts_with(b"BULLREJECT payload-cap")), "{verdict:?}");
    old_jobs(&cluster, &beside, 50, 10);
    cluster.site.wait_until("retention on the new primary", || completed(&cluster, &beside) == 10);

    // The node comes back as a replica of what was its own.
    let said = cluster.runbook("recover", &["--dry-run"]);
    assert!(said.contains("would ask") && said.contains("would run"), "{said}");
    cluster.runbook("recover", &["--yes"]);
    cluster.verify();
    assert!(leads(&cluster, 4) && !leads(&cluster, 1));
    load.until(2000);
    let facts = load.end();
    facts.assert_whole();
    assert!(facts.count("held") > 400, "{}", facts.0);
    assert_consistent(&cluster);
}

#[test]
fn busy_queues_move_to_other_shards_and_to_a_new_one_and_a_lost_node_is_replaced() {
    let Some(_turn) = turn() else { return };
    let cluster = Loopback::up(&["--acl"]);
    let mut load = Load::start(&cluster, &[]);
    load.until(300);
    // Live, to a shard that is there.
    let from = cluster.node_of(&format!("{}:meta", queue("normal")));
    replace_in_placement(&cluster, &[("queue bull:{tasks:normal} 2 ", "queue bull:{tasks:normal} 1 ")]);
    cluster.runbook("place", &["--yes"]);
    assert_ne!(cluster.node_of(&format!("{}:meta", queue("normal"))), from);
    cluster.verify();
    load.until(900);

    // Live, to a shard that comes in.
    let refused = cluster.try_runbook("add-shard", &["--yes", "4", "127.0.0.1:1", "127.0.0.1:2"]);
    assert!(all(&refused).contains("has no shard 4"), "{}", all(&refused));
    let new: Vec<String> = [7, 8].map(|n: u16| cluster.script(&["spare", &n.to_string()]).trim().to_owned()).into();
    let changes = [
        ("shard 3 10923-16383", "shard 3 10923-15999\nshard 4 16000-16383"),
        ("queue bull:{tasks:critical} 1 ", "queue bull:{tasks:critical} 4 "),
    ];
    replace_in_placement(&cluster, &changes);
    let words = ["4", new[0].as_str(), new[1].as_str()];
    let said = cluster.runbook("add-shard", &[&["--dry-run"], &words[..]].concat());
    assert!(said.contains("would ask") && said.contains("CLUSTER MEET"), "{said}");
    assert_eq!(cluster.client(1).ok(&["CLUSTER", "NODES"]).text().lines().count(), 6, "a dry run adds nothing");
    cluster.runbook("add-shard", &[&["--yes"], &words[..]].concat());
    assert_eq!(cluster.node_of(&format!("{}:meta", queue("critical"))), 7);
    assert!(!leads(&cluster, 8));
    cluster.edit_env("BULL_NODES='", &format!("BULL_NODES='{} {} ", new[0], new[1]));
    cluster.verify();
    // Again without harm.
    cluster.runbook("add-shard", &[&["--yes"], &words[..]].concat());
    load.until(1500);

    // A replica is lost for good, and an empty node takes its place.
    let lost = new[1].clone();
    cluster.script(&["kill", "8"]);
    fs::remove_dir_all(cluster.folder().join("node-8")).expect("its folder");
    let spare = cluster.script(&["spare", "9"]).trim().to_owned();
    let replace = format!("{lost}={spare}");
    let refused = cluster.try_runbook("recover", &["--yes", "--replace", &format!("{}={spare}", new[0])]);
    assert!(all(&refused).contains("it is not lost"), "{}", all(&refused));
    cluster.runbook("recover", &["--yes", "--replace", &replace]);
    cluster.edit_env(&format!("{lost} "), &format!("{spare} "));
    cluster.verify();
    let nodes = cluster.client(1).ok(&["CLUSTER", "NODES"]).text();
    assert!(!nodes.contains(&lost) && nodes.contains(&spare), "{nodes}");
    load.until(1800);
    load.end().assert_whole();
    assert_consistent(&cluster);
}

/// Which file a server has the module from.
fn module_of(cluster: &Loopback, node: u16) -> String {
    let pid = fs::read_to_string(cluster.folder().join(format!("node-{node}/redis.pid"))).expect("a pid");
    let maps = fs::read_to_string(format!("/proc/{}/maps", pid.trim())).expect("a process");
    let line = maps.lines().find(|line| line.contains("libbull")).expect("the module is mapped");
    line.split_whitespace().last().expect("a path").to_owned()
}

#[test]
fn primaries_hand_over_and_the_module_is_exchanged_under_load() {
    let Some(_turn) = turn() else { return };
    let cluster = Loopback::up(&["--acl"]);
    let mut load = Load::start(&cluster, &[]);
    load.until(200);
    let first = format!("127.0.0.1:{}", cluster.port(1));
    cluster.runbook("failover", &["--dry-run", &first]);
    let asked = cluster.try_runbook("failover", &[&first]);
    assert!(!asked.status.success() && all(&asked).contains("Say --yes"), "{}", all(&asked));
    assert!(leads(&cluster, 1), "nobody said yes");
    cluster.runbook("failover", &["--yes", &first]);
    assert!(leads(&cluster, 4) && !leads(&cluster, 1));
    cluster.verify();
    // Back, by the name of the replica.
    cluster.runbook("failover", &["--yes", &first]);
    assert!(leads(&cluster, 1) && !leads(&cluster, 4));
    load.until(600);

    // Another build over the name of the old one: only a restart brings it.
    let new = cluster.site.dir().join("libbull-new.so");
    fs::copy(engine::module(), &new).expect("a copy");
    let link = cluster.site.dir().join("libbull.so");
    fs::remove_file(&link).expect("the link");
    std::os::unix::fs::symlink(&new, &link).expect("a link");
    let said = cluster.runbook("upgrade", &["--dry-run"]);
    assert_eq!(said.matches("would run: ").count(), 6, "{said}");
    let refused = cluster.try_runbook("upgrade", &["--yes", "--version", "7"]);
    assert!(all(&refused).contains("not 7: the run ends here"), "{}", all(&refused));
    assert!((1..=3).all(|node| leads(&cluster, node)), "the primaries were left alone");
    cluster.runbook("upgrade", &["--yes"]);
    for node in 1..=6 {
        assert_eq!(module_of(&cluster, node), new.display().to_string(), "node {node}");
        assert_eq!(leads(&cluster, node), node > 3, "node {node}");
    }
    cluster.verify();
    load.until(1200);
    load.end().assert_whole();
    assert_consistent(&cluster);
}

#[test]
fn memory_is_freed_on_the_nodes_that_need_it_and_persistence_is_proved() {
    let Some(_turn) = turn() else { return };
    let cluster = Loopback::up(&["--acl"]);
    let low = queue("low");
    let high = queue("high");
    let node = cluster.node_of(&format!("{low}:meta"));
    for queue in [&low, &high] {
        let mut client = cluster.client(cluster.node_of(&format!("{queue}:meta")));
        client.ok(&["BULL.PROFILE", "SET", queue, "retain-completed", "30d"]);
    }
    old_jobs(&cluster, &low, 6000, 2000);
    old_jobs(&cluster, &high, 100, 10);
    for n in 0..20 {
        cluster.client(node).ok(&["BULL.ADD", &low, "n", &format!(r#"{{"n":{n}}}"#)]);
    }

    // Persistence, with all of that in it.
    let said = cluster.runbook("persistence", &["--dry-run", "--save", "--restore"]);
    assert!(said.contains("would run on") && said.contains("would copy"), "{said}");
    let primary = format!("127.0.0.1:{}", cluster.port(node));
    let said = cluster.runbook("persistence", &["--yes", "--save", "--restore", &primary]);
    assert!(said.contains("has written an RDB now") && said.contains("the same queues are in its AOF"), "{said}");
    assert_eq!(cluster.client(node).ok(&["CONFIG", "GET", "auto-aof-rewrite-percentage"]).items()[1].text(), "100");
    let said = cluster.runbook("persistence", &[]);
    assert!(said.contains("6 nodes persist"), "{said}");
    // An AOF that lost its middle, and a node without one.
    let dir = cluster.folder().join(format!("node-{node}/data/appendonlydir"));
    let base = fs::read_dir(&dir).expect("an AOF").map(|entry| entry.expect("a file").path());
    let base = base.into_iter().find(|path| path.to_string_lossy().contains(".base.")).expect("its base");
    let whole = fs::read(&base).expect("the base");
    let mut spoilt = whole.clone();
    let middle = spoilt.len() / 2;
    spoilt[middle..middle + 64].fill(0xff);
    fs::write(&base, spoilt).expect("the base");
    let said = cluster.try_runbook("persistence", &["--restore", &primary]);
    assert!(!said.status.success() && all(&said).contains("WRONG"), "{}", all(&said));
    fs::write(&base, whole).expect("the base");
    cluster.client(2).ok(&["CONFIG", "SET", "appendonly", "no"]);
    let said = cluster.try_runbook("persistence", &[]);
    assert!(!said.status.success() && all(&said).contains("WRONG"), "{}", all(&said));
    cluster.client(2).ok(&["CONFIG", "SET", "appendonly", "yes"]);

    // Memory: one node is over its target.
    let said = cluster.runbook("emergency", &["--yes"]);
    assert!(said.contains("no node is over 80 %"), "{said}");
    let used = |node| {
        let info = cluster.client(node).ok(&["INFO", "memory"]).text();
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a line");
        line.trim().parse::<u64>().expect("a number")
    };
    // 80 % of this is 6 MB less than what is used.
    let max = (used(node) - 6_000_000) * 100 / 80;
    cluster.client(node).ok(&["CONFIG", "SET", "maxmemory", &max.to_string()]);
    let said = cluster.runbook("emergency", &["--dry-run"]);
    assert!(said.contains(&low) && said.contains("would ask"), "{said}");
    assert_eq!(completed(&cluster, &low), 6000, "a dry run removes nothing");
    cluster.runbook("emergency", &["--yes"]);
    let left = completed(&cluster, &low);
    assert!(left > 0 && left < 6000, "{left}: as much as is needed");
    // Buffers of clients come and go; what was over was 6 MB.
    assert!(used(node) < max / 100 * 80 + 1_000_000);
    assert_eq!(completed(&cluster, &high), 100, "another node was not over");
    assert_eq!(cluster.client(node).ok(&["LLEN", &format!("{low}:wait")]), Reply::Int(20), "no unfinished job goes");
    // What cannot be reached is said.
    let max = used(node) / 2;
    cluster.client(node).ok(&["CONFIG", "SET", "maxmemory", &max.to_string()]);
    let said = cluster.try_runbook("emergency", &["--yes", "--target", "10"]);
    assert!(!said.status.success() && all(&said).contains("Raise maxmemory"), "{}", all(&said));
    assert_eq!(cluster.client(node).ok(&["LLEN", &format!("{low}:wait")]), Reply::Int(20));
}

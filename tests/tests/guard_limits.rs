//! A limit of 100 waiting jobs before unmodified clients of every version: twenty producers of each kind of add at once.
//!
//! What a queue held at each moment comes from the server's own AOF, played again on a stock server.

use std::collections::BTreeSet;

use bull_tests::checks::load;
use bull_tests::clients::Kind;
use bull_tests::cluster::Cluster;
use bull_tests::producers::{Found, Plan, Producers, Said, Until};
use bull_tests::replay;
use bull_tests::server::Builder;
use bull_tests::{Client, Dump, Server, workspace};

const LIMIT: i64 = 100;
const PRODUCERS: u32 = 20;

fn rounds() -> u32 {
    std::env::var("GUARD_ROUNDS").ok().map_or(20, |text| text.parse().expect("GUARD_ROUNDS is a number"))
}

/// Enforces, and keeps an AOF of everything.
fn builder() -> Builder {
    Server::builder()
        .config("bull.guard enforce")
        .appendonly(true)
        .config("appendfsync no")
        .config("auto-aof-rewrite-percentage 0")
}

fn limit(client: &mut Client) {
    let path = workspace().join("target/policies/backlog_guard.wasm");
    let wasm = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run scripts/build", path.display()));
    load(client, "backlog-guard", &["CONFIG", &format!("{{\"max-jobs\":{LIMIT}}}")], &wasm);
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.ok(&["INFO", "everything"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("bull_guard_{field}:")));
    line.unwrap_or_else(|| panic!("no bull_guard_{field} in INFO")).trim().parse().expect("a number")
}

/// How often the server has answered NOSCRIPT.
fn no_script(client: &mut Client) -> u64 {
    let text = client.ok(&["INFO", "errorstats"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix("errorstat_NOSCRIPT:count="));
    line.map_or(0, |count| count.trim().parse().expect("a number"))
}

/// A load over: who sent it, where to, and what came of it.
struct Over {
    kind: Kind,
    prefix: String,
    said: Said,
    /// The node, where there are several.
    node: usize,
}

impl Over {
    fn queue(&self) -> String {
        format!("{}:limited", self.prefix)
    }

    /// Each producer knows what became of its jobs, and the queue holds just that.
    fn check(&self, dump: &Dump) -> Found {
        let (kind, said) = (self.kind, &self.said);
        let found = Found::read(dump, &self.prefix, "limited");
        let faults = found.faults(kind, said);
        assert!(faults.is_empty(), "{kind:?}:\n{faults}");
        assert_eq!((found.lost(kind, said), Found::reran(said)), (vec![], vec![]), "{kind:?}: lost, and run twice");
        assert!(said.unknown.is_empty() && said.other.is_empty(), "{kind:?}: {:?} {:?}", said.unknown, said.other);
        assert!(said.worker_errors.is_empty(), "{kind:?}: the worker was disturbed: {:?}", said.worker_errors);
        let expected = "BULLREJECT backlog-guard waiting 100 of at most 100 jobs";
        let strange = said.refused.values().find(|text| !text.contains(expected));
        assert_eq!(strange, None, "{kind:?}: errors are refusals");
        for (n, what) in &said.sent {
            let there = found.jobs.contains_key(n);
            // BullMQ 4 does not look at what EXEC says of a flow.
            let silent = kind == Kind::V4 && what == "flow";
            assert!(there || said.refused.contains_key(n) || silent, "{kind:?}: {what} {n} is gone without an error");
            // Only what waits is ever run, and all of it.
            let runs = there && what != "flow" && what != "delayed";
            assert_eq!(said.ran.contains_key(n), runs, "{kind:?}: {what} {n} ran");
            assert_eq!(found.completed.contains(n), runs, "{kind:?}: {what} {n} completed");
        }
        assert!(found.failed.is_empty(), "{kind:?}: failed jobs: {:?}", found.failed);
        // An id is drawn by every script that adds, and by no other.
        assert_eq!(found.last_id, found.jobs.len() as u64, "{kind:?}: ids used");
        assert_eq!(found.kids_last_id, 4 * found.flows.len() as u64, "{kind:?}: ids used by children");
        for what in said.sent.values().collect::<BTreeSet<_>>() {
            let mut sent = said.sent.iter().filter(|(_, kind)| *kind == what).map(|(n, _)| n);
            assert!(sent.any(|n| !found.jobs.contains_key(n)), "{kind:?}: no {what} was refused");
        }
        let flows = said.sent.values().any(|kind| kind == "flow");
        assert!(found.flows.is_empty() != flows && found.jobs.len() > 150, "{kind:?}: {} jobs", found.jobs.len());
        found
    }
}

/// Counters of the guard against what happened: every add was judged, children passed.
fn check_counters(client: &mut Client, over: &[(&Over, Found)]) {
    let sum =
        |count: &dyn Fn(&Over, &Found) -> usize| over.iter().map(|(load, found)| count(load, found)).sum::<usize>();
    let sent = sum(&|load, _| load.said.sent.len()) as u64;
    let there = sum(&|_, found| found.jobs.len()) as u64;
    let counters = ["admitted", "refused", "observed", "unreadable"].map(|name| info(client, name));
    assert_eq!(counters, [there, sent - there, 0, 0], "admitted, refused, observed, unreadable");
    // A client that starts with the digest is judged, told NOSCRIPT where that is no refusal, and comes again; so do
    // workers, who are not judged.
    let judged = info(client, "guarded");
    assert!((sent..=sent + no_script(client)).contains(&judged), "{judged} judged, {sent} sent");
    // Those of a flow of BullMQ 4 that was refused come too, and find no parent.
    let flows = sum(&|load, _| load.said.sent.values().filter(|kind| *kind == "flow").count()) as u64;
    assert_eq!(info(client, "passed"), 4 * flows, "children");
}

/// Never more than the limit, at any moment; and the limit was reached.
fn check_peaks(server: &Server, over: &[&Over]) {
    let commands = replay::commands(&server.dir().join("appendonlydir"));
    let stock = Server::stock();
    let queues: Vec<String> = over.iter().map(|load| load.queue()).collect();
    let peaks = replay::peaks(&mut stock.client(), &commands, &queues);
    for (load, peak) in over.iter().zip(&peaks) {
        assert_eq!(peak.most, LIMIT, "{:?}: most jobs waiting at one of {} moments", load.kind, peak.moments);
        assert!(peak.moments > 100, "{:?}: {peak:?}", load.kind);
    }
}

fn run(plans: Vec<(Kind, String, usize, u16)>, cluster: bool) -> Vec<Over> {
    let loads: Vec<(Kind, String, usize, Producers)> = plans
        .into_iter()
        .map(|(kind, prefix, node, port)| {
            let (name, until) = ("limited", Until::Rounds(rounds()));
            let plan = Plan { kind, port, cluster, prefix: &prefix, name, producers: PRODUCERS, until };
            let producers = Producers::start(&plan);
            (kind, prefix, node, producers)
        })
        .collect();
    loads.into_iter().map(|(kind, prefix, node, load)| Over { kind, prefix, said: load.finish(), node }).collect()
}

#[test]
fn never_more_than_the_limit_waits() {
    let mut server = builder().start();
    let mut client = server.client();
    limit(&mut client);
    let plans = Kind::ALL.map(|kind| (kind, format!("bull-{}", kind.name()), 0, server.port()));
    let over = run(plans.into(), false);
    let dump = Dump::take(&mut client);
    let found: Vec<(&Over, Found)> = over.iter().map(|load| (load, load.check(&dump))).collect();
    check_counters(&mut client, &found);
    check_peaks(&server, &over.iter().collect::<Vec<_>>());
    server.assert_alive();
}

#[test]
fn never_more_than_the_limit_waits_in_a_cluster() {
    let mut cluster = Cluster::start(3, &builder());
    cluster.nodes.iter().for_each(|node| limit(&mut node.client()));
    let plans = Kind::ALL.iter().enumerate().map(|(at, kind)| {
        let node = at % 3;
        // Clients ask another node first.
        (*kind, cluster.tag_on(node, kind.name()), node, cluster.nodes[(node + 1) % 3].port())
    });
    let over = run(plans.collect(), true);
    for (at, node) in cluster.nodes.iter_mut().enumerate() {
        let mut client = node.client();
        let dump = Dump::take(&mut client);
        let here: Vec<&Over> = over.iter().filter(|load| load.node == at).collect();
        let found: Vec<(&Over, Found)> = here.iter().map(|load| (*load, load.check(&dump))).collect();
        check_counters(&mut client, &found);
        check_peaks(node, &here);
        node.assert_alive();
    }
}

//! What the nodes say: BULL.STATS of each node, then of the queues that will be shown, the policies and their last
//! decisions. Only commands that read.

use anyhow::Result;
use bull_policy::node::{Node, Reply};

/// Decisions shown.
const DECISIONS: &str = "8";

/// Everything on the screen.
#[derive(Debug, Default)]
pub struct Picture {
    pub nodes: Vec<NodeRow>,
    pub queues: Vec<QueueRow>,
    /// Queues that there are, shown or not.
    pub total: usize,
    pub policies: Vec<PolicyRow>,
    pub decisions: Vec<Decision>,
    /// Nodes that did not answer, with the reason.
    pub lost: Vec<String>,
}

#[derive(Debug)]
pub struct NodeRow {
    pub address: String,
    pub role: &'static str,
    pub used: f64,
    /// 0: no limit.
    pub max: f64,
    pub queues: u64,
}

#[derive(Debug, Default)]
pub struct QueueRow {
    pub name: String,
    pub waiting: f64,
    pub active: f64,
    pub delayed: f64,
    pub failed_last_hour: f64,
    pub added_per_sec: f64,
    pub completed_per_sec: f64,
    pub failed_per_sec: f64,
    pub oldest_waiting_ms: f64,
    pub run_p95_ms: f64,
    /// None before the module has looked.
    pub bytes: Option<f64>,
    pub max_bytes: Option<f64>,
    pub max_jobs: Option<f64>,
    /// Jobs that policies rejected, deferred or let displace others.
    pub held: f64,
    pub stalled: f64,
    pub paused: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct PolicyRow {
    pub node: String,
    pub name: String,
    pub version: String,
    pub mode: String,
    pub state: String,
}

#[derive(Debug)]
pub struct Decision {
    pub at_ms: f64,
    pub policy: String,
    pub verdict: String,
    pub queue: String,
    pub reason: String,
}

/// Asks all nodes. `rows`: queues to be read in full, the longest first.
pub fn read(nodes: &mut Vec<Node>, lost: Vec<String>, pattern: &str, rows: usize) -> Picture {
    let mut picture = Picture { lost, ..Picture::default() };
    nodes.retain_mut(|node| match one(node, pattern, rows, &mut picture) {
        Ok(()) => true,
        Err(error) => {
            picture.lost.push(format!("{error:#}"));
            false
        }
    });
    picture.queues.sort_by(|a, b| longest(b, a).then_with(|| a.name.cmp(&b.name)));
    picture.queues.truncate(rows);
    picture.decisions.sort_by(|a, b| b.at_ms.total_cmp(&a.at_ms));
    picture.policies.sort_by(|a, b| (&a.name, &a.node).cmp(&(&b.name, &b.node)));
    picture
}

fn longest(a: &QueueRow, b: &QueueRow) -> std::cmp::Ordering {
    let busy = |row: &QueueRow| row.waiting + row.active + row.delayed;
    busy(a).total_cmp(&busy(b))
}

fn one(node: &mut Node, pattern: &str, rows: usize, picture: &mut Picture) -> Result<()> {
    let all = node.ask(&["BULL.STATS"])?;
    picture.nodes.push(NodeRow {
        address: node.address.clone(),
        role: node.role.name(),
        used: number(&all, "used-memory"),
        max: number(&all, "max-memory"),
        queues: number(&all, "queue-count") as u64,
    });
    let primary = node.role.name() == "primary";
    if primary {
        let names = node.ask(&["BULL.QUEUES", "MATCH", pattern, "COUNT", "1000000"])?;
        let wanted: std::collections::HashSet<String> = names.items().iter().map(Reply::line).collect();
        picture.total += wanted.len();
        // Beyond the rows of the node's own reply, names are taken as they come.
        let counted = all.get("queues").map(Reply::items).unwrap_or_default();
        let mut queues: Vec<(f64, String)> = counted
            .iter()
            .map(|row| (depth(row), row.text("queue")))
            .filter(|(_, name)| wanted.contains(name))
            .collect();
        queues.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        for (_, name) in queues.into_iter().take(rows) {
            // A queue may have gone meanwhile.
            let stats = node.send(&["BULL.STATS", &name])?;
            if !matches!(stats, Reply::Error(_)) {
                picture.queues.push(queue(name, &stats));
            }
        }
    }
    // Users who only see numbers may not see policies.
    let policies = node.send(&["BULL.POLICY", "LIST"])?;
    picture.policies.extend(policies.items().iter().filter(|_| !matches!(policies, Reply::Error(_))).map(|row| {
        let text = |name: &str| row.text(name);
        PolicyRow {
            node: node.address.clone(),
            name: text("name"),
            version: text("version"),
            mode: text("mode"),
            state: text("state"),
        }
    }));
    let decisions = node.send(&["BULL.POLICY", "LOG", "COUNT", DECISIONS])?;
    picture.decisions.extend(decisions.items().iter().map(|row| Decision {
        at_ms: number(row, "time"),
        policy: row.text("policy"),
        verdict: row.text("verdict"),
        queue: row.text("queue"),
        reason: row.text("reason"),
    }));
    Ok(())
}

fn depth(row: &Reply) -> f64 {
    ["waiting", "paused", "prioritized", "active", "delayed"].iter().map(|name| number(row, name)).sum()
}

fn queue(name: String, stats: &Reply) -> QueueRow {
    let of = |field: &str| number(stats, field);
    let limit = |field: &str| stats.get("limits").and_then(|limits| maybe(limits, field));
    QueueRow {
        name,
        waiting: of("waiting") + of("paused") + of("prioritized"),
        active: of("active"),
        delayed: of("delayed"),
        failed_last_hour: of("failed-last-hour"),
        added_per_sec: of("added-per-sec"),
        completed_per_sec: of("completed-per-sec"),
        failed_per_sec: of("failed-per-sec"),
        oldest_waiting_ms: of("oldest-waiting-ms"),
        run_p95_ms: of("run-p95-ms"),
        bytes: maybe(stats, "bytes"),
        max_bytes: limit("max-bytes"),
        max_jobs: limit("max-jobs"),
        held: of("rejected-total") + of("deferred-total") + of("displaced-total"),
        stalled: of("stalled"),
        paused: of("is-paused") > 0.0,
    }
}

fn maybe(row: &Reply, name: &str) -> Option<f64> {
    match row.get(name)? {
        Reply::Text(text) => text.parse().ok(),
        _ => None,
    }
}

fn number(row: &Reply, name: &str) -> f64 {
    maybe(row, name).unwrap_or(0.0)
}

//! A cluster of primaries on loopback, each with a third or so of the slots.

use crate::client::Reply;
use crate::server::{Builder, Server, free_port};

const SLOTS: usize = 16384;

/// Servers that form a cluster.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Starts `count` primaries, shares the slots out among them in order, and waits until all agree.
    ///
    /// # Panics
    /// Where they do not come together within the harness's patience.
    pub fn start(count: usize, builder: &Builder) -> Cluster {
        let nodes: Vec<(Server, u16)> = (0..count)
            .map(|_| {
                // The usual bus port, 10000 above, may lie beyond the last.
                let bus = free_port();
                let node = builder
                    .clone()
                    .config("cluster-enabled yes")
                    .config("cluster-announce-ip 127.0.0.1")
                    .config(format!("cluster-port {bus}"));
                (node.start(), bus)
            })
            .collect();
        for (at, (node, _)) in nodes.iter().enumerate() {
            let mut client = node.client();
            let [first, last] = [at, at + 1].map(|at| at * SLOTS / count);
            client.ok(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(last - 1).to_string()]);
            client.ok(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]);
        }
        let mut first = nodes[0].0.client();
        for (node, bus) in &nodes[1..] {
            first.ok(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), &bus.to_string()]);
        }
        for (node, _) in &nodes {
            node.wait_until("the cluster is whole", |client| {
                let info = client.ok(&["CLUSTER", "INFO"]).text();
                let slots = client.ok(&["CLUSTER", "SLOTS"]);
                info.contains("cluster_state:ok") && slots.items().len() == count
            });
        }
        Cluster { nodes: nodes.into_iter().map(|(node, _)| node).collect() }
    }

    /// The node that serves a key.
    pub fn node_of(&self, key: &str) -> usize {
        let Reply::Int(slot) = self.nodes[0].client().ok(&["CLUSTER", "KEYSLOT", key]) else { panic!("no slot") };
        let slot = usize::try_from(slot).expect("a slot");
        let count = self.nodes.len();
        (0..count).find(|at| slot < (at + 1) * SLOTS / count).expect("all slots are served")
    }

    /// A hash tag of this node, such as `{a3}`, among those that start with a text.
    pub fn tag_on(&self, node: usize, start: &str) -> String {
        let mut tags = (0..).map(|n| format!("{{{start}{n}}}"));
        tags.find(|tag| self.node_of(tag) == node).expect("a tag for each node")
    }
}

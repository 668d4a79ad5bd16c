//! Redirects of guarded adds in a cluster: those of EVAL and EVALSHA on stock servers, word by word.

use bull_tests::adds::{Add, DELAYED, PARENT, SCRIPT};
use bull_tests::checks::load;
use bull_tests::cluster::Cluster;
use bull_tests::{Client, Reply, Server, guests};

/// Two primaries, stock or guarded with a policy that refuses all.
struct Side {
    cluster: Cluster,
    clients: Vec<Client>,
}

impl Side {
    fn start(guarded: bool) -> Side {
        let builder = Server::builder().with_module(guarded).config("cluster-require-full-coverage no");
        let builder = if guarded { builder.config("bull.guard enforce") } else { builder };
        let cluster = Cluster::start(2, &builder);
        let mut clients: Vec<Client> = cluster.nodes.iter().map(Server::client).collect();
        if guarded {
            clients.iter_mut().for_each(|client| drop(load(client, "no", &[], &guests::rejecting(b"no"))));
        }
        Side { cluster, clients }
    }

    /// A reply with ports as numbers of nodes.
    fn cmd<A: AsRef<[u8]>>(&mut self, node: usize, words: &[A]) -> Reply {
        let nodes = &self.cluster.nodes;
        let named = |line: String| {
            nodes
                .iter()
                .enumerate()
                .fold(line, |line, (at, node)| line.replace(&format!(":{}", node.port()), &format!(" {at}")))
        };
        match self.clients[node].cmd(words) {
            Reply::Error(line) => Reply::Error(named(String::from_utf8_lossy(&line).into_owned()).into_bytes()),
            reply => reply,
        }
    }

    fn id(&mut self, node: usize) -> String {
        self.clients[node].ok(&["CLUSTER", "MYID"]).text()
    }

    fn slot(&mut self, tag: &str) -> String {
        self.clients[0].ok(&["CLUSTER", "KEYSLOT", tag]).text()
    }
}

const REDIRECTS: [&str; 5] = ["MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "CLUSTERDOWN"];

/// Sends to both; where the stock server runs the add, the guarded one refuses it.
fn both(sides: &mut [Side; 2], node: usize, words: &[Vec<u8>]) -> String {
    let [stock, guarded] = sides.each_mut().map(|side| side.cmd(node, words));
    match stock.error() {
        Some(error) if REDIRECTS.contains(&stock.code().expect("an error").as_str()) => {
            assert_eq!(Some(&error), guarded.error().as_ref(), "{:?}", words[0].escape_ascii().to_string());
            error
        }
        _ => {
            assert_eq!(guarded.error().as_deref(), Some("BULLREJECT no no"), "stock answers {stock:?}");
            "ran".into()
        }
    }
}

fn plain(sides: &mut [Side; 2], node: usize, line: &str) -> [Reply; 2] {
    let words: Vec<&str> = line.split(' ').collect();
    sides.each_mut().map(|side| side.cmd(node, &words))
}

#[test]
fn redirects_are_those_of_evalsha() {
    let mut sides = [Side::start(false), Side::start(true)];
    // Slots are shared out alike on both sides.
    let tag = sides[0].cluster.tag_on(0, "q");
    let queue = format!("bull:{tag}");
    let digest = [0, 1].map(|node| plain(&mut sides, node, "SCRIPT LOAD return(1)")[0].text())[0].clone();
    let adds: Vec<Vec<Vec<u8>>> = [Add::standard(&queue), Add::new(&queue, DELAYED), Add::new(&queue, PARENT)]
        .iter()
        .flat_map(|add| [add.eval(SCRIPT), add.eval("return 1"), add.evalsha(&digest)])
        .collect();
    let starts = |answers: &[String], start: &str| {
        assert!(answers.iter().all(|answer| answer.starts_with(start)), "{start}: {answers:?}");
    };
    let all = |sides: &mut [Side; 2], node: usize| adds.iter().map(|add| both(sides, node, add)).collect::<Vec<_>>();

    starts(&all(&mut sides, 1), "MOVED ");
    starts(&all(&mut sides, 0), "ran");
    // Keys all over the place.
    for node in [0, 1] {
        for add in [Add::standard("bull:q"), Add::new("bull:q", PARENT)] {
            assert!(both(&mut sides, node, &add.eval(SCRIPT)).starts_with("CROSSSLOT "));
        }
    }
    // A transaction is refused as a whole.
    for node in [1, 0] {
        plain(&mut sides, node, "MULTI");
        let [stock, guarded] = sides.each_mut().map(|side| side.cmd(node, &adds[0]));
        assert_eq!(stock, guarded);
        let [stock, guarded] = plain(&mut sides, node, "EXEC");
        match node {
            0 => assert_eq!(guarded.items()[0].error().as_deref(), Some("BULLREJECT no no")),
            _ => assert!(stock == guarded && guarded.code().as_deref() == Some("EXECABORT"), "{stock:?} {guarded:?}"),
        }
    }

    // The slot moves from node 0 to node 1.
    plain(&mut sides, 0, "FLUSHALL");
    for side in &mut sides {
        let (slot, ids) = (side.slot(&tag), [side.id(0), side.id(1)]);
        side.clients[1].ok(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]);
        side.clients[0].ok(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]);
    }
    // A write on its way, with the slot at rest for as long.
    let with_keys = |sides: &mut [Side; 2], line: &str| {
        for side in sides {
            let (slot, to) = (side.slot(&tag), side.id(1));
            side.clients[0].ok(&["CLUSTER", "SETSLOT", &slot, "STABLE"]);
            side.clients[0].ok(&line.split(' ').collect::<Vec<_>>());
            side.clients[0].ok(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to]);
        }
    };
    starts(&all(&mut sides, 0), "ASK ");
    starts(&all(&mut sides, 1), "MOVED ");
    for add in &adds {
        plain(&mut sides, 1, "ASKING");
        assert!(both(&mut sides, 1, add).starts_with("TRYAGAIN "));
    }
    with_keys(&mut sides, &format!("SET {queue}:meta 1"));
    starts(&all(&mut sides, 0), "TRYAGAIN ");
    // All keys are there, so the add runs where the slot still is; and where it goes, once the keys are.
    let every =
        ["wait", "paused", "meta", "id", "completed", "delayed", "active", "events", "marker", "waiting-children"];
    let values = every.map(|suffix| format!("{queue}:{suffix} 1")).join(" ");
    with_keys(&mut sides, &format!("MSET {values}"));
    starts(&all(&mut sides, 0), "ran");
    for suffix in every {
        for side in &mut sides {
            side.clients[1].ok(&["ASKING"]);
            side.clients[1].ok(&["SET", &format!("{queue}:{suffix}"), "1"]);
        }
    }
    for add in &adds {
        plain(&mut sides, 1, "ASKING");
        assert_eq!(both(&mut sides, 1, add), "ran");
        plain(&mut sides, 1, "ASKING");
        plain(&mut sides, 1, "MULTI");
        let [stock, guarded] = sides.each_mut().map(|side| side.cmd(1, add));
        assert_eq!(stock, guarded);
        let [stock, guarded] = plain(&mut sides, 1, "EXEC");
        assert_eq!(stock.code(), guarded.code(), "{stock:?} {guarded:?}");
    }

    // A slot that nobody serves.
    let lost = sides[0].cluster.tag_on(0, "lost");
    for side in &mut sides {
        let slot = side.slot(&lost);
        side.clients.iter_mut().for_each(|client| drop(client.ok(&["CLUSTER", "DELSLOTS", &slot])));
    }
    // A node that heard of it from the other a moment before takes it for the other's once more.
    for side in &mut sides {
        let slot = side.slot(&lost);
        for node in [0, 1] {
            let server = &side.cluster.nodes[node];
            server.wait_until("nobody serves the slot", |client| {
                client.cmd(&["CLUSTER", "DELSLOTS", &slot]);
                client.cmd(&["EXISTS", &lost]).code().as_deref() == Some("CLUSTERDOWN")
            });
        }
    }
    for node in [0, 1] {
        let answer = both(&mut sides, node, &Add::standard(&format!("bull:{lost}")).eval(SCRIPT));
        assert!(answer.starts_with("CLUSTERDOWN "), "{answer}");
    }
    sides.iter_mut().flat_map(|side| &mut side.cluster.nodes).for_each(Server::assert_alive);
}

//! Roles that flip by REPLICAOF while the timer trims on both: a node that became a replica writes nothing by itself any more,
//! and what a replica had acknowledged is on the node that takes over.

use std::time::Instant;

use super::await_replicas;
use crate::checks::load as load_policy;
use crate::client::Client;
use crate::soak::checks::must_be_sound;
use crate::soak::faults::{link_is_up, must_equal};
use crate::soak::load::{QUEUE, Said};
use crate::soak::oracle::judge;
use crate::soak::{Row, Seed};
use crate::wishes::{Wish, wishing};
use crate::{Dump, Server};

/// Flips for each of `times`.
const FLIPS: u64 = 20;
/// Finished jobs before each flip, most of which retention and ticks remove.
const FINISHED: u64 = 200;

/// # Panics
/// With the seed, where a job is lost or torn, or where the two copies differ after a flip.
pub fn roles(times: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let node = || Server::builder().plain().config("bull.tick-ms 100").config("bull.slice-us 60");
    let first = node().start();
    let second = node().replica_of(&first).start();
    let wishes = [
        Wish::TrimEvents { queue: QUEUE.into(), keep: 50 },
        Wish::Trim { queue: QUEUE.into(), criteria: [None, None, Some(20), None, None] },
    ];
    for server in [&first, &second] {
        load_policy(&mut server.client(), "trims", &[], &wishing(&wishes).build());
    }
    let mut servers = [first, second];
    let mut said = Said::default();
    for _ in 0..FLIPS * times {
        servers[1].wait_until("the link is up", link_is_up);
        let mut client = servers[0].client();
        client.ok(&["BULL.PROFILE", "SET", QUEUE, "keep-completed", &schedule.within(0, 100).to_string()]);
        fill(&mut client, &mut said);
        await_replicas(&mut client, 1, seed);
        // Somewhere within the trims of the timer.
        std::thread::sleep(schedule.millis(0, 60));
        servers[1].client().ok(&["REPLICAOF", "NO", "ONE"]);
        std::thread::sleep(schedule.millis(0, 20));
        servers[0].client().ok(&["REPLICAOF", "127.0.0.1", &servers[1].port().to_string()]);
        servers.swap(0, 1);
        servers[1].wait_until("the link is up", link_is_up);
        // While the timer of both still runs.
        std::thread::sleep(schedule.millis(0, 150));
        let mut client = servers[0].client();
        client.ok(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        let offset = |client: &mut Client| {
            let info = client.ok(&["INFO", "replication"]).text();
            info.lines().find_map(|line| line.strip_prefix("master_repl_offset:").map(str::to_owned))
        };
        let written = offset(&mut client);
        servers[1].wait_until("the replica has all", |replica| offset(replica) == written);
        let dumps = [0, 1].map(|at: usize| Dump::take(&mut servers[at].client()));
        client.ok(&["CLIENT", "UNPAUSE"]);
        must_equal("role flips", seed, &dumps[0], &dumps[1], ["the new primary", "its replica"]);
        let found = judge(&dumps[0], QUEUE, &said);
        assert!(found.is_clean(), "role flips, seed {seed}:\n{}", found.text());
        must_be_sound("role flips", seed, &servers[0]);
        // So that dumps stay small.
        client.ok(&["FLUSHALL"]);
        said.acked.clear();
        servers.iter_mut().for_each(Server::assert_alive);
    }
    Row {
        scenario: "role flips by REPLICAOF",
        seed,
        faults: FLIPS * times,
        acked: said.sent,
        took: start.elapsed(),
        note: "with retention and ticks that trim on both".to_owned(),
        ..Row::default()
    }
}

/// Waiting jobs, which must stay, and finished ones, which the timer trims.
fn fill(client: &mut Client, said: &mut Said) {
    let job = |n: u64| ["job".to_owned(), format!("{{\"n\":{n}}}"), "-".to_owned()];
    let command = |numbers: std::ops::Range<u64>| {
        ["BULL.MADD".to_owned(), QUEUE.to_owned()].into_iter().chain(numbers.flat_map(job)).collect::<Vec<_>>()
    };
    let first = said.sent;
    said.sent += FINISHED + 20;
    client.ok(&command(first..first + FINISHED));
    let finish = "local ids = redis.call('LRANGE', KEYS[1], 0, -1) redis.call('DEL', KEYS[1]) \
        for i, id in ipairs(ids) do redis.call('ZADD', KEYS[2], i, id) \
        redis.call('HSET', KEYS[3] .. id, 'finishedOn', i, 'returnvalue', 'null') end return #ids";
    let keys = ["wait", "completed", ""].map(|suffix| format!("{QUEUE}:{suffix}"));
    client.ok(&["EVAL", finish, "3", &keys[0], &keys[1], &keys[2]]);
    let ids = client.ok(&command(first + FINISHED..said.sent)).strings();
    said.acked.extend((first + FINISHED..said.sent).zip(ids));
}

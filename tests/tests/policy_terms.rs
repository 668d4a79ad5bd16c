//! Policies that admit on terms: jobs that meet them enter without a call, all others are judged, and no limit is passed.

use bull_tests::adds::{Add, SCRIPT};
use bull_tests::checks::load;
use bull_tests::{Client, Reply, Server, guests};

const QUEUE: &str = "bull:{q}";

/// A server that never ticks by itself while a test runs.
fn start() -> (Server, Client) {
    let server = Server::builder().config("bull.tick-ms 60000").config("bull.guard enforce").start();
    let mut client = server.client();
    client.ok(&["HSET", &format!("{QUEUE}:meta"), "version", "bullmq:6.7.0"]);
    (server, client)
}

/// Jobs it was to judge, of these the ones it was not called for, admitted, refused.
fn counts(client: &mut Client, policy: &str) -> [i64; 4] {
    let info = client.ok(&["BULL.POLICY", "INFO", policy]);
    ["calls", "unasked", "admitted", "rejected"].map(|name| info.get(name).unwrap_or_else(|| panic!("{name}")).int())
}

fn add_many(client: &mut Client, queue: &str, jobs: usize) -> usize {
    let words: Vec<&str> = ["BULL.MADD", queue].into_iter().chain((0..jobs).flat_map(|_| ["job", "{}", "-"])).collect();
    let replies = client.ok(&words);
    let refused = replies.items().iter().filter(|reply| reply.error().is_some_and(|text| text.ends_with("full")));
    refused.count()
}

#[test]
fn jobs_within_the_terms_enter_without_a_call_and_the_limit_holds() {
    let (mut server, mut client) = start();
    load(&mut client, "p", &[], &guests::bounded(5));
    assert_eq!(add_many(&mut client, QUEUE, 8), 3);
    assert_eq!(counts(&mut client, "p"), [8, 4, 5, 3]);
    assert_eq!(client.ok(&["LLEN", &format!("{QUEUE}:wait")]).int(), 5);

    // Room that others make, and jobs that others add, count at once.
    client.ok(&["LTRIM", &format!("{QUEUE}:wait"), "0", "2"]);
    assert_eq!(add_many(&mut client, QUEUE, 1), 0);
    client.ok(&["LPUSH", &format!("{QUEUE}:paused"), "x"]);
    assert!(client.cmd(&["BULL.ADD", QUEUE, "job", "{}"]).error().is_some_and(|text| text.ends_with("full")));
    assert_eq!(counts(&mut client, "p"), [10, 4, 6, 4]);
    server.assert_alive();
}

#[test]
fn scripts_of_clients_meet_the_same_terms() {
    let (mut server, mut client) = start();
    load(&mut client, "p", &[], &guests::bounded(3));
    let replies: Vec<Reply> = (0..5).map(|_| client.cmd(&Add::standard(QUEUE).eval(SCRIPT))).collect();
    let refused: Vec<bool> = replies.iter().map(|reply| reply.code().as_deref() == Some("BULLREJECT")).collect();
    assert_eq!(refused, [false, false, false, true, true], "{replies:?}");
    assert_eq!(counts(&mut client, "p"), [5, 2, 3, 2]);
    let stats = client.ok(&["BULL.POLICY", "INFO", "p"]);
    assert_eq!(stats.get("guard-admitted").expect("a count").int(), 3);
    server.assert_alive();
}

#[test]
fn terms_end_with_what_they_rest_on() {
    let (mut server, mut client) = start();
    load(&mut client, "p", &[], &guests::bounded(100));
    // Added, and asked about since the last time.
    let asked = |client: &mut Client, queue: &str| {
        let [calls, unasked, ..] = counts(client, "p");
        assert_eq!(add_many(client, queue, 3), 0);
        // However often it is asked, the queue stays far from its limit.
        client.ok(&["LTRIM", &format!("{queue}:wait"), "0", "8"]);
        let [now, now_unasked, ..] = counts(client, "p");
        assert_eq!(now - calls, 3);
        3 - (now_unasked - unasked)
    };
    assert_eq!(asked(&mut client, QUEUE), 1, "the first is asked about");
    assert_eq!(asked(&mut client, QUEUE), 0);
    assert_eq!(asked(&mut client, "bull:{other}"), 1, "terms are those of one queue");
    client.ok(&["BULL.PROFILE", "SET", QUEUE, "max-jobs", "7"]);
    assert_eq!(asked(&mut client, QUEUE), 1, "other limits");
    client.ok(&["CONFIG", "SET", "maxmemory", "1gb"]);
    server.wait_until("the new limit is seen", |client| asked(client, QUEUE) == 1);
    assert_eq!(asked(&mut client, QUEUE), 0);
    client.ok(&["BULL.POLICY", "CONFIG", "p", "{}"]);
    assert_eq!(asked(&mut client, QUEUE), 1, "a new instance");
    load(&mut client, "other", &["QUEUES", "bull:*"], &guests::bounded(100));
    assert_eq!(asked(&mut client, QUEUE), 1, "another walk");
    client.ok(&["BULL.POLICY", "REMOVE", "other"]);
    assert_eq!(asked(&mut client, QUEUE), 1);
    client.ok(&["FLUSHALL"]);
    assert_eq!(asked(&mut client, QUEUE), 1);
    client.ok(&["CONFIG", "SET", "bull.tick-ms", "100"]);
    server.wait_until("a tick", |client| asked(client, QUEUE) == 1);
    server.assert_alive();
}

#[test]
fn a_policy_without_terms_is_asked_about_every_job() {
    let (mut server, mut client) = start();
    load(&mut client, "first", &[], &guests::bounded(4));
    load(&mut client, "second", &[], &guests::Guest::new("plain").build());
    assert_eq!(add_many(&mut client, QUEUE, 6), 2);
    assert_eq!(counts(&mut client, "first"), [6, 3, 4, 2]);
    assert_eq!(counts(&mut client, "second"), [4, 0, 4, 0]);
    server.assert_alive();
}

//! What policies wish for at ticks: done as BullMQ does it, or counted and ignored.

use std::time::{Duration, Instant};

use bull_tests::checks::{add, finish, load, now_ms};
use bull_tests::clients::{node, output};
use bull_tests::dump::assert_same;
use bull_tests::wishes::{Wish, wishing};
use bull_tests::{Client, Dump, Reply, Server, guests};

fn server() -> Server {
    Server::builder().config("bull.tick-ms 100").start()
}

fn count(client: &mut Client, policy: &str, field: &str) -> i64 {
    let shown = client.ok(&["BULL.POLICY", "INFO", policy]);
    shown.get(field).unwrap_or_else(|| panic!("no {field} in {shown:?}")).int()
}

fn text(client: &mut Client, policy: &str, field: &str) -> String {
    match client.ok(&["BULL.POLICY", "INFO", policy]).get(field).expect("a field") {
        Reply::Null => String::new(),
        value => value.text(),
    }
}

/// Ticks of a policy from now on.
fn wait_for_ticks(server: &Server, policy: &str, more: i64) {
    let before = count(&mut server.client(), policy, "ticks");
    server.wait_until("ticks", |client| count(client, policy, "ticks") >= before + more);
}

#[test]
fn pause_and_resume_leave_what_bullmq_leaves() {
    let mut server = server();
    let script = |step: &str| {
        let mut command = node("pause.mjs");
        command.args(["--port", &server.port().to_string(), "--step", step]);
        let (output, text) = output(command);
        assert!(output.status.success(), "{text}");
        text
    };
    script("seed");
    let kinds = ["empty", "waiting", "prioritized", "delayed", "all", "older", "mixed"];
    let queues = |kinds: &[&str]| kinds.iter().map(|kind| format!("bull:{kind}-policy")).collect::<Vec<_>>();
    let pauses: Vec<_> = queues(&kinds[..5]).into_iter().map(Wish::Pause).collect();
    let mut client = server.client();
    load(&mut client, "p", &["QUEUES", "bull:*-policy"], &wishing(&pauses).build());
    server.wait_until("five pauses", |client| count(client, "p", "pauses") == 5);
    wait_for_ticks(&server, "p", 2);
    assert_eq!(count(&mut client, "p", "pauses"), 5, "a queue that is paused is left alone");
    assert_eq!(script("pause").matches("ok   pause").count(), 5);

    let resumes: Vec<_> = queues(&kinds).into_iter().map(Wish::Resume).collect();
    load(&mut client, "p", &[], &wishing(&resumes).build());
    server.wait_until("seven resumes", |client| count(client, "p", "resumes") == 7);
    wait_for_ticks(&server, "p", 2);
    assert_eq!(count(&mut client, "p", "resumes"), 7);
    assert_eq!(script("resume").matches("ok   resume").count(), 7);
    assert_eq!(count(&mut client, "p", "actions-ignored"), 0, "{}", text(&mut client, "p", "last-ignored"));
    server.assert_alive();
}

#[test]
fn trims_are_begun_with_their_criteria() {
    let mut server = server();
    let mut client = server.client();
    let now = now_ms(&mut client);
    for (at, state) in [(now - 100_000, "completed"), (now, "completed"), (now - 100_000, "failed")] {
        let id = add(&mut client, "bull:q", "{}", &[]);
        finish(&mut client, "bull:q", &id, state, at);
    }
    let trim = Wish::Trim { queue: "bull:q".into(), criteria: [Some(50_000), None, None, Some(9), None] };
    let events = Wish::TrimEvents { queue: "bull:q".into(), keep: 2 };
    load(&mut client, "observing", &["MODE", "observe"], &wishing(&[trim.clone(), events.clone()]).build());
    server.wait_until("wishes", |client| count(client, "observing", "actions-observed") >= 4);
    assert_eq!(client.ok(&["ZCARD", "bull:q:completed"]).int(), 2, "who observes does nothing");
    assert_eq!(count(&mut client, "observing", "trims"), 0);

    load(&mut client, "p", &[], &wishing(&[trim]).build());
    server.wait_until("the old completed job goes", |client| client.ok(&["ZCARD", "bull:q:completed"]).int() == 1);
    assert_eq!(client.ok(&["ZCARD", "bull:q:failed"]).int(), 1, "nine failed jobs may stay");
    load(&mut client, "p", &[], &wishing(&[events]).build());
    server.wait_until("events go", |client| client.ok(&["XLEN", "bull:q:events"]).int() <= 3);
    server.wait_until("both are counted", |client| {
        count(client, "p", "trims") >= 1 && count(client, "p", "event-trims") >= 1
    });
    server.assert_alive();
}

#[test]
fn absurd_wishes_are_counted_and_ignored() {
    let mut server = server();
    let mut client = server.client();
    add(&mut client, "bull:mine", "{}", &[]);
    add(&mut client, "other:theirs", "{}", &[]);
    let absurd = [
        Wish::Pause("bull:nosuch".into()),
        Wish::Pause("other:theirs".into()),
        Wish::Pause(String::new()),
        Wish::Pause("bull:mine:wait".into()),
        Wish::Resume("no-prefix".into()),
        Wish::Resume("bull:\u{7}\n%s".into()),
        Wish::Trim { queue: "bull:mine".into(), criteria: [None; 5] },
        Wish::Trim { queue: "bull:".into(), criteria: [Some(0); 5] },
        Wish::TrimEvents { queue: "x".repeat(3000), keep: 0 },
        Wish::Emergency(0),
        Wish::Emergency(255),
    ];
    let before = Dump::take(&mut client);
    load(&mut client, "p", &["QUEUES", "bull:*"], &wishing(&absurd).build());
    wait_for_ticks(&server, "p", 3);
    server.wait_until("all are counted", |client| {
        let (ticks, ignored) = (count(client, "p", "ticks"), count(client, "p", "actions-ignored"));
        // The last tick may still be at work.
        ignored >= (ticks - 1) * absurd.len() as i64
    });
    assert_same(&before, &Dump::take(&mut client), ["before the wishes", "after them"]);
    // The last wish of a tick; another tick may be at work.
    server.wait_until("the last is told", |client| text(client, "p", "last-ignored").contains("percentage"));
    assert_eq!(count(&mut client, "p", "faults"), 0);

    client.ok(&["SET", "bull:broken:events", "no stream"]);
    client.ok(&["HSET", "bull:broken:meta", "version", "bullmq:6.7.0"]);
    let before = Dump::take(&mut client);
    load(&mut client, "p", &["QUEUES", "*"], &wishing(&[Wish::Pause("bull:broken".into())]).build());
    server.wait_until("a wrong type", |client| text(client, "p", "last-ignored").contains("stream"));
    assert_same(&before, &Dump::take(&mut client), ["before the pause", "after it"]);
    server.assert_alive();
}

#[test]
fn an_emergency_frees_memory_once_it_is_needed() {
    let mut server = server();
    let mut client = server.client();
    let old = now_ms(&mut client) - 30 * 86_400_000;
    let data = format!("\"{}\"", "x".repeat(1 << 20));
    for _ in 0..8 {
        let id = add(&mut client, "bull:q", &data, &[]);
        finish(&mut client, "bull:q", &id, "completed", old);
    }
    let kept = add(&mut client, "bull:q", &data, &[]);
    let info = client.ok(&["INFO", "memory"]).text();
    let used: u64 =
        info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a line").parse().expect("bytes");
    load(&mut client, "p", &[], &wishing(&[Wish::Emergency(80)]).build());
    server.wait_until("a server without maxmemory", |client| text(client, "p", "last-ignored").contains("maxmemory"));
    client.ok(&["CONFIG", "SET", "maxmemory", &(used * 2).to_string()]);
    server.wait_until("nothing to do", |client| count(client, "p", "actions-unneeded") >= 3);
    assert_eq!(client.ok(&["ZCARD", "bull:q:completed"]).int(), 8);
    client.ok(&["CONFIG", "SET", "maxmemory", &(used * 11 / 10).to_string()]);
    server.wait_until("finished jobs to go", |client| client.ok(&["ZCARD", "bull:q:completed"]).int() < 8);
    server.wait_until("the emergency is counted", |client| count(client, "p", "emergencies") >= 1);
    assert_eq!(client.ok(&["EXISTS", &format!("bull:q:{kept}")]).int(), 1, "unfinished jobs stay");
    server.assert_alive();
}

#[test]
fn more_actions_than_a_call_may_wish_for_are_ignored() {
    let mut server = server();
    let mut client = server.client();
    add(&mut client, "bull:q", "{}", &[]);
    let wishes: Vec<_> = (0..150).map(|_| Wish::Pause("bull:q".into())).collect();
    load(&mut client, "p", &[], &wishing(&wishes).build());
    server.wait_until("all are counted", |client| count(client, "p", "actions-unneeded") >= 99);
    assert_eq!(count(&mut client, "p", "pauses"), 1);
    assert!(count(&mut client, "p", "actions-ignored") >= 50);
    assert!(text(&mut client, "p", "last-ignored").contains("100 actions"));
    server.assert_alive();
}

#[test]
fn notices_are_logged_escaped_and_bounded() {
    let mut server = server();
    let mut client = server.client();
    add(&mut client, "bull:q", "{}", &[]);
    let wishes: Vec<_> =
        (0..30).map(|at| Wish::Notice { queue: "bull:q".into(), text: format!("%s{at}\n\u{4e00}") }).collect();
    load(&mut client, "p", &[], &wishing(&wishes).build());
    server.wait_until("notices", |client| count(client, "p", "notices") >= 30);
    client.ok(&["BULL.POLICY", "REMOVE", "p"]);
    let log = server.log();
    assert!(log.contains(r"bull: p: bull:q: %s19\n\xe4\xb8\x80"), "{log}");
    assert!(log.contains("bull: p: and 10 more notices") && !log.contains("%s20"), "{log}");
    server.assert_alive();
}

#[test]
fn policies_cannot_fill_the_log_with_notices() {
    let mut server = server();
    let mut client = server.client();
    // A call a queue and tick, of 20 lines each.
    for at in 0..80 {
        add(&mut client, &format!("bull:q{at}"), "{}", &[]);
    }
    let wishes: Vec<_> = (0..20).map(|_| Wish::Notice { queue: "bull:q".into(), text: "again".into() }).collect();
    let start = Instant::now();
    load(&mut client, "p", &[], &wishing(&wishes).build());
    server.wait_until("some thousand notices", |client| count(client, "p", "notices") >= 5000);
    server.wait_until("what was left out is told", |_| server.log().contains("notices of policies were left out"));
    let logged = server.log().matches("bull: p: bull:q: again").count() as u64;
    let notices = count(&mut client, "p", "notices");
    // Whole seconds of the server's clock, the first and the last among them.
    let seconds = start.elapsed().as_secs() + 2;
    assert!(logged <= 100 * seconds, "{logged} lines of {notices} notices in {seconds} s");
    server.assert_alive();
}

/// A tick that never ends is a fault like others, and keeps nobody else's from being called.
#[test]
fn every_queue_is_seen_once_a_round() {
    let mut server = server();
    let mut client = server.client();
    for at in 0..100 {
        add(&mut client, &format!("bull:q{at}"), "{}", &[]);
    }
    add(&mut client, "other:q", "{}", &[]);
    load(&mut client, "p", &["QUEUES", "bull:*"], &wishing(&[]).build());
    client.ok(&["CONFIG", "SET", "bull.tick-ms", "3600000"]);
    let still = |client: &mut Client| {
        let before = count(client, "p", "ticks");
        // Each of these lets the server's timer have its turn, however late it is.
        for _ in 0..30 {
            std::thread::sleep(Duration::from_millis(10));
            client.ok(&["PING"]);
        }
        count(client, "p", "ticks") == before
    };
    server.wait_until("the round under way to end", still);
    let calls = count(&mut client, "p", "ticks");
    client.ok(&["CONFIG", "SET", "bull.tick-ms", "100"]);
    load(&mut client, "endless", &[], &guests::looping_tick());
    server.wait_until("a suspension", |client| text(client, "endless", "state") == "suspended");
    assert!(calls % 13 == 0, "101 queues in batches of 8, of which 13 have some of bull:*: {calls} calls");
    assert_eq!(text(&mut client, "p", "state"), "ready");
    server.assert_alive();
}

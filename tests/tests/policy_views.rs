//! BULL.POLICY TEST and LOG: what a policy would say, and what policies have said.

use bull_tests::checks::{add, load};
use bull_tests::dump::assert_same;
use bull_tests::wishes::{Wish, wishing};
use bull_tests::{Client, Dump, Reply, Server, guests};

const QUEUE: &str = "bull:q";

fn test(client: &mut Client, policy: &str, words: &[&str]) -> Reply {
    client.ok(&[&["BULL.POLICY", "TEST", policy, QUEUE], words].concat())
}

fn field(row: &Reply, name: &str) -> String {
    match row.get(name).unwrap_or_else(|| panic!("no {name}: {row:?}")) {
        Reply::Null => String::new(),
        value => value.text(),
    }
}

#[test]
fn a_test_tells_the_verdict_and_changes_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    add(&mut client, QUEUE, "{}", &[]);
    let cases = [
        ("admit", "", guests::admit_all()),
        ("reject", "no", guests::rejecting(b"no")),
        ("defer", "5 ms", guests::deferring(5)),
        ("displace", "1 jobs", guests::displacing(1)),
        ("fault", "ran out of fuel", guests::looping()),
    ];
    for (verdict, reason, wasm) in cases {
        load(&mut client, "p", &["QUEUES", "other:*"], &wasm);
        let (keys, info) = (Dump::take(&mut client), client.ok(&["BULL.POLICY", "INFO", "p"]));
        let told = test(&mut client, "p", &[]);
        assert_eq!((field(&told, "verdict").as_str(), field(&told, "reason").as_str()), (verdict, reason));
        assert!(told.get("fuel").expect("fuel").int() > 0 && told.get("nanoseconds").expect("a time").int() > 0);
        assert_eq!(told.get("covers-queue").expect("a flag").int(), 0);
        assert_same(&keys, &Dump::take(&mut client), ["before the test", "after it"]);
        assert_eq!(client.ok(&["BULL.POLICY", "INFO", "p"]), info, "counters and state stay");
    }
    assert_eq!(test(&mut client, "p", &[]).get("fuel").expect("fuel").int(), 100_000, "a fault took all");
    assert!(client.ok(&["BULL.POLICY", "LOG"]).items().is_empty(), "a test is no decision");
    server.assert_alive();
}

#[test]
fn the_job_of_a_test_is_what_the_policy_sees() {
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "p", &[], &guests::trapping_at(12345));
    let data = format!("{{\"data\":\"{}\"}}", "x".repeat(12343));
    assert_eq!(field(&test(&mut client, "p", &[&data]), "verdict"), "fault");
    assert_eq!(field(&test(&mut client, "p", &[r#"{"data":{"a":1}}"#]), "verdict"), "reject");
    let delayed = r#"{"name":"n","opts":{"delay":12345,"attempts":3},"source":"script"}"#;
    assert_eq!(field(&test(&mut client, "p", &[delayed]), "verdict"), "fault", "the delay is among the facts");
    for wrong in ["", "[]", "{", r#"{"nosuch":1}"#, r#"{"source":"x"}"#, r#"{"opts":{"delay":"x"}}"#, r#"{"data":}"#] {
        let reply = client.cmd(&["BULL.POLICY", "TEST", "p", QUEUE, wrong]);
        assert_eq!(reply.code().as_deref(), Some("ERR"), "{wrong}: {reply:?}");
    }
    let reply = client.cmd(&["BULL.POLICY", "TEST", "nosuch", QUEUE]);
    assert_eq!(reply.code().as_deref(), Some("BULLPOLICY"), "{reply:?}");
    server.assert_alive();
}

#[test]
fn the_log_has_the_newest_decisions_first() {
    let mut server = Server::builder().config("bull.tick-ms 100").start();
    let mut client = server.client();
    let log =
        |client: &mut Client, words: &[&str]| client.ok(&[&["BULL.POLICY", "LOG"], words].concat()).items().to_vec();
    assert!(log(&mut client, &[]).is_empty());
    load(&mut client, "first", &["ORDER", "1", "MODE", "observe"], &guests::versioned(1));
    load(&mut client, "second", &["ORDER", "2"], &guests::versioned(2));
    client.cmd(&["BULL.ADD", QUEUE, "mail", "12345"]);
    let rows = log(&mut client, &[]);
    let seen: Vec<_> = rows
        .iter()
        .map(|row| {
            ["policy", "version", "queue", "job", "bytes", "verdict", "reason", "effect"].map(|name| field(row, name))
        })
        .collect();
    let expected = [
        ["second", "2.0.0", QUEUE, "mail", "5", "reject", "v2", "enforced"],
        ["first", "1.0.0", QUEUE, "mail", "5", "reject", "v1", "observed"],
    ];
    assert_eq!(seen, expected);
    assert!(rows[0].get("time").expect("a time").int() > 1_700_000_000_000);
    assert_eq!(log(&mut client, &["POLICY", "first"]).len(), 1);
    assert_eq!(log(&mut client, &["VERDICT", "defer"]).len(), 0);
    assert_eq!(log(&mut client, &["COUNT", "1", "VERDICT", "REJECT"]).len(), 1);

    client.ok(&["BULL.POLICY", "REMOVE", "second"]);
    load(&mut client, "first", &["MODE", "enforce"], &guests::trapping());
    add(&mut client, QUEUE, "{}", &[]);
    let row = log(&mut client, &["VERDICT", "fault"]).remove(0);
    assert!(field(&row, "reason").starts_with("trapped"), "{row:?}");
    load(&mut client, "first", &[], &wishing(&[Wish::Pause(QUEUE.into())]).build());
    server.wait_until("a pause", |client| log(client, &["VERDICT", "pause"]).len() == 1);
    assert_eq!(field(&log(&mut client, &["VERDICT", "pause"])[0], "queue"), QUEUE);

    // What a policy says cannot steer a terminal; a fault at a tick is told as well.
    let rude = guests::Guest::new("rude").version("1\u{1b}[2J").rejecting(b"no\x1b]0;x\n").build();
    load(&mut client, "rude", &["ORDER", "0"], &rude);
    let error = client.cmd(&["BULL.ADD", QUEUE, "mail", "1"]).error().expect("an error");
    // The test's own client shows a backslash as two.
    assert!(error.ends_with(r"no\\u{1b}]0;x\\n"), "{error}");
    let row = log(&mut client, &["POLICY", "rude"]).remove(0);
    assert_eq!(["version", "reason"].map(|name| field(&row, name)), [r"1\u{1b}[2J", r"no\u{1b}]0;x\n"]);
    assert_eq!(field(&client.ok(&["BULL.POLICY", "INFO", "rude"]), "version"), r"1\u{1b}[2J");
    load(&mut client, "rude", &[], &guests::looping_tick());
    server.wait_until("a fault at a tick", |client| !log(client, &["POLICY", "rude", "VERDICT", "fault"]).is_empty());
    let row = log(&mut client, &["POLICY", "rude", "VERDICT", "fault"]).remove(0);
    assert_eq!(["queue", "job", "reason"].map(|name| field(&row, name)), ["", "", "ran out of fuel"]);
    client.ok(&["BULL.POLICY", "REMOVE", "rude"]);

    // A ring: the newest thousand.
    load(&mut client, "first", &[], &guests::versioned(3));
    let calls: Vec<_> = (0..1100).map(|_| vec!["BULL.ADD", QUEUE, "job", "{}"]).collect();
    client.pipeline(&calls).expect("replies");
    assert_eq!(log(&mut client, &["COUNT", "1000"]).len(), 1000);
    assert!(log(&mut client, &["COUNT", "1000", "VERDICT", "fault"]).is_empty());
    assert_eq!(log(&mut client, &[]).len(), 10);
    for wrong in [&["COUNT", "0"][..], &["COUNT", "1001"], &["VERDICT", "maybe"], &["POLICY", "../x"], &["NOSUCH"]] {
        let reply = client.cmd(&[&["BULL.POLICY", "LOG"], wrong].concat());
        assert_eq!(reply.code().as_deref(), Some("ERR"), "{wrong:?}: {reply:?}");
    }
    server.assert_alive();
}

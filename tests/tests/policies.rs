//! Policies that misbehave in every way we could think of, and a server that does not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bull_tests::checks::{add, error_fault, load, now_ms, try_load};
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Reply, Server, guests};

const QUEUE: &str = "bull:q";

fn info(client: &mut Client, policy: &str, field: &str) -> String {
    let shown = client.ok(&["BULL.POLICY", "INFO", policy]);
    shown.get(field).unwrap_or_else(|| panic!("no {field} in {shown:?}")).text()
}

fn try_add(client: &mut Client) -> Reply {
    client.cmd(&["BULL.ADD", QUEUE, "job", "{}"])
}

#[test]
fn a_failing_policy_admits_unless_told_to_reject() {
    let mut server = Server::start();
    let mut client = server.client();
    for (name, wasm) in guests::failing() {
        load(&mut client, name, &[], &wasm);
        add(&mut client, QUEUE, "{}", &[]);
        load(&mut client, name, &["ONERROR", "reject"], &wasm);
        let before = Dump::take(&mut client);
        let reply = try_add(&mut client);
        let Reply::Error(line) = &reply else { panic!("{name} did not reject: {reply:?}") };
        assert!(line.starts_with(format!("BULLREJECT {name} ").as_bytes()), "{reply:?}");
        assert_eq!(error_fault(line), None);
        assert_same(&before, &Dump::take(&mut client), ["before the rejection", "after it"]);
        client.ok(&["BULL.POLICY", "REMOVE", name]);
    }
    add(&mut client, QUEUE, "{}", &[]);
    server.assert_alive();
}

#[test]
fn a_policy_that_always_fails_is_suspended_and_follows_onerror() {
    let mut server = Server::start();
    let mut client = server.client();
    let fails_after = |client: &mut Client| (0..15).filter(|_| try_add(client).error().is_some()).count();
    let fails = |client: &mut Client, onerror: &str| {
        // Counters go on over a LOAD; these begin anew.
        client.cmd(&["BULL.POLICY", "REMOVE", "bad"]);
        load(client, "bad", &["ONERROR", onerror], &guests::trapping());
        fails_after(client)
    };
    assert_eq!(fails(&mut client, "admit"), 0);
    assert_eq!(fails(&mut client, "reject"), 15);
    // While a new instance is made, nothing fails: it takes more than ten calls to fail ten times.
    server.wait_until("a suspension", |client| {
        assert_eq!(try_add(client).code().as_deref(), Some("BULLREJECT"));
        info(client, "bad", "state") == "suspended"
    });
    assert_eq!(info(&mut client, "bad", "faults"), "10");
    assert_eq!(info(&mut client, "bad", "remade"), "9");
    let calls: u64 = info(&mut client, "bad", "calls").parse().expect("a number");
    assert_eq!(fails_after(&mut client), 15);
    assert_eq!(info(&mut client, "bad", "faults"), "10", "a suspended policy is not run");
    assert_eq!(info(&mut client, "bad", "calls"), (calls + 15).to_string());
    client.ok(&["BULL.POLICY", "MODE", "bad", "enforce"]);
    server.wait_until("to be ready again", |client| info(client, "bad", "state") == "ready");
    server.assert_alive();
}

/// One bad job costs its own verdict; the next ones meet a new instance, which is made while others are served.
#[test]
fn a_policy_is_made_anew_after_a_fault() {
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "p", &[], &guests::trapping_at(12345));
    let bad = format!("\"{}\"", "x".repeat(12343));
    for round in 1..=5 {
        assert_eq!(try_add(&mut client).error().as_deref(), Some("BULLREJECT p alive"));
        add(&mut client, QUEUE, &bad, &[]);
        server.wait_until("a new instance", |client| info(client, "p", "state") == "ready");
        assert_eq!(info(&mut client, "p", "remade"), round.to_string());
    }
    assert_eq!(info(&mut client, "p", "faults"), "5");
    server.assert_alive();
}

/// A name is as long as its producer likes. It must not get a policy out of the way.
#[test]
fn a_long_job_name_is_no_fault_of_the_policy() {
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "p", &[], &guests::Guest::new("p").rejecting(b"no").build());
    let name = "\u{4e00}".repeat(1 << 20);
    for _ in 0..20 {
        let reply = client.cmd(&["BULL.ADD", QUEUE, &name, "{}"]);
        assert_eq!(reply.error().as_deref(), Some("BULLREJECT p no"));
    }
    assert_eq!(info(&mut client, "p", "faults"), "0");
    server.assert_alive();
}

#[test]
fn what_is_no_policy_is_refused_with_a_reason() {
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "good", &[], &guests::versioned(1));
    let truncated = guests::admit_all();
    let no_policies: [(&str, Vec<u8>); 8] = [
        ("noise", guests::noise(7, 200 * 1024)),
        ("noise after a header", [b"\0asm\x0d\0\x01\0".to_vec(), guests::noise(8, 200 * 1024)].concat()),
        ("a core module", wat::parse_str("(module)").expect("a module")),
        ("an empty component", wat::parse_str("(component)").expect("a component")),
        ("a component cut short", truncated[..truncated.len() / 2].to_vec()),
        ("nothing", vec![]),
        ("a configuration refused", guests::refusing_configuration()),
        ("a configuration without end", guests::looping_configure()),
    ];
    for (what, bytes) in no_policies {
        for name in ["good", "other"] {
            let reply = try_load(&mut client, name, &[], &bytes);
            let Reply::Error(line) = &reply else { panic!("{what} was loaded: {reply:?}") };
            assert!(line.starts_with(b"BULLPOLICY "), "{what}: {reply:?}");
            assert_eq!(error_fault(line), None, "{what}");
        }
    }
    let reply = try_add(&mut client).error();
    assert_eq!(reply.as_deref(), Some("BULLREJECT good v1"), "the policy in force stays in force");
    assert!(!client.ok(&["BULL.POLICY", "LIST"]).strings().contains(&"other".to_owned()));
    server.assert_alive();
}

#[test]
fn crash_handlers_may_be_reinstalled_between_traps() {
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "bad", &["ONERROR", "reject"], &guests::oob());
    let mut rejected = || client.cmd(&["BULL.ADD", QUEUE, "job", "{}"]).code();
    assert_eq!(rejected().as_deref(), Some("BULLREJECT"));
    for value in ["no", "yes", "no"] {
        server.client().ok(&["CONFIG", "SET", "crash-log-enabled", value]);
        assert_eq!(rejected().as_deref(), Some("BULLREJECT"), "crash-log-enabled {value}");
    }
    server.assert_alive();
}

#[test]
fn a_hundred_swaps_under_load_lose_and_mix_nothing() {
    const SWAPS: u32 = 100;
    const EXPECTED: [&str; 2] = ["BULLREJECT swap v1", "BULLREJECT swap v2"];
    let mut server = Server::start();
    let mut client = server.client();
    let versions = [guests::versioned(1), guests::versioned(2)];
    load(&mut client, "swap", &[], &versions[0]);
    let done = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, done) = (server.client(), Arc::clone(&done));
            thread::spawn(move || {
                let mut seen = [0_u64; 2];
                while !done.load(Ordering::Relaxed) {
                    let reply = client.try_cmd(&["BULL.ADD", QUEUE, "job", "{}"]).expect("a reply");
                    let text = reply.error().unwrap_or_else(|| panic!("admitted: {reply:?}"));
                    let version = EXPECTED.iter().position(|expected| *expected == text);
                    seen[version.unwrap_or_else(|| panic!("a reply of neither version: {text}"))] += 1;
                }
                seen
            })
        })
        .collect();
    for swap in 1..=SWAPS {
        let version = (swap % 2) as usize;
        let loaded = load(&mut client, "swap", &[], &versions[version]);
        assert_eq!(loaded.get("version").expect("a version").text(), format!("{}.0.0", version + 1));
        // Once LOAD has answered, no job meets the old version.
        assert_eq!(try_add(&mut client).error().as_deref(), Some(EXPECTED[version]), "after swap {swap}");
    }
    done.store(true, Ordering::Relaxed);
    let seen = senders
        .into_iter()
        .map(|sender| sender.join().expect("a sender"))
        .fold([0, 0], |sum, seen| [sum[0] + seen[0], sum[1] + seen[1]]);
    assert!(seen.iter().all(|count| *count > 0), "both versions ran: {seen:?}");
    assert!(Dump::take(&mut client).0.is_empty(), "nothing was written");
    let told = client.ok(&["INFO", "bull"]).text();
    assert!(told.contains(&format!("bull_policy_swaps:{}\r\n", SWAPS + 1)), "{told}");
    server.assert_alive();
}

#[test]
fn verdicts_bind() {
    let mut server = Server::start();
    let mut client = server.client();
    let count = |client: &mut Client, command: &str, key: &str| client.ok(&[command, &format!("{QUEUE}:{key}")]).int();

    load(&mut client, "one", &[], &guests::admit_all());
    let oldest = add(&mut client, QUEUE, "{}", &[]);
    add(&mut client, QUEUE, "{}", &[]);
    assert_eq!(count(&mut client, "LLEN", "wait"), 2);

    load(&mut client, "one", &[], &guests::deferring(60_000));
    add(&mut client, QUEUE, "{}", &[]);
    add(&mut client, QUEUE, "{}", &["DELAY", "1h"]);
    assert_eq!(count(&mut client, "ZCARD", "delayed"), 2);
    assert_eq!(count(&mut client, "LLEN", "wait"), 2);

    load(&mut client, "one", &[], &guests::displacing(1));
    add(&mut client, QUEUE, "{}", &[]);
    assert_eq!(count(&mut client, "LLEN", "wait"), 2, "one came, one went");
    assert_eq!(count(&mut client, "EXISTS", &oldest), 0, "the oldest went");

    load(&mut client, "one", &[], &guests::rejecting("réason\n%s%n \u{4e00}".as_bytes()));
    let before = Dump::take(&mut client);
    let Reply::Error(line) = try_add(&mut client) else { panic!("admitted") };
    assert_eq!(error_fault(&line), None);
    load(&mut client, "one", &[], &guests::rejecting(&b"long ".repeat(4000)));
    let Reply::Error(line) = try_add(&mut client) else { panic!("admitted") };
    assert_eq!(error_fault(&line), None);
    assert_same(&before, &Dump::take(&mut client), ["before the rejections", "after them"]);
    server.assert_alive();
}

/// A deferral counts from now, whatever the job says of its own time; a displacement is only for a job that takes a place.
#[test]
fn verdicts_hold_whatever_the_job_says() {
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "p", &[], &guests::deferring(60_000));
    let now = now_ms(&mut client);
    for words in
        [&["TIMESTAMP", "1000"][..], &["TIMESTAMP", "1000", "PRIORITY", "3"], &["OPTS", r#"{"timestamp":1000}"#]]
    {
        let id = add(&mut client, QUEUE, "{}", words);
        let score = client.ok(&["ZSCORE", &format!("{QUEUE}:delayed"), &id]).text();
        let due = score.parse::<f64>().expect("a score") / 4096.0;
        assert!(due >= (now + 60_000) as f64 && due < (now + 90_000) as f64, "{words:?}: due {due}, now {now}");
    }
    // Beyond what a number of BullMQ can say, the delay stays one that it can.
    load(&mut client, "p", &[], &guests::deferring(u64::MAX));
    let id = add(&mut client, QUEUE, "{}", &[]);
    let opts = client.ok(&["HGET", &format!("{QUEUE}:{id}"), "opts"]).text();
    assert!(opts.contains("\"delay\":9.007199254741e+15"), "{opts}");

    load(&mut client, "p", &[], &guests::displacing(1));
    let queue = "bull:full";
    let waiting = |client: &mut Client| client.ok(&["LRANGE", &format!("{queue}:wait"), "0", "-1"]).strings();
    client.ok(&["BULL.POLICY", "MODE", "p", "observe"]);
    add(&mut client, queue, "{}", &["ID", "a"]);
    add(&mut client, queue, "{}", &["ID", "b", "OPTS", r#"{"deduplication":{"id":"d"}}"#]);
    client.ok(&["BULL.POLICY", "MODE", "p", "enforce"]);
    for words in [&["ID", "a"][..], &["OPTS", r#"{"deduplication":{"id":"d"}}"#]] {
        add(&mut client, queue, "{}", words);
        assert_eq!(waiting(&mut client), ["b", "a"], "{words:?} takes no place");
    }
    add(&mut client, queue, "{}", &["ID", "c", "LIFO"]);
    assert_eq!(waiting(&mut client), ["b", "c"], "the newcomer is not its own victim");
    load(&mut client, "p", &[], &guests::displacing(u32::MAX));
    add(&mut client, queue, "{}", &["ID", "e"]);
    assert_eq!(waiting(&mut client), ["e"]);
    server.assert_alive();
}

#[test]
fn order_queues_and_mode_decide_who_is_asked() {
    let mut server = Server::start();
    let mut client = server.client();
    let verdict = |client: &mut Client, queue: &str| client.cmd(&["BULL.ADD", queue, "job", "{}"]).error();
    load(&mut client, "late", &["ORDER", "9"], &guests::versioned(9));
    load(&mut client, "early", &["ORDER", "1", "QUEUES", "bull:a*"], &guests::versioned(1));
    assert_eq!(verdict(&mut client, "bull:apples").as_deref(), Some("BULLREJECT early v1"));
    assert_eq!(verdict(&mut client, "bull:pears").as_deref(), Some("BULLREJECT late v9"));
    client.ok(&["BULL.POLICY", "MODE", "early", "observe"]);
    assert_eq!(verdict(&mut client, "bull:apples").as_deref(), Some("BULLREJECT late v9"));
    client.ok(&["BULL.POLICY", "MODE", "late", "observe"]);
    assert_eq!(verdict(&mut client, "bull:apples"), None);
    client.ok(&["BULL.POLICY", "REMOVE", "late"]);
    client.ok(&["BULL.POLICY", "MODE", "early", "enforce"]);
    assert_eq!(verdict(&mut client, "bull:apples").as_deref(), Some("BULLREJECT early v1"));
    assert_eq!(verdict(&mut client, "bull:pears"), None);
    server.assert_alive();
}

//! BULL.METRICS and `/metrics`: what they say, where they are served, and whom they survive.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bull_tests::checks::{add, finish, now_ms};
use bull_tests::exposition::{Scrape, scrape, try_get};
use bull_tests::server::free_port;
use bull_tests::{Client, Server, workspace};

/// A server that serves its metrics, and the port it does so on.
fn serving() -> (Server, u16) {
    let port = free_port();
    (Server::builder().config(format!("bull.metrics-addr {port}")).start(), port)
}

/// A snapshot that began after this call.
fn fresh(client: &mut Client) -> Scrape {
    let now = now_ms(client) as f64 / 1000.0;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let scrape = Scrape::parse(&client.ok(&["BULL.METRICS"]).text());
        if scrape.get("bull_snapshot_timestamp_seconds") - scrape.get("bull_snapshot_round_seconds") > now {
            return scrape;
        }
        assert!(Instant::now() < deadline, "no new snapshot in 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_queue_is_shown_with_all_its_numbers() {
    let (server, port) = serving();
    let mut client = server.client();
    let queue = "bull:{tasks:critical}";
    let ids: Vec<String> = (0..5).map(|_| add(&mut client, queue, "{}", &[])).collect();
    let now = now_ms(&mut client);
    finish(&mut client, queue, &ids[0], "completed", now);
    finish(&mut client, queue, &ids[1], "failed", now);
    add(&mut client, queue, "{}", &["DELAY", "1h"]);
    add(&mut client, queue, "{}", &["PRIORITY", "3", "TIMESTAMP", &(now - 600_000).to_string()]);
    // One job runs since a minute, and nobody holds its lock.
    client.ok(&["LMOVE", &format!("{queue}:wait"), &format!("{queue}:active"), "RIGHT", "LEFT"]);
    client.ok(&["HSET", &format!("{queue}:{}", ids[2]), "processedOn", &(now - 60_000).to_string()]);
    client.ok(&["BULL.PROFILE", "SET", queue, "max-jobs", "100", "retain-completed", "7d"]);
    client.ok(&["SELECT", "3"]);
    add(&mut client, "{my:app}:emails", "{}", &[]);
    let from_command = fresh(&mut client);
    let scrape = scrape(port);
    assert_eq!(from_command.names(), scrape.names());
    let of = |name: &str| scrape.get(&format!("{name}{{prefix=\"bull\",queue=\"tasks:critical\"}}"));
    for (name, value) in [
        ("bullmq_queue_waiting", 2.0),
        ("bullmq_queue_active", 1.0),
        ("bullmq_queue_delayed", 1.0),
        ("bullmq_queue_prioritized", 1.0),
        ("bullmq_queue_completed", 1.0),
        ("bullmq_queue_failed", 1.0),
        ("bullmq_queue_stalled", 1.0),
        ("bullmq_queue_paused", 0.0),
        ("bullmq_jobs_added_total", 7.0),
        ("bullmq_job_wait_seconds_count", 0.0),
    ] {
        assert_eq!(of(name), value, "{name}");
    }
    // The prioritized job has waited for ten minutes.
    assert!((600.0..700.0).contains(&of("bullmq_queue_oldest_waiting_seconds")));
    assert!((60.0..160.0).contains(&of("bullmq_queue_oldest_active_seconds")));
    let limit = |name: &str| {
        scrape.find(&format!("bullmq_queue_limit{{prefix=\"bull\",queue=\"tasks:critical\",limit=\"{name}\"}}"))
    };
    assert_eq!(limit("max-jobs"), Some(100.0));
    assert_eq!(limit("retain-completed"), Some(7.0 * 86_400.0));
    assert_eq!(limit("max-bytes"), None);
    assert_eq!(scrape.get("bullmq_queue_waiting{prefix=\"{my:app}\",queue=\"emails\",db=\"3\"}"), 1.0);
    assert_eq!(scrape.get("bull_queues"), 2.0);
}

#[test]
fn what_has_no_series_of_its_own_is_summed() {
    let server = Server::builder().config("bull.metrics-queues 2").start();
    let mut client = server.client();
    for queue in ["bull:{a}", "bull:{b}", "bull:{c}", "bull:{d}"] {
        (0..3).for_each(|_| drop(add(&mut client, queue, "{}", &[])));
    }
    let other = |scrape: &Scrape, name: &str| scrape.get(&format!("{name}{{prefix=\"\",queue=\"_other\"}}"));
    let scrape = fresh(&mut client);
    assert_eq!((scrape.get("bull_queues"), scrape.get("bull_queues_summed")), (4.0, 2.0));
    assert_eq!(scrape.get("bullmq_queue_waiting{prefix=\"bull\",queue=\"a\"}"), 3.0);
    assert_eq!(scrape.find("bullmq_queue_waiting{prefix=\"bull\",queue=\"c\"}"), None);
    for name in ["bullmq_queue_waiting", "bullmq_jobs_added_total"] {
        assert_eq!((other(&scrape, name), scrape.sum(name)), (6.0, 12.0), "{name}");
    }
    // A queue of the sum goes: what it added stays counted.
    let keys = client.ok(&["KEYS", "bull:{d}:*"]).strings();
    client.ok(&[vec!["DEL".to_owned()], keys].concat());
    let scrape = fresh(&mut client);
    assert_eq!((other(&scrape, "bullmq_queue_waiting"), other(&scrape, "bullmq_jobs_added_total")), (3.0, 6.0));
    // More places: c gets one.
    client.ok(&["CONFIG", "SET", "bull.metrics-queues", "10"]);
    let scrape = fresh(&mut client);
    assert_eq!(scrape.get("bullmq_queue_waiting{prefix=\"bull\",queue=\"c\"}"), 3.0);
    assert_eq!(scrape.get("bull_queues_summed"), 0.0);
    client.ok(&["CONFIG", "SET", "bull.metrics-queues", "0"]);
    let scrape = fresh(&mut client);
    assert_eq!((scrape.get("bull_queues_summed"), other(&scrape, "bullmq_queue_waiting")), (3.0, 9.0));
    client.ok(&["FLUSHALL"]);
    let scrape = fresh(&mut client);
    assert_eq!((scrape.get("bull_queues"), other(&scrape, "bullmq_queue_waiting")), (0.0, 0.0));
}

#[test]
fn the_text_passes_promtool_and_the_readme_names_every_metric() {
    let server = Server::start();
    let mut client = server.client();
    add(&mut client, "bull:{q}", "{}", &[]);
    let text = {
        fresh(&mut client);
        client.ok(&["BULL.METRICS"]).text()
    };
    let scrape = Scrape::parse(&text);
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("the README");
    let unnamed: Vec<_> = scrape.kinds.keys().filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert!(unnamed.is_empty(), "the README does not name {unnamed:?}");
    promtool_takes(&text);
}

/// Names that people can give queues, as labels: none breaks the text or passes for another. A hash whose name is no queue's
/// name, by a line break or bytes that are not UTF-8, is none to the module.
#[test]
fn odd_names_of_queues_stay_labels() {
    let server = Server::start();
    let mut client = server.client();
    let odd = [
        (r#"bull:{a"b}"#, r#"queue="a\"b""#),
        (r"bull:back\slash", r#"queue="back\\slash""#),
        (r#"bull:x"} 1"#, r#"queue="x\"} 1""#),
        (r#"bull:\n,queue="_other""#, r#"queue="\\n,queue=\"_other\"""#),
        ("bull:{ü 一 🐂}", r#"queue="ü 一 🐂""#),
        ("b\"\\:{plain}", r#"prefix="b\"\\",queue="plain""#),
    ];
    for (name, _) in odd {
        add(&mut client, name, "{}", &[]);
    }
    for name in [&b"bull:new\nline"[..], b"bull:\xff\xfe", b"bull:nul\0", b"bull:\xc2\x85"] {
        let key = |suffix: &str| [name, suffix.as_bytes()].concat();
        client.ok(&[b"HSET", &key(":meta")[..], b"opts.maxLenEvents", b"10"]);
        client.ok(&[b"XADD", &key(":events")[..], b"*", b"event", b"added", b"jobId", b"1"]);
        assert!(client.cmd(&[b"BULL.STATS", name]).error().is_some());
    }
    let now = now_ms(&mut client) as f64 / 1000.0;
    let mut text = String::new();
    server.wait_until("a new snapshot", |client| {
        text = client.ok(&["BULL.METRICS"]).text();
        let number = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
        };
        number("bull_snapshot_timestamp_seconds") - number("bull_snapshot_round_seconds") > now
    });
    for (name, label) in odd {
        let lines = text.lines().filter(|line| line.starts_with("bullmq_queue_waiting{") && line.contains(label));
        let values: Vec<_> = lines.filter_map(|line| line.rsplit_once("} ")).map(|(_, value)| value).collect();
        assert_eq!(values, ["1.0"], "{name}");
    }
    assert_eq!(text.matches("\nbullmq_queue_waiting{").count(), odd.len() + 1, "the queues, and the sum of others");
    assert!(text.contains(&format!("\nbull_queues {}.0\n", odd.len())));
    promtool_takes(&text);
}

/// promtool finds no fault with a scrape. Nothing where it is not installed.
fn promtool_takes(text: &str) {
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return println!("skipped: promtool is missing; apt-get install prometheus");
    };
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn it_is_off_until_an_address_is_set_and_moves_with_it() {
    let (first, second) = (free_port(), free_port());
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.ok(&["CONFIG", "GET", "bull.metrics-addr"]).strings(), ["bull.metrics-addr", ""]);
    assert!(try_get(first, "/metrics").is_none());
    let mut set = |value: &str| client.cmd(&["CONFIG", "SET", "bull.metrics-addr", value]);
    set(&first.to_string());
    assert_eq!(try_get(first, "/metrics").map(|(status, _)| status), Some(200));
    assert_eq!(try_get(first, "/nothing").map(|(status, _)| status), Some(404));
    // The same address again, the same port on all addresses, another port, off.
    set(&first.to_string());
    assert!(try_get(first, "/metrics").is_some());
    set(&format!("0.0.0.0:{first}"));
    assert!(try_get(first, "/metrics").is_some());
    set(&format!("127.0.0.1:{second}"));
    assert!(try_get(second, "/metrics").is_some());
    assert!(try_get(first, "/metrics").is_none());
    // A wrong value changes nothing, and says why.
    let taken = server.port().to_string();
    for (value, word) in [("nonsense", "give a port"), (taken.as_str(), "in use"), ("203.0.113.1:80", "cannot listen")]
    {
        let error = set(value).error().unwrap_or_else(|| panic!("{value} was taken"));
        assert!(error.contains(word), "{error}");
        assert!(try_get(second, "/metrics").is_some(), "after {value}");
    }
    // A child that saves holds a copy of the socket.
    let mut other = server.client();
    add(&mut other, "bull:{q}", "{}", &[]);
    other.ok(&["CONFIG", "SET", "rdb-key-save-delay", "5000000"]);
    other.ok(&["BGSAVE"]);
    set("");
    assert!(try_get(second, "/metrics").is_none());
    set(&second.to_string());
    assert!(try_get(second, "/metrics").is_some());
    let info = other.ok(&["INFO", "persistence"]).text();
    assert!(info.contains("rdb_bgsave_in_progress:1"), "the child was there all the time: {info}");
    // It ends with what it saves.
    other.ok(&["FLUSHALL"]);
}

/// Each change of the address is served by a thread of its own; what it held comes back with it.
#[test]
fn moving_the_address_leaves_nothing_behind() {
    let server = Server::start();
    let mut client = server.client();
    (0..20).for_each(|at| drop(add(&mut client, &format!("bull:{{q{at}}}"), "{}", &[])));
    // The first snapshot with the queues is no move's doing, and stays.
    server.wait_until("the queues are shown", |client| client.ok(&["BULL.METRICS"]).text().contains("q19"));
    let ports = [free_port(), free_port()];
    let used = |client: &mut Client| {
        let info = client.ok(&["INFO", "memory"]).text();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<i64>().ok());
        used.expect("used_memory")
    };
    let mut moves = |count: usize| {
        for at in 0..count {
            let port = ports[at % 2];
            client.ok(&["CONFIG", "SET", "bull.metrics-addr", &port.to_string()]);
            assert_eq!(try_get(port, "/metrics").map(|(status, _)| status), Some(200));
        }
        used(&mut client)
    };
    let before = moves(20);
    let after = moves(150);
    // The threads of the last moves may still be on their way out.
    let what = format!("of {} KB that 150 moves took less than 100 are left", (after - before) / 1024);
    server.wait_until(&what, |client| used(client) - before < 100 * 1024);
}

#[test]
fn a_server_does_not_start_without_the_address_it_was_told() {
    for (value, word) in [("203.0.113.1:9465", "cannot listen"), ("somewhere", "give a port")] {
        let config = format!("bull.metrics-addr {value}");
        let refused = std::panic::catch_unwind(|| Server::builder().config(config).start());
        let text = *refused.expect_err("it starts").downcast::<String>().expect("a text");
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn slow_and_hostile_clients_are_survived() {
    let (mut server, port) = serving();
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    // More than there is room for: silent, slow, and such that do not read.
    let mut idle: Vec<TcpStream> = (0..12).map(|_| connect()).collect();
    idle.iter_mut().step_by(2).for_each(|stream| stream.write_all(b"GET /met").expect("a half request"));
    let deaf: Vec<TcpStream> = (0..12)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").expect("a request");
            stream
        })
        .collect();
    let garbage: [Vec<u8>; 5] = [
        b"\0\xff\xfe\r\n\r\n".to_vec(),
        b"*1\r\n$4\r\nPING\r\n".to_vec(),
        [b"GET /".to_vec(), vec![b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n".to_vec()].concat(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(10_000), b"\r\n".to_vec()].concat(),
        b"POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000000\r\n\r\n".to_vec(),
    ];
    for bytes in &garbage {
        let mut stream = connect();
        // It may hang up before all is sent.
        let _ = stream.write_all(bytes);
    }
    // Within the time that the silent ones are given, somebody else is served.
    assert_eq!(try_get(port, "/metrics").map(|(status, _)| status), Some(200));
    let mut rest = Vec::new();
    let mut first = idle.remove(0);
    first.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    // Silence is ended by the server, with or without words.
    let _ = first.read_to_end(&mut rest);
    drop((idle, deaf));
    server.assert_alive();
    assert_eq!(server.client().ok(&["INFO", "bull"]).text().matches("bull_panics:0").count(), 1);
}

#[test]
fn only_what_the_caller_may_read_is_told() {
    let server = Server::start();
    let mut client = server.client();
    add(&mut client, "bull:{mine}", "{}", &[]);
    add(&mut client, "bull:{theirs}", "{}", &[]);
    client.ok(&["ACL", "SETUSER", "half", "on", "nopass", "~bull:{mine}*", "+bull.metrics", "+multi", "+exec"]);
    fresh(&mut client);
    let mut half = server.client();
    half.ok(&["AUTH", "half", "x"]);
    let scrape = Scrape::parse(&half.ok(&["BULL.METRICS"]).text());
    assert_eq!(scrape.get("bullmq_queue_waiting{prefix=\"bull\",queue=\"mine\"}"), 1.0);
    assert_eq!(scrape.sum("bullmq_queue_waiting"), 1.0);
    // A client that cannot wait is answered as well.
    half.ok(&["MULTI"]);
    half.ok(&["BULL.METRICS"]);
    let replies = half.ok(&["EXEC"]);
    assert_eq!(Scrape::parse(&replies.items()[0].text()).sum("bullmq_queue_waiting"), 1.0);
}

#[test]
fn a_replica_shows_itself_and_no_queues() {
    let primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    let mut client = primary.client();
    add(&mut client, "bull:{q}", "{}", &[]);
    replica.wait_until("the job has come over", |client| client.ok(&["EXISTS", "bull:{q}:wait"]).int() == 1);
    let mut other = replica.client();
    let scrape = fresh(&mut other);
    assert_eq!((scrape.get("bull_primary"), scrape.sum("bullmq_queue_waiting")), (0.0, 0.0));
    assert!(scrape.find("bullmq_queue_waiting{prefix=\"\",queue=\"_other\"}").is_none());
    other.ok(&["REPLICAOF", "NO", "ONE"]);
    let scrape = fresh(&mut other);
    assert_eq!((scrape.get("bull_primary"), scrape.sum("bullmq_queue_waiting")), (1.0, 1.0));
}

//! Everything hostile that we could think of: refused or contained, each with its own words, and memory comes back.

use bull_tests::checks::{add, error_fault, load, try_load};
use bull_tests::corpus::{contained, refused, ticking};
use bull_tests::{Client, Reply, Server, guests};

const QUEUE: &str = "bull:q";

/// What the server's process takes, KiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process())).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn text(client: &mut Client, policy: &str, field: &str) -> String {
    match client.ok(&["BULL.POLICY", "INFO", policy]).get(field) {
        None | Some(Reply::Null) => String::new(),
        Some(value) => value.text(),
    }
}

fn error_of(reply: &Reply, what: &str) -> String {
    let Reply::Error(line) = reply else { panic!("{what}: {reply:?}") };
    assert_eq!(error_fault(line), None, "{what}");
    String::from_utf8_lossy(line).into_owned()
}

fn round(server: &Server) {
    let mut client = server.client();
    for case in refused() {
        let error = error_of(&try_load(&mut client, "case", &[], &case.bytes), case.name);
        assert!(error.starts_with("BULLPOLICY ") && error.contains(case.words), "{}: {error}", case.name);
    }
    for case in contained() {
        load(&mut client, case.name, &["ONERROR", "reject"], &case.bytes);
        for _ in 0..3 {
            let error = error_of(&client.cmd(&["BULL.ADD", QUEUE, "job", "{}"]), case.name);
            assert!(error.starts_with(&format!("BULLREJECT {} the policy failed: ", case.name)), "{error}");
            assert!(error.contains(case.words), "{}: {error}", case.name);
        }
        assert!(text(&mut client, case.name, "faults").parse::<u64>().expect("a number") >= 1);
        client.ok(&["BULL.POLICY", "REMOVE", case.name]);
    }
    for case in ticking() {
        load(&mut client, case.name, &[], &case.bytes);
        server.wait_until(case.name, |client| text(client, case.name, "last-error").contains(case.words));
        assert_eq!(client.cmd(&["BULL.ADD", QUEUE, "job", "{}"]).error(), None);
        client.ok(&["BULL.POLICY", "REMOVE", case.name]);
    }
}

#[test]
fn whatever_is_loaded_is_refused_or_contained_and_memory_comes_back() {
    let mut server = Server::builder().config("bull.tick-ms 100").start();
    let mut client = server.client();
    println!("{} refused, {} contained, {} at ticks", refused().len(), contained().len(), ticking().len());
    add(&mut client, QUEUE, "{}", &[]);
    // The first round pays for what is made once: the engine, the compiler's own memory.
    round(&server);
    let before = resident(&server);
    for _ in 0..2 {
        round(&server);
    }
    let after = resident(&server);
    println!("{before} KiB after one round, {after} KiB after three");
    assert!(after < before + 8 * 1024, "{before} KiB after one round, {after} KiB after three");
    load(&mut client, "good", &[], &guests::versioned(1));
    assert_eq!(client.cmd(&["BULL.ADD", QUEUE, "job", "{}"]).error().as_deref(), Some("BULLREJECT good v1"));
    assert_eq!(client.ok(&["BULL.POLICY", "LIST"]).items().len(), 1);
    server.assert_alive();
}

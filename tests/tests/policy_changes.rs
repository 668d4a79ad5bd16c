//! Changes of policies that overlap, and what of them outlives the server.

use std::fs;
use std::path::Path;
use std::time::Instant;

use bull_tests::checks::{error_fault, load, try_load};
use bull_tests::client::encode;
use bull_tests::mode::Mode;
use bull_tests::{Client, Reply, Server, guests};

const QUEUE: &str = "bull:q";

fn info(client: &mut Client, policy: &str, field: &str) -> String {
    let shown = client.ok(&["BULL.POLICY", "INFO", policy]);
    shown.get(field).map(|value| if value == Reply::Null { String::new() } else { value.text() }).unwrap_or_default()
}

fn names(client: &mut Client) -> Vec<String> {
    client.ok(&["BULL.POLICY", "LIST"]).items().iter().map(|row| row.get("name").expect("a name").text()).collect()
}

fn verdict(client: &mut Client) -> String {
    client.cmd(&["BULL.ADD", QUEUE, "job", "{}"]).error().unwrap_or_default()
}

fn load_words<'a>(words: &[&'a str], wasm: &'a [u8]) -> Vec<&'a [u8]> {
    let head: [&[u8]; 3] = [b"BULL.POLICY", b"LOAD", b"p"];
    head.into_iter().chain(words.iter().map(|word| word.as_bytes())).chain([wasm]).collect()
}

/// A change that comes while a LOAD compiles takes effect at once, and the LOAD keeps it.
#[test]
fn what_changes_while_a_load_compiles_stays_changed() {
    let mut server = Server::start();
    let mut client = server.client();
    type Change = (&'static [&'static str], &'static str, &'static str);
    let changes: [Change; 2] = [
        (&["BULL.POLICY", "CONFIG", "p", r#"{"changed":1}"#], "config", r#"{"changed":1}"#),
        (&["BULL.POLICY", "MODE", "p", "observe"], "mode", "observe"),
    ];
    // Slower ones where this thread had no core for as long as the compiler took.
    let mut slower = [400, 401, 800, 801, 1600, 1601].into_iter();
    for (change, field, value) in changes {
        let (mut loading, start) = loop {
            let functions = slower.next().expect("changes come only after the LOAD is done");
            load(&mut client, "p", &["CONFIG", "{}", "MODE", "enforce"], &guests::versioned(1));
            let mut loading = server.client();
            let start = Instant::now();
            let slow = guests::slow_to_compile(functions);
            loading.send(&encode(&load_words(&["ORDER", "7"], &slow))).expect("sent");
            // Behind a PING: the server has begun with the LOAD.
            client.ok(&["PING"]);
            client.ok(change);
            if info(&mut client, "p", "version") == "1.0.0" {
                break (loading, start);
            }
            loading.read().expect("a reply");
        };
        let changed = start.elapsed();
        assert_eq!(info(&mut client, "p", field), value);
        let loaded = loading.read().expect("a reply");
        println!("{field} changed after {changed:?}, loaded after {:?}", start.elapsed());
        assert_eq!(loaded.error(), None);
        assert_eq!(info(&mut client, "p", "describes-itself-as"), "slow-to-compile");
        assert_eq!(info(&mut client, "p", "order"), "7");
        assert_eq!(info(&mut client, "p", field), value, "undone by the LOAD that began before");
    }
    server.assert_alive();
}

/// Whatever meets a REMOVE, the policy is gone when both are answered, or the other came later and says so.
#[test]
fn a_removed_policy_does_not_come_back() {
    let mut server = Server::start();
    let (mut client, mut other) = (server.client(), server.client());
    for _ in 0..50 {
        load(&mut client, "p", &[], &guests::versioned(1));
        client.send(&encode(&["BULL.POLICY", "CONFIG", "p", "{}"])).expect("sent");
        other.ok(&["BULL.POLICY", "REMOVE", "p"]);
        let configured = client.read().expect("a reply");
        if let Some(error) = configured.error() {
            assert!(error.starts_with("BULLPOLICY no policy 'p'"), "{error}");
        }
        assert_eq!(names(&mut client), [""; 0]);
        assert_eq!(verdict(&mut client), "");
    }
    server.wait_until("the folder is empty", |_| files(&server.dir().join("bull-policies")).is_empty());
    server.assert_alive();
}

#[test]
fn changes_wait_in_no_transaction_and_no_script() {
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "p", &[], &guests::versioned(1));
    for call in [&["MODE", "p", "observe"][..], &["REMOVE", "p"], &["CONFIG", "p", "{}"], &["RELOAD"]] {
        client.ok(&["MULTI"]);
        client.ok(&[&["BULL.POLICY"], call].concat());
        let Reply::Array(replies) = client.cmd(&["EXEC"]) else { panic!("EXEC of {call:?}") };
        let error = replies[0].error().unwrap_or_else(|| panic!("{call:?}: {replies:?}"));
        assert!(error.starts_with("ERR ") && error.contains("MULTI"), "{error}");
    }
    assert_eq!(verdict(&mut client), "BULLREJECT p v1");
    server.assert_alive();
}

#[test]
fn policies_outlive_the_server() {
    let mut server = Server::start();
    let mut client = server.client();
    let words = ["CONFIG", r#"{"n": 1.50}"#, "QUEUES", "bull:*", "ORDER", "-3", "ONERROR", "reject"];
    load(&mut client, "p", &words, &guests::versioned(1));
    load(&mut client, "p", &[], &guests::versioned(2));
    load(&mut client, "gone", &[], &guests::versioned(3));
    client.ok(&["BULL.POLICY", "REMOVE", "gone"]);
    load(&mut client, "watching", &["ORDER", "-9"], &guests::versioned(4));
    client.ok(&["BULL.POLICY", "MODE", "watching", "observe"]);
    client.ok(&["BULL.POLICY", "CONFIG", "watching", r#"{"new":true}"#]);
    let fields = ["mode", "onerror", "queues", "order", "config", "version", "digest", "bytes"];
    let shown = |client: &mut Client| -> Vec<String> {
        ["p", "watching"].iter().flat_map(|name| fields.map(|field| info(client, name, field))).collect()
    };
    let before = shown(&mut client);
    for kill in [false, true] {
        if kill {
            server.kill9();
            server.start_again();
        } else {
            server.restart();
        }
        server.wait_until("policies to be loaded", |client| {
            ["p", "watching"].iter().all(|name| info(client, name, "state") == "ready")
        });
        let mut client = server.client();
        assert_eq!(names(&mut client), ["watching", "p"]);
        assert_eq!(shown(&mut client), before);
        assert_eq!(verdict(&mut client), "BULLREJECT p v2");
    }
    server.wait_until("two files a policy", |_| files(&server.dir().join("bull-policies")).len() == 4);
    server.assert_alive();
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the folder of policies")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// The server is up first: until a component is compiled its policy follows ONERROR.
#[test]
fn onerror_answers_until_a_policy_is_loaded() {
    if Mode::chosen() == Mode::Cluster {
        return; // A node that comes back refuses keys for longer than the compilation takes.
    }
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "p", &["ONERROR", "reject"], &guests::slow_to_compile(400));
    // More than once where this thread had no core for as long as the compiler took.
    let met = (0..5).any(|_| {
        server.kill9();
        server.start_again();
        let mut client = server.client();
        let said = verdict(&mut client);
        let refused = client.cmd(&["BULL.POLICY", "CONFIG", "p", "{}"]).error();
        if !said.is_empty() {
            assert_eq!(said, "BULLREJECT p the policy is being loaded");
        }
        if let Some(refused) = &refused {
            assert!(refused.contains("still being loaded"), "{refused}");
        }
        !said.is_empty() && refused.is_some()
    });
    assert!(met, "ONERROR answers for nobody");
    let mut client = server.client();
    server.wait_until("the policy", |client| info(client, "p", "state") == "ready");
    assert_eq!(verdict(&mut client), "");
    server.assert_alive();
}

#[test]
fn broken_files_are_told_and_stop_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    for name in ["cut", "forged", "garbled", "good", "lost", "typo"] {
        load(&mut client, name, &["ONERROR", "reject"], &guests::versioned(1));
    }
    server.shutdown();
    let folder = server.dir().join("bull-policies");
    let of = |name: &str| {
        let wasm = files(&folder).into_iter().find(|file| file.starts_with(name) && file.ends_with(".wasm"));
        (folder.join(format!("{name}.json")), folder.join(wasm.expect("a component")))
    };
    let bytes = fs::read(of("cut").1).expect("readable");
    fs::write(of("cut").1, &bytes[..bytes.len() / 2]).expect("written");
    fs::write(of("forged").1, guests::versioned(2)).expect("written");
    fs::write(of("garbled").0, b"\xff{]").expect("written");
    fs::remove_file(of("lost").1).expect("removed");
    let settings = fs::read_to_string(of("typo").0).expect("readable").replace("\"mode\"", "\"mood\"");
    fs::write(of("typo").0, settings).expect("written");
    server.start_again();

    let broken = [
        ("cut", "not a WebAssembly component"),
        ("forged", "has the digest"),
        ("garbled", "garbled.json is broken"),
        ("lost", "cannot be read"),
        ("typo", "unknown field `mood`"),
    ];
    for (name, reason) in broken {
        server.wait_until(name, |client| info(client, name, "state") == "broken");
        let told = info(&mut server.client(), name, "last-error");
        assert!(told.contains(reason), "{name}: {told}");
    }
    server.wait_until("the good one", |client| info(client, "good", "state") == "ready");
    let mut client = server.client();
    assert_eq!(names(&mut client), ["cut", "forged", "garbled", "good", "lost", "typo"]);
    assert!(client.ok(&["INFO", "bull"]).text().contains("bull_policies_broken:5\r\n"));
    // Its settings are whole, so ONERROR is known.
    let refused = verdict(&mut client);
    assert!(refused.starts_with("BULLREJECT cut the policy is broken: "), "{refused}");
    for call in [&["CONFIG", "cut", "{}"][..], &["MODE", "cut", "observe"]] {
        let reply = client.cmd(&[&["BULL.POLICY"], call].concat());
        let Reply::Error(line) = &reply else { panic!("{call:?}: {reply:?}") };
        assert!(line.starts_with(b"BULLPOLICY ") && error_fault(line).is_none(), "{reply:?}");
    }
    load(&mut client, "cut", &[], &guests::versioned(7));
    assert_eq!(info(&mut client, "cut", "onerror"), "reject", "what the file said stays");
    assert_eq!(verdict(&mut client), "BULLREJECT cut v7");
    for name in ["cut", "forged", "garbled", "lost", "typo"] {
        client.ok(&["BULL.POLICY", "REMOVE", name]);
    }
    assert_eq!(verdict(&mut client), "BULLREJECT good v1");
    server.restart();
    server.wait_until("the good one", |client| info(client, "good", "state") == "ready");
    assert_eq!(names(&mut server.client()), ["good"]);
    server.assert_alive();
}

#[test]
fn reload_takes_in_the_folder_as_it_is() {
    let (mut server, from) = (Server::start(), Server::start());
    let mut client = server.client();
    for (name, version) in [("changed", 1), ("kept", 2), ("same", 3), ("gone", 4)] {
        load(&mut client, name, &[], &guests::versioned(version));
    }
    load(&mut from.client(), "changed", &["QUEUES", "none:*"], &guests::versioned(5));
    load(&mut from.client(), "new", &["MODE", "observe"], &guests::versioned(6));
    let (here, there) = (server.dir().join("bull-policies"), from.dir().join("bull-policies"));
    for file in files(&there) {
        fs::copy(there.join(&file), here.join(&file)).expect("copied");
    }
    fs::remove_file(here.join("gone.json")).expect("removed");
    fs::write(here.join("kept.json"), "{").expect("written");
    fs::write(here.join("by-hand.json"), r#"{"wasm":"by-hand.wasm","order":-5}"#).expect("written");
    fs::write(here.join("by-hand.wasm"), guests::versioned(8)).expect("written");

    let reply = client.ok(&["BULL.POLICY", "RELOAD"]);
    let count = |field: &str| reply.get(field).expect(field).int();
    assert_eq!((count("loaded"), count("unchanged"), count("removed")), (3, 1, 1), "{reply:?}");
    let broken = reply.get("broken").expect("a list").strings();
    assert!(broken.len() == 1 && broken[0].starts_with("kept: kept.json is broken"), "{broken:?}");
    assert_eq!(names(&mut client), ["by-hand", "changed", "kept", "new", "same"]);
    assert_eq!(info(&mut client, "changed", "version"), "5.0.0");
    assert_eq!(info(&mut client, "kept", "state"), "ready", "what is in force stays so");
    assert!(info(&mut client, "kept", "last-error").contains("kept.json"), "and tells of its file");
    assert_eq!(info(&mut client, "new", "mode"), "observe");
    assert_eq!(verdict(&mut client), "BULLREJECT by-hand v8");
    client.ok(&["BULL.POLICY", "REMOVE", "by-hand"]);
    assert!(here.join("by-hand.wasm").exists(), "a component that somebody named is that person's");
    server.assert_alive();
}

#[test]
fn without_a_folder_policies_are_in_memory_only() {
    let mut server = Server::builder().config("bull.policies \"\"").start();
    let mut client = server.client();
    load(&mut client, "p", &[], &guests::versioned(1));
    client.ok(&["BULL.POLICY", "CONFIG", "p", "{}"]);
    assert_eq!(verdict(&mut client), "BULLREJECT p v1");
    let refused = client.cmd(&["BULL.POLICY", "RELOAD"]).error().expect("an error");
    assert!(refused.starts_with("BULLPOLICY bull.policies is empty"), "{refused}");
    assert!(!server.dir().join("bull-policies").exists());
    let refused = client.cmd(&["CONFIG", "SET", "bull.policies", "elsewhere"]).error().expect("an error");
    assert!(refused.contains("immutable"), "{refused}");
    server.restart();
    assert_eq!(names(&mut server.client()), [""; 0]);
    server.assert_alive();
}

/// Bytes that wait for the compiler lie in memory: only so many do.
#[test]
fn no_more_components_wait_to_be_compiled_than_may() {
    let mut server = Server::start();
    let slow = guests::slow_to_compile(800);
    let mut clients: Vec<Client> = (0..24).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(&encode(&load_words(&[], &slow))).expect("sent");
    }
    let replies: Vec<Reply> = clients.iter_mut().map(|client| client.read().expect("a reply")).collect();
    let errors: Vec<String> = replies.iter().filter_map(Reply::error).collect();
    let full = errors.iter().filter(|text| text.contains("16 components wait to be compiled; try again")).count();
    assert!(full > 0 && full <= 8, "{errors:?}");
    load(&mut server.client(), "p", &[], &guests::versioned(1));
    assert_eq!(verdict(&mut server.client()), "BULLREJECT p v1");
    server.assert_alive();
}

#[test]
fn what_cannot_be_written_is_not_in_force() {
    let mut server = Server::start();
    let mut client = server.client();
    load(&mut client, "p", &[], &guests::versioned(1));
    let folder = server.dir().join("bull-policies");
    let aside = server.dir().join("aside");
    fs::rename(&folder, &aside).expect("moved");
    fs::write(&folder, "in the way").expect("written");
    let calls: [&[&str]; 3] = [&["CONFIG", "p", r#"{"a":1}"#], &["MODE", "p", "observe"], &["REMOVE", "p"]];
    for call in calls {
        let error = client.cmd(&[&["BULL.POLICY"], call].concat()).error().unwrap_or_else(|| panic!("{call:?}"));
        assert!(error.starts_with("BULLPOLICY ") && error.ends_with("nothing was changed"), "{call:?}: {error}");
    }
    let error = try_load(&mut client, "p", &[], &guests::versioned(2)).error().expect("an error");
    assert!(error.starts_with("BULLPOLICY ") && error.ends_with("nothing was changed"), "{error}");
    assert_eq!(info(&mut client, "p", "config"), "{}");
    assert_eq!(verdict(&mut client), "BULLREJECT p v1");
    fs::remove_file(&folder).expect("removed");
    fs::rename(&aside, &folder).expect("moved back");
    load(&mut client, "p", &[], &guests::versioned(2));
    assert_eq!(verdict(&mut client), "BULLREJECT p v2");
    server.assert_alive();
}

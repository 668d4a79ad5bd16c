//! Kill -9 at every step of LOAD, CONFIG, MODE and REMOVE, and time-outs on either side of the first step. Needs
//! target/fault/libbull.so, which `scripts/build --fault` makes. On one engine: files know no engine.

use std::fs;
use std::time::{Duration, Instant};

use bull_tests::checks::{load, load_once, try_load};
use bull_tests::engine::{DEFAULT, chosen};
use bull_tests::{Client, Server, guests, workspace};

/// The steps of writing both files, and those of the settings alone; what is before the first word is the old policy at
/// the next start, what is behind it is the new one.
const COMPONENT: &[&str] =
    &["Compiled", "ComponentOpened", "ComponentWritten", "ComponentSynced", "ComponentRenamed", "ComponentSafe"];
const SETTINGS: &[&str] = &["SettingsOpened", "SettingsWritten", "SettingsSynced"];
const SETTLED: &[&str] = &["SettingsRenamed", "SettingsSafe"];
const REMOVED: &[&str] = &["SettingsRemoved", "RemovalSafe", "OldRemoved", "InForce"];

fn server() -> Server {
    let module = workspace().join("target/fault/libbull.so");
    assert!(module.exists(), "target/fault/libbull.so is missing: run scripts/build --fault");
    Server::builder().with_module(false).config(format!("loadmodule {}", module.display())).start()
}

/// All that INFO says of how the policy is used, without a digest while it is loaded; empty where there is none.
fn settings(client: &mut Client) -> Vec<String> {
    let shown = client.cmd(&["BULL.POLICY", "INFO", "p"]);
    if shown.error().is_some() {
        return vec![];
    }
    ["digest", "mode", "queues", "order", "onerror", "config"]
        .map(|field| shown.get(field).map(|value| value.text()).unwrap_or_default())
        .to_vec()
}

fn old(client: &mut Client) {
    let words = ["CONFIG", r#"{"old":1}"#, "MODE", "observe", "QUEUES", "old:*", "ORDER", "1", "ONERROR", "reject"];
    load(client, "p", &words, &guests::versioned(1));
}

/// A change: its name, the steps before and behind the point that counts, and its call.
type Change = (&'static str, Vec<&'static str>, Vec<&'static str>, fn(&mut Client) -> std::io::Result<()>);

fn call(client: &mut Client, words: &[&[u8]]) -> std::io::Result<()> {
    let reply = client.try_cmd(words)?;
    assert_eq!(reply.error(), None);
    Ok(())
}

fn replace(client: &mut Client) -> std::io::Result<()> {
    let head = ["BULL.POLICY", "LOAD", "p", "CONFIG", r#"{"new":1}"#, "MODE", "enforce", "QUEUES", "new:*"];
    let wasm = guests::versioned(2);
    let words: Vec<&[u8]> = head.iter().map(|word| word.as_bytes()).chain([wasm.as_slice()]).collect();
    call(client, &words)
}

#[test]
fn a_kill_at_any_step_leaves_the_old_policy_or_the_new_one() {
    if chosen() != DEFAULT {
        return;
    }
    let all = |parts: &[&[&'static str]]| parts.concat();
    let changes: [Change; 5] = [
        ("a first LOAD", all(&[COMPONENT, SETTINGS]), all(&[SETTLED, &["OldRemoved", "InForce"]]), replace),
        ("LOAD", all(&[COMPONENT, SETTINGS]), all(&[SETTLED, &["OldRemoved", "InForce"]]), replace),
        ("CONFIG", all(&[SETTINGS]), all(&[SETTLED, &["InForce"]]), |client| {
            call(client, &[b"BULL.POLICY", b"CONFIG", b"p", br#"{"new":2}"#])
        }),
        ("MODE", all(&[SETTINGS]), all(&[SETTLED, &["InForce"]]), |client| {
            call(client, &[b"BULL.POLICY", b"MODE", b"p", b"enforce"])
        }),
        ("REMOVE", vec![], all(&[REMOVED]), |client| call(client, &[b"BULL.POLICY", b"REMOVE", b"p"])),
    ];
    let mut server = server();
    let mut kills = 0;
    for (what, before, behind, change) in changes {
        let prepare = |server: &Server| {
            let mut client = server.client();
            client.cmd(&["BULL.POLICY", "REMOVE", "p"]);
            if what != "a first LOAD" {
                old(&mut client);
            }
            settings(&mut client)
        };
        // What the change makes of it, undisturbed.
        let was = prepare(&server);
        change(&mut server.client()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let becomes = settings(&mut server.client());
        assert_ne!(was, becomes, "{what} changes something");
        let steps = before.iter().map(|step| (step, &was)).chain(behind.iter().map(|step| (step, &becomes)));
        for (step, expected) in steps {
            assert_eq!(prepare(&server), was);
            server.client().ok(&["BULL.STEP", step]);
            let ended = change(&mut server.client());
            assert!(ended.is_err(), "{what} does not reach {step}");
            server.kill9();
            server.start_again();
            server.wait_until("the policies to be loaded", |client| {
                let rows = client.ok(&["BULL.POLICY", "LIST"]);
                rows.items().iter().all(|row| row.get("state").expect("a state").text() == "ready")
            });
            assert_eq!(settings(&mut server.client()), *expected, "{what}, killed at {step}");
            let left = || -> Vec<_> {
                let entries = fs::read_dir(server.dir().join("bull-policies")).expect("the folder");
                entries.map(|entry| entry.expect("an entry").file_name()).collect()
            };
            // Tidied up behind, at the latest before the next change.
            let files = if expected.is_empty() { 0 } else { 2 };
            server.wait_until("leftovers to go", |_| left().len() == files);
            kills += 1;
        }
    }
    println!("{kills} kills");
    server.assert_alive();
}

#[test]
fn who_is_told_of_a_timeout_has_changed_nothing_and_who_is_not_has_changed_all() {
    if chosen() != DEFAULT {
        return;
    }
    std::thread::scope(|scope| {
        for (step, changed) in [("Compiled", false), ("ComponentOpened", true)] {
            scope.spawn(move || {
                let mut server = server();
                let mut client = server.client();
                old(&mut client);
                let was = settings(&mut client);
                // Longer than ten seconds, and, where the client is told before the end, by more than a busy machine is late.
                let held = if changed { 11 } else { 16 };
                client.ok(&["BULL.STEP", step, &(held * 1000).to_string()]);
                let start = Instant::now();
                let reply = load_once(&mut client, "p", &["MODE", "enforce"], &guests::versioned(2));
                let took = start.elapsed();
                if changed {
                    assert_eq!(reply.error(), None, "after {took:?}");
                    assert!(took >= Duration::from_secs(held), "{took:?}");
                    assert_ne!(settings(&mut client), was);
                } else {
                    let error = reply.error().expect("a time-out");
                    assert_eq!(error, "BULLPOLICY not done within 10 s; nothing was changed");
                    assert!(took < Duration::from_secs(held), "{took:?}");
                    // Behind this one at the desk there is nothing left of it.
                    server.wait_until("the compiler", |client| {
                        try_load(client, "other", &[], &guests::admit_all()).error().is_none()
                    });
                    assert_eq!(settings(&mut client), was);
                }
                let expected = settings(&mut client);
                server.restart();
                server.wait_until("the policies to be loaded", |client| {
                    settings(client).first().is_some_and(|digest| !digest.is_empty())
                });
                assert_eq!(settings(&mut server.client()), expected);
                server.assert_alive();
            });
        }
    });
}

//! scripts/top: what it prints of a server, with an ACL user, and that it leaves a terminal as it found it.

use std::path::PathBuf;
use std::process::{Command, Output};

use bull_tests::checks::{add, finish, load, now_ms};
use bull_tests::{Server, engine, workspace};

/// The program; None (with a line) where it was not built.
fn program() -> Option<PathBuf> {
    let path = workspace().join("target/release/bull-top");
    if !path.exists() {
        println!("skipped: {} is missing; run scripts/top --help once", path.display());
    }
    path.exists().then_some(path)
}

fn run(server: &Server, words: &[&str], password: Option<&str>) -> Option<Output> {
    let mut command = Command::new(program()?);
    command.args(["--node", &format!("127.0.0.1:{}", server.port()), "--once", "--width", "170"]).args(words);
    command.env_remove("REDISCLI_AUTH");
    if let Some(password) = password {
        command.env("REDISCLI_AUTH", password);
    }
    Some(command.output().expect("it runs"))
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn once_prints_what_the_server_says() {
    let server = Server::builder().config("maxmemory 1gb").config("maxmemory-policy noeviction").start();
    let mut client = server.client();
    let queue = "bull:{tasks:critical}";
    let ids: Vec<String> = (0..7).map(|_| add(&mut client, queue, "{}", &[])).collect();
    let now = now_ms(&mut client);
    finish(&mut client, queue, &ids[0], "failed", now);
    add(&mut client, queue, "{}", &["DELAY", "1h"]);
    add(&mut client, "bull:{other}", "{}", &[]);
    let wasm =
        std::fs::read(workspace().join("target/policies/backlog_guard.wasm")).expect("run scripts/build-policies");
    load(&mut client, "backlog-guard", &["CONFIG", r#"{"max-jobs":1}"#, "QUEUES", "bull:{other}"], &wasm);
    assert_eq!(client.cmd(&["BULL.ADD", "bull:{other}", "job", "{}"]).code().as_deref(), Some("BULLREJECT"));
    let Some(output) = run(&server, &[], None) else { return };
    let shown = text(&output);
    let line = |word: &str| {
        let found = shown.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no {word} in\n{shown}"));
        found.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line(queue)[..4], [queue, "6", "0", "1"]);
    assert_eq!(line("bull:{other}")[..2], ["bull:{other}", "1"]);
    assert_eq!(line("backlog-guard")[2..4], ["enforce", "ready"]);
    assert!(shown.contains("primary") && shown.contains("of 1.0G"), "{shown}");
    assert_eq!(line("bull:{other}  backlog-guard:")[1..3], ["ago", "reject"]);
    assert!(!line("bull:{other}  backlog-guard:")[0].ends_with('d'), "the decision was made just now: {shown}");
    assert!(!shown.contains('\x1b'), "colours in a pipe: {shown}");
    let shown = text(&run(&server, &["--match", "*critical*", "--color", "always"], None).expect("built"));
    // Decisions are those of the node, whatever queues are chosen.
    let queues = shown.split("POLICIES").next().expect("queues come first");
    assert!(shown.contains('\x1b') && queues.contains(queue) && !queues.contains("bull:{other}"), "{shown}");
}

#[test]
fn an_acl_user_sees_the_queues_it_may_read() {
    let server = Server::start();
    let mut client = server.client();
    add(&mut client, "bull:{mine}", "{}", &[]);
    add(&mut client, "bull:{theirs}", "{}", &[]);
    client.ok(&["ACL", "SETUSER", "viewer", "on", ">pass", "%R~bull:{mine}*", "+info", "+bull.stats", "+bull.queues"]);
    let Some(output) = run(&server, &["--user", "viewer"], Some("pass")) else { return };
    let shown = text(&output);
    assert!(shown.contains("bull:{mine}") && !shown.contains("theirs"), "{shown}");
    for (words, password) in [(&["--user", "viewer"][..], Some("wrong")), (&["--user", "viewer"][..], None)] {
        let output = run(&server, words, password).expect("built");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && error.starts_with("top: ") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_terminal_is_drawn_followed_and_left_as_it_was() {
    if engine::chosen() != engine::DEFAULT {
        return;
    }
    let Some(program) = program() else { return };
    let server = Server::start();
    add(&mut server.client(), "bull:{q}", "{}", &[]);
    for how in ["quit", "signal"] {
        let output = Command::new("python3")
            .arg(workspace().join("tests/pty/top.py"))
            .args([how, "bull:{q}"])
            .arg(&program)
            .args(["--node", &format!("127.0.0.1:{}", server.port())])
            .output()
            .expect("python3 runs");
        assert!(output.status.success(), "{how}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // A pipe is no terminal, and says what to do.
    let output = Command::new(&program).args(["--node", &format!("127.0.0.1:{}", server.port())]).output();
    let output = output.expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("--once"), "{error}");
}

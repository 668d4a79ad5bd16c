//! What the server says about the module's commands: COMMAND DOCS, INFO and GETKEYS; and that each has a user.

use bull_tests::checks::commands;
use bull_tests::{Client, Reply, Server};

/// Kinds of arguments that COMMAND DOCS knows.
const KINDS: [&str; 10] =
    ["string", "integer", "double", "key", "pattern", "unix-time", "pure-token", "oneof", "block", "pubsub"];

/// Calls, with the keys that a cluster client must route them by.
const KEYS: [(&[&str], &[&str]); 13] = [
    (&["BULL.ADD", "bull:q", "job", "{}"], &["bull:q"]),
    (&["BULL.ADD", "bull:{tasks:critical}", "job", "{}", "ID", "x", "OPTS", "{}"], &["bull:{tasks:critical}"]),
    (&["BULL.MADD", "bull:q", "a", "1", "-", "b", "2", "-"], &["bull:q"]),
    (&["BULL.STATS", "bull:q"], &["bull:q"]),
    (&["BULL.SLOT", "bull:q"], &["bull:q"]),
    (&["BULL.CHECK", "bull:q", "REPAIR"], &["bull:q"]),
    (&["BULL.TRIM", "bull:q", "COMPLETED", "0"], &["bull:q"]),
    (&["BULL.PROFILE", "GET", "bull:q"], &["bull:q"]),
    (&["BULL.PROFILE", "SET", "bull:q", "priority", "1"], &["bull:q"]),
    (&["BULL.PROFILE", "DEL", "bull:q"], &["bull:q"]),
    (&["BULL.EVAL", "return 1", "2", "bull:q:wait", "bull:q:meta", "x"], &["bull:q:wait", "bull:q:meta"]),
    (&["BULL.EVALSHA", "abc", "2", "bull:q:wait", "bull:q:meta", "x"], &["bull:q:wait", "bull:q:meta"]),
    (&["BULL.EVALSHA", "abc", "1", "bull:q:wait"], &["bull:q:wait"]),
];

fn documented(client: &mut Client, name: &str) -> Reply {
    let docs = client.ok(&["COMMAND", "DOCS", name]);
    let [(named, entry)] = docs.pairs().try_into().unwrap_or_else(|_| panic!("COMMAND DOCS {name}: {docs:?}"));
    assert!(named.eq_ignore_ascii_case(name), "COMMAND DOCS {name} is about {named}");
    entry
}

/// Faults of a list of arguments, however deep.
fn argument_faults(command: &str, arguments: &Reply) -> Vec<String> {
    let mut faults = Vec::new();
    for argument in arguments.items() {
        let text = |field: &str| argument.get(field).map(|value| value.text()).unwrap_or_default();
        let (name, kind) = (text("name"), text("type"));
        if name.is_empty() {
            faults.push(format!("{command}: an argument without a name"));
        }
        if !KINDS.contains(&kind.as_str()) {
            faults.push(format!("{command}: {name} has the type {kind}"));
        }
        if kind == "pure-token" && text("token").is_empty() {
            faults.push(format!("{command}: {name} is a token without a word"));
        }
        if let Some(inner) = argument.get("arguments") {
            faults.extend(argument_faults(command, &inner));
        }
    }
    faults
}

#[test]
fn every_command_is_documented() {
    let server = Server::start();
    let mut client = server.client();
    let mut faults = Vec::new();
    for name in commands(&mut client) {
        let docs = documented(&mut client, &name);
        let text = |field: &str| docs.get(field).map(|value| value.text()).unwrap_or_default();
        let summary = text("summary");
        if summary.len() < 10 || !summary.is_ascii() || summary.contains('\n') {
            faults.push(format!("{name}: summary {summary:?}"));
        }
        if text("since").split('.').filter(|part| part.parse::<u32>().is_ok()).count() != 3 {
            faults.push(format!("{name}: since {:?}", text("since")));
        }
        if text("group") != "module" {
            faults.push(format!("{name}: group {:?}", text("group")));
        }
        let arity = client.ok(&["COMMAND", "INFO", &name]).items()[0].items()[1].int();
        let takes_more = arity != name.split('|').count() as i64;
        match docs.get("arguments") {
            Some(arguments) => faults.extend(argument_faults(&name, &arguments)),
            None if takes_more && docs.get("subcommands").is_none() => {
                faults.push(format!("{name} takes arguments and documents none"));
            }
            None => {}
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_command_has_a_sane_table_entry() {
    let server = Server::start();
    let mut client = server.client();
    for name in commands(&mut client) {
        let info = client.ok(&["COMMAND", "INFO", &name]);
        let entry = info.items()[0].items();
        assert!(entry[0].text().eq_ignore_ascii_case(&name), "{name}: {:?}", entry[0]);
        assert_ne!(entry[1].int(), 0, "{name} has an arity");
        let flags = entry[2].strings();
        let has = |flag: &str| flags.iter().any(|have| have == flag);
        assert!(!(has("write") && has("readonly")), "{name}: {flags:?}");
        if ["bull.add", "bull.madd"].contains(&name.as_str()) {
            assert!(has("write") && has("denyoom") && has("fast"), "{name}: {flags:?}");
        }
        if ["bull.trim", "bull.emergency"].contains(&name.as_str()) {
            assert!(!has("denyoom"), "{name} must work over maxmemory: {flags:?}");
        }
        if ["bull.stats", "bull.queues", "bull.slot", "bull.metrics"].contains(&name.as_str()) {
            assert!(!has("write"), "{name}: {flags:?}");
        }
        let words: Vec<&str> = name.split('|').collect();
        if entry[1].int().unsigned_abs() > words.len() as u64 {
            let reply = client.cmd(&words);
            assert!(reply.error().is_some_and(|text| text.contains("wrong number of arguments")), "{name}: {reply:?}");
        }
    }
}

#[test]
fn cluster_clients_find_the_keys() {
    let server = Server::start();
    let mut client = server.client();
    let known = commands(&mut client);
    for (call, keys) in KEYS {
        if known.contains(&call[0].to_lowercase()) {
            let reply = client.ok(&[&["COMMAND", "GETKEYS"], call].concat());
            assert_eq!(reply.strings(), keys, "{call:?}");
        }
    }
}

/// Commands that no user of deploy/acl has but the admin, and why.
const NOBODYS: [(&str, &str); 2] =
    [("bull.panic", "test builds only: it panics"), ("bull.step", "test builds only: it ends the process")];

#[test]
fn every_command_has_a_user_who_may_run_it() {
    let server = Server::start();
    let file = bull_tests::workspace().join("deploy/acl/users.acl.in");
    let text = std::fs::read_to_string(file).expect("the users");
    let rules = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_ascii_whitespace);
    let granted: std::collections::BTreeSet<&str> = rules.filter_map(|rule| rule.strip_prefix('+')).collect();
    let commands = commands(&mut server.client());
    // A right to a command is one to its subcommands.
    let whole = |name: &str| name.split('|').next().is_some_and(|name| granted.contains(name));
    let missing: Vec<_> = commands
        .iter()
        .filter(|name| !whole(name) && !granted.contains(name.as_str()))
        .filter(|name| !NOBODYS.iter().any(|(nobodys, _)| nobodys == name))
        .collect();
    assert!(
        missing.is_empty(),
        "no user of deploy/acl may run {missing:?}; give them to one, or say in NOBODYS why not"
    );
    for (name, why) in NOBODYS {
        assert!(!granted.contains(name), "{name} is granted, though {why}");
    }
    let unknown: Vec<_> =
        granted.iter().filter(|name| name.starts_with("bull.") && !commands.contains(**name)).collect();
    assert!(unknown.is_empty(), "deploy/acl grants {unknown:?}, which are no commands");
}

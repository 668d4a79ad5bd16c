//! What a client may do with the rights it has, and what nobody may do.

use bull_tests::client::{Client, Reply};
use bull_tests::server::Server;

fn error(reply: &Reply) -> String {
    reply.error().unwrap_or_else(|| panic!("expected an error, not {reply:?}"))
}

fn login(server: &Server, name: &str, rules: &[&str]) -> Client {
    let mut client = server.client();
    let mut command = vec!["ACL", "SETUSER", name, "on", "nopass"];
    command.extend(rules);
    assert_eq!(client.cmd(&command), Reply::Simple("OK".into()));
    assert_eq!(client.cmd(&["AUTH", name, "x"]), Reply::Simple("OK".into()));
    client
}

#[test]
fn a_producer_needs_one_command_and_its_keys() {
    let server = Server::start();
    let mut client = login(&server, "producer", &["~bull:mail*", "+bull.add"]);
    assert_eq!(client.cmd(&["BULL.ADD", "bull:mail", "n", "{}"]), Reply::Bulk(b"1".to_vec()));
    assert!(error(&client.cmd(&["BULL.ADD", "bull:other", "n", "{}"])).starts_with("NOPERM"));
    assert!(error(&client.cmd(&["BULL.TRIM", "bull:mail", "COMPLETED", "0"])).starts_with("NOPERM"));
    assert!(error(&client.cmd(&["EVAL", "return 1", "0"])).starts_with("NOPERM"));
}

#[test]
fn the_keys_of_a_job_are_checked_too_before_the_first_write() {
    let server = Server::start();
    let mut admin = server.client();
    admin.cmd(&["HSET", "bull:secret:1", "name", "parent"]);
    // The queue's name is covered, its keys are not.
    let mut client = login(&server, "narrow", &["~bull:mail", "+bull.add", "+bull.trim"]);
    assert!(error(&client.cmd(&["BULL.ADD", "bull:mail", "n", "{}"])).starts_with("NOPERM"));
    let mut client = login(&server, "child", &["~bull:mail*", "+bull.add"]);
    let opts = r#"{"parent":{"id":"1","queue":"bull:secret"}}"#;
    assert!(error(&client.cmd(&["BULL.ADD", "bull:mail", "n", "{}", "OPTS", opts])).starts_with("NOPERM"));
    assert_eq!(admin.cmd(&["DBSIZE"]), Reply::Int(1));
}

#[test]
fn names_of_queues_are_shown_to_those_who_may_read_them() {
    let server = Server::start();
    let mut admin = server.client();
    admin.cmd(&["BULL.ADD", "bull:mail", "n", "{}"]);
    admin.cmd(&["BULL.ADD", "bull:secret", "n", "{}"]);
    let mut client = login(&server, "reader", &["~bull:mail*", "+bull.queues", "+bull.stats"]);
    assert_eq!(client.cmd(&["BULL.QUEUES"]), Reply::Array(vec![Reply::Bulk(b"bull:mail".to_vec())]));
    assert!(!format!("{:?}", client.cmd(&["BULL.STATS"])).contains("secret"));
    assert!(error(&client.cmd(&["BULL.STATS", "bull:secret"])).starts_with("NOPERM"));
}

#[test]
fn the_module_is_never_unloaded() {
    let mut server = Server::builder().config("enable-module-command yes").start();
    let mut client = server.client();
    error(&client.cmd(&["MODULE", "UNLOAD", "bull"]));
    assert_eq!(client.cmd(&["BULL.ADD", "bull:q", "n", "{}"]), Reply::Bulk(b"1".to_vec()));
    server.assert_alive();
}

#[test]
fn a_key_that_a_policy_could_send_the_job_to_is_checked_as_well() {
    let server = Server::start();
    let keys = ["", ":meta", ":id", ":events", ":marker", ":wait", ":1"].map(|suffix| format!("~bull:mail{suffix}"));
    let mut rules: Vec<&str> = keys.iter().map(String::as_str).collect();
    rules.push("+bull.add");
    let mut client = login(&server, "undelayed", &rules);
    let refused = error(&client.cmd(&["BULL.ADD", "bull:mail", "n", "{}"]));
    assert!(refused.starts_with("NOPERM") && refused.contains("delayed"), "{refused}");
    assert_eq!(server.client().cmd(&["DBSIZE"]), Reply::Int(0));
}

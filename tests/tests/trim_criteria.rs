//! What BULL.TRIM's criteria name goes, nothing else, and a dry run says it beforehand.

use bull_tests::checks::{add, finish, now_ms};
use bull_tests::client::{Client, Reply};
use bull_tests::dump::Dump;
use bull_tests::server::Server;

const QUEUE: &str = "bull:q";

fn field(reply: &Reply, name: &str) -> i64 {
    reply.get(name).unwrap_or_else(|| panic!("no {name} in {reply:?}")).int()
}

/// How far apart jobs of these tests finished, ms: more than a test takes.
const APART_MS: u64 = 1_000_000;

/// Ten completed and ten failed jobs, the youngest of this moment; the ids in the order of their end.
fn finished(client: &mut Client) -> [Vec<String>; 2] {
    let now = now_ms(client);
    let mut ids = [Vec::new(), Vec::new()];
    for age in (0..10).rev() {
        for (state, ids) in ["completed", "failed"].into_iter().zip(&mut ids) {
            let id = add(client, QUEUE, "{\"pad\":\"some data of a job\"}", &[]);
            finish(client, QUEUE, &id, state, now - age * APART_MS);
            ids.push(id);
        }
    }
    ids
}

fn left(client: &mut Client, state: &str) -> Vec<String> {
    client.ok(&["ZRANGE", &format!("{QUEUE}:{state}"), "0", "-1"]).strings()
}

#[test]
fn the_newest_finished_jobs_stay() {
    let server = Server::start();
    let mut client = server.client();
    let [completed, failed] = finished(&mut client);
    let call = ["BULL.TRIM", QUEUE, "KEEPCOMPLETED", "3", "KEEPFAILED", "4", "FAILED", "2500s"];
    let before = Dump::take(&mut client);
    let dry = client.ok(&[&call[..], &["DRYRUN"]].concat());
    assert_eq!((field(&dry, "completed"), field(&dry, "failed"), field(&dry, "done")), (7, 7, 1));
    assert_eq!(Dump::take(&mut client).diff(&before, ["after the dry run", "before"]), "");
    let used = |client: &mut Client| -> i64 {
        let ids = completed[..7].iter().chain(&failed[..7]);
        let keys = ids.flat_map(|id| [format!("{QUEUE}:{id}"), format!("{QUEUE}:{id}:logs")]);
        keys.map(|key| client.ok(&["MEMORY", "USAGE", &key, "SAMPLES", "0"]).int()).sum()
    };
    // The keys, and a place in a set for each.
    let places = field(&dry, "bytes-freed") - used(&mut client);
    assert!((14 * 8..14 * 64).contains(&places), "{places} bytes for 14 places");
    let wet = client.ok(&call);
    for name in ["examined", "completed", "failed", "waiting", "kept", "bytes-freed", "remaining", "done"] {
        assert_eq!(field(&wet, name), field(&dry, name), "{name}");
    }
    assert_eq!(left(&mut client, "completed"), completed[7..]);
    assert_eq!(left(&mut client, "failed"), failed[7..]);
    for id in &completed[..7] {
        assert_eq!(client.ok(&["EXISTS", &format!("{QUEUE}:{id}"), &format!("{QUEUE}:{id}:logs")]).int(), 0);
    }
    // The limit counts over both states.
    let limited = client.ok(&["BULL.TRIM", QUEUE, "KEEPCOMPLETED", "0", "KEEPFAILED", "0", "LIMIT", "5"]);
    let names = ["completed", "failed", "remaining", "done"];
    assert_eq!(names.map(|name| field(&limited, name)), [3, 2, 1, 1]);
}

#[test]
fn what_waits_too_long_goes_and_what_may_not_stays() {
    let server = Server::start();
    let mut client = server.client();
    let old = (now_ms(&mut client) - 60_000).to_string();
    let aged = |words: &[&'static str]| [words, &["TIMESTAMP"]].concat();
    let mut put = |words: &[&'static str]| add(&mut client, QUEUE, "{}", &[&aged(words)[..], &[old.as_str()]].concat());
    let (plain, by_priority) = (put(&[]), put(&["PRIORITY", "3"]));
    let delayed = put(&["DELAY", "1h"]);
    let parent = put(&["ID", "parent"]);
    let child = add(&mut client, QUEUE, "{}", &["OPTS", r#"{"parent":{"id":"parent","queue":"bull:q"}}"#]);
    let young = add(&mut client, QUEUE, "{}", &[]);
    let lifo = add(&mut client, QUEUE, "{}", &["LIFO"]);
    let reply = client.ok(&["BULL.TRIM", QUEUE, "WAITING", "30s"]);
    assert_eq!((field(&reply, "waiting"), field(&reply, "kept"), field(&reply, "remaining")), (2, 1, 0));
    for (id, there) in [(plain, 0), (by_priority, 0), (delayed, 1), (parent, 1), (child, 1), (young, 1), (lifo, 1)] {
        assert_eq!(client.ok(&["EXISTS", &format!("{QUEUE}:{id}")]).int(), there, "{id}");
    }
    assert_eq!(client.ok(&["EXISTS", &format!("{QUEUE}:prioritized")]).int(), 0);
    assert_eq!(client.ok(&["LLEN", &format!("{QUEUE}:wait")]).int(), 4);
}

#[test]
fn events_are_cut_to_the_newest() {
    let server = Server::start();
    let mut client = server.client();
    add(&mut client, QUEUE, "{}", &[]);
    let events = format!("{QUEUE}:events");
    let script = "for i=1,20000 do redis.call('XADD', KEYS[1], '*', 'event', 'added', 'n', i) end";
    client.ok(&["EVAL", script, "1", &events]);
    let before = client.ok(&["MEMORY", "USAGE", &events, "SAMPLES", "0"]).int();
    let reply = client.ok(&["BULL.TRIM", QUEUE, "EVENTS", "150"]);
    let freed = before - client.ok(&["MEMORY", "USAGE", &events, "SAMPLES", "0"]).int();
    assert_eq!(client.ok(&["XLEN", &events]).int(), 150);
    assert!(field(&reply, "events") > 19_800);
    let said = field(&reply, "bytes-freed");
    assert!((said - freed).abs() * 5 < freed, "{said} said, {freed} freed");
    let last = client.ok(&["XREVRANGE", &events, "+", "-", "COUNT", "1"]);
    assert!(format!("{last:?}").contains("20000"), "the newest stay: {last:?}");
}

#[test]
fn without_criteria_the_profile_counts() {
    let server = Server::start();
    let mut client = server.client();
    let [completed, failed] = finished(&mut client);
    let nothing = client.ok(&["BULL.TRIM", QUEUE, "DRYRUN"]);
    assert_eq!((field(&nothing, "completed"), field(&nothing, "done")), (0, 1));
    let limits = ["retain-completed", "4500s", "keep-failed", "2", "max-events", "10"];
    client.ok(&[&["BULL.PROFILE", "SET", QUEUE][..], &limits].concat());
    client.ok(&["BULL.TRIM", QUEUE]);
    assert_eq!(left(&mut client, "completed"), completed[5..]);
    assert_eq!(left(&mut client, "failed"), failed[8..]);
    // And the event that tells of the trim.
    assert!(client.ok(&["XLEN", &format!("{QUEUE}:events")]).int() <= 10);
}

#[test]
fn a_parent_in_a_queue_that_the_user_may_not_change_keeps_its_child() {
    let server = Server::start();
    let mut admin = server.client();
    add(&mut admin, "bull:secret", "{}", &["ID", "p"]);
    admin.ok(&["LREM", "bull:secret:wait", "1", "p"]);
    admin.ok(&["ZADD", "bull:secret:waiting-children", "1", "p"]);
    let child = add(&mut admin, QUEUE, "{}", &["OPTS", r#"{"parent":{"id":"p","queue":"bull:secret"}}"#]);
    let alone = add(&mut admin, QUEUE, "{}", &[]);
    let now = now_ms(&mut admin);
    for id in [&child, &alone] {
        finish(&mut admin, QUEUE, id, "failed", now - 1000);
    }
    admin.ok(&["ACL", "SETUSER", "narrow", "on", "nopass", "~bull:q*", "+bull.trim"]);
    let mut narrow = server.client();
    narrow.ok(&["AUTH", "narrow", "x"]);
    let before = Dump::take(&mut admin).starting_with("bull:secret");
    let reply = narrow.ok(&["BULL.TRIM", QUEUE, "FAILED", "0"]);
    assert_eq!((field(&reply, "failed"), field(&reply, "kept")), (1, 1));
    assert_eq!(Dump::take(&mut admin).starting_with("bull:secret").diff(&before, ["after", "before"]), "");
    let reply = admin.ok(&["BULL.TRIM", QUEUE, "FAILED", "0"]);
    assert_eq!((field(&reply, "failed"), field(&reply, "kept")), (1, 0));
    assert_eq!(admin.ok(&["LRANGE", "bull:secret:wait", "0", "-1"]).strings(), ["p"]);
}

//! BULL.MADD: what it leaves, and who is refused.

use bull_tests::checks::load;
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Reply, Server, guests};

const QUEUE: &str = "bull:{q}";

fn madd(client: &mut Client, jobs: &[[&str; 3]]) -> Reply {
    let mut words = vec!["BULL.MADD", QUEUE];
    words.extend(jobs.iter().flatten());
    client.cmd(&words)
}

#[test]
fn it_leaves_what_single_adds_leave() {
    let servers = [Server::start(), Server::start()];
    let [mut many, mut single] = [servers[0].client(), servers[1].client()];
    let jobs = [
        ["a", "{}", "-"],
        ["b", "[1, 2]", r#"{"timestamp":1795000000000,"delay":5000}"#],
        ["c", "null", r#"{"priority":3,"attempts":2,"backoff":100}"#],
        ["d", "{}", r#"{"jobId":"own","lifo":true}"#],
        ["e", "{}", r#"{"jobId":"own"}"#],
    ]
    .map(|[name, data, opts]| [name, data, opts]);
    let ids = madd(&mut many, &jobs).strings();
    assert_eq!(ids, ["1", "2", "3", "own", "own"]);
    for [name, data, opts] in jobs {
        let opts = if opts == "-" { "{}" } else { opts };
        single.ok(&["BULL.ADD", QUEUE, name, data, "OPTS", opts]);
    }
    let lists = |client: &mut Client| {
        (client.ok(&["LRANGE", "bull:{q}:wait", "0", "-1"]).strings(), client.ok(&["GET", "bull:{q}:id"]).text())
    };
    assert_eq!(lists(&mut many), lists(&mut single));
    let keys = |client: &mut Client| {
        let mut keys = client.ok(&["KEYS", "*"]).strings();
        keys.sort();
        keys
    };
    assert_eq!(keys(&mut many), keys(&mut single));
    for hash in ["1", "2", "3", "own"] {
        let hash = format!("{QUEUE}:{hash}");
        let fields = ["name", "data", "opts", "delay", "priority"];
        let read = |client: &mut Client| fields.map(|field| client.ok(&["HGET", &hash, field]).text());
        assert_eq!(read(&mut many), read(&mut single), "{hash}");
    }
    assert_eq!(many.ok(&["XLEN", "bull:{q}:events"]), single.ok(&["XLEN", "bull:{q}:events"]));
}

#[test]
fn a_refused_job_keeps_no_other_out() {
    let server = Server::start();
    let mut client = server.client();
    let jobs = [
        ["a", "{}", "-"],
        ["b", "{", "-"],
        ["c", "{}", r#"{"priority":-1}"#],
        ["d", "{}", "nothing"],
        ["e", "{}", r#"{"parent":{"id":"none","queue":"bull:{q}"}}"#],
        ["f", "{}", "-"],
    ];
    let replies = madd(&mut client, &jobs);
    let codes: Vec<_> = replies.items().iter().map(Reply::code).collect();
    let err = || Some("ERR".to_owned());
    assert_eq!(codes, [None, err(), err(), err(), Some("BULLMISSINGPARENT".into()), None], "{replies:?}");
    assert_eq!(client.ok(&["LLEN", "bull:{q}:wait"]), Reply::Int(2));
    assert_eq!(client.ok(&["GET", "bull:{q}:id"]).text(), "2", "no id is used up by a refused job");
    load(&mut client, "no", &[], &guests::rejecting(b"no"));
    let before = Dump::take(&mut client);
    let replies = madd(&mut client, &[["a", "{}", "-"], ["b", "{}", "-"]]);
    assert!(replies.items().iter().all(|reply| reply.error().as_deref() == Some("BULLREJECT no no")), "{replies:?}");
    assert_same(&before, &Dump::take(&mut client), ["before the refusals", "after them"]);
}

#[test]
fn a_wrong_call_is_one_error_and_writes_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    for words in [&["a", "{}"][..], &["a", "{}", "-", "b"], &["a", "{}", "-", "b", "{}"]] {
        let call: Vec<&str> = ["BULL.MADD", QUEUE].iter().chain(words).copied().collect();
        assert_eq!(client.cmd(&call).code().as_deref(), Some("ERR"), "{words:?}");
    }
    assert_eq!(client.cmd(&["BULL.MADD", "bull:q:", "a", "{}", "-"]).code().as_deref(), Some("ERR"));
    let many: Vec<[&str; 3]> = vec![["a", "{}", "-"]; 1001];
    assert!(madd(&mut client, &many).error().expect("too many").contains("at most 1000"));
    assert_eq!(client.ok(&["DBSIZE"]), Reply::Int(0));
    assert_eq!(madd(&mut client, &many[..1000]).items().len(), 1000);
    client.ok(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(madd(&mut client, &many[..2]).code().as_deref(), Some("OOM"));
    assert_eq!(client.ok(&["GET", "bull:{q}:id"]).text(), "1000");
    server.assert_alive();
}

#[test]
fn trouble_of_the_queue_is_one_error_and_writes_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    let jobs = [["a", "{}", "-"], ["b", "{}", r#"{"priority":3}"#], ["c", "{}", r#"{"delay":5000}"#]];
    for suffix in ["meta", "id", "wait", "prioritized", "pc", "delayed", "marker", "events"] {
        let key = format!("{QUEUE}:{suffix}");
        client.ok(&["FLUSHALL"]);
        client.ok(&["SADD", &key, "spoilt"]);
        let before = Dump::take(&mut client);
        assert_eq!(madd(&mut client, &jobs).code().as_deref(), Some("WRONGTYPE"), "{suffix}");
        assert_same(&before, &Dump::take(&mut client), ["before", "after"]);
    }
    client.ok(&["FLUSHALL"]);
    let before = Dump::take(&mut client);
    for patterns in [
        &["~bull:{q}", "~bull:{q}:[!i]*"][..],
        &["~bull:{q}", "~bull:{q}:[!w]*"],
        &["~bull:{q}", "~bull:{q}:[!1]*"],
        &["~bull:{q}", "~bull:{q}:[!p]*"],
        &["~bull:{q}", "~bull:{q}:[!d]*"],
        &["~bull:{other}*"],
    ] {
        client.ok(&["ACL", "DELUSER", "producer"]);
        client.ok(&[&["ACL", "SETUSER", "producer", "on", "nopass", "+bull.madd"], patterns].concat());
        let mut producer = server.client();
        producer.ok(&["AUTH", "producer", "x"]);
        let reply = madd(&mut producer, &jobs);
        assert_eq!(reply.code().as_deref(), Some("NOPERM"), "{patterns:?}: {reply:?}");
    }
    assert_same(&before, &Dump::take(&mut client), ["before", "after"]);
    server.assert_alive();
}

#[test]
fn in_a_multi_it_answers_and_writes_as_outside() {
    let server = Server::start();
    let mut client = server.client();
    client.ok(&["MULTI"]);
    madd(&mut client, &[["a", "{}", "-"], ["b", "{", "-"]]);
    client.ok(&["BULL.ADD", QUEUE, "c", "{}"]);
    madd(&mut client, &[["d", "{}", r#"{"lifo":true}"#]]);
    let replies = client.ok(&["EXEC"]);
    let [first, second, third] = replies.items() else { panic!("{replies:?}") };
    assert_eq!((first.items()[0].text(), first.items()[1].code()), ("1".into(), Some("ERR".into())));
    assert_eq!((second.text(), third.strings()), ("2".into(), vec!["3".into()]));
    assert_eq!(client.ok(&["LRANGE", "bull:{q}:wait", "0", "-1"]).strings(), ["2", "1", "3"]);
    // From a script too.
    let script = "return redis.call('BULL.MADD', KEYS[1], 'e', '{}', '-', 'f', '{}', '-')";
    assert_eq!(client.ok(&["EVAL", script, "1", QUEUE]).strings(), ["4", "5"]);
}

/// The policy sees each job of the command on top of those before it.
#[test]
fn a_limit_holds_within_one_command() {
    let server = Server::start();
    let mut client = server.client();
    let wasm = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/policies/backlog_guard.wasm"))
        .expect("scripts/build makes it");
    load(&mut client, "backlog-guard", &["CONFIG", r#"{"max-jobs":7}"#], &wasm);
    let jobs: Vec<[&str; 3]> = vec![["a", "{}", "-"]; 20];
    let replies = madd(&mut client, &jobs);
    let entered = replies.items().iter().filter(|reply| reply.code().is_none()).count();
    assert_eq!(entered, 7, "{replies:?}");
    assert_eq!(replies.items()[7].code().as_deref(), Some("BULLREJECT"));
    assert_eq!(client.ok(&["LLEN", "bull:{q}:wait"]), Reply::Int(7));
    let mut mixed = vec![["a", "{}", r#"{"priority":1}"#]; 3];
    mixed.push(["a", "{}", r#"{"delay":5000}"#]);
    let replies = madd(&mut client, &mixed);
    assert!(replies.items().iter().all(|reply| reply.code().as_deref() == Some("BULLREJECT")), "{replies:?}");
}

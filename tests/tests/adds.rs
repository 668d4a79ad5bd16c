//! What BULL.ADD and BULL.MADD tell others as they write, and that a refused one writes nothing at all.

use bull_tests::checks::load;
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Reply, Server, guests};

const QUEUE: &str = "bull:{q}";

fn key(suffix: &str) -> String {
    format!("{QUEUE}:{suffix}")
}

/// Keyspace events since the subscription, as `event key`, until nothing more was published.
fn events(listener: &mut Client, client: &mut Client) -> Vec<String> {
    client.ok(&["PUBLISH", "__end__", ""]);
    let mut heard = Vec::new();
    loop {
        let message = listener.read().expect("a message");
        let [_, _, channel, text] = message.items() else { panic!("not a message: {message:?}") };
        if channel.text() == "__end__" {
            return heard;
        }
        let event = channel.text().replace("__keyevent@0__:", "");
        let place = text.text();
        heard.push(format!("{event} {}", place.strip_prefix("bull:{q}:").unwrap_or(&place)));
    }
}

/// What the commands of BullMQ's scripts raise, by the order of the scripts: addStandardJob-9, addPrioritizedJob-9,
/// addDelayedJob-6 of BullMQ 6.7.
#[test]
fn keyspace_events_are_those_of_the_commands() {
    let server = Server::start();
    let (mut client, mut listener) = (server.client(), server.client());
    client.ok(&["CONFIG", "SET", "notify-keyspace-events", "EA"]);
    client.ok(&["BULL.ADD", QUEUE, "first", "{}"]);
    listener.ok(&["PSUBSCRIBE", "*"]);
    let cases: [(&[&str], &[&str]); 5] = [
        (&[], &["incrby id", "hset 2", "xadd events", "lpush wait", "xadd events"]),
        (&["LIFO"], &["incrby id", "hset 3", "xadd events", "rpush wait", "xadd events"]),
        (&["PRIORITY", "3"], &["incrby id", "hset 4", "xadd events", "incrby pc", "zadd prioritized", "xadd events"]),
        (&["DELAY", "1h"], &["incrby id", "hset 5", "xadd events", "zadd delayed", "xadd events", "zadd marker"]),
        (&["ID", "own"], &["incrby id", "hset own", "xadd events", "lpush wait", "xadd events"]),
    ];
    for (words, wanted) in cases {
        client.ok(&[&["BULL.ADD", QUEUE, "n", "{}"], words].concat());
        assert_eq!(events(&mut listener, &mut client), wanted, "{words:?}");
    }
    // A marker that a worker took is put back.
    client.ok(&["DEL", &key("marker")]);
    events(&mut listener, &mut client);
    client.ok(&["BULL.ADD", QUEUE, "n", "{}"]);
    let wanted = ["incrby id", "hset 7", "xadd events", "lpush wait", "zadd marker", "xadd events"];
    assert_eq!(events(&mut listener, &mut client), wanted);
    // Trimming of the events is told as well.
    client.ok(&["HSET", &key("meta"), "opts.maxLenEvents", "1"]);
    client.ok(&["CONFIG", "SET", "stream-node-max-entries", "1"]);
    events(&mut listener, &mut client);
    client.ok(&["BULL.ADD", QUEUE, "n", "{}"]);
    client.ok(&["BULL.ADD", QUEUE, "n", "{}"]);
    assert!(events(&mut listener, &mut client).contains(&"xtrim events".to_owned()));
}

#[test]
fn watchers_and_tracking_clients_hear_of_adds_and_of_nothing_else() {
    let server = Server::start();
    let mut client = server.client();
    let mut tracking = server.client().resp3();
    client.ok(&["BULL.ADD", QUEUE, "n", "{}"]);
    load(&mut client, "no", &["MODE", "observe"], &guests::rejecting(b"no"));
    let mut watcher = server.client();
    let transaction = |watcher: &mut Client, client: &mut Client, suffix: &str| -> bool {
        watcher.ok(&["WATCH", &key(suffix)]);
        client.cmd(&["BULL.ADD", QUEUE, "n", "{}"]);
        watcher.ok(&["MULTI"]);
        watcher.ok(&["PING"]);
        watcher.ok(&["EXEC"]) == Reply::Null
    };
    for suffix in ["id", "wait", "events", "2"] {
        client.ok(&["DEL", &key("id"), &key("2")]);
        client.ok(&["INCR", &key("id")]);
        assert!(transaction(&mut watcher, &mut client, suffix), "{suffix} changed");
    }
    for suffix in ["meta", "delayed", "prioritized", "pc", "active", "completed", "marker"] {
        assert!(!transaction(&mut watcher, &mut client, suffix), "{suffix} was only looked at");
    }
    tracking.ok(&["CLIENT", "TRACKING", "ON"]);
    tracking.ok(&["LLEN", &key("wait")]);
    client.ok(&["BULL.ADD", QUEUE, "n", "{}"]);
    let Reply::Push(push) = tracking.read().expect("an invalidation") else { panic!("not a push") };
    assert_eq!(push[1].items()[0].text(), key("wait"));

    // A refused add changes nothing for anybody.
    client.ok(&["BULL.POLICY", "MODE", "no", "enforce"]);
    for suffix in ["id", "wait", "events", "marker"] {
        assert!(!transaction(&mut watcher, &mut client, suffix), "{suffix} by a refused add");
    }
}

#[test]
fn blocked_clients_are_woken() {
    let server = Server::start();
    let mut client = server.client();
    // On a queue that does not exist yet, and on one that does.
    for turn in ["1", "2"] {
        let (mut reader, mut worker, mut popper) = (server.client(), server.client(), server.client());
        let send = |waiting: &mut Client, words: &[&str]| {
            waiting.send(&bull_tests::client::encode(words)).expect("a connection");
        };
        send(&mut reader, &["XREAD", "BLOCK", "0", "STREAMS", &key("events"), "$"]);
        send(&mut worker, &["BZPOPMIN", &key("marker"), "0"]);
        send(&mut popper, &["BRPOP", &key("wait"), "0"]);
        server.wait_until("three clients wait", |client| {
            client.ok(&["INFO", "clients"]).text().contains("blocked_clients:3")
        });
        client.ok(&["BULL.ADD", QUEUE, "n", "{}"]);
        assert_eq!(worker.read().expect("the marker").items()[1].text(), "0", "turn {turn}");
        assert_eq!(popper.read().expect("a job").items()[1].text(), turn);
        let entries = reader.read().expect("an event");
        assert!(format!("{entries:?}").contains("added"), "{entries:?}");
    }
}

/// Refused adds: what the error starts with, and the words behind the queue.
const REFUSED: [(&str, &[&str]); 36] = [
    ("ERR", &["n"]),
    ("ERR", &["n", "{"]),
    ("ERR", &["n", ""]),
    ("ERR", &["n", "1 2"]),
    ("ERR", &["n", "\"\u{1}\""]),
    ("ERR", &["n", "{}", "DELAY"]),
    ("ERR", &["n", "{}", "DELAY", "-1"]),
    ("ERR", &["n", "{}", "DELAY", "5", "DELAY", "5"]),
    ("ERR", &["n", "{}", "PRIORITY", "2097152"]),
    ("ERR", &["n", "{}", "PRIORITY", "1.5"]),
    ("ERR", &["n", "{}", "TIMESTAMP", "-1"]),
    ("ERR", &["n", "{}", "SOON"]),
    ("ERR", &["n", "{}", "ID", ""]),
    ("ERR", &["n", "{}", "ID", "7"]),
    ("ERR", &["n", "{}", "ID", "0"]),
    ("ERR", &["n", "{}", "ID", "0:1"]),
    ("ERR", &["n", "{}", "ID", "a:b"]),
    ("ERR", &["n", "{}", "ID", "wait"]),
    ("ERR", &["n", "{}", "OPTS", "{"]),
    ("ERR", &["n", "{}", "OPTS", "[]"]),
    ("ERR", &["n", "{}", "OPTS", r#"{"attempts":-1}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"delay":"5"}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"priority":-1}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"lifo":1}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"jobId":5}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"backoff":"x"}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"removeOnComplete":"yes"}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"removeOnFail":[]}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"debounce":{"id":"a"}}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"deduplication":{"ttl":5}}"#]),
    ("ERR", &["n", "[1,2,3]", "OPTS", r#"{"sizeLimit":3}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"telemetry":1}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"parent":{"id":"a"}}"#]),
    ("ERR", &["n", "{}", "OPTS", r#"{"keepLogs":-1}"#]),
    ("BULLMISSINGPARENT", &["n", "{}", "OPTS", r#"{"parent":{"id":"none","queue":"bull:{q}"}}"#]),
    ("BULLPARENT", &["n", "{}", "OPTS", r#"{"jobId":"child","parent":{"id":"2","queue":"bull:{q}"}}"#]),
];

#[test]
fn a_refused_add_writes_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    client.ok(&["BULL.ADD", QUEUE, "n", "{}"]);
    client.ok(&["BULL.ADD", QUEUE, "n", "{}"]);
    client.ok(&["BULL.ADD", QUEUE, "n", "{}", "OPTS", r#"{"jobId":"child","parent":{"id":"1","queue":"bull:{q}"}}"#]);
    let before = Dump::take(&mut client);
    for (code, words) in REFUSED {
        let reply = client.cmd(&[&["BULL.ADD", QUEUE], words].concat());
        assert_eq!(reply.code().as_deref(), Some(code), "{words:?}: {reply:?}");
        // The same as one job of many, where its words can be options.
        if let [name, data, "OPTS", opts] = words {
            let replies = client.ok(&["BULL.MADD", QUEUE, name, data, opts, name, data, opts]);
            let codes: Vec<_> = replies.items().iter().map(Reply::code).collect();
            assert_eq!(codes, [Some(code.to_owned()), Some(code.to_owned())], "{words:?}: {replies:?}");
        }
    }
    assert_same(&before, &Dump::take(&mut client), ["before the refused adds", "after them"]);
    server.assert_alive();
}

#[test]
fn no_nesting_of_data_or_options_overflows_the_stack() {
    let mut server = Server::start();
    let mut client = server.client();
    let deep = 1 << 20;
    let open = "[".repeat(deep);
    let closed = format!("{open}{}", "]".repeat(deep));
    let option = format!(r#"{{"own":{closed}}}"#);
    for (data, opts) in [(open.as_str(), "{}"), (&closed, "{}"), ("{}", &open), ("{}", &option)] {
        let reply = client.cmd(&["BULL.ADD", QUEUE, "n", data, "OPTS", opts]);
        assert_eq!(reply.code().as_deref(), Some("ERR"));
        let replies = client.ok(&["BULL.MADD", QUEUE, "n", data, opts]);
        assert_eq!(replies.items()[0].code().as_deref(), Some("ERR"));
    }
    assert_eq!(client.ok(&["DBSIZE"]), Reply::Int(0));
    let fits = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    client.ok(&["BULL.ADD", QUEUE, "n", &fits]);
    server.assert_alive();
}

#[test]
fn over_maxmemory_an_add_writes_nothing() {
    let mut server = Server::start();
    let mut client = server.client();
    client.ok(&["BULL.ADD", QUEUE, "n", "{}", "DELAY", "1h", "OPTS", r#"{"deduplication":{"id":"d"}}"#]);
    client.ok(&["BULL.ADD", QUEUE, "n", "{}", "ID", "own"]);
    let before = Dump::take(&mut client);
    client.ok(&["CONFIG", "SET", "maxmemory", "1"]);
    for opts in [
        "{}",
        r#"{"delay":5}"#,
        r#"{"priority":5}"#,
        r#"{"lifo":true}"#,
        r#"{"jobId":"new"}"#,
        r#"{"jobId":"own"}"#,
        r#"{"parent":{"id":"own","queue":"bull:{q}"}}"#,
        r#"{"deduplication":{"id":"d"}}"#,
        r#"{"deduplication":{"id":"d","ttl":5,"extend":true}}"#,
        r#"{"delay":5,"deduplication":{"id":"d","replace":true}}"#,
        r#"{"deduplication":{"id":"d","keepLastIfActive":true}}"#,
    ] {
        for queue in [QUEUE, "bull:{new}"] {
            let reply = client.cmd(&["BULL.ADD", queue, "n", "{}", "OPTS", opts]);
            assert_eq!(reply.code().as_deref(), Some("OOM"), "{opts}: {reply:?}");
            let reply = client.cmd(&["BULL.MADD", queue, "n", "{}", opts, "n", "{}", "-"]);
            assert_eq!(reply.code().as_deref(), Some("OOM"), "one error for all, {opts}: {reply:?}");
        }
    }
    for command in [&["BULL.ADD", QUEUE, "n", "{}"][..], &["BULL.MADD", QUEUE, "n", "{}", "-"]] {
        let mut call = vec!["EVAL", "return redis.call(unpack(ARGV))", "0"];
        call.extend(command);
        let reply = client.cmd(&call);
        assert_eq!(reply.code().as_deref(), Some("OOM"), "from a script: {reply:?}");
        client.ok(&["MULTI"]);
        assert_eq!(client.cmd(command).code().as_deref(), Some("OOM"), "in a MULTI");
        assert_eq!(client.cmd(&["EXEC"]).code().as_deref(), Some("EXECABORT"));
    }
    client.ok(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_same(&before, &Dump::take(&mut client), ["before the refused adds", "after them"]);
    server.assert_alive();
}

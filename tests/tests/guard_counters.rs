//! What became of adds, as BULL.STATS, BULL.POLICY INFO and INFO tell it: by queue, by policy, of the node.

use bull_tests::adds::{Add, DELAYED, SCRIPT};
use bull_tests::checks::load;
use bull_tests::{Client, Reply, Server, guests};

const QUEUE: &str = "bull:{q}";

fn start() -> (Server, Client) {
    let server = Server::builder().config("bull.guard enforce").start();
    let mut client = server.client();
    client.ok(&["HSET", &format!("{QUEUE}:meta"), "version", "bullmq:6.7.0"]);
    (server, client)
}

fn numbers<const N: usize>(map: &Reply, names: [&str; N]) -> [i64; N] {
    names.map(|name| map.get(name).unwrap_or_else(|| panic!("no {name} in {map:?}")).int())
}

const SCRIPTS: [&str; 6] = ["guarded", "admitted", "refused", "observed", "passed", "unreadable"];

/// The counts of a queue's add scripts.
fn scripts(client: &mut Client, queue: &str) -> [i64; 6] {
    let stats = client.ok(&["BULL.STATS", queue]);
    numbers(&stats.get("guard").expect("guard"), SCRIPTS)
}

const VERDICTS: [&str; 4] = ["rejected", "deferred", "displaced", "observed"];

/// The verdicts of all policies on a queue's jobs, and of one policy.
fn verdicts(client: &mut Client, queue: &str, policy: &str) -> ([i64; 4], Option<[i64; 4]>) {
    let stats = client.ok(&["BULL.STATS", queue]);
    let totals = numbers(&stats, ["rejected-total", "deferred-total", "displaced-total", "observed-total"]);
    (totals, stats.get("verdicts-by-policy").expect("policies").get(policy).map(|row| numbers(&row, VERDICTS)))
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.ok(&["INFO", "everything"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("bull_guard_{field}:")));
    line.unwrap_or_else(|| panic!("no bull_guard_{field} in INFO")).trim().parse().expect("a number")
}

#[test]
fn adds_are_counted_by_queue_and_by_policy() {
    for resp3 in [false, true] {
        let (mut server, mut client) = start();
        client = if resp3 { server.client().resp3() } else { client };
        let add = Add::standard(QUEUE).eval(SCRIPT);
        client.ok(&add);
        load(&mut client, "no", &["ORDER", "5"], &guests::rejecting(b"no"));
        load(&mut client, "late", &["MODE", "observe", "ORDER", "1"], &guests::deferring(5000));
        for _ in 0..3 {
            assert!(client.cmd(&add).error().is_some());
        }
        // A job that comes by a command is judged as well, and is no script.
        assert!(client.cmd(&["BULL.ADD", QUEUE, "job", "{}"]).error().is_some());
        client.ok(&["CONFIG", "SET", "bull.guard", "observe"]);
        client.ok(&add);
        client.ok(&["CONFIG", "SET", "bull.guard", "enforce"]);
        client.cmd(&Add::standard(QUEUE).parent("bull:{q}:p").eval("return -5"));
        let mut spoilt = add.clone();
        spoilt[12] = vec![0x90];
        client.ok(&spoilt);
        assert_eq!(scripts(&mut client, QUEUE), [5, 2, 3, 1, 1, 1]);
        assert_eq!(verdicts(&mut client, QUEUE, "no"), ([4, 0, 0, 6], Some([4, 0, 0, 1])));
        assert_eq!(verdicts(&mut client, QUEUE, "late").1, Some([0, 0, 0, 5]));
        assert_eq!(verdicts(&mut client, QUEUE, "other").1, None);

        let policy = client.ok(&["BULL.POLICY", "INFO", "no"]);
        assert_eq!(numbers(&policy, ["calls", "rejected", "observed"]), [5, 4, 1]);
        assert_eq!(numbers(&policy, ["guard-admitted", "guard-rejected", "guard-observed"]), [0, 3, 1]);

        load(&mut client, "late", &["MODE", "enforce", "ORDER", "1"], &guests::deferring(5000));
        assert!(client.cmd(&add).error().is_some());
        client.ok(&Add::new(QUEUE, DELAYED).option("delay", 6000).eval("return '1'"));
        load(&mut client, "late", &[], &guests::displacing(1));
        client.ok(&add);
        assert_eq!(verdicts(&mut client, QUEUE, "late").1, Some([0, 2, 1, 5]));
        let policy = client.ok(&["BULL.POLICY", "INFO", "late"]);
        assert_eq!(numbers(&policy, ["guard-deferred", "guard-displaced"]), [2, 1]);

        // The node has the sum of its queues.
        let other = "bull:{other}";
        client.ok(&Add::standard(other).eval(SCRIPT));
        let sum: Vec<i64> =
            scripts(&mut client, QUEUE).iter().zip(scripts(&mut client, other)).map(|(a, b)| a + b).collect();
        let node = client.ok(&["BULL.STATS"]);
        assert_eq!(numbers(&node.get("guard").expect("guard"), SCRIPTS).to_vec(), sum);
        let told = SCRIPTS.map(|name| i64::try_from(info(&mut client, name)).expect("a count"));
        assert_eq!(told.to_vec(), sum);
        assert_eq!(info(&mut client, "queues_counted"), 2);
        server.assert_alive();
    }
}

#[test]
fn counts_go_with_the_queue() {
    let (mut server, mut client) = start();
    let meta = format!("{QUEUE}:meta");
    let add = Add::standard(QUEUE).eval(SCRIPT);
    let none = [0; 6];
    let make = |client: &mut Client| {
        client.ok(&["HSET", &meta, "version", "bullmq:6.7.0"]);
        client.ok(&add);
        assert_eq!(scripts(client, QUEUE), [1, 1, 0, 0, 0, 0]);
    };
    for end in
        [vec!["DEL", &meta], vec!["UNLINK", &meta], vec!["EVAL", "return redis.call('DEL', KEYS[1])", "1", &meta]]
    {
        make(&mut client);
        client.ok(&end);
        assert_eq!(scripts(&mut client, QUEUE), none, "{end:?}");
        assert_eq!(info(&mut client, "queues_counted"), 0, "{end:?}");
    }
    for end in ["FLUSHALL", "FLUSHDB"] {
        for how in ["SYNC", "ASYNC"] {
            make(&mut client);
            client.ok(&[end, how]);
            assert_eq!(info(&mut client, "queues_counted"), 0, "{end} {how}");
        }
    }
    // Another database's queue of that name is another queue; the counts go where the queue goes.
    make(&mut client);
    client.ok(&["SELECT", "1"]);
    make(&mut client);
    client.ok(&add);
    client.ok(&["SWAPDB", "0", "1"]);
    assert_eq!(scripts(&mut client, QUEUE)[0], 1);
    client.ok(&["FLUSHDB"]);
    client.ok(&["SELECT", "0"]);
    assert_eq!(scripts(&mut client, QUEUE)[0], 2);
    assert_eq!(info(&mut client, "queues_counted"), 1);
    // The node's own go on.
    assert_eq!(info(&mut client, "guarded"), 10);
    server.assert_alive();
}

#[test]
fn refused_names_that_never_become_queues_fill_nothing() {
    let (mut server, mut client) = start();
    load(&mut client, "no", &["QUEUES", "made:*"], &guests::rejecting(b"no"));
    client.ok(&Add::standard(QUEUE).eval(SCRIPT));
    for part in 0..3 {
        let adds: Vec<_> = (0..5000).map(|n| Add::standard(&format!("made:{part}:{n}")).eval("return 1")).collect();
        for replies in adds.chunks(500).map(|adds| client.pipeline(adds).expect("answers")) {
            assert!(replies.iter().all(|reply| reply.error().is_some()));
        }
        // What something comes to now and then stays.
        client.ok(&Add::standard(QUEUE).eval(SCRIPT));
    }
    assert!((4096..=8192).contains(&info(&mut client, "queues_counted")), "{}", info(&mut client, "queues_counted"));
    assert_eq!(info(&mut client, "refused"), 15_000);
    assert_eq!(scripts(&mut client, QUEUE)[1], 4);
    assert_eq!(client.ok(&["DBSIZE"]).int(), 7, "{:?}", client.ok(&["KEYS", "*"]));
    // A new queue is counted although many came before.
    client.ok(&Add::standard("bull:{new}").eval(SCRIPT));
    assert_eq!(scripts(&mut client, "bull:{new}")[1], 1);
    server.assert_alive();
}

#[test]
fn an_add_that_tells_much_counts_as_one_job_and_the_next_entry_counts_again() {
    let (mut server, mut client) = start();
    let script = "redis.call('XADD', KEYS[8], '*', 'event', 'added', 'jobId', '1') \
        redis.call('XADD', KEYS[8], '*', 'event', 'waiting', 'jobId', '1') return '1'";
    let added = |client: &mut Client| client.ok(&["BULL.STATS", QUEUE]).get("added-total").expect("a count").int();
    // A job with an id of its own may be there already: what its script tells of is read.
    for (jobs, id) in (1..=4).zip(["", "mine", "", "other"]) {
        client.ok(&Add::standard(QUEUE).id(id).eval(script));
        assert_eq!(added(&mut client), jobs);
    }
    // One that tells of no job, such as a duplicate, leaves nothing behind either, nor does one that tells nothing.
    let duplicate = "redis.call('XADD', KEYS[8], '*', 'event', 'duplicated') return '1'";
    client.ok(&Add::standard(QUEUE).id("mine").eval(duplicate));
    client.ok(&Add::standard(QUEUE).eval("return '1'"));
    assert_eq!(added(&mut client), 4);
    client.ok(&["XADD", &format!("{QUEUE}:events"), "*", "event", "added", "jobId", "9"]);
    assert_eq!(added(&mut client), 5);
    server.assert_alive();
}

//! The estimate of a queue's bytes against what MEMORY USAGE says of each of its keys, and what it costs.

use std::time::{Duration, Instant};

use bull_tests::checks::{add, finish, now_ms};
use bull_tests::client::{Client, Reply};
use bull_tests::engine::chosen;
use bull_tests::server::Server;

const QUEUE: &str = "bull:q";

fn number(reply: &Reply, name: &str) -> Option<f64> {
    match reply.get(name).unwrap_or_else(|| panic!("no {name} in {reply:?}")) {
        Reply::Null => None,
        value => Some(value.text().parse().unwrap_or_else(|_| panic!("{name} is {value:?}"))),
    }
}

/// Bytes of all keys of the queue, each measured whole.
fn truth(client: &mut Client, queue: &str) -> f64 {
    let script = "local sum, cursor = 0, '0' repeat \
        local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000) cursor = page[1] \
        for _, key in ipairs(page[2]) do sum = sum + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) end \
        until cursor == '0' return sum";
    client.ok(&["EVAL", script, "0", &format!("{queue}:*")]).int() as f64
}

/// Waits for an estimate that is measured no further: its own bound is 4 percent.
fn estimate(client: &mut Client, queue: &str) -> Reply {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let stats = client.ok(&["BULL.STATS", queue]);
        if number(&stats, "bytes-error-percent").is_some_and(|error| error <= 4.0) {
            return stats;
        }
        assert!(Instant::now() < deadline, "no estimate within 90 s: {stats:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_small_queue_is_estimated_to_the_byte_and_by_class() {
    let server = Server::start();
    let mut client = server.client();
    let now = now_ms(&mut client);
    for state in ["completed", "failed"] {
        for _ in 0..5 {
            let id = add(&mut client, QUEUE, "{\"some\":\"data\"}", &[]);
            finish(&mut client, QUEUE, &id, state, now);
            client.ok(&["HSET", &format!("{QUEUE}:{id}"), "stacktrace", &"at some line\n".repeat(100)]);
        }
    }
    for words in [&["DELAY", "1h"][..], &["PRIORITY", "5"], &[]] {
        add(&mut client, QUEUE, "{\"some\":\"data\"}", words);
    }
    // The queue has changed since its last look where the number of its jobs is another one.
    let mut stats = Reply::Null;
    server.wait_until("all jobs are measured", |client| {
        stats = client.ok(&["BULL.STATS", QUEUE]);
        let all = number(&stats, "bytes-waiting") > Some(0.0) && number(&stats, "bytes-logs") > Some(13_000.0);
        all && number(&stats, "bytes-error-percent") == Some(0.0)
    });
    let bytes = number(&stats, "bytes").expect("bytes");
    let wanted = truth(&mut client, QUEUE);
    assert!((bytes - wanted).abs() < 16.0, "{bytes} estimated, {wanted} in truth: {stats:?}");
    let class = |name: &str| number(&stats, name).expect("a number");
    let logs = class("bytes-logs");
    assert!((13_000.0..15_000.0).contains(&logs), "{logs} bytes of logs and stack traces");
    assert!(class("bytes-events") > 500.0 && class("bytes-finished") > 10.0 * 100.0);
    assert_eq!(class("retained-bytes"), class("bytes-finished") + logs);
}

#[test]
fn sizes_that_differ_a_lot_are_estimated_within_five_percent() {
    // The estimate takes as long as its bound asks, and 0.4 % of a core.
    let (jobs, sigma) = if chosen() == "redis-7.0" { (100_000, 1.0) } else { (20_000, 0.6) };
    let server = Server::start();
    let mut client = server.client();
    add(&mut client, QUEUE, "{}", &[]);
    // Log-normal with a median of 1 KB: with a sigma of 1 the largest have 70 KB.
    let script = "for i = 1, ARGV[1] do \
        local normal = math.sqrt(-2 * math.log(1 - math.random())) * math.cos(6.2831853 * math.random()) \
        redis.call('HSET', KEYS[1] .. i, 'name', 'n', 'opts', '{\"attempts\":0}', 'timestamp', '1750000000000', \
            'data', string.rep('x', math.floor(1000 * math.exp(ARGV[2] * normal)))) \
        if i % 3 == 0 then redis.call('LPUSH', KEYS[1] .. 'wait', i) \
        else redis.call('ZADD', KEYS[1] .. 'completed', 1750000000000 + i, i) end end";
    client.ok(&["EVAL", script, "1", "bull:q:", &jobs.to_string(), &sigma.to_string()]);
    let stats = estimate(&mut client, QUEUE);
    let (bytes, wanted) = (number(&stats, "bytes").expect("bytes"), truth(&mut client, QUEUE));
    println!(
        "{jobs} jobs, sigma {sigma}: {bytes} estimated, {wanted} in truth: {:+.2} %",
        (bytes / wanted - 1.0) * 100.0
    );
    assert!((bytes / wanted - 1.0).abs() < 0.05, "{bytes} estimated, {wanted} in truth");
    // And when most of them go the estimate follows at once.
    client.ok(&["BULL.TRIM", QUEUE, "COMPLETED", "0"]);
    let stats = client.ok(&["BULL.STATS", QUEUE]);
    let (bytes, wanted) = (number(&stats, "bytes").expect("bytes"), truth(&mut client, QUEUE));
    assert!((bytes / wanted - 1.0).abs() < 0.07, "{bytes} estimated, {wanted} in truth after the trim");
}

#[test]
fn a_thousand_queues_cost_next_to_nothing() {
    let server = Server::start();
    let mut client = server.client();
    let script = "for q = 1, 1000 do local base = KEYS[1] .. q .. ':' \
        redis.call('HSET', base .. 'meta', 'opts.maxLenEvents', '10000') \
        for i = 1, 50 do redis.call('HSET', base .. i, 'name', 'n', 'data', string.rep('x', 300 + q % 700)) \
        redis.call('LPUSH', base .. 'wait', i) end end";
    client.ok(&["EVAL", script, "1", "bull:many-"]);
    let info = |client: &mut Client, section: &str, name: &str| -> f64 {
        let text = client.ok(&["INFO", section]).text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name}")).trim().parse().expect("a number")
    };
    let spent = |client: &mut Client| info(client, "bull", "bull_sizing_us");
    // CPU time: what other programs take of the machine is not ours.
    let cpu = |client: &mut Client| {
        ["user", "sys"].map(|kind| info(client, "cpu", &format!("used_cpu_{kind}_main_thread"))).iter().sum::<f64>()
    };
    server.wait_until("the first looks", |client| spent(client) > 0.0);
    let (start, sized, used) = (Instant::now(), spent(&mut client), cpu(&mut client));
    std::thread::sleep(Duration::from_secs(4));
    let share = (cpu(&mut client) - used) / start.elapsed().as_secs_f64();
    println!("1,000 queues that are new: {:.3} % of a core", share * 100.0);
    // On a machine that is busy with other things a look may take the budget of some seconds.
    server.wait_until("they are measured meanwhile", |client| spent(client) > sized);
    // 0.4 % for the estimates, 0.5 % for the snapshot, and what the server does by itself, on a slow machine too.
    assert!(share < 0.03, "{:.3} % of a core", share * 100.0);
    // Every queue has its turn; on a machine that is busy with other things that takes longer than a test waits else.
    let missing = |client: &mut Client| {
        let mut known = |q: u32| number(&client.ok(&["BULL.STATS", &format!("bull:many-{q}")]), "bytes");
        (1..=1000).step_by(97).filter(|&q| known(q).is_none_or(|bytes| bytes <= 15_000.0)).count()
    };
    let patience = Instant::now() + Duration::from_secs(120);
    while missing(&mut client) > 0 {
        assert!(Instant::now() < patience, "{} queues without an estimate", missing(&mut client));
        let before = spent(&mut client);
        server.wait_until("the looks at queues go on", |client| spent(client) > before);
    }
}

#[test]
fn a_trim_to_a_size_takes_the_oldest_until_it_fits() {
    let server = Server::start();
    let mut client = server.client();
    add(&mut client, QUEUE, "{}", &[]);
    let script = "for i = 1, 6000 do redis.call('HSET', KEYS[1] .. i, 'name', 'n', 'data', \
        string.rep('x', 200 + i * 7919 % 1800)) \
        redis.call('ZADD', KEYS[1] .. (i % 2 == 0 and 'completed' or 'failed'), 1750000000000 + i, i) end";
    client.ok(&["EVAL", script, "1", "bull:q:"]);
    let before = truth(&mut client, QUEUE);
    let dry = client.ok(&["BULL.TRIM", QUEUE, "MAXBYTES", "2mb", "DRYRUN"]);
    let reply = client.ok(&["BULL.TRIM", QUEUE, "MAXBYTES", "2mb"]);
    let after = truth(&mut client, QUEUE);
    let most = f64::from(2 << 20);
    assert!(after < most * 1.06 && after > most * 0.92, "{before} before, {after} after: {reply:?}");
    let freed = number(&reply, "bytes-freed").expect("a number");
    assert!((freed / (before - after) - 1.0).abs() < 0.08, "{freed} said, {} freed", before - after);
    let gone = |reply: &Reply| number(reply, "completed").unwrap() + number(reply, "failed").unwrap();
    assert!((gone(&dry) / gone(&reply) - 1.0).abs() < 0.1, "{dry:?} and {reply:?}");
    // The oldest went, of both states alike.
    let oldest = |client: &mut Client, state: &str| {
        client.ok(&["ZRANGE", &format!("{QUEUE}:{state}"), "0", "0"]).strings()[0].parse::<i64>().expect("an id")
    };
    assert!((oldest(&mut client, "completed") - oldest(&mut client, "failed")).abs() <= 65);
    assert_eq!(client.ok(&["LLEN", &format!("{QUEUE}:wait")]).int(), 1);
}

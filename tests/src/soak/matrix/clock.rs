//! A clock that jumps by hours and days, both ways (`tests/clock`; the monotonic clock goes on): ages and delays go by
//! the clock as it is, work in the background does not wait for a clock that went back, and no number turns negative.

use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use crate::checks::{add, finish, load as load_policy, now_ms};
use crate::client::Client;
use crate::soak::checks::must_be_sound;
use crate::soak::load::QUEUE;
use crate::soak::oracle::structure;
use crate::soak::{Row, Seed};
use crate::wishes::{Wish, wishing};
use crate::{Dump, Reply, Server, engine};

const HOUR_MS: u64 = 3_600_000;
/// Jumps for each of `times`.
const JUMPS: u64 = 8;
/// Events that the policy's ticks leave.
const EVENTS: u64 = 100;
/// Seconds from the true time; zero among them.
const OFFSETS: [i64; 9] = [0, 1, -1, 3600, -3600, 86_400, -86_400, 2_592_000, -2_592_000];

/// # Panics
/// With the seed, where something goes by the wrong time or stops.
pub fn clock(times: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let clock = std::env::temp_dir().join(format!("bull-clock-{}-{seed}", std::process::id()));
    let set = |offset: i64| {
        // The same file, which the server has mapped.
        let file =
            fs::OpenOptions::new().create(true).truncate(false).write(true).open(&clock).expect("a file of ours");
        file.write_all_at(&(offset * 1000).to_le_bytes(), 0).expect("a file of ours");
    };
    set(0);
    let mut server = Server::builder()
        .plain()
        .appendonly(true)
        .config("bull.tick-ms 100")
        .env("LD_PRELOAD", engine::clock().display().to_string())
        .env("BULL_CLOCK", clock.display().to_string())
        .start();
    let mut client = server.client();
    load_policy(
        &mut client,
        "ticking",
        &[],
        &wishing(&[Wish::TrimEvents { queue: QUEUE.into(), keep: EVENTS }]).build(),
    );
    let mut jobs = 0;
    for _ in 0..JUMPS * times {
        let offset = OFFSETS[schedule.within(0, OFFSETS.len() as u64) as usize];
        set(offset);
        jobs += after_jump(&server, offset, seed);
        server.assert_alive();
    }
    // A tick may yet be due; behind it nothing writes.
    server.wait_until("the last tick has trimmed", |client| {
        client.ok(&["XLEN", &format!("{QUEUE}:events")]).int() <= EVENTS as i64
    });
    let dump = Dump::take(&mut client);
    server.kill9();
    server.start_again();
    let again = Dump::take(&mut server.client());
    let found = structure(&again, QUEUE);
    assert!(found.is_clean(), "clocks, seed {seed}:\n{}", found.text());
    let kept = dump.diff(&again, ["before the kill", "after it"]);
    assert!(kept.is_empty(), "clocks, seed {seed}:\n{kept}");
    let _ = fs::remove_file(clock);
    let note = "of a second to 30 days, both ways".to_owned();
    let took = start.elapsed();
    Row { scenario: "clock jumps", seed, faults: JUMPS * times, acked: jobs, took, note, ..Row::default() }
}

/// The clock is `offset` seconds away from the truth now.
fn after_jump(server: &Server, offset: i64, seed: u64) -> u64 {
    let what = format!("a clock {offset} s off, seed {seed}");
    let mut client = server.client();
    // Valkey 9.1 looks at it now and then.
    server.wait_until(&format!("the server has {what}"), |client| {
        (now_ms(client) as i64 - true_ms() - offset * 1000).abs() < 20_000
    });
    let ids: Vec<String> = (0..4).map(|n| add(&mut client, QUEUE, &format!("{{\"n\":{n}}}"), &["LIFO"])).collect();
    let late = add(&mut client, QUEUE, "{}", &["DELAY", "5m"]);
    let now = now_ms(&mut client);
    let due =
        client.ok(&["ZSCORE", &format!("{QUEUE}:delayed"), &late]).text().parse::<f64>().expect("a score") / 4096.0;
    assert!((due - (now + 300_000) as f64).abs() < 20_000.0, "{what}: due at {due}, now is {now}");

    // By age, as the clock is now: of those that this jump finished, the old one goes and the fresh one stays.
    finish(&mut client, QUEUE, &ids[0], "completed", now - 2 * HOUR_MS);
    finish(&mut client, QUEUE, &ids[1], "completed", now - 1000);
    client.ok(&["BULL.TRIM", QUEUE, "COMPLETED", "1h"]);
    let left = [0, 1].map(|at: usize| client.ok(&["EXISTS", &format!("{QUEUE}:{}", ids[at])]).int());
    assert_eq!(left, [0, 1], "{what}: the old one and the fresh one after a trim by age");
    let waiting = [0, 1].map(|at: usize| client.ok(&["BULL.TRIM", QUEUE, "WAITING", ["1h", "1d"][at]]));
    assert!(waiting.iter().all(|reply| reply.get("done").is_some()), "{what}: {waiting:?}");

    // The timer goes on: a retention, and ticks.
    finish_more(&mut client, now);
    client.ok(&["BULL.PROFILE", "SET", QUEUE, "keep-completed", "1"]);
    server.wait_until(&format!("the retention goes on with {what}"), |client| {
        client.ok(&["ZCARD", &format!("{QUEUE}:completed")]).int() <= 1
    });
    client.ok(&["BULL.PROFILE", "DEL", QUEUE]);
    let ticks = |client: &mut Client| client.ok(&["BULL.POLICY", "INFO", "ticking"]).get("ticks").map(|n| n.int());
    let before = ticks(&mut client);
    assert!(before.is_some(), "{what}: INFO tells ticks");
    server.wait_until(&format!("ticks go on with {what}"), |client| ticks(client) > before);

    let stats = client.ok(&["BULL.STATS", QUEUE]);
    let mut negative = Vec::new();
    numbers(&stats, "", &mut negative);
    assert!(negative.is_empty(), "{what}: negative in BULL.STATS: {negative:?}");
    let text = client.ok(&["BULL.METRICS"]).text();
    let wrong = text.lines().find(|line| {
        let value = (!line.starts_with('#')).then(|| line.rsplit(' ').next()?.parse::<f64>().ok()).flatten();
        value.is_some_and(|value| !value.is_finite() || value < 0.0)
    });
    assert!(wrong.is_none() || wrong.is_some_and(|line| line.contains("+Inf")), "{what}: {wrong:?}");
    must_be_sound(&what, seed, server);
    5
}

fn finish_more(client: &mut Client, now: u64) {
    for n in 0..3 {
        let id = add(client, QUEUE, "{}", &["LIFO"]);
        finish(client, QUEUE, &id, "completed", now + n);
    }
}

fn true_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(now.as_millis()).expect("a clock of this age")
}

/// The paths of all negative numbers in a reply.
fn numbers(reply: &Reply, path: &str, negative: &mut Vec<String>) {
    match reply {
        Reply::Int(number) if *number < 0 => negative.push(format!("{path} = {number}")),
        Reply::Bulk(bytes) if bytes.starts_with(b"-") && bytes.len() > 1 => {
            negative.push(format!("{path} = {reply:?}"))
        }
        Reply::Array(items) => items.iter().enumerate().for_each(|(at, item)| {
            let name = if at % 2 == 1 && matches!(items[at - 1], Reply::Bulk(_)) {
                items[at - 1].text()
            } else {
                at.to_string()
            };
            numbers(item, &format!("{path}/{name}"), negative);
        }),
        _ => {}
    }
}

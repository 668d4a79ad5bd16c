//! How well memory-budget holds the byte budgets of deploy/profiles/tasks.json at their full size: each of the six queues is
//! filled until it takes no more, then all its keys are counted by the server's own MEMORY USAGE. Needs 8 GB of memory.

use std::time::{Duration, Instant};

use bull_tests::checks::load;
use bull_tests::{Client, Reply, Server, workspace};

use super::built;

/// The specification's mean bytes of a job's data.
const QUEUES: [(&str, usize); 6] = [
    ("critical", 10_240),
    ("high", 10_240),
    ("normal", 10_240),
    ("low", 10_240),
    ("batch", 51_200),
    ("scheduled", 10_240),
];
/// Bytes of data of a command, about.
const BATCH: usize = 500_000;
/// A queue that refuses whole commands for so many ticks is full.
const FULL: Duration = Duration::from_millis(500);
/// Part of the budget by which a queue may miss it.
const PROMISE: f64 = 0.05;

pub fn budgets() {
    let profiles = workspace().join("deploy/profiles/tasks.json");
    let server = Server::builder()
        .config("maxmemory 16gb")
        .config(format!("bull.profiles {}", profiles.display()))
        .config("bull.tick-ms 100")
        .start();
    let mut client = server.client();
    load(&mut client, "memory-budget", &[], &built("memory_budget.wasm"));
    let mut broken = Vec::new();
    for (task, mean) in QUEUES {
        let queue = format!("bull:{{tasks:{task}}}");
        let profile = client.ok(&["BULL.PROFILE", "GET", &queue]);
        let budget = u64::try_from(profile.get("max-bytes").expect("a budget").int()).expect("bytes");
        let begun = Instant::now();
        let jobs = fill(&mut client, &queue, mean);
        let filled = begun.elapsed().as_secs_f64();
        let bytes = bytes_of(&mut client, &queue);
        let off = bytes as f64 / budget as f64 - 1.0;
        let (mib, of) = (bytes >> 20, budget >> 20);
        println!(
            "{queue}: {jobs} jobs of {mean} bytes in the mean, {mib} of {of} MiB ({:+.1} %), {filled:.1} s",
            off * 100.0
        );
        if off.abs() > PROMISE {
            broken.push(queue);
        }
    }
    assert!(broken.is_empty(), "not within {} %: {}", PROMISE * 100.0, broken.join(", "));
}

/// Adds jobs of many sizes until the queue is full. How many entered.
fn fill(client: &mut Client, queue: &str, mean: usize) -> usize {
    let mut sizes = Sizes { mean, state: 0x5eed };
    let (mut entered, mut refused_since) = (0, None::<Instant>);
    loop {
        let mut words = vec!["BULL.MADD".to_owned(), queue.to_owned()];
        for _ in 0..BATCH / mean {
            words.extend(["job".to_owned(), format!("\"{}\"", "x".repeat(sizes.next() - 2)), "-".to_owned()]);
        }
        let replies = client.ok(&words);
        let errors: Vec<String> = replies.items().iter().filter_map(Reply::error).collect();
        assert!(errors.iter().all(|text| text.starts_with("BULLREJECT memory-budget queue of ")), "{errors:?}");
        let fitted = replies.items().len() - errors.len();
        entered += fitted;
        if fitted > 0 {
            refused_since = None;
            continue;
        }
        if refused_since.get_or_insert_with(Instant::now).elapsed() > FULL {
            return entered;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sizes between a quarter of the mean and four times it, small ones more often, the same ones in each run.
struct Sizes {
    mean: usize,
    state: u64,
}

impl Sizes {
    fn next(&mut self) -> usize {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let unit = (self.state >> 11) as f64 / (1u64 << 53) as f64;
        // The mean of 16^unit is 15 / ln 16.
        let spread = 16f64.powf(unit) * 16f64.ln() / 15.0;
        ((self.mean as f64 * spread) as usize).max(16)
    }
}

/// What all keys of a queue take.
fn bytes_of(client: &mut Client, queue: &str) -> u64 {
    let (mut cursor, mut sum) = ("0".to_owned(), 0);
    loop {
        let page = client.ok(&["SCAN", &cursor, "MATCH", &format!("{queue}:*"), "COUNT", "2000"]);
        let usage = |key: &Reply| ["MEMORY", "USAGE", &key.text(), "SAMPLES", "0"].map(str::to_owned).to_vec();
        let calls: Vec<_> = page.items()[1].items().iter().map(usage).collect();
        for reply in client.pipeline(&calls).expect("replies") {
            sum += u64::try_from(reply.int()).expect("bytes");
        }
        cursor = page.items()[0].text();
        if cursor == "0" {
            return sum;
        }
    }
}

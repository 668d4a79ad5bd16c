//! Adds and trims in rounds, on a server with the module and beside it on a stock one: used memory must come back.
//!
//! Used memory moves by itself. The event stream ends in a part of a node, and takes some 30 KB more where its nodes begin
//! with an `added` than where they begin with a `waiting`, so a round of an odd number of events goes back and forth;
//! hash tables grow and shrink in the server's own time; a command that is called for the first time gets its histogram; the log
//! of slow commands takes an entry of 700 bytes a round until it is full. The stock server is given the effects of the same adds
//! and trims as core commands, so all of this is on both sides, and what is the module's own is the difference.

use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::Row;
use super::load::QUEUE;
use crate::checks::load;
use crate::{Client, Server, guests};

/// Jobs that a round adds and trims.
pub const JOBS: u64 = 5000;
/// And one with policies that are swapped, which is about the policies.
pub const JOBS_OF_SWAPS: u64 = 1000;
/// Used memory is level after some thirty swaps, 35 KB above the first; the compiler's memory is level with it.
const WARM_OF_SWAPS: u64 = 40;
/// Events that a queue keeps where nobody says otherwise.
const EVENTS: u64 = 10_000;
/// The first id is behind this one: all ids take three bytes in the event stream, whichever the round.
const BEFORE: u64 = 1_000_000;
/// Jobs of one UNLINK, as the module trims.
const BATCH: usize = 64;
/// Looks at used memory for one point, and the time between them: the lowest counts, since a hash table that is being resized
/// is there twice.
const LOOKS: usize = 6;
const BETWEEN: Duration = Duration::from_millis(40);
/// Growth that no run may show, bytes; and from so many points on, of a round.
const MOST: i64 = 128 * 1024;
const MOST_A_ROUND: i64 = 1024;
const ENOUGH: usize = 15;

/// Memory that the module's side may take of the system a round, bytes, as policies are swapped: code and the memories of
/// instances are not in `used_memory`. A component that stays takes ten times as much.
const MOST_OF_SYSTEM: i64 = 16 * 1024;

/// Bytes at one moment, or their slope.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// By the server's own account.
    pub used: i64,
    /// Anonymous memory of its process.
    pub anonymous: i64,
}

/// A server, and a point for two rounds.
struct Side {
    client: Client,
    process: u32,
    points: Vec<Taken>,
    before: Option<Taken>,
}

/// What rounds left.
#[derive(Debug)]
pub struct Measured {
    /// Bytes a round, of the server with the module less those of the stock server.
    pub own: Taken,
    /// Bytes a round of the stock server by itself.
    pub stock: Taken,
    /// The points of both.
    pub points: [Vec<Taken>; 2],
}

impl Measured {
    /// Used memory at first and at last, with the module and without.
    fn ends(&self) -> [[i64; 2]; 2] {
        self.points.each_ref().map(|points| [points[0].used, points[points.len() - 1].used])
    }

    fn must_be_level(&self, what: &str, seed: u64) {
        let [[with, with_last], [without, without_last]] = self.ends();
        let grown = with_last - with - (without_last - without);
        assert!(grown < MOST, "{what}: used memory grew by {grown} bytes more with the module, seed {seed}");
        // A line through a few points says little.
        if self.points[0].len() >= ENOUGH {
            let Taken { used, anonymous } = self.own;
            assert!(used < MOST_A_ROUND, "{what}: the module leaves {used} bytes a round, seed {seed}");
            assert!(anonymous < MOST_OF_SYSTEM, "{what}: the module takes {anonymous} bytes a round, seed {seed}");
        }
    }
}

/// Adds and trims [`JOBS`] in each of `rounds`.
///
/// # Panics
/// Where used memory grows more with the module than without.
pub fn memory(rounds: u64, seed: u64) -> Row {
    let start = Instant::now();
    let measured = measure(0, rounds, JOBS, |_, _| ());
    measured.must_be_level("adds and trims", seed);
    let [with, without] = measured.ends();
    let note = format!(
        "{} bytes a round more than on the stock server beside it, whose own slope is {}; used_memory {} -> {} and \
         {} -> {} over {rounds} rounds of {JOBS} jobs",
        measured.own.used, measured.stock.used, with[0], with[1], without[0], without[1]
    );
    row("add and trim", seed, rounds * JOBS, start, measured.own.used, note)
}

/// The same beneath two policies, one of which is replaced by another component in each round.
///
/// # Panics
/// Where used memory, or what the process takes of the system, grows more with the module than without.
pub fn swapped(rounds: u64, seed: u64) -> Row {
    let start = Instant::now();
    let measured = measure(WARM_OF_SWAPS, rounds, JOBS_OF_SWAPS, |client, round| {
        if round == 0 {
            load(client, "steady", &["QUEUES", QUEUE], &guests::admit_all());
        }
        load(client, "swapped", &["QUEUES", QUEUE], &guests::admitting(u32::try_from(round).unwrap_or(u32::MAX)));
    });
    measured.must_be_level("swaps of policies", seed);
    let ([with, without], Taken { used, anonymous }) = (measured.ends(), measured.own);
    let note = format!(
        "{used} bytes a round more than on the stock server beside it, {anonymous} of the process; used_memory {} -> {} and \
         {} -> {} over {rounds} rounds of {JOBS_OF_SWAPS} jobs and a policy replaced",
        with[0], with[1], without[0], without[1]
    );
    row("add and trim, policies swapped", seed, rounds * JOBS_OF_SWAPS, start, used, note)
}

fn row(scenario: &'static str, seed: u64, acked: u64, start: Instant, slope: i64, note: String) -> Row {
    Row { scenario, seed, acked, took: start.elapsed(), slope: Some(slope), note, ..Row::default() }
}

/// Measures so many rounds, after `warm` others and those that fill the event stream. `also` is done on the module's side in each round, from 0: what it
/// leaves behind, the slope shows.
///
/// # Panics
/// Where a server goes, or a command fails.
pub fn measure(warm: u64, rounds: u64, jobs: u64, mut also: impl FnMut(&mut Client, u64)) -> Measured {
    assert!(rounds >= 4, "two points at least");
    // The log of slow commands would grow by a finish or a trim a round.
    let start = |module| Server::builder().with_module(module).config("slowlog-log-slower-than -1").start();
    let (module, stock) = (start(true), start(false));
    let mut sides = [&module, &stock].map(|server| {
        let mut client = server.client();
        client.ok(&["SET", &key("id"), &BEFORE.to_string()]);
        Side { client, process: server.process(), points: Vec::new(), before: None }
    });
    let warm = warm.max(EVENTS.div_ceil(2 * jobs) + 1);
    for round in 0..warm + rounds / 2 * 2 {
        let [with, without] = &mut sides;
        also(&mut with.client, round);
        add(&mut with.client, jobs);
        add_by_core(&mut without.client, round * jobs, jobs);
        for side in [&mut *with, &mut *without] {
            finish(&mut side.client);
        }
        with.client.ok(&["BULL.TRIM", QUEUE, "COMPLETED", "0"]);
        trim_by_core(&mut without.client, jobs);
        let taken = settled(&mut sides);
        for (side, taken) in sides.iter_mut().zip(taken).filter(|_| round >= warm) {
            match side.before.take() {
                Some(before) => side.points.push(Taken {
                    used: i64::midpoint(before.used, taken.used),
                    anonymous: i64::midpoint(before.anonymous, taken.anonymous),
                }),
                None => side.before = Some(taken),
            }
        }
    }
    let [with, without] = sides.map(|side| side.points);
    // A point is two rounds.
    let slope_of = |of: fn(&Taken) -> i64, less: bool| {
        let points = with.iter().zip(&without);
        slope(
            &points.map(|(with, without)| if less { of(with) - of(without) } else { of(without) }).collect::<Vec<_>>(),
        ) / 2
    };
    let slopes =
        |less| Taken { used: slope_of(|taken| taken.used, less), anonymous: slope_of(|taken| taken.anonymous, less) };
    Measured { own: slopes(true), stock: slopes(false), points: [with, without] }
}

fn key(suffix: &str) -> String {
    format!("{QUEUE}:{suffix}")
}

fn data(n: u64) -> String {
    format!("{{\"n\":{n},\"pad\":\"{}\"}}", "x".repeat(200))
}

fn add(client: &mut Client, jobs: u64) {
    for n in 0..jobs {
        client.ok(&["BULL.ADD", QUEUE, "job", &data(n)]);
    }
}

/// What BULL.ADD tells AOF and replicas.
fn add_by_core(client: &mut Client, before: u64, jobs: u64) {
    if before == 0 {
        client.ok(&["HSET", &key("meta"), "opts.maxLenEvents", &EVENTS.to_string()]);
        client.ok(&["ZADD", &key("marker"), "0", "0"]);
    }
    let most = EVENTS.to_string();
    for n in 0..jobs {
        let id = (BEFORE + before + n + 1).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis()).to_string();
        let (job, events, data) = (key(&id), key("events"), data(n));
        let event = |event: &str| words(&["XADD", &events, "MAXLEN", "~", &most, "*", "event", event, "jobId", &id]);
        let fields = ["name", "job", "data", &data, "opts", "{\"attempts\":0}", "timestamp", &now, "delay", "0"];
        let mut added = event("added");
        added.extend(words(&["name", "job"]));
        let hash: Vec<&str> = ["HSET", &job].into_iter().chain(fields).chain(["priority", "0"]).collect();
        let commands =
            [words(&["INCR", &key("id")]), words(&hash), added, event("waiting"), words(&["LPUSH", &key("wait"), &id])];
        let replies = client.pipeline(&commands).expect("the stock server answers");
        assert!(replies.iter().all(|reply| reply.error().is_none()), "{replies:?}");
    }
}

/// Everything waiting becomes completed, as a worker leaves it.
fn finish(client: &mut Client) {
    let script = "local ids = redis.call('LRANGE', KEYS[1], 0, -1) redis.call('DEL', KEYS[1]) \
        for _, id in ipairs(ids) do redis.call('ZADD', KEYS[2], 1, id) \
        redis.call('HSET', KEYS[3] .. id, 'finishedOn', 1, 'returnvalue', 'null') end return #ids";
    client.ok(&["EVAL", script, "3", &key("wait"), &key("completed"), &key("")]);
}

/// What BULL.TRIM tells AOF and replicas.
fn trim_by_core(client: &mut Client, jobs: u64) {
    let ids = client.ok(&["ZRANGE", &key("completed"), "0", "-1"]).strings();
    assert_eq!(ids.len() as u64, jobs, "all of a round");
    for ids in ids.chunks(BATCH) {
        client.ok(&["ZREMRANGEBYRANK", &key("completed"), "0", &(ids.len() - 1).to_string()]);
        let keys = ids.iter().map(|id| key(id));
        client.ok(&["UNLINK".to_owned()].into_iter().chain(keys).collect::<Vec<_>>());
    }
    let (most, count) = (EVENTS.to_string(), jobs.to_string());
    client.ok(&["XADD", &key("events"), "MAXLEN", "~", &most, "*", "event", "cleaned", "count", &count]);
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// What both take, the lowest of some looks.
fn settled(sides: &mut [Side; 2]) -> [Taken; 2] {
    let mut lowest = [Taken { used: i64::MAX, anonymous: i64::MAX }; 2];
    for look in 0..LOOKS {
        if look > 0 {
            thread::sleep(BETWEEN);
        }
        for (side, lowest) in sides.iter_mut().zip(&mut lowest) {
            lowest.used = lowest.used.min(used(&mut side.client));
            lowest.anonymous = lowest.anonymous.min(anonymous(side.process));
        }
    }
    lowest
}

/// Anonymous memory of a process, bytes.
fn anonymous(process: u32) -> i64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("the process is there");
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("a line of anonymous memory");
    1024 * line.trim().trim_end_matches(" kB").parse::<i64>().expect("kilobytes")
}

/// A server's `used_memory`, bytes.
pub fn used(client: &mut Client) -> i64 {
    let info = client.ok(&["INFO", "memory"]).text();
    let field = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("used_memory");
    field.trim().parse().expect("a number")
}

/// The slope of the line through these points, by least squares, a step from one to the next.
fn slope(points: &[i64]) -> i64 {
    let count = points.len() as f64;
    let mean = |of: &dyn Fn(usize) -> f64| (0..points.len()).map(of).sum::<f64>() / count;
    let (x, y) = (mean(&|at| at as f64), mean(&|at| points[at] as f64));
    let covered = mean(&|at| (at as f64 - x) * (points[at] as f64 - y));
    (covered / mean(&|at| (at as f64 - x).powi(2))).round() as i64
}

#[cfg(test)]
mod tests {
    use super::slope;

    #[test]
    fn a_slope_is_that_of_the_line() {
        assert_eq!(slope(&[5, 15, 25, 35]), 10);
        assert_eq!(slope(&[7, 7, 7]), 0);
        assert_eq!(slope(&[0, 100, 0, 100, 0]), 0);
    }
}

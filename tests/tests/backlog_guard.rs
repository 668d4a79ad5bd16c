//! backlog-guard in a real server, with a real worker that drains what it lets in.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use bull_tests::checks::load;
use bull_tests::clients::node;
use bull_tests::{Client, Reply, Server, workspace};

const QUEUE: &str = "bull:mail";
const JOBS: usize = 300;
const LIMIT: i64 = 20;

/// A BullMQ worker on a queue; it ends with the test.
struct Worker(Child);

impl Worker {
    fn start(server: &Server, words: &[&str]) -> Worker {
        let mut command = node("drain.mjs");
        command.args(["--port", &server.port().to_string()]).args(words);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("node starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "ready");
        Worker(child)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with backlog-guard, ticking fast.
fn guarded(config: &str) -> Server {
    let path = workspace().join("target/policies/backlog_guard.wasm");
    let wasm = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run scripts/build", path.display()));
    let server = Server::builder().config("bull.tick-ms 100").start();
    load(&mut server.client(), "backlog-guard", &["CONFIG", config], &wasm);
    server
}

fn stat(client: &mut Client, queue: &str, field: &str) -> i64 {
    client.ok(&["BULL.STATS", queue]).get(field).unwrap_or_else(|| panic!("no {field}")).int()
}

fn backlog(client: &mut Client) -> i64 {
    stat(client, QUEUE, "waiting") + stat(client, QUEUE, "prioritized")
}

/// What came of a run of adds beside a worker.
struct Run {
    admitted: usize,
    refused: Vec<String>,
    highest: i64,
}

/// Adds jobs as fast as one client can, each second one with a priority: the first half before a worker comes and drains,
/// so that the queue fills up and empties however fast either is. Then waits until nothing is left to do.
fn run(server: &Server) -> Run {
    let mut worker = None;
    let mut client = server.client();
    let mut run = Run { admitted: 0, refused: vec![], highest: 0 };
    for number in 0..JOBS {
        if number == JOBS / 2 {
            let ticks = |client: &mut Client| {
                client.ok(&["BULL.POLICY", "INFO", "backlog-guard"]).get("ticks").expect("a count").int()
            };
            let before = ticks(&mut client);
            server.wait_until("ticks see the backlog", |client| ticks(client) > before + 1);
            worker = Some(Worker::start(server, &["--queue", "mail"]));
            server.wait_until("the worker makes room", |client| backlog(client) < LIMIT);
        }
        let words: &[&str] = if number % 2 == 0 { &[] } else { &["PRIORITY", "5"] };
        let reply = client.cmd(&[&["BULL.ADD", QUEUE, "job", "{}"], words].concat());
        match reply.error() {
            None => run.admitted += 1,
            Some(text) => {
                run.refused.push(text);
                // A refused producer comes back a little later.
                thread::sleep(Duration::from_millis(1));
            }
        }
        run.highest = run.highest.max(backlog(&mut client));
    }
    server.wait_until("the queue is drained", |client| {
        ["waiting", "prioritized", "delayed", "active"].iter().all(|state| stat(client, QUEUE, state) == 0)
    });
    drop(worker);
    run
}

fn completed(server: &Server) -> usize {
    usize::try_from(stat(&mut server.client(), QUEUE, "completed")).expect("a count")
}

#[test]
fn reject_bounds_a_queue_that_drains_and_loses_nothing_it_let_in() {
    // The limit comes from the queue's profile; the configuration has none of its own.
    let mut server = guarded("{}");
    server.client().ok(&["BULL.PROFILE", "SET", QUEUE, "max-jobs", &LIMIT.to_string()]);
    // Without a worker it fills up, and a tick tells.
    for _ in 0..LIMIT {
        server.client().ok(&["BULL.ADD", QUEUE, "early", "{}"]);
    }
    server.wait_until("a full queue is told of", |_| {
        server.log().contains(&format!("{QUEUE}: waiting {LIMIT} of at most {LIMIT} jobs"))
    });
    let run = run(&server);
    assert!(!run.refused.is_empty() && run.admitted > 0, "{} of {JOBS}", run.admitted);
    let full = format!("BULLREJECT backlog-guard waiting {LIMIT} of at most {LIMIT} jobs");
    assert!(run.refused.iter().all(|text| *text == full), "{:?}", run.refused.first());
    assert!(run.highest <= LIMIT, "{}", run.highest);
    assert_eq!(completed(&server), run.admitted + LIMIT as usize);
    server.assert_alive();
}

#[test]
fn defer_lets_every_job_in_and_the_worker_does_all_of_them() {
    let server = guarded(&format!(r#"{{"max-jobs":{LIMIT},"overload":"defer","defer-ms":200}}"#));
    let run = run(&server);
    assert_eq!((run.admitted, run.refused.len()), (JOBS, 0));
    let deferred =
        server.client().ok(&["BULL.POLICY", "INFO", "backlog-guard"]).get("deferred").expect("a count").int();
    assert!(deferred > 0, "some were deferred");
    assert_eq!(completed(&server), JOBS);
}

#[test]
fn displace_keeps_the_newest_and_the_worker_does_what_is_left() {
    let server = guarded(&format!(r#"{{"max-jobs":{LIMIT},"overload":"displace"}}"#));
    let run = run(&server);
    let info = server.client().ok(&["BULL.POLICY", "INFO", "backlog-guard"]);
    let count = |key: &str| usize::try_from(info.get(key).expect(key).int()).expect("a count");
    assert!(count("displaced") > 0, "{info:?}");
    assert!(run.highest <= LIMIT, "{}", run.highest);
    // With prioritized jobs alone there is nothing to displace: then it refuses.
    assert_eq!(run.admitted + run.refused.len(), JOBS);
    assert_eq!(completed(&server) + count("displaced"), run.admitted);
}

#[test]
fn observe_lets_the_queue_grow_and_tells() {
    let server = guarded(&format!(r#"{{"max-jobs":{LIMIT},"overload":"observe"}}"#));
    let run = run(&server);
    assert_eq!((run.admitted, run.refused.len()), (JOBS, 0));
    assert!(run.highest > LIMIT, "{}", run.highest);
    assert_eq!(completed(&server), JOBS);
    let told = |what: &str| server.log().lines().filter(|line| line.contains(&format!("{QUEUE}: {what}"))).count();
    server.wait_until("it tells once each way", |_| {
        told("back to waiting ") > 0 && told("waiting ") == told("back to waiting ")
    });
}

#[test]
fn failures_and_active_jobs_over_their_limit_are_told() {
    let server = guarded("{}");
    let mut client = server.client();
    client.ok(&["BULL.PROFILE", "SET", QUEUE, "concurrency", "2"]);
    let _worker = Worker::start(&server, &["--queue", "mail", "--concurrency", "8", "--ms", "300"]);
    for _ in 0..16 {
        client.ok(&["BULL.ADD", QUEUE, "slow", "{}"]);
    }
    server.wait_until("active jobs are told of", |_| server.log().contains(&format!("{QUEUE}: active ")));
    let told = server.log();
    let line = told.lines().find(|line| line.contains(": active ")).expect("a line");
    assert!(line.ends_with("of at most 4 jobs"), "{line}");

    let _worker = Worker::start(&server, &["--queue", "bad", "--concurrency", "20", "--ms", "0"]);
    for _ in 0..101 {
        client.ok(&["BULL.ADD", "bull:bad", "bad", "{}"]);
    }
    server.wait_until("failures are told of", |_| {
        server.log().contains("bull:bad: failed 101 jobs within an hour, over 100")
    });
    assert_eq!(client.ok(&["LLEN", "bull:bad:wait"]), Reply::Int(0));
}

/// How often a queue was paused and went on, by its event stream.
fn changes(client: &mut Client, queue: &str) -> [usize; 2] {
    let events = client.ok(&["XRANGE", &format!("{queue}:events"), "-", "+"]).strings();
    ["paused", "resumed"].map(|event| events.iter().filter(|text| *text == event).count())
}

#[test]
fn a_queue_that_only_fails_is_paused_before_its_worker_has_failed_all() {
    let server = guarded(r#"{"pause-failed-per-hour":20}"#);
    let mut client = server.client();
    for _ in 0..JOBS {
        client.ok(&["BULL.ADD", "bull:bad", "bad", "{}"]);
    }
    let _worker = Worker::start(&server, &["--queue", "bad", "--ms", "10"]);
    server.wait_until("the queue is paused", |client| stat(client, "bull:bad", "is-paused") == 1);
    server.wait_until("the worker has nothing in hand", |client| stat(client, "bull:bad", "active") == 0);
    let failed = stat(&mut client, "bull:bad", "failed");
    assert!((20..JOBS as i64).contains(&failed), "{failed} of {JOBS}");
    assert_eq!(stat(&mut client, "bull:bad", "waiting"), JOBS as i64 - failed, "the rest waits");
    server.wait_for_log("bull:bad: paused: failed ");
    assert_eq!(changes(&mut client, "bull:bad"), [1, 0]);
}

#[test]
fn a_full_queue_pauses_the_one_that_fills_it_and_neither_flaps() {
    const FEED: &str = "bull:feed";
    let config = format!(
        r#"{{"pause-min-ms":200,"resume-percent":50,"queues":[{{"match":"{QUEUE}","max-jobs":{LIMIT},"overload":"observe","pause-queues":["{FEED}"]}}]}}"#
    );
    let mut server = guarded(&config);
    let mut client = server.client();
    client.ok(&["BULL.ADD", FEED, "job", "{}"]);
    for _ in 0..LIMIT {
        client.ok(&["BULL.ADD", QUEUE, "job", "{}"]);
    }
    server.wait_until("the feeding queue is paused", |client| stat(client, FEED, "is-paused") == 1);
    // It hovers at the mark, on both sides of it, over many ticks: the worker takes, the producer fills up. The worker is so
    // slow that it takes seconds to come down to where the feeding queue goes on.
    let worker = Worker::start(&server, &["--queue", "mail", "--ms", "400"]);
    let start = std::time::Instant::now();
    let mut low = LIMIT;
    while low == LIMIT || start.elapsed() < Duration::from_secs(2) {
        assert!(start.elapsed() < Duration::from_secs(20), "the worker takes nothing");
        let now = backlog(&mut client);
        low = low.min(now);
        for _ in now..=LIMIT {
            client.ok(&["BULL.ADD", QUEUE, "job", "{}"]);
        }
        thread::sleep(Duration::from_millis(30));
    }
    assert_eq!(changes(&mut client, FEED), [1, 0], "paused once:\n{}", server.log());
    server.wait_until("the feeding queue goes on", |client| stat(client, FEED, "is-paused") == 0);
    drop(worker);
    assert_eq!(changes(&mut client, FEED), [1, 1]);
    // A worker can take from it again.
    let _worker = Worker::start(&server, &["--queue", "feed"]);
    server.wait_until("the job is done", |client| stat(client, FEED, "completed") == 1);
    server.assert_alive();
}

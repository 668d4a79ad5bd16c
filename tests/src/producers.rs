//! The producers of `tests/bullmq/producers.mjs` and `tests/python/producers.py` at work, what they said, and whether it
//! is true: no job lost, none doubled, no flow half written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Dump;
use crate::clients::Kind;
use crate::dump::Value;

/// Longest a load may take to end; the scripts give up before that.
const PATIENCE: Duration = Duration::from_secs(150);

/// What the producers and the worker of one client said, by the number of the job.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The kind of each job.
    pub sent: BTreeMap<u64, String>,
    pub acked: BTreeSet<u64>,
    /// With the error's text.
    pub refused: BTreeMap<u64, String>,
    pub unknown: BTreeSet<u64>,
    /// How often each job ran.
    pub ran: BTreeMap<u64, u32>,
    /// Errors of the worker that are not about its connection.
    pub worker_errors: Vec<String>,
    pub drained: bool,
    /// Answers to [`Producers::mark`].
    pub marks: u64,
    /// Lines that are no facts.
    pub other: Vec<String>,
}

impl Said {
    fn hear(&mut self, line: &str) {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut parts = rest.splitn(3, ' ');
        let kind = parts.next().unwrap_or_default();
        let numbers = || parts.clone().next().unwrap_or_default().split(',').map(|n| n.parse().expect("a number"));
        match what {
            "S" => self.sent.extend(numbers().map(|n| (n, kind.to_owned()))),
            "A" => self.acked.extend(numbers()),
            "R" => {
                let text = parts.clone().nth(1).unwrap_or_default();
                self.refused.extend(numbers().map(|n| (n, text.to_owned())));
            }
            "U" => self.unknown.extend(numbers()),
            "P" => *self.ran.entry(kind.parse().expect("a number")).or_default() += 1,
            "E" => self.worker_errors.push(rest.to_owned()),
            // The worker's connection; it comes back by itself.
            "L" => {}
            "MARK" => self.marks += 1,
            "DRAINED" => self.drained = true,
            _ => self.other.push(line.to_owned()),
        }
    }

    pub fn is_bulk(&self, n: u64) -> bool {
        self.sent.get(&n).is_some_and(|kind| kind == "bulk")
    }

    pub fn is_flow(&self, n: u64) -> bool {
        self.sent.get(&n).is_some_and(|kind| kind == "flow")
    }
}

/// How producers are started.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    pub kind: Kind,
    pub port: u16,
    pub cluster: bool,
    pub prefix: &'a str,
    pub name: &'a str,
    /// Of each kind of job.
    pub producers: u32,
    pub until: Until,
}

#[derive(Clone, Copy, Debug)]
pub enum Until {
    Rounds(u32),
    /// [`Producers::stop`] ends them earlier.
    Seconds(u64),
}

/// A load under way. Killed when dropped.
#[derive(Debug)]
pub struct Producers {
    child: Child,
    said: Arc<Mutex<Said>>,
    readers: Vec<JoinHandle<()>>,
}

impl Producers {
    pub fn start(plan: &Plan<'_>) -> Producers {
        let mut command = plan.kind.command("producers");
        command.args(["--port", &plan.port.to_string(), "--prefix", plan.prefix, "--name", plan.name]);
        command.args(["--producers", &plan.producers.to_string()]);
        match plan.until {
            Until::Rounds(rounds) => command.args(["--rounds", &rounds.to_string()]),
            Until::Seconds(seconds) => command.args(["--seconds", &seconds.to_string()]),
        };
        if plan.cluster {
            command.arg("--cluster");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
        let said = Arc::new(Mutex::new(Said::default()));
        let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        let shared = Arc::clone(&said);
        let facts = std::thread::spawn(move || {
            BufReader::new(out).lines().map_while(Result::ok).for_each(|line| lock(&shared).hear(&line));
        });
        let shared = Arc::clone(&said);
        let errors = std::thread::spawn(move || {
            BufReader::new(err).lines().map_while(Result::ok).for_each(|line| lock(&shared).other.push(line));
        });
        Producers { child, said, readers: vec![facts, errors] }
    }

    /// What was said until now.
    pub fn said(&self) -> MutexGuard<'_, Said> {
        lock(&self.said)
    }

    /// Tells the producers to stop; the worker goes on until nothing is left.
    pub fn stop(&mut self) {
        // Those that have ended hear nothing.
        if let Some(pipe) = &mut self.child.stdin {
            let _ = pipe.write_all(b"stop\n");
        }
    }

    /// Asks for a mark: once [`Said::marks`] is one more, all that was sent before this call is told.
    ///
    /// # Panics
    /// Where the producers have ended.
    pub fn mark(&mut self) {
        self.child.stdin.as_mut().expect("a pipe").write_all(b"mark\n").expect("producers that read");
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// Where it does not come.
    pub fn finish(mut self) -> Said {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("a process of ours").is_none() {
            assert!(Instant::now() < deadline, "producers did not end: {:?}", lock(&self.said).other);
            std::thread::sleep(Duration::from_millis(10));
        }
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader");
        }
        lock(&self.said).clone()
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lock(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the queue of a load holds when it is over.
#[derive(Debug, Default)]
pub struct Found {
    /// How many hashes carry each number: more than one is a doubled job.
    pub jobs: BTreeMap<u64, u32>,
    /// Numbers of jobs that completed.
    pub completed: BTreeSet<u64>,
    /// Why jobs failed.
    pub failed: Vec<String>,
    /// The queue's counter of ids.
    pub last_id: u64,
    /// By the number of its root: children there are, and children the root and the middle node wait for.
    pub flows: BTreeMap<u64, (u32, usize)>,
    pub kids_last_id: u64,
}

/// Children of a flow, and how many of them the root and the node below it wait for: the root for three, that node for one.
pub const WHOLE: (u32, usize) = (4, 4);

impl Found {
    /// Reads the queue `prefix:name` and its kids out of a dump.
    pub fn read(dump: &Dump, prefix: &str, name: &str) -> Found {
        let (base, kids) = (format!("{prefix}:{name}:"), format!("{prefix}:{name}-kids:"));
        let mut found = Found { last_id: counter(dump, &base), kids_last_id: counter(dump, &kids), ..Found::default() };
        let mut numbers = BTreeMap::new();
        for (key, entry) in &dump.0 {
            let Value::Hash(fields) = &entry.value else { continue };
            let Some(data) = fields.get(b"data".as_slice()) else { continue };
            if let Some(id) = key.strip_prefix(base.as_bytes()) {
                let n = number(data, "\"n\":").expect("a job of ours has a number");
                *found.jobs.entry(n).or_default() += 1;
                numbers.insert(id.to_vec(), n);
                if data.windows(6).any(|part| part == b"\"flow\"") {
                    found.flows.entry(n).or_default().1 += dependencies(dump, key);
                }
            } else if key.starts_with(kids.as_bytes()) {
                let of = number(data, "\"of\":").expect("a child of ours has a root");
                let flow = found.flows.entry(of).or_default();
                flow.0 += 1;
                flow.1 += dependencies(dump, key);
            }
        }
        let members = |state: &str| match dump.0.get(format!("{base}{state}").as_bytes()).map(|entry| &entry.value) {
            Some(Value::Zset(rows)) => rows.iter().map(|(id, _)| id.clone()).collect(),
            _ => Vec::new(),
        };
        found.completed = members("completed").iter().filter_map(|id| numbers.get(id)).copied().collect();
        let reason = |id: &Vec<u8>| match dump.0.get(&[base.as_bytes(), id].concat()).map(|entry| &entry.value) {
            Some(Value::Hash(fields)) => fields.get(b"failedReason".as_slice()).map(|text| crate::printable(text)),
            _ => None,
        };
        found.failed = members("failed").iter().map(|id| reason(id).unwrap_or_default()).collect();
        found
    }

    /// What is wrong, one line each, whatever happened to the server meanwhile.
    pub fn faults(&self, kind: Kind, said: &Said) -> String {
        let mut out = String::new();
        // redis-py loads the scripts of a pipeline one by one before its MULTI. A SCRIPT FLUSH in between, with another
        // connection's loading, leaves the root's script and not its children's; so it does on a stock server.
        let raced = |n: &u64| {
            let scripts = || said.refused.get(n).is_some_and(|text| text.contains("No matching script"));
            kind == Kind::Python && said.is_flow(*n) && scripts()
        };
        let mut fault = |line: String| writeln!(out, "{line}").expect("a string");
        if !said.drained {
            fault(format!("not drained: {:?}", said.other));
        }
        for (n, count) in &self.jobs {
            if *count > 1 {
                fault(format!("job {n} is there {count} times"));
            }
            if !said.sent.contains_key(n) {
                fault(format!("job {n} was never sent"));
            }
            // The error of a bulk is that of one of its jobs.
            if let Some(error) = said.refused.get(n).filter(|_| !said.is_bulk(*n) && !raced(n)) {
                fault(format!("job {n} ({}) is there, but its producer was told: {error}", said.sent[n]));
            }
        }
        for (n, flow) in &self.flows {
            if (*flow != WHOLE || !self.jobs.contains_key(n)) && !raced(n) {
                fault(format!("flow {n} is half written: {flow:?}, root {:?}", self.jobs.get(n)));
            }
        }
        out
    }

    /// Jobs that ran more than once, which BullMQ allows only where the worker's connection broke.
    pub fn reran(said: &Said) -> Vec<u64> {
        said.ran.iter().filter(|(_, count)| **count > 1).map(|(n, _)| *n).collect()
    }

    /// Jobs whose producers were told that they are there, and which are not.
    pub fn lost(&self, kind: Kind, said: &Said) -> Vec<u64> {
        // BullMQ 4 does not look at what EXEC says of a flow.
        let silent = |n: &u64| kind == Kind::V4 && said.is_flow(*n);
        said.acked.iter().filter(|n| !self.jobs.contains_key(n) && !silent(n)).copied().collect()
    }
}

fn counter(dump: &Dump, base: &str) -> u64 {
    match dump.0.get(format!("{base}id").as_bytes()).map(|entry| &entry.value) {
        Some(Value::String(text)) => String::from_utf8_lossy(text).parse().expect("a counter"),
        _ => 0,
    }
}

fn dependencies(dump: &Dump, job: &[u8]) -> usize {
    match dump.0.get(&[job, b":dependencies"].concat()).map(|entry| &entry.value) {
        Some(Value::Set(members)) => members.len(),
        _ => 0,
    }
}

/// The number behind a name in JSON that the load's own scripts wrote.
fn number(json: &[u8], name: &str) -> Option<u64> {
    let text = std::str::from_utf8(json).ok()?;
    let rest = text.split_once(name)?.1.trim_start();
    rest[..rest.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

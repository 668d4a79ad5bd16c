//! `tests/bullmq/load.mjs` at work: real producers and a real worker, and what they said.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{Client, workspace};

/// The queue that the load fills.
pub const QUEUE: &str = "bull:{soak}";

/// What producers and workers have said, by the number of the job.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub sent: u64,
    pub acked: BTreeMap<u64, String>,
    /// When each acknowledgement was heard here, a moment after it was given.
    pub heard: BTreeMap<u64, Instant>,
    pub refused: BTreeMap<u64, String>,
    pub unknown: BTreeSet<u64>,
    pub ran: BTreeSet<u64>,
    /// Answers to [`Load::catch_up`].
    pub marks: u64,
    /// Nothing that can run was left at the end.
    pub drained: bool,
    /// What was left, by state, where it was not drained.
    pub left: String,
}

/// A load under way. Killed when dropped.
#[derive(Debug)]
pub struct Load {
    child: Child,
    port: u16,
    said: Arc<Mutex<Said>>,
    reader: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts producers and a worker against the server at this port.
    ///
    /// # Panics
    /// Where node does not run.
    pub fn start(port: u16, seed: u64, rate: u32) -> Load {
        let mut child = Command::new("node")
            .arg(workspace().join("tests/bullmq/load.mjs"))
            .args(["--port", &port.to_string(), "--seed", &(seed % 0xffff_ffff + 1).to_string()])
            .args(["--rate", &rate.to_string(), "--prefix", "bull", "--name", "{soak}"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(if std::env::var_os("LOAD_DEBUG").is_some() { Stdio::inherit() } else { Stdio::null() })
            .spawn()
            .unwrap_or_else(|error| panic!("node does not run ({error}): install Node 20"));
        let said = Arc::new(Mutex::new(Said::default()));
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let shared = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                hear(&mut shared.lock().unwrap_or_else(PoisonError::into_inner), &line);
            }
        });
        Load { child, port, said, reader: Some(reader) }
    }

    pub fn said(&self) -> Said {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn acked(&self) -> usize {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).acked.len()
    }

    /// Waits until this many jobs are acknowledged in all.
    ///
    /// # Panics
    /// Where that takes longer than 60 s.
    pub fn wait_for(&self, acked: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.acked() < acked {
            assert!(
                Instant::now() < deadline,
                "{} of {acked} jobs acknowledged in 60 s\n{}",
                self.acked(),
                self.standstill()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until all that the server had answered when this was called is heard here. When that is so.
    ///
    /// # Panics
    /// Where the load says nothing for 60 s.
    pub fn catch_up(&self) -> Instant {
        let marks = || self.said.lock().unwrap_or_else(PoisonError::into_inner).marks;
        let (before, deadline) = (marks(), Instant::now() + Duration::from_secs(60));
        let mut input = self.child.stdin.as_ref().expect("a pipe");
        input.write_all(b"mark\n").expect("the load reads");
        while marks() == before {
            assert!(Instant::now() < deadline, "the load says nothing\n{}", self.standstill());
            std::thread::sleep(Duration::from_millis(1));
        }
        Instant::now()
    }

    /// Why nothing goes on: the load's process, what it said, and what its server says.
    fn standstill(&self) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let process = status.lines().find(|line| line.starts_with("State")).unwrap_or("no process").to_owned();
        let said = self.said();
        let open = said.sent - said.acked.len() as u64 - said.refused.len() as u64 - said.unknown.len() as u64;
        let mut out = format!("load: {process}; {} sent, {open} without an answer, {:?}\n", said.sent, said.refused);
        match Client::connect(self.port) {
            Ok(mut client) => {
                for words in [&["ROLE"][..], &["CLIENT", "LIST"], &["INFO", "stats"]] {
                    out +=
                        &client.try_cmd(words).map_or_else(|error| error.to_string(), |reply| format!("{reply:?}\n"));
                }
            }
            Err(error) => out += &error.to_string(),
        }
        out
    }

    /// Stops the producers, lets the worker finish, and answers with all that was said.
    ///
    /// # Panics
    /// Where the load does not end.
    pub fn stop(mut self) -> Said {
        let mut input = self.child.stdin.take().expect("a pipe");
        // A load that ended by its own limit no longer reads.
        let _ = input.write_all(b"stop\n");
        let deadline = Instant::now() + Duration::from_secs(100);
        while self.child.try_wait().expect("a process of ours").is_none() {
            assert!(Instant::now() < deadline, "the load did not end: {:?} acknowledged", self.acked());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.reader.take().expect("one reader").join().expect("the reader");
        self.said()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hear(said: &mut Said, line: &str) {
    let mut words = line.splitn(3, ' ');
    let (word, number) = (words.next().unwrap_or_default(), words.next().and_then(|text| text.parse::<u64>().ok()));
    let rest = words.next().unwrap_or_default().to_owned();
    match (word, number) {
        ("S", Some(_)) => said.sent += 1,
        ("A", Some(n)) => {
            said.acked.insert(n, rest);
            said.heard.insert(n, Instant::now());
        }
        ("R", Some(n)) => {
            said.refused.insert(n, rest);
        }
        ("U", Some(n)) => {
            said.unknown.insert(n);
        }
        ("P", Some(n)) => {
            said.ran.insert(n);
        }
        ("MARK", _) => said.marks += 1,
        ("DRAINED", _) => said.drained = true,
        ("LEFT", _) => said.left = rest,
        _ => {}
    }
}

//! An AOF that ends anywhere: whatever byte the machine stopped at, the server starts with the effects of whole commands,
//! a MULTI is there whole or not at all, and no job is torn.
//!
//! A server with the module is started for each cut. What it keeps of the file must end where the last whole command or
//! MULTI does; what it loads must be, by DEBUG DIGEST, what every other cut within that command gives; and once for each
//! such end the oracle and BULL.CHECK look at it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::aof::good_ends;
use super::checks::must_be_sound_by;
use super::load::{Load, QUEUE};
use super::oracle::structure;
use super::{Row, Seed};
use crate::checks::load as load_policy;
use crate::server::free_port;
use crate::wishes::{Wish, wishing};
use crate::{Client, Dump, Server, engine, guests};

const FOLDER: &str = "appendonlydir";
const LAST: &str = "appendonly.aof.1.incr.aof";
const FILE: &str = "appendonlydir/appendonly.aof.1.incr.aof";
/// Queues that a policy pauses and resumes.
const PAUSED: [&str; 2] = ["bull:{one}", "bull:{two}"];
/// Servers at a time.
const THREADS: u64 = 2;
/// Locks and the like of the recording have run out by then, so that all starts see the same.
const SHORT_LIVED: Duration = Duration::from_millis(2500);
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Cuts an AOF of mixed work within its last `tail` bytes, one byte of `every`, and starts a server for each.
///
/// # Panics
/// With the seed and the byte, where a server does not start, keeps part of a MULTI, or holds a torn job.
pub fn truncations(tail: usize, every: u64, seed: u64) -> Row {
    let start = Instant::now();
    let mut schedule = Seed(seed);
    let recorder = busy_tail(tail, &mut schedule);
    let whole = fs::read(recorder.dir().join(FILE)).expect("an AOF");
    let ends = good_ends(&whole);
    let shortest = whole.len().saturating_sub(tail);
    let lengths: Vec<usize> = (shortest + 1..=whole.len()).filter(|_| schedule.within(0, every) == 0).collect();
    thread::sleep(SHORT_LIVED);
    let (next, open, digests) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let place = Place::new(&recorder);
                while let Some(length) = lengths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let left = place.try_cut(&whole, *length, &ends, &digests, seed);
                    open.fetch_add(usize::from(left), Ordering::Relaxed);
                }
            });
        }
    });
    let open = open.into_inner();
    let ends = digests.into_inner().unwrap_or_else(PoisonError::into_inner).len();
    Row {
        scenario: "AOF cut at each byte of its tail",
        seed,
        faults: lengths.len() as u64,
        took: start.elapsed(),
        note: format!("a start each; {ends} different ends, each looked at; {open} left half a MULTI in the file"),
        ..Row::default()
    }
}

/// What was loaded, by where the file was whole up to.
type Digests = Mutex<BTreeMap<usize, String>>;

/// A folder with the AOF's other files, and a port. Gone when dropped.
struct Place {
    dir: PathBuf,
    port: u16,
    /// The folder of the recorded AOF.
    recorded: PathBuf,
    /// Of the last start alone.
    log: PathBuf,
}

impl Place {
    fn new(recorder: &Server) -> Place {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bull-torn-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        Place { log: dir.join("log"), dir, port: free_port(), recorded: recorder.dir().join(FOLDER) }
    }

    /// The AOF's folder as it was recorded, its last file cut.
    fn lay_out(&self, bytes: &[u8]) {
        let folder = self.dir.join(FOLDER);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder of ours");
        for entry in fs::read_dir(&self.recorded).expect("the AOF's folder") {
            let path = entry.expect("a file").path();
            if !path.ends_with(LAST) {
                fs::copy(&path, folder.join(path.file_name().expect("a name"))).expect("a file of ours");
            }
        }
        fs::write(folder.join(LAST), bytes).expect("a file of ours");
    }

    fn try_cut(&self, whole: &[u8], length: usize, ends: &[usize], digests: &Digests, seed: u64) -> bool {
        let what = format!("an AOF cut at byte {length}");
        self.lay_out(&whole[..length]);
        let (running, mut client) = self.start(&what, seed);
        let end = end_of(ends, length);
        // Servers before Valkey 9.1 keep whole commands of the MULTI that was cut.
        let open = match self.cut_off() {
            None => {
                assert_eq!(length, end, "{what}, seed {seed}: half a MULTI was taken");
                false
            }
            Some(at) => {
                assert!((end..=length).contains(&at), "{what}, seed {seed}: cut off at {at}, not at {end}");
                at > end
            }
        };
        // SCAN removes what has run out.
        client.ok(&["SCAN", "0", "COUNT", "1000000"]);
        let digest = client.ok(&["DEBUG", "DIGEST"]).text();
        let first = {
            let mut digests = digests.lock().unwrap_or_else(PoisonError::into_inner);
            let there = digests.entry(end).or_default();
            let first = there.is_empty();
            if first {
                there.clone_from(&digest);
            }
            assert_eq!(*there, digest, "cuts within one command differ: {what}, seed {seed}");
            first
        };
        if first {
            look(&mut client, &what, seed);
            if open {
                self.must_go_on((running, client), &what, seed);
            }
        }
        open
    }

    fn spawn(&self) -> Running {
        let _ = fs::remove_file(&self.log);
        let child = Command::new(engine::binary(&engine::chosen()))
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
            .args(["--aof-load-truncated", "yes", "--enable-debug-command", "yes", "--logfile", "log"])
            .arg("--dir")
            .arg(&self.dir)
            .arg("--loadmodule")
            .arg(engine::module())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the engine runs");
        Running(child)
    }

    fn start(&self, what: &str, seed: u64) -> (Running, Client) {
        let mut running = self.spawn();
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(mut client) = Client::connect(self.port)
                && client.try_cmd(&["PING"]).is_ok_and(|reply| reply.error().is_none())
            {
                return (running, client);
            }
            let gone = running.0.try_wait().expect("a process of ours");
            let log = || fs::read_to_string(&self.log).unwrap_or_default();
            if gone.is_some() && Instant::now() < end && log().contains("Address already in use") {
                // A connection of another test has the port for a moment.
                thread::sleep(Duration::from_millis(50));
                running = self.spawn();
                continue;
            }
            assert!(gone.is_none() && Instant::now() < end, "{what}, seed {seed}: no start ({gone:?}):\n{}", log());
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// Where the server cut the file off, by its log. None: it took the file as it is.
    fn cut_off(&self) -> Option<usize> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.split("at offset ").nth(1)?.split(' ').next()?.parse().ok()
    }

    /// What is added behind half a MULTI outlives the next start, once the module's rewrite has ended.
    fn must_go_on(&self, (mut running, mut client): (Running, Client), what: &str, seed: u64) {
        let end = Instant::now() + PATIENCE;
        while !client.ok(&["INFO", "persistence"]).text().contains("aof_rewrites:1") {
            assert!(Instant::now() < end, "{what}, seed {seed}: the AOF was not written anew");
            thread::sleep(Duration::from_millis(2));
        }
        while !client.ok(&["INFO", "persistence"]).text().contains("aof_rewrite_in_progress:0") {
            thread::sleep(Duration::from_millis(2));
        }
        client.ok(&["BULL.MADD", QUEUE, "j", "{}", "-", "j", "{}", "-"]);
        let before = Dump::take(&mut client);
        running.0.kill().expect("a process of ours");
        running.0.wait().expect("a process of ours");
        let (_again, mut client) = self.start(what, seed);
        let diff = before.diff(&Dump::take(&mut client), ["before the next start", "after it"]);
        assert!(diff.is_empty(), "{what}, seed {seed}:\n{diff}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server whose AOF has a tail with adds by all three ways, guarded ones with displacements among them, the work of a
/// worker, trims, changes of the profile, and pauses and resumes that a policy wished for.
fn busy_tail(tail: usize, schedule: &mut Seed) -> Server {
    let mut server = Server::builder()
        .plain()
        .appendonly(true)
        .config("appendfsync no")
        .config("bull.guard enforce")
        .config("bull.tick-ms 100")
        .start();
    let mut client = server.client();
    let pauses = PAUSED.map(|queue| Wish::Pause(queue.to_owned()));
    let resumes = PAUSED.map(|queue| Wish::Resume(queue.to_owned()));
    for queue in PAUSED {
        client.ok(&["BULL.MADD", queue, "j", "{}", "-", "j", "{}", "-"]);
    }
    load_policy(&mut client, "displace", &["QUEUES", QUEUE], &guests::displacing(1));
    load_policy(&mut client, "pause", &[], &wishing(&[pauses[0].clone(), resumes[1].clone()]).build());
    let load = Load::start(server.port(), schedule.draw(), 300);
    let length = || fs::metadata(server.dir().join(FILE)).map_or(0, |data| data.len() as usize);
    let mut turn = 0;
    while length() < tail + 16 * 1024 {
        turn += 1;
        load.wait_for(load.acked() + schedule.within(1, 8) as usize);
        client.ok(&["BULL.TRIM", QUEUE, "COMPLETED", "20", "FAILED", "20", "EVENTS", "200"]);
        client.ok(&["BULL.PROFILE", "SET", QUEUE, "max-jobs", &(1000 + turn).to_string()]);
        let wishes = if turn % 2 == 0 { [&pauses[0], &resumes[1]] } else { [&resumes[0], &pauses[1]] };
        load_policy(&mut client, "pause", &[], &wishing(&wishes.map(Wish::clone)).build());
        if turn % 5 == 0 {
            client.ok(&["BULL.PROFILE", "DEL", QUEUE]);
        }
    }
    drop(load);
    drop(client);
    server.kill9();
    server
}

fn look(client: &mut Client, what: &str, seed: u64) {
    let dump = Dump::take(client);
    for queue in [QUEUE, PAUSED[0], PAUSED[1]] {
        let found = structure(&dump, queue);
        assert!(found.is_clean(), "{what}, {queue}, seed {seed}:\n{}", found.text());
    }
    // A worker takes the marker before it takes the job; CHECK would wait seconds for it to come back.
    client.ok(&["ZADD", &format!("{QUEUE}:marker"), "0", "0"]);
    must_be_sound_by(what, seed, client);
}

/// The last place up to `length` at which all commands and MULTIs are whole.
fn end_of(ends: &[usize], length: usize) -> usize {
    ends[ends.partition_point(|end| *end <= length) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_falls_back_to_the_end_before_it() {
        let ends = [0, 27, 90];
        assert_eq!([0, 26, 27, 89, 90, 91].map(|length| end_of(&ends, length)), [0, 0, 27, 27, 90, 90]);
    }
}

//! Who had the processor, by the kernel's counts for single threads (schedstat), for processes and for the machine: so that
//! a wait can be told apart from one that other programs caused. Never guesses: where the kernel does not count, no time is
//! foreign.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// The counts of one thread: how long it ran, and how long it was ready to run and had no core.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    ran: Duration,
    waited: Duration,
}

/// A server's threads and the thread of the one who probes it, where that counts.
#[derive(Debug)]
pub struct Cores {
    main: Option<File>,
    others: Vec<File>,
    prober: Option<File>,
}

/// One reading, all counts since their threads began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reading {
    /// How long the server's main thread and the prober, where it counts, had no core.
    pub without_core: Duration,
    /// How long the server's other threads ran: what they took, no foreign program took.
    pub background: Duration,
}

impl Cores {
    /// The threads that the server of this process id has now, and the calling thread. Call it on the thread that probes.
    pub fn of(process: u32) -> Cores {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).map(|entries| entries.flatten().collect::<Vec<_>>());
        let (mut main, mut others) = (None, Vec::new());
        for task in tasks.unwrap_or_default() {
            let Ok(file) = File::open(task.path().join("schedstat")) else { continue };
            match task.file_name().to_str() == Some(process.to_string().as_str()) {
                true => main = Some(file),
                false => others.push(file),
            }
        }
        Cores { main, others, prober: File::open("/proc/thread-self/schedstat").ok() }
    }

    /// As [`Cores::of`], for a prober whose own times without a core lengthen no wait.
    pub fn of_server(process: u32) -> Cores {
        Cores { prober: None, ..Cores::of(process) }
    }

    pub fn read(&self) -> Reading {
        let waited = |file: &Option<File>| file.as_ref().map_or(Duration::ZERO, |file| counts(file).waited);
        Reading {
            without_core: waited(&self.main) + waited(&self.prober),
            background: self.others.iter().map(|file| counts(file).ran).sum(),
        }
    }
}

/// The numbers of a schedstat file; zeroes where there are none.
fn counts(file: &File) -> Counts {
    let mut bytes = [0; 128];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    let text = std::str::from_utf8(&bytes[..read]).unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().map(Duration::from_nanos));
    match (numbers.next(), numbers.next()) {
        (Some(Ok(ran)), Some(Ok(waited))) => Counts { ran, waited },
        _ => Counts::default(),
    }
}

/// How much of the machine other programs use, from now on.
#[derive(Debug)]
pub struct Others {
    processes: Vec<u32>,
    since: Instant,
    busy: Duration,
    ours: Duration,
}

impl Others {
    /// Everybody but these processes and the calling one.
    pub fn than(processes: &[u32]) -> Others {
        let processes: Vec<_> = processes.iter().copied().chain([std::process::id()]).collect();
        let ours = processes.iter().map(|process| used(*process)).sum();
        Others { busy: busy(), ours, since: Instant::now(), processes }
    }

    /// Cores that they used on average since then; 0.5 is half of one.
    pub fn cores(&self) -> f64 {
        let ours: Duration = self.processes.iter().map(|process| used(*process)).sum();
        let (ours, all) = (ours.saturating_sub(self.ours), busy().saturating_sub(self.busy));
        all.saturating_sub(ours).as_secs_f64() / self.since.elapsed().as_secs_f64()
    }
}

/// The unit of the kernel's counts for processes and for the machine.
const TICK: Duration = Duration::from_millis(10);

/// What all cores ran together since the machine started.
fn busy() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers = text.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    let numbers: Vec<u32> = numbers.filter_map(|number| number.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let ticks = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| numbers.get(*index)).sum();
    TICK.saturating_mul(ticks)
}

/// What a process ran.
fn used(process: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name stands in brackets and may hold spaces.
    let after_name = text.rsplit(')').next().unwrap_or_default();
    let ticks =
        after_name.split_ascii_whitespace().skip(11).take(2).filter_map(|number| number.parse::<u32>().ok()).sum();
    TICK.saturating_mul(ticks)
}

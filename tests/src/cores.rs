//! Who has the processors, by the kernel's counts for processes and for the machine: so that a late answer can be told apart
//! from one that other programs caused. Where the kernel does not count, nobody else is said to have had a core.

use std::fs;
use std::time::{Duration, Instant};

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

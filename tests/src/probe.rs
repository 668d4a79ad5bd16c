//! How long a server keeps others waiting: a PING a millisecond on a connection of its own.
//!
//! The plan of sends is fixed (an open loop). A PING that could not be sent in time because the one
//! before it was still unanswered counts from when it should have been sent, so one long stop is
//! seen as what it is. A late wake-up of this thread itself is not the server's and does not count.
//!
//! A probe may send other commands in place of the PING, several in one write: then it is a part of the load itself.
//!
//! A probe that watches the server's threads also says which part of a wait was its own: not the time in which the
//! server's main thread or the probe was ready to run and another program had the core.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Client, Reply, encode};
use crate::cores::{Cores, Reading};

/// One PING in so long.
const PERIOD: Duration = Duration::from_millis(1);

/// The kernel brings the count of a running thread up to date once a tick, 4 ms at most: so many PINGs around a wait
/// are searched for what the server's own threads took.
const TICK: usize = 5;

/// What a probe sends each millisecond, and what becomes of each reply.
pub struct Beat {
    calls: Vec<u8>,
    replies: usize,
    seen: Box<dyn FnMut(Reply) + Send>,
}

impl Beat {
    /// These commands in one write; `seen` gets their replies in order.
    pub fn new<A: AsRef<[u8]>>(calls: &[Vec<A>], seen: impl FnMut(Reply) + Send + 'static) -> Beat {
        Beat { calls: calls.iter().flat_map(|call| encode(call)).collect(), replies: calls.len(), seen: Box::new(seen) }
    }

    fn ping() -> Beat {
        Beat::new(&[vec!["PING"]], |_| ())
    }

    fn send(&mut self, client: &mut Client) -> io::Result<()> {
        client.send(&self.calls)?;
        for _ in 0..self.replies {
            (self.seen)(client.read()?);
        }
        Ok(())
    }
}

/// A probe at work.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Wait>, String>>,
}

/// One PING's wait, and the counts before it was sent and after its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub since: Instant,
    pub answered: Instant,
    pub before: Reading,
    pub after: Reading,
}

impl Wait {
    fn long(&self) -> Duration {
        self.answered - self.since
    }
}

/// What a probe has seen.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub samples: usize,
    pub p50: Duration,
    pub p99: Duration,
    pub p999: Duration,
    pub max: Duration,
    /// One wait in a hundred is longer than this without what other programs took from it. Equals `p99` for a probe that
    /// watches nothing.
    pub own_p99: Duration,
    /// The longest wait without what other programs took from it. What the server's other threads ran in that time is
    /// never taken for another program's. Equals `max` for a probe that watches nothing.
    pub own: Duration,
    /// The longest time within one wait that other programs had the core which the server or the probe wanted.
    pub foreign: Duration,
    /// The longest wait without any time in which the server's main thread or the probe had no core, whoever had it: what
    /// the main thread itself took. Equals `max` for a probe that watches nothing.
    pub served: Duration,
}

impl Probe {
    /// Starts probing the server at this port.
    pub fn start(port: u16) -> Probe {
        Probe::at(port, None, Beat::ping())
    }

    /// Starts probing the server at this port, and watches the threads that its process has now.
    pub fn watching(port: u16, process: u32) -> Probe {
        Probe::at(port, Some(process), Beat::ping())
    }

    /// As [`Probe::watching`], with these commands; each wait is that for the last of their replies.
    pub fn beating(port: u16, process: u32, beat: Beat) -> Probe {
        Probe::at(port, Some(process), beat)
    }

    fn at(port: u16, process: Option<u32>, mut beat: Beat) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let mut client = Client::connect(port).unwrap_or_else(|error| panic!("no connection to port {port}: {error}"));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let cores = process.map(Cores::of);
            let counts = || cores.as_ref().map(Cores::read).unwrap_or_default();
            let mut waits = Vec::new();
            let mut after = counts();
            let mut answered = Instant::now();
            let mut planned = answered;
            while !stopped.load(Ordering::Relaxed) {
                planned += PERIOD;
                thread::sleep(planned.saturating_duration_since(Instant::now()));
                let late = answered > planned;
                let before = if late { after } else { counts() };
                let since = if late { planned } else { Instant::now() };
                beat.send(&mut client).map_err(|error| error.to_string())?;
                answered = Instant::now();
                after = counts();
                waits.push(Wait { since, answered, before, after });
                // After our own oversleeping there is no burst to catch up.
                if since > planned + PERIOD {
                    planned = since;
                }
            }
            Ok(waits)
        });
        Probe { stop, thread }
    }

    /// Stops and returns what was seen.
    ///
    /// # Panics
    /// Where the connection broke, or nothing was measured.
    pub fn stop(self) -> Latency {
        self.stop.store(true, Ordering::Relaxed);
        let waits = self.thread.join().expect("the probe's thread");
        let waits = waits.unwrap_or_else(|error| panic!("the probe lost its server: {error}"));
        Latency::of(&waits)
    }
}

impl Latency {
    /// What these PINGs have seen, in the order in which they were sent.
    ///
    /// # Panics
    /// Where there are none.
    pub(crate) fn of(waits: &[Wait]) -> Latency {
        assert!(!waits.is_empty(), "the probe measured nothing");
        let foreign: Vec<_> = (0..waits.len()).map(|index| foreign(waits, index)).collect();
        let own = waits.iter().zip(&foreign).map(|(wait, foreign)| wait.long().saturating_sub(*foreign));
        let own = sorted(own);
        let foreign = foreign.iter().copied().max().unwrap_or_default();
        let served = (0..waits.len()).map(|index| waits[index].long().saturating_sub(without_core(waits, index)));
        let served = served.max().unwrap_or_default();
        let long = sorted(waits.iter().map(Wait::long));
        Latency {
            samples: long.len(),
            p50: at(&long, 0.50),
            p99: at(&long, 0.99),
            p999: at(&long, 0.999),
            max: at(&long, 1.0),
            own_p99: at(&own, 0.99),
            own: at(&own, 1.0),
            foreign,
            served,
        }
    }
}

fn sorted(waits: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut waits: Vec<_> = waits.collect();
    waits.sort_unstable();
    waits
}

fn at(sorted: &[Duration], share: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// The first PING that was on its way while this one waited: one that stood behind others began its wait then.
fn begun(waits: &[Wait], index: usize) -> usize {
    let before = waits[..index].iter().rev().take_while(|wait| wait.answered > waits[index].since);
    index - before.count()
}

/// The time of this PING's wait in which the server or the probe had no core.
fn without_core(waits: &[Wait], index: usize) -> Duration {
    waits[index].after.without_core.saturating_sub(waits[begun(waits, index)].before.without_core)
}

/// What others took from this PING's wait: the time without a core, as far as the server's own threads cannot have had
/// that core.
fn foreign(waits: &[Wait], index: usize) -> Duration {
    let begun = begun(waits, index);
    let last = waits[(index + TICK).min(waits.len() - 1)].after;
    let background = last.background.saturating_sub(waits[begun.saturating_sub(TICK)].before.background);
    without_core(waits, index).saturating_sub(background)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PING each, as milliseconds: when it was to be sent, when it was answered, the counts after it.
    fn waits(pings: &[(u64, u64, u64, u64)]) -> Vec<Wait> {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut before = Reading::default();
        let mut waits = Vec::new();
        for &(since, answered, without_core, background) in pings {
            let after = Reading { without_core: ms(without_core), background: ms(background) };
            waits.push(Wait { since: start + ms(since), answered: start + ms(answered), before, after });
            before = after;
        }
        waits
    }

    fn own_ms(pings: &[(u64, u64, u64, u64)]) -> Vec<u128> {
        let waits = waits(pings);
        (0..waits.len()).map(|index| waits[index].long().saturating_sub(foreign(&waits, index)).as_millis()).collect()
    }

    #[test]
    fn what_was_waited_for_a_core_is_not_the_main_threads() {
        let waits = waits(&[(0, 10, 9, 9), (11, 16, 9, 9)]);
        assert_eq!([0, 1].map(|index| without_core(&waits, index).as_millis()), [9, 0]);
    }

    #[test]
    fn what_another_program_took_is_not_the_servers() {
        assert_eq!(own_ms(&[(0, 10, 9, 0)]), [1]);
    }

    #[test]
    fn what_the_servers_own_thread_took_is_the_servers() {
        assert_eq!(own_ms(&[(0, 10, 9, 9)]), [10]);
        assert_eq!(own_ms(&[(0, 10, 9, 4)]), [5]);
    }

    #[test]
    fn a_count_that_comes_a_tick_late_is_still_the_servers() {
        assert_eq!(own_ms(&[(0, 10, 9, 0), (11, 11, 9, 9)]), [10, 0]);
    }

    #[test]
    fn pings_that_stood_behind_a_late_one_share_its_excuse() {
        assert_eq!(own_ms(&[(0, 7, 7, 0), (1, 7, 7, 0), (2, 7, 7, 0)]), [0, 0, 0]);
    }

    #[test]
    fn an_excuse_ends_with_the_waits_it_was_for() {
        assert_eq!(own_ms(&[(0, 7, 7, 0), (8, 15, 7, 0)]), [0, 7]);
    }
}

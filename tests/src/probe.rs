//! How long a server keeps others waiting: a PING a millisecond on a connection of its own.
//!
//! The plan of sends is fixed (an open loop). A PING that could not be sent in time because the one
//! before it was still unanswered counts from when it should have been sent, so one long stop is
//! seen as what it is. A late wake-up of this thread itself is not the server's and does not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::Client;

/// One PING in so long.
const PERIOD: Duration = Duration::from_millis(1);

/// A probe at work.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Duration>, String>>,
}

/// What a probe has seen.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub samples: usize,
    pub p50: Duration,
    pub p99: Duration,
    pub max: Duration,
}

impl Probe {
    /// Starts probing the server at this port.
    pub fn start(port: u16) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let mut client = Client::connect(port).unwrap_or_else(|error| panic!("no connection to port {port}: {error}"));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut waits = Vec::new();
            let mut answered = Instant::now();
            let mut planned = answered;
            while !stopped.load(Ordering::Relaxed) {
                planned += PERIOD;
                thread::sleep(planned.saturating_duration_since(Instant::now()));
                let since = if answered > planned { planned } else { Instant::now() };
                client.try_cmd(&["PING"]).map_err(|error| format!("PING: {error}"))?;
                answered = Instant::now();
                waits.push(answered - since);
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
        let mut waits = waits.unwrap_or_else(|error| panic!("the probe lost its server: {error}"));
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
        assert!(!waits.is_empty(), "the probe measured nothing");
        Latency { samples: waits.len(), p50: at(0.50), p99: at(0.99), max: at(1.0) }
    }
}

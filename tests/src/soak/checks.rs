//! BULL.CHECK as an oracle beside the faults: whatever dies or changes its role, it finds nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::load::QUEUE;
use crate::client::Reply;
use crate::{Client, Server};

/// What a check found, but for the marker: a worker that took it and lost its connection leaves it missing until it asks
/// again, within 5 s.
fn findings(reply: &Reply) -> Vec<String> {
    let named = reply.get("findings").map(|list| list.strings()).unwrap_or_default();
    named.into_iter().filter(|line| !line.starts_with("missing-markers")).collect()
}

/// Checks again and again until it is stopped.
pub struct Checks {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<(u64, Vec<String>)>>,
}

impl Checks {
    /// Asks the server at this port, which may change.
    pub fn start(port: Arc<AtomicU16>) -> Checks {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut done, mut found) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(mut client) = Client::connect(port.load(Ordering::Relaxed)) {
                    while let Ok(reply) = client.try_cmd(&["BULL.CHECK", QUEUE]) {
                        if reply.error().is_none() {
                            done += 1;
                            found.extend(findings(&reply));
                        }
                        if stopped.load(Ordering::Relaxed) || reply.code().as_deref() == Some("READONLY") {
                            break;
                        }
                        thread::sleep(Duration::from_millis(100));
                    }
                }
                thread::sleep(Duration::from_millis(20));
            }
            (done, found)
        });
        Checks { stop, thread: Some(thread) }
    }

    /// Checks that were answered.
    ///
    /// # Panics
    /// Where one of them found something.
    pub fn stop(mut self, what: &str, seed: u64) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let (done, found) = self.thread.take().expect("one thread").join().expect("the checks' thread");
        assert!(found.is_empty(), "{what}, seed {seed}: BULL.CHECK found {found:?}");
        done
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The queue is whole by BULL.CHECK too.
///
/// # Panics
/// Where it finds something.
pub fn must_be_sound(what: &str, seed: u64, server: &Server) {
    must_be_sound_by(what, seed, &mut server.client());
}

/// As [`must_be_sound`], on this connection.
///
/// # Panics
/// Where it finds something.
pub fn must_be_sound_by(what: &str, seed: u64, client: &mut Client) {
    let reply = client.ok(&["BULL.CHECK", QUEUE]);
    let found = findings(&reply);
    assert!(found.is_empty(), "{what}, seed {seed}: BULL.CHECK found {found:?}");
}

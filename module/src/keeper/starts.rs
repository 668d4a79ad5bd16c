//! When running jobs started, in bounded memory: 16 bytes a job, by a hash of its key.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Instant;

use foldhash::fast::RandomState;

/// Entries of one generation; there are two. What starts and never ends (a crashed worker's job that was removed) goes
/// with its generation.
const GENERATION: usize = 65_536;

#[derive(Default)]
pub struct Starts {
    hasher: RandomState,
    young: HashMap<u64, Instant, RandomState>,
    old: HashMap<u64, Instant, RandomState>,
}

impl Starts {
    pub fn key(&self, db: i32, queue: &[u8], job: &[u8]) -> u64 {
        self.hasher.hash_one((db, queue, job))
    }

    pub fn put(&mut self, key: u64, start: Instant) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, start);
    }

    pub fn take(&mut self, key: u64) -> Option<Instant> {
        let old = if self.old.is_empty() { None } else { self.old.remove(&key) };
        self.young.remove(&key).or(old)
    }

    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_start_counts_and_is_taken_once() {
        let mut starts = Starts::default();
        let key = starts.key(0, b"bull:q", b"1");
        assert_ne!(key, starts.key(1, b"bull:q", b"1"));
        assert_ne!(key, starts.key(0, b"bull:q1", b""));
        let (first, second) = (Instant::now(), Instant::now() + std::time::Duration::from_secs(1));
        starts.put(key, first);
        starts.put(key, second);
        assert_eq!(starts.take(key), Some(second));
        assert_eq!(starts.take(key), None);
    }

    #[test]
    fn memory_is_bounded_and_the_newest_survive() {
        let mut starts = Starts::default();
        let now = Instant::now();
        (0..10 * GENERATION as u64).for_each(|key| starts.put(key, now));
        assert!(starts.len() <= 2 * GENERATION);
        let newest = 10 * GENERATION as u64 - 1;
        assert!(starts.take(newest).is_some());
        assert!(starts.take(newest - GENERATION as u64).is_some());
        assert!(starts.take(0).is_none());
    }
}

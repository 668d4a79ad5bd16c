//! Which queues of this node may have jobs with children, and which jobs with logs, so that a trim need not look for those keys
//! of each job where none has them. Never says no where there is one: until the scan after a load has gone through, every queue
//! may have some.
//!
//! A bit for each name, by a hash of it, whatever the database: what stands in `<queue>:<id>:dependencies` could be the job of
//! several queues, as names and ids hold colons, and all of them are marked. Two names with one bit cost looks, nothing else.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::queue::keys::{FLOW_KEYS, LOGS_KEY};
use crate::redis::events::Change;

/// What a job may have besides its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Children, finished ones included.
    Flow,
    Logs,
}

/// Bits of a table: 8 KB, and one wrong answer in 65 with a thousand queues of flows.
const BITS: usize = 1 << 16;
const WORD: usize = u64::BITS as usize;
/// Names that one key may mark. A key with more colons than that is no job's, and leaves everything in doubt.
const MOST: usize = 64;

struct Table {
    /// How the keys end that it knows of.
    suffixes: &'static [&'static str],
    words: [AtomicU64; BITS / WORD],
    /// All keys that there were have been seen, and all that came since.
    complete: AtomicBool,
    /// A key was seen that says nothing about its queue.
    doubt: AtomicBool,
    /// Some bit is set.
    any: AtomicBool,
}

static FLOWS: Table = Table::new(&FLOW_KEYS);
static LOGS: Table = Table::new(&[LOGS_KEY]);

fn table(part: Part) -> &'static Table {
    match part {
        Part::Flow => &FLOWS,
        Part::Logs => &LOGS,
    }
}

impl Table {
    const fn new(suffixes: &'static [&'static str]) -> Self {
        Self {
            suffixes,
            words: [const { AtomicU64::new(0) }; BITS / WORD],
            complete: AtomicBool::new(false),
            doubt: AtomicBool::new(false),
            any: AtomicBool::new(false),
        }
    }

    fn place(queue: &[u8]) -> (usize, u64) {
        let mut hasher = DefaultHasher::new();
        queue.hash(&mut hasher);
        let bit = hasher.finish() as usize % BITS;
        (bit / WORD, 1 << (bit % WORD))
    }

    fn mark(&self, key: &[u8]) {
        let Some(job) = self.suffixes.iter().find_map(|suffix| key.strip_suffix(suffix.as_bytes())) else { return };
        let colons = job.iter().enumerate().filter(|&(at, byte)| *byte == b':' && at + 1 < job.len());
        for (marked, (at, _)) in colons.enumerate() {
            if marked == MOST {
                return self.doubt.store(true, Ordering::Relaxed);
            }
            let (word, bit) = Self::place(&job[..at]);
            self.any.store(true, Ordering::Relaxed);
            self.words[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn may_have(&self, queue: &[u8]) -> bool {
        let (word, bit) = Self::place(queue);
        self.is_in_doubt() || self.words[word].load(Ordering::Relaxed) & bit != 0
    }

    fn may_have_any(&self) -> bool {
        self.is_in_doubt() || self.any.load(Ordering::Relaxed)
    }

    fn is_in_doubt(&self) -> bool {
        !self.complete.load(Ordering::Relaxed) || self.doubt.load(Ordering::Relaxed)
    }

    /// What comes from now on is told of, what is there may not have been.
    fn begin(&self) {
        self.complete.store(false, Ordering::Relaxed);
    }

    fn clear(&self) {
        self.doubt.store(false, Ordering::Relaxed);
        self.any.store(false, Ordering::Relaxed);
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// A key that ends like one of a job's further keys was written or seen. Main thread only.
pub fn on_key(key: &[u8]) {
    FLOWS.mark(key);
    LOGS.mark(key);
}

/// False where no job of the queue has this.
pub fn may_have(part: Part, queue: &[u8]) -> bool {
    table(part).may_have(queue)
}

/// False where no job of any queue has it: of flows, no job's going sets a parent free.
pub fn may_have_any(part: Part) -> bool {
    table(part).may_have_any()
}

/// The scan has gone through all keys since the last load: what it has not seen was told of.
pub fn all_seen() {
    for table in [&FLOWS, &LOGS] {
        table.complete.store(true, Ordering::Relaxed);
    }
}

pub fn on_change(change: Change) {
    for table in [&FLOWS, &LOGS] {
        match change {
            Change::Flushed(None) => table.clear(),
            Change::Loading => {
                table.begin();
                table.clear();
            }
            // The server moves keys without a word about each; the scan begins anew.
            Change::Loaded | Change::SlotsMoved => table.begin(),
            Change::Flushed(Some(_)) | Change::Swapped(..) | Change::Primary(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_whose_job_a_key_could_be_of_is_marked_and_no_other() {
        let table = Table::new(&FLOW_KEYS);
        assert!(table.may_have(b"bull:q"), "nothing was scanned");
        table.complete.store(true, Ordering::Relaxed);
        assert!(!table.may_have(b"bull:q") && !table.may_have_any());
        table.mark(b"bull:{a:b}:repeat:every:17:dependencies");
        for queue in ["bull", "bull:{a", "bull:{a:b}", "bull:{a:b}:repeat", "bull:{a:b}:repeat:every"] {
            assert!(table.may_have(queue.as_bytes()), "{queue}");
        }
        assert!(!table.may_have(b"bull:{a:b}:repeat:every:17") && !table.may_have(b"bull:q"));
        // The set of failed jobs is no flow's, nor are logs.
        table.mark(b"bull:q:failed");
        table.mark(b"bull:q:1:logs");
        assert!(!table.may_have(b"bull:q"));
        for (job, suffix) in FLOW_KEYS.iter().enumerate() {
            let queue = format!("x:{job}");
            assert!(!table.may_have(queue.as_bytes()));
            table.mark(format!("{queue}:1{suffix}").as_bytes());
            assert!(table.may_have(queue.as_bytes()), "{suffix}");
        }
        assert!(table.may_have_any());
        table.clear();
        assert!(!table.may_have(b"bull:{a:b}") && !table.may_have_any());
    }

    #[test]
    fn logs_are_known_apart_from_flows() {
        let table = Table::new(&[LOGS_KEY]);
        table.complete.store(true, Ordering::Relaxed);
        FLOW_KEYS.iter().for_each(|suffix| table.mark(format!("bull:q:1{suffix}").as_bytes()));
        table.mark(b"bull:q:logs");
        assert!(!table.may_have(b"bull:q"), "keys of flows, and the logs of a job `q` of `bull`");
        table.mark(b"bull:q:7:logs");
        assert!(table.may_have(b"bull:q"));
    }

    #[test]
    fn a_key_of_more_names_than_a_job_has_leaves_everything_in_doubt() {
        let table = Table::new(&FLOW_KEYS);
        table.complete.store(true, Ordering::Relaxed);
        table.mark(format!("{}1:dependencies", "a:".repeat(MOST)).as_bytes());
        assert!(!table.may_have(b"q"));
        table.mark(format!("{}1:dependencies", "a:".repeat(MOST + 1)).as_bytes());
        assert!(table.may_have(b"q"));
        table.clear();
        assert!(!table.may_have(b"q"));
    }
}

//! Which ids a walk has met in the lists, by fingerprint: membership of a list is too dear to ask for each job.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};

/// Most ids remembered of one list, in 9 to 18 MB of memory.
const MOST: usize = 1 << 20;
/// Tables that the ids are spread over: one that grows moves all it holds, and that must fit into a slice.
const SHARDS: usize = 64;

/// The lists of a queue that hold ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    Active,
    Paused,
    Wait,
}

impl Listed {
    pub const ALL: [Self; 3] = [Self::Active, Self::Paused, Self::Wait];
}

/// Whether a list may hold an id, by what the walk has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    Yes,
    No,
    /// The list is longer than what is remembered of it.
    Unknown,
}

/// Fingerprints of ids, 64 bits each: two ids of a queue of a million share one in one of 10^7 walks, and then a finding
/// is missed, never made.
#[derive(Debug, Default)]
pub struct Seen {
    lists: [Prints; 3],
    overfull: bool,
    /// The walk lost its place in a list, so that ids of it may not have been met.
    gaps: bool,
}

#[derive(Debug)]
struct Prints {
    shards: [HashSet<u64>; SHARDS],
    count: usize,
}

impl Default for Prints {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| HashSet::new()), count: 0 }
    }
}

impl Prints {
    fn contains(&self, print: u64) -> bool {
        self.shards[print as usize % SHARDS].contains(&print)
    }

    /// True where it is new.
    fn insert(&mut self, print: u64) -> bool {
        let new = self.shards[print as usize % SHARDS].insert(print);
        self.count += usize::from(new);
        new
    }
}

fn fingerprint(id: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(id);
    hasher.finish()
}

impl Seen {
    /// Remembers the id. True where it was met in this list before.
    pub fn meet(&mut self, list: Listed, id: &[u8]) -> bool {
        let set = &mut self.lists[list as usize];
        let print = fingerprint(id);
        if set.count >= MOST {
            self.overfull = true;
            return set.contains(print);
        }
        !set.insert(print)
    }

    pub fn lost_its_place(&mut self) {
        self.gaps = true;
    }

    /// Whether a list of this length may hold ids that the walk passed over, `more` than it met.
    ///
    /// A pause renames a list to one that was walked before, and then none of its ids was met there.
    pub fn may_have_missed(&self, length: u64, more: u64) -> bool {
        let most = self.lists.iter().map(|prints| prints.count as u64).max().unwrap_or(0);
        self.gaps || length > most + more
    }

    pub fn met_in(&self, list: Listed, id: &[u8]) -> bool {
        self.lists[list as usize].contains(fingerprint(id))
    }

    pub fn met(&self, id: &[u8]) -> Met {
        let print = fingerprint(id);
        match self.lists.iter().any(|set| set.contains(print)) {
            true => Met::Yes,
            false if self.overfull => Met::Unknown,
            false => Met::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_met_once_a_list() {
        let mut seen = Seen::default();
        assert!(!seen.meet(Listed::Wait, b"1"));
        assert!(seen.meet(Listed::Wait, b"1"));
        assert!(!seen.meet(Listed::Active, b"1"));
        assert!(seen.met_in(Listed::Active, b"1") && !seen.met_in(Listed::Paused, b"1"));
        assert_eq!((seen.met(b"1"), seen.met(b"2")), (Met::Yes, Met::No));
    }
}

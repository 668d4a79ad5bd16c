//! What a check can find, and what it has found so far.

use super::Mended;
use crate::text::short;

/// Findings told by name.
const NAMED: usize = 20;

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A job's hash that is in no state.
    OrphanHash,
    /// Logs or dependencies of a job that is gone.
    OrphanPart,
    /// A hash that scripts made of a job that was gone.
    Ghost,
    /// An id in a state whose job is gone: a ghost to be.
    Dangling,
    TwoStates,
    /// A deduplication key without an end, of a job that is gone.
    StaleDedup,
    /// A parent that waits for children that are gone, or for none.
    StuckParent,
    MissingMarker,
}

impl Fault {
    pub const ALL: [Self; 8] = [
        Self::OrphanHash,
        Self::OrphanPart,
        Self::Ghost,
        Self::Dangling,
        Self::TwoStates,
        Self::StaleDedup,
        Self::StuckParent,
        Self::MissingMarker,
    ];

    /// Name of the count in the reply.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::OrphanHash => "orphan-hashes",
            Self::OrphanPart => "orphan-sub-keys",
            Self::Ghost => "ghost-hashes",
            Self::Dangling => "dangling-ids",
            Self::TwoStates => "ids-in-two-states",
            Self::StaleDedup => "stale-dedup-keys",
            Self::StuckParent => "stuck-parents",
            Self::MissingMarker => "missing-markers",
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Ids and keys judged.
    pub examined: u64,
    counts: [u64; Fault::ALL.len()],
    pub repaired: u64,
    /// What could not be judged while the queue moved.
    pub unsure: u64,
    /// The first findings: what and where.
    pub named: Vec<String>,
}

impl Tally {
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    pub(super) fn add(&mut self, fault: Fault, name: &[u8], mended: Mended) {
        self.counts[fault as usize] += 1;
        self.repaired += u64::from(mended == Mended::Yes);
        if self.named.len() < NAMED {
            self.named.push(format!("{} {}", fault.plural(), short(name, 128)));
        }
    }

    pub fn found(&self) -> u64 {
        self.counts.iter().sum()
    }
}

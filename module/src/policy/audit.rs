//! The last decisions that were not a plain admit, and what was done at ticks: a ring in memory.

use std::collections::VecDeque;

/// Entries kept.
pub const KEPT: usize = 1000;
/// Longest name or text kept of each, bytes.
const MAX_TEXT: usize = 256;

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Reject,
    Defer,
    Displace,
    /// The policy failed and ONERROR let the job in.
    Fault,
    /// The queue was paused, or let go on, at a tick.
    Pause,
    Resume,
    /// An emergency run was begun at a tick.
    Emergency,
}

impl Kind {
    pub const ALL: [Self; 7] =
        [Self::Reject, Self::Defer, Self::Displace, Self::Fault, Self::Pause, Self::Resume, Self::Emergency];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Defer => "defer",
            Self::Displace => "displace",
            Self::Fault => "fault",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Emergency => "emergency",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unix time, milliseconds.
    pub at_ms: u64,
    pub policy: String,
    /// Version of the policy that decided.
    pub version: String,
    pub queue: String,
    /// Name of the job and bytes of its data.
    pub job: Option<(String, u64)>,
    pub kind: Kind,
    pub reason: String,
    /// It took effect; otherwise it was only observed.
    pub binds: bool,
}

#[derive(Default)]
pub struct Audit {
    entries: VecDeque<Entry>,
}

impl Audit {
    pub const fn new() -> Self {
        Self { entries: VecDeque::new() }
    }

    pub fn add(&mut self, mut entry: Entry) {
        for text in [&mut entry.queue, &mut entry.reason].into_iter().chain(entry.job.as_mut().map(|job| &mut job.0)) {
            if text.len() > MAX_TEXT {
                *text = text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
            }
        }
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// The newest first.
    pub fn newest(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at_ms: u64) -> Entry {
        Entry {
            at_ms,
            policy: "p".into(),
            version: "1".into(),
            queue: "é".repeat(300),
            job: Some(("n".repeat(10_000), 7)),
            kind: Kind::Reject,
            reason: "no".into(),
            binds: true,
        }
    }

    #[test]
    fn the_ring_keeps_the_newest_and_bounds_each() {
        let mut audit = Audit::new();
        (0..KEPT as u64 + 5).for_each(|at| audit.add(entry(at)));
        let times: Vec<u64> = audit.newest().map(|entry| entry.at_ms).collect();
        assert_eq!(times.len(), KEPT);
        assert_eq!((times[0], times[KEPT - 1]), (KEPT as u64 + 4, 5));
        let kept = audit.newest().next().unwrap();
        assert_eq!((kept.queue.len(), kept.job.as_ref().unwrap().0.len()), (256, 256));
    }
}

//! Dropping the logs of finished jobs, in steps; the jobs themselves stay.

use super::check::expect;
use super::error::Result;
use super::job::QueueKeys;
use super::keys::{QueueName, sub_key};
use super::store::Kind;
use super::trim::{Around, Mode};
use super::walk::{Group, Walk};

/// What went so far; in a dry run what would have gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Jobs that lost their logs.
    pub jobs: u64,
    pub bytes: u64,
}

/// A walk through a queue's finished jobs.
#[derive(Debug)]
pub struct Logs {
    queue: QueueName,
    sets: [Vec<u8>; 2],
    at: usize,
    cursor: Option<Vec<u8>>,
    mode: Mode,
    tally: Tally,
}

impl Logs {
    pub fn new(queue: QueueName, mode: Mode) -> Self {
        let keys = QueueKeys::of(&queue);
        Self { queue, sets: [keys.completed, keys.failed], at: 0, cursor: None, mode, tally: Tally::default() }
    }

    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Works until `around` says that the slice is over, asked after each page. True when all were seen.
    pub fn slice(&mut self, store: &mut impl Walk, around: &mut impl Around) -> Result<bool> {
        while let Some(set) = self.sets.get(self.at) {
            let mut next = None;
            if expect(store, set, Kind::ZSet)? {
                let page = store.members(set, Group::ZSet, self.cursor.as_deref())?;
                for id in page.items {
                    // A page may name a job that left the set since.
                    if store.zscore(set, &id).is_some() {
                        let logs = sub_key(&self.queue.key(&id), ":logs");
                        if store.kind(&logs) == Kind::List {
                            self.tally.jobs += 1;
                            self.tally.bytes += store.memory_estimate(&logs)?;
                            if self.mode == Mode::Remove {
                                store.del(&[&logs])?;
                            }
                        }
                    }
                }
                next = page.next;
            }
            if next.is_none() {
                self.at += 1;
            }
            self.cursor = next;
            if around.expired() {
                break;
            }
        }
        Ok(self.at == self.sets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fake::Fake;
    use crate::queue::parent::Parent;
    use crate::queue::store::{End, Store};

    struct Short;

    impl Around for Short {
        fn expired(&mut self) -> bool {
            true
        }

        fn may_release(&mut self, _parent: &Parent) -> bool {
            true
        }
    }

    #[test]
    fn only_logs_of_finished_jobs_go() {
        let mut store = Fake::default();
        let queue = QueueName::parse(b"bull:q").unwrap();
        for id in ["1", "2", "3", "4"] {
            store.hset(&queue.key(id), &[("name".into(), "n".into())]).unwrap();
            store.push(&queue.key(format!("{id}:logs")), End::Right, b"row").unwrap();
        }
        store.push(b"bull:q:wait", End::Left, b"4").unwrap();
        for (set, id) in [("completed", b"1"), ("completed", b"2"), ("failed", b"3")] {
            store.zadd(&queue.key(set), 1.0, id).unwrap();
        }
        let before = store.clone();
        for (mode, left) in [(Mode::DryRun, 4), (Mode::Remove, 1)] {
            let mut logs = Logs::new(queue.clone(), mode);
            while !logs.slice(&mut store, &mut Short).unwrap() {}
            assert_eq!((logs.tally().jobs, logs.tally().bytes > 0), (3, true));
            assert_eq!(store.0.keys().filter(|key| key.ends_with(b":logs")).count(), left);
            assert!(mode == Mode::Remove || store == before);
        }
        assert!(store.0.contains_key(&b"bull:q:4:logs"[..]));
        assert_eq!(store.len(b"bull:q:completed"), 2);
    }
}

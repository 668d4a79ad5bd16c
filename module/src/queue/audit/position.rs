//! Where a walk is in a list that moves beneath it: clients push at its ends, and take ids out anywhere, before the walk's
//! place too. So the place is kept by the ids that were read last, not by an index alone. Only reads.

use std::collections::VecDeque;

use super::seen::Listed;
use crate::queue::error::Result;
use crate::queue::walk::Walk;

/// Ids before the place that are remembered.
const RECENT: usize = 32;
/// Elements to either side of the place among which they are looked for where they moved.
const WINDOW: u64 = 512;

/// A place in a list: all ids before it were read.
#[derive(Debug)]
pub struct Position {
    pub list: Listed,
    pub index: u64,
    /// The ids before it, the nearest last.
    recent: VecDeque<Vec<u8>>,
}

/// What the list did since the ids before the place were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The place is still right, or was found again.
    Known,
    /// It cannot be told which ids have been read: some may be passed over.
    Lost,
}

impl Position {
    pub fn start(list: Listed) -> Self {
        Self { list, index: 0, recent: VecDeque::new() }
    }

    /// The id at the place was read and stays.
    pub fn pass(&mut self, id: Vec<u8>) {
        self.index += 1;
        self.remember(id);
    }

    /// The id at the place was read, and one before it went.
    pub fn pass_moved(&mut self, id: Vec<u8>) {
        self.remember(id);
    }

    fn remember(&mut self, id: Vec<u8>) {
        self.recent.push_back(id);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// The next ids, at most so many, from where the walk is now.
    pub fn read(&mut self, store: &impl Walk, key: &[u8], most: u64) -> Result<(Vec<Vec<u8>>, Since)> {
        let Some(last) = self.recent.back() else {
            return Ok((range(store, key, self.index, most)?, Since::Known));
        };
        let mut ids = range(store, key, self.index.saturating_sub(1), most + 1)?;
        if ids.first() == Some(last) {
            ids.remove(0);
            return Ok((ids, Since::Known));
        }
        let since = self.find(store, key)?;
        Ok((range(store, key, self.index, most)?, since))
    }

    /// Looks for the ids that were read last, the nearest one first.
    fn find(&mut self, store: &impl Walk, key: &[u8]) -> Result<Since> {
        let from = self.index.saturating_sub(WINDOW);
        let near = range(store, key, from, 2 * WINDOW)?;
        while let Some(id) = self.recent.back() {
            let mut places = (0..near.len()).filter(|&at| near[at] == *id);
            if let Some(at) = places.next() {
                // The first of several reads some ids again, and passes none over.
                self.index = from + at as u64 + 1;
                return Ok(Since::Known);
            }
            self.recent.pop_back();
        }
        Ok(Since::Lost)
    }
}

fn range(store: &impl Walk, key: &[u8], from: u64, count: u64) -> Result<Vec<Vec<u8>>> {
    Ok(store.lrange(key, from as i64, (from + count - 1) as i64)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fake::Fake;
    use crate::queue::store::{End, Store};

    const KEY: &[u8] = b"l";

    fn list(count: u32) -> Fake {
        let mut store = Fake::default();
        for id in 0..count {
            store.push(KEY, End::Right, id.to_string().as_bytes()).unwrap();
        }
        store
    }

    /// Reads ten ids of `store`.
    fn ten(store: &Fake) -> Position {
        let mut position = Position::start(Listed::Wait);
        let (ids, since) = position.read(store, KEY, 10).unwrap();
        assert_eq!((ids.len(), since), (10, Since::Known));
        ids.into_iter().for_each(|id| position.pass(id));
        position
    }

    fn next(position: &mut Position, store: &Fake) -> (Option<String>, Since) {
        let (ids, since) = position.read(store, KEY, 3).unwrap();
        (ids.first().map(|id| String::from_utf8_lossy(id).into_owned()), since)
    }

    #[test]
    fn pushes_and_removals_before_the_place_pass_nothing_over() {
        let mut store = list(100);
        let mut position = ten(&store);
        assert_eq!(next(&mut position, &store), (Some("10".into()), Since::Known));
        for id in ["2", "5", "9"] {
            store.lrem(KEY, 0, id.as_bytes()).unwrap();
        }
        assert_eq!(next(&mut position, &store), (Some("10".into()), Since::Known));
        for _ in 0..200 {
            store.push(KEY, End::Left, b"new").unwrap();
        }
        assert_eq!(next(&mut position, &store), (Some("10".into()), Since::Known));
        store.lrem(KEY, 0, b"10").unwrap();
        assert_eq!(next(&mut position, &store), (Some("11".into()), Since::Known));
    }

    #[test]
    fn a_list_that_went_or_changed_altogether_is_not_taken_for_read() {
        let store = list(100);
        let mut position = ten(&store);
        assert_eq!(next(&mut position, &Fake::default()), (None, Since::Lost));
        let mut position = ten(&store);
        let mut other = Fake::default();
        (0..50).for_each(|_| other.push(KEY, End::Left, b"x").unwrap());
        assert_eq!(next(&mut position, &other), (Some("x".into()), Since::Lost));
    }

    #[test]
    fn the_end_of_a_list_is_no_loss() {
        let store = list(10);
        let mut position = ten(&store);
        assert_eq!(next(&mut position, &store), (None, Since::Known));
    }
}

//! Places in a set or a list that others change between slices. Reads only.

use super::super::error::Result;
use super::super::store::Store;

/// A place in a sorted set: behind the last member that stays.
#[derive(Clone, Debug, Default)]
pub(super) struct SetWalk(Option<(f64, Vec<u8>)>);

impl SetWalk {
    /// The member stays: the walk goes on behind it.
    pub fn pass(&mut self, store: &impl Store, set: &[u8], id: Vec<u8>) {
        if let Some(score) = store.zscore(set, &id) {
            self.0 = Some((score, id));
        }
    }

    /// How many members stand before the place now, whatever came or went there.
    pub fn place(&self, store: &impl Store, set: &[u8]) -> Result<u64> {
        const STEP: u64 = 64;
        let Some((score, id)) = &self.0 else { return Ok(0) };
        if store.zscore(set, id) == Some(*score)
            && let Some(rank) = store.zrank(set, id)?
        {
            return Ok(rank + 1);
        }
        // It went. Members of one score stand by their bytes.
        let mut place = store.zcount(set, f64::NEG_INFINITY, score.next_down())?;
        loop {
            let next = store.zrange(set, place, STEP)?;
            let passed = next.iter().take_while(|one| *one <= id && store.zscore(set, one) == Some(*score)).count();
            place += passed as u64;
            if (passed as u64) < STEP {
                return Ok(place);
            }
        }
    }
}

/// Jobs at the right end of a list that the walk passes at most: further to the left they are younger, but for those
/// that a long stretch of LIFO jobs or released parents hides.
const LOOK_PAST: u64 = 10_000;
/// How far from where it was the last passed job is looked for.
const DRIFT: u64 = 256;
/// How often the walk begins again where that job is not found.
const RESTARTS: u32 = 8;

/// A walk through a list from its right end to the left.
#[derive(Clone, Debug, Default)]
pub(super) struct TailWalk {
    /// Jobs from the right end on that stay.
    passed: u64,
    /// The last of them.
    last: Option<Vec<u8>>,
    restarts: u32,
}

impl TailWalk {
    /// The job stays: the walk goes on to the left of it.
    pub fn pass(&mut self, id: Vec<u8>) {
        self.passed += 1;
        self.last = Some(id);
    }

    /// The next `count` jobs, the rightmost first; none at the end of the walk.
    pub fn next(&mut self, store: &impl Store, list: &[u8], count: u64) -> Result<Vec<Vec<u8>>> {
        self.find_place(store, list)?;
        if self.passed >= LOOK_PAST || self.restarts > RESTARTS {
            return Ok(Vec::new());
        }
        let mut ids = window(store, list, self.passed + 1, self.passed + count)?;
        ids.reverse();
        Ok(ids)
    }

    /// Jobs that the walk has not reached.
    pub fn unseen(&self, store: &impl Store, list: &[u8]) -> u64 {
        store.len(list).saturating_sub(self.passed)
    }

    /// Workers take from the right end, and jobs come in there too, so the place moves between slices.
    fn find_place(&mut self, store: &impl Store, list: &[u8]) -> Result<()> {
        let Some(last) = &self.last else { return Ok(()) };
        if store.lindex(list, -(self.passed as i64))?.as_ref() == Some(last) {
            return Ok(());
        }
        let (near, far) = (self.passed.saturating_sub(DRIFT).max(1), self.passed + DRIFT);
        let ids = window(store, list, near, far)?;
        match ids.iter().rev().position(|id| id == last) {
            Some(at) => self.passed = near + at as u64,
            None => *self = Self { restarts: self.restarts + 1, ..Self::default() },
        }
        Ok(())
    }
}

/// The `near`th to the `far`th job from the right end, counted from 1, the leftmost first.
fn window(store: &impl Store, list: &[u8], near: u64, far: u64) -> Result<Vec<Vec<u8>>> {
    let length = store.len(list);
    if near > length {
        return Ok(Vec::new());
    }
    Ok(store.lrange(list, -(far.min(length) as i64), -(near as i64))?)
}

//! The walk through the states of a queue: first the lists, then the sorted sets. Who is in two of them, and who is in one
//! without being a job.

use super::*;

/// Ids of a list judged between two looks at the clock.
const BATCH: u64 = 32;
/// Ids met twice in a list that turned out to be there once, after which the list is too restless to ask again.
const MOST_FALSE_DOUBLES: u32 = 64;

impl Audit {
    pub(super) fn list_step(&mut self, store: &mut impl Walk, list: Listed, index: u64) -> Result<Stage> {
        let key = list_key(list, &self.keys).to_vec();
        let ids = match expect(store, &key, Kind::List)? {
            true => store.lrange(&key, index as i64, (index + BATCH - 1) as i64)?,
            false => Vec::new(),
        };
        if ids.is_empty() {
            self.false_doubles = 0;
            return Ok(match list {
                Listed::Active => Stage::List { list: Listed::Paused, index: 0 },
                Listed::Paused => Stage::List { list: Listed::Wait, index: 0 },
                Listed::Wait => {
                    self.tide = Tide::read(store, &self.keys)?;
                    Stage::Scored { at: 0, cursor: None }
                }
            });
        }
        let mut at = index;
        for id in ids {
            // Where ids went, those behind them moved: read again from here.
            if !is_marker(&id) && self.judge_listed(store, list, &id, at)? == Mended::Yes {
                return Ok(Stage::List { list, index: at });
            }
            at += 1;
            if self.is_full() {
                break;
            }
        }
        Ok(Stage::List { list, index: at })
    }

    fn judge_listed(&mut self, store: &mut impl Walk, list: Listed, id: &[u8], at: u64) -> Result<Mended> {
        self.tally.examined += 1;
        let key = list_key(list, &self.keys).to_vec();
        if self.seen.meet(list, id) && self.false_doubles < MOST_FALSE_DOUBLES {
            // Twice in the list, or once and moved since. What is before this place tells.
            if store.list_holds(&key, id, Reach::First(at))? {
                let mended = self.mend(|_| store.lrem(&key, 1, id).map(|_| Mended::Yes).map_err(Into::into))?;
                self.found(Fault::TwoStates, &self.queue.key(id), mended);
                return Ok(mended);
            }
            self.false_doubles += 1;
        }
        let job = self.queue.key(id);
        match shape(store, &job)? {
            Shape::Other => Ok(Mended::No),
            shape @ (Shape::Missing | Shape::Ghost) => {
                let mended = self.mend(|audit| audit.drop_empty(store, &key, id))?;
                let fault = if shape == Shape::Missing { Fault::Dangling } else { Fault::Ghost };
                self.found(fault, &job, mended);
                Ok(mended)
            }
            Shape::Job => {
                let mut also: Vec<Listed> = Vec::new();
                for other in Listed::ALL.into_iter().take_while(|other| *other != list) {
                    let key = list_key(other, &self.keys);
                    if self.seen.met_in(other, id) && store.list_holds(key, id, Reach::Whole)? {
                        also.push(other);
                    }
                }
                let sets = scored(store, &self.keys, id, &Scored::ALL);
                if also.is_empty() && sets.is_empty() {
                    return Ok(Mended::No);
                }
                also.push(list);
                let mended = self.mend(|audit| audit.settle(store, id, &also, &sets))?;
                self.found(Fault::TwoStates, &job, mended);
                Ok(mended)
            }
        }
    }

    pub(super) fn scored_step(&mut self, store: &mut impl Walk, at: usize, cursor: Option<Vec<u8>>) -> Result<Stage> {
        let Some(&set) = Scored::ALL.get(at) else {
            return Ok(Stage::Parents { cursor: None, last: false, pending: VecDeque::new() });
        };
        let key = set.key(&self.keys).to_vec();
        if !expect(store, &key, Kind::ZSet)? {
            return Ok(Stage::Scored { at: at + 1, cursor: None });
        }
        let page = store.members(&key, Group::ZSet, cursor.as_deref())?;
        for id in page.items {
            if self.is_full() {
                break;
            }
            self.tally.examined += 1;
            // A page of a live set may hold what an earlier repair of this page took.
            if store.zscore(&key, &id).is_none() {
                continue;
            }
            let job = self.queue.key(&id);
            match shape(store, &job)? {
                Shape::Other => {}
                shape @ (Shape::Missing | Shape::Ghost) => {
                    let mended = self.mend(|audit| audit.drop_empty(store, &key, &id))?;
                    self.found(if shape == Shape::Missing { Fault::Dangling } else { Fault::Ghost }, &job, mended);
                }
                Shape::Job => {
                    let mut sets = scored(store, &self.keys, &id, &Scored::ALL[at + 1..]);
                    if !sets.is_empty() {
                        sets.push(set);
                        let mended = self.mend(|audit| audit.settle(store, &id, &[], &sets))?;
                        self.found(Fault::TwoStates, &job, mended);
                    }
                }
            }
        }
        Ok(match page.next {
            None => Stage::Scored { at: at + 1, cursor: None },
            cursor => Stage::Scored { at, cursor },
        })
    }
}

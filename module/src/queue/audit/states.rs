//! The walk through the states of a queue: first the lists, then the sorted sets. Who is in two of them, and who is in one
//! without being a job.

use super::*;

/// Ids of a list judged between two looks at the clock.
const BATCH: u64 = 32;
/// Ids met twice in a list that turned out to be there once, after which the list is too restless to ask again.
const MOST_FALSE_DOUBLES: u32 = 64;

/// What judging an id of a list did to the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    No,
    /// The id left its place.
    Here,
    /// An id before it went.
    Before,
}

impl Audit {
    pub(super) fn list_step(
        &mut self,
        store: &mut impl Walk,
        mut position: Position,
        around: &mut impl Around,
    ) -> Result<Stage> {
        let list = position.list;
        let key = list_key(list, &self.keys).to_vec();
        let (ids, since) = match expect(store, &key, Kind::List)? {
            true => position.read(store, &key, BATCH)?,
            // A list that went while it was walked was emptied or renamed.
            false if position.index > 0 => (Vec::new(), Since::Lost),
            false => (Vec::new(), Since::Known),
        };
        if since == Since::Lost {
            self.seen.lost_its_place();
        }
        if ids.is_empty() {
            self.false_doubles = 0;
            return Ok(match list {
                Listed::Active => Stage::List(Position::start(Listed::Paused)),
                Listed::Paused => Stage::List(Position::start(Listed::Wait)),
                Listed::Wait => {
                    self.tide = Tide::read(store, &self.keys)?;
                    Stage::Scored { at: 0, cursor: None }
                }
            });
        }
        for id in ids {
            let moved = match is_marker(&id) {
                true => Moved::No,
                false => self.judge_listed(store, list, &id, position.index)?,
            };
            // Where ids went, those behind them moved: read again from here.
            match moved {
                Moved::No => position.pass(id),
                Moved::Before => {
                    position.pass_moved(id);
                    break;
                }
                Moved::Here => break,
            }
            if self.is_full() || around.expired() {
                break;
            }
        }
        Ok(Stage::List(position))
    }

    /// Twice in the list, or once and moved since: what is before this place tells.
    fn is_before(&mut self, store: &impl Walk, key: &[u8], id: &[u8], at: u64) -> Result<bool> {
        if at > LONGEST {
            self.tally.unsure += 1;
            return Ok(false);
        }
        let before = store.list_holds(key, id, Reach::First(at))?;
        self.false_doubles += u32::from(!before);
        Ok(before)
    }

    fn judge_listed(&mut self, store: &mut impl Walk, list: Listed, id: &[u8], at: u64) -> Result<Moved> {
        self.tally.examined += 1;
        let key = list_key(list, &self.keys).to_vec();
        if self.seen.meet(list, id) && self.false_doubles < MOST_FALSE_DOUBLES && self.is_before(store, &key, id, at)? {
            let mended = self.mend(|_| store.lrem(&key, 1, id).map(|_| Mended::Yes).map_err(Into::into))?;
            self.found(Fault::TwoStates, &self.queue.key(id), mended);
            return Ok(if mended == Mended::Yes { Moved::Before } else { Moved::No });
        }
        let job = self.queue.key(id);
        let mended = match shape(store, &job)? {
            Shape::Other => Mended::No,
            shape @ (Shape::Missing | Shape::Ghost) => {
                let mended = self.mend(|audit| audit.drop_empty(store, &key, id))?;
                let fault = if shape == Shape::Missing { Fault::Dangling } else { Fault::Ghost };
                self.found(fault, &job, mended);
                mended
            }
            Shape::Job => self.judge_job(store, list, id)?,
        };
        // It may have been taken out of another state.
        let stays = || store.lrange(&key, at as i64, at as i64).map(|ids| ids.first().is_some_and(|first| first == id));
        Ok(if mended == Mended::No || stays()? { Moved::No } else { Moved::Here })
    }

    /// A job of a list that is in another state too.
    fn judge_job(&mut self, store: &mut impl Walk, list: Listed, id: &[u8]) -> Result<Mended> {
        let mut also: Vec<Listed> = Vec::new();
        for other in Listed::ALL.into_iter().take_while(|other| *other != list) {
            let key = list_key(other, &self.keys);
            if !self.seen.met_in(other, id) {
                continue;
            }
            if store.len(key) > LONGEST {
                self.tally.unsure += 1;
            } else if store.list_holds(key, id, Reach::Whole)? {
                also.push(other);
            }
        }
        let sets = scored(store, &self.keys, id, &Scored::ALL);
        if also.is_empty() && sets.is_empty() {
            return Ok(Mended::No);
        }
        also.push(list);
        let mended = self.mend(|audit| audit.settle(store, id, &also, &sets))?;
        self.found(Fault::TwoStates, &self.queue.key(id), mended);
        Ok(mended)
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

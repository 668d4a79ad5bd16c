//! The check of a queue's structure, in slices, beside its clients; and the repair of what is broken.
//!
//! A walk goes through the lists, the sorted sets, the waiting parents and all keys of the queue. What it suspects it
//! looks at again before the slice ends, all at one moment, so that a job on its way from one state to another is never
//! a finding. What may be absent for a moment in a sound queue, a marker or the children of a parent that is being
//! added, is a finding only if it is absent each time in [`LOOKS`] looks.
//!
//! It never removes a job that has not finished, a locked one, or a key whose meaning it does not know.

mod judge;
mod repair;
mod seen;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use self::judge::{Place, Scored, Shape, Tide, is_locked, is_marker, list_key, may_be_anothers, place, scored, shape};
use self::seen::{Listed, Seen};
use super::check::{Meta, counter, expect};
use super::error::Result;
use super::fields::{Known, Word};
use super::job::QueueKeys;
use super::keys::{QueueName, slot, sub_key};
use super::number::Style;
use super::parent::Parent;
use super::store::{End, Kind, Store, Ttl};
use super::trim::Around;
use super::walk::{Group, Reach, Walk};
use crate::text::short;

/// Ids of a list judged between two looks at the clock.
const BATCH: u64 = 32;
/// Looks at what may be absent for a moment, and the time between them, milliseconds.
const LOOKS: u32 = 6;
const BETWEEN_MS: u64 = 500;
/// Most suspects that wait for another look.
const MOST_SUSPECTS: usize = 4096;
/// Ids met twice in a list that turned out to be there once, after which the list is too restless to ask again.
const MOST_FALSE_DOUBLES: u32 = 64;
/// Findings told by name.
const NAMED: usize = 20;
/// Active jobs looked through for the owner of a deduplication.
const MOST_ACTIVE: u64 = 256;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Find,
    Repair,
}

/// Which keys this node can judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// In a cluster: those in the queue's own slot.
    OwnSlot,
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

    pub fn found(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What a slice leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    More,
    /// Nothing to do before this time, milliseconds.
    Later(u64),
    Done,
}

/// Whether a repair was done, and whether ids of the walked list moved by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mended {
    Yes,
    No,
}

#[derive(Debug)]
enum Stage {
    List {
        list: Listed,
        index: u64,
    },
    Scored {
        /// Position in [`Scored::ALL`].
        at: usize,
        cursor: Option<Vec<u8>>,
    },
    Parents {
        cursor: Option<Vec<u8>>,
        /// The last page of parents was read.
        last: bool,
        pending: VecDeque<Vec<u8>>,
    },
    Children {
        parent: Vec<u8>,
        cursor: Option<Vec<u8>>,
        stuck: bool,
        /// The stage to go back to.
        parents: Box<Stage>,
    },
    Keys {
        cursor: Option<Vec<u8>>,
    },
    Again {
        look: u32,
        due: u64,
    },
    Done,
}

/// What is looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Suspect {
    /// No marker though this job is next in line.
    Marker { next: Vec<u8> },
    /// A parent that waits for no child.
    Parent { id: Vec<u8> },
}

/// A check under way.
#[derive(Debug)]
pub struct Audit {
    queue: QueueName,
    keys: QueueKeys,
    mode: Mode,
    scope: Scope,
    /// Findings after which it stops; None for all.
    limit: Option<u64>,
    style: Style,
    stage: Stage,
    seen: Seen,
    tide: Tide,
    false_doubles: u32,
    suspects: Vec<Suspect>,
    pub tally: Tally,
}

impl Audit {
    /// Errors: a key of the queue holds a wrong type.
    pub fn new(
        store: &impl Walk,
        queue: QueueName,
        mode: Mode,
        scope: Scope,
        limit: Option<u64>,
        style: Style,
    ) -> Result<Self> {
        let keys = QueueKeys::of(&queue);
        for (key, kind) in [
            (&keys.wait, Kind::List),
            (&keys.paused, Kind::List),
            (&keys.active, Kind::List),
            (&keys.prioritized, Kind::ZSet),
            (&keys.delayed, Kind::ZSet),
            (&keys.waiting_children, Kind::ZSet),
            (&keys.completed, Kind::ZSet),
            (&keys.failed, Kind::ZSet),
            (&keys.marker, Kind::ZSet),
            (&keys.repeat, Kind::ZSet),
            (&keys.events, Kind::Stream),
            (&keys.id, Kind::String),
        ] {
            expect(store, key, kind)?;
        }
        counter(store, &keys.pc)?;
        Meta::read(store, &keys)?;
        let tide = Tide::read(store, &keys)?;
        let stage = Stage::List { list: Listed::ALL[0], index: 0 };
        let (seen, suspects, tally) = (Seen::default(), Vec::new(), Tally::default());
        Ok(Self { queue, keys, mode, scope, limit, style, stage, seen, tide, false_doubles: 0, suspects, tally })
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.tally.found() >= limit)
    }

    /// Works until `around` says the slice is over, asked after each step.
    pub fn slice(&mut self, store: &mut impl Walk, now_ms: u64, around: &mut impl Around) -> Result<Step> {
        loop {
            match &self.stage {
                Stage::Done => return Ok(Step::Done),
                _ if self.is_full() => return Ok(Step::Done),
                Stage::Again { due, .. } if now_ms < *due => return Ok(Step::Later(*due)),
                _ => self.step(store, now_ms, around)?,
            }
            if around.expired() {
                return Ok(if self.is_done() || self.is_full() { Step::Done } else { Step::More });
            }
        }
    }

    fn step(&mut self, store: &mut impl Walk, now_ms: u64, around: &mut impl Around) -> Result<()> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::List { list, index } => self.list_step(store, list, index)?,
            Stage::Scored { at, cursor } => self.scored_step(store, at, cursor)?,
            Stage::Parents { cursor, last, pending } => self.parents_step(store, cursor, last, pending)?,
            Stage::Children { parent, cursor, stuck, parents } => {
                self.children_step(store, parent, cursor, stuck, parents, now_ms)?
            }
            Stage::Keys { cursor } => self.keys_step(store, cursor, now_ms, around)?,
            Stage::Again { look, .. } => self.look_again(store, look, now_ms)?,
            Stage::Done => Stage::Done,
        };
        Ok(())
    }

    fn found(&mut self, fault: Fault, name: &[u8], mended: Mended) {
        self.tally.counts[fault as usize] += 1;
        self.tally.repaired += u64::from(mended == Mended::Yes);
        if self.tally.named.len() < NAMED {
            self.tally.named.push(format!("{} {}", fault.plural(), short(name, 128)));
        }
    }

    // --- the lists -------------------------------------------------------------------------------------------------

    fn list_step(&mut self, store: &mut impl Walk, list: Listed, index: u64) -> Result<Stage> {
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

    /// Does a repair where repairs are asked for.
    fn mend(&mut self, repair: impl FnOnce(&mut Self) -> Result<Mended>) -> Result<Mended> {
        match self.mode {
            Mode::Find => Ok(Mended::No),
            Mode::Repair => repair(self),
        }
    }

    // --- the sorted sets -------------------------------------------------------------------------------------------

    fn scored_step(&mut self, store: &mut impl Walk, at: usize, cursor: Option<Vec<u8>>) -> Result<Stage> {
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

    // --- the parents -----------------------------------------------------------------------------------------------

    fn parents_step(
        &mut self,
        store: &mut impl Walk,
        cursor: Option<Vec<u8>>,
        last: bool,
        mut pending: VecDeque<Vec<u8>>,
    ) -> Result<Stage> {
        if let Some(parent) = pending.pop_front() {
            let parents = Box::new(Stage::Parents { cursor, last, pending });
            return Ok(Stage::Children { parent, cursor: None, stuck: false, parents });
        }
        if last || !expect(store, &self.keys.waiting_children, Kind::ZSet)? {
            return Ok(Stage::Keys { cursor: None });
        }
        let page = store.members(&self.keys.waiting_children, Group::ZSet, cursor.as_deref())?;
        Ok(Stage::Parents { last: page.next.is_none(), cursor: page.next, pending: page.items.into() })
    }

    fn parent(&self, id: &[u8]) -> Parent {
        Parent { key: self.queue.key(id), id: id.to_vec(), base: self.queue.key("") }
    }

    /// The parent waits, and its hash is there.
    fn waits(&self, store: &impl Walk, id: &[u8]) -> bool {
        store.zscore(&self.keys.waiting_children, id).is_some() && store.kind(&self.queue.key(id)) == Kind::Hash
    }

    fn children_step(
        &mut self,
        store: &mut impl Walk,
        id: Vec<u8>,
        cursor: Option<Vec<u8>>,
        mut stuck: bool,
        parents: Box<Stage>,
        now_ms: u64,
    ) -> Result<Stage> {
        let parent = self.parent(&id);
        let dependencies = parent.dependencies();
        if !self.waits(store, &id) {
            return Ok(*parents);
        }
        match store.kind(&dependencies) {
            Kind::Set => {}
            Kind::None if self.suspects.len() < MOST_SUSPECTS => {
                self.suspects.push(Suspect::Parent { id });
                return Ok(*parents);
            }
            _ => {
                self.tally.unsure += 1;
                return Ok(*parents);
            }
        }
        let page = store.members(&dependencies, Group::Set, cursor.as_deref())?;
        for child in &page.items {
            self.tally.examined += 1;
            let judged = self.scope == Scope::Everything || slot(child) == self.queue.slot();
            if !judged || store.kind(child) != Kind::None {
                continue;
            }
            let mended = self.mend(|_| match parent.check(store) {
                Ok(()) => {
                    store.srem(&dependencies, child)?;
                    Ok(Mended::Yes)
                }
                Err(_) => Ok(Mended::No),
            })?;
            if !std::mem::replace(&mut stuck, true) {
                self.found(Fault::StuckParent, &parent.key, mended);
            }
        }
        if stuck && self.mode == Mode::Repair && parent.check(store).is_ok() {
            parent.release_if_free(store, now_ms as f64)?;
        }
        Ok(match page.next {
            None => *parents,
            cursor => Stage::Children { parent: id, cursor, stuck, parents },
        })
    }

    // --- all keys --------------------------------------------------------------------------------------------------

    fn keys_step(
        &mut self,
        store: &mut impl Walk,
        cursor: Option<Vec<u8>>,
        now_ms: u64,
        around: &mut impl Around,
    ) -> Result<Stage> {
        let base = self.queue.key("");
        let page = store.keys(&base, cursor.as_deref())?;
        for key in page.items {
            if let Some(rest) = key.strip_prefix(&base[..]).filter(|rest| !rest.is_empty())
                && !self.is_full()
            {
                self.judge_key(store, &key, rest, now_ms, around)?;
            }
        }
        if page.next.is_some() {
            return Ok(Stage::Keys { cursor: page.next });
        }
        if let Some(next) = self.without_marker(store)? {
            self.suspects.push(Suspect::Marker { next });
        }
        // The fingerprints are no longer needed.
        self.seen = Seen::default();
        Ok(if self.suspects.is_empty() { Stage::Done } else { Stage::Again { look: 1, due: now_ms + BETWEEN_MS } })
    }

    fn judge_key(
        &mut self,
        store: &mut impl Walk,
        key: &[u8],
        rest: &[u8],
        now_ms: u64,
        around: &mut impl Around,
    ) -> Result<()> {
        self.tally.examined += 1;
        if is_own(rest) {
            return Ok(());
        }
        let part = |suffixes: &[&str]| suffixes.iter().find_map(|suffix| rest.strip_suffix(suffix.as_bytes()));
        let part_of = match store.kind(key) {
            Kind::String => return self.judge_dedup(store, key, rest),
            Kind::List => part(&[":logs"]),
            Kind::Set => part(&[":dependencies"]),
            Kind::ZSet => part(&[":unsuccessful"]),
            Kind::Hash => match shape(store, key)? {
                Shape::Job => return self.judge_hash(store, rest, Fault::OrphanHash, now_ms, around),
                _ if rest.starts_with(b"dn:") => return self.judge_next(store, key, rest),
                shape => match part(&[":processed", ":failed"]) {
                    None if shape == Shape::Ghost => return self.judge_hash(store, rest, Fault::Ghost, now_ms, around),
                    part => part,
                },
            },
            _ => None,
        };
        if let Some(owner) = part_of
            && store.kind(&self.queue.key(owner)) == Kind::None
            && !may_be_anothers(store, &self.queue, rest)?
        {
            let mended = self.mend(|_| Ok(if store.del(&[key])? > 0 { Mended::Yes } else { Mended::No }))?;
            self.found(Fault::OrphanPart, key, mended);
        }
        Ok(())
    }

    fn judge_hash(
        &mut self,
        store: &mut impl Walk,
        id: &[u8],
        fault: Fault,
        now_ms: u64,
        around: &mut impl Around,
    ) -> Result<()> {
        match place(store, &self.keys, &self.seen, self.tide, id)? {
            Place::Somewhere => {}
            Place::Unsure => self.tally.unsure += 1,
            Place::Nowhere if may_be_anothers(store, &self.queue, id)? => {}
            Place::Nowhere => {
                let mended = self.mend(|audit| match fault {
                    Fault::Ghost => audit.drop_ghost(store, id),
                    _ => audit.place_orphan(store, id, now_ms, around),
                })?;
                self.found(fault, &self.queue.key(id), mended);
            }
        }
        Ok(())
    }

    /// `de:<id>` without an end whose owner is gone: it swallows every add (BullMQ up to 6.3).
    fn judge_dedup(&mut self, store: &mut impl Walk, key: &[u8], rest: &[u8]) -> Result<()> {
        let Some(rule) = rest.strip_prefix(b"de:") else { return Ok(()) };
        if store.ttl(key) != Ttl::Never {
            return Ok(());
        }
        let Some(owner) = store.get(key)? else { return Ok(()) };
        if store.kind(&self.queue.key(&owner)) != Kind::None || may_be_anothers(store, &self.queue, rest)? {
            return Ok(());
        }
        let next = self.queue.key([b"dn:", rule].concat());
        let mended = self.mend(|_| Ok(if store.del(&[key, &next])? > 0 { Mended::Yes } else { Mended::No }))?;
        self.found(Fault::StaleDedup, key, mended);
        Ok(())
    }

    /// `dn:<id>` that nothing will consume: no `de:<id>`, and no active job with this rule.
    fn judge_next(&mut self, store: &mut impl Walk, key: &[u8], rest: &[u8]) -> Result<()> {
        let rule = &rest[b"dn:".len()..];
        if store.kind(&self.queue.key([b"de:", rule].concat())) != Kind::None
            || may_be_anothers(store, &self.queue, rest)?
        {
            return Ok(());
        }
        if store.len(&self.keys.active) > MOST_ACTIVE {
            self.tally.unsure += 1;
            return Ok(());
        }
        for id in store.lrange(&self.keys.active, 0, -1)? {
            if store.hget(&self.queue.key(&id), Known::Deid.into()).as_deref() == Some(rule) {
                return Ok(());
            }
        }
        let mended = self.mend(|_| Ok(if store.del(&[key])? > 0 { Mended::Yes } else { Mended::No }))?;
        self.found(Fault::StaleDedup, key, mended);
        Ok(())
    }

    // --- what may be absent for a moment ---------------------------------------------------------------------------

    /// The job next in line, where no marker tells workers of it though it should.
    ///
    /// A worker takes the marker before it takes a job, and a rate limit leaves it out. BullMQ 4 has none.
    fn without_marker(&self, store: &impl Walk) -> Result<Option<Vec<u8>>> {
        if store.kind(&self.keys.marker) != Kind::None && !expect(store, &self.keys.marker, Kind::ZSet)?
            || store.zscore(&self.keys.marker, b"0").is_some()
            || store.kind(&self.queue.key("limiter")) != Kind::None
            || self.is_of_v4(store)
            || Meta::read(store, &self.keys)?.hold
        {
            return Ok(None);
        }
        if expect(store, &self.keys.wait, Kind::List)? {
            let last = store.lrange(&self.keys.wait, -2, -1)?;
            if let Some(id) = last.into_iter().rev().find(|id| !is_marker(id)) {
                return Ok(Some(id));
            }
        }
        if expect(store, &self.keys.prioritized, Kind::ZSet)? {
            let first = store.zrange(&self.keys.prioritized, 0, 1)?;
            return Ok(first.into_iter().next());
        }
        Ok(None)
    }

    /// The last client to connect was of BullMQ 4 or older, which keeps no markers.
    fn is_of_v4(&self, store: &impl Store) -> bool {
        let version = store.hget(&self.keys.meta, Word::from("version")).unwrap_or_default();
        let major = version.strip_prefix(b"bullmq:").and_then(|rest| rest.split(|&byte| byte == b'.').next());
        major.and_then(|text| std::str::from_utf8(text).ok()?.parse::<u32>().ok()).is_some_and(|major| major < 5)
    }

    fn look_again(&mut self, store: &mut impl Walk, look: u32, now_ms: u64) -> Result<Stage> {
        let mut still = Vec::new();
        for suspect in std::mem::take(&mut self.suspects) {
            let stays = match &suspect {
                Suspect::Marker { next } => self.without_marker(store)?.as_ref() == Some(next),
                Suspect::Parent { id } => {
                    self.waits(store, id) && store.kind(&self.parent(id).dependencies()) == Kind::None
                }
            };
            if stays {
                still.push(suspect);
            }
        }
        if look < LOOKS && !still.is_empty() {
            self.suspects = still;
            return Ok(Stage::Again { look: look + 1, due: now_ms + BETWEEN_MS });
        }
        for suspect in still {
            match suspect {
                Suspect::Marker { .. } => {
                    let mended = self.mend(|audit| {
                        store.zadd(&audit.keys.marker, 0.0, b"0")?;
                        Ok(Mended::Yes)
                    })?;
                    self.found(Fault::MissingMarker, &self.keys.marker.clone(), mended);
                }
                Suspect::Parent { id } => {
                    let parent = self.parent(&id);
                    let mended = self.mend(|_| {
                        let free = parent.check(store).is_ok() && parent.release_if_free(store, now_ms as f64)?;
                        Ok(if free { Mended::Yes } else { Mended::No })
                    })?;
                    self.found(Fault::StuckParent, &parent.key, mended);
                }
            }
        }
        Ok(Stage::Done)
    }
}

/// Keys of the queue itself.
fn is_own(rest: &[u8]) -> bool {
    const OWN: [&[u8]; 17] = [
        b"wait",
        b"paused",
        b"active",
        b"prioritized",
        b"delayed",
        b"waiting-children",
        b"completed",
        b"failed",
        b"meta",
        b"id",
        b"pc",
        b"marker",
        b"events",
        b"stalled",
        b"stalled-check",
        b"limiter",
        b"repeat",
    ];
    OWN.contains(&rest) || rest.starts_with(b"guard:") || rest.starts_with(b"metrics:")
}

//! The check of a queue's structure, in slices, beside its clients; and the repair of what is broken.
//!
//! A walk goes through the lists, the sorted sets, the waiting parents and all keys of the queue. What it suspects it
//! looks at again before the slice ends, all at one moment, so that a job on its way from one state to another is never
//! a finding. What may be absent for a moment in a sound queue, a marker or the children of a parent that is being
//! added, is a finding only if it is absent each time that it is looked at.
//!
//! It never removes a job that has not finished, a locked one, or a key whose meaning it does not know.

mod absent;
mod findings;
mod judge;
mod keyspace;
mod parents;
mod position;
mod repair;
mod seen;
mod states;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use self::absent::is_due;
pub use self::findings::{Fault, Tally};
use self::judge::{
    LONGEST, Place, Scored, Shape, Tide, is_locked, is_marker, list_key, may_be_anothers, place, scored, shape,
};
use self::position::{Position, Since};
use self::seen::{Listed, Seen};
use super::check::{Meta, counter, expect, expect_types};
use super::error::Result;
use super::fields::{Known, Word};
use super::job::QueueKeys;
use super::keys::{QueueName, slot, sub_key};
use super::number::Style;
use super::parent::Parent;
use super::store::{End, Kind, Store, Ttl};
use super::trim::Around;
use super::walk::{Group, Reach, Walk};

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
    List(Position),
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
        /// The last page of keys was read.
        last: bool,
        pending: VecDeque<Vec<u8>>,
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
        expect_types(store, &keys, 0..QueueKeys::COUNT)?;
        counter(store, &keys.pc)?;
        Meta::read(store, &keys)?;
        let tide = Tide::read(store, &keys)?;
        let stage = Stage::List(Position::start(Listed::ALL[0]));
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
                Stage::Again { due, .. } if !is_due(*due, now_ms) => return Ok(Step::Later(*due)),
                _ => self.step(store, now_ms, around)?,
            }
            if around.expired() {
                return Ok(if self.is_done() || self.is_full() { Step::Done } else { Step::More });
            }
        }
    }

    fn step(&mut self, store: &mut impl Walk, now_ms: u64, around: &mut impl Around) -> Result<()> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::List(position) => self.list_step(store, position, around)?,
            Stage::Scored { at, cursor } => self.scored_step(store, at, cursor)?,
            Stage::Parents { cursor, last, pending } => self.parents_step(store, cursor, last, pending)?,
            Stage::Children { parent, cursor, stuck, parents } => {
                self.children_step(store, parent, cursor, stuck, parents, now_ms)?
            }
            Stage::Keys { cursor, last, pending } => self.keys_step(store, cursor, last, pending, now_ms, around)?,
            Stage::Again { look, .. } => self.look_again(store, look, now_ms)?,
            Stage::Done => Stage::Done,
        };
        Ok(())
    }

    fn found(&mut self, fault: Fault, name: &[u8], mended: Mended) {
        self.tally.add(fault, name, mended);
    }

    /// Does a repair where repairs are asked for.
    fn mend(&mut self, repair: impl FnOnce(&mut Self) -> Result<Mended>) -> Result<Mended> {
        match self.mode {
            Mode::Find => Ok(Mended::No),
            Mode::Repair => repair(self),
        }
    }
}

//! What a key or an id of a queue is, by looking at it once. Only reads.
//!
//! Every answer is about one moment: ask and act without letting another client in between.

use super::seen::{Listed, Met, Seen};
use crate::queue::check::is_meta;
use crate::queue::error::Result;
use crate::queue::fields::Known;
use crate::queue::job::QueueKeys;
use crate::queue::keys::{QueueName, SUB_KEYS, sub_key};
use crate::queue::store::{Kind, Store};
use crate::queue::walk::{Reach, Walk};

/// Elements at either end of a list that are searched for an id that was not met on the way: about 0.3 ms.
const REACH: u64 = 8192;

/// Elements of a list that are searched at most at one moment: about 2.5 ms.
pub const LONGEST: u64 = 65_536;

/// Most fields a ghost can have.
const GHOST_FIELDS: u64 = 20;

/// Fields that BullMQ's scripts write into a job's hash without asking whether it exists (model §2.1), and what a
/// worker adds when it runs such a ghost.
const OF_GHOSTS: [&[u8]; 18] = [
    b"processedOn",
    b"finishedOn",
    b"ats",
    b"atm",
    b"attemptsMade",
    b"stc",
    b"stalledCounter",
    b"delay",
    b"priority",
    b"defa",
    b"pb",
    b"failedReason",
    b"stacktrace",
    b"returnvalue",
    b"progress",
    b"nrjid",
    b"flowAttachmentFailed",
    b"tm",
];

/// What lies under a job's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Missing,
    /// A job as storeJob writes it.
    Job,
    /// What scripts leave when they write to a job that is gone.
    Ghost,
    /// Something else, which is not judged and never touched.
    Other,
}

pub fn shape(store: &impl Walk, key: &[u8]) -> Result<Shape> {
    Ok(match store.kind(key) {
        Kind::None => Shape::Missing,
        Kind::Hash if store.has_fields(key, &[Known::Name, Known::Data, Known::Timestamp]) => Shape::Job,
        Kind::Hash if store.len(key) <= GHOST_FIELDS => {
            let names = store.field_names(key)?;
            let all = !names.is_empty() && names.iter().all(|name| OF_GHOSTS.contains(&name.as_slice()));
            if all { Shape::Ghost } else { Shape::Other }
        }
        _ => Shape::Other,
    })
}

/// The pseudo ids that BullMQ 4 keeps in its lists to wake workers.
pub fn is_marker(id: &[u8]) -> bool {
    id == b"0" || id.starts_with(b"0:")
}

/// A sorted set of a queue that holds ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scored {
    Completed,
    Failed,
    Delayed,
    Prioritized,
    WaitingChildren,
}

impl Scored {
    pub const ALL: [Self; 5] = [Self::Completed, Self::Failed, Self::Delayed, Self::Prioritized, Self::WaitingChildren];

    pub fn key(self, keys: &QueueKeys) -> &[u8] {
        match self {
            Self::Completed => &keys.completed,
            Self::Failed => &keys.failed,
            Self::Delayed => &keys.delayed,
            Self::Prioritized => &keys.prioritized,
            Self::WaitingChildren => &keys.waiting_children,
        }
    }
}

pub fn list_key(list: Listed, keys: &QueueKeys) -> &[u8] {
    match list {
        Listed::Active => &keys.active,
        Listed::Paused => &keys.paused,
        Listed::Wait => &keys.wait,
    }
}

/// The sorted sets among `sets` that hold the id.
pub fn scored(store: &impl Store, keys: &QueueKeys, id: &[u8], sets: &[Scored]) -> Vec<Scored> {
    sets.iter().copied().filter(|set| store.zscore(set.key(keys), id).is_some()).collect()
}

pub fn is_locked(store: &impl Store, job: &[u8]) -> bool {
    store.kind(&sub_key(job, ":lock")) != Kind::None
}

/// Lengths and counter when the lists were walked, to tell how far an id may have moved since.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tide {
    lengths: [u64; 3],
    counter: u64,
}

impl Tide {
    pub fn read(store: &impl Store, keys: &QueueKeys) -> Result<Self> {
        let lengths = Listed::ALL.map(|list| store.len(list_key(list, keys)));
        let counter = match store.kind(&keys.id) {
            Kind::String => store.get(&keys.id)?.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()),
            _ => None,
        };
        Ok(Self { lengths, counter: counter.unwrap_or(0) })
    }

    /// So much came since that an id may lie deeper in a list than a search reaches.
    fn is_high(self, since: Self, list: Listed) -> bool {
        self.lengths[list as usize] > since.lengths[list as usize] + REACH / 2
            || self.counter.saturating_sub(since.counter) > REACH / 2
    }
}

/// Whether an id is in any state of its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Somewhere,
    Nowhere,
    /// The lists are too long and too restless to tell within a slice.
    Unsure,
}

/// Looks an id up after the lists were walked: what the walk met counts as there.
pub fn place(store: &impl Walk, keys: &QueueKeys, seen: &Seen, since: Tide, id: &[u8]) -> Result<Place> {
    if Scored::ALL.iter().any(|set| store.zscore(set.key(keys), id).is_some()) {
        return Ok(Place::Somewhere);
    }
    match seen.met(id) {
        Met::Yes => return Ok(Place::Somewhere),
        Met::Unknown => return Ok(Place::Unsure),
        Met::No => {}
    }
    // It was in no list then. It may have been pushed since, and then it is near an end.
    let now = Tide::read(store, keys)?;
    for list in Listed::ALL {
        let key = list_key(list, keys);
        let length = now.lengths[list as usize];
        if length <= 2 * REACH {
            if length > 0 && store.list_holds(key, id, Reach::Whole)? {
                return Ok(Place::Somewhere);
            }
        } else if store.list_holds(key, id, Reach::First(REACH))? || store.list_holds(key, id, Reach::Last(REACH))? {
            return Ok(Place::Somewhere);
        } else if now.is_high(since, list) || seen.may_have_missed(length, REACH / 2) {
            return Ok(Place::Unsure);
        }
    }
    Ok(Place::Nowhere)
}

/// A key that begins like one of this queue and may be another queue's: `bull:a` and `bull:a:b` share the beginning.
/// `rest` is the key without this queue's base. For a job's own key only; a part of a job goes with its job.
/// Lists of another queue that are too long to search may hold it.
pub fn may_be_anothers(store: &impl Walk, queue: &QueueName, rest: &[u8]) -> Result<bool> {
    let colons = |text: &[u8]| -> Vec<usize> { (0..text.len()).filter(|&at| text[at] == b':').collect() };
    // Of a queue with a longer name.
    for colon in colons(rest) {
        if is_meta(store, &queue.key([&rest[..colon], b":meta"].concat())) {
            return Ok(true);
        }
    }
    // Of a queue with a shorter one: there it is a key with a reserved name, or a job in one of its states.
    let name = queue.as_bytes();
    for colon in colons(name) {
        let Ok(shorter) = QueueName::parse(&name[..colon]) else { continue };
        if !is_meta(store, &shorter.key("meta")) {
            continue;
        }
        let id = [&name[colon + 1..], b":", rest].concat();
        if [&b"repeat:"[..], b"de:", b"dn:", b"metrics:", b"guard:"].iter().any(|own| id.starts_with(own)) {
            return Ok(true);
        }
        let keys = QueueKeys::of(&shorter);
        let owner = SUB_KEYS.iter().find_map(|part| id.strip_suffix(part.as_bytes())).unwrap_or(&id);
        for id in [&id[..], owner] {
            if !scored(store, &keys, id, &Scored::ALL).is_empty() {
                return Ok(true);
            }
            for list in Listed::ALL {
                let key = list_key(list, &keys);
                if store.len(key) > 2 * REACH || store.list_holds(key, id, Reach::Whole)? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

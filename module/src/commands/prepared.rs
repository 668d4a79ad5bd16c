//! What adds ask for again and again: queues that jobs were added to lately, with all their names spelled out, and options
//! that were read lately. Nothing here depends on the keyspace.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use foldhash::fast::RandomState;

use super::queue;
use crate::error::Result;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::opts::{JobOptions, Words};
use crate::redis::Context;
use crate::redis::names::Names;
use crate::redis::string::OwnedString;

/// Queues that are kept; beyond that all are forgotten. Some 2 KB each.
const MAX_QUEUES: usize = 512;

pub struct Prepared {
    pub queue: QueueName,
    pub keys: QueueKeys,
    pub names: Names,
    /// The job with the number 1, for questions about the jobs with numbers.
    pub any_job: OwnedString,
}

/// Options by the text they were read from.
type Read = (Box<[u8]>, Rc<JobOptions>);

thread_local! {
    /// Of the main thread.
    static KEPT: RefCell<HashMap<Box<[u8]>, Rc<Prepared>, RandomState>> = RefCell::default();
    static OPTIONS: RefCell<VecDeque<Read>> = RefCell::default();
}

/// Options that are kept, and the longest text of one, bytes.
const MAX_OPTIONS: usize = 8;
const MAX_TEXT: usize = 512;

/// The options in this text alone, empty for none. Errors: as [`JobOptions::parse`].
pub fn options(text: &[u8]) -> crate::queue::error::Result<Rc<JobOptions>> {
    let known =
        OPTIONS.with_borrow(|kept| kept.iter().find(|(of, _)| **of == *text).map(|(_, options)| Rc::clone(options)));
    if let Some(options) = known {
        return Ok(options);
    }
    let json = Some(text).filter(|text| !text.is_empty());
    let options = Rc::new(JobOptions::parse(json, Words::default())?);
    // Ids are of one job; such a text does not come again.
    let own = options.id.is_some() || options.parent.is_some() || options.deduplication.is_some();
    if text.len() <= MAX_TEXT && !own && options.timestamp.is_none() {
        OPTIONS.with_borrow_mut(|kept| {
            kept.truncate(MAX_OPTIONS - 1);
            kept.push_front((text.into(), Rc::clone(&options)));
        });
    }
    Ok(options)
}

/// The queue of that name. Errors: as [`super::queue`].
pub fn prepared(context: Context, name: &[u8]) -> Result<Rc<Prepared>> {
    if let Some(known) = KEPT.with_borrow(|kept| kept.get(name).cloned()) {
        return Ok(known);
    }
    let queue = queue(context, name)?;
    let keys = QueueKeys::of(&queue);
    let names = Names::of(&keys);
    let any_job = OwnedString::new(&queue.key("1"));
    let fresh = Rc::new(Prepared { queue, keys, names, any_job });
    KEPT.with_borrow_mut(|kept| {
        if kept.len() >= MAX_QUEUES {
            kept.clear();
        }
        kept.insert(name.into(), Rc::clone(&fresh));
    });
    Ok(fresh)
}

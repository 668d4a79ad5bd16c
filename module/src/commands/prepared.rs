//! Queues that jobs were added to lately, with all their names spelled out: a producer names the same few again and again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::queue;
use crate::error::Result;
use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::redis::Context;
use crate::redis::queue_store::Names;

/// Queues that are kept; beyond that all are forgotten. Some 2 KB each.
const MAX_QUEUES: usize = 512;

pub struct Prepared {
    pub queue: QueueName,
    pub keys: QueueKeys,
    pub names: Names,
}

thread_local! {
    /// Of the main thread.
    static KEPT: RefCell<HashMap<Box<[u8]>, Rc<Prepared>>> = RefCell::default();
}

/// The queue of that name. Errors: as [`super::queue`].
pub fn prepared(context: Context, name: &[u8]) -> Result<Rc<Prepared>> {
    if let Some(known) = KEPT.with_borrow(|kept| kept.get(name).cloned()) {
        return Ok(known);
    }
    let queue = queue(context, name)?;
    let keys = QueueKeys::of(&queue);
    let names = Names::of(&keys);
    let fresh = Rc::new(Prepared { queue, keys, names });
    KEPT.with_borrow_mut(|kept| {
        if kept.len() >= MAX_QUEUES {
            kept.clear();
        }
        kept.insert(name.into(), Rc::clone(&fresh));
    });
    Ok(fresh)
}

//! The commands: one file each, `parse → run → reply`, and the table that registers and documents them.

pub mod add;
pub mod check;
pub mod emergency;
pub mod eval;
mod footprint;
mod gate;
pub mod madd;
pub mod metrics;
mod parse;
pub mod policy;
pub mod policy_show;
pub mod policy_trial;
mod prepared;
pub mod profile;
pub mod queues;
pub mod slot;
pub mod stats;
mod table;
pub mod trim;

#[cfg(feature = "fault-injection")]
pub mod fault;

pub use table::commands;

use crate::error::{Error, Result};
use crate::queue::keys::QueueName;
use crate::redis::Context;
use crate::redis::reply::Reply;

/// Turns a handler's result into its reply.
fn answer(result: Result<Option<Reply>>) -> Option<Reply> {
    result.unwrap_or_else(|error| Some(error.into()))
}

/// A queue whose keys all share the slot of its name, in a cluster.
fn queue(context: Context, name: &[u8]) -> Result<QueueName> {
    let queue = QueueName::parse(name)?;
    if context.is_cluster() && queue.hash_tag().is_none() {
        return Err(Error::Queue(crate::queue::error::QueueError::CrossSlot(format!(
            "the keys of queue '{}' would lie in several slots; put a hash tag into its name or prefix, such as {{bull}}:emails",
            queue.display()
        ))));
    }
    Ok(queue)
}

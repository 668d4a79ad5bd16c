//! The limits in force for a queue: its profile, filled up by the node's defaults.

use crate::queue::job::QueueKeys;
use crate::queue::keys::QueueName;
use crate::queue::profile::Limits;
use crate::redis::Context;

/// Limits of a queue in the context's database.
pub fn limits(_context: Context, _queue: &QueueName, _keys: &QueueKeys) -> Limits {
    Limits::default()
}

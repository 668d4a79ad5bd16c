//! What can stop a queue operation, before anything was written.

use super::store::StoreError;

/// Why a queue operation was refused. Nothing was written, but for [`QueueError::Store`] after the first write.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The call itself is wrong; the text says which word and what to do.
    #[error("{0}")]
    Bad(String),
    /// A key of the queue holds another type than BullMQ keeps there.
    #[error("key '{key}' holds a {found}, BullMQ keeps a {expected} there")]
    WrongType { key: String, found: &'static str, expected: &'static str },
    /// BullMQ's -5: the parent does not exist.
    #[error("parent job '{0}' does not exist; add the parent first")]
    MissingParent(String),
    /// BullMQ's -7: the job already has another parent that is alive.
    #[error("job '{0}' already belongs to another parent that exists")]
    OtherParent(String),
    /// A key lies in another slot than the queue's.
    #[error("{0}")]
    CrossSlot(String),
    /// The caller's ACL does not cover a key that has to be touched.
    #[error("no permission for key '{0}', which this command has to touch")]
    NoPermission(String),
    /// The server answered a command with an error.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QueueError {
    pub fn bad(text: impl Into<String>) -> Self {
        Self::Bad(text.into())
    }
}

pub type Result<T> = std::result::Result<T, QueueError>;

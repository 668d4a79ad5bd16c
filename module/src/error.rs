//! Errors as clients see them: one line, a code first, what is wrong and what to do.

use crate::policy::faults::LoadError;
use crate::queue::error::QueueError;
use crate::queue::store::StoreError;
use crate::redis::reply::Reply;

/// Every way a command ends without its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ERR {0}")]
    Bad(String),
    #[error("NOQUEUE no queue '{0}' on this node")]
    NoQueue(String),
    #[error("BULLREJECT {policy} {reason}")]
    Reject { policy: String, reason: String },
    #[error("BULLPOLICY {0}")]
    Policy(String),
    #[error("{}", queue_text(.0))]
    Queue(#[from] QueueError),
}

impl Error {
    pub fn bad(text: impl Into<String>) -> Self {
        Self::Bad(text.into())
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        Self::Policy(error.to_string())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Queue(QueueError::Store(error))
    }
}

impl From<Error> for Reply {
    fn from(error: Error) -> Self {
        Self::Error(error.to_string())
    }
}

fn queue_text(error: &QueueError) -> String {
    let code = match error {
        QueueError::Bad(_) => "ERR",
        QueueError::WrongType { .. } => "WRONGTYPE",
        QueueError::MissingParent(_) => "BULLMISSINGPARENT",
        QueueError::OtherParent(_) => "BULLPARENT",
        QueueError::CrossSlot(_) => "CROSSSLOT",
        QueueError::NoPermission(_) => "NOPERM",
        // The server's own text has its own code.
        QueueError::Store(_) => return error.to_string(),
    };
    format!("{code} {error}")
}

pub type Result<T> = std::result::Result<T, Error>;

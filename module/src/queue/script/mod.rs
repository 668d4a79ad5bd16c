//! BullMQ's add scripts as unmodified clients send them: told apart by shape, read from their own arguments.
//!
//! *shape* needs no allocation and runs for every EVAL and EVALSHA of the server; *read* runs for what has the shape of
//! an add. Neither knows a script's text or digest: those change with every release, the shape does not. Never writes,
//! never changes an argument.

mod msgpack;
pub mod read;
pub mod shape;

pub use read::{Origin, ScriptJob, Stores, read};
pub use shape::{Shape, queue_name, recognise};

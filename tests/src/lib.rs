//! What the tests in `tests/tests` stand on: servers of any engine, a raw client, dumps that can be
//! compared, a latency probe, and hostile policies made to measure.

pub mod adds;
pub mod arrivals;
pub mod checks;
pub mod client;
pub mod clients;
pub mod cluster;
pub mod cores;
pub mod corpus;
pub mod deploy;
pub mod dump;
pub mod engine;
pub mod exposition;
pub mod guests;
pub mod loopback;
pub mod mode;
pub mod pods;
pub mod primary;
pub mod probe;
pub mod producers;
pub mod replay;
pub mod server;
pub mod soak;
pub mod tap;
pub mod wishes;

pub use client::{Client, Reply};
pub use dump::Dump;
pub use server::Server;

use std::path::PathBuf;

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let crate_dir = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().expect("the crate lies in the workspace").to_owned()
}

/// Bytes as one line of printable ASCII, the rest as `\xNN`, cut at 200 characters.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = bytes.escape_ascii().to_string();
    if text.len() > 200 {
        text.truncate(200);
        text.push_str(&format!("… ({} bytes)", bytes.len()));
    }
    text
}

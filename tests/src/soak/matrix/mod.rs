//! Rows of the fault matrix that are not about the death of a server under real clients: disks, clocks, links, roles,
//! databases, children, policies. `tests/tests/fault_matrix.rs` runs each short, `scripts/soak matrix` long.

mod children;
mod clock;
mod databases;
mod disk;
mod links;
mod roles;

pub use children::children;
pub use clock::clock;
pub use databases::{databases, flushes};
pub use disk::disk;
pub use links::links;
pub use roles::roles;

use super::Row;
use crate::client::Client;

/// A scenario: how many times as long as in the tests, and its seed.
pub type Scenario = fn(u64, u64) -> Row;

/// All of them.
pub const ALL: [(&str, Scenario); 7] = [
    ("disk", disk),
    ("clock", clock),
    ("links", links),
    ("roles", roles),
    ("databases", databases),
    ("flushes", flushes),
    ("children", children),
];

/// The replica has all that was written before.
fn await_replicas(primary: &mut Client, count: i64, seed: u64) {
    primary.ok(&["SET", "end", "1"]);
    let count_text = count.to_string();
    assert_eq!(primary.ok(&["WAIT", &count_text, "20000"]).int(), count, "the replicas have all, seed {seed}");
    primary.ok(&["DEL", "end"]);
    assert_eq!(primary.ok(&["WAIT", &count_text, "20000"]).int(), count, "the replicas have all, seed {seed}");
}

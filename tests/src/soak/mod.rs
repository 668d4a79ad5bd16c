//! Faults under a real load, from a seed, each with its figures. `tests/tests/faults.rs` runs them short, `scripts/soak`
//! long.
//!
//! Each scenario starts its own servers, ends by itself, and panics with its seed where a job was lost, doubled or torn,
//! where two copies differ, or where a server died without being told to.

pub mod aof;
pub mod calls;
pub mod checks;
pub mod faults;
pub mod kills;
pub mod load;
pub mod matrix;
pub mod memory;
pub mod oracle;
pub mod pace;
pub mod proxy;
pub mod report;
pub mod tables;
pub mod torn;
pub mod trims;

use std::time::Duration;

/// What one scenario did and saw.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub scenario: &'static str,
    pub seed: u64,
    /// Kills, cuts, calls, role changes: what was done to the servers.
    pub faults: u64,
    pub acked: u64,
    pub lost: u64,
    pub doubled: u64,
    /// Torn jobs, orphans, or keys in which two copies differ.
    pub diverged: u64,
    /// Growth of used memory a round, bytes: what the module adds to that of the stock server beside it.
    pub slope: Option<i64>,
    /// What a probe saw, without and with the load, as the report reads it.
    pub probe: Option<serde_json::Value>,
    pub took: Duration,
    /// What else is worth a line.
    pub note: String,
}

impl Row {
    /// The row of a Markdown table; [`HEADER`] stands above it.
    pub fn markdown(&self) -> String {
        format!(
            "| {} | {} | {} | {} | {} | {} | {} s | {} | {} |",
            self.scenario,
            self.faults,
            self.acked,
            self.lost,
            self.doubled,
            self.diverged,
            self.took.as_secs(),
            self.seed,
            self.note
        )
    }
}

pub const HEADER: &str = "| scenario | faults | acknowledged | lost | doubled | torn or diverged | took | seed | |\n\
|---|---|---|---|---|---|---|---|---|";

/// A small generator, so that a seed gives the same schedule everywhere (SplitMix64).
#[derive(Clone, Debug)]
pub struct Seed(pub u64);

impl Seed {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to below `high`.
    pub fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.draw() % (high - low)
    }

    pub fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.within(low, high))
    }
}

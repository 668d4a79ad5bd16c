//! The configuration, and the cap it sets for a queue.
//!
//! The top level holds for every queue that no entry of `queues` matches; the first matching entry wins. What the
//! profile says is not in here: [`crate::decide`] joins the two.

use std::ops::RangeInclusive;

use bull_policy_sdk::config::{Section, parse};
use bull_policy_sdk::pattern::Pattern;

/// What `max-job-bytes` may be; the end is 512 MiB, the longest string that Redis keeps.
pub const BYTES: RangeInclusive<u64> = 1..=536_870_912;
/// Entries of `queues`, so that a job's walk through them stays within the fuel of a call.
pub const MAX_ENTRIES: usize = 32;
/// Bytes of a pattern.
pub const MAX_PATTERN: usize = 256;
/// Steps of matching for one name. With fuel for a decision at its default of 100,000 this is sure to fit. A name
/// that takes more, which only one made for it does, falls under the top level.
const MATCH_STEPS: u32 = 500;

/// The keys of the top level.
pub const TOP_KEYS: [&str; 2] = ["max-job-bytes", "queues"];
/// The keys of an entry of `queues`.
pub const QUEUE_KEYS: [&str; 2] = ["match", "max-job-bytes"];

/// The configuration in force.
#[derive(Debug)]
pub struct Config {
    top: Option<u64>,
    entries: Vec<(Pattern, u64)>,
}

impl Config {
    /// Reads the JSON text; an error is one line that names the key.
    pub fn read(text: &str) -> Result<Self, String> {
        let value = parse(text)?;
        let section = Section::root(&value)?;
        section.only(&TOP_KEYS)?;
        let top = section.whole("max-job-bytes", BYTES)?;
        let entries = section
            .sections("queues", MAX_ENTRIES)?
            .iter()
            .map(|entry| {
                entry.only(&QUEUE_KEYS)?;
                let pattern = entry.text("match", MAX_PATTERN)?.ok_or_else(|| entry.missing("match"))?;
                let cap = entry.whole("max-job-bytes", BYTES)?.ok_or_else(|| entry.missing("max-job-bytes"))?;
                Ok((Pattern::new(pattern), cap))
            })
            .collect::<Result<Vec<_>, String>>()?;
        Ok(Self { top, entries })
    }

    /// The cap that this configuration sets for the queue with this qualified name, in bytes.
    #[must_use]
    pub fn cap(&self, queue: &str) -> Option<u64> {
        let mut steps = MATCH_STEPS;
        self.entries
            .iter()
            .find(|(pattern, _)| pattern.matches_within(queue, &mut steps))
            .map_or(self.top, |(_, cap)| Some(*cap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_matching_entry_wins_then_the_top() {
        let config = Config::read(
            r#"{"max-job-bytes":50,"queues":[{"match":"*a","max-job-bytes":9},{"match":"*","max-job-bytes":70}]}"#,
        )
        .expect("a good configuration");
        assert_eq!((config.cap("bull:a"), config.cap("bull:b")), (Some(9), Some(70)));
        let silent = Config::read("{}").expect("the defaults");
        assert_eq!(silent.cap("bull:a"), None);
    }

    #[test]
    fn an_error_names_the_key() {
        let cases = [
            (r#"{"max-bytes":1}"#, r#"unknown key "max-bytes", allowed are max-job-bytes, queues"#),
            (r#"{"max-job-bytes":0}"#, "max-job-bytes: expected a whole number from 1 to 536870912, not 0"),
            (r#"{"max-job-bytes":null}"#, "max-job-bytes: expected a whole number from 1 to 536870912, not null"),
            (r#"{"queues":[{"match":"a"}]}"#, "queues[0].max-job-bytes: missing"),
            (r#"{"queues":[{"max-job-bytes":1}]}"#, "queues[0].match: missing"),
        ];
        for (text, error) in cases {
            assert_eq!(Config::read(text).expect_err(text), error);
        }
    }

    #[test]
    fn a_name_made_to_be_slow_falls_under_the_top_level() {
        let slow = r#"{"match":"*aaaaaaaaaaaaaaaaaaaab","max-job-bytes":1},"#.repeat(31);
        let config = Config::read(&format!(r#"{{"queues":[{slow}{{"match":"*","max-job-bytes":3}}]}}"#)).expect("ok");
        assert_eq!(config.cap("bull:mail"), Some(3));
        assert_eq!(config.cap(&"a".repeat(200)), None);
    }
}

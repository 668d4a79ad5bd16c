//! The configuration: the marks, what is trimmed above them, and the exceptions by queue.
//!
//! An entry of `queues` goes before the queue's profile, the profile before `default-priority`.

use std::ops::RangeInclusive;

use bull_policy_sdk::Queue;
use bull_policy_sdk::config::{Section, parse};
use bull_policy_sdk::pattern::Pattern;

/// What a priority may be; 1 is the most important.
pub const PRIORITY: RangeInclusive<u64> = 1..=1000;
/// What `max-bytes` may be; the end is 1 PiB.
pub const BYTES: RangeInclusive<u64> = 1..=1 << 50;
/// What ages may be; the end is ten years.
pub const MILLISECONDS: RangeInclusive<u64> = 1..=315_360_000_000;
/// What `trim-queues` and `keep-events` may be.
pub const TRIMMED: RangeInclusive<u64> = 1..=20;
pub const EVENTS: RangeInclusive<u64> = 1..=1_000_000_000;
/// Entries of `queues`, so that a job's walk through them stays within the fuel of a call.
pub const MAX_ENTRIES: usize = 32;
/// Bytes of a pattern.
pub const MAX_PATTERN: usize = 256;
/// Steps of matching for one name, so that a decision stays within its fuel; a name that takes more has no entry.
const MATCH_STEPS: u32 = 500;

/// The keys of the top level.
pub const TOP_KEYS: [&str; 10] = [
    "soft-percent",
    "hard-percent",
    "soft-passes",
    "default-priority",
    "trim-completed-ms",
    "trim-failed-ms",
    "keep-events",
    "trim-queues",
    "emergency",
    "queues",
];
/// The keys of an entry of `queues`.
pub const QUEUE_KEYS: [&str; 3] = ["match", "priority", "max-bytes"];

pub const DEFAULT_SOFT: u64 = 80;
pub const DEFAULT_HARD: u64 = 90;
pub const DEFAULT_SOFT_PASSES: u64 = 3;
pub const DEFAULT_PRIORITY: u64 = 3;
pub const DEFAULT_TRIM_COMPLETED_MS: u64 = 86_400_000;
pub const DEFAULT_TRIM_FAILED_MS: u64 = 604_800_000;
pub const DEFAULT_KEEP_EVENTS: u64 = 1000;
pub const DEFAULT_TRIM_QUEUES: u64 = 5;

/// Whether the node is asked to free memory above the hard mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emergency {
    On,
    Off,
}

#[derive(Debug)]
struct Entry {
    pattern: Pattern,
    priority: Option<u64>,
    max_bytes: Option<u64>,
}

/// The configuration in force.
#[derive(Debug)]
pub struct Config {
    /// The marks, percent of maxmemory; the first is below the second.
    pub soft: u64,
    pub hard: u64,
    /// The least important priority that passes right above the soft mark.
    pub soft_passes: u64,
    /// What is trimmed above the soft mark; `None` where nothing is.
    pub trim_completed_ms: Option<u64>,
    pub trim_failed_ms: Option<u64>,
    pub keep_events: Option<u64>,
    /// Queues trimmed in one tick.
    pub trim_queues: usize,
    pub emergency: Emergency,
    default_priority: u64,
    entries: Vec<Entry>,
}

impl Config {
    /// Reads the JSON text; an error is one line that names the key.
    pub fn read(text: &str) -> Result<Self, String> {
        let value = parse(text)?;
        let top = Section::root(&value)?;
        top.only(&TOP_KEYS)?;
        let soft = top.whole("soft-percent", 1..=99)?.unwrap_or(DEFAULT_SOFT);
        let hard = top.whole("hard-percent", 2..=100)?.unwrap_or(DEFAULT_HARD);
        if soft >= hard {
            return Err(format!("hard-percent: expected more than soft-percent, which is {soft}, not {hard}"));
        }
        let entries = top
            .sections("queues", MAX_ENTRIES)?
            .iter()
            .map(|entry| {
                entry.only(&QUEUE_KEYS)?;
                let pattern = entry.text("match", MAX_PATTERN)?.ok_or_else(|| entry.missing("match"))?;
                let (priority, max_bytes) = (entry.whole("priority", PRIORITY)?, entry.whole("max-bytes", BYTES)?);
                Ok(Entry { pattern: Pattern::new(pattern), priority, max_bytes })
            })
            .collect::<Result<_, String>>()?;
        let switch = [("on", Emergency::On), ("off", Emergency::Off)];
        let trimmed = top.whole("trim-queues", TRIMMED)?.unwrap_or(DEFAULT_TRIM_QUEUES);
        Ok(Self {
            soft,
            hard,
            soft_passes: top.whole("soft-passes", PRIORITY)?.unwrap_or(DEFAULT_SOFT_PASSES),
            trim_completed_ms: top.limit("trim-completed-ms", MILLISECONDS)?.unwrap_or(Some(DEFAULT_TRIM_COMPLETED_MS)),
            trim_failed_ms: top.limit("trim-failed-ms", MILLISECONDS)?.unwrap_or(Some(DEFAULT_TRIM_FAILED_MS)),
            keep_events: top.limit("keep-events", EVENTS)?.unwrap_or(Some(DEFAULT_KEEP_EVENTS)),
            trim_queues: usize::try_from(trimmed).unwrap_or(usize::MAX),
            emergency: top.choice("emergency", &switch)?.unwrap_or(Emergency::On),
            default_priority: top.whole("default-priority", PRIORITY)?.unwrap_or(DEFAULT_PRIORITY),
            entries,
        })
    }

    /// The queue's priority and the bytes that it may take.
    #[must_use]
    pub fn of(&self, queue: &Queue) -> (u64, Option<u64>) {
        let mut steps = MATCH_STEPS;
        let entry = self.entries.iter().find(|entry| entry.pattern.matches_within(&queue.name, &mut steps));
        let priority = entry.and_then(|entry| entry.priority).or(queue.limits.priority.map(u64::from));
        let most = entry.and_then(|entry| entry.max_bytes).or(queue.limits.max_bytes);
        (priority.unwrap_or(self.default_priority), most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bull_policy_sdk::{Limits, test_kit};

    #[test]
    fn an_entry_goes_before_the_profile_and_the_profile_before_the_default() {
        let config = Config::read(
            r#"{"default-priority":5,"queues":[{"match":"*mail","priority":2,"max-bytes":10},{"match":"*x"}]}"#,
        )
        .expect("good");
        let of = |name: &str, priority, max_bytes| {
            let plain = test_kit::queue(name);
            config.of(&Queue { limits: Limits { priority, max_bytes, ..plain.limits }, ..plain })
        };
        assert_eq!(of("bull:mail", Some(9), Some(99)), (2, Some(10)));
        assert_eq!(of("bull:x", Some(9), Some(99)), (9, Some(99)));
        assert_eq!(of("bull:y", None, None), (5, None));
    }

    #[test]
    fn an_error_names_the_key() {
        let cases = [
            (r#"{"soft":1}"#, r#"unknown key "soft", allowed are soft-percent, "#),
            (r#"{"soft-percent":90}"#, "hard-percent: expected more than soft-percent, which is 90, not 90"),
            (r#"{"soft-passes":0}"#, "soft-passes: expected a whole number from 1 to 1000, not 0"),
            (
                r#"{"trim-failed-ms":0}"#,
                "trim-failed-ms: expected a whole number from 1 to 315360000000 or null, not 0",
            ),
            (r#"{"trim-queues":21}"#, "trim-queues: expected a whole number from 1 to 20, not 21"),
            (r#"{"emergency":true}"#, "emergency: expected one of on, off, not true"),
            (r#"{"queues":[{"priority":1}]}"#, "queues[0].match: missing"),
            (r#"{"queues":[{"match":"a","max-bytes":0}]}"#, "queues[0].max-bytes: expected a whole number from 1 "),
        ];
        for (text, error) in cases {
            let found = Config::read(text).expect_err(text);
            assert!(found.starts_with(error), "{text}: {found}");
        }
    }
}

//! The configuration, and which part of it a queue falls under.
//!
//! The top level holds for every queue; an entry of `queues` holds for the queues whose qualified name its `match`
//! matches, and takes what it does not say from the top level. The first matching entry wins.
//!
//! Patterns know two signs: `*` for any text, also none, and `?` for one character. Everything else, brackets and
//! braces included, stands for itself, so `bull:{mail}` matches that queue and nothing else. Case counts.

use std::ops::RangeInclusive;

use bull_policy_sdk::config::{Section, parse};
use bull_policy_sdk::pattern::Pattern;

/// What `max-jobs` and `max-active` may be.
pub const JOBS: RangeInclusive<u64> = 1..=1_000_000_000;
/// What `defer-ms` and `max-oldest-waiting-ms` may be; the end is 365 days.
pub const MILLISECONDS: RangeInclusive<u64> = 1..=31_536_000_000;
/// Entries of `queues`, so that a job's walk through them stays within the fuel of a call.
pub const MAX_ENTRIES: usize = 32;
/// Bytes of a pattern.
pub const MAX_PATTERN: usize = 256;
/// Steps of matching for one name. With fuel for a decision at its default of 100,000 this is sure to fit. A name
/// that takes more, which only one made for it does, falls under the top level.
const MATCH_STEPS: u32 = 500;

pub const DEFAULT_MAX_JOBS: u64 = 10_000;
pub const DEFAULT_DEFER_MS: u64 = 60_000;

/// The keys of an entry of `queues`.
pub const QUEUE_KEYS: [&str; 6] = ["match", "max-jobs", "overload", "defer-ms", "max-active", "max-oldest-waiting-ms"];
/// The keys of the top level.
pub const TOP_KEYS: [&str; 6] = ["max-jobs", "overload", "defer-ms", "max-active", "max-oldest-waiting-ms", "queues"];

/// What becomes of a job that meets a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// It is refused.
    Reject,
    /// It enters as delayed by `defer-ms`.
    Defer,
    /// It takes the place of the oldest waiting job.
    Displace,
    /// It enters.
    Observe,
}

const OVERLOADS: [(&str, Overload); 4] = [
    ("reject", Overload::Reject),
    ("defer", Overload::Defer),
    ("displace", Overload::Displace),
    ("observe", Overload::Observe),
];

/// What holds for a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_jobs: u64,
    pub overload: Overload,
    pub defer_ms: u64,
    /// Only watched, as is the next; `None` where nobody wants to hear of it.
    pub max_active: Option<u64>,
    pub max_oldest_waiting_ms: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_jobs: DEFAULT_MAX_JOBS,
            overload: Overload::Reject,
            defer_ms: DEFAULT_DEFER_MS,
            max_active: None,
            max_oldest_waiting_ms: None,
        }
    }
}

impl Limits {
    /// These limits with what the section says instead.
    fn with(self, section: &Section) -> Result<Self, String> {
        Ok(Self {
            max_jobs: section.whole("max-jobs", JOBS)?.unwrap_or(self.max_jobs),
            overload: section.choice("overload", &OVERLOADS)?.unwrap_or(self.overload),
            defer_ms: section.whole("defer-ms", MILLISECONDS)?.unwrap_or(self.defer_ms),
            max_active: section.limit("max-active", JOBS)?.unwrap_or(self.max_active),
            max_oldest_waiting_ms: section
                .limit("max-oldest-waiting-ms", MILLISECONDS)?
                .unwrap_or(self.max_oldest_waiting_ms),
        })
    }
}

/// The configuration in force.
#[derive(Debug)]
pub struct Config {
    top: Limits,
    entries: Vec<(Pattern, Limits)>,
    lowest_max_jobs: u64,
}

impl Config {
    /// Reads the JSON text; an error is one line that names the key.
    pub fn read(text: &str) -> Result<Self, String> {
        let value = parse(text)?;
        let section = Section::root(&value)?;
        section.only(&TOP_KEYS)?;
        let top = Limits::default().with(&section)?;
        let entries = section
            .sections("queues", MAX_ENTRIES)?
            .iter()
            .map(|entry| {
                entry.only(&QUEUE_KEYS)?;
                let pattern = entry.text("match", MAX_PATTERN)?.ok_or_else(|| entry.missing("match"))?;
                Ok((Pattern::new(pattern), top.with(entry)?))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let lowest_max_jobs = entries.iter().map(|(_, limits)| limits.max_jobs).fold(top.max_jobs, u64::min);
        Ok(Self { top, entries, lowest_max_jobs })
    }

    /// The limits of the queue with this qualified name.
    #[must_use]
    pub fn limits(&self, queue: &str) -> &Limits {
        let mut steps = MATCH_STEPS;
        self.entries
            .iter()
            .find(|(pattern, _)| pattern.matches_within(queue, &mut steps))
            .map_or(&self.top, |(_, limits)| limits)
    }

    /// The lowest `max-jobs` of all: a queue below it is within its own, whichever that is.
    #[must_use]
    pub fn lowest_max_jobs(&self) -> u64 {
        self.lowest_max_jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        Config::read(text).expect(text)
    }

    #[test]
    fn an_empty_configuration_is_the_defaults() {
        let config = read("{}");
        assert_eq!(*config.limits("bull:any"), Limits::default());
        assert_eq!(config.lowest_max_jobs(), 10_000);
    }

    #[test]
    fn the_first_matching_entry_wins_and_takes_the_rest_from_the_top() {
        let config = read(
            r#"{"max-jobs":100,"overload":"defer","defer-ms":5,"max-active":7,"queues":[
                {"match":"*critical*","max-jobs":500},
                {"match":"*crit*","overload":"observe","max-active":null},
                {"match":"bull:{mail}","overload":"displace"}]}"#,
        );
        let top = Limits {
            max_jobs: 100,
            overload: Overload::Defer,
            defer_ms: 5,
            max_active: Some(7),
            max_oldest_waiting_ms: None,
        };
        assert_eq!(*config.limits("bull:{tasks:critical}"), Limits { max_jobs: 500, ..top });
        assert_eq!(*config.limits("bull:crit"), Limits { overload: Overload::Observe, max_active: None, ..top });
        assert_eq!(*config.limits("bull:{mail}"), Limits { overload: Overload::Displace, ..top });
        assert_eq!(*config.limits("bull:mail"), top);
        assert_eq!(config.lowest_max_jobs(), 100);
    }

    #[test]
    fn the_lowest_limit_may_be_an_entry_s() {
        assert_eq!(read(r#"{"queues":[{"match":"a","max-jobs":3},{"match":"b"}]}"#).lowest_max_jobs(), 3);
    }

    #[test]
    fn patterns_know_star_and_question_mark_only() {
        let matches = |pattern: &str, name: &str| {
            let text = serde_json::json!({"queues": [{"match": pattern, "max-jobs": 1}]}).to_string();
            read(&text).limits(name).max_jobs == 1
        };
        assert!(matches("*", ""));
        assert!(matches("bull:?", "bull:é"));
        assert!(!matches("bull:?", "bull:"));
        assert!(matches("*a*b", "xaxbxab"));
        assert!(!matches("*a*b", "xaxbx"));
        assert!(matches("[ab]", "[ab]"));
        assert!(!matches("[ab]", "a"));
        assert!(!matches("{a,b}", "a"));
        assert!(!matches("Mail", "mail"));
    }

    #[test]
    fn a_name_made_to_be_slow_falls_under_the_top_level() {
        let slow = r#"{"match":"*aaaaaaaaaaaaaaaaaaaab"},"#.repeat(31);
        let config = read(&format!(r#"{{"queues":[{slow}{{"match":"*","max-jobs":3}}]}}"#));
        assert_eq!(config.limits("bull:mail").max_jobs, 3);
        assert_eq!(config.limits(&"a".repeat(200)).max_jobs, 10_000);
    }

    #[test]
    fn an_error_names_the_key_and_what_is_allowed() {
        let cases = [
            (r#"{"max-job":1}"#, r#"unknown key "max-job", allowed are max-jobs, overload, "#),
            (r#"{"max-jobs":0}"#, "max-jobs: expected a whole number from 1 to 1000000000, not 0"),
            (r#"{"max-jobs":18446744073709551616}"#, "max-jobs: expected a whole number from 1 to 1000000000, not "),
            (r#"{"max-jobs":"10"}"#, "max-jobs: expected a whole number from 1 to 1000000000, not \"10\""),
            (r#"{"max-jobs":null}"#, "max-jobs: expected a whole number from 1 to 1000000000, not null"),
            (r#"{"overload":"drop"}"#, "overload: expected one of reject, defer, displace, observe, not \"drop\""),
            (r#"{"defer-ms":0}"#, "defer-ms: expected a whole number from 1 to 31536000000, not 0"),
            (r#"{"max-active":0}"#, "max-active: expected a whole number from 1 to 1000000000 or null, not 0"),
            (
                r#"{"max-oldest-waiting-ms":-1}"#,
                "max-oldest-waiting-ms: expected a whole number from 1 to 31536000000 or null",
            ),
            (r#"{"queues":{}}"#, "queues: expected a list of objects, not an object"),
            (r#"{"queues":[{}]}"#, "queues[0].match: missing"),
            (r#"{"queues":[{"match":""}]}"#, "queues[0].match: expected a text of 1 to 256 bytes, not \"\""),
            (r#"{"queues":[{"match":"a"},{"match":"b","max-jobs":0}]}"#, "queues[1].max-jobs: expected "),
            (r#"{"queues":[{"match":"a","queues":[]}]}"#, "queues[0]: unknown key \"queues\", allowed are match, "),
            ("", "the configuration is not JSON: "),
            ("[]", "the configuration must be an object"),
        ];
        for (text, expected) in cases {
            let error = Config::read(text).expect_err(text);
            assert!(error.starts_with(expected), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let list = |count: usize| format!(r#"{{"queues":[{}]}}"#, vec![r#"{"match":"a"}"#; count].join(","));
        assert!(Config::read(&list(MAX_ENTRIES)).is_ok());
        assert_eq!(Config::read(&list(MAX_ENTRIES + 1)).unwrap_err(), "queues: 33 entries, at most 32 are allowed");
    }
}

//! The configuration, and what of it holds for a queue.
//!
//! The top level holds for every queue; an entry of `queues` holds for the queues whose qualified name its `match`
//! matches, and takes what it does not say from the top level. The first matching entry wins. The queue's profile lies
//! between the two, where it has a word on the matter: an entry names the queue, and so does the profile, while the top
//! level is for all.
//!
//! Patterns know two signs: `*` for any text, also none, and `?` for one character. Everything else, brackets and
//! braces included, stands for itself, so `bull:{mail}` matches that queue and nothing else. Case counts.

use std::ops::RangeInclusive;

use bull_policy_sdk::Queue;
use bull_policy_sdk::config::{Section, parse};
use bull_policy_sdk::pattern::Pattern;

/// What numbers of jobs may be.
pub const JOBS: RangeInclusive<u64> = 1..=1_000_000_000;
/// What times may be; the end is 365 days.
pub const MILLISECONDS: RangeInclusive<u64> = 1..=31_536_000_000;
/// What `active-factor` may be.
pub const FACTOR: RangeInclusive<u64> = 1..=1000;
/// What `resume-percent` may be.
pub const PERCENT: RangeInclusive<u64> = 1..=99;
/// Entries of `queues`, so that a job's walk through them stays within the fuel of a call.
pub const MAX_ENTRIES: usize = 32;
/// Names in `pause-queues`.
pub const MAX_PAUSED: usize = 8;
/// Bytes of a pattern, and of a name.
pub const MAX_PATTERN: usize = 256;
/// Steps of matching for one name. With fuel for a decision at its default of 100,000 this is sure to fit. A name
/// that takes more, which only one made for it does, falls under the top level.
const MATCH_STEPS: u32 = 500;

pub const DEFAULT_MAX_JOBS: u64 = 10_000;
pub const DEFAULT_DEFER_MS: u64 = 60_000;
pub const DEFAULT_MAX_FAILED: u64 = 100;
pub const DEFAULT_ACTIVE_FACTOR: u64 = 2;
pub const DEFAULT_RESUME_PERCENT: u64 = 70;
pub const DEFAULT_PAUSE_MIN_MS: u64 = 60_000;

/// The keys that both the top level and an entry of `queues` may have.
pub const RULE_KEYS: [&str; 12] = [
    "max-jobs",
    "overload",
    "defer-ms",
    "max-active",
    "active-factor",
    "max-failed-per-hour",
    "max-oldest-waiting-ms",
    "pause-failed-per-hour",
    "pause-queues",
    "resume-percent",
    "pause-min-ms",
    "resume",
];

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

/// Which paused queues may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Those that this policy paused since it was loaded or configured.
    Own,
    /// Those that somebody else paused as well.
    Any,
}

const RESUMES: [(&str, Resume); 2] = [("own", Resume::Own), ("any", Resume::Any)];

/// What one level says; `None` where it is silent. A limit within is `None` where it says that there is none.
#[derive(Clone, Debug, Default)]
struct Rule {
    max_jobs: Option<u64>,
    overload: Option<Overload>,
    defer_ms: Option<u64>,
    max_active: Option<Option<u64>>,
    active_factor: Option<u64>,
    max_failed: Option<Option<u64>>,
    max_oldest_ms: Option<Option<u64>>,
    pause_failed: Option<Option<u64>>,
    pause_queues: Option<Vec<String>>,
    resume_percent: Option<u64>,
    pause_min_ms: Option<u64>,
    resume: Option<Resume>,
}

impl Rule {
    fn read(section: &Section) -> Result<Self, String> {
        Ok(Self {
            max_jobs: section.whole("max-jobs", JOBS)?,
            overload: section.choice("overload", &OVERLOADS)?,
            defer_ms: section.whole("defer-ms", MILLISECONDS)?,
            max_active: section.limit("max-active", JOBS)?,
            active_factor: section.whole("active-factor", FACTOR)?,
            max_failed: section.limit("max-failed-per-hour", JOBS)?,
            max_oldest_ms: section.limit("max-oldest-waiting-ms", MILLISECONDS)?,
            pause_failed: section.limit("pause-failed-per-hour", JOBS)?,
            pause_queues: section.texts("pause-queues", MAX_PAUSED, MAX_PATTERN)?,
            resume_percent: section.whole("resume-percent", PERCENT)?,
            pause_min_ms: section.whole("pause-min-ms", MILLISECONDS)?,
            resume: section.choice("resume", &RESUMES)?,
        })
    }
}

/// The part that decides on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_jobs: u64,
    pub overload: Overload,
    pub defer_ms: u64,
}

/// The part that a tick looks at. A limit is `None` where nobody wants to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks<'a> {
    pub max_jobs: u64,
    pub max_active: Option<u64>,
    /// Failures within an hour; more are told.
    pub max_failed: Option<u64>,
    pub max_oldest_ms: Option<u64>,
    pub pause: Pause<'a>,
}

/// When queues are paused, and when they go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause<'a> {
    /// Failures within an hour at which the queue itself is paused.
    pub failed: Option<u64>,
    /// Queues that are paused while this one is full.
    pub queues: &'a [String],
    /// They go on at this share of the mark.
    pub resume_percent: u64,
    /// Time from one change to the next.
    pub min_ms: u64,
    pub resume: Resume,
}

/// The configuration in force.
#[derive(Debug)]
pub struct Config {
    top: Rule,
    entries: Vec<(Pattern, Rule)>,
    lowest_max_jobs: u64,
}

impl Config {
    /// Reads the JSON text; an error is one line that names the key.
    pub fn read(text: &str) -> Result<Self, String> {
        let value = parse(text)?;
        let section = Section::root(&value)?;
        section.only(&[&RULE_KEYS[..], &["queues"]].concat())?;
        let top = Rule::read(&section)?;
        let entries = section
            .sections("queues", MAX_ENTRIES)?
            .iter()
            .map(|entry| {
                entry.only(&[&["match"], &RULE_KEYS[..]].concat())?;
                let pattern = entry.text("match", MAX_PATTERN)?.ok_or_else(|| entry.missing("match"))?;
                Ok((Pattern::new(pattern), Rule::read(entry)?))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let said = entries.iter().filter_map(|(_, rule)| rule.max_jobs);
        let lowest_max_jobs = said.fold(top.max_jobs.unwrap_or(DEFAULT_MAX_JOBS), u64::min);
        Ok(Self { top, entries, lowest_max_jobs })
    }

    /// No limit that could hold for this queue is lower: below it no pattern need be tried.
    #[must_use]
    pub fn lowest_max_jobs(&self, queue: &Queue) -> u64 {
        queue.limits.max_jobs.map_or(self.lowest_max_jobs, |own| own.min(self.lowest_max_jobs))
    }

    /// What decides on a job for this queue.
    #[must_use]
    pub fn limits(&self, queue: &Queue) -> Limits {
        let (entry, top) = self.rules(&queue.name);
        Limits {
            max_jobs: self.max_jobs(entry, queue),
            overload: said(entry, top, |rule| rule.overload).unwrap_or(Overload::Reject),
            defer_ms: said(entry, top, |rule| rule.defer_ms).unwrap_or(DEFAULT_DEFER_MS),
        }
    }

    /// What a tick looks at for this queue.
    #[must_use]
    pub fn marks(&self, queue: &Queue) -> Marks<'_> {
        let (entry, top) = self.rules(&queue.name);
        let factor = said(entry, top, |rule| rule.active_factor).unwrap_or(DEFAULT_ACTIVE_FACTOR);
        let by_profile = queue.limits.concurrency.map(|at_a_time| Some(u64::from(at_a_time).max(1) * factor));
        let own_active = entry.and_then(|rule| rule.max_active);
        let paused = entry.and_then(|rule| rule.pause_queues.as_ref()).or(top.pause_queues.as_ref());
        Marks {
            max_jobs: self.max_jobs(entry, queue),
            max_active: own_active.or(by_profile).or(top.max_active).flatten(),
            max_failed: said(entry, top, |rule| rule.max_failed).unwrap_or(Some(DEFAULT_MAX_FAILED)),
            max_oldest_ms: said(entry, top, |rule| rule.max_oldest_ms).flatten(),
            pause: Pause {
                failed: said(entry, top, |rule| rule.pause_failed).flatten(),
                queues: paused.map_or(&[], Vec::as_slice),
                resume_percent: said(entry, top, |rule| rule.resume_percent).unwrap_or(DEFAULT_RESUME_PERCENT),
                min_ms: said(entry, top, |rule| rule.pause_min_ms).unwrap_or(DEFAULT_PAUSE_MIN_MS),
                resume: said(entry, top, |rule| rule.resume).unwrap_or(Resume::Own),
            },
        }
    }

    fn max_jobs(&self, entry: Option<&Rule>, queue: &Queue) -> u64 {
        let own = entry.and_then(|rule| rule.max_jobs).or(queue.limits.max_jobs);
        own.or(self.top.max_jobs).unwrap_or(DEFAULT_MAX_JOBS)
    }

    fn rules(&self, queue: &str) -> (Option<&Rule>, &Rule) {
        let mut steps = MATCH_STEPS;
        let entry = self.entries.iter().find(|(pattern, _)| pattern.matches_within(queue, &mut steps));
        (entry.map(|(_, rule)| rule), &self.top)
    }
}

fn said<T>(entry: Option<&Rule>, top: &Rule, field: impl Fn(&Rule) -> Option<T>) -> Option<T> {
    entry.and_then(&field).or_else(|| field(top))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bull_policy_sdk::test_kit;

    fn read(text: &str) -> Config {
        Config::read(text).expect(text)
    }

    fn queue(name: &str, max_jobs: Option<u64>, concurrency: Option<u32>) -> Queue {
        let plain = test_kit::queue(name);
        Queue { limits: bull_policy_sdk::Limits { max_jobs, concurrency, ..plain.limits }, ..plain }
    }

    fn max_jobs(config: &Config, name: &str) -> u64 {
        config.limits(&queue(name, None, None)).max_jobs
    }

    #[test]
    fn an_empty_configuration_is_the_defaults() {
        let (config, queue) = (read("{}"), queue("bull:any", None, None));
        let limits = Limits { max_jobs: 10_000, overload: Overload::Reject, defer_ms: 60_000 };
        assert_eq!(config.limits(&queue), limits);
        let pause = Pause { failed: None, queues: &[], resume_percent: 70, min_ms: 60_000, resume: Resume::Own };
        let marks = Marks { max_jobs: 10_000, max_active: None, max_failed: Some(100), max_oldest_ms: None, pause };
        assert_eq!(config.marks(&queue), marks);
    }

    #[test]
    fn an_entry_goes_before_the_profile_and_the_profile_before_the_top() {
        let config =
            read(r#"{"max-jobs":100,"max-active":9,"queues":[{"match":"*mail","max-jobs":500,"max-active":7}]}"#);
        let silent = read("{}");
        for (name, profile, expected) in
            [("bull:mail", Some(50), 500), ("bull:mail", None, 500), ("bull:x", Some(50), 50), ("bull:x", None, 100)]
        {
            assert_eq!(config.limits(&queue(name, profile, None)).max_jobs, expected, "{name}, {profile:?}");
        }
        assert_eq!(silent.limits(&queue("bull:x", Some(50), None)).max_jobs, 50);
        for (name, concurrency, expected) in
            [("bull:mail", Some(3), Some(7)), ("bull:x", Some(3), Some(6)), ("bull:x", None, Some(9))]
        {
            let queue = queue(name, None, concurrency);
            assert_eq!(config.marks(&queue).max_active, expected, "{name}, {concurrency:?}");
        }
        let factor = read(r#"{"active-factor":5,"queues":[{"match":"*quiet","max-active":null}]}"#);
        assert_eq!(factor.marks(&queue("bull:x", None, Some(3))).max_active, Some(15));
        assert_eq!(factor.marks(&queue("bull:quiet", None, Some(3))).max_active, None, "null is an answer");
    }

    #[test]
    fn no_limit_of_a_queue_is_below_the_lowest() {
        let config = read(r#"{"max-jobs":100,"queues":[{"match":"a*","max-jobs":30},{"match":"b*"}]}"#);
        for name in ["a", "b", "c"] {
            for profile in [None, Some(0), Some(20), Some(50), Some(u64::MAX)] {
                let queue = queue(name, profile, None);
                let (lowest, own) = (config.lowest_max_jobs(&queue), config.limits(&queue).max_jobs);
                assert!(lowest <= own, "{name}, {profile:?}: {lowest}, {own}");
            }
        }
    }

    #[test]
    fn the_first_matching_entry_wins_and_takes_the_rest_from_the_top() {
        let config = read(
            r#"{"max-jobs":100,"overload":"defer","defer-ms":5,"max-active":7,"queues":[
                {"match":"*critical*","max-jobs":500},
                {"match":"*crit*","overload":"observe","max-active":null},
                {"match":"bull:{mail}","overload":"displace"}]}"#,
        );
        let limits = |name: &str| config.limits(&queue(name, None, None));
        let top = Limits { max_jobs: 100, overload: Overload::Defer, defer_ms: 5 };
        assert_eq!(limits("bull:{tasks:critical}"), Limits { max_jobs: 500, ..top });
        assert_eq!(limits("bull:crit"), Limits { overload: Overload::Observe, ..top });
        assert_eq!(limits("bull:{mail}"), Limits { overload: Overload::Displace, ..top });
        assert_eq!(limits("bull:mail"), top);
        assert_eq!(config.marks(&queue("bull:crit", None, None)).max_active, None);
        assert_eq!(config.marks(&queue("bull:mail", None, None)).max_active, Some(7));
    }

    #[test]
    fn pauses_are_read() {
        let config = read(
            r#"{"pause-queues":["bull:in"],"resume-percent":50,"queues":[
                {"match":"*mail","pause-failed-per-hour":20,"pause-queues":[],"pause-min-ms":5,"resume":"any"}]}"#,
        );
        let own = Pause { failed: Some(20), queues: &[], resume_percent: 50, min_ms: 5, resume: Resume::Any };
        assert_eq!(config.marks(&queue("bull:mail", None, None)).pause, own);
        let other = queue("bull:x", None, None);
        assert_eq!(config.marks(&other).pause.queues, ["bull:in"]);
        assert_eq!(config.marks(&other).pause.failed, None);
    }

    #[test]
    fn patterns_know_star_and_question_mark_only() {
        let matches = |pattern: &str, name: &str| {
            let text = serde_json::json!({"queues": [{"match": pattern, "max-jobs": 1}]}).to_string();
            max_jobs(&read(&text), name) == 1
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
        assert_eq!(max_jobs(&config, "bull:mail"), 3);
        assert_eq!(max_jobs(&config, &"a".repeat(200)), 10_000);
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
            (
                r#"{"max-failed-per-hour":0}"#,
                "max-failed-per-hour: expected a whole number from 1 to 1000000000 or null",
            ),
            (r#"{"active-factor":0}"#, "active-factor: expected a whole number from 1 to 1000, not 0"),
            (r#"{"resume-percent":100}"#, "resume-percent: expected a whole number from 1 to 99, not 100"),
            (r#"{"resume":"all"}"#, "resume: expected one of own, any, not \"all\""),
            (r#"{"pause-queues":[""]}"#, "pause-queues[0]: expected a text of 1 to 256 bytes, not \"\""),
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

//! A queue's limits, as its profile and the node's defaults set them.
//!
//! A profile is the hash `<queue>:guard:profile`, whose fields are named as in the contract; what it does not set
//! comes from the defaults, a JSON file with patterns on queue names. The value `none` lifts a default.

use serde_json::Value;

use super::fields::Word;
use super::keys::QueueName;
use super::store::{Kind, Store};
use super::units::{duration, size};

/// None: no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// 1 is the most important queue.
    pub priority: Option<u32>,
    /// Jobs that may run at a time.
    pub concurrency: Option<u32>,
    /// Jobs that may wait.
    pub max_jobs: Option<u64>,
    pub max_bytes: Option<u64>,
    pub max_job_bytes: Option<u64>,
    /// Age at which completed jobs go, milliseconds.
    pub retain_completed_ms: Option<u64>,
    /// Age at which failed jobs go, milliseconds.
    pub retain_failed_ms: Option<u64>,
    /// Completed jobs that stay, the newest.
    pub keep_completed: Option<u64>,
    /// Failed jobs that stay, the newest.
    pub keep_failed: Option<u64>,
    /// Events that stay in the queue's stream.
    pub max_events: Option<u64>,
}

/// Fields of a profile, in the order in which they are shown.
pub const FIELDS: [&str; 10] = [
    "priority",
    "concurrency",
    "max-jobs",
    "max-bytes",
    "max-job-bytes",
    "retain-completed",
    "retain-failed",
    "keep-completed",
    "keep-failed",
    "max-events",
];

/// The word that lifts a limit.
const NONE: &[u8] = b"none";

/// Suffix of a profile's key.
pub const SUFFIX: &str = "guard:profile";

pub fn key(queue: &QueueName) -> Vec<u8> {
    queue.key(SUFFIX)
}

impl Limits {
    /// Sets one field. Errors: an unknown field or a value that does not fit, in words.
    pub fn set(&mut self, field: &str, value: &[u8]) -> Result<(), String> {
        let wrong = |what: &str| {
            let shown = crate::text::short(value, 64);
            Err(format!("{field} must be {what}, or none, not '{shown}'"))
        };
        let lifted = value.eq_ignore_ascii_case(NONE);
        let whole = || std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'))?.parse::<i64>().ok();
        let count = || whole().and_then(|number| u64::try_from(number).ok());
        let small = || whole().and_then(|number| u32::try_from(number).ok()).filter(|&number| number > 0);
        let place = match field {
            "priority" | "concurrency" => {
                let Some(number) = small().map(Some).or(lifted.then_some(None)) else {
                    return wrong("a whole number from 1 to 4294967295");
                };
                *(if field == "priority" { &mut self.priority } else { &mut self.concurrency }) = number;
                return Ok(());
            }
            "max-jobs" => &mut self.max_jobs,
            "max-bytes" => &mut self.max_bytes,
            "max-job-bytes" => &mut self.max_job_bytes,
            "retain-completed" => &mut self.retain_completed_ms,
            "retain-failed" => &mut self.retain_failed_ms,
            "keep-completed" => &mut self.keep_completed,
            "keep-failed" => &mut self.keep_failed,
            "max-events" => &mut self.max_events,
            _ => {
                let shown = crate::text::short(field.as_bytes(), 64);
                return Err(format!("unknown field '{shown}'; known are {}", FIELDS.join(", ")));
            }
        };
        let (number, what) = match field {
            "max-bytes" | "max-job-bytes" => (size(value), "bytes or a size such as 64kb, 100mb or 2gb"),
            "retain-completed" | "retain-failed" => (duration(value), "milliseconds or a time such as 12h or 7d"),
            _ => (count(), "a whole number from 0"),
        };
        match number {
            Some(number) => *place = Some(number),
            None if lifted => *place = None,
            None => return wrong(what),
        }
        Ok(())
    }

    /// The values in the order of [`FIELDS`]: numbers, bytes, milliseconds.
    pub fn values(&self) -> [Option<u64>; 10] {
        [
            self.priority.map(u64::from),
            self.concurrency.map(u64::from),
            self.max_jobs,
            self.max_bytes,
            self.max_job_bytes,
            self.retain_completed_ms,
            self.retain_failed_ms,
            self.keep_completed,
            self.keep_failed,
            self.max_events,
        ]
    }

    /// The queue's own profile over `defaults`. A value that does not fit, which only a foreign write can leave, counts
    /// as not set.
    pub fn read(store: &impl Store, queue: &QueueName, defaults: Self) -> Self {
        let key = key(queue);
        let mut limits = defaults;
        if store.kind(&key) == Kind::Hash {
            for field in FIELDS {
                if let Some(value) = store.hget(&key, Word::from(field)) {
                    // Not set where it does not fit.
                    let _ = limits.set(field, &value);
                }
            }
        }
        limits
    }
}

/// The node's defaults: the first pattern that fits a queue's name counts.
#[derive(Debug, Default)]
pub struct Defaults(Vec<(String, Limits)>);

impl Defaults {
    /// Reads `{"profiles": [{"match": "*", "max-jobs": 10, ...}, ...]}`. Errors: what is wrong, one line.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let whole: Value = serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}"))?;
        let Some(Value::Array(entries)) = whole.get("profiles") else {
            return Err("has no array \"profiles\"".into());
        };
        let mut defaults = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let at = |text: String| format!("profile {}: {text}", index + 1);
            let Value::Object(fields) = entry else { return Err(at("is not an object".into())) };
            let Some(Value::String(pattern)) = fields.get("match") else {
                return Err(at("has no text \"match\", a pattern on queue names".into()));
            };
            let mut limits = Limits::default();
            for (field, value) in fields.iter().filter(|(field, _)| *field != "match") {
                let value = match value {
                    Value::String(text) => text.clone(),
                    Value::Number(number) => number.to_string(),
                    _ => {
                        let shown = crate::text::short(field.as_bytes(), 64);
                        return Err(at(format!("{shown} must be a number or a text")));
                    }
                };
                limits.set(field, value.as_bytes()).map_err(at)?;
            }
            defaults.push((pattern.clone(), limits));
        }
        Ok(Self(defaults))
    }

    /// `fits` says whether a pattern covers the queue.
    pub fn of(&self, fits: impl Fn(&str) -> bool) -> Limits {
        self.0.iter().find(|(pattern, _)| fits(pattern)).map(|(_, limits)| *limits).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fake::Fake;

    #[test]
    fn a_profile_wins_over_the_defaults_and_none_lifts_them() {
        let mut store = Fake::default();
        let queue = QueueName::parse(b"bull:q").unwrap();
        let defaults = Limits { max_jobs: Some(5), max_bytes: Some(6), keep_failed: Some(7), ..Limits::default() };
        assert_eq!(Limits::read(&store, &queue, defaults), defaults);
        store
            .hset(
                b"bull:q:guard:profile",
                &[
                    ("max-jobs".into(), "9".into()),
                    ("max-bytes".into(), "none".into()),
                    ("keep-failed".into(), "x".into()),
                ],
            )
            .unwrap();
        let limits = Limits::read(&store, &queue, defaults);
        assert_eq!((limits.max_jobs, limits.max_bytes, limits.keep_failed), (Some(9), None, Some(7)));
    }

    #[test]
    fn every_field_can_be_set_and_wrong_values_are_refused() {
        let mut limits = Limits::default();
        for field in FIELDS {
            limits.set(field, b"3").unwrap();
            for wrong in [&b""[..], b"-1", b"x", b"+1", b"1.5", b"99999999999999999999"] {
                assert!(limits.set(field, wrong).is_err(), "{field} {wrong:?}");
            }
        }
        assert_eq!(limits.values(), [Some(3); 10]);
        assert!(limits.set("nosuch", b"1").unwrap_err().contains("known are priority"));
        assert!(limits.set("priority", b"0").is_err());
    }

    #[test]
    fn the_file_that_ships_has_the_six_queues() {
        let defaults = Defaults::parse(include_bytes!("../../../deploy/profiles/tasks.json")).unwrap();
        assert_eq!(defaults.0.len(), 6);
        let normal = defaults.0[2].1;
        assert_eq!((normal.priority, normal.concurrency, normal.max_jobs), (Some(3), Some(10), Some(200_000)));
        assert_eq!(
            (normal.retain_completed_ms, normal.retain_failed_ms),
            (Some(3 * 86_400_000), Some(14 * 86_400_000))
        );
        let missing =
            [1, 2, 3, 4, 5, 6, 7].map(|index| defaults.0.iter().all(|(_, l)| l.values()[index - 1].is_some()));
        assert_eq!(missing, [true; 7]);
    }

    #[test]
    fn a_wrong_file_says_where() {
        for (text, word) in [
            (&b"{"[..], "JSON"),
            (b"{}", "profiles"),
            (b"{\"profiles\":[{}]}", "match"),
            (b"{\"profiles\":[{\"match\":\"*\",\"max-jobs\":-1}]}", "profile 1: max-jobs"),
            (b"{\"profiles\":[{\"match\":\"*\",\"max\":1}]}", "unknown field"),
            (b"{\"profiles\":[{\"match\":\"*\",\"a\\nb\":[]}]}", "a\\nb must be a number"),
            (b"{\"profiles\":[{\"match\":\"*\",\"a\\nb\":1}]}", "unknown field 'a\\nb'"),
        ] {
            let error = Defaults::parse(text).unwrap_err();
            assert!(error.contains(word) && !error.contains('\n'), "{error}");
        }
    }
}

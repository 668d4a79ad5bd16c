//! BullMQ's `JobsOptions`: checked as its client checks them, and encoded as its scripts store them.
//!
//! Sources: classes/job.js `validateOptions`, `optsAsJSON` in classes/redis-queue-backend.js, and the msgpack to Lua to
//! cjson round trip of the add scripts (BullMQ 6.7). The text written is equal as JSON; the order of keys is the
//! caller's.

use serde_json::{Map, Value};

use super::cjson;
use super::error::{QueueError, Result};
use crate::text::short;

/// Highest priority number, which runs last (BullMQ 6.7 `PRIORITY_LIMIT`).
pub const MAX_PRIORITY: u32 = 2_097_151;
/// Largest time or delay, milliseconds: whole numbers above are not exact in JavaScript or Lua.
pub const MAX_MILLIS: f64 = 9_007_199_254_740_991.0;

/// Options of a job after all checks.
#[derive(Clone, Debug, Default)]
pub struct JobOptions {
    map: Map<String, Value>,
    text: String,
    /// Milliseconds; may have a fraction, as in BullMQ.
    pub delay: f64,
    pub priority: u32,
    pub lifo: bool,
    /// A custom id, never empty.
    pub id: Option<String>,
    /// Milliseconds; None for the time of the call.
    pub timestamp: Option<f64>,
    pub attempts: u32,
    pub parent: Option<ParentRef>,
    pub deduplication: Option<Deduplication>,
    /// Id of the job scheduler that this job is an iteration of.
    pub scheduler: Option<String>,
    /// Largest data accepted, bytes.
    pub size_limit: Option<f64>,
}

/// The parent that a child names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentRef {
    pub id: String,
    /// Qualified name of the parent's queue.
    pub queue: String,
    /// What the child's failure does, by BullMQ's short name.
    pub on_failure: Option<&'static str>,
}

impl ParentRef {
    pub fn key(&self) -> Vec<u8> {
        format!("{}:{}", self.queue, self.id).into_bytes()
    }

    /// The `parent` field of the child.
    pub fn json(&self) -> String {
        let mut map = Map::new();
        map.insert("id".into(), Value::String(self.id.clone()));
        map.insert("queueKey".into(), Value::String(self.queue.clone()));
        if let Some(flag) = self.on_failure {
            map.insert(flag.into(), Value::Bool(true));
        }
        let mut out = String::new();
        // Strings and one flag: nothing in it can be refused.
        let _ = cjson::encode_map(&map, &mut out);
        out
    }
}

/// `deduplication`, as the script reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deduplication {
    pub id: String,
    /// Milliseconds; 0 for none.
    pub ttl: u64,
    pub extend: bool,
    pub replace: bool,
    pub keep_last_if_active: bool,
    pub reschedule: bool,
}

/// What the words on the command line say; they win over the same option in OPTS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'a> {
    pub id: Option<&'a [u8]>,
    pub delay_ms: Option<u64>,
    pub priority: Option<u32>,
    pub lifo: bool,
    pub timestamp_ms: Option<u64>,
}

impl JobOptions {
    /// Checks and merges. `json` is the text after OPTS, or None.
    pub fn parse(json: Option<&[u8]>, words: Words<'_>) -> Result<Self> {
        let mut map = match json {
            None => Map::new(),
            Some(text) => match serde_json::from_slice(text) {
                Ok(Value::Object(map)) => map,
                Ok(_) => return Err(QueueError::bad("OPTS must be a JSON object, such as {\"attempts\":3}")),
                Err(error) => return Err(QueueError::bad(format!("OPTS is not valid JSON: {error}"))),
            },
        };
        if let Some(id) = words.id {
            let id = std::str::from_utf8(id).map_err(|_| QueueError::bad("ID is not valid UTF-8"))?;
            if id.is_empty() {
                return Err(QueueError::bad(
                    "ID must not be empty; leave the word out for an id of the queue's counter",
                ));
            }
            map.insert("jobId".into(), id.into());
        }
        if let Some(delay) = words.delay_ms {
            map.insert("delay".into(), delay.into());
        }
        if let Some(priority) = words.priority {
            map.insert("priority".into(), priority.into());
        }
        if words.lifo {
            map.insert("lifo".into(), true.into());
        }
        if let Some(timestamp) = words.timestamp_ms {
            map.insert("timestamp".into(), timestamp.into());
        }
        Self::checked(map)
    }

    fn checked(mut map: Map<String, Value>) -> Result<Self> {
        // BullMQ always sends attempts; `undefined` and null never reach the hash.
        map.entry("attempts").or_insert_with(|| 0.into());
        map.retain(|_, value| !value.is_null());
        if map.contains_key("debounce") {
            return Err(QueueError::bad("option debounce was removed in BullMQ 6; use deduplication"));
        }
        let mut options = Self {
            delay: number_in(&map, "delay", 0.0, MAX_MILLIS)?.unwrap_or(0.0),
            priority: whole_in(&map, "priority", MAX_PRIORITY)?.unwrap_or(0),
            lifo: flag(&map, "lifo")?,
            timestamp: number_in(&map, "timestamp", 0.0, MAX_MILLIS)?.filter(|&ms| ms != 0.0),
            attempts: whole_in(&map, "attempts", u32::MAX)?.unwrap_or(0),
            size_limit: number_in(&map, "sizeLimit", 0.0, f64::MAX)?.filter(|&bytes| bytes != 0.0),
            ..Self::default()
        };
        number_in(&map, "keepLogs", 0.0, f64::MAX)?;
        number_in(&map, "stackTraceLimit", 0.0, f64::MAX)?;
        check_removal(&map, "removeOnComplete")?;
        check_removal(&map, "removeOnFail")?;
        normalise_backoff(&mut map)?;
        flatten_telemetry(&mut map)?;
        options.id = custom_id(&map)?;
        options.scheduler = match map.shift_remove("repeatJobKey") {
            None => None,
            Some(Value::String(key)) => Some(key),
            Some(_) => return Err(QueueError::bad("option repeatJobKey must be a string")),
        };
        options.parent = parent(&map)?;
        options.deduplication = deduplication(&map)?;
        if options.parent.is_some() && options.deduplication.is_some() {
            return Err(QueueError::bad("options deduplication and parent cannot be used together"));
        }
        for (long, shortened) in SHORT_NAMES {
            if let Some(value) = map.shift_remove(long) {
                map.insert(shortened.into(), value);
            }
        }
        options.map = map;
        // Finds what cjson would refuse, while nothing is written.
        options.encode()?;
        Ok(options)
    }

    /// Makes the job wait at least so many milliseconds behind its timestamp.
    pub fn defer(&mut self, ms: f64) {
        let delay = ms.clamp(0.0, MAX_MILLIS);
        if delay > self.delay {
            self.delay = delay;
            self.map.insert("delay".into(), (delay as u64).into());
            // It was encoded before, and a number is never refused.
            let _ = self.encode();
        }
    }

    fn encode(&mut self) -> Result<()> {
        let mut text = String::with_capacity(64);
        cjson::encode_map(&self.map, &mut text)?;
        self.text = text;
        Ok(())
    }

    /// The `opts` field of the job's hash.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Names that BullMQ shortens (`optsEncodeMap`, 6.7).
const SHORT_NAMES: [(&str, &str); 6] = [
    ("deduplication", "de"),
    ("failParentOnFailure", "fpof"),
    ("continueParentOnFailure", "cpof"),
    ("ignoreDependencyOnFailure", "idof"),
    ("keepLogs", "kl"),
    ("removeDependencyOnFailure", "rdof"),
];

/// At most one of these may be on; the order is that of BullMQ's error text.
const ON_FAILURE: [(&str, &str); 4] = [
    ("removeDependencyOnFailure", "rdof"),
    ("failParentOnFailure", "fpof"),
    ("continueParentOnFailure", "cpof"),
    ("ignoreDependencyOnFailure", "idof"),
];

/// Suffixes that are the queue's own keys: a job with such an id would overwrite one of them.
const RESERVED_IDS: [&str; 20] = [
    "wait",
    "paused",
    "active",
    "prioritized",
    "delayed",
    "waiting-children",
    "completed",
    "failed",
    "meta",
    "id",
    "pc",
    "marker",
    "events",
    "stalled",
    "stalled-check",
    "limiter",
    "repeat",
    "priority",
    "metrics:completed",
    "metrics:failed",
];

fn wrong(option: &str, must: &str) -> QueueError {
    QueueError::bad(format!("option {option} must be {must}"))
}

fn number_in(map: &Map<String, Value>, option: &str, min: f64, max: f64) -> Result<Option<f64>> {
    match map.get(option) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            Some(_) if max >= f64::MAX => Err(wrong(option, "a number of 0 or more")),
            _ => Err(wrong(option, &format!("a number from {min} to {max}"))),
        },
    }
}

fn whole_in(map: &Map<String, Value>, option: &str, max: u32) -> Result<Option<u32>> {
    match map.get(option) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) if number.fract() == 0.0 && (0.0..=f64::from(max)).contains(&number) => {
                Ok(Some(number as u32))
            }
            _ => Err(wrong(option, &format!("a whole number from 0 to {max}"))),
        },
    }
}

fn flag(map: &Map<String, Value>, option: &str) -> Result<bool> {
    match map.get(option) {
        None => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(_) => Err(wrong(option, "true or false")),
    }
}

fn string<'m>(map: &'m Map<String, Value>, option: &str, shown: &str) -> Result<Option<&'m str>> {
    match map.get(option) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(shown, "a string")),
    }
}

fn check_removal(map: &Map<String, Value>, option: &str) -> Result<()> {
    let fine = match map.get(option) {
        None | Some(Value::Bool(_) | Value::Number(_)) => true,
        Some(Value::Object(keep)) => {
            keep.iter().all(|(name, value)| !matches!(name.as_str(), "age" | "count" | "limit") || value.is_number())
        }
        Some(_) => false,
    };
    if fine { Ok(()) } else { Err(wrong(option, "true, false, a number or {\"age\":seconds,\"count\":n}")) }
}

/// `Backoffs.normalize`: a number is a fixed backoff, and what JavaScript takes as nothing is left out.
fn normalise_backoff(map: &mut Map<String, Value>) -> Result<()> {
    match map.get_mut("backoff") {
        None => {}
        Some(value @ Value::Number(_)) => {
            if value.as_f64().is_none_or(|delay| delay < 0.0) {
                return Err(wrong("backoff", "a number of 0 or more, or an object with a type"));
            }
            let mut fixed = Map::new();
            fixed.insert("type".into(), "fixed".into());
            fixed.insert("delay".into(), value.take());
            *value = Value::Object(fixed);
        }
        Some(Value::Object(backoff)) => {
            if !backoff.get("type").is_some_and(Value::is_string) {
                return Err(wrong(
                    "backoff",
                    "a number, or an object with a type such as {\"type\":\"fixed\",\"delay\":1000}",
                ));
            }
            number_in(backoff, "delay", 0.0, f64::MAX)?;
            if backoff
                .get("jitter")
                .is_some_and(|jitter| !jitter.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)))
            {
                return Err(wrong("backoff.jitter", "a number from 0 to 1"));
            }
        }
        Some(_) => return Err(wrong("backoff", "a number of 0 or more, or an object with a type")),
    }
    Ok(())
}

fn flatten_telemetry(map: &mut Map<String, Value>) -> Result<()> {
    match map.shift_remove("telemetry") {
        None => Ok(()),
        Some(Value::Object(mut telemetry)) => {
            for (long, shortened) in [("metadata", "tm"), ("omitContext", "omc")] {
                if let Some(value) = telemetry.shift_remove(long).filter(|value| !value.is_null()) {
                    map.insert(shortened.into(), value);
                }
            }
            Ok(())
        }
        Some(_) => Err(wrong("telemetry", "an object with metadata or omitContext")),
    }
}

/// The rules for `jobId` of `Queue.add` and `Job.validateOptions`, and the queue's own key names.
fn custom_id(map: &Map<String, Value>) -> Result<Option<String>> {
    let Some(id) = string(map, "jobId", "jobId")?.filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    let shown = short(id.as_bytes(), 64);
    if id == "0" || id.starts_with("0:") {
        return Err(QueueError::bad(format!("job id '{shown}' cannot be '0' or start with '0:'")));
    }
    if is_integer(id) {
        return Err(QueueError::bad(format!("job id '{shown}' cannot be an integer; those are the queue's own ids")));
    }
    if id.contains(':') && id.split(':').count() != 3 {
        return Err(QueueError::bad(format!("job id '{shown}' cannot contain ':'")));
    }
    if RESERVED_IDS.contains(&id) {
        return Err(QueueError::bad(format!("job id '{shown}' is the name of a key of the queue itself")));
    }
    Ok(Some(id.to_owned()))
}

/// JavaScript's `String(parseInt(id, 10)) === id`.
fn is_integer(id: &str) -> bool {
    if id == "NaN" {
        return true;
    }
    let digits = id.strip_prefix('-').unwrap_or(id);
    let plain = !digits.is_empty()
        && digits.len() <= 21
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && (id == "0" || !digits.starts_with('0'));
    plain && id.parse::<f64>().is_ok_and(|value| value.abs() < 1e21 && value.to_string() == id)
}

fn parent(map: &Map<String, Value>) -> Result<Option<ParentRef>> {
    let mut on: Vec<_> = Vec::new();
    for (long, shortened) in ON_FAILURE {
        if flag(map, long)? {
            on.push((long, shortened));
        }
    }
    if on.len() > 1 {
        let names: Vec<_> = on.iter().map(|(long, _)| *long).collect();
        return Err(QueueError::bad(format!("these options cannot be used together: {}", names.join(", "))));
    }
    let Some(value) = map.get("parent") else {
        return Ok(None);
    };
    let wanted = "an object with the strings id and queue (the parent queue's qualified name)";
    let Value::Object(value) = value else {
        return Err(wrong("parent", wanted));
    };
    match (string(value, "id", "parent.id")?, string(value, "queue", "parent.queue")?) {
        (Some(id), Some(queue)) if !id.is_empty() && !queue.is_empty() => Ok(Some(ParentRef {
            id: id.to_owned(),
            queue: queue.to_owned(),
            on_failure: on.first().map(|(_, shortened)| *shortened),
        })),
        _ => Err(wrong("parent", wanted)),
    }
}

fn deduplication(map: &Map<String, Value>) -> Result<Option<Deduplication>> {
    let Some(value) = map.get("deduplication") else {
        return Ok(None);
    };
    let Value::Object(value) = value else {
        return Err(wrong("deduplication", "an object with an id"));
    };
    let id = string(value, "id", "deduplication.id")?.unwrap_or_default();
    if id.is_empty() {
        return Err(wrong("deduplication", "an object with an id that is not empty"));
    }
    let present: Map<String, Value> =
        value.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
    let ttl = number_in(&present, "ttl", 0.0, MAX_MILLIS).map_err(|_| wrong("deduplication.ttl", "milliseconds"))?;
    if ttl.is_some_and(|ttl| ttl.fract() != 0.0) {
        return Err(wrong("deduplication.ttl", "whole milliseconds"));
    }
    Ok(Some(Deduplication {
        id: id.to_owned(),
        ttl: ttl.unwrap_or(0.0) as u64,
        extend: flag(&present, "extend")?,
        replace: flag(&present, "replace")?,
        keep_last_if_active: flag(&present, "keepLastIfActive")?,
        reschedule: flag(&present, "reschedule")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        JobOptions::parse(Some(json.as_bytes()), Words::default()).expect(json).text().to_owned()
    }

    fn refused(json: &str) -> String {
        JobOptions::parse(Some(json.as_bytes()), Words::default()).expect_err(json).to_string()
    }

    #[test]
    fn attempts_are_always_there_and_nulls_never() {
        assert_eq!(text("{}"), r#"{"attempts":0}"#);
        assert_eq!(text(r#"{"attempts":null,"lifo":null}"#), "{}");
    }

    #[test]
    fn names_are_shortened_and_backoff_normalised() {
        assert_eq!(
            text(r#"{"attempts":3,"keepLogs":7,"backoff":1000,"telemetry":{"metadata":"m","omitContext":true}}"#),
            r#"{"attempts":3,"backoff":{"type":"fixed","delay":1000},"tm":"m","omc":true,"kl":7}"#
        );
    }

    #[test]
    fn words_win_over_options() {
        let words = Words { priority: Some(5), id: Some(b"a"), ..Words::default() };
        let options = JobOptions::parse(Some(br#"{"priority":9,"jobId":"b"}"#), words).unwrap();
        assert_eq!((options.priority, options.id.as_deref()), (5, Some("a")));
    }

    #[test]
    fn ids_follow_the_client() {
        for id in ["0", "0:1", "123", "-5", "a:b", "a:b:c:d", "NaN", "wait", "9007199254740992"] {
            refused(&format!(r#"{{"jobId":"{id}"}}"#));
        }
        for id in ["007", " 12", "1e3", "a:b:c", "9007199254740993", "-0", "order-1"] {
            text(&format!(r#"{{"jobId":"{id}"}}"#));
        }
    }

    #[test]
    fn wrong_options_are_named() {
        for (json, word) in [
            (r#"{"priority":1.5}"#, "priority"),
            (r#"{"priority":2097152}"#, "priority"),
            (r#"{"priority":-1}"#, "priority"),
            (r#"{"delay":"500"}"#, "delay"),
            (r#"{"delay":-1}"#, "delay"),
            (r#"{"backoff":"x"}"#, "backoff"),
            (r#"{"backoff":{"type":"fixed","jitter":2}}"#, "jitter"),
            (r#"{"deduplication":{}}"#, "deduplication"),
            (r#"{"deduplication":{"id":"a","ttl":1.5}}"#, "ttl"),
            (r#"{"debounce":{"id":"a"}}"#, "debounce"),
            (r#"{"parent":{"id":"a"}}"#, "parent"),
            (r#"{"removeOnComplete":"yes"}"#, "removeOnComplete"),
            (r#"{"failParentOnFailure":true,"removeDependencyOnFailure":true}"#, "together"),
            (r#"{"jobId":5}"#, "jobId"),
            ("[]", "object"),
            ("{", "JSON"),
        ] {
            assert!(refused(json).contains(word), "{json}");
        }
    }
}

//! Reads a policy's configuration so that each error is one line that names the key and what it may hold.
//!
//! A policy parses the text with [`parse`], opens the top level with [`Section::root`], says which keys exist with
//! [`Section::only`], and asks for each. A key that is absent is `None`: defaults are the policy's. Nothing is
//! guessed: a number in quotes, a fraction or a number out of range is an error.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

/// How much of a wrong value an error repeats, in characters.
const SHOWN: usize = 40;

/// The text as JSON.
pub fn parse(config: &str) -> Result<Value, String> {
    serde_json::from_str(config).map_err(|error| format!("the configuration is not JSON: {error}"))
}

/// One object of the configuration, and where it stands in it.
pub struct Section<'a> {
    path: String,
    keys: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    /// The top level.
    pub fn root(value: &'a Value) -> Result<Self, String> {
        match value {
            Value::Object(keys) => Ok(Self { path: String::new(), keys }),
            other => Err(format!("the configuration must be an object such as {{}}, not {}", shown(other))),
        }
    }

    /// An error for the first key that is not one of these.
    pub fn only(&self, allowed: &[&str]) -> Result<(), String> {
        match self.keys.keys().find(|key| !allowed.contains(&key.as_str())) {
            Some(key) => {
                let name = shown(&Value::String(key.clone()));
                let place = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
                Err(format!("{place}unknown key {name}, allowed are {}", allowed.join(", ")))
            }
            None => Ok(()),
        }
    }

    /// A whole number in this range.
    pub fn whole(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, String> {
        self.get(key).map(|value| self.number(key, value, &range, "")).transpose()
    }

    /// A whole number in this range, or `null` for no limit, which is `Some(None)`.
    pub fn limit(&self, key: &str, range: RangeInclusive<u64>) -> Result<Option<Option<u64>>, String> {
        match self.get(key) {
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => self.number(key, value, &range, " or null").map(|number| Some(Some(number))),
            None => Ok(None),
        }
    }

    /// One of these words; the answer is what stands beside it.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, String> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match choices.iter().find(|(word, _)| value.as_str() == Some(word)) {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
                Err(self.wrong(key, value, &format!("one of {}", words.join(", "))))
            }
        }
    }

    /// A text of 1 to `most` bytes.
    pub fn text(&self, key: &str, most: usize) -> Result<Option<&'a str>, String> {
        match self.get(key) {
            Some(Value::String(text)) if !text.is_empty() && text.len() <= most => Ok(Some(text)),
            Some(value) => Err(self.wrong(key, value, &format!("a text of 1 to {most} bytes"))),
            None => Ok(None),
        }
    }

    /// A list of at most `most` texts of 1 to `bytes` bytes.
    pub fn texts(&self, key: &str, most: usize, bytes: usize) -> Result<Option<Vec<String>>, String> {
        let items = match self.get(key) {
            Some(Value::Array(items)) if items.len() <= most => items,
            Some(Value::Array(items)) => {
                return Err(format!("{}: {} entries, at most {most} are allowed", self.name(key), items.len()));
            }
            Some(value) => return Err(self.wrong(key, value, "a list of texts")),
            None => return Ok(None),
        };
        let text = |(index, item): (usize, &Value)| match item {
            Value::String(text) if !text.is_empty() && text.len() <= bytes => Ok(text.clone()),
            other => Err(self.wrong(&format!("{key}[{index}]"), other, &format!("a text of 1 to {bytes} bytes"))),
        };
        items.iter().enumerate().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// A list of at most `most` objects; an absent key is an empty list.
    pub fn sections(&self, key: &str, most: usize) -> Result<Vec<Section<'a>>, String> {
        let items = match self.get(key) {
            Some(Value::Array(items)) if items.len() <= most => items,
            Some(Value::Array(items)) => {
                return Err(format!("{}: {} entries, at most {most} are allowed", self.name(key), items.len()));
            }
            Some(value) => return Err(self.wrong(key, value, "a list of objects")),
            None => return Ok(Vec::new()),
        };
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let path = format!("{}[{index}]", self.name(key));
                match item {
                    Value::Object(keys) => Ok(Section { path, keys }),
                    other => Err(format!("{path}: expected an object, not {}", shown(other))),
                }
            })
            .collect()
    }

    /// An error for a key that has to be there and is not.
    #[must_use]
    pub fn missing(&self, key: &str) -> String {
        format!("{}: missing", self.name(key))
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys.get(key)
    }

    fn number(&self, key: &str, value: &Value, range: &RangeInclusive<u64>, or: &str) -> Result<u64, String> {
        value.as_u64().filter(|number| range.contains(number)).ok_or_else(|| {
            self.wrong(key, value, &format!("a whole number from {} to {}{or}", range.start(), range.end()))
        })
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> String {
        format!("{}: expected {expected}, not {}", self.name(key), shown(value))
    }

    fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A value for an error: JSON on one line, cut where it is long.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        plain => plain.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(json: &str, read: impl FnOnce(&Section) -> Result<T, String>) -> Result<T, String> {
        let value = parse(json)?;
        read(&Section::root(&value)?)
    }

    #[test]
    fn text_that_is_not_json_and_json_that_is_no_object_are_named() {
        assert!(parse("{").unwrap_err().starts_with("the configuration is not JSON: "));
        assert_eq!(with("[1]", |_| Ok(())).unwrap_err(), "the configuration must be an object such as {}, not a list");
    }

    #[test]
    fn an_unknown_key_is_named_with_the_allowed_ones() {
        let error = with(r#"{"a":1,"c":2}"#, |top| top.only(&["a", "b"])).unwrap_err();
        assert_eq!(error, r#"unknown key "c", allowed are a, b"#);
    }

    #[test]
    fn a_number_keeps_to_its_range() {
        let read = |json: &str| with(json, |top| top.whole("n", 1..=10));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"n":10}"#), Ok(Some(10)));
        for wrong in ["0", "11", "-1", "1.5", "\"3\"", "null", "true", "99999999999999999999999", "[]"] {
            let error = read(&format!(r#"{{"n":{wrong}}}"#)).unwrap_err();
            assert!(error.starts_with("n: expected a whole number from 1 to 10, not "), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_limit_may_be_null() {
        let read = |json: &str| with(json, |top| top.limit("n", 1..=10));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"n":null}"#), Ok(Some(None)));
        assert_eq!(read(r#"{"n":3}"#), Ok(Some(Some(3))));
        assert_eq!(read(r#"{"n":0}"#).unwrap_err(), "n: expected a whole number from 1 to 10 or null, not 0");
    }

    #[test]
    fn a_choice_names_the_words() {
        let read = |json: &str| with(json, |top| top.choice("c", &[("on", 1), ("off", 2)]));
        assert_eq!(read(r#"{"c":"off"}"#), Ok(Some(2)));
        assert_eq!(read(r#"{"c":"up"}"#).unwrap_err(), r#"c: expected one of on, off, not "up""#);
        assert_eq!(read(r#"{"c":1}"#).unwrap_err(), "c: expected one of on, off, not 1");
    }

    #[test]
    fn an_entry_of_a_list_is_named_by_its_place() {
        let read = |json: &str| {
            with(json, |top| {
                top.sections("list", 2)?.iter().try_for_each(|entry| {
                    entry.only(&["n"])?;
                    entry.whole("n", 1..=10).map(drop)
                })
            })
        };
        assert_eq!(read(r#"{"list":[{"n":1},{}]}"#), Ok(()));
        assert_eq!(
            read(r#"{"list":[{"n":1},{"n":0}]}"#).unwrap_err(),
            "list[1].n: expected a whole number from 1 to 10, not 0"
        );
        assert_eq!(read(r#"{"list":[{"m":1}]}"#).unwrap_err(), r#"list[0]: unknown key "m", allowed are n"#);
        assert_eq!(read(r#"{"list":[3]}"#).unwrap_err(), "list[0]: expected an object, not 3");
        assert_eq!(read(r#"{"list":[{},{},{}]}"#).unwrap_err(), "list: 3 entries, at most 2 are allowed");
        assert_eq!(read(r#"{"list":{}}"#).unwrap_err(), "list: expected a list of objects, not an object");
    }

    #[test]
    fn a_list_of_texts_is_bounded_in_both_ways() {
        let read = |json: &str| with(json, |top| top.texts("t", 2, 3));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"t":["a","bcd"]}"#), Ok(Some(vec!["a".into(), "bcd".into()])));
        assert_eq!(read(r#"{"t":["a","bcde"]}"#).unwrap_err(), r#"t[1]: expected a text of 1 to 3 bytes, not "bcde""#);
        assert_eq!(read(r#"{"t":[1]}"#).unwrap_err(), "t[0]: expected a text of 1 to 3 bytes, not 1");
        assert_eq!(read(r#"{"t":["a","b","c"]}"#).unwrap_err(), "t: 3 entries, at most 2 are allowed");
        assert_eq!(read(r#"{"t":"a"}"#).unwrap_err(), r#"t: expected a list of texts, not "a""#);
    }

    #[test]
    fn an_error_is_one_short_line_whatever_the_value() {
        let long = format!(r#"{{"c":"a\nb{}"}}"#, "é".repeat(500));
        let error = with(&long, |top| top.text("c", 10).map(drop)).unwrap_err();
        assert!(!error.contains('\n') && error.len() < 200, "{error}");
    }
}

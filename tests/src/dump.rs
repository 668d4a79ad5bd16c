//! All keys of a database in a form that can be compared and read: primary with replica, before a
//! restart with after, one way of adding a job with another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::{Client, Reply};
use crate::printable;

/// A moment this close to now is taken to come from the clock.
const NEAR_MS: u64 = 24 * 3600 * 1000;
/// Delayed jobs have the score `ms * 4096 + n`.
const DELAYED_SLOTS: u64 = 4096;

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(BTreeSet<Vec<u8>>),
    Hash(BTreeMap<Vec<u8>, Vec<u8>>),
    /// Members with the text of their scores, in the server's order.
    Zset(Vec<(Vec<u8>, Vec<u8>)>),
    /// Ids and fields.
    Stream(Vec<(Vec<u8>, Vec<Vec<u8>>)>),
    /// A type that BullMQ does not use.
    Other(String),
}

/// A key's value, and whether it will expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub value: Value,
    pub expires: bool,
}

/// The keys of one database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dump(pub BTreeMap<Vec<u8>, Entry>);

impl Dump {
    /// Reads the whole database of this connection, which nobody else may write to meanwhile.
    pub fn take(client: &mut Client) -> Dump {
        let mut keys = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let reply = client.ok(&["SCAN", &cursor, "COUNT", "1000"]);
            keys.extend(reply.items()[1].items().iter().map(|key| key.bytes().to_vec()));
            cursor = reply.items()[0].text();
            if cursor == "0" {
                break;
            }
        }
        let entries = keys.into_iter().filter_map(|key| Some((key.clone(), entry(client, &key)?)));
        Dump(entries.collect())
    }

    /// Only the keys that start with `prefix`.
    pub fn starting_with(mut self, prefix: &str) -> Dump {
        self.0.retain(|key, _| key.starts_with(prefix.as_bytes()));
        self
    }

    /// Without the ids of stream entries.
    pub fn without_stream_ids(mut self) -> Dump {
        for entry in self.0.values_mut() {
            if let Value::Stream(rows) = &mut entry.value {
                rows.iter_mut().for_each(|(id, _)| id.clear());
            }
        }
        self
    }

    /// With each moment that is within a day of now as `<time>`: milliseconds since 1970, alone or
    /// as the score of a delayed job.
    pub fn without_times(mut self) -> Dump {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let now = u64::try_from(now.as_millis()).expect("a clock of this age");
        let mask = |bytes: &mut Vec<u8>| {
            let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<f64>().ok());
            let Some(number) = number.filter(|number| *number > 0.0) else {
                return;
            };
            let near = |scale: u64| (number / scale as f64 - now as f64).abs() < NEAR_MS as f64;
            if near(1) || near(DELAYED_SLOTS) {
                *bytes = b"<time>".to_vec();
            }
        };
        for entry in self.0.values_mut() {
            match &mut entry.value {
                Value::String(value) => mask(value),
                Value::Hash(fields) => fields.values_mut().for_each(mask),
                Value::Zset(rows) => rows.iter_mut().for_each(|(_, score)| mask(score)),
                Value::Stream(rows) => rows.iter_mut().flat_map(|(_, fields)| fields).for_each(mask),
                Value::List(_) | Value::Set(_) | Value::Other(_) => {}
            }
        }
        self
    }

    /// The differences as text, empty where there are none.
    pub fn diff(&self, other: &Dump, names: [&str; 2]) -> String {
        let mut out = String::new();
        let keys: BTreeSet<&Vec<u8>> = self.0.keys().chain(other.0.keys()).collect();
        for key in keys {
            let (a, b) = (self.0.get(key), other.0.get(key));
            if a == b {
                continue;
            }
            let (a, b) = (rows(a), rows(b));
            let _ = writeln!(out, "key {}", printable(key));
            for (name, mine, theirs) in [(names[0], &a, &b), (names[1], &b, &a)] {
                let only: Vec<_> = mine.iter().filter(|row| !theirs.contains(row)).collect();
                for row in only.iter().take(20) {
                    let _ = writeln!(out, "  {name}: {row}");
                }
                if only.len() > 20 {
                    let _ = writeln!(out, "  {name}: … and {} rows more", only.len() - 20);
                }
            }
        }
        out
    }
}

/// Fails with what differs.
#[track_caller]
pub fn assert_same(left: &Dump, right: &Dump, names: [&str; 2]) {
    let diff = left.diff(right, names);
    assert!(diff.is_empty() && left == right, "{} and {} differ:\n{diff}", names[0], names[1]);
}

/// `None` where the key expired between SCAN and now.
fn entry(client: &mut Client, key: &[u8]) -> Option<Entry> {
    let kind = client.ok(&[b"TYPE", key]).text();
    let expires = client.ok(&[b"PTTL", key]).int() >= 0;
    let value = match kind.as_str() {
        "none" => return None,
        "string" => Value::String(client.ok(&[b"GET", key]).bytes().to_vec()),
        "list" => Value::List(all(&client.ok(&[b"LRANGE".as_slice(), key, b"0", b"-1"]))),
        "set" => Value::Set(all(&client.ok(&[b"SMEMBERS", key])).into_iter().collect()),
        "hash" => Value::Hash(in_pairs(&client.ok(&[b"HGETALL", key])).into_iter().collect()),
        "zset" => Value::Zset(in_pairs(&client.ok(&[b"ZRANGE".as_slice(), key, b"0", b"-1", b"WITHSCORES"]))),
        "stream" => Value::Stream(
            client
                .ok(&[b"XRANGE".as_slice(), key, b"-", b"+"])
                .items()
                .iter()
                .map(|row| (row.items()[0].bytes().to_vec(), all(&row.items()[1])))
                .collect(),
        ),
        other => Value::Other(other.to_owned()),
    };
    Some(Entry { value, expires })
}

fn all(reply: &Reply) -> Vec<Vec<u8>> {
    reply.items().iter().map(|item| item.bytes().to_vec()).collect()
}

/// Pairs of a RESP2 reply; a dump is taken over RESP2 only.
fn in_pairs(reply: &Reply) -> Vec<(Vec<u8>, Vec<u8>)> {
    all(reply).chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// An entry as a line for each part of it.
fn rows(entry: Option<&Entry>) -> Vec<String> {
    let Some(entry) = entry else {
        return vec!["(no such key)".to_owned()];
    };
    let joined = |items: &[Vec<u8>]| items.iter().map(|item| printable(item)).collect::<Vec<_>>().join(" ");
    let pair = |(a, b): (&Vec<u8>, &Vec<u8>)| format!("{} = {}", printable(a), printable(b));
    let mut out = match &entry.value {
        Value::String(value) => vec![format!("string {}", printable(value))],
        Value::List(items) => vec![format!("list {}", joined(items))],
        Value::Set(items) => items.iter().map(|item| format!("member {}", printable(item))).collect(),
        Value::Hash(fields) => fields.iter().map(pair).collect(),
        Value::Zset(items) => items.iter().enumerate().map(|(at, (m, s))| format!("{at}: {}", pair((m, s)))).collect(),
        Value::Stream(items) => {
            items.iter().enumerate().map(|(at, (id, f))| format!("{at}: {} {}", printable(id), joined(f))).collect()
        }
        Value::Other(kind) => vec![format!("a key of type {kind}")],
    };
    if entry.expires {
        out.push("expires".to_owned());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(entries: &[(&str, Value)]) -> Dump {
        let entry = |value: &Value| Entry { value: value.clone(), expires: false };
        Dump(entries.iter().map(|(key, value)| (key.as_bytes().to_vec(), entry(value))).collect())
    }

    fn list(items: &[&str]) -> Value {
        Value::List(items.iter().map(|item| item.as_bytes().to_vec()).collect())
    }

    #[test]
    fn equal_dumps_have_no_diff() {
        let one = dump(&[("q:wait", list(&["2", "1"]))]);
        assert_same(&one, &one.clone(), ["a", "b"]);
    }

    #[test]
    fn a_diff_names_the_key_and_both_sides() {
        let one = dump(&[("q:wait", list(&["2", "1"])), ("q:id", Value::String(b"2".to_vec()))]);
        let two = dump(&[("q:wait", list(&["1", "2"]))]);
        let diff = one.diff(&two, ["a", "b"]);
        assert_eq!(diff, "key q:id\n  a: string 2\n  b: (no such key)\nkey q:wait\n  a: list 2 1\n  b: list 1 2\n");
    }

    #[test]
    fn only_moments_near_now_are_masked() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_millis();
        let zset = |score: u128| Value::Zset(vec![(b"1".to_vec(), score.to_string().into_bytes())]);
        let entries = [("d", zset(now * 4096 + 3)), ("c", zset(now)), ("old", zset(5)), ("p", zset(3 << 32))];
        let masked = dump(&entries).without_times();
        let shown = |key: &str| match &masked.0[key.as_bytes()].value {
            Value::Zset(rows) => printable(&rows[0].1),
            other => panic!("{other:?}"),
        };
        assert_eq!(["d", "c", "old", "p"].map(shown), ["<time>", "<time>", "5", "12884901888"]);
    }
}

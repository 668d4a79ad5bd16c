//! Whether a queue's keys are whole, and whether each acknowledged job is in them once.
//!
//! Reads a dump of all keys and knows BullMQ's layout by itself: it shares no code with the module, so that one can
//! show where the other is wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::load::Said;
use crate::dump::{Dump, Value};
use crate::printable;

const STATES: [&str; 8] =
    ["wait", "paused", "active", "prioritized", "delayed", "waiting-children", "completed", "failed"];
const PARTS: [&str; 6] = [":lock", ":logs", ":dependencies", ":processed", ":failed", ":unsuccessful"];
/// Keys of a queue that are not jobs.
const OWN: [&str; 16] = [
    "meta",
    "id",
    "pc",
    "marker",
    "events",
    "stalled",
    "stalled-check",
    "limiter",
    "repeat",
    "metrics:completed",
    "metrics:failed",
    "metrics:completed:data",
    "metrics:failed:data",
    "guard:profile",
    "priority",
    "de:",
];

/// What an oracle found. Empty lists are what should be.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Acknowledged, gone, and never run.
    pub lost: Vec<String>,
    /// In the queue more than once.
    pub doubled: Vec<String>,
    /// Keys that belong to nothing, ids without a job, jobs in no state or in two.
    pub broken: Vec<String>,
    /// Jobs found.
    pub jobs: usize,
}

impl Findings {
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.broken.is_empty()
    }

    /// The first of each, one a line.
    pub fn text(&self) -> String {
        let some = |what: &str, list: &[String]| {
            list.iter().take(5).map(|one| format!("{what}: {one}\n")).collect::<String>()
                + &(if list.len() > 5 { format!("{what}: and {} more\n", list.len() - 5) } else { String::new() })
        };
        some("lost", &self.lost) + &some("doubled", &self.doubled) + &some("broken", &self.broken)
    }
}

/// Looks through all keys of `queue`. Finished jobs may have been trimmed if they ran.
pub fn judge(dump: &Dump, queue: &str, said: &Said) -> Findings {
    let mut found = structure(dump, queue);
    let base = format!("{queue}:").into_bytes();
    let mut seen: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (key, entry) in &dump.0 {
        if let (true, Value::Hash(fields)) = (key.starts_with(&base), &entry.value)
            && let Some(number) = fields.get(&b"data"[..]).and_then(|data| number(data))
        {
            seen.entry(number).or_default().push(printable(key));
        }
    }
    found.doubled = seen.iter().filter(|(_, keys)| keys.len() > 1).map(|(n, keys)| format!("{n}: {keys:?}")).collect();
    found.lost = said
        .acked
        .iter()
        .filter(|(n, _)| !seen.contains_key(n) && !said.ran.contains(n))
        .map(|(n, id)| format!("{n}, acknowledged as {id}"))
        .collect();
    found.broken.extend(
        said.refused.iter().filter(|(n, _)| seen.contains_key(n)).map(|(n, text)| format!("{n} was refused ({text})")),
    );
    found
}

/// The part of the verdict that needs no log of acknowledgements: a torn job is seen here.
pub fn structure(dump: &Dump, queue: &str) -> Findings {
    let mut found = Findings::default();
    let mut states: BTreeMap<Vec<u8>, Vec<&str>> = BTreeMap::new();
    for state in STATES {
        for id in ids(dump, &format!("{queue}:{state}")) {
            // Markers of BullMQ 4.
            if id != b"0" && !id.starts_with(b"0:") {
                states.entry(id).or_default().push(state);
            }
        }
    }
    let base = format!("{queue}:").into_bytes();
    let mut jobs = BTreeSet::new();
    for (key, entry) in &dump.0 {
        let Some(rest) = key.strip_prefix(&base[..]) else { continue };
        if STATES.iter().chain(&OWN).any(|own| rest == own.as_bytes()) || rest.starts_with(b"de:") {
            continue;
        }
        let part = PARTS.iter().find_map(|part| rest.strip_suffix(part.as_bytes()));
        match (part, &entry.value) {
            (Some(id), _) if dump.0.contains_key(&[&base, id].concat()) => {}
            (None, Value::Hash(fields)) if fields.contains_key(&b"name"[..]) && fields.contains_key(&b"data"[..]) => {
                jobs.insert(rest.to_vec());
            }
            _ => found.broken.push(format!("{} belongs to nothing", printable(key))),
        }
    }
    for (id, of) in &states {
        if of.len() > 1 {
            found.broken.push(format!("job {} is in {of:?}", printable(id)));
        }
        if !jobs.contains(id) {
            found.broken.push(format!("{} in {of:?} has no job", printable(id)));
        }
    }
    let nowhere = jobs.iter().filter(|id| !states.contains_key(*id));
    found.broken.extend(nowhere.map(|id| format!("job {} is in no state", printable(id))));
    found.jobs = jobs.len();
    found
}

fn ids(dump: &Dump, key: &str) -> Vec<Vec<u8>> {
    match dump.0.get(key.as_bytes()).map(|entry| &entry.value) {
        Some(Value::List(ids)) => ids.clone(),
        Some(Value::Zset(rows)) => rows.iter().map(|(id, _)| id.clone()).collect(),
        _ => Vec::new(),
    }
}

/// `n` of `{"n":12,…}`.
fn number(data: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(data).ok()?.strip_prefix("{\"n\":")?;
    text[..text.find(|c: char| !c.is_ascii_digit())?].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::Entry;

    fn dump(keys: &[(&str, Value)]) -> Dump {
        let entry = |value: &Value| Entry { value: value.clone(), expires: false };
        Dump(keys.iter().map(|(key, value)| (key.as_bytes().to_vec(), entry(value))).collect())
    }

    fn job(n: u64) -> Value {
        let data = format!("{{\"n\":{n},\"pad\":\"\"}}").into_bytes();
        Value::Hash([(b"name".to_vec(), b"j".to_vec()), (b"data".to_vec(), data)].into())
    }

    fn list(ids: &[&str]) -> Value {
        Value::List(ids.iter().map(|id| id.as_bytes().to_vec()).collect())
    }

    fn acked(numbers: &[u64]) -> Said {
        Said { acked: numbers.iter().map(|n| (*n, n.to_string())).collect(), ..Said::default() }
    }

    #[test]
    fn a_whole_queue_is_clean() {
        let dump = dump(&[("q:1", job(1)), ("q:2", job(2)), ("q:wait", list(&["2", "1"])), ("q:id", list(&[]))]);
        let found = judge(&dump, "q", &acked(&[1, 2]));
        assert!(found.is_clean(), "{}", found.text());
        assert_eq!(found.jobs, 2);
    }

    #[test]
    fn what_is_lost_doubled_or_broken_is_found() {
        let dump = dump(&[
            ("q:1", job(1)),
            ("q:2", job(1)),
            ("q:wait", list(&["2", "1", "9"])),
            ("q:active", list(&["2"])),
            ("q:5", job(5)),
            ("q:7:logs", list(&["row"])),
        ]);
        let found = judge(&dump, "q", &acked(&[1, 3]));
        assert_eq!((found.lost.len(), found.doubled.len()), (1, 1));
        // 2 in two states, 9 without a job, 5 in no state, logs of nothing.
        assert_eq!(found.broken.len(), 4, "{}", found.text());
    }

    #[test]
    fn a_job_that_ran_may_be_trimmed() {
        let said = Said { ran: [1].into(), ..acked(&[1]) };
        assert!(judge(&dump(&[]), "q", &said).is_clean());
    }
}

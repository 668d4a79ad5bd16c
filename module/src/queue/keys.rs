//! Queue names and the keys under them.
//!
//! A queue is named by its qualified name `<prefix>:<name>`; each of its keys is that name, a colon and a suffix.
//! Prefix and name may hold colons and braces, so nothing here is ever found by splitting on `:`.

use super::error::{QueueError, Result};
use crate::text::printable;

/// Longest qualified name accepted, bytes.
pub const MAX_NAME: usize = 1024;

/// Slots of Redis Cluster.
pub const SLOTS: u16 = 16384;

/// The qualified name of a queue, checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Box<str>);

impl QueueName {
    /// Errors: empty, no `<prefix>:`, empty name, a trailing colon, control characters, invalid UTF-8, over 1024 bytes.
    pub fn parse(name: &[u8]) -> Result<Self> {
        let bad = |why: &str| {
            let shown = printable(&name[..name.len().min(64)]);
            Err(QueueError::bad(format!("queue '{shown}' {why}")))
        };
        if name.len() > MAX_NAME {
            return bad("has a name of over 1024 bytes");
        }
        let Ok(text) = std::str::from_utf8(name) else {
            return bad("is not valid UTF-8");
        };
        if text.chars().any(char::is_control) {
            return bad("has a control character in its name");
        }
        if name.ends_with(b":") {
            return bad("ends with a colon; give the qualified name without it, such as bull:emails");
        }
        if !name.contains(&b':') {
            return bad("has no prefix; give the qualified name <prefix>:<name>, such as bull:emails");
        }
        Ok(Self(text.into()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The name as text for people; queue names are UTF-8.
    pub fn display(&self) -> std::borrow::Cow<'_, str> {
        self.as_str().into()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A key of this queue: the base key and a suffix.
    pub fn key(&self, suffix: impl AsRef<[u8]>) -> Vec<u8> {
        let suffix = suffix.as_ref();
        let mut key = Vec::with_capacity(self.0.len() + 1 + suffix.len());
        key.extend_from_slice(self.as_bytes());
        key.push(b':');
        key.extend_from_slice(suffix);
        key
    }

    /// The hash tag that decides the slot of every key of the queue; None where keys scatter in a cluster.
    pub fn hash_tag(&self) -> Option<&[u8]> {
        hash_tag(self.as_bytes())
    }

    /// The slot of the name itself, 0..16383.
    pub fn slot(&self) -> u16 {
        slot(self.as_bytes())
    }
}

/// What is between the first `{` and the next `}`, unless that is nothing.
pub fn hash_tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&byte| byte == b'{')?;
    let inside = &key[open + 1..];
    let close = inside.iter().position(|&byte| byte == b'}')?;
    (close > 0).then(|| &inside[..close])
}

/// The cluster slot of a key.
pub fn slot(key: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(hash_tag(key).unwrap_or(key)) % SLOTS
}

/// The key of a job's sub-key, such as `:logs`.
pub fn sub_key(job: &[u8], suffix: &str) -> Vec<u8> {
    [job, suffix.as_bytes()].concat()
}

/// What a removal deletes besides the job's hash (removeJobKeys, BullMQ 5.42 and later).
pub const SUB_KEYS: [&str; 5] = [":logs", ":dependencies", ":processed", ":failed", ":unsuccessful"];

/// That of them which a job has whose processor logs (addLog).
pub const LOGS_KEY: &str = ":logs";

/// Those of them that only a job with children has.
pub const FLOW_KEYS: [&str; 4] = [":dependencies", ":processed", ":failed", ":unsuccessful"];

/// The name ends like that of one of [`SUB_KEYS`]. Asked for most keys that are written: the last byte says no at once.
pub fn is_sub_key(name: &[u8]) -> bool {
    let ends = |suffix: &str| name.ends_with(suffix.as_bytes());
    match name.last() {
        Some(b's') => ends(LOGS_KEY) || ends(":dependencies"),
        Some(b'd') => ends(":processed") || ends(":failed"),
        Some(b'l') => ends(":unsuccessful"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> QueueName {
        QueueName::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn keys_are_the_name_a_colon_and_a_suffix() {
        assert_eq!(name("bull:{tasks:critical}").key("wait"), b"bull:{tasks:critical}:wait");
        assert_eq!(name(":q").key("wait"), b":q:wait");
    }

    #[test]
    fn slots_are_redis_own() {
        assert_eq!(name("bull:{tasks:critical}").slot(), 8259);
        assert_eq!(slot(b"123456789"), 12739);
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(hash_tag(b"foo{}{bar}"), None);
        assert_eq!(hash_tag(b"foo{{bar}}zap"), Some(&b"{bar"[..]));
    }

    #[test]
    fn wrong_names_say_what_is_wrong() {
        for (input, word) in [
            (&b"emails"[..], "prefix"),
            (b"", "prefix"),
            (b"bull:emails:", "colon"),
            (b"bull:\0", "control"),
            (b"bull:\xff", "UTF-8"),
        ] {
            let text = QueueName::parse(input).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
        assert!(QueueName::parse(&[b':'; 2000]).is_err());
    }
}

//! Walking a keyspace piece by piece, for work that has to see everything without holding the server up.
//!
//! Each step reads a bounded piece. What is there from the first step to the last is seen; what comes or goes in between
//! may be seen, also twice.

use super::fields::Known;
use super::store::{Store, StoreResult};

/// A piece of a walk, and where the next one begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub items: Vec<Vec<u8>>,
    /// None behind the last piece.
    pub next: Option<Vec<u8>>,
}

/// What a walk of members goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Set,
    /// The members without their scores.
    ZSet,
}

/// How much of a list is looked through, elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Whole,
    First(u64),
    Last(u64),
}

/// Reads that a walk needs. A `cursor` of None is the beginning.
pub trait Walk: Store {
    /// Keys that begin with `prefix`, of any type; a piece may be empty though more follow.
    fn keys(&self, prefix: &[u8], cursor: Option<&[u8]>) -> StoreResult<Page>;
    /// Members of a set or a sorted set.
    fn members(&self, key: &[u8], group: Group, cursor: Option<&[u8]>) -> StoreResult<Page>;
    /// Names of all fields of a hash. Ask for its length first.
    fn field_names(&self, key: &[u8]) -> StoreResult<Vec<Vec<u8>>>;
    /// The key is a hash that has all these fields. Their values are not read.
    fn has_fields(&self, key: &[u8], fields: &[Known]) -> bool;
    /// The list holds the element within this reach.
    fn list_holds(&self, key: &[u8], element: &[u8], reach: Reach) -> StoreResult<bool>;
}

/// The text as a glob pattern that fits only itself.
pub fn glob_escape(text: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(text.len() + 4);
    for &byte in text {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^') {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_only_its_own_text() {
        assert_eq!(glob_escape(b"bull:{a}:"), b"bull:{a}:");
        assert_eq!(glob_escape(br"a*b?[c]\d"), br"a\*b\?\[c\]\\d");
    }
}

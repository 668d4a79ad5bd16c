//! Strings of the server that adds need again and again: a queue's keys, and short words made lately.
//!
//! It changes no key.

use super::Context;
use super::abi::RawString;
use super::call::with_known;
use super::key::ReadKey;
use super::string::OwnedString;
use crate::queue::fields::Word;
use crate::queue::job::QueueKeys;

/// A queue's keys as strings of the server, made once and kept between commands.
pub struct Names([OwnedString; QueueKeys::COUNT]);

impl Names {
    pub fn of(keys: &QueueKeys) -> Self {
        Self(keys.all().map(OwnedString::new))
    }

    /// The name in a place of [`QueueKeys::all`].
    pub(super) fn slot(&self, slot: usize) -> &OwnedString {
        &self.0[slot]
    }

    /// How many elements the queue's keys in these places have together.
    pub fn len<const N: usize>(&self, context: Context, slots: [usize; N]) -> u64 {
        self.at(slots).into_iter().filter_map(|name| ReadKey::open_named(context, name)).map(|key| key.len()).sum()
    }

    /// Names by their places in [`QueueKeys::all`].
    pub fn at<const N: usize>(&self, slots: [usize; N]) -> [&OwnedString; N] {
        slots.map(|slot| &self.0[slot])
    }
}

/// Strings made lately: an add names its id five times.
#[derive(Default)]
pub(super) struct Recent {
    strings: [Option<OwnedString>; 8],
    next: usize,
}

/// Longest string that is looked for, bytes; what is longer is long in a hash as well.
pub(super) const SHORT: usize = 64;

/// Arguments of one call, alive as long as this.
pub(super) struct Words {
    pub(super) raw: Vec<*mut RawString>,
    _held: Vec<OwnedString>,
}

impl Recent {
    pub(super) fn get(&mut self, bytes: &[u8]) -> OwnedString {
        if bytes.len() > SHORT {
            return OwnedString::new(bytes);
        }
        let known = self.strings.iter().flatten().find(|string| string.as_bytes() == bytes);
        if let Some(string) = known {
            return string.clone();
        }
        let string = OwnedString::new(bytes);
        self.strings[self.next] = Some(string.clone());
        self.next = (self.next + 1) % self.strings.len();
        string
    }

    pub(super) fn words<'w>(
        &mut self,
        words: impl Iterator<Item = Word<'w>>,
        argument: impl Fn(&[u8]) -> Option<*mut RawString>,
    ) -> Words {
        let mut raw = Vec::with_capacity(words.size_hint().0);
        let mut held = Vec::with_capacity(words.size_hint().0);
        for word in words {
            let bytes = match word {
                Word::Known(known) => {
                    raw.push(with_known(known, OwnedString::as_ptr));
                    continue;
                }
                Word::Bytes(bytes) => bytes,
            };
            if bytes.len() > SHORT
                && let Some(argument) = argument(bytes)
            {
                raw.push(argument);
                continue;
            }
            let string = self.get(bytes);
            raw.push(string.as_ptr());
            held.push(string);
        }
        Words { raw, _held: held }
    }
}

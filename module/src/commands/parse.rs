//! Reading a command's arguments: words in any case and order, each at most once.

use crate::error::{Error, Result};
use crate::queue::units::{duration, size};
use crate::redis::string::Args;
use crate::text::short;

/// A place in the argument list.
pub struct Cursor<'a> {
    args: Args<'a>,
    next: usize,
    seen: Vec<&'static str>,
}

impl<'a> Cursor<'a> {
    /// Starts behind the command's name: 1, or 2 for a subcommand.
    pub fn new(args: Args<'a>, start: usize) -> Self {
        Self { args, next: start, seen: Vec::new() }
    }

    /// The next argument; `what` names it in the error.
    pub fn required(&mut self, what: &str) -> Result<&'a [u8]> {
        self.optional().ok_or_else(|| Error::bad(format!("{what} is missing")))
    }

    pub fn optional(&mut self) -> Option<&'a [u8]> {
        let argument = self.args.get(self.next)?;
        self.next += 1;
        Some(argument)
    }

    pub fn left(&self) -> usize {
        self.args.len().saturating_sub(self.next)
    }

    /// The next option word among `known`. Errors: unknown, repeated.
    pub fn word(&mut self, known: &[&'static str]) -> Result<Option<&'static str>> {
        let Some(argument) = self.optional() else { return Ok(None) };
        let Some(&word) = known.iter().find(|word| argument.eq_ignore_ascii_case(word.as_bytes())) else {
            return Err(Error::bad(format!("unknown word '{}'; known are {}", short(argument, 64), known.join(", "))));
        };
        if self.seen.contains(&word) {
            return Err(Error::bad(format!("{word} is given twice")));
        }
        self.seen.push(word);
        Ok(Some(word))
    }

    /// The value behind an option word.
    pub fn value(&mut self, word: &str) -> Result<&'a [u8]> {
        self.optional().ok_or_else(|| Error::bad(format!("{word} needs a value")))
    }

    /// A whole number from `min` to `max`.
    pub fn number(&mut self, word: &str, min: i64, max: i64) -> Result<i64> {
        let text = self.value(word)?;
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .filter(|number| (min..=max).contains(number) && !text.starts_with(b"+"))
            .ok_or_else(|| {
                Error::bad(format!("{word} must be a whole number from {min} to {max}, not '{}'", short(text, 64)))
            })
    }

    /// Milliseconds: a whole number, alone or with `ms s m h d` behind it.
    pub fn duration(&mut self, word: &str) -> Result<u64> {
        let text = self.value(word)?;
        duration(text).ok_or_else(|| {
            Error::bad(format!(
                "{word} must be milliseconds or a time such as 90s, 15m, 12h or 7d, not '{}'",
                short(text, 64)
            ))
        })
    }

    /// Bytes: a whole number, alone or with a unit as in redis.conf.
    pub fn size(&mut self, word: &str) -> Result<u64> {
        let text = self.value(word)?;
        size(text).ok_or_else(|| {
            Error::bad(format!("{word} must be bytes or a size such as 64kb, 100mb or 2gb, not '{}'", short(text, 64)))
        })
    }

    /// Text that is valid UTF-8.
    pub fn text(&mut self, word: &str) -> Result<&'a str> {
        let bytes = self.value(word)?;
        std::str::from_utf8(bytes).map_err(|_| Error::bad(format!("{word} is not valid UTF-8")))
    }

    /// Refuses further arguments.
    pub fn finish(&mut self) -> Result<()> {
        match self.optional() {
            None => Ok(()),
            Some(extra) => Err(Error::bad(format!("unexpected argument '{}'", short(extra, 64)))),
        }
    }
}

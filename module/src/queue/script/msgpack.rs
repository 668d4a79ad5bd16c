//! A bounded reader of msgpack: one value at a time, nothing is copied, nothing is believed.
//!
//! What Redis' own cmsgpack refuses (binary, extensions) is refused here too: such a script fails anyway.

use rmp::Marker;

/// A value, or the head of a compound whose elements come next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Nil,
    Bool(bool),
    Number(f64),
    Text(&'a [u8]),
    Array(usize),
    /// Pairs.
    Map(usize),
}

impl<'a> Value<'a> {
    pub fn text(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn number(self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            _ => None,
        }
    }
}

/// Reads on from where it stands. None: the bytes end too early, or are of a kind that scripts do not take.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn len8(&mut self) -> Option<usize> {
        self.fixed().map(u8::from_be_bytes).map(usize::from)
    }

    fn len16(&mut self) -> Option<usize> {
        self.fixed().map(u16::from_be_bytes).map(usize::from)
    }

    fn len32(&mut self) -> Option<usize> {
        self.fixed().map(u32::from_be_bytes).and_then(|len| len.try_into().ok())
    }

    /// The next value. After [`Value::Array`] and [`Value::Map`] their elements follow.
    #[inline]
    pub fn next(&mut self) -> Option<Value<'a>> {
        let (&marker, rest) = self.0.split_first()?;
        self.0 = rest;
        // Nearly all that scripts are sent.
        match marker {
            0xa0..=0xbf => self.take(usize::from(marker & 0x1f)).map(Value::Text),
            0xc0 => Some(Value::Nil),
            0x00..=0x7f => Some(Value::Number(f64::from(marker))),
            0xcb => self.fixed().map(f64::from_be_bytes).map(Value::Number),
            _ => self.rare(marker),
        }
    }

    fn rare(&mut self, marker: u8) -> Option<Value<'a>> {
        let text = |reader: &mut Self, len: Option<usize>| len.and_then(|len| reader.take(len)).map(Value::Text);
        let number = |value: Option<f64>| value.map(Value::Number);
        match Marker::from_u8(marker) {
            Marker::Null => Some(Value::Nil),
            Marker::True => Some(Value::Bool(true)),
            Marker::False => Some(Value::Bool(false)),
            Marker::FixPos(value) => Some(Value::Number(f64::from(value))),
            Marker::FixNeg(value) => Some(Value::Number(f64::from(value))),
            Marker::U8 => number(self.fixed().map(|bytes| f64::from(u8::from_be_bytes(bytes)))),
            Marker::U16 => number(self.fixed().map(|bytes| f64::from(u16::from_be_bytes(bytes)))),
            Marker::U32 => number(self.fixed().map(|bytes| f64::from(u32::from_be_bytes(bytes)))),
            Marker::U64 => number(self.fixed().map(|bytes| u64::from_be_bytes(bytes) as f64)),
            Marker::I8 => number(self.fixed().map(|bytes| f64::from(i8::from_be_bytes(bytes)))),
            Marker::I16 => number(self.fixed().map(|bytes| f64::from(i16::from_be_bytes(bytes)))),
            Marker::I32 => number(self.fixed().map(|bytes| f64::from(i32::from_be_bytes(bytes)))),
            Marker::I64 => number(self.fixed().map(|bytes| i64::from_be_bytes(bytes) as f64)),
            Marker::F32 => number(self.fixed().map(|bytes| f64::from(f32::from_be_bytes(bytes)))),
            Marker::F64 => number(self.fixed().map(f64::from_be_bytes)),
            Marker::FixStr(len) => text(self, Some(usize::from(len))),
            Marker::Str8 => {
                let len = self.len8();
                text(self, len)
            }
            Marker::Str16 => {
                let len = self.len16();
                text(self, len)
            }
            Marker::Str32 => {
                let len = self.len32();
                text(self, len)
            }
            Marker::FixArray(len) => Some(Value::Array(usize::from(len))),
            Marker::Array16 => self.len16().map(Value::Array),
            Marker::Array32 => self.len32().map(Value::Array),
            Marker::FixMap(len) => Some(Value::Map(usize::from(len))),
            Marker::Map16 => self.len16().map(Value::Map),
            Marker::Map32 => self.len32().map(Value::Map),
            _ => None,
        }
    }

    /// The next value with all that it holds. The head is handed back. Takes no stack: nesting is counted, not followed.
    #[inline]
    pub fn whole(&mut self) -> Option<Value<'a>> {
        let head = self.next()?;
        if matches!(head, Value::Array(_) | Value::Map(_)) {
            self.pass(Self::elements(head)?)?;
        }
        Some(head)
    }

    /// Goes behind so many values.
    fn pass(&mut self, mut left: usize) -> Option<()> {
        while left > 0 {
            // Each value takes a byte at least, so a claim beyond the bytes ends here at once.
            if left > self.0.len() {
                return None;
            }
            left = (left - 1).checked_add(Self::elements(self.next()?)?)?;
        }
        Some(())
    }

    fn elements(head: Value<'_>) -> Option<usize> {
        match head {
            Value::Array(len) => Some(len),
            Value::Map(pairs) => pairs.checked_mul(2),
            _ => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_number_is_a_number() {
        for (bytes, expected) in [
            (&[0x7f][..], 127.0),
            (&[0xe0], -32.0),
            (&[0xcc, 200], 200.0),
            (&[0xcd, 1, 0], 256.0),
            (&[0xce, 0, 1, 0, 0], 65536.0),
            (&[0xcf, 0, 0, 1, 0x9a, 0, 0, 0, 0], 1_760_936_591_360.0),
            (&[0xd0, 0x80], -128.0),
            (&[0xd1, 0xff, 0], -256.0),
            (&[0xd2, 0xff, 0xff, 0xff, 0xff], -1.0),
            (&[0xd3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -1.0),
            (&[0xca, 0x3f, 0, 0, 0], 0.5),
            (&[0xcb, 0x3f, 0xe0, 0, 0, 0, 0, 0, 0], 0.5),
        ] {
            assert_eq!(Reader::new(bytes).next(), Some(Value::Number(expected)), "{bytes:02x?}");
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).next(), None, "{bytes:02x?} cut short");
        }
    }

    #[test]
    fn strings_of_every_width() {
        for head in [&[0xa2][..], &[0xd9, 2], &[0xda, 0, 2], &[0xdb, 0, 0, 0, 2]] {
            let bytes = [head, b"ab"].concat();
            assert_eq!(Reader::new(&bytes).next(), Some(Value::Text(b"ab")));
            assert_eq!(Reader::new(&bytes[..bytes.len() - 1]).next(), None);
        }
    }

    #[test]
    fn what_scripts_refuse_is_refused() {
        for bytes in [&[0xc1][..], &[0xc4, 0], &[0xc7, 0, 0], &[0xd4, 0, 0], &[]] {
            assert_eq!(Reader::new(bytes).whole(), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn claims_beyond_the_bytes_and_deep_nests_end_soon() {
        assert_eq!(Reader::new(&[0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0]).whole(), None);
        assert_eq!(Reader::new(&[0xdf, 0xff, 0xff, 0xff, 0xff]).whole(), None);
        let deep = [vec![0x91; 1 << 20], vec![0xc0]].concat();
        let mut reader = Reader::new(&deep);
        assert_eq!(reader.whole(), Some(Value::Array(1)));
        assert_eq!(reader.next(), None, "all of it was read");
    }
}

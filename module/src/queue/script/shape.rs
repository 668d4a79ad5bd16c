//! The shape of an add script: how many keys, their suffixes after one common base, how many arguments.
//!
//! The tuples are those of BullMQ 4.0 to 6.7, read from each of its releases; the ports send the same scripts. No other
//! script of BullMQ has one of these tuples.

use std::ops::Range;

/// What kind of add a shape is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Standard,
    Delayed,
    Prioritized,
    /// A job that waits for children.
    Parent,
    /// `addJob` of 4.0 to 4.14.1, which does all four.
    Any,
    /// addJobScheduler: makes or changes a job scheduler and its next job.
    Scheduler,
}

/// A shape of KEYS.
#[derive(Debug, PartialEq, Eq)]
pub struct Shape {
    pub kind: Kind,
    /// Suffixes after the base, in order.
    keys: &'static [Suffix],
}

/// The end of a key, also as a number: the ends of keys are compared 16 bytes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Suffix {
    text: &'static str,
    end: u128,
    mask: u128,
}

const fn suffix(text: &'static str) -> Suffix {
    let bytes = text.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() <= 16, "an end has 16 bytes at most");
    let (mut end, mut at) = (0, 0);
    while at < bytes.len() {
        end |= (bytes[at] as u128) << (8 * (16 - bytes.len() + at));
        at += 1;
    }
    Suffix { text, end, mask: u128::MAX << (8 * (16 - bytes.len())) }
}

impl Suffix {
    const fn len(self) -> usize {
        self.text.len()
    }

    /// `key` ends with it.
    fn ends(self, key: &[u8]) -> bool {
        match key.last_chunk::<16>() {
            Some(end) => (u128::from_le_bytes(*end) ^ self.end) & self.mask == 0,
            None => key.ends_with(self.text.as_bytes()),
        }
    }
}

impl Shape {
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// Place of ARGV\[1\] in the command.
    pub fn first_argument(&self) -> usize {
        FIRST_KEY + self.keys.len()
    }

    fn least_arguments(&self) -> usize {
        if self.kind == Kind::Scheduler { 8 } else { 3 }
    }
}

/// Place of KEYS\[1\]: after the command, the script and the number of keys.
const FIRST_KEY: usize = 3;
/// Fewest words of any add: four keys and three arguments.
pub const LEAST_WORDS: usize = FIRST_KEY + 4 + 3;
/// Most arguments of an add script; the newest scripts take four, addJobScheduler nine.
const MOST_ARGUMENTS: usize = 16;

macro_rules! shape {
    ($kind:ident: $($key:literal)+) => {
        Shape { kind: Kind::$kind, keys: const { &[$(suffix($key)),+] } }
    };
}

/// All shapes, those with fewer keys first.
static SHAPES: [Shape; 17] = [
    // 4.14.2 to 5.55
    shape!(Parent: "meta" "id" "completed" "events"),
    // 5.56 to 5.61
    shape!(Parent: "meta" "id" "delayed" "completed" "events"),
    // since 5.62
    shape!(Parent: "meta" "id" "delayed" "waiting-children" "completed" "events"),
    // since 5.0
    shape!(Delayed: "marker" "meta" "id" "delayed" "completed" "events"),
    // 4.14.2 to 4.18
    shape!(Standard: "wait" "paused" "meta" "id" "completed" "events"),
    // 5.34.7 to 5.39
    shape!(Scheduler: "marker" "meta" "id" "delayed" "events" "repeat"),
    // 5.0 to 5.8
    shape!(Standard: "wait" "paused" "meta" "id" "completed" "events" "marker"),
    shape!(Prioritized: "marker" "meta" "id" "prioritized" "completed" "events" "pc"),
    // 4.14.2 to 4.18
    shape!(Delayed: "wait" "paused" "meta" "id" "delayed" "completed" "events"),
    // 5.9 to 5.55
    shape!(Standard: "wait" "paused" "meta" "id" "completed" "active" "events" "marker"),
    shape!(Prioritized: "marker" "meta" "id" "prioritized" "completed" "active" "events" "pc"),
    // 4.14.2 to 4.18
    shape!(Prioritized: "wait" "paused" "meta" "id" "prioritized" "completed" "events" "pc"),
    // since 5.56
    shape!(Standard: "wait" "paused" "meta" "id" "completed" "delayed" "active" "events" "marker"),
    shape!(Prioritized: "marker" "meta" "id" "prioritized" "delayed" "completed" "active" "events" "pc"),
    // 4.0 to 4.14.1
    shape!(Any: "wait" "paused" "meta" "id" "delayed" "prioritized" "completed" "events" "pc"),
    // 5.41.6 to 5.43.0
    shape!(Scheduler: "repeat" "delayed" "wait" "paused" "meta" "prioritized" "marker" "id" "events" "pc"),
    // since 5.43.1
    shape!(Scheduler: "repeat" "delayed" "wait" "paused" "meta" "prioritized" "marker" "id" "events" "pc" "active"),
];

/// The shapes with so many keys, as the command spells their number: places in [`SHAPES`].
fn with_keys(count: &[u8]) -> Range<usize> {
    match count {
        b"4" => 0..1,
        b"5" => 1..2,
        b"6" => 2..6,
        b"7" => 6..9,
        b"8" => 9..12,
        b"9" => 12..15,
        b"10" => 15..16,
        b"11" => 16..17,
        _ => 0..0,
    }
}

/// How many shapes there are.
pub const COUNT: usize = SHAPES.len();

/// A shape by its number.
pub fn numbered(number: usize) -> Option<&'static Shape> {
    SHAPES.get(number)
}

/// The number of the shape of an EVAL or EVALSHA with `words` words, of which `word` hands out one (the command's own name
/// is word 0). None: not an add script. Reads no further than it must, and allocates nothing.
pub fn recognise<'a>(words: usize, word: impl Fn(usize) -> &'a [u8]) -> Option<usize> {
    if words < LEAST_WORDS {
        return None;
    }
    with_keys(word(2)).find(|&number| fits(&SHAPES[number], words, &word))
}

fn fits<'a>(shape: &Shape, words: usize, word: &impl Fn(usize) -> &'a [u8]) -> bool {
    let Some(arguments) = words.checked_sub(shape.first_argument()) else { return false };
    if !(shape.least_arguments()..=MOST_ARGUMENTS).contains(&arguments) {
        return false;
    }
    let first = word(FIRST_KEY);
    if !shape.keys[0].ends(first) {
        return false;
    }
    let base = Base::of(first, first.len() - shape.keys[0].len());
    base.text.last() == Some(&b':')
        && shape.keys.iter().enumerate().skip(1).all(|(at, suffix)| {
            let key = word(FIRST_KEY + at);
            key.len() == base.text.len() + suffix.len() && suffix.ends(key) && base.begins(key)
        })
        && match shape.kind {
            // ARGV[8] is the base again.
            Kind::Scheduler => word(shape.first_argument() + 7) == base.text,
            // ARGV[1] is an array in msgpack.
            _ => matches!(word(shape.first_argument()).first(), Some(0x90..=0x9f | 0xdc | 0xdd)),
        }
}

/// The beginning that all keys have in common, up to 16 bytes of it also as a number.
struct Base<'a> {
    text: &'a [u8],
    start: Option<u128>,
    mask: u128,
}

impl<'a> Base<'a> {
    /// The first `len` bytes of the first key.
    fn of(first: &'a [u8], len: usize) -> Self {
        let mask = if len < 16 { (1 << (8 * len)) - 1 } else { u128::MAX };
        Self { text: &first[..len], start: first.first_chunk().map(|start| u128::from_le_bytes(*start)), mask }
    }

    /// `key`, which is no shorter, begins with it.
    fn begins(&self, key: &[u8]) -> bool {
        match (self.start, key.first_chunk()) {
            (Some(start), Some(other)) => {
                (u128::from_le_bytes(*other) ^ start) & self.mask == 0
                    && (self.text.len() <= 16 || same(&key[16..self.text.len()], &self.text[16..]))
            }
            _ => key.starts_with(self.text),
        }
    }
}

/// Equality of texts that are short, and equal as a rule: eight bytes at a time, without a call for each of so many.
pub(super) fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (mut one_left, mut other_left) = (one, other);
    while let (Some((one, one_rest)), Some((other, other_rest))) =
        (one_left.split_first_chunk::<8>(), other_left.split_first_chunk::<8>())
    {
        if one != other {
            return false;
        }
        (one_left, other_left) = (one_rest, other_rest);
    }
    // What is left, with some of what is known already.
    match (one.last_chunk::<8>(), one_left.first_chunk::<4>()) {
        (Some(end), _) => Some(end) == other.last_chunk(),
        (_, Some(start)) => Some(start) == other_left.first_chunk() && one.last_chunk::<4>() == other.last_chunk(),
        _ => one.iter().zip(other).all(|(one, other)| one == other),
    }
}

/// The base of the keys, a colon at its end, of a command with this shape.
pub(super) fn base<'a>(shape: &Shape, word: &impl Fn(usize) -> &'a [u8]) -> Option<&'a [u8]> {
    let (first, suffix) = (word(FIRST_KEY), shape.keys[0]);
    suffix.ends(first).then(|| &first[..first.len() - suffix.len()])
}

/// The qualified name of the queue whose keys a command with this shape has, unchecked.
pub fn queue_name<'a>(shape: &Shape, word: impl Fn(usize) -> &'a [u8]) -> Option<&'a [u8]> {
    base(shape, &word)?.strip_suffix(b":")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn all() -> impl Iterator<Item = &'static Shape> {
        SHAPES.iter()
    }

    /// A command with this shape: EVALSHA, a digest, the number of keys, the keys, the arguments.
    pub fn command(shape: &Shape, base: &str, arguments: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut words = vec![b"evalsha".to_vec(), vec![b'a'; 40], shape.key_count().to_string().into_bytes()];
        words.extend(shape.keys.iter().map(|suffix| format!("{base}{}", suffix.text).into_bytes()));
        words.extend(arguments.iter().map(|argument| argument.to_vec()));
        words
    }

    pub fn found(words: &[Vec<u8>]) -> Option<&'static Shape> {
        recognise(words.len(), |at| words.get(at).map_or(&[], Vec::as_slice)).and_then(numbered)
    }

    fn arguments(shape: &Shape, base: &str) -> Vec<Vec<u8>> {
        match shape.kind {
            Kind::Scheduler => [b"1", b"\x80", b"s", b"{}" as &[u8], b"\x80", b"\x80", b"1", base.as_bytes(), b""]
                .map(<[u8]>::to_vec)
                .to_vec(),
            _ => vec![vec![0x90], b"{}".to_vec(), vec![0x80]],
        }
    }

    fn whole(shape: &Shape, base: &str) -> Vec<Vec<u8>> {
        let arguments = arguments(shape, base);
        command(shape, base, &arguments.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    const LONG: &str = "bull:{a queue whose name has more bytes than are looked at in one step}:";

    #[test]
    fn every_shape_is_found_whatever_the_name_of_the_queue() {
        for base in
            ["bull:q:", ":", "::", "bull:{tasks:critical}:", "wait:id:wait:", "préfixe:file 一:", "b:bull:meta:", LONG]
        {
            for shape in all() {
                assert_eq!(found(&whole(shape, base)), Some(shape), "{base} {shape:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_not() {
        for shape in all() {
            let right = whole(shape, "bull:q:");
            for at in 3..right.len() {
                if at > shape.first_argument() && shape.kind != Kind::Scheduler {
                    continue;
                }
                for wrong in [&b""[..], b"x", b"bull:q:", b"bull:r:wait", b"\xc0", b"bull:q:waitx"] {
                    let mut words = right.clone();
                    words[at] = wrong.to_vec();
                    let argument = shape.kind == Kind::Scheduler && at >= shape.first_argument();
                    if argument && (at != shape.first_argument() + 7 || wrong == b"bull:q:") {
                        continue;
                    }
                    assert_eq!(found(&words), None, "{shape:?} with {wrong:?} at {at}");
                }
            }
            for count in ["0", "3", "09", "+9", "-1", "99999999999999999999", "", "x"] {
                let mut words = right.clone();
                words[2] = count.into();
                assert_eq!(found(&words), None, "{shape:?} with {count} keys");
            }
            for len in 0..right.len() - 1 {
                if shape.kind == Kind::Scheduler || len < right.len() {
                    let short = found(&right[..len]);
                    assert!(short.is_none() || len >= shape.first_argument() + shape.least_arguments());
                }
            }
            let mut base_without_colon = right.clone();
            for word in &mut base_without_colon[3..shape.first_argument()] {
                *word = word.strip_prefix(b"bull:q:").expect("the base").to_vec();
            }
            assert_eq!(found(&base_without_colon), None);
        }
    }

    #[test]
    fn texts_are_the_same_where_each_byte_is() {
        let text: Vec<u8> = (0..40).collect();
        for len in 0..text.len() {
            let one = &text[..len];
            let equal = one.to_vec();
            assert!(same(one, &equal) && !same(one, &text[..len + 1]) && !same(&text[..len + 1], one));
            for at in 0..len {
                let mut other = equal.clone();
                other[at] ^= 0x80;
                assert!(!same(one, &other), "{len} bytes, another at {at}");
            }
        }
    }

    #[test]
    fn each_byte_of_each_key_counts() {
        for (base, shape) in ["b:", "bull:{bench}:q:", "bull:{bench}:qu:", LONG]
            .into_iter()
            .flat_map(|base| all().map(move |shape| (base, shape)))
        {
            let right = whole(shape, base);
            for at in FIRST_KEY..shape.first_argument() {
                for byte in 0..right[at].len() {
                    let mut words = right.clone();
                    words[at][byte] ^= 0x20;
                    assert_eq!(found(&words), None, "{shape:?}, key {at}, byte {byte}");
                }
                for cut in [&right[at][1..], &right[at][..right[at].len() - 1], &[&right[at][..], b"s"].concat()] {
                    let mut words = right.clone();
                    words[at] = cut.to_vec();
                    assert_eq!(found(&words), None, "{shape:?}, key {at}: {cut:?}");
                }
            }
        }
    }

    #[test]
    fn shapes_lie_where_the_number_of_keys_says() {
        for (number, shape) in all().enumerate() {
            assert!(with_keys(shape.key_count().to_string().as_bytes()).contains(&number), "{shape:?}");
        }
        assert_eq!((3..13).map(|count| with_keys(count.to_string().as_bytes()).len()).sum::<usize>(), COUNT);
    }

    #[test]
    fn no_two_shapes_have_the_same_keys() {
        let mut tuples: Vec<_> = all().map(|shape| shape.keys).collect();
        let count = tuples.len();
        tuples.sort_unstable();
        tuples.dedup();
        assert_eq!(tuples.len(), count);
    }
}

//! The shape of an add script: how many keys, their suffixes after one common base, how many arguments.
//!
//! The tuples are those of BullMQ 4.0 to 6.7, read from each of its releases; the ports send the same scripts. No other
//! script of BullMQ has one of these tuples.

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
    keys: &'static [&'static str],
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

const fn shape(kind: Kind, keys: &'static [&'static str]) -> Shape {
    Shape { kind, keys }
}

/// Place of KEYS\[1\]: after the command, the script and the number of keys.
const FIRST_KEY: usize = 3;
/// Fewest words of any add: four keys and three arguments.
pub const LEAST_WORDS: usize = FIRST_KEY + 4 + 3;
/// Most arguments of an add script; the newest scripts take four, addJobScheduler nine.
const MOST_ARGUMENTS: usize = 16;

static FOUR: [Shape; 1] = [
    // 4.14.2 to 5.55
    shape(Kind::Parent, &["meta", "id", "completed", "events"]),
];
static FIVE: [Shape; 1] = [
    // 5.56 to 5.61
    shape(Kind::Parent, &["meta", "id", "delayed", "completed", "events"]),
];
static SIX: [Shape; 4] = [
    // since 5.62
    shape(Kind::Parent, &["meta", "id", "delayed", "waiting-children", "completed", "events"]),
    // since 5.0
    shape(Kind::Delayed, &["marker", "meta", "id", "delayed", "completed", "events"]),
    // 4.14.2 to 4.18
    shape(Kind::Standard, &["wait", "paused", "meta", "id", "completed", "events"]),
    // 5.34.7 to 5.39
    shape(Kind::Scheduler, &["marker", "meta", "id", "delayed", "events", "repeat"]),
];
static SEVEN: [Shape; 3] = [
    // 5.0 to 5.8
    shape(Kind::Standard, &["wait", "paused", "meta", "id", "completed", "events", "marker"]),
    shape(Kind::Prioritized, &["marker", "meta", "id", "prioritized", "completed", "events", "pc"]),
    // 4.14.2 to 4.18
    shape(Kind::Delayed, &["wait", "paused", "meta", "id", "delayed", "completed", "events"]),
];
static EIGHT: [Shape; 3] = [
    // 5.9 to 5.55
    shape(Kind::Standard, &["wait", "paused", "meta", "id", "completed", "active", "events", "marker"]),
    shape(Kind::Prioritized, &["marker", "meta", "id", "prioritized", "completed", "active", "events", "pc"]),
    // 4.14.2 to 4.18
    shape(Kind::Prioritized, &["wait", "paused", "meta", "id", "prioritized", "completed", "events", "pc"]),
];
static NINE: [Shape; 3] = [
    // since 5.56
    shape(Kind::Standard, &["wait", "paused", "meta", "id", "completed", "delayed", "active", "events", "marker"]),
    shape(
        Kind::Prioritized,
        &["marker", "meta", "id", "prioritized", "delayed", "completed", "active", "events", "pc"],
    ),
    // 4.0 to 4.14.1
    shape(Kind::Any, &["wait", "paused", "meta", "id", "delayed", "prioritized", "completed", "events", "pc"]),
];
static TEN: [Shape; 1] = [
    // 5.41.6 to 5.43.0
    shape(
        Kind::Scheduler,
        &["repeat", "delayed", "wait", "paused", "meta", "prioritized", "marker", "id", "events", "pc"],
    ),
];
static ELEVEN: [Shape; 1] = [
    // since 5.43.1
    shape(
        Kind::Scheduler,
        &["repeat", "delayed", "wait", "paused", "meta", "prioritized", "marker", "id", "events", "pc", "active"],
    ),
];

fn shapes(keys: &[u8]) -> &'static [Shape] {
    match keys {
        b"4" => &FOUR,
        b"5" => &FIVE,
        b"6" => &SIX,
        b"7" => &SEVEN,
        b"8" => &EIGHT,
        b"9" => &NINE,
        b"10" => &TEN,
        b"11" => &ELEVEN,
        _ => &[],
    }
}

/// The shape of an EVAL or EVALSHA with `words` words, of which `word` hands out one (the command's own name is word 0).
/// None: not an add script. Reads no further than it must, and allocates nothing.
pub fn recognise<'a>(words: usize, word: impl Fn(usize) -> &'a [u8]) -> Option<&'static Shape> {
    if words < LEAST_WORDS {
        return None;
    }
    shapes(word(2)).iter().find(|shape| fits(shape, words, &word))
}

fn fits<'a>(shape: &Shape, words: usize, word: &impl Fn(usize) -> &'a [u8]) -> bool {
    let Some(arguments) = words.checked_sub(shape.first_argument()) else { return false };
    if !(shape.least_arguments()..=MOST_ARGUMENTS).contains(&arguments) {
        return false;
    }
    let Some(base) = word(FIRST_KEY).strip_suffix(shape.keys[0].as_bytes()) else { return false };
    base.last() == Some(&b':')
        && shape.keys.iter().enumerate().all(|(at, suffix)| {
            let key = word(FIRST_KEY + at);
            key.len() == base.len() + suffix.len() && key.starts_with(base) && key.ends_with(suffix.as_bytes())
        })
        && match shape.kind {
            // ARGV[8] is the base again.
            Kind::Scheduler => word(shape.first_argument() + 7) == base,
            // ARGV[1] is an array in msgpack.
            _ => matches!(word(shape.first_argument()).first(), Some(0x90..=0x9f | 0xdc | 0xdd)),
        }
}

/// The base of the keys, a colon at its end, of a command with this shape.
pub(super) fn base<'a>(shape: &Shape, word: &impl Fn(usize) -> &'a [u8]) -> Option<&'a [u8]> {
    word(FIRST_KEY).strip_suffix(shape.keys[0].as_bytes())
}

/// The qualified name of the queue whose keys a command with this shape has, unchecked.
pub fn queue_name<'a>(shape: &Shape, word: impl Fn(usize) -> &'a [u8]) -> Option<&'a [u8]> {
    base(shape, &word)?.strip_suffix(b":")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn all() -> impl Iterator<Item = &'static Shape> {
        [&FOUR[..], &FIVE, &SIX, &SEVEN, &EIGHT, &NINE, &TEN, &ELEVEN].into_iter().flatten()
    }

    /// A command with this shape: EVALSHA, a digest, the number of keys, the keys, the arguments.
    pub fn command(shape: &Shape, base: &str, arguments: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut words = vec![b"evalsha".to_vec(), vec![b'a'; 40], shape.key_count().to_string().into_bytes()];
        words.extend(shape.keys.iter().map(|suffix| format!("{base}{suffix}").into_bytes()));
        words.extend(arguments.iter().map(|argument| argument.to_vec()));
        words
    }

    pub fn found(words: &[Vec<u8>]) -> Option<&'static Shape> {
        recognise(words.len(), |at| words.get(at).map_or(&[], Vec::as_slice))
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

    #[test]
    fn every_shape_is_found_whatever_the_name_of_the_queue() {
        for base in
            ["bull:q:", ":", "::", "bull:{tasks:critical}:", "wait:id:wait:", "préfixe:file 一:", "b:bull:meta:"]
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
    fn no_two_shapes_have_the_same_keys() {
        let mut tuples: Vec<_> = all().map(|shape| shape.keys).collect();
        let count = tuples.len();
        tuples.sort_unstable();
        tuples.dedup();
        assert_eq!(tuples.len(), count);
    }
}

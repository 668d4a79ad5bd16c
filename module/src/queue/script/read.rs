//! Reading the job out of an add script's arguments.
//!
//! ARGV of an add: \[1\] a msgpack array (base, custom id, name, timestamp, parent's key, …), \[2\] the data, \[3\] a msgpack
//! map of options. The array has nine or ten elements in two orders, which differ from the sixth on: until 5.61 the key
//! of waiting-children stands there, so what follows is one place later.
//! ARGV of addJobScheduler: next time, scheduler's options, id, data, template, job's options, now, base, producer.

use super::msgpack::{Reader, Value};
use super::shape::{Kind, Shape, base, same};
use crate::queue::job::Route;

/// A job as an add script would write it.
#[derive(Debug, PartialEq)]
pub struct ScriptJob<'a> {
    /// The queue's qualified name.
    pub queue: &'a [u8],
    pub name: &'a [u8],
    pub data: &'a [u8],
    /// Milliseconds; 0 where the script does not delay the job.
    pub delay_ms: u64,
    pub priority: u32,
    pub attempts: u32,
    pub origin: Origin<'a>,
    pub stores: Stores,
}

/// Whether the script, where it succeeds, leaves a new job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stores {
    /// Its id is the next number, and nothing stands for it: the first event of the script is that it was added.
    Always,
    /// Not where a job has its id already, or stands for it by deduplication, or is a scheduler's.
    Perhaps,
}

impl ScriptJob<'_> {
    /// Where the job goes, unless it waits for children.
    pub fn route(&self) -> Route {
        if self.delay_ms > 0 {
            Route::Delayed
        } else if self.priority > 0 {
            Route::Prioritized
        } else {
            Route::Standard
        }
    }
}

/// Who wants the job to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A producer, by itself.
    Producer,
    /// A flow or a parent: its root was asked for already.
    Child,
    /// A producer who makes a job scheduler, or a repeatable job.
    FirstIteration,
    /// A repeatable job's next iteration, which a worker adds.
    NextIteration,
    /// addJobScheduler: the first iteration, unless the scheduler of this id exists.
    Scheduler(&'a [u8]),
}

/// What the options say, as far as policies hear of it.
#[derive(Debug, Default)]
struct Options {
    delay: f64,
    priority: f64,
    attempts: f64,
    /// `de`: another job may stand for this one.
    deduplicated: bool,
    /// `repeat.count`; 1 is the first iteration.
    iteration: Option<f64>,
}

/// The job of a command that has this shape. None: it cannot be read.
pub fn read<'a>(shape: &Shape, word: impl Fn(usize) -> &'a [u8]) -> Option<ScriptJob<'a>> {
    let base = base(shape, &word)?;
    let argument = |number: usize| word(shape.first_argument() + number - 1);
    if shape.kind == Kind::Scheduler {
        return scheduler(base, argument);
    }
    let options = options(argument(3))?;
    let mut array = Reader::new(argument(1));
    let Some(Value::Array(9..=12)) = array.next() else { return None };
    if !same(array.next()?.text()?, base) {
        return None;
    }
    let custom_id = array.whole()?;
    let name = array.next()?.text()?;
    let _timestamp = array.whole()?;
    let parent = array.whole()?;
    let [_, _, eighth, ninth] = [array.whole()?, array.whole()?, array.whole()?, array.whole()?];
    let origin = if !matches!(parent, Value::Nil) {
        Origin::Child
    } else if repeat_key(base, eighth, ninth) || options.iteration.is_some() {
        if options.iteration.is_some_and(|count| count > 1.0) { Origin::NextIteration } else { Origin::FirstIteration }
    } else {
        Origin::Producer
    };
    let delays = matches!(shape.kind, Kind::Delayed | Kind::Any);
    let always = origin == Origin::Producer && matches!(custom_id, Value::Text([])) && !options.deduplicated;
    Some(ScriptJob {
        queue: base.strip_suffix(b":")?,
        name,
        data: argument(2),
        delay_ms: if delays { options.delay as u64 } else { 0 },
        priority: options.priority as u32,
        attempts: options.attempts as u32,
        origin,
        stores: if always { Stores::Always } else { Stores::Perhaps },
    })
}

/// The key of a scheduler or repeatable job stands eighth in the newer order, ninth in the older. Where it is absent in the
/// newer one, the ninth may be the key of a deduplication.
fn repeat_key(base: &[u8], eighth: Value<'_>, ninth: Value<'_>) -> bool {
    let dedup = |text: &[u8]| text.strip_prefix(base).is_some_and(|rest| rest.starts_with(b"de:"));
    eighth.text().is_some() || ninth.text().is_some_and(|text| !dedup(text))
}

fn scheduler<'a>(base: &'a [u8], argument: impl Fn(usize) -> &'a [u8]) -> Option<ScriptJob<'a>> {
    let mut name = None;
    each(argument(2), |key, value| {
        if key == b"name" {
            name = value.text();
        }
        Some(())
    })?;
    let options = options(argument(6))?;
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<f64>().ok();
    let until_next = match (number(argument(1)), number(argument(7))) {
        (Some(next), Some(now)) => next - now,
        _ => 0.0,
    };
    Some(ScriptJob {
        queue: base.strip_suffix(b":")?,
        name: name?,
        data: argument(4),
        delay_ms: options.delay.max(until_next) as u64,
        priority: options.priority as u32,
        attempts: options.attempts as u32,
        origin: Origin::Scheduler(argument(3)),
        stores: Stores::Perhaps,
    })
}

fn options(packed: &[u8]) -> Option<Options> {
    let mut options = Options::default();
    let mut reader = Reader::new(packed);
    // An empty Lua table, as some ports pack it.
    if packed == [0x90] {
        return Some(options);
    }
    let Value::Map(pairs) = reader.next()? else { return None };
    for _ in 0..pairs {
        let key = reader.whole()?;
        let mut inside = reader;
        let value = reader.whole()?;
        let number = value.number().unwrap_or(0.0);
        match key.text() {
            Some(b"delay") => options.delay = number,
            Some(b"priority") => options.priority = number,
            Some(b"attempts") => options.attempts = number,
            Some(b"de") => options.deduplicated = true,
            Some(b"repeat") => options.iteration = iteration(&mut inside, value),
            _ => {}
        }
    }
    Some(options)
}

/// `repeat.count`; a repeat without one is a first iteration.
fn iteration(inside: &mut Reader<'_>, value: Value<'_>) -> Option<f64> {
    let Value::Map(pairs) = value else { return None };
    inside.next()?;
    let mut count = 1.0;
    for _ in 0..pairs {
        let (key, value) = (inside.whole()?, inside.whole()?);
        if key.text() == Some(b"count") {
            count = value.number().unwrap_or(1.0);
        }
    }
    Some(count)
}

/// Goes over the pairs of a map; compound values are handed out by their heads.
fn each<'a>(packed: &'a [u8], mut pair: impl FnMut(&'a [u8], Value<'a>) -> Option<()>) -> Option<()> {
    let mut reader = Reader::new(packed);
    let Value::Map(pairs) = reader.next()? else { return None };
    for _ in 0..pairs {
        let (key, value) = (reader.whole()?, reader.whole()?);
        if let Some(key) = key.text() {
            pair(key, value)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::{all, command, found};
    use super::*;

    /// msgpack of the tests, as compact as the ports write it.
    #[derive(Clone)]
    enum Pack<'a> {
        Nil,
        Text(&'a str),
        Int(u8),
        Time,
        Array(Vec<Pack<'a>>),
        Map(Vec<(&'a str, Pack<'a>)>),
    }
    use Pack::{Array, Int, Map, Nil, Text, Time};

    impl Pack<'_> {
        fn bytes(&self) -> Vec<u8> {
            match self {
                Nil => vec![0xc0],
                Text(text) if text.len() < 32 => [&[0xa0 | text.len() as u8], text.as_bytes()].concat(),
                Text(text) => [&[0xd9, text.len() as u8], text.as_bytes()].concat(),
                Int(value) => vec![0xcc, *value],
                Time => [&[0xcb][..], &1_795_000_000_000_f64.to_be_bytes()].concat(),
                Array(items) => [vec![0x90 | items.len() as u8], items.iter().flat_map(Pack::bytes).collect()].concat(),
                Map(pairs) => {
                    let inside = pairs.iter().flat_map(|(key, value)| [Text(key).bytes(), value.bytes()].concat());
                    [vec![0xde, 0, pairs.len() as u8], inside.collect()].concat()
                }
            }
        }
    }

    fn of_kind(kind: Kind) -> &'static Shape {
        all()
            .find(|shape| shape.kind == kind && shape.key_count() == if kind == Kind::Parent { 4 } else { 6 })
            .expect("one")
    }

    fn job(kind: Kind, rest: &[Pack], options: &Pack) -> Option<(Option<u64>, u32, String)> {
        let mut array = vec![Text("bull:q:"), Text(""), Text("mail"), Time];
        array.extend(rest.iter().cloned());
        let words = command(of_kind(kind), "bull:q:", &[&Array(array).bytes(), b"{\"a\":1}", &options.bytes()]);
        let shape = found(&words)?;
        let job = read(shape, |at| &words[at])?;
        assert_eq!((job.queue, job.name, job.data), (&b"bull:q"[..], &b"mail"[..], &b"{\"a\":1}"[..]));
        Some((Some(job.delay_ms), job.priority, format!("{:?}", job.origin)))
    }

    fn origin(rest: &[Pack], options: &Pack) -> String {
        job(Kind::Standard, rest, options).expect("readable").2
    }

    #[test]
    fn options_that_policies_hear_of() {
        let options =
            Map(vec![("delay", Int(7)), ("x", Array(vec![Map(vec![("priority", Int(9))])])), ("priority", Int(3))]);
        let rest = [Nil, Nil, Nil, Nil, Nil];
        assert_eq!(job(Kind::Delayed, &rest, &options), Some((Some(7), 3, "Producer".into())));
        assert_eq!(job(Kind::Standard, &rest, &options), Some((Some(0), 3, "Producer".into())));
        assert_eq!(job(Kind::Parent, &rest, &Map(vec![])), Some((Some(0), 0, "Producer".into())));
    }

    #[test]
    fn all_four_orders_of_the_array() {
        let plain = Map(vec![]);
        let (children, deps, de) =
            (Text("bull:q:waiting-children"), Text("bull:p:1:dependencies"), Text("bull:q:de:d"));
        let parent = Map(vec![("id", Text("1")), ("queueKey", Text("bull:p"))]);
        // 9 until 5.10, 10 in 5.11 to 5.61
        assert_eq!(origin(&[Nil, children.clone(), Nil, Nil, Nil], &plain), "Producer");
        assert_eq!(origin(&[Nil, children.clone(), Nil, Nil, Text("key")], &plain), "FirstIteration");
        assert_eq!(origin(&[Nil, children.clone(), Nil, Nil, Nil, de.clone()], &plain), "Producer");
        let old_child = [Text("bull:p:1"), Nil, deps.clone(), parent.clone(), Nil];
        assert_eq!(origin(&old_child, &plain), "Child");
        // 9 in 5.62 to 6.4, 10 since
        assert_eq!(origin(&[Nil, Nil, Nil, Nil, de.clone()], &plain), "Producer");
        assert_eq!(origin(&[Nil, Nil, Nil, Text("key"), Nil], &plain), "FirstIteration");
        assert_eq!(origin(&[Nil, Nil, Nil, Text("key"), de.clone(), Int(1)], &plain), "FirstIteration");
        assert_eq!(origin(&[Text("bull:p:1"), deps, parent, Nil, de, Int(1)], &plain), "Child");
    }

    #[test]
    fn the_first_iteration_is_judged_and_the_next_are_not() {
        let rest = [Nil, Nil, Nil, Text("key"), Nil];
        for (count, expected) in [(1, "FirstIteration"), (2, "NextIteration"), (9, "NextIteration")] {
            let options = Map(vec![("repeat", Map(vec![("every", Int(5)), ("count", Int(count))]))]);
            assert_eq!(origin(&rest, &options), expected);
        }
        assert_eq!(origin(&rest, &Map(vec![("repeat", Nil)])), "FirstIteration");
    }

    #[test]
    fn schedulers() {
        let shape = all().find(|shape| shape.key_count() == 11).expect("one");
        let options = Map(vec![("name", Text("tick")), ("every", Int(5))]).bytes();
        let job_options = Map(vec![("attempts", Int(3)), ("priority", Int(2))]).bytes();
        let arguments: [&[u8]; 9] =
            [b"1795000000500", &options, b"sched", b"{}", &[0x80], &job_options, b"1795000000000", b"bull:q:", b""];
        let words = command(shape, "bull:q:", &arguments);
        let job = read(found(&words).expect("found"), |at| &words[at]).expect("readable");
        assert_eq!((job.queue, job.name, job.delay_ms), (&b"bull:q"[..], &b"tick"[..], 500));
        assert_eq!((job.priority, job.attempts, job.origin), (2, 3, Origin::Scheduler(b"sched")));
        assert_eq!(job.stores, Stores::Perhaps);
    }

    #[test]
    fn a_job_is_sure_to_be_new_where_nothing_can_stand_for_it() {
        let stores = |custom_id, rest: &[Pack], options: &[(&'static str, Pack<'static>)]| {
            let mut array = vec![Text("bull:q:"), custom_id, Text("mail"), Time];
            array.extend(rest.iter().cloned());
            let arguments = [&Array(array).bytes()[..], b"{}", &Map(options.to_vec()).bytes()];
            let words = command(of_kind(Kind::Standard), "bull:q:", &arguments);
            read(found(&words).expect("found"), |at| &words[at]).expect("readable").stores
        };
        let rest = [Nil, Nil, Nil, Nil, Nil];
        let de = ("de", Map(vec![("id", Text("d"))]));
        assert_eq!(stores(Text(""), &rest, &[("attempts", Int(3))]), Stores::Always);
        assert_eq!(stores(Text("mine"), &rest, &[]), Stores::Perhaps);
        assert_eq!(stores(Nil, &rest, &[]), Stores::Perhaps);
        assert_eq!(stores(Text(""), &rest, &[("attempts", Int(3)), de]), Stores::Perhaps);
        assert_eq!(stores(Text(""), &[Nil, Nil, Nil, Text("key"), Nil], &[]), Stores::Perhaps);
        let child = [Text("bull:p:1"), Text("bull:p:1:dependencies"), Nil, Nil, Nil];
        assert_eq!(stores(Text(""), &child, &[]), Stores::Perhaps);
    }

    #[test]
    fn words_of_another_shape_name_no_other_queue() {
        let good = Array(vec![Text("bull:q:"), Text(""), Text("n"), Time, Nil, Nil, Nil, Nil, Nil]).bytes();
        let mut read_any = 0;
        for (one, other) in all().flat_map(|one| all().map(move |other| (one, other))) {
            let words = command(one, "bull:q:", &[&good, b"{}", &[0x80]]);
            for len in 0..=words.len() {
                let job = read(other, |at| words[..len].get(at).map_or(&[], Vec::as_slice));
                assert!(job.as_ref().is_none_or(|job| job.queue == b"bull:q"), "{one:?} read as {other:?}");
                read_any += usize::from(job.is_some());
            }
        }
        assert!(read_any > 0);
    }

    #[test]
    fn what_cannot_be_read_is_nothing() {
        let good = Array(vec![Text("bull:q:"), Nil, Text("n"), Time, Nil, Nil, Nil, Nil, Nil]).bytes();
        let shape = of_kind(Kind::Standard);
        let reads = |array: &[u8], options: &[u8]| {
            let words = command(shape, "bull:q:", &[array, b"{}", options]);
            read(shape, |at| &words[at]).is_some()
        };
        assert!(reads(&good, &[0x80]) && reads(&good, &[0x90]));
        for cut in 0..good.len() {
            assert!(!reads(&good[..cut], &[0x80]), "{cut} bytes");
        }
        for options in [&b""[..], &[0xc0], &[0x81], &[0x81, 0xa1, b'a'], &[0xdf, 0xff, 0xff, 0xff, 0xff], &[0xc4, 0]] {
            assert!(!reads(&good, options), "{options:02x?}");
        }
        let other = Array(vec![Text("bull:r:"), Nil, Text("n"), Time, Nil, Nil, Nil, Nil, Nil]).bytes();
        assert!(!reads(&other, &[0x80]));
        let nameless = Array(vec![Text("bull:q:"), Nil, Nil, Time, Nil, Nil, Nil, Nil, Nil]).bytes();
        assert!(!reads(&nameless, &[0x80]));
    }
}

//! The notices: one when a queue goes over a limit, one when it comes back.
//!
//! - A backlog is over at `max-jobs`, where `admit` starts to act; active jobs, failures within the last hour and the
//!   age of the oldest waiting job are over above their limit.
//! - A queue is back a tenth below the limit, so that one that hovers at it is not told of at every tick.
//! - Queues that are within their limits cost no memory. Of the others at most [`MAX_TRACKED`] are remembered, by a
//!   hash of their name: two names with one hash would share their state and lose a notice, nothing else.
//! - What does not fit into one tick's answer is told at the next.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};

use bull_policy_sdk::{Notice, Queue};

use crate::config::Marks;
use crate::decide::{backlog, full};

/// Queues over a limit that are remembered at a time.
pub const MAX_TRACKED: usize = 1024;
/// A queue that no tick has shown for so long is forgotten, and told of anew if it comes back over a limit.
pub const FORGET_MS: u64 = 10 * 60 * 1000;
/// Bytes of notices in one tick: a quarter of what the server takes by default.
const MAX_BYTES: usize = 16 * 1024;
/// What a notice takes besides its texts, at most.
const NOTICE_BYTES: usize = 32;

/// Bits of [`Told::over`].
const BACKLOG: u8 = 1;
const ACTIVE: u8 = 2;
const OLDEST: u8 = 4;
const FAILED: u8 = 8;

/// What has been told of a queue.
struct Told {
    /// The limits it was last told to be over; never none.
    over: u8,
    seen_ms: u64,
}

/// What has been told of all queues.
#[derive(Default)]
pub struct Watch {
    told: BTreeMap<u64, Told>,
    full: bool,
}

impl Watch {
    /// The notices that these queues, each with its marks, are worth at this time.
    pub fn tick(&mut self, now_ms: u64, queues: &[Queue], marks: &[Marks]) -> Vec<Notice> {
        let mut out = Out::default();
        let mut swept = false;
        for (queue, marks) in queues.iter().zip(marks) {
            let key = hash(&queue.name);
            match self.told.entry(key) {
                Entry::Occupied(mut told) => {
                    let fresh = now_ms.saturating_sub(told.get().seen_ms) <= FORGET_MS;
                    let before = if fresh { told.get().over } else { 0 };
                    let over = out.tell(queue, marks, before);
                    if over == 0 {
                        told.remove();
                    } else {
                        *told.get_mut() = Told { over, seen_ms: now_ms };
                    }
                }
                Entry::Vacant(_) => {
                    if !Measure::of(queue, marks).iter().any(Measure::is_over) {
                        continue;
                    }
                    if self.told.len() >= MAX_TRACKED && !swept {
                        swept = true;
                        self.told.retain(|_, told| now_ms.saturating_sub(told.seen_ms) <= FORGET_MS);
                    }
                    if self.told.len() >= MAX_TRACKED {
                        if !self.full {
                            let text =
                                format!("over a limit, and so are {MAX_TRACKED} other queues: no more are told of");
                            self.full = out.push(&queue.name, text);
                        }
                        continue;
                    }
                    let over = out.tell(queue, marks, 0);
                    if over != 0 {
                        self.told.insert(key, Told { over, seen_ms: now_ms });
                    }
                }
            }
        }
        if self.told.len() < MAX_TRACKED {
            self.full = false;
        }
        out.notices
    }
}

/// One number of a queue that has a limit.
struct Measure {
    bit: u8,
    value: u64,
    limit: u64,
    /// Over from this value on.
    over_from: u64,
    /// Back up to this value; a limit of 0 has no way back.
    back_to: Option<u64>,
}

impl Measure {
    fn of(queue: &Queue, marks: &Marks) -> [Option<Self>; 4] {
        let exceeds = |bit, value, limit: Option<u64>| limit.map(|limit| Self::exceeds(bit, value, limit));
        [
            Some(Self::reaches(BACKLOG, backlog(queue), marks.max_jobs)),
            exceeds(ACTIVE, queue.active, marks.max_active),
            exceeds(OLDEST, queue.oldest_waiting_ms, marks.max_oldest_ms),
            exceeds(FAILED, queue.failed_last_hour, marks.max_failed),
        ]
    }

    /// Over at the limit.
    fn reaches(bit: u8, value: u64, limit: u64) -> Self {
        Self { bit, value, limit, over_from: limit, back_to: limit.checked_sub(1 + limit / 10) }
    }

    /// Over above the limit.
    fn exceeds(bit: u8, value: u64, limit: u64) -> Self {
        Self { bit, value, limit, over_from: limit.saturating_add(1), back_to: Some(limit - limit / 10) }
    }

    fn is_over(measure: &Option<Self>) -> bool {
        measure.as_ref().is_some_and(|measure| measure.value >= measure.over_from)
    }

    fn over_text(&self) -> String {
        let Self { value, limit, .. } = self;
        match self.bit {
            BACKLOG => full(*value, *limit),
            ACTIVE => format!("active {value} of at most {limit} jobs"),
            OLDEST => format!("oldest waiting job is {value} ms old, over {limit}"),
            _ => format!("failed {value} jobs within an hour, over {limit}"),
        }
    }

    fn back_text(&self) -> String {
        let Self { value, limit, .. } = self;
        match self.bit {
            BACKLOG => format!("back to waiting {value} of at most {limit} jobs"),
            ACTIVE => format!("back to active {value} of at most {limit} jobs"),
            OLDEST => format!("oldest waiting job is {value} ms old, back under {limit}"),
            _ => format!("back to {value} failed jobs within an hour, of at most {limit}"),
        }
    }
}

/// One tick's notices within their bytes.
#[derive(Default)]
struct Out {
    notices: Vec<Notice>,
    bytes: usize,
}

impl Out {
    /// Tells what changed since `before`; the answer is what `before` is next time. A change that did not fit is
    /// left as it was, so it is found again.
    fn tell(&mut self, queue: &Queue, marks: &Marks, before: u8) -> u8 {
        let mut over = 0;
        for measure in Measure::of(queue, marks).into_iter().flatten() {
            let was = before & measure.bit;
            let text = match was {
                0 if measure.value >= measure.over_from => measure.over_text(),
                0 => continue,
                _ if measure.back_to.is_some_and(|back| measure.value <= back) => measure.back_text(),
                _ => {
                    over |= was;
                    continue;
                }
            };
            let now = if self.push(&queue.name, text) { measure.bit ^ was } else { was };
            over |= now;
        }
        over
    }

    /// Whether there was room.
    fn push(&mut self, queue: &str, text: String) -> bool {
        let bytes = self.bytes + queue.len() + text.len() + NOTICE_BYTES;
        if bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.notices.push(Notice { queue: queue.to_owned(), text });
        true
    }
}

/// Fixed keys, unlike a hash map's: a guest has no randomness.
fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use bull_policy_sdk::test_kit::{self, NOW_MS};

    struct Scene {
        config: Config,
        watch: Watch,
        now_ms: u64,
    }

    impl Scene {
        fn new(config: &str) -> Self {
            Self { config: Config::read(config).expect(config), watch: Watch::default(), now_ms: NOW_MS }
        }

        fn tick(&mut self, queues: &[Queue]) -> Vec<String> {
            self.now_ms += 1000;
            let marks: Vec<Marks> = queues.iter().map(|queue| self.config.marks(queue)).collect();
            let notices = self.watch.tick(self.now_ms, queues, &marks);
            notices.into_iter().map(|notice| format!("{}: {}", notice.queue, notice.text)).collect()
        }

        fn waiting(&mut self, waiting: u64) -> Vec<String> {
            self.tick(&[Queue { waiting, ..test_kit::queue("q") }])
        }
    }

    fn many(count: usize, waiting: u64) -> Vec<Queue> {
        (0..count).map(|n| Queue { waiting, ..test_kit::queue(&format!("bull:{n}")) }).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn a_backlog_is_told_once_each_way_with_a_tenth_between() {
        let mut scene = Scene::new(r#"{"max-jobs":100}"#);
        assert_eq!(scene.waiting(99), NONE);
        assert_eq!(scene.waiting(100), ["q: waiting 100 of at most 100 jobs"]);
        assert_eq!(scene.waiting(5000), NONE);
        assert_eq!(scene.waiting(90), NONE);
        assert_eq!(scene.waiting(100), NONE);
        assert_eq!(scene.waiting(89), ["q: back to waiting 89 of at most 100 jobs"]);
        assert_eq!(scene.waiting(99), NONE);
        assert_eq!(scene.waiting(100), ["q: waiting 100 of at most 100 jobs"]);
    }

    #[test]
    fn the_smallest_limit_has_a_way_back() {
        let mut scene = Scene::new(r#"{"max-jobs":1,"max-active":1}"#);
        let queue = |waiting, active| [Queue { waiting, active, ..test_kit::queue("q") }];
        assert_eq!(scene.tick(&queue(1, 2)), ["q: waiting 1 of at most 1 jobs", "q: active 2 of at most 1 jobs"]);
        assert_eq!(
            scene.tick(&queue(0, 1)),
            ["q: back to waiting 0 of at most 1 jobs", "q: back to active 1 of at most 1 jobs"]
        );
    }

    #[test]
    fn active_and_oldest_are_over_above_their_limit_and_independent() {
        let mut scene = Scene::new(r#"{"max-active":10,"max-oldest-waiting-ms":1000}"#);
        let mut tick =
            |active, oldest_waiting_ms| scene.tick(&[Queue { active, oldest_waiting_ms, ..test_kit::queue("q") }]);
        assert_eq!(tick(10, 1000), NONE);
        assert_eq!(tick(11, 1000), ["q: active 11 of at most 10 jobs"]);
        assert_eq!(tick(11, 1001), ["q: oldest waiting job is 1001 ms old, over 1000"]);
        assert_eq!(tick(9, 950), ["q: back to active 9 of at most 10 jobs"]);
        assert_eq!(tick(9, 900), ["q: oldest waiting job is 900 ms old, back under 1000"]);
    }

    #[test]
    fn failures_are_told_above_100_an_hour_unless_the_configuration_says_otherwise() {
        let mut scene = Scene::new(r#"{"queues":[{"match":"loud","max-failed-per-hour":null}]}"#);
        let mut tick =
            |name: &str, failed_last_hour| scene.tick(&[Queue { failed_last_hour, ..test_kit::queue(name) }]);
        assert_eq!(tick("q", 100), NONE);
        assert_eq!(tick("q", 101), ["q: failed 101 jobs within an hour, over 100"]);
        assert_eq!(tick("q", 95), NONE);
        assert_eq!(tick("q", 90), ["q: back to 90 failed jobs within an hour, of at most 100"]);
        assert_eq!(tick("loud", 5000), NONE);
    }

    #[test]
    fn active_jobs_are_told_above_twice_the_profile_s_concurrency() {
        let mut scene = Scene::new("{}");
        let mut tick = |active| {
            let plain = test_kit::queue("q");
            let limits = bull_policy_sdk::Limits { concurrency: Some(5), ..plain.limits };
            scene.tick(&[Queue { active, limits, ..plain }])
        };
        assert_eq!(tick(10), NONE);
        assert_eq!(tick(11), ["q: active 11 of at most 10 jobs"]);
        assert_eq!(tick(9), ["q: back to active 9 of at most 10 jobs"]);
    }

    #[test]
    fn a_closed_queue_is_told_of_once() {
        let mut scene = Scene::new("{}");
        let plain = test_kit::queue("q");
        let closed = Queue { limits: bull_policy_sdk::Limits { max_jobs: Some(0), ..plain.limits }, ..plain };
        assert_eq!(scene.tick(std::slice::from_ref(&closed)), ["q: waiting 0 of at most 0 jobs"]);
        assert_eq!(scene.tick(&[closed]), NONE);
    }

    #[test]
    fn observe_is_told_like_the_rest_and_absent_limits_are_not_watched() {
        let mut scene = Scene::new(r#"{"max-jobs":5,"overload":"observe"}"#);
        let queue = Queue { waiting: 5, active: 1_000_000, oldest_waiting_ms: 1 << 40, ..test_kit::queue("q") };
        assert_eq!(scene.tick(&[queue]), ["q: waiting 5 of at most 5 jobs"]);
    }

    #[test]
    fn a_queue_out_of_sight_is_remembered_for_a_while() {
        let mut scene = Scene::new(r#"{"max-jobs":5}"#);
        assert_eq!(scene.waiting(9).len(), 1);
        scene.now_ms += FORGET_MS - 1000;
        assert_eq!(scene.waiting(9), NONE);
        scene.now_ms += FORGET_MS;
        assert_eq!(scene.waiting(9), ["q: waiting 9 of at most 5 jobs"]);
        scene.now_ms += FORGET_MS;
        assert_eq!(scene.waiting(0), NONE, "what is not remembered does not come back");
        assert!(scene.watch.told.is_empty());
    }

    #[test]
    fn queues_within_their_limits_take_no_memory() {
        let mut scene = Scene::new(r#"{"max-jobs":5}"#);
        assert_eq!(scene.tick(&many(5000, 4)), NONE);
        assert!(scene.watch.told.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_told_at_the_next_tick() {
        let mut scene = Scene::new(r#"{"max-jobs":5}"#);
        let queues = many(500, 9);
        let mut told = Vec::new();
        let mut ticks = 0;
        loop {
            let notices = scene.tick(&queues);
            if notices.is_empty() {
                break;
            }
            assert!(notices.iter().map(String::len).sum::<usize>() <= MAX_BYTES);
            told.extend(notices);
            ticks += 1;
        }
        assert!(ticks > 1);
        told.sort();
        told.dedup();
        assert_eq!(told.len(), 500);
    }

    #[test]
    fn memory_is_bounded_and_room_comes_back() {
        let mut scene = Scene::new(r#"{"max-jobs":5}"#);
        let queues = many(MAX_TRACKED + 50, 9);
        let notices: Vec<String> = (0..60).flat_map(|_| scene.tick(&queues)).collect();
        assert_eq!(scene.watch.told.len(), MAX_TRACKED);
        assert_eq!(notices.len(), MAX_TRACKED + 1);
        assert_eq!(notices.iter().filter(|text| text.ends_with("no more are told of")).count(), 1);

        // The first are gone for good; their room goes to those that were left out.
        scene.now_ms += FORGET_MS;
        let left = &queues[MAX_TRACKED..];
        assert_eq!(scene.tick(left).len(), 50);
        assert_eq!(scene.watch.told.len(), 50);
    }

    #[test]
    fn a_name_too_long_for_an_answer_is_never_told_and_harms_no_other() {
        let mut scene = Scene::new(r#"{"max-jobs":5}"#);
        let long = Queue { waiting: 9, ..test_kit::queue(&"x".repeat(MAX_BYTES)) };
        let short = Queue { waiting: 9, ..test_kit::queue("q") };
        assert_eq!(scene.tick(&[long, short]), ["q: waiting 9 of at most 5 jobs"]);
        assert_eq!(scene.watch.told.len(), 1);
    }
}

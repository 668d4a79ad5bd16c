//! Pausing queues, and letting them go on, without flapping.
//!
//! A queue is held for one of two causes:
//!
//! - its own failures: at `pause-failed-per-hour` it is paused, as a breaker before workers that only fail;
//! - another queue's backlog: while a queue is full, those in its `pause-queues` are paused, as those whose workers fill
//!   it. A queue's own backlog is never a cause: a paused queue does not drain.
//!
//! A cause begins at its mark and ends at `resume-percent` of it; between the two it stays as it was. Whatever the causes
//! do, a queue changes once in `pause-min-ms` at most. It goes on when no cause is left.
//!
//! A queue that is paused already when a cause begins is somebody else's: it is left alone, also at the end, unless
//! `resume` is `any`. One that somebody lets go on in between is paused again after `pause-min-ms` while the cause lasts.
//! What was paused under an earlier configuration, or before a restart, is somebody else's too.

use std::collections::BTreeMap;

use bull_policy_sdk::{Action, Notice, Queue};

use crate::config::{MAX_PATTERN, Marks, Resume};
use crate::decide::{backlog, full};
use crate::watch::FORGET_MS;

/// Queues held at a time. What is over that is not paused.
pub const MAX_HELD: usize = 128;
/// Actions in one answer, notices included, so that it stays within what the server takes; the rest comes with the next.
const MAX_ACTIONS: usize = 64;
/// Causes for one queue.
const MAX_CAUSES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Failures,
    Backlog,
}

/// What holds a queue.
#[derive(Debug)]
struct Cause {
    kind: Kind,
    /// The queue that is over its mark.
    queue: String,
    seen_ms: u64,
    text: String,
}

/// A queue with a cause, or one that was changed lately.
#[derive(Debug)]
struct Held {
    causes: Vec<Cause>,
    /// We paused it.
    paused: bool,
    /// Somebody else paused it.
    foreign: bool,
    /// When it was last changed by us; none yet.
    changed_ms: Option<u64>,
    min_ms: u64,
    resume: Resume,
}

/// Where a number stands between its two marks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Over,
    Between,
    Back,
}

fn level(value: u64, mark: u64, resume_percent: u64) -> Level {
    // The mark is at least 1 here, so that `back` is below it.
    let back = (u128::from(mark) * u128::from(resume_percent) / 100) as u64;
    if value >= mark {
        Level::Over
    } else if value <= back {
        Level::Back
    } else {
        Level::Between
    }
}

/// The queues that are held.
#[derive(Debug, Default)]
pub struct Holds(BTreeMap<String, Held>);

impl Holds {
    /// What to do after a look at these queues, each with its marks, at this time.
    pub fn tick(&mut self, now_ms: u64, queues: &[Queue], marks: &[Marks]) -> Vec<Action> {
        // A name beyond what the configuration can hold would make an answer too long.
        for (queue, marks) in queues.iter().zip(marks).filter(|(queue, _)| queue.name.len() <= MAX_PATTERN) {
            self.see(queue, marks, now_ms);
        }
        let paused = |name: &str| queues.iter().find(|queue| queue.name == name).map(|queue| queue.paused);
        let mut actions = Vec::new();
        self.0.retain(|name, held| actions.len() >= MAX_ACTIONS || held.step(name, paused(name), now_ms, &mut actions));
        actions
    }

    fn see(&mut self, queue: &Queue, marks: &Marks, now_ms: u64) {
        let pause = &marks.pause;
        if let Some(mark) = pause.failed {
            let level = level(queue.failed_last_hour, mark, pause.resume_percent);
            let text = || format!("failed {} jobs within an hour, from {mark}", queue.failed_last_hour);
            self.put(&queue.name, Kind::Failures, queue, level, marks, now_ms, text);
            if pause.resume == Resume::Any && queue.paused && level == Level::Back && !self.0.contains_key(&queue.name)
            {
                self.adopt(&queue.name, marks);
            }
        }
        // A closed queue, with a mark of 0, would hold the others for ever.
        if marks.max_jobs > 0 {
            let level = level(backlog(queue), marks.max_jobs, pause.resume_percent);
            for name in pause.queues.iter().filter(|name| **name != queue.name) {
                let text = || format!("{} is full, {}", queue.name, full(backlog(queue), marks.max_jobs));
                self.put(name, Kind::Backlog, queue, level, marks, now_ms, text);
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one cause in all its parts, from one caller")]
    fn put(
        &mut self,
        name: &str,
        kind: Kind,
        queue: &Queue,
        level: Level,
        marks: &Marks,
        now_ms: u64,
        text: impl Fn() -> String,
    ) {
        if level == Level::Over && !self.0.contains_key(name) && self.0.len() < MAX_HELD {
            self.0.insert(name.to_owned(), Held::new(marks));
        }
        let Some(held) = self.0.get_mut(name) else { return };
        let known = held.causes.iter().position(|cause| cause.kind == kind && cause.queue == queue.name);
        match (known, level) {
            (Some(at), Level::Back) => drop(held.causes.remove(at)),
            (Some(at), _) => held.causes[at].seen_ms = now_ms,
            (None, Level::Over) if held.causes.len() < MAX_CAUSES => {
                held.causes.push(Cause { kind, queue: queue.name.clone(), seen_ms: now_ms, text: text() });
            }
            (None, _) => {}
        }
    }

    /// Takes a queue over that somebody else paused, to let it go on.
    fn adopt(&mut self, name: &str, marks: &Marks) {
        if self.0.len() < MAX_HELD {
            self.0.insert(name.to_owned(), Held { paused: true, ..Held::new(marks) });
        }
    }
}

impl Held {
    fn new(marks: &Marks) -> Self {
        let (min_ms, resume) = (marks.pause.min_ms, marks.pause.resume);
        Self { causes: Vec::new(), paused: false, foreign: false, changed_ms: None, min_ms, resume }
    }

    /// One step; false where there is nothing left to remember.
    fn step(&mut self, name: &str, is_paused: Option<bool>, now_ms: u64, actions: &mut Vec<Action>) -> bool {
        self.causes.retain(|cause| now_ms.saturating_sub(cause.seen_ms) <= FORGET_MS);
        let may_change = self.changed_ms.is_none_or(|then| now_ms.saturating_sub(then) >= self.min_ms);
        match is_paused {
            Some(true) if !self.paused && !self.causes.is_empty() => match self.resume {
                Resume::Own => self.foreign = true,
                Resume::Any => self.paused = true,
            },
            Some(false) => self.foreign = false,
            _ => {}
        }
        if self.paused && may_change && is_paused == Some(false) {
            // The wish was not granted, or somebody let it go on.
            self.paused = false;
        }
        match (self.causes.first(), self.paused) {
            (Some(cause), false) if may_change && !self.foreign => {
                actions.push(notice(name, format!("paused: {}", cause.text)));
                actions.push(Action::Pause(name.to_owned()));
                self.paused = true;
                self.changed_ms = Some(now_ms);
            }
            (None, true) if may_change => {
                actions.push(notice(name, "goes on: no cause to pause it is left".to_owned()));
                actions.push(Action::Resume(name.to_owned()));
                self.paused = false;
                self.changed_ms = Some(now_ms);
            }
            (None, false) if may_change => return false,
            _ => {}
        }
        true
    }
}

fn notice(queue: &str, text: String) -> Action {
    Action::Notice(Notice { queue: queue.to_owned(), text })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use bull_policy_sdk::test_kit::{self, NOW_MS};

    struct Scene {
        config: Config,
        holds: Holds,
        now_ms: u64,
    }

    impl Scene {
        fn new(config: &str) -> Self {
            Self { config: Config::read(config).expect(config), holds: Holds::default(), now_ms: NOW_MS }
        }

        /// The actions of one tick, a second later, without the notices.
        fn tick(&mut self, queues: &[Queue]) -> Vec<String> {
            self.now_ms += 1000;
            let marks: Vec<Marks> = queues.iter().map(|queue| self.config.marks(queue)).collect();
            let actions = self.holds.tick(self.now_ms, queues, &marks);
            assert!(actions.len() <= MAX_ACTIONS);
            let shown = |action: &Action| match action {
                Action::Pause(name) => Some(format!("pause {name}")),
                Action::Resume(name) => Some(format!("resume {name}")),
                _ => None,
            };
            actions.iter().filter_map(shown).collect()
        }

        fn failed(&mut self, failed_last_hour: u64, paused: bool) -> Vec<String> {
            self.tick(&[Queue { failed_last_hour, paused, ..test_kit::queue("q") }])
        }
    }

    fn full_and_target(waiting: u64, paused: bool) -> [Queue; 2] {
        [Queue { waiting, ..test_kit::queue("out") }, Queue { paused, ..test_kit::queue("in") }]
    }

    const NONE: [&str; 0] = [];
    const BREAKER: &str = r#"{"pause-failed-per-hour":100,"pause-min-ms":5000}"#;
    const PRESSURE: &str = r#"{"max-jobs":100,"pause-min-ms":1,"queues":[{"match":"out","pause-queues":["in"]}]}"#;

    #[test]
    fn nothing_is_paused_unless_the_configuration_says_so() {
        let mut scene = Scene::new("{}");
        assert_eq!(scene.failed(1_000_000, false), NONE);
        assert_eq!(scene.tick(&full_and_target(1_000_000, false)), NONE);
        assert!(scene.holds.0.is_empty());
    }

    #[test]
    fn a_queue_that_fails_is_paused_and_goes_on_at_the_lower_mark() {
        let mut scene = Scene::new(BREAKER);
        assert_eq!(scene.failed(99, false), NONE);
        assert_eq!(scene.failed(100, false), ["pause q"]);
        for _ in 0..100 {
            assert_eq!(scene.failed(71, true), NONE);
        }
        assert_eq!(scene.failed(70, true), ["resume q"]);
        assert_eq!(scene.failed(70, false), NONE);
    }

    #[test]
    fn a_number_that_jumps_over_both_marks_changes_the_queue_once_in_the_least_time() {
        let mut scene = Scene::new(BREAKER);
        let mut changes = Vec::new();
        let mut paused = false;
        for second in 0..600 {
            for action in scene.failed(if second % 2 == 0 { 200 } else { 0 }, paused) {
                paused = action.starts_with("pause");
                changes.push(second);
            }
        }
        assert!(changes.len() > 2, "it does change");
        assert!(changes.windows(2).all(|pair| pair[1] - pair[0] >= 5), "{changes:?}");
    }

    #[test]
    fn a_number_that_hovers_at_a_mark_changes_nothing() {
        for (low, high) in [(95, 105), (71, 99)] {
            let mut scene = Scene::new(BREAKER);
            assert_eq!(scene.failed(100, false), ["pause q"]);
            let flaps: Vec<String> =
                (0..600).flat_map(|n| scene.failed(if n % 2 == 0 { low } else { high }, true)).collect();
            assert_eq!(flaps, NONE, "{low} to {high}");
        }
    }

    #[test]
    fn what_somebody_else_paused_stays_paused() {
        let mut scene = Scene::new(BREAKER);
        assert_eq!(scene.failed(500, true), NONE);
        assert_eq!(scene.failed(500, true), NONE);
        assert_eq!(scene.failed(0, true), NONE);
        assert_eq!(scene.failed(0, true), NONE);
        assert!(scene.holds.0.is_empty());
        // Then it is ours again.
        assert_eq!(scene.failed(500, false), ["pause q"]);
    }

    #[test]
    fn with_resume_any_it_goes_on() {
        let mut scene = Scene::new(r#"{"pause-failed-per-hour":100,"pause-min-ms":1,"resume":"any"}"#);
        assert_eq!(scene.failed(0, true), ["resume q"]);
        assert_eq!(scene.failed(500, true), NONE, "paused already");
        assert_eq!(scene.failed(0, true), ["resume q"]);
    }

    #[test]
    fn a_pause_that_was_lifted_or_not_granted_is_wished_for_again() {
        let mut scene = Scene::new(BREAKER);
        assert_eq!(scene.failed(500, false), ["pause q"]);
        let again: Vec<String> = (0..12).flat_map(|_| scene.failed(500, false)).collect();
        assert_eq!(again, ["pause q", "pause q"], "every five seconds");
    }

    #[test]
    fn a_full_queue_pauses_those_that_fill_it() {
        let mut scene = Scene::new(PRESSURE);
        assert_eq!(scene.tick(&full_and_target(99, false)), NONE);
        assert_eq!(scene.tick(&full_and_target(100, false)), ["pause in"]);
        assert_eq!(scene.tick(&full_and_target(71, true)), NONE);
        assert_eq!(scene.tick(&full_and_target(70, true)), ["resume in"]);
        let full = full_and_target(100, false);
        let marks = full.each_ref().map(|queue| scene.config.marks(queue));
        let said = scene.holds.tick(NOW_MS * 2, &full, &marks);
        let Some(Action::Notice(notice)) = said.first() else { panic!("{said:?}") };
        assert_eq!(notice.text, "paused: out is full, waiting 100 of at most 100 jobs");
    }

    #[test]
    fn a_queue_goes_on_when_the_last_cause_ends() {
        let mut scene = Scene::new(
            r#"{"max-jobs":100,"pause-min-ms":1,"queues":[{"match":"o*","pause-queues":["in"]},{"match":"in","pause-failed-per-hour":9}]}"#,
        );
        let mut tick = |one, two, failed_last_hour, paused| {
            let outs = [("o1", one), ("o2", two)].map(|(name, waiting)| Queue { waiting, ..test_kit::queue(name) });
            let target = Queue { failed_last_hour, paused, ..test_kit::queue("in") };
            scene.tick(&[&outs[..], &[target]].concat())
        };
        assert_eq!(tick(100, 0, 0, false), ["pause in"]);
        assert_eq!(tick(100, 100, 9, true), NONE);
        assert_eq!(tick(0, 100, 9, true), NONE);
        assert_eq!(tick(0, 0, 9, true), NONE);
        assert_eq!(tick(0, 0, 0, true), ["resume in"]);
    }

    #[test]
    fn a_cause_that_is_seen_no_more_ends() {
        let mut scene = Scene::new(PRESSURE);
        assert_eq!(scene.tick(&full_and_target(100, false)), ["pause in"]);
        scene.now_ms += FORGET_MS;
        assert_eq!(scene.tick(&[Queue { paused: true, ..test_kit::queue("in") }]), ["resume in"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut scene = Scene::new(BREAKER);
        let many: Vec<Queue> = (0..MAX_HELD + 50)
            .map(|n| Queue { failed_last_hour: 500, ..test_kit::queue(&format!("bull:{n}")) })
            .collect();
        // Each comes with a notice, and an answer has room for so many.
        let told: Vec<usize> = (0..5).map(|_| scene.tick(&many).len()).collect();
        assert_eq!(told, [32, 32, 32, 32, 0]);
        assert_eq!(scene.holds.0.len(), MAX_HELD);
        let long = Queue { failed_last_hour: 500, ..test_kit::queue(&"x".repeat(MAX_PATTERN + 1)) };
        assert_eq!(Scene::new(BREAKER).tick(&[long]), NONE);
    }

    #[test]
    fn a_queue_cannot_hold_itself_by_its_backlog_and_a_closed_one_holds_nobody() {
        let mut scene = Scene::new(r#"{"max-jobs":1,"pause-queues":["q","other"]}"#);
        let plain = test_kit::queue("q");
        assert_eq!(scene.tick(&[Queue { waiting: 5, ..plain.clone() }]), ["pause other"]);
        let closed = bull_policy_sdk::Limits { max_jobs: Some(0), ..plain.limits };
        let mut scene = Scene::new(r#"{"pause-queues":["other"]}"#);
        assert_eq!(scene.tick(&[Queue { limits: closed, ..plain }]), NONE);
    }
}

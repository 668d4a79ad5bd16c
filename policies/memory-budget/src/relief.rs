//! What a tick asks for: finished jobs trimmed, an emergency above the hard mark, and notices.
//!
//! - A queue near its own budget (over [`TRIM_FROM`] percent of it) has its oldest finished jobs trimmed until it takes
//!   [`TRIM_TO`] percent, whatever the node's memory. Unfinished jobs are never touched, so a queue full of those only
//!   refuses more.
//! - Above the soft mark the queues with the most to give lose what is older than the configured ages, and old events:
//!   first those furthest over their budget, then the least important, then those that keep most.
//! - Above the hard mark the node is asked to free memory down to the soft mark.
//!
//! A queue is asked for once in [`AGAIN_MS`] at most, an emergency once in [`EMERGENCY_MS`]: the module works on them in
//! slices and needs the time. A mark is told once when it is reached and once when memory is [`BACK`] percent below it.

use std::collections::BTreeMap;

use bull_policy_sdk::{Action, Node, Notice, Queue, Trim, TrimEvents};

use crate::config::{Config, Emergency};
use crate::decide::{Fill, fill};

/// Percent of a budget from which finished jobs are trimmed, and down to which.
pub const TRIM_FROM: u64 = 95;
pub const TRIM_TO: u64 = 90;
/// Least time between two trims of one queue, and between two emergencies.
pub const AGAIN_MS: u64 = 10_000;
pub const EMERGENCY_MS: u64 = 30_000;
/// Percent below a mark at which it is told that memory is back.
const BACK: u64 = 2;
/// Queues remembered at a time; with more, trims may come sooner than [`AGAIN_MS`].
const MAX_REMEMBERED: usize = 1024;
/// Bytes of a queue's name in an answer.
const MAX_NAME: usize = 1024;

/// What was asked for and told.
#[derive(Debug)]
pub struct Relief {
    told: Fill,
    emergency_ms: Option<u64>,
    trimmed_ms: BTreeMap<String, u64>,
}

impl Default for Relief {
    fn default() -> Self {
        Self { told: Fill::Fine, emergency_ms: None, trimmed_ms: BTreeMap::new() }
    }
}

/// A queue that has finished jobs to give.
struct Candidate<'a> {
    queue: &'a Queue,
    priority: u64,
    budget: Option<u64>,
    /// Its bytes in thousandths of its budget; 0 without one.
    share: u64,
}

impl Candidate<'_> {
    fn is_over(&self) -> bool {
        self.share >= TRIM_FROM * 10
    }
}

impl Relief {
    /// What to do after a look at these queues.
    pub fn tick(&mut self, config: &Config, node: &Node, queues: &[Queue]) -> Vec<Action> {
        let fill = fill(config, node);
        let mut actions = Vec::new();
        actions.extend(self.notice(config, node, fill));
        if fill == Fill::Hard && config.emergency == Emergency::On && due(self.emergency_ms, node.now_ms, EMERGENCY_MS)
        {
            self.emergency_ms = Some(node.now_ms);
            actions.push(Action::Emergency(u8::try_from(config.soft).unwrap_or(100)));
        }
        self.trimmed_ms.retain(|_, then| !due(Some(*then), node.now_ms, AGAIN_MS));
        let mut candidates: Vec<Candidate> = queues
            .iter()
            .filter(|queue| queue.completed + queue.failed > 0 && queue.name.len() <= MAX_NAME)
            .map(|queue| {
                let (priority, budget) = config.of(queue);
                let share = budget.map_or(0, |most| share(queue.bytes, most));
                Candidate { queue, priority, budget, share }
            })
            .filter(|candidate| fill > Fill::Fine || candidate.is_over())
            .filter(|candidate| !self.trimmed_ms.contains_key(&candidate.queue.name))
            .collect();
        candidates.sort_by_key(|candidate| {
            let over = if candidate.is_over() { candidate.share } else { 0 };
            std::cmp::Reverse((over, candidate.priority, candidate.queue.retained_bytes))
        });
        for candidate in candidates.iter().take(config.trim_queues) {
            let wished = actions.len();
            trims(config, candidate, fill, &mut actions);
            if actions.len() > wished && self.trimmed_ms.len() < MAX_REMEMBERED {
                self.trimmed_ms.insert(candidate.queue.name.clone(), node.now_ms);
            }
        }
        actions
    }

    fn notice(&mut self, config: &Config, node: &Node, fill: Fill) -> Option<Action> {
        let percent = percent(node);
        let text = if fill > self.told {
            self.told = fill;
            let mark = if fill == Fill::Hard { config.hard } else { config.soft };
            let pass = if fill == Fill::Hard { 1 } else { config.soft_passes };
            format!("memory at {percent} % of maxmemory, over {mark} %: jobs of priority {pass} at most pass")
        } else {
            let mark = match self.told {
                Fill::Fine => return None,
                Fill::Soft => config.soft,
                Fill::Hard => config.hard,
            };
            if percent.saturating_add(BACK) > mark {
                return None;
            }
            self.told = fill;
            format!("memory back to {percent} % of maxmemory, under {mark} %")
        };
        Some(Action::Notice(Notice { queue: "the node".into(), text }))
    }
}

/// The trims of one queue.
fn trims(config: &Config, candidate: &Candidate, fill: Fill, actions: &mut Vec<Action>) {
    let name = &candidate.queue.name;
    let short = fill > Fill::Fine;
    let max_bytes = candidate.budget.filter(|_| candidate.is_over()).map(|most| portion(most, TRIM_TO));
    let trim = Trim {
        queue: name.clone(),
        completed_ms: config.trim_completed_ms.filter(|_| short),
        failed_ms: config.trim_failed_ms.filter(|_| short),
        keep_completed: None,
        keep_failed: None,
        max_bytes,
    };
    if trim.completed_ms.is_some() || trim.failed_ms.is_some() || max_bytes.is_some() {
        actions.push(Action::Trim(trim));
    }
    if let Some(keep) = config.keep_events.filter(|_| short) {
        actions.push(Action::TrimEvents(TrimEvents { queue: name.clone(), keep }));
    }
}

fn due(last: Option<u64>, now_ms: u64, least: u64) -> bool {
    last.is_none_or(|then| now_ms.saturating_sub(then) >= least)
}

fn portion(bytes: u64, percent: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

/// Thousandths that a queue takes of its budget. A profile may say 0: then all is over.
fn share(bytes: u64, most: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / u128::from(most.max(1))).unwrap_or(u64::MAX)
}

fn percent(node: &Node) -> u64 {
    let max = u128::from(node.max_memory.max(1));
    if node.max_memory == 0 { 0 } else { u64::try_from(u128::from(node.used_memory) * 100 / max).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bull_policy_sdk::{Limits, test_kit};

    struct Scene {
        config: Config,
        relief: Relief,
        now_ms: u64,
    }

    impl Scene {
        fn new(config: &str) -> Self {
            Self { config: Config::read(config).expect(config), relief: Relief::default(), now_ms: test_kit::NOW_MS }
        }

        /// The actions of a tick a second later at so many percent, in short.
        fn tick(&mut self, percent: u64, queues: &[Queue]) -> Vec<String> {
            self.now_ms += 1000;
            let node = Node {
                now_ms: self.now_ms,
                used_memory: percent * 10,
                max_memory: 1000,
                queues: u32::try_from(queues.len()).unwrap(),
            };
            let show = |action: &Action| match action {
                Action::Notice(notice) => format!("{}: {}", notice.queue, notice.text),
                Action::Trim(trim) => {
                    let numbers = [trim.completed_ms, trim.failed_ms, trim.max_bytes];
                    let shown = numbers.map(|number| number.map_or("-".to_owned(), |number| number.to_string()));
                    format!("trim {} {}", trim.queue, shown.join(" "))
                }
                Action::TrimEvents(trim) => format!("events {} {}", trim.queue, trim.keep),
                Action::Emergency(target) => format!("emergency {target}"),
                other => format!("{other:?}"),
            };
            self.relief.tick(&self.config, &node, queues).iter().map(show).collect()
        }

        fn trimmed(&mut self, percent: u64, queues: &[Queue]) -> Vec<String> {
            let actions = self.tick(percent, queues);
            let names = actions.iter().filter_map(|text| text.strip_prefix("trim ")?.split(' ').next());
            names.map(str::to_owned).collect()
        }
    }

    fn queue(name: &str, priority: u32, retained_bytes: u64, bytes: u64, max_bytes: Option<u64>) -> Queue {
        let plain = test_kit::queue(name);
        let limits = Limits { priority: Some(priority), max_bytes, ..plain.limits };
        Queue { completed: 9, bytes, retained_bytes, limits, ..plain }
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn nothing_is_asked_for_while_memory_and_queues_are_within() {
        let mut scene = Scene::new("{}");
        assert_eq!(scene.tick(79, &[queue("q", 6, 500, 940, Some(1000))]), NONE);
    }

    #[test]
    fn above_the_soft_mark_old_jobs_and_events_go_once_in_a_while() {
        let mut scene = Scene::new(r#"{"trim-failed-ms":5,"keep-events":7}"#);
        let queues = [queue("q", 6, 500, 500, None)];
        assert_eq!(
            scene.tick(80, &queues),
            [
                "the node: memory at 80 % of maxmemory, over 80 %: jobs of priority 3 at most pass",
                "trim q 86400000 5 -",
                "events q 7"
            ]
        );
        let later: Vec<String> = (0..10).flat_map(|_| scene.tick(85, &queues)).collect();
        assert_eq!(later, ["trim q 86400000 5 -", "events q 7"], "again after ten seconds");
    }

    #[test]
    fn what_is_not_configured_is_not_trimmed() {
        let mut scene = Scene::new(r#"{"trim-completed-ms":null,"trim-failed-ms":null,"keep-events":null}"#);
        assert_eq!(scene.trimmed(85, &[queue("q", 6, 500, 500, None)]), NONE);
        let empty = Queue { completed: 0, ..queue("q", 6, 500, 500, None) };
        assert_eq!(Scene::new("{}").trimmed(85, &[empty]), NONE, "a queue without finished jobs has nothing to give");
    }

    #[test]
    fn those_over_budget_go_first_then_the_least_important_then_those_that_keep_most() {
        let mut scene = Scene::new(r#"{"trim-queues":2}"#);
        let queues = [
            queue("critical", 1, 900, 900, None),
            queue("low-small", 6, 10, 10, None),
            queue("low-large", 6, 500, 500, None),
            queue("over", 2, 100, 960, Some(1000)),
            queue("further", 1, 100, 1200, Some(1000)),
        ];
        assert_eq!(scene.trimmed(85, &queues), ["further", "over"]);
        assert_eq!(scene.trimmed(85, &queues), ["low-large", "low-small"]);
        assert_eq!(scene.trimmed(85, &queues), ["critical"]);
        assert_eq!(scene.trimmed(85, &queues), NONE);
    }

    #[test]
    fn a_queue_near_its_budget_is_trimmed_whatever_the_memory() {
        let mut scene = Scene::new("{}");
        assert_eq!(scene.tick(10, &[queue("q", 1, 500, 949, Some(1000))]), NONE);
        assert_eq!(scene.tick(10, &[queue("q", 1, 500, 950, Some(1000))]), ["trim q - - 900"]);
        let mut scene = Scene::new("{}");
        let both = scene.tick(85, &[queue("q", 1, 500, 2000, Some(1000))]);
        assert!(both.contains(&"trim q 86400000 604800000 900".to_owned()), "{both:?}");
    }

    #[test]
    fn above_the_hard_mark_the_node_frees_memory_unless_told_not_to() {
        let mut scene = Scene::new("{}");
        let emergencies = |scene: &mut Scene, ticks: usize| {
            (0..ticks)
                .flat_map(|_| scene.tick(95, &[]))
                .filter(|text| text.starts_with("emergency"))
                .collect::<Vec<_>>()
        };
        assert_eq!(emergencies(&mut scene, 31), ["emergency 80", "emergency 80"]);
        let mut scene = Scene::new(r#"{"emergency":"off"}"#);
        assert_eq!(emergencies(&mut scene, 31), NONE);
    }

    #[test]
    fn marks_are_told_once_each_way() {
        let mut scene = Scene::new(r#"{"emergency":"off"}"#);
        let mut told = |percent| scene.tick(percent, &[]).len();
        assert_eq!([79, 80, 79, 81, 89].map(&mut told), [0, 1, 0, 0, 0]);
        assert_eq!([90, 89, 91, 88].map(&mut told), [1, 0, 0, 1]);
        assert_eq!([90, 50].map(&mut told), [1, 1]);
        assert_eq!(scene.tick(50, &[]), NONE);
    }

    #[test]
    fn memory_is_bounded_and_long_names_are_left_out() {
        let mut scene = Scene::new(r#"{"trim-queues":20}"#);
        for batch in 0..100 {
            let queues: Vec<Queue> = (0..20).map(|n| queue(&format!("{batch}:{n}"), 6, 1, 1, None)).collect();
            scene.now_ms -= 1000;
            scene.tick(85, &queues);
        }
        assert_eq!(scene.relief.trimmed_ms.len(), MAX_REMEMBERED);
        let long = queue(&"x".repeat(MAX_NAME + 1), 6, 1, 1, None);
        assert_eq!(Scene::new("{}").trimmed(85, &[long]), NONE);
    }
}

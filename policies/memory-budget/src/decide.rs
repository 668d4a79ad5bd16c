//! What becomes of a job: a pure function that allocates only to refuse.

use bull_policy_sdk::{Job, Node, Queue, Terms, Verdict};

use crate::config::Config;

/// Where the node's memory stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    Fine,
    /// From the soft mark.
    Soft,
    /// From the hard mark.
    Hard,
}

/// The fill; always fine without a limit.
#[must_use]
pub fn fill(config: &Config, node: &Node) -> Fill {
    let (used, max) = (u128::from(node.used_memory) * 100, u128::from(node.max_memory));
    match max {
        0 => Fill::Fine,
        _ if used >= max * u128::from(config.hard) => Fill::Hard,
        _ if used >= max * u128::from(config.soft) => Fill::Soft,
        _ => Fill::Fine,
    }
}

/// The least important priority that passes at this fill; `None` where all do.
fn passing(config: &Config, node: &Node) -> Option<u64> {
    match fill(config, node) {
        Fill::Fine => None,
        Fill::Hard => Some(1),
        Fill::Soft => {
            // Equal steps from `soft_passes` down to 2.
            let (used, max) = (u128::from(node.used_memory) * 100, u128::from(node.max_memory));
            let (soft, hard) = (max * u128::from(config.soft), max * u128::from(config.hard));
            let steps = u128::from(config.soft_passes - 1);
            let step = u64::try_from((used - soft) * steps / (hard - soft)).unwrap_or(u64::MAX);
            Some(config.soft_passes.saturating_sub(step).max(1))
        }
    }
}

/// The verdict on a job that asks to enter the queue.
#[must_use]
pub fn admit(config: &Config, node: &Node, queue: &Queue, job: &Job) -> Verdict {
    let passing = passing(config, node);
    let (own, most) = config.of(queue);
    // An estimate of 0 is one that was not made yet.
    if let Some(most) = most
        && queue.bytes > 0
        && queue.bytes.saturating_add(job.bytes) > most
    {
        return Verdict::Reject(format!("queue of {} bytes and job of {} over {most}", queue.bytes, job.bytes));
    }
    match passing {
        Some(passing) if own > passing => {
            Verdict::Reject(format!("memory is short: priority {own} waits, up to {passing} passes"))
        }
        // Between the marks each step has its own priorities: it is judged job by job.
        Some(_) if own > 1 => Verdict::Admit,
        _ => {
            // The most important queues pass at any fill.
            let used_memory_below = if own > 1 { soft_mark(config, node) } else { None };
            Verdict::AdmitWhile(Terms { queue_bytes: most, used_memory_below, ..Terms::NONE })
        }
    }
}

/// The first bytes in use that are no longer fine; none without a limit.
fn soft_mark(config: &Config, node: &Node) -> Option<u64> {
    let mark = (u128::from(node.max_memory) * u128::from(config.soft)).div_ceil(100);
    (node.max_memory > 0).then(|| u64::try_from(mark).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bull_policy_sdk::{Limits, test_kit};

    fn passes(config: &str, used: u64, max: u64, priority: Option<u32>) -> bool {
        let node = Node { used_memory: used, max_memory: max, ..test_kit::node() };
        let plain = test_kit::queue("bull:mail");
        let queue = Queue { limits: Limits { priority, ..plain.limits }, ..plain };
        let config = Config::read(config).expect("a good configuration");
        admits(&admit(&config, &node, &queue, &test_kit::job()))
    }

    fn admits(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Admit | Verdict::AdmitWhile(_))
    }

    /// The terms of an admission, if it has any.
    fn terms(config: &str, used: u64, max: u64, priority: u32, max_bytes: Option<u64>) -> Option<Terms> {
        let node = Node { used_memory: used, max_memory: max, ..test_kit::node() };
        let plain = test_kit::queue("bull:mail");
        let limits = Limits { priority: Some(priority), max_bytes, ..plain.limits };
        let config = Config::read(config).expect("a good configuration");
        match admit(&config, &node, &Queue { limits, ..plain }, &test_kit::job()) {
            Verdict::AdmitWhile(terms) => Some(terms),
            _ => None,
        }
    }

    #[test]
    fn the_terms_end_where_the_next_verdict_differs() {
        for (max, soft) in [(1000, 80), (999, 33), (1, 99), (u64::MAX, 80)] {
            let config = format!(r#"{{"soft-percent":{soft},"hard-percent":100}}"#);
            let below = terms(&config, 0, max, 7, None).expect("terms").used_memory_below.expect("a mark");
            assert!(passes(&config, below - 1, max, Some(7)) && !passes(&config, below, max, Some(7)), "{max}, {soft}");
        }
        let said = terms("{}", 0, 1000, 7, Some(5000)).expect("terms");
        assert_eq!((said.queue_bytes, said.used_memory_below), (Some(5000), Some(800)));
        assert_eq!((said.backlog_below, said.job_bytes, said.until_ms), (None, None, None));
        assert_eq!(terms("{}", 5000, 1000, 1, None).expect("terms").used_memory_below, None, "passes at any fill");
        assert_eq!(terms("{}", 5000, 0, 7, None).expect("terms").used_memory_below, None, "no maxmemory");
        assert!(terms("{}", 820, 1000, 2, None).is_none(), "between the marks");
    }

    #[test]
    fn the_less_important_go_first() {
        for (used, most) in [(799, 7), (800, 3), (849, 3), (850, 2), (899, 2), (900, 1), (5000, 1)] {
            for priority in 1..=7 {
                assert_eq!(passes("{}", used, 1000, Some(priority)), priority <= most, "{used}, {priority}");
            }
        }
        assert!(passes("{}", u64::MAX, 0, Some(7)), "no maxmemory");
        assert!(passes("{}", 849, 1000, None) && !passes("{}", 850, 1000, None), "the default is 3");
        assert!(!passes(r#"{"queues":[{"match":"*mail","priority":9}]}"#, 800, 1000, Some(1)));
    }

    #[test]
    fn the_steps_between_the_marks_are_equal() {
        let five = r#"{"soft-passes":5}"#;
        for (used, most) in [(800, 5), (824, 5), (825, 4), (850, 3), (875, 2), (899, 2), (900, 1)] {
            for priority in 1..=7 {
                assert_eq!(passes(five, used, 1000, Some(priority)), priority <= most, "{used}, {priority}");
            }
        }
        assert!(passes(r#"{"soft-passes":1}"#, 850, 1000, Some(1)));
        assert!(!passes(r#"{"soft-passes":1}"#, 800, 1000, Some(2)));
        let low = r#"{"soft-percent":10,"hard-percent":20}"#;
        assert!(passes(low, 99, 1000, Some(9)) && !passes(low, 100, 1000, Some(4)) && !passes(low, 200, 1000, Some(2)));
    }

    #[test]
    fn a_queue_keeps_its_budget() {
        let config = Config::read(r#"{"queues":[{"match":"*","max-bytes":1000}]}"#).expect("good");
        let rejects = |bytes| {
            let queue = Queue { bytes, ..test_kit::queue("q") };
            matches!(admit(&config, &test_kit::node(), &queue, &test_kit::job()), Verdict::Reject(_))
        };
        assert!(!rejects(0) && !rejects(900) && rejects(901) && rejects(u64::MAX));
    }
}

//! `memory-budget`: a policy that sheds load as memory fills, the least important queues first.
//!
//! What it never does: free memory, touch jobs already in a queue, or act on tick.
//!
//! [`Config`] is the configuration, [`decide`] the verdict: a pure function that allocates only to refuse.

use bull_policy_sdk::config::{Section, parse};
use bull_policy_sdk::pattern::Pattern;
use bull_policy_sdk::{Description, Job, Node, Policy, Queue, Verdict, export_policy};

/// Steps between the marks, after each of which one priority less passes.
const STEPS: u128 = 4;
/// Steps of matching for one name, so that a decision stays within its fuel; a name that takes more has no entry.
const MATCH_STEPS: u32 = 500;

struct Entry {
    pattern: Pattern,
    priority: Option<u32>,
    max_bytes: Option<u64>,
}

/// The configuration in force.
pub struct Config {
    soft: u64,
    hard: u64,
    default_priority: u32,
    entries: Vec<Entry>,
}

impl Config {
    /// Reads the JSON text; an error is one line that names the key.
    pub fn read(text: &str) -> Result<Self, String> {
        let value = parse(text)?;
        let top = Section::root(&value)?;
        top.only(&["soft-percent", "hard-percent", "default-priority", "queues"])?;
        let soft = top.whole("soft-percent", 1..=99)?.unwrap_or(80);
        let hard = top.whole("hard-percent", 2..=100)?.unwrap_or(90);
        if soft >= hard {
            return Err(format!("hard-percent: expected more than soft-percent, which is {soft}, not {hard}"));
        }
        let entries = top
            .sections("queues", 32)?
            .iter()
            .map(|entry| {
                entry.only(&["match", "priority", "max-bytes"])?;
                let pattern = Pattern::new(entry.text("match", 256)?.ok_or_else(|| entry.missing("match"))?);
                let max_bytes = entry.whole("max-bytes", 1..=1 << 50)?;
                Ok(Entry { pattern, priority: priority(entry, "priority")?, max_bytes })
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { soft, hard, default_priority: priority(&top, "default-priority")?.unwrap_or(3), entries })
    }
}

fn priority(section: &Section, key: &str) -> Result<Option<u32>, String> {
    Ok(section.whole(key, 1..=1000)?.and_then(|number| u32::try_from(number).ok()))
}

/// The least important priority that passes at this fill; `None` where all do.
fn passing(config: &Config, node: &Node) -> Option<u32> {
    let (used, max) = (u128::from(node.used_memory) * 100, u128::from(node.max_memory));
    let (soft, hard) = (max * u128::from(config.soft), max * u128::from(config.hard));
    if max == 0 || used < soft {
        return None;
    }
    let step = if used >= hard { STEPS } else { (used - soft) * STEPS / (hard - soft) };
    Some(5 - u32::try_from(step).unwrap_or(4))
}

/// The verdict on a job that asks to enter the queue.
#[must_use]
pub fn decide(config: &Config, node: &Node, queue: &Queue, job: &Job) -> Verdict {
    let passing = passing(config, node);
    let mut steps = MATCH_STEPS;
    let entry = config.entries.iter().find(|entry| entry.pattern.matches_within(&queue.name, &mut steps));
    let most = entry.and_then(|entry| entry.max_bytes).or(queue.limits.max_bytes);
    if let Some(most) = most
        && queue.bytes > 0
        && queue.bytes.saturating_add(job.bytes) > most
    {
        return Verdict::Reject(format!("queue of {} bytes and job of {} over {most}", queue.bytes, job.bytes));
    }
    let own = entry.and_then(|entry| entry.priority).or(queue.limits.priority).unwrap_or(config.default_priority);
    match passing {
        Some(passing) if own > passing => {
            Verdict::Reject(format!("memory is short: priority {own} waits, up to {passing} passes"))
        }
        _ => Verdict::Admit,
    }
}

/// One configuration in force.
pub struct MemoryBudget(Config);

impl Policy for MemoryBudget {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Sheds the least important queues as memory fills; bounds each queue's bytes.".into(),
            config_schema: include_str!("../config.schema.json").into(),
        }
    }

    fn configure(config: &str) -> Result<Self, String> {
        Config::read(config).map(Self)
    }

    fn admit(&mut self, node: &Node, queue: &Queue, job: &Job) -> Verdict {
        decide(&self.0, node, queue, job)
    }
}

export_policy!(MemoryBudget);

#[cfg(test)]
mod tests {
    use super::*;
    use bull_policy_sdk::{Limits, test_kit};

    fn passes(config: &str, used: u64, max: u64, priority: Option<u32>) -> bool {
        let node = Node { used_memory: used, max_memory: max, ..test_kit::node() };
        let plain = test_kit::queue("bull:mail");
        let queue = Queue { limits: Limits { priority, ..plain.limits }, ..plain };
        let config = Config::read(config).expect("a good configuration");
        matches!(decide(&config, &node, &queue, &test_kit::job()), Verdict::Admit)
    }

    #[test]
    fn the_less_important_go_first() {
        for (used, most) in [(799, 7), (800, 5), (824, 5), (825, 4), (850, 3), (875, 2), (899, 2), (900, 1), (5000, 1)]
        {
            for priority in 1..=7 {
                assert_eq!(passes("{}", used, 1000, Some(priority)), priority <= most, "{used}, {priority}");
            }
        }
        assert!(passes("{}", u64::MAX, 0, Some(7)), "no maxmemory");
        assert!(passes("{}", 850, 1000, None) && !passes("{}", 875, 1000, None), "the default is 3");
        assert!(!passes(r#"{"queues":[{"match":"*mail","priority":9}]}"#, 800, 1000, Some(1)));
    }

    #[test]
    fn a_queue_keeps_its_budget() {
        let config = Config::read(r#"{"queues":[{"match":"*","max-bytes":1000}]}"#).expect("good");
        let rejects = |bytes| {
            let queue = Queue { bytes, ..test_kit::queue("q") };
            matches!(decide(&config, &test_kit::node(), &queue, &test_kit::job()), Verdict::Reject(_))
        };
        assert!(!rejects(0) && !rejects(900) && rejects(901));
    }

    #[test]
    fn marks_have_an_order() {
        let error = Config::read(r#"{"soft-percent":90}"#).err();
        assert_eq!(error.as_deref(), Some("hard-percent: expected more than soft-percent, which is 90, not 90"));
    }
}

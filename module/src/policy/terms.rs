//! What policies have said of all further jobs of a queue, so that most jobs need no call: the walk of each queue, which
//! policies it passes and the terms that each of them gave.
//!
//! In bounded memory, and never the ground for a refusal: a job that does not meet the terms is judged by the policy.

use std::collections::HashMap;
use std::fmt;

use foldhash::fast::RandomState;

use super::member::Policy;
use super::{Node, Queue, Terms};

/// Queues whose walk is remembered; beyond that all are forgotten.
const MAX_QUEUES: usize = 1024;

impl Terms {
    /// Nothing matters.
    pub const NONE: Self =
        Self { backlog_below: None, job_bytes: None, queue_bytes: None, used_memory_below: None, until_ms: None };

    /// What meets both.
    fn and(self, other: Self) -> Self {
        let lower = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        Self {
            backlog_below: lower(self.backlog_below, other.backlog_below),
            job_bytes: lower(self.job_bytes, other.job_bytes),
            queue_bytes: lower(self.queue_bytes, other.queue_bytes),
            used_memory_below: lower(self.used_memory_below, other.used_memory_below),
            until_ms: lower(self.until_ms, other.until_ms),
        }
    }

    /// A job of so many bytes meets them, by these facts.
    pub fn meet(&self, node: Node, queue: &Queue, job_bytes: u64) -> bool {
        let backlog = queue.waiting.saturating_add(queue.prioritized);
        self.backlog_below.is_none_or(|below| backlog < below)
            && self.job_bytes.is_none_or(|most| job_bytes <= most)
            && self.queue_bytes.is_none_or(|most| queue.bytes.saturating_add(job_bytes) <= most)
            && self.used_memory_below.is_none_or(|below| node.used_memory < below)
            && self.until_ms.is_none_or(|until| node.now_ms < until)
    }
}

impl fmt::Display for Terms {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = [
            ("the backlog is below", self.backlog_below, " jobs"),
            ("the job has at most", self.job_bytes, " bytes"),
            ("the queue has with it at most", self.queue_bytes, " bytes"),
            ("used memory is below", self.used_memory_below, " bytes"),
            ("it is before", self.until_ms, " ms"),
        ];
        f.write_str("without asking")?;
        let said = terms.into_iter().filter_map(|(what, value, unit)| Some((what, value?, unit)));
        for (at, (what, value, unit)) in said.enumerate() {
            write!(f, "{}{what} {value}{unit}", if at == 0 { " while " } else { " and " })?;
        }
        Ok(())
    }
}

/// Terms of one policy, and when it gave them.
#[derive(Clone, Copy, Debug)]
struct Given {
    terms: Terms,
    /// maxmemory at that moment.
    max_memory: u64,
    /// The policy's age then, see [`Policy::age`].
    age: u64,
}

/// One policy on a queue's walk.
#[derive(Debug)]
pub(super) struct Stop {
    /// Its place among the policies.
    pub policy: usize,
    given: Option<Given>,
}

impl Stop {
    /// The terms of the policy that still stand.
    pub fn terms(&self, policy: &Policy, max_memory: u64) -> Option<Terms> {
        let given = self.given.filter(|given| given.age == policy.age() && given.max_memory == max_memory)?;
        policy.is_ready().then_some(given.terms)
    }

    pub fn give(&mut self, policy: &Policy, max_memory: u64, terms: Option<Terms>) {
        self.given = terms.map(|terms| Given { terms, max_memory, age: policy.age() });
    }
}

/// The policies that a queue's jobs pass, in their order.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub stops: Vec<Stop>,
}

impl Walk {
    fn of(policies: &[Policy], queue: &str) -> Self {
        let covering = policies.iter().enumerate().filter(|(_, policy)| policy.covers(queue));
        Self { stops: covering.map(|(policy, _)| Stop { policy, given: None }).collect() }
    }

    /// What meets the terms of all its policies enters; None where one of them has to be asked about each job.
    pub fn terms(&self, policies: &[Policy], max_memory: u64) -> Option<Terms> {
        self.stops.iter().try_fold(Terms::NONE, |all, stop| {
            stop.terms(&policies[stop.policy], max_memory).map(|terms| all.and(terms))
        })
    }
}

type ByQueue = HashMap<Box<[u8]>, usize, RandomState>;

/// Where a queue's walk is, until the walks are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    at: usize,
    era: u64,
}

/// The walks of queues that jobs came to lately. A walk lives as long as the policies and the queue's limits are the same.
#[derive(Default)]
pub(super) struct Walks {
    databases: Vec<(i32, ByQueue)>,
    walks: Vec<Walk>,
    era: u64,
}

impl Walks {
    pub const fn new() -> Self {
        Self { databases: Vec::new(), walks: Vec::new(), era: 0 }
    }

    /// Policies came or went, or a queue has other limits.
    pub fn clear(&mut self) {
        self.databases.clear();
        self.walks.clear();
        self.era += 1;
    }

    pub fn at(&mut self, place: Place) -> Option<&mut Walk> {
        if place.era == self.era { self.walks.get_mut(place.at) } else { None }
    }

    /// The place of a queue's walk.
    pub fn find(&mut self, policies: &[Policy], db: i32, queue: &str) -> Place {
        let name = queue.as_bytes();
        let known = self.databases.iter().find(|(of, _)| *of == db).and_then(|(_, queues)| queues.get(name));
        if let Some(at) = known {
            return Place { at: *at, era: self.era };
        }
        if self.walks.len() >= MAX_QUEUES {
            self.clear();
        }
        self.walks.push(Walk::of(policies, queue));
        let place = Place { at: self.walks.len() - 1, era: self.era };
        let at = self.databases.iter().position(|(of, _)| *of == db).unwrap_or_else(|| {
            self.databases.push((db, ByQueue::default()));
            self.databases.len() - 1
        });
        self.databases[at].1.insert(name.into(), place.at);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Limits;
    use crate::policy::settings::Settings;

    const NODE: Node = Node { now_ms: 1000, used_memory: 500, max_memory: 1000, queues: 1 };

    fn queue() -> Queue {
        Queue {
            name: "bull:q".into(),
            waiting: 6,
            active: 0,
            delayed: 0,
            prioritized: 3,
            waiting_children: 0,
            completed: 0,
            failed: 0,
            paused: false,
            oldest_waiting_ms: 0,
            bytes: 700,
            retained_bytes: 0,
            added_per_sec: 0.0,
            failed_last_hour: 0,
            limits: Limits { priority: None, concurrency: None, max_jobs: None, max_bytes: None, max_job_bytes: None },
        }
    }

    #[test]
    fn each_term_holds_up_to_its_end() {
        let meets = |terms: Terms| terms.meet(NODE, &queue(), 50);
        assert!(meets(Terms::NONE));
        for (ends, term) in [
            (10, &(|n| Terms { backlog_below: Some(n), ..Terms::NONE }) as &dyn Fn(u64) -> Terms),
            (50, &|n| Terms { job_bytes: Some(n), ..Terms::NONE }),
            (750, &|n| Terms { queue_bytes: Some(n), ..Terms::NONE }),
            (501, &|n| Terms { used_memory_below: Some(n), ..Terms::NONE }),
            (1001, &|n| Terms { until_ms: Some(n), ..Terms::NONE }),
        ] {
            assert!(meets(term(ends)) && !meets(term(ends - 1)), "{:?}", term(ends));
        }
        assert!(!Terms { backlog_below: Some(9), job_bytes: Some(1), ..Terms::NONE }.meet(NODE, &queue(), 1));
    }

    #[test]
    fn what_meets_both_meets_the_lower_of_each() {
        let one = Terms { backlog_below: Some(5), job_bytes: Some(9), ..Terms::NONE };
        let other = Terms { backlog_below: Some(7), until_ms: Some(3), ..Terms::NONE };
        let both = one.and(other);
        assert_eq!((both.backlog_below, both.job_bytes, both.until_ms), (Some(5), Some(9), Some(3)));
        assert_eq!((both.queue_bytes, both.used_memory_below), (None, None));
        assert_eq!(one.to_string(), "without asking while the backlog is below 5 jobs and the job has at most 9 bytes");
        assert_eq!(Terms::NONE.to_string(), "without asking");
    }

    #[test]
    fn a_walk_knows_the_policies_that_cover_the_queue() {
        let policy = |name: &str, queues: &str| {
            Policy::loading(name.into(), Settings { queues: queues.into(), ..Settings::default() })
        };
        let policies = [policy("a", "*mail"), policy("b", "*"), policy("c", "x")];
        let mut walks = Walks::new();
        let place = walks.find(&policies, 0, "bull:mail");
        assert_eq!(place, walks.find(&policies, 0, "bull:mail"));
        assert_ne!(place, walks.find(&policies, 1, "bull:mail"), "each database has its own limits");
        let stops: Vec<usize> = walks.at(place).unwrap().stops.iter().map(|stop| stop.policy).collect();
        assert_eq!(stops, [0, 1]);
        let none = walks.find(&policies[..1], 0, "bull:other");
        assert!(walks.at(none).unwrap().terms(&policies, 0).is_some(), "no policy, no terms");
        assert!(walks.at(place).unwrap().terms(&policies, 0).is_none(), "they said nothing yet");
        walks.clear();
        assert!(walks.at(place).is_none());
    }

    #[test]
    fn many_queues_take_no_more_room() {
        let mut walks = Walks::new();
        for at in 0..3 * MAX_QUEUES {
            walks.find(&[], 0, &format!("bull:{at}"));
        }
        assert!(walks.walks.len() <= MAX_QUEUES);
        assert_eq!(walks.databases[0].1.len(), walks.walks.len());
    }

    #[test]
    fn terms_end_with_the_instance_the_limit_and_the_age() {
        let mut policy = Policy::loading("a".into(), Settings::default());
        let mut stop = Stop { policy: 0, given: None };
        stop.give(&policy, 1000, Some(Terms::NONE));
        assert!(stop.terms(&policy, 1000).is_none(), "it has no instance");
        let given = |stop: &Stop, policy: &Policy, max| {
            stop.given.is_some_and(|given| given.age == policy.age() && given.max_memory == max)
        };
        assert!(given(&stop, &policy, 1000) && !given(&stop, &policy, 2000));
        policy.grow_older();
        assert!(!given(&stop, &policy, 1000));
    }
}

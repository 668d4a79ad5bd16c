//! What becomes of a job. Runs for every job on the server's main thread: it reads numbers, matches the queue's name
//! only when some limit could be reached, and allocates nothing but the text of a rejection.

use bull_policy_sdk::{Queue, Terms, Verdict};

use crate::config::{Config, Overload};

/// The jobs that stand ready for a worker: `wait` and `prioritized` together, as a worker takes from both.
#[must_use]
pub fn backlog(queue: &Queue) -> u64 {
    queue.waiting.saturating_add(queue.prioritized)
}

/// The verdict on one more job for this queue.
#[must_use]
pub fn admit(config: &Config, queue: &Queue) -> Verdict {
    let below = |max_jobs| Verdict::AdmitWhile(Terms { backlog_below: Some(max_jobs), ..Terms::NONE });
    let backlog = backlog(queue);
    let lowest = config.lowest_max_jobs(queue);
    if backlog < lowest {
        return below(lowest);
    }
    let limits = config.limits(queue);
    if backlog < limits.max_jobs {
        return below(limits.max_jobs);
    }
    match limits.overload {
        Overload::Observe => Verdict::AdmitWhile(Terms::NONE),
        Overload::Defer => Verdict::Defer(limits.defer_ms),
        // Only `wait` can be displaced from. A backlog of prioritized jobs alone has no oldest job to give up, and
        // letting more in would leave the queue without a bound.
        Overload::Displace if queue.waiting > 0 => Verdict::Displace(1),
        Overload::Displace | Overload::Reject => Verdict::Reject(full(backlog, limits.max_jobs)),
    }
}

/// How full a queue is, for a rejection or a notice.
#[must_use]
pub fn full(backlog: u64, max_jobs: u64) -> String {
    format!("waiting {backlog} of at most {max_jobs} jobs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bull_policy_sdk::test_kit;

    /// The verdict in short, as the generated type has no equality.
    fn verdict(config: &str, queue: &Queue) -> String {
        match admit(&Config::read(config).expect(config), queue) {
            Verdict::Admit | Verdict::AdmitWhile(_) => "admit".into(),
            Verdict::Reject(reason) => format!("reject: {reason}"),
            Verdict::Defer(ms) => format!("defer {ms}"),
            Verdict::Displace(jobs) => format!("displace {jobs}"),
        }
    }

    fn queue(waiting: u64, prioritized: u64) -> Queue {
        Queue { waiting, prioritized, ..test_kit::queue("bull:mail") }
    }

    #[test]
    fn a_queue_under_its_limit_admits() {
        assert_eq!(verdict("{}", &queue(9_999, 0)), "admit");
        assert_eq!(verdict(r#"{"max-jobs":1}"#, &queue(0, 0)), "admit");
    }

    #[test]
    fn the_terms_are_the_lowest_limit_until_it_is_reached_then_the_queue_s_own() {
        let below = |config: &str, queue: &Queue| match admit(&Config::read(config).expect(config), queue) {
            Verdict::AdmitWhile(terms) => {
                assert_eq!((terms.job_bytes, terms.queue_bytes, terms.used_memory_below), (None, None, None));
                assert_eq!(terms.until_ms, None);
                terms.backlog_below
            }
            other => panic!("{other:?}"),
        };
        let config = r#"{"max-jobs":50,"queues":[{"match":"*tiny","max-jobs":2}]}"#;
        assert_eq!(below(config, &queue(1, 0)), Some(2));
        assert_eq!(below(config, &queue(1, 1)), Some(50));
        assert_eq!(below(config, &queue(40, 9)), Some(50));
        assert_eq!(below(r#"{"max-jobs":5,"overload":"observe"}"#, &queue(500, 0)), None);
    }

    #[test]
    fn a_full_queue_rejects_and_says_why() {
        assert_eq!(verdict("{}", &queue(10_000, 0)), "reject: waiting 10000 of at most 10000 jobs");
        assert_eq!(verdict(r#"{"max-jobs":5}"#, &queue(70, 0)), "reject: waiting 70 of at most 5 jobs");
    }

    #[test]
    fn prioritized_jobs_count_as_waiting_and_other_states_do_not() {
        assert_eq!(verdict(r#"{"max-jobs":5}"#, &queue(3, 2)), "reject: waiting 5 of at most 5 jobs");
        let elsewhere =
            Queue { active: 50, delayed: 50, waiting_children: 50, completed: 50, failed: 50, ..queue(3, 1) };
        assert_eq!(verdict(r#"{"max-jobs":5}"#, &elsewhere), "admit");
        assert_eq!(
            verdict("{}", &queue(u64::MAX, u64::MAX)),
            "reject: waiting 18446744073709551615 of at most 10000 jobs"
        );
    }

    #[test]
    fn a_full_queue_defers_by_the_configured_time() {
        assert_eq!(verdict(r#"{"max-jobs":5,"overload":"defer"}"#, &queue(5, 0)), "defer 60000");
        assert_eq!(verdict(r#"{"max-jobs":5,"overload":"defer","defer-ms":1}"#, &queue(5, 0)), "defer 1");
    }

    #[test]
    fn a_full_queue_displaces_one_waiting_job() {
        assert_eq!(verdict(r#"{"max-jobs":5,"overload":"displace"}"#, &queue(5, 0)), "displace 1");
        assert_eq!(verdict(r#"{"max-jobs":5,"overload":"displace"}"#, &queue(1, 90)), "displace 1");
    }

    #[test]
    fn a_full_queue_with_nothing_to_displace_rejects() {
        let config = r#"{"max-jobs":5,"overload":"displace"}"#;
        assert_eq!(verdict(config, &queue(0, 5)), "reject: waiting 5 of at most 5 jobs");
    }

    #[test]
    fn observe_lets_every_job_in() {
        assert_eq!(verdict(r#"{"max-jobs":5,"overload":"observe"}"#, &queue(500, 0)), "admit");
    }

    #[test]
    fn a_profile_s_limit_holds_above_and_below_the_rest() {
        let with = |profile: u64, waiting: u64| {
            let plain = queue(waiting, 0);
            Queue { limits: bull_policy_sdk::Limits { max_jobs: Some(profile), ..plain.limits }, ..plain }
        };
        assert_eq!(verdict("{}", &with(3, 2)), "admit");
        assert_eq!(verdict("{}", &with(3, 3)), "reject: waiting 3 of at most 3 jobs");
        assert_eq!(verdict(r#"{"max-jobs":2}"#, &with(200_000, 199_999)), "admit");
        assert_eq!(
            verdict(r#"{"max-jobs":2}"#, &with(200_000, 200_000)),
            "reject: waiting 200000 of at most 200000 jobs"
        );
        assert_eq!(verdict("{}", &with(0, 0)), "reject: waiting 0 of at most 0 jobs", "0 closes a queue");
        let entry = r#"{"queues":[{"match":"*","max-jobs":7}]}"#;
        assert_eq!(verdict(entry, &with(3, 6)), "admit");
        assert_eq!(verdict(entry, &with(300, 7)), "reject: waiting 7 of at most 7 jobs");
    }

    #[test]
    fn a_queue_is_judged_by_its_own_entry() {
        let config = r#"{"max-jobs":5,"queues":[{"match":"*critical*","max-jobs":50,"overload":"defer"},{"match":"*tiny","max-jobs":2}]}"#;
        let named = |name: &str, waiting: u64| verdict(config, &Queue { waiting, ..test_kit::queue(name) });
        assert_eq!(named("bull:{tasks:critical}", 49), "admit");
        assert_eq!(named("bull:{tasks:critical}", 50), "defer 60000");
        assert_eq!(named("bull:tiny", 2), "reject: waiting 2 of at most 2 jobs");
        assert_eq!(named("bull:other", 4), "admit");
        assert_eq!(named("bull:other", 5), "reject: waiting 5 of at most 5 jobs");
    }
}

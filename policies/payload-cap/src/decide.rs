//! What becomes of a job: a pure function of the configuration, the queue's profile and the job's bytes.
//!
//! It allocates nothing unless it refuses.

use bull_policy_sdk::{Job, Queue, Terms, Verdict};

use crate::config::Config;

/// Bytes of data that a job may have where neither the configuration nor the profile says: 1 MiB.
pub const DEFAULT_MAX_JOB_BYTES: u64 = 1 << 20;

/// The verdict on a job that asks to enter the queue.
#[must_use]
pub fn admit(config: &Config, queue: &Queue, job: &Job) -> Verdict {
    let profile = queue.limits.max_job_bytes;
    let cap = match (config.cap(&queue.name), profile) {
        (Some(own), Some(profile)) => own.min(profile),
        (Some(cap), None) | (None, Some(cap)) => cap,
        (None, None) => DEFAULT_MAX_JOB_BYTES,
    };
    if job.bytes <= cap {
        // The cap hangs on the queue alone: its pattern is tried once, not for each job.
        Verdict::AdmitWhile(Terms { job_bytes: Some(cap), ..Terms::NONE })
    } else {
        Verdict::Reject(format!("data {} of at most {cap} bytes", job.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bull_policy_sdk::{Limits, test_kit};

    /// The most bytes that pass, found by asking at each of these sizes and one above.
    fn cap(config: &str, profile: Option<u64>, expected: u64) {
        let config = Config::read(config).expect(config);
        let plain = test_kit::queue("bull:mail");
        let limits = Limits { max_job_bytes: profile, ..plain.limits };
        let queue = Queue { limits, ..plain };
        let verdict = |bytes| admit(&config, &queue, &Job { bytes, ..test_kit::job() });
        for passing in [0, expected] {
            let Verdict::AdmitWhile(terms) = verdict(passing) else { panic!("{passing} bytes are refused") };
            assert_eq!(terms.job_bytes, Some(expected));
            assert_eq!((terms.backlog_below, terms.queue_bytes, terms.used_memory_below), (None, None, None));
        }
        let Verdict::Reject(reason) = verdict(expected + 1) else { panic!("{} bytes passed", expected + 1) };
        assert_eq!(reason, format!("data {} of at most {expected} bytes", expected + 1));
        assert!(matches!(verdict(u64::MAX), Verdict::Reject(_)));
    }

    #[test]
    fn a_megabyte_where_nobody_says() {
        cap("{}", None, 1_048_576);
    }

    #[test]
    fn the_one_that_speaks_holds() {
        cap(r#"{"max-job-bytes":500}"#, None, 500);
        cap("{}", Some(5_000_000), 5_000_000);
    }

    #[test]
    fn the_lower_of_two_holds() {
        cap(r#"{"max-job-bytes":500}"#, Some(400), 400);
        cap(r#"{"max-job-bytes":500}"#, Some(600), 500);
    }

    #[test]
    fn an_entry_may_be_above_or_below_the_top() {
        cap(r#"{"max-job-bytes":500,"queues":[{"match":"*mail","max-job-bytes":900}]}"#, None, 900);
        cap(r#"{"max-job-bytes":500,"queues":[{"match":"*mail","max-job-bytes":9}]}"#, None, 9);
        cap(r#"{"queues":[{"match":"*other","max-job-bytes":9}]}"#, None, DEFAULT_MAX_JOB_BYTES);
    }
}

//! The steps of an emergency run: what goes from a queue in each of them. They get harder, and none of them touches a
//! job that has not finished.

use std::time::Duration;

use super::trim::Criteria;

const HOUR_MS: u64 = 3_600_000;
/// Age from which completed and failed jobs go first, milliseconds, where the caller does not say.
pub const COMPLETED_MS: u64 = 24 * HOUR_MS;
pub const FAILED_MS: u64 = 7 * 24 * HOUR_MS;
/// Share of maxmemory below which a run ends, percent, where the caller does not say.
pub const TARGET_PERCENT: u64 = 80;
/// Events that stay.
const EVENTS: u64 = 100;

/// Bytes freed after which the allocator gives free pages back to the system: at first and at least, and at most.
pub const LEAST_PORTION: u64 = 256 << 10;
const LARGEST_PORTION: u64 = 64 << 20;

/// The portion after one that took so long to give back: giving back 64 MB of small jobs at once stops a server for 60 ms,
/// so that each time takes a part of a slice.
pub fn next_portion(portion: u64, took: Duration, slice: Duration) -> u64 {
    let next = match took {
        _ if took > slice / 2 => portion / 2,
        _ if took < slice / 8 => portion * 2,
        _ => portion,
    };
    next.clamp(LEAST_PORTION, LARGEST_PORTION)
}

/// A step, done for each queue in turn before the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Finished jobs of the ages asked for.
    Old,
    /// Events, but for the newest.
    Events,
    /// Logs of finished jobs.
    Logs,
    /// Completed jobs of over an hour, failed ones of over a day.
    Younger,
    /// All finished jobs.
    Finished,
}

/// What a step does with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Trim(Criteria),
    Logs,
}

impl Step {
    pub const ALL: [Self; 5] = [Self::Old, Self::Events, Self::Logs, Self::Younger, Self::Finished];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Old => "old",
            Self::Events => "events",
            Self::Logs => "logs",
            Self::Younger => "younger",
            Self::Finished => "finished",
        }
    }

    /// `completed_ms` and `failed_ms` are the ages asked for.
    pub fn work(self, completed_ms: u64, failed_ms: u64, now_ms: u64) -> Work {
        let ages = |completed: u64, failed: u64| {
            Work::Trim(Criteria {
                completed_before: Some(now_ms.saturating_sub(completed.min(completed_ms))),
                failed_before: Some(now_ms.saturating_sub(failed.min(failed_ms))),
                ..Criteria::default()
            })
        };
        match self {
            Self::Old => ages(u64::MAX, u64::MAX),
            Self::Events => Work::Trim(Criteria { events: Some(EVENTS), ..Criteria::default() }),
            Self::Logs => Work::Logs,
            Self::Younger => ages(HOUR_MS, 24 * HOUR_MS),
            Self::Finished => ages(0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_get_harder_and_never_name_unfinished_jobs() {
        let now = 100 * FAILED_MS;
        let mut least = (0, 0);
        for step in Step::ALL {
            let Work::Trim(criteria) = step.work(COMPLETED_MS, FAILED_MS, now) else { continue };
            assert_eq!((criteria.waiting_before, criteria.keep_completed, criteria.keep_failed), (None, None, None));
            if let (Some(completed), Some(failed)) = (criteria.completed_before, criteria.failed_before) {
                assert!((completed, failed) > least, "{step:?}");
                least = (completed, failed);
            }
        }
        assert_eq!(least, (now, now));
    }

    #[test]
    fn a_portion_takes_a_part_of_a_slice() {
        let slice = Duration::from_micros(500);
        let after = |bytes_a_us: u64| {
            (0..20).fold(LEAST_PORTION, |portion, _| {
                next_portion(portion, Duration::from_micros(portion / bytes_a_us), slice)
            })
        };
        for bytes_a_us in [1000, 5000, 20_000, 100_000] {
            let took = after(bytes_a_us) / bytes_a_us;
            assert!((62..=500).contains(&took), "{took} µs at {bytes_a_us} bytes a µs");
        }
        assert_eq!((after(1), after(u64::MAX)), (LEAST_PORTION, LARGEST_PORTION));
    }

    #[test]
    fn an_age_asked_for_is_never_made_older() {
        let work = Step::Younger.work(1000, 2000, 1_000_000);
        let expected =
            Criteria { completed_before: Some(999_000), failed_before: Some(998_000), ..Criteria::default() };
        assert_eq!(work, Work::Trim(expected));
    }
}

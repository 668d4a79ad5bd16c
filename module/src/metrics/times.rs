//! Times of jobs in fixed buckets: the same for percentiles and for Prometheus. No clock, no Redis.

/// Upper bounds of the buckets, microseconds; one more bucket takes what is longer.
pub const BOUNDS_US: [u64; 20] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// Buckets, the last one without an upper bound included.
pub const BUCKETS: usize = BOUNDS_US.len() + 1;

/// A histogram since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    pub counts: [u64; BUCKETS],
    pub sum_us: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], sum_us: 0 }
    }
}

impl Times {
    pub fn add(&mut self, micros: u64) {
        self.counts[BOUNDS_US.partition_point(|&bound| bound < micros)] += 1;
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time that `share` (0 to 1) of all are not above, microseconds, by a straight line through its bucket.
    /// 0 where nothing was timed; the highest bound where it lies above that.
    pub fn percentile_us(&self, share: f64) -> u64 {
        let wanted = self.count() as f64 * share;
        let mut seen = 0.0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            if count == 0 {
                continue;
            }
            if seen + count as f64 >= wanted {
                let from = if bucket == 0 { 0 } else { BOUNDS_US[bucket - 1] };
                let to = BOUNDS_US.get(bucket).copied().unwrap_or(from);
                return from + ((to - from) as f64 * ((wanted - seen) / count as f64).clamp(0.0, 1.0)) as u64;
            }
            seen += count as f64;
        }
        0
    }
}

/// Times since the start, and those of the last five to ten minutes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent {
    pub total: Times,
    now: Times,
    before: Times,
    period: u64,
}

/// Length of a period, milliseconds.
const PERIOD_MS: u64 = 300_000;

impl Recent {
    pub fn add(&mut self, now_ms: u64, micros: u64, counted: bool) {
        self.turn(now_ms);
        self.now.add(micros);
        if counted {
            self.total.add(micros);
        }
    }

    fn turn(&mut self, now_ms: u64) {
        let period = now_ms / PERIOD_MS;
        // A clock that goes back changes nothing.
        if period > self.period {
            self.before = if period == self.period + 1 { self.now } else { Times::default() };
            self.now = Times::default();
            self.period = period;
        }
    }

    /// What was timed lately; all since the start where nothing was.
    pub fn lately(&self, now_ms: u64) -> Times {
        let mut copy = *self;
        copy.turn(now_ms);
        let mut lately = copy.now;
        lately.merge(&copy.before);
        if lately.count() == 0 { self.total } else { lately }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_stay_within_the_bucket_of_the_truth() {
        let mut times = Times::default();
        (1..=1000).for_each(|ms| times.add(ms * 1000));
        for (share, truth) in [(0.5, 500_000), (0.95, 950_000), (0.99, 990_000)] {
            let said = times.percentile_us(share);
            let bucket = |us: u64| BOUNDS_US.partition_point(|&bound| bound < us);
            assert_eq!(bucket(said), bucket(truth), "{share}: {said}");
        }
        assert_eq!(times.count(), 1000);
        assert_eq!(times.sum_us, 500_500_000);
    }

    #[test]
    fn nothing_and_too_much_are_bounded() {
        assert_eq!(Times::default().percentile_us(0.95), 0);
        let mut times = Times::default();
        times.add(u64::MAX);
        times.add(u64::MAX);
        assert_eq!(times.percentile_us(0.99), BOUNDS_US[19]);
        assert_eq!((times.counts[20], times.sum_us), (2, u64::MAX));
    }

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut times = Times::default();
        times.add(1_000);
        times.add(1_001);
        assert_eq!(times.counts[..2], [1, 1]);
    }

    #[test]
    fn lately_forgets_and_total_does_not() {
        let mut recent = Recent::default();
        recent.add(PERIOD_MS * 10, 1_000, true);
        recent.add(PERIOD_MS * 11, 50_000, true);
        assert_eq!(recent.lately(PERIOD_MS * 11).count(), 2);
        assert_eq!(recent.lately(PERIOD_MS * 12).counts[5], 1);
        assert_eq!(recent.lately(PERIOD_MS * 12).count(), 1);
        // Nothing lately: all there is.
        assert_eq!(recent.lately(PERIOD_MS * 20).count(), 2);
        recent.add(PERIOD_MS * 9, 1, false);
        assert_eq!((recent.total.count(), recent.lately(PERIOD_MS * 11).count()), (2, 3));
    }
}

//! How long calls take: a histogram in fixed memory.

/// Buckets of a quarter of a power of two, from 1 ns.
const BUCKETS: usize = 160;

/// Times in nanoseconds, within 19 % of the truth.
#[derive(Clone, Debug)]
pub struct Times {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    sum: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0, sum: 0 }
    }
}

impl Times {
    pub fn add(&mut self, nanos: u64) {
        let nanos = nanos.max(1);
        let power = nanos.ilog2();
        // The two bits below the highest one.
        let quarter = if power >= 2 { (nanos >> (power - 2)) & 3 } else { 0 };
        let bucket = (power as usize * 4 + quarter as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        self.sum = self.sum.saturating_add(nanos);
    }

    pub fn count(&self) -> u64 {
        self.total
    }

    /// Nanoseconds of all calls together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Calls that took less than `1 << power` nanoseconds.
    pub fn below(&self, power: u32) -> u64 {
        self.counts[..(power as usize * 4).min(BUCKETS)].iter().sum()
    }

    /// Upper bound of the bucket that holds the share, nanoseconds; 0 where nothing was timed.
    pub fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                let power = bucket as u32 / 4;
                return ((1u64 << power) as f64 * (1.0 + (bucket % 4 + 1) as f64 / 4.0)) as u64;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_bucket() {
        let mut times = Times::default();
        (1..=1000u64).for_each(|nanos| times.add(nanos * 10));
        for (share, truth) in [(0.5, 5000.0), (0.99, 9900.0)] {
            let said = times.percentile(share) as f64;
            assert!(said >= truth && said <= truth * 1.26, "{share}: {said}");
        }
        assert_eq!(Times::default().percentile(0.5), 0);
        // 10 to 4090 ns of 10 to 10000.
        assert_eq!((times.below(12), times.below(0), times.below(60)), (409, 0, 1000));
        assert_eq!((times.count(), times.sum()), (1000, 5_005_000));
    }
}

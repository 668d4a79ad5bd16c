//! Bytes that a trim frees: measured for the first jobs, then for one in some, so that measuring costs little.

/// Jobs that are all measured.
const EXACT: u64 = 64;
/// Of further jobs one in so many is measured, by lot.
const ONE_IN: u64 = 16;
/// So many jobs on, what a job takes is known well: the mean follows with fewer.
const MANY: u64 = 16_384;
const ONE_IN_OF_MANY: u64 = 128;
/// Likewise where the bytes decide how many jobs go.
const ONE_IN_FOR_BYTES: u64 = 4;

/// A running sum. A trim of 64 jobs or fewer is exact.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Freed {
    jobs: u64,
    exact_bytes: u64,
    /// Jobs that those measured by lot stand for, and their bytes.
    sampled: u64,
    sampled_bytes: u64,
    /// How many the next measured one stands for.
    weight: u64,
    /// State of the lot; the same in every run, so that a dry run of a queue says what the run then says.
    lot: u64,
}

impl Freed {
    /// The next job is to be measured.
    pub fn wants(&mut self, bytes_decide: bool) -> bool {
        if self.jobs < EXACT {
            return true;
        }
        self.lot = self.lot.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.weight = match bytes_decide {
            true => ONE_IN_FOR_BYTES,
            false if self.jobs < MANY => ONE_IN,
            false => ONE_IN_OF_MANY,
        };
        (self.lot >> 33).is_multiple_of(self.weight)
    }

    /// A job went; `bytes` where it was measured.
    pub fn add(&mut self, bytes: Option<u64>) {
        self.jobs += 1;
        match bytes {
            Some(bytes) if self.jobs <= EXACT => self.exact_bytes += bytes,
            Some(bytes) => {
                self.sampled += self.weight;
                self.sampled_bytes += bytes * self.weight;
            }
            None => {}
        }
    }

    pub fn bytes(&self) -> u64 {
        let rest = self.jobs.saturating_sub(EXACT);
        let mean = match self.sampled {
            0 => self.exact_bytes as f64 / EXACT as f64,
            sampled => self.sampled_bytes as f64 / sampled as f64,
        };
        self.exact_bytes + (mean * rest as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_jobs_are_exact_and_many_are_close() {
        let mut freed = Freed::default();
        let (mut sum, mut measured) = (0, 0);
        for job in 0..100_000u64 {
            let bytes = 200 + job * 7919 % 2000;
            sum += bytes;
            let seen = freed.wants(false).then_some(bytes);
            measured += u64::from(seen.is_some());
            freed.add(seen);
            if job < 64 {
                assert_eq!(freed.bytes(), sum);
            }
        }
        let off = (freed.bytes() as f64 / sum as f64 - 1.0).abs();
        assert!(off < 0.02, "off by {off}");
        assert!((1_200..2_200).contains(&measured), "{measured} measured");
    }

    #[test]
    fn jobs_that_grow_on_the_way_count_for_as_many_as_they_are() {
        let mut freed = Freed::default();
        let mut sum = 0;
        for job in 0..400_000u64 {
            let bytes = if job < MANY { 200 } else { 2000 };
            sum += bytes;
            let seen = freed.wants(false).then_some(bytes);
            freed.add(seen);
        }
        let off = (freed.bytes() as f64 / sum as f64 - 1.0).abs();
        assert!(off < 0.01, "off by {off}");
    }
}

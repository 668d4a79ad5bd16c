//! How many of something in the last minute or hour, in fixed memory. No clock, no Redis.

/// `N` slots of `SLOT_MS` each; the oldest is forgotten as a new one begins.
#[derive(Clone, Copy, Debug)]
pub struct Window<const N: usize, const SLOT_MS: u64> {
    slots: [u32; N],
    /// Of all slots: asked at each decision of a policy.
    sum: u64,
    /// Number of the newest slot since the epoch.
    newest: u64,
}

/// The last minute, to five seconds.
pub type Minute = Window<12, 5_000>;
/// The last hour, to a minute.
pub type Hour = Window<60, 60_000>;

impl<const N: usize, const SLOT_MS: u64> Default for Window<N, SLOT_MS> {
    fn default() -> Self {
        Self { slots: [0; N], sum: 0, newest: 0 }
    }
}

impl<const N: usize, const SLOT_MS: u64> Window<N, SLOT_MS> {
    fn turn(&mut self, now_ms: u64) {
        let slot = now_ms / SLOT_MS;
        // A clock that goes back counts into the newest slot.
        let passed = slot.saturating_sub(self.newest);
        for step in 1..=passed.min(N as u64) {
            let slot = &mut self.slots[((self.newest + step) % N as u64) as usize];
            self.sum -= u64::from(std::mem::take(slot));
        }
        self.newest = self.newest.max(slot);
    }

    pub fn add(&mut self, now_ms: u64, more: u32) {
        self.turn(now_ms);
        let slot = &mut self.slots[(self.newest % N as u64) as usize];
        let before = *slot;
        *slot = slot.saturating_add(more);
        self.sum += u64::from(*slot - before);
    }

    pub fn sum(&self, now_ms: u64) -> u64 {
        if now_ms / SLOT_MS <= self.newest {
            return self.sum;
        }
        let mut later = *self;
        later.turn(now_ms);
        later.sum
    }

    /// Per second, over the time that the slots cover.
    pub fn per_second(&self, now_ms: u64) -> f64 {
        // The newest slot has only begun.
        let covered = (N as u64 - 1) * SLOT_MS + now_ms % SLOT_MS;
        self.sum(now_ms) as f64 * 1000.0 / covered as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_pace_is_seen_as_it_is() {
        let mut window = Minute::default();
        for ms in (1_000_000..1_300_000).step_by(10) {
            window.add(ms, 1);
        }
        for now in [1_299_999, 1_300_000, 1_302_400] {
            let pace = window.per_second(now);
            assert!((pace - 100.0).abs() < 6.0, "{now}: {pace}");
        }
        assert_eq!(window.sum(1_300_000 + 60_000), 0);
        assert_eq!(window.per_second(9_000_000), 0.0);
    }

    #[test]
    fn an_hour_holds_and_forgets() {
        let mut window = Hour::default();
        window.add(3_600_000, 120);
        window.add(3_600_000 + 59 * 60_000, 3);
        assert_eq!(window.sum(3_600_000 + 59 * 60_000), 123);
        assert_eq!(window.sum(3_600_000 + 60 * 60_000), 3);
        assert_eq!(window.sum(3_600_000 + 200 * 60_000), 0);
    }

    #[test]
    fn a_clock_that_goes_back_loses_nothing() {
        let mut window = Minute::default();
        window.add(1_000_000, 5);
        window.add(900_000, 2);
        assert_eq!((window.sum(1_000_000), window.sum(900_000)), (7, 7));
    }
}

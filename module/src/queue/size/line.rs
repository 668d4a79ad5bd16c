//! What a job's hash takes, from the bytes of its data alone: a straight line through the jobs that were measured. Allocators
//! give blocks of certain sizes, up to a quarter more than asked for, so a byte of data takes more than a byte.

/// Jobs measured before the line is drawn.
const ENOUGH: f64 = 8.0;
/// A hash with its other fields and the server's tables before any is measured, bytes.
const PLAIN: f64 = 400.0;
/// What a byte of data takes where the measured jobs do not tell, at least and at most.
const BYTE: f64 = 1.1;
const LEAST: f64 = 1.0;
const MOST: f64 = 1.3;

/// Sums over measured jobs: `x` the bytes of their data, `y` those of their hashes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    number: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    pub fn add(&mut self, data: u64, hash: u64) {
        let (x, y) = (data as f64, hash as f64);
        self.number += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    pub fn fade(&mut self, part: f64) {
        for sum in [&mut self.number, &mut self.x, &mut self.y, &mut self.xx, &mut self.xy] {
            *sum *= part;
        }
    }

    /// Bytes of a hash without data, and those that each byte of data takes.
    pub fn terms(&self) -> (f64, f64) {
        if !self.is_drawn() {
            return (PLAIN, BYTE);
        }
        let (x, y) = (self.x / self.number, self.y / self.number);
        let spread = self.xx / self.number - x * x;
        // Data of about one size says nothing about the slope.
        let slope = if spread > (x * 0.05).powi(2) { (self.xy / self.number - x * y) / spread } else { BYTE };
        let slope = slope.clamp(LEAST, MOST);
        ((y - slope * x).max(0.0), slope)
    }

    pub fn is_drawn(&self) -> bool {
        self.number >= ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_goes_through_what_was_measured() {
        let mut line = Line::default();
        assert_eq!(line.terms(), (PLAIN, BYTE));
        (1..=20).for_each(|at| line.add(at * 100, 300 + at * 110));
        let (plain, byte) = line.terms();
        assert!((plain - 300.0).abs() < 1e-6 && (byte - 1.1).abs() < 1e-9, "{plain} {byte}");
    }

    #[test]
    fn data_of_one_size_and_hashes_that_have_nothing_to_do_with_it_keep_it_sane() {
        let mut line = Line::default();
        (0..20).for_each(|at| line.add(1000, 1500 + at));
        assert_eq!(line.terms(), (1509.5 - 1000.0 * BYTE, BYTE));
        let mut line = Line::default();
        (1..=20).for_each(|at| line.add(at * 100, 5000 - at * 100));
        assert_eq!(line.terms().1, LEAST);
    }
}

//! The jobs of one state: what was measured of some, what is known of those that arrived since, and what all take.

use super::line::Line;

/// Jobs measured before a mean is believed.
const ENOUGH: f64 = 32.0;
/// Such of them with all their keys before their mean is believed.
const FEW: f64 = 8.0;

/// Sums over measured values.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    number: f64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, value: u64) {
        let value = value as f64;
        self.number += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        if self.number > 0.0 { self.sum / self.number } else { 0.0 }
    }

    /// Variance of the mean; infinite before `enough` are measured.
    fn variance(&self, enough: f64) -> f64 {
        if self.number < enough {
            return f64::INFINITY;
        }
        let spread = (self.squares / self.number - self.mean() * self.mean()).max(0.0);
        // A small sample knows its own spread badly.
        spread / self.number * (1.0 + enough / self.number)
    }

    fn fade(&mut self, part: f64) {
        self.number *= part;
        self.sum *= part;
        self.squares *= part;
    }
}

/// Jobs that came by commands whose data we saw: how many, and the bytes of their data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arrivals {
    pub number: f64,
    bytes: f64,
    squares: f64,
}

impl Arrivals {
    pub fn count(&mut self, data: u64) {
        let data = data as f64;
        self.number += 1.0;
        self.bytes += data;
        self.squares += data * data;
    }

    pub fn is_empty(&self) -> bool {
        self.number == 0.0
    }

    pub fn add(&mut self, more: Self) {
        self.number += more.number;
        self.bytes += more.bytes;
        self.squares += more.squares;
    }

    /// Those that can still be there.
    fn among(self, jobs: f64) -> Self {
        let part = if self.number > jobs { jobs / self.number } else { 1.0 };
        Self { number: self.number * part, bytes: self.bytes * part, squares: self.squares * part }
    }
}

/// One job, measured with all its keys: bytes.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub hash: u64,
    /// Its data, which lies in the hash.
    pub data: u64,
    /// Its stack trace, which lies in the hash.
    pub trace: u64,
    /// The keys beside the hash.
    pub others: u64,
    /// Those of them that are logs.
    pub lists: u64,
}

/// What was measured of the jobs of one state. Every measured job has its hash measured, one in some all its keys: most jobs
/// have no other, and looking for them costs more than the hash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stratum {
    hashes: Sums,
    /// The keys beside the hash.
    others: Sums,
    /// Bytes of logs and stack traces, over the jobs of `others`.
    logs: f64,
    /// Those of them that are stack traces, which lie in the hash.
    traces: f64,
    /// From data to hashes without stack traces, by the measured jobs of `others`.
    line: Line,
    /// Bytes that the list or set takes for each of its jobs.
    pub entry: f64,
    /// Its jobs when that was looked at.
    places: u64,
    /// Jobs at the moment when all of them were measured.
    whole: Option<u64>,
    /// Jobs of `hashes` that are not drawn by lot but known one by one, each once.
    known: f64,
    /// Jobs that came since the last visit.
    pub arrivals: Arrivals,
    /// All jobs at the last visit.
    jobs: u64,
}

impl Stratum {
    /// A state whose key holds something else: nothing is left to measure.
    pub fn empty(jobs: u64) -> Self {
        Self { whole: Some(jobs), ..Self::default() }
    }

    /// The list or set takes so many bytes for so many jobs, counted at the same moment.
    pub fn look_at_places(&mut self, places: u64, bytes: u64) {
        self.places = places;
        self.entry = bytes as f64 / places.max(1) as f64;
    }

    /// What a place takes was never looked at, or for less than half or more than twice as many jobs: a list of one has the
    /// whole key's bytes for a place.
    pub fn has_outgrown_its_entry(&self, places: u64) -> bool {
        places > 2 * self.places || 2 * places < self.places
    }

    /// What was seen of the list or set, and of no job.
    pub fn with_places_only(&self) -> Self {
        Self { entry: self.entry, places: self.places, ..Self::default() }
    }

    /// All its jobs were measured, each once.
    pub fn is_whole(&mut self, jobs: u64) {
        (self.whole, self.known, self.jobs) = (Some(jobs), jobs as f64, jobs);
    }

    pub fn add_hash(&mut self, bytes: u64) {
        self.whole = None;
        self.hashes.add(bytes);
    }

    pub fn add_all(&mut self, job: Job) {
        self.add_hash(job.hash);
        self.others.add(job.others);
        self.logs += (job.trace + job.lists) as f64;
        self.traces += job.trace as f64;
        self.line.add(job.data, job.hash.saturating_sub(job.trace));
    }

    /// Lets what was measured count for this part of what it did, but never for less than makes a mean.
    pub fn fade(&mut self, part: f64) {
        self.whole = None;
        let part = part.max(ENOUGH / self.hashes.number.max(ENOUGH)).max(FEW / self.others.number.max(FEW));
        self.hashes.fade(part);
        self.others.fade(part);
        self.logs *= part;
        self.traces *= part;
        self.line.fade(part);
        self.known *= part;
    }

    /// A visit begins, with so many jobs there. Those that arrived count as much as a measured one stands for: then the mean
    /// is that of all jobs, however much the new ones differ from the old ones.
    pub fn take_in(&mut self, jobs: u64) {
        let now = jobs as f64;
        let arrivals = self.arrivals.among(now);
        let before = (now - arrivals.number).max(0.0);
        // Of the known jobs as many are gone as of all.
        self.known *= (before / (self.jobs as f64).max(1.0)).min(1.0);
        self.jobs = jobs;
        if !self.line.is_drawn() && !arrivals.is_empty() {
            return;
        }
        self.arrivals = Arrivals::default();
        if arrivals.is_empty() {
            return;
        }
        let Arrivals { number, bytes, squares } = arrivals;
        let (plain, byte) = self.line.terms();
        // Drawn more often than there are jobs: so many stand for all of them.
        self.thin(before);
        let part = |measured: f64| if before > measured { measured / before } else { 1.0 };
        let (hashes, others) = (part(self.hashes.number), part(self.others.number));
        self.hashes.number += number * hashes;
        self.hashes.sum += (number * plain + byte * bytes) * hashes;
        self.hashes.squares += (number * plain * plain + 2.0 * plain * byte * bytes + byte * byte * squares) * hashes;
        self.others.number += number * others;
        self.known += number * hashes;
        self.whole = None;
    }

    /// Lets what was measured count for so many jobs at most.
    fn thin(&mut self, most: f64) {
        let part = |measured: f64| if measured > most { most / measured } else { 1.0 };
        let (hashes, others) = (part(self.hashes.number), part(self.others.number));
        self.hashes.fade(hashes);
        self.known *= hashes;
        self.others.fade(others);
        self.logs *= others;
        self.traces *= others;
    }

    fn of_others(&self, sum: f64) -> f64 {
        if self.others.number > 0.0 { sum / self.others.number } else { 0.0 }
    }

    /// Bytes of a job without data and its place, and those that each byte of data takes.
    pub fn of_data(&self) -> (f64, f64) {
        let (plain, byte) = self.line.terms();
        (plain + self.entry, byte)
    }

    /// Mean bytes of a job without logs and stack trace.
    fn body(&self) -> f64 {
        let lists = self.of_others(self.logs - self.traces);
        (self.hashes.mean() - self.of_others(self.traces) + self.others.mean() - lists).max(0.0)
    }

    /// Bytes of so many jobs without logs and stack traces.
    pub fn bodies(&self, jobs: u64) -> f64 {
        let arrivals = self.arrivals.among(jobs as f64);
        let (plain, byte) = self.line.terms();
        arrivals.number * plain + arrivals.bytes * byte + (jobs as f64 - arrivals.number) * self.body()
    }

    /// Bytes of the logs and stack traces of so many jobs.
    pub fn logs(&self, jobs: u64) -> f64 {
        (jobs as f64 - self.arrivals.among(jobs as f64).number) * self.of_others(self.logs)
    }

    /// Variance of the sum over `jobs` jobs; infinite before enough of them are measured.
    pub fn variance(&self, jobs: u64) -> f64 {
        let measured = jobs as f64 - self.arrivals.among(jobs as f64).number;
        if jobs == 0 || self.whole == Some(jobs) {
            return 0.0;
        }
        // Where all are known, only the lots on top make an error: they count some jobs twice.
        let known = (self.known / measured.max(1.0)).min(1.0);
        let by_lot = (1.0 - self.known / self.hashes.number.max(1.0)).max(0.0);
        let hashes = self.hashes.variance(ENOUGH) * (1.0 - known + known * by_lot);
        measured.powi(2) * (hashes + self.others.variance(FEW))
    }

    /// Jobs measured.
    pub fn number(&self) -> f64 {
        self.hashes.number
    }
}

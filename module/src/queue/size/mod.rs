//! How many bytes a queue takes, from a sample of its jobs.
//!
//! Jobs of one state are a stratum: their number is known, their mean is measured. Few jobs are measured all; of many a
//! random part, where it lowers the error most (the Neyman allocation). What was measured counts less as the jobs of a
//! stratum are replaced by others. Of jobs that came by a command whose data we saw, the bytes are known at once. Only reads.
//! Not counted are deduplication keys and schedulers' hashes, whose names
//! cannot be known without a scan.

mod line;
mod stratum;
#[cfg(test)]
mod tests;

use super::error::Result;
use super::fields::Known;
use super::job::{QueueKeys, Route};
use super::keys::{QueueName, SUB_KEYS};
use super::stats::Counts;
use super::store::{Kind, Store};
pub use stratum::Arrivals;
use stratum::Stratum;

/// Strata of up to so many jobs are measured whole.
const SMALL: u64 = 32;
/// One job in so many has all its keys measured.
const DEEP: u64 = 4;
/// Jobs measured between two questions whether time is over.
const BATCH: u64 = 8;
/// Standard errors in the bound: three hold in 99.7 of 100 cases.
const DEVIATIONS: f64 = 3.0;
/// Visits between two looks at the keys that are no jobs, and at lists, sets and events: what a place or an event takes
/// changes slowly.
const OTHER_EVERY: u32 = 16;
const PLACES_EVERY: u32 = 8;

/// Where jobs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Wait,
    Paused,
    Active,
    Delayed,
    Prioritized,
    WaitingChildren,
    Completed,
    Failed,
}

const STATES: [State; 8] = [
    State::Wait,
    State::Paused,
    State::Active,
    State::Delayed,
    State::Prioritized,
    State::WaitingChildren,
    State::Completed,
    State::Failed,
];

impl State {
    fn key(self, keys: &QueueKeys) -> &[u8] {
        match self {
            Self::Wait => &keys.wait,
            Self::Paused => &keys.paused,
            Self::Active => &keys.active,
            Self::Delayed => &keys.delayed,
            Self::Prioritized => &keys.prioritized,
            Self::WaitingChildren => &keys.waiting_children,
            Self::Completed => &keys.completed,
            Self::Failed => &keys.failed,
        }
    }

    fn jobs(self, counts: &Counts) -> u64 {
        match self {
            Self::Wait => counts.waiting,
            Self::Paused => counts.paused,
            Self::Active => counts.active,
            Self::Delayed => counts.delayed,
            Self::Prioritized => counts.prioritized,
            Self::WaitingChildren => counts.waiting_children,
            Self::Completed => counts.completed,
            Self::Failed => counts.failed,
        }
    }

    fn kind(self) -> Kind {
        if matches!(self, Self::Wait | Self::Paused | Self::Active) { Kind::List } else { Kind::ZSet }
    }

    /// Where a job goes first.
    fn of(route: Route) -> Self {
        match route {
            Route::Standard => Self::Wait,
            Route::Prioritized => Self::Prioritized,
            Route::Delayed => Self::Delayed,
        }
    }

    fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// Bytes of a queue by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Size {
    /// Jobs that have not finished, with their places in lists and sets.
    pub unfinished: u64,
    /// Finished jobs, likewise.
    pub finished: u64,
    pub events: u64,
    /// Logs and stack traces of all jobs.
    pub logs: u64,
    /// The part of `logs` that belongs to finished jobs.
    pub finished_logs: u64,
    /// Counters, meta and the like.
    pub other: u64,
    /// Bytes by which the total may be off; u64::MAX where too little was measured to say.
    pub error: u64,
}

impl Size {
    pub fn total(&self) -> u64 {
        self.unfinished + self.finished + self.events + self.logs + self.other
    }

    /// What finished jobs take.
    pub fn retained(&self) -> u64 {
        self.finished + self.finished_logs
    }

    /// The parts of the total, by what the bytes belong to.
    pub fn classes(&self) -> [(&'static str, u64); 5] {
        [
            ("unfinished", self.unfinished),
            ("finished", self.finished),
            ("events", self.events),
            ("logs", self.logs),
            ("other", self.other),
        ]
    }

    /// Another queue's bytes on top.
    pub fn add(&mut self, more: &Self) {
        self.unfinished += more.unfinished;
        self.finished += more.finished;
        self.events += more.events;
        self.logs += more.logs;
        self.finished_logs += more.finished_logs;
        self.other += more.other;
        self.error = self.error.saturating_add(more.error);
    }

    /// The error as a part of the total, 0 to 1.
    pub fn error_part(&self) -> f64 {
        if self.error == 0 { 0.0 } else { (self.error as f64 / self.total().max(1) as f64).min(1.0) }
    }
}

/// A running estimate of one queue.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    strata: Vec<(State, Stratum)>,
    events: u64,
    other: u64,
    visits: u32,
}

/// Random numbers for samples (SplitMix64); no secret depends on them.
#[derive(Clone, Debug)]
pub struct Lot(pub u64);

impl Lot {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}

/// A queue to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub queue: &'a QueueName,
    pub keys: &'a QueueKeys,
    pub counts: &'a Counts,
}

impl Estimate {
    /// The estimate for these counts, from memory.
    pub fn size(&self, counts: &Counts) -> Size {
        let mut size = Size { events: self.events, other: self.other, ..Size::default() };
        let mut variance = 0.0;
        let fresh = Stratum::default();
        for state in STATES {
            let jobs = state.jobs(counts);
            // No jobs take no bytes: most states of most queues are empty, and this is asked at each decision.
            if jobs == 0 {
                continue;
            }
            let stratum = self.stratum(state).unwrap_or(&fresh);
            let bodies = (stratum.bodies(jobs) + jobs as f64 * stratum.entry) as u64;
            let logs = stratum.logs(jobs) as u64;
            variance += stratum.variance(jobs);
            size.logs += logs;
            if state.is_finished() {
                size.finished += bodies;
                size.finished_logs += logs;
            } else {
                size.unfinished += bodies;
            }
        }
        // Infinite becomes the largest number.
        size.error = (DEVIATIONS * variance.sqrt()) as u64;
        size
    }

    /// Jobs came whose data we saw.
    pub fn arrived(&mut self, route: Route, arrivals: Arrivals) {
        self.stratum_mut(State::of(route)).arrivals.add(arrivals);
    }

    /// What a job that goes this way takes by the length of its data, as far as known: bytes without data, and bytes for
    /// each byte of it.
    pub fn of_data(&self, route: Route) -> (f64, f64) {
        self.stratum(State::of(route)).map_or_else(|| Stratum::default().of_data(), Stratum::of_data)
    }

    /// So many jobs came, completed and failed since the last visit. What is not known of them was not measured.
    pub fn turn_over(&mut self, counts: &Counts, added: u64, completed: u64, failed: u64) {
        for (state, stratum) in &mut self.strata {
            let jobs = state.jobs(counts);
            let fresh = match state {
                State::Completed => completed,
                State::Failed => failed,
                // What came elsewhere may have moved here by now.
                _ => added.saturating_sub(stratum.arrivals.number as u64),
            };
            stratum.take_in(jobs);
            if fresh > 0 && jobs > 0 {
                stratum.fade(1.0 - (fresh as f64 / jobs as f64).min(1.0));
            }
        }
    }

    /// Measures until `over` says that time is over, or the error is below `target` (a part of the total) and some jobs
    /// were looked at. Errors: the server's own.
    pub fn measure(
        &mut self,
        store: &impl Store,
        subject: Subject<'_>,
        target: f64,
        lot: &mut Lot,
        mut over: impl FnMut() -> bool,
    ) -> Result<()> {
        let Subject { queue, keys, counts } = subject;
        if self.visits.is_multiple_of(OTHER_EVERY) {
            self.other = 0;
            for key in [&keys.meta, &keys.id, &keys.pc, &keys.marker, &keys.repeat] {
                self.other += store.memory_estimate(key)?;
            }
        }
        let look_at_places = self.visits.is_multiple_of(PLACES_EVERY);
        self.visits = self.visits.wrapping_add(1);
        if look_at_places {
            let is_stream = store.kind(&keys.events) == Kind::Stream;
            self.events = if is_stream { store.memory_estimate(&keys.events)? } else { 0 };
        }
        let mut measurable = [0u64; STATES.len()];
        for (state, jobs) in STATES.into_iter().zip(&mut measurable) {
            *jobs = state.jobs(counts);
            if *jobs == 0 {
                self.strata.retain(|(of, _)| *of != state);
                continue;
            }
            if store.kind(state.key(keys)) != state.kind() {
                // A foreign value under the key has a length too, and no jobs: nothing is left to measure.
                *self.stratum_mut(state) = Stratum::empty(*jobs);
                *jobs = 0;
                continue;
            }
            // The counts may be older than the key: bytes of many places over the number of few made a queue six times as large.
            let places = store.len(state.key(keys));
            if look_at_places || self.stratum(state).is_none_or(|stratum| stratum.has_outgrown_its_entry(places)) {
                let bytes = store.memory_estimate(state.key(keys))?;
                self.stratum_mut(state).look_at_places(places, bytes);
            }
            if *jobs <= SMALL {
                self.measure_whole(store, queue, keys, state)?;
            }
        }
        loop {
            let widest = STATES.into_iter().zip(measurable).filter(|(_, jobs)| *jobs > SMALL).map(|(state, jobs)| {
                let stratum = self.stratum(state).copied().unwrap_or_default();
                let gain = stratum.variance(jobs) / stratum.number().max(1.0);
                (state, jobs, if gain.is_nan() { 0.0 } else { gain })
            });
            let Some((state, jobs, _)) = widest.max_by(|(.., one), (.., two)| one.total_cmp(two)) else { break };
            let stratum = self.stratum_mut(state);
            for (index, id) in random_ids(store, state, state.key(keys), jobs, lot)?.iter().enumerate() {
                let depth = if (index as u64).is_multiple_of(DEEP) { Depth::AllKeys } else { Depth::Hash };
                measure_job(store, &queue.key(id), depth, stratum)?;
            }
            if over() || self.size(counts).error_part() <= target {
                break;
            }
        }
        Ok(())
    }

    fn measure_whole(&mut self, store: &impl Store, queue: &QueueName, keys: &QueueKeys, state: State) -> Result<()> {
        let key = state.key(keys);
        let ids = match state.kind() {
            Kind::List => store.lrange(key, 0, SMALL as i64)?,
            _ => store.zrange(key, 0, SMALL + 1)?,
        };
        let mut fresh = self.stratum_mut(state).with_places_only();
        for id in &ids {
            measure_job(store, &queue.key(id), Depth::AllKeys, &mut fresh)?;
        }
        fresh.is_whole(ids.len() as u64);
        *self.stratum_mut(state) = fresh;
        Ok(())
    }

    fn stratum(&self, state: State) -> Option<&Stratum> {
        self.strata.iter().find(|(of, _)| *of == state).map(|(_, stratum)| stratum)
    }

    fn stratum_mut(&mut self, state: State) -> &mut Stratum {
        let at = self.strata.iter().position(|(of, _)| *of == state).unwrap_or_else(|| {
            self.strata.push((state, Stratum::default()));
            self.strata.len() - 1
        });
        &mut self.strata[at].1
    }
}

fn random_ids(store: &impl Store, state: State, key: &[u8], jobs: u64, lot: &mut Lot) -> Result<Vec<Vec<u8>>> {
    if state.kind() == Kind::ZSet {
        return Ok(store.zrandom(key, BATCH)?);
    }
    let mut ids = Vec::with_capacity(BATCH as usize);
    for _ in 0..BATCH {
        ids.extend(store.lindex(key, lot.below(jobs) as i64)?);
    }
    Ok(ids)
}

/// How much of a job is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Hash,
    AllKeys,
}

fn measure_job(store: &impl Store, hash: &[u8], depth: Depth, stratum: &mut Stratum) -> Result<()> {
    let bytes = store.memory(hash)?;
    if depth == Depth::Hash {
        stratum.add_hash(bytes);
        return Ok(());
    }
    let trace = store.hget(hash, Known::StackTrace.into()).map_or(0, |trace| trace.len() as u64);
    let data = store.hstrlen(hash, Known::Data.into())?;
    let (mut others, mut lists) = (0, 0);
    let mut key = hash.to_vec();
    for suffix in SUB_KEYS {
        key.truncate(hash.len());
        key.extend_from_slice(suffix.as_bytes());
        if store.kind(&key) != Kind::None {
            let bytes = store.memory(&key)?;
            others += bytes;
            lists += if suffix == ":logs" { bytes } else { 0 };
        }
    }
    stratum.add_all(stratum::Job { hash: bytes, data, trace, others, lists });
    Ok(())
}

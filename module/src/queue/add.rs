//! Adding a job: what addStandardJob-9, addPrioritizedJob-9 and addDelayedJob-6 of BullMQ 6.7 leave behind.
//!
//! Two steps, since nothing rolls back: [`Plan::check`] and [`Plan::check_job`] read and refuse, [`Plan::write`] writes. A
//! policy decides between the two.

use super::check::{DEFAULT_MAX_EVENTS, Meta, counter, expect};
use super::dedup::{Entry, Window};
use super::error::{QueueError, Result};
use super::fields::{Known, Word};
use super::job::{NewJob, QueueKeys, Route};
use super::keys::{QueueName, sub_key};
use super::number::{Style, call_argument, json};
use super::parent::Parent;
use super::store::{End, Kind, Store};
use crate::text::short;

/// What became of an add.
#[derive(Debug, PartialEq, Eq)]
pub enum Added {
    Stored(Vec<u8>),
    /// A job with this custom id exists; nothing but its event and a new parent link was written.
    Duplicate(Vec<u8>),
    /// Deduplicated: this job stands for it.
    Swallowed(Vec<u8>),
}

impl Added {
    pub fn into_id(self) -> Vec<u8> {
        match self {
            Self::Stored(id) | Self::Duplicate(id) | Self::Swallowed(id) => id,
        }
    }
}

/// A queue that passed its checks, ready for jobs.
#[derive(Debug)]
pub struct Plan<'a> {
    queue: &'a QueueName,
    keys: &'a QueueKeys,
    style: Style,
    meta: Meta,
    /// The number that the next job gets.
    next: i64,
}

impl<'a> Plan<'a> {
    /// Checks what all jobs of the queue share: types of its keys, its counter, the caps in `meta`.
    pub fn check(store: &impl Store, queue: &'a QueueName, keys: &'a QueueKeys, style: Style) -> Result<Self> {
        let next = counter(store, &keys.id)? + 1;
        let meta = Meta::read(store, keys)?;
        expect(store, &keys.events, Kind::Stream)?;
        expect(store, &keys.marker, Kind::ZSet)?;
        Ok(Self { queue, keys, style, meta, next })
    }

    /// Checks the queue's keys that only some jobs need.
    pub fn check_route(&self, store: &impl Store, job: &NewJob<'_>) -> Result<()> {
        let keys = self.keys;
        match job.route() {
            Route::Standard => expect(store, &keys.wait, Kind::List)?,
            Route::Delayed => expect(store, &keys.delayed, Kind::ZSet)?,
            Route::Prioritized => {
                counter(store, &keys.pc)?;
                expect(store, &keys.prioritized, Kind::ZSet)?
            }
        };
        Ok(())
    }

    /// Checks what is left to fail in the middle of a job's writes.
    pub fn check_job(&self, store: &impl Store, job: &NewJob<'_>) -> Result<()> {
        let (queue, keys) = (self.queue, self.keys);
        if let Some(parent) = &job.options.parent
            && store.kind(&parent.key()) == Kind::None
        {
            return Err(QueueError::MissingParent(short(&parent.key(), 128)));
        }
        if self.next == i64::MAX {
            counter(store, &keys.id)?;
        }
        self.check_route(store, job)?;
        if let Some(rule) = &job.options.deduplication {
            Window::new(queue, rule).check(store, keys)?;
        }
        if let Some(parent) = &job.options.parent {
            expect(store, &keys.completed, Kind::ZSet)?;
            Parent::from_fields(parent.key(), parent.json().as_bytes()).check(store)?;
        }
        let hash = match &job.options.id {
            Some(id) => queue.key(id),
            None => queue.key(json(self.next as f64)),
        };
        let exists = expect(store, &hash, Kind::Hash)?;
        if let Some(parent) = &job.options.parent
            && let Some(id) = &job.options.id
            && exists
        {
            let old = store.hget(&hash, Known::ParentKey.into());
            if old.is_some_and(|old| old != parent.key() && store.kind(&old) != Kind::None) {
                return Err(QueueError::OtherParent(short(id.as_bytes(), 64)));
            }
        }
        Ok(())
    }

    /// Keys that this job's add may touch besides [`QueueKeys::ANY_ADD`], for a check of the caller's rights. The counter's
    /// next id is digits: any of them stands for all.
    pub fn touched_by(queue: &QueueName, keys: &QueueKeys, job: &NewJob<'_>) -> Vec<Vec<u8>> {
        let mut touched = Vec::new();
        if job.route() == Route::Prioritized {
            touched.extend([keys.prioritized.clone(), keys.pc.clone()]);
        }
        if let Some(id) = &job.options.id {
            touched.push(queue.key(id));
        }
        if let Some(rule) = &job.options.deduplication {
            touched.extend(Window::new(queue, rule).keys().map(<[u8]>::to_vec));
        }
        if let Some(parent) = &job.options.parent {
            let parent = Parent::from_fields(parent.key(), parent.json().as_bytes());
            touched.extend([parent.dependencies(), parent.key]);
        }
        touched
    }

    /// Writes in the order of the scripts. The job passed [`Plan::check_job`] just before.
    pub fn write(&mut self, store: &mut impl Store, job: &NewJob<'_>) -> Result<Added> {
        let keys = self.keys;
        let number = store.incr(&keys.id)?;
        self.next = number.saturating_add(1);
        if self.meta.max_events.is_none() {
            store.hset(&keys.meta, &[(Known::MaxLenEvents.into(), Known::DefaultMaxEvents.into())])?;
            self.meta.max_events = Some(DEFAULT_MAX_EVENTS);
        }
        let cap = self.meta.cap();
        let (id, hash) = match &job.options.id {
            Some(id) => {
                let hash = self.queue.key(id);
                if store.kind(&hash) != Kind::None {
                    return self.duplicate(store, job, id.as_bytes(), &hash);
                }
                (id.clone().into_bytes(), hash)
            }
            None => {
                let id = json(number as f64).into_bytes();
                let hash = self.queue.key(&id);
                (id, hash)
            }
        };
        let opts = job.options.text();
        if let Some(rule) = &job.options.deduplication {
            let entry = Entry { queue: self.queue, keys, job, id: &id, opts, cap, style: self.style };
            if let Some(owner) = Window::new(self.queue, rule).pass(store, &entry)? {
                return Ok(Added::Swallowed(owner));
            }
        }
        self.store_job(store, job, &id, &hash, opts)?;
        self.enqueue(store, job, &id)?;
        if let Some(parent) = &job.options.parent {
            store.sadd(&sub_key(&parent.key(), ":dependencies"), &hash)?;
        }
        Ok(Added::Stored(id))
    }

    fn store_job(&self, store: &mut impl Store, job: &NewJob<'_>, id: &[u8], hash: &[u8], opts: &str) -> Result<()> {
        let options = &job.options;
        let timestamp = call_argument(job.timestamp(), self.style);
        let delay = call_argument(options.delay, self.style);
        let priority = options.priority.to_string();
        let link = options.parent.as_ref().map(|parent| (parent.key(), parent.json()));
        let mut fields: Vec<(Word, Word)> = Vec::with_capacity(10);
        fields.extend([
            (Known::Name.into(), job.name.into()),
            (Known::Data.into(), job.data.into()),
            (Known::Opts.into(), opts.into()),
            (Known::Timestamp.into(), timestamp.as_str().into()),
            (Known::Delay.into(), zero_or(&delay)),
            (Known::Priority.into(), zero_or(&priority)),
        ]);
        if let Some((key, json)) = &link {
            fields.push((Known::ParentKey.into(), key.into()));
            fields.push((Known::Parent.into(), json.as_str().into()));
        }
        if let Some(scheduler) = &options.scheduler {
            fields.push((Known::Rjk.into(), scheduler.as_str().into()));
        }
        if let Some(rule) = &options.deduplication {
            fields.push((Known::Deid.into(), rule.id.as_str().into()));
        }
        store.hset(hash, &fields)?;
        store.xadd(
            &self.keys.events,
            None,
            &[
                (Known::Event.into(), Known::Added.into()),
                (Known::JobId.into(), id.into()),
                (Known::Name.into(), job.name.into()),
            ],
        )?;
        Ok(())
    }

    fn enqueue(&self, store: &mut impl Store, job: &NewJob<'_>, id: &[u8]) -> Result<()> {
        let (keys, options, cap) = (self.keys, &job.options, self.meta.cap());
        match job.route() {
            Route::Delayed => {
                return enqueue_delayed(store, keys, id, job.timestamp(), options.delay, cap, self.style);
            }
            Route::Prioritized => {
                let turn = store.incr(&keys.pc)?;
                store.zadd(&keys.prioritized, priority_score(options.priority, turn), id)?;
            }
            Route::Standard => {
                let end = if options.lifo { End::Right } else { End::Left };
                store.push(&keys.wait, end, id)?;
            }
        }
        marker_if_free(store, &keys.marker, self.meta.hold)?;
        xadd_capped(
            store,
            &keys.events,
            cap,
            &[(Known::Event.into(), Known::Waiting.into()), (Known::JobId.into(), id.into())],
        )
    }

    /// handleDuplicatedJob and updateExistingJobsParent; the -7 case was refused by the checks.
    fn duplicate(&self, store: &mut impl Store, job: &NewJob<'_>, id: &[u8], hash: &[u8]) -> Result<Added> {
        if let Some(link) = &job.options.parent {
            let parent = Parent::from_fields(link.key(), link.json().as_bytes());
            if store.zscore(&self.keys.completed, id).is_some() {
                let value = store.hget(hash, Known::ReturnValue.into()).unwrap_or_default();
                store.hset(&sub_key(&parent.key, ":processed"), &[(hash.into(), Word::Bytes(&value))])?;
                parent.release_if_free(store, job.timestamp())?;
            } else {
                store.sadd(&parent.dependencies(), hash)?;
            }
            store.hset(
                hash,
                &[
                    (Known::ParentKey.into(), Word::Bytes(&parent.key)),
                    (Known::Parent.into(), link.json().as_str().into()),
                ],
            )?;
        }
        xadd_capped(
            store,
            &self.keys.events,
            self.meta.cap(),
            &[(Known::Event.into(), Known::Duplicated.into()), (Known::JobId.into(), id.into())],
        )?;
        Ok(Added::Duplicate(id.to_vec()))
    }
}

fn zero_or(text: &str) -> Word<'_> {
    if text == "0" { Known::Zero.into() } else { text.into() }
}

/// getPriorityScore: FIFO inside a priority by the queue's counter.
pub fn priority_score(priority: u32, turn: i64) -> f64 {
    f64::from(priority) * 4_294_967_296.0 + (turn % 4_294_967_296) as f64
}

/// addDelayedJob: score, event and the delay marker, which pause never suppresses.
pub fn enqueue_delayed(
    store: &mut impl Store,
    keys: &QueueKeys,
    id: &[u8],
    timestamp: f64,
    delay: f64,
    cap: u64,
    style: Style,
) -> Result<()> {
    let due = if delay > 0.0 { timestamp + delay } else { timestamp };
    let (min, max) = (due * 4096.0, (due + 1.0) * 4096.0 - 1.0);
    let score = match store.zmax_score(&keys.delayed, min, max) {
        None => min,
        Some(highest) if highest >= max => max,
        Some(highest) => highest + 1.0,
    };
    store.zadd(&keys.delayed, score, id)?;
    let due = call_argument(due, style);
    xadd_capped(
        store,
        &keys.events,
        cap,
        &[
            (Known::Event.into(), Known::Delayed.into()),
            (Known::JobId.into(), id.into()),
            (Known::Delay.into(), due.as_str().into()),
        ],
    )?;
    delayed_marker(store, &keys.delayed, &keys.marker)
}

/// addDelayMarkerIfNeeded: the marker "1" carries the time of the first delayed job.
pub fn delayed_marker(store: &mut impl Store, delayed: &[u8], marker: &[u8]) -> Result<()> {
    if let Some(first) = store.zfirst_score(delayed) {
        store.zadd(marker, first / 4096.0, b"1")?;
    }
    Ok(())
}

/// addBaseMarkerIfNeeded. A marker that is there already needs no effect.
pub fn marker_if_free(store: &mut impl Store, marker: &[u8], hold: bool) -> Result<()> {
    if !hold && store.zscore(marker, b"0") != Some(0.0) {
        store.zadd(marker, 0.0, b"0")?;
    }
    Ok(())
}

/// XADD with the queue's cap, `MAXLEN ~ cap`.
pub fn xadd_capped(store: &mut impl Store, events: &[u8], cap: u64, fields: &[(Word, Word)]) -> Result<()> {
    Ok(store.xadd(events, Some(cap), fields)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::fake::Fake;
    use crate::queue::job::DataCheck;
    use crate::queue::opts::{JobOptions, Words};

    const NOW: u64 = 1_795_000_000_000;

    fn add(store: &mut Fake, opts: &str) -> Result<Added> {
        let queue = QueueName::parse(b"bull:q").unwrap();
        let keys = QueueKeys::of(&queue);
        let options = JobOptions::parse(Some(opts.as_bytes()), Words::default())?;
        let job = NewJob::new(b"n", b"{}", options, NOW, DataCheck::Json)?;
        let mut plan = Plan::check(store, &queue, &keys, Style::Digits17)?;
        plan.check_job(store, &job)?;
        plan.write(store, &job)
    }

    fn stored(id: &str) -> Added {
        Added::Stored(id.into())
    }

    #[test]
    fn new_jobs_enter_on_the_left_and_lifo_on_the_right() {
        let mut store = Fake::default();
        assert_eq!(add(&mut store, "{}").unwrap(), stored("1"));
        assert_eq!(add(&mut store, "{}").unwrap(), stored("2"));
        assert_eq!(add(&mut store, r#"{"lifo":true}"#).unwrap(), stored("3"));
        assert_eq!(store.lrange(b"bull:q:wait", 0, -1).unwrap(), [b"2", b"1", b"3"]);
        assert_eq!(store.zscore(b"bull:q:marker", b"0"), Some(0.0));
        assert_eq!(store.events(b"bull:q:events")[..2], ["added", "waiting"]);
    }

    #[test]
    fn delayed_jobs_of_one_millisecond_take_the_next_score() {
        let mut store = Fake::default();
        let opts = format!(r#"{{"timestamp":{NOW},"delay":5,"priority":3}}"#);
        for turn in 0..3 {
            add(&mut store, &opts).unwrap();
            let id = (turn + 1).to_string();
            let due = (NOW + 5) as f64 * 4096.0 + f64::from(turn);
            assert_eq!(store.zscore(b"bull:q:delayed", id.as_bytes()), Some(due));
        }
        assert_eq!(store.zscore(b"bull:q:marker", b"1"), Some((NOW + 5) as f64));
    }

    #[test]
    fn a_paused_queue_gets_no_base_marker_but_a_delay_marker() {
        let mut store = Fake::default();
        store.hset(b"bull:q:meta", &[(Known::Paused.into(), "1".into())]).unwrap();
        add(&mut store, r#"{"priority":2}"#).unwrap();
        assert_eq!(store.kind(b"bull:q:marker"), Kind::None);
        add(&mut store, r#"{"delay":5}"#).unwrap();
        assert!(store.zscore(b"bull:q:marker", b"1").is_some());
        assert_eq!(store.zscore(b"bull:q:prioritized", b"1"), Some(2.0 * 4_294_967_296.0 + 1.0));
    }

    #[test]
    fn a_duplicate_uses_up_an_id_and_changes_nothing_else() {
        let mut store = Fake::default();
        add(&mut store, r#"{"jobId":"a"}"#).unwrap();
        assert_eq!(add(&mut store, r#"{"jobId":"a","lifo":true}"#).unwrap(), Added::Duplicate(b"a".to_vec()));
        assert_eq!(store.len(b"bull:q:wait"), 1);
        assert_eq!(add(&mut store, "{}").unwrap(), stored("3"));
    }

    #[test]
    fn refusals_write_nothing() {
        let mut store = Fake::default();
        add(&mut store, "{}").unwrap();
        for key in ["bull:q:wait", "bull:q:events", "bull:q:meta", "bull:q:id", "bull:q:marker", "bull:q:2"] {
            let mut broken = store.clone();
            broken.del(&[key.as_bytes()]).unwrap();
            broken.sadd(key.as_bytes(), b"x").unwrap();
            let before = broken.clone();
            assert!(matches!(add(&mut broken, "{}"), Err(QueueError::WrongType { .. })), "{key}");
            assert_eq!(broken, before, "{key}");
        }
        let before = store.clone();
        let missing = add(&mut store, r#"{"parent":{"id":"9","queue":"bull:p"}}"#);
        assert!(matches!(missing, Err(QueueError::MissingParent(_))));
        assert_eq!(store, before);
    }
}

//! The keyspace for adding jobs to one queue: each key is opened once and changed by the key API, and AOF and replicas
//! get the same effects as core commands. What a command leaves is what the core commands would leave.
//!
//! - Effects that add up (INCR, pushes to one end, trimming of the events) are told once, when the work settles; a
//!   command's effects reach AOF and replicas as one MULTI.
//! - Keyspace events, WATCH, client tracking and blocked clients are told when the work settles, after all keys were
//!   closed: what listens to an event may change the keys.
//! - Keys of other queues, and commands that are rare in adds, go to [`LiveStore`]; the work settles before each.
//!
//! It never checks: that is the work of `queue`.

use std::cell::RefCell;
use std::ffi::{CStr, c_int};

use redis_module::raw;

use super::call::with_known;
use super::key::{Key, Placed, Touch};
use super::names::{Names, Recent, SHORT, Words};
use super::store::{LiveStore, score_text};
use super::string::{Args, OwnedString};
use super::{Context, events};
use crate::queue::fields::{Known, Word};
use crate::queue::job::QueueKeys;
use crate::queue::store::{End, Expiry, Kind, Store, StoreError, StoreResult, Ttl};

/// Keys of a queue that are kept open.
const SLOTS: usize = QueueKeys::COUNT;

/// A key that events tell of: one of the queue's own, or a job.
#[derive(Clone)]
enum Place {
    Slot(usize),
    Job(OwnedString),
}

struct Event {
    kind: c_int,
    name: &'static CStr,
    place: Place,
}

/// Effects not told yet.
#[derive(Default)]
struct Pending {
    /// Increments of each slot.
    increments: [i64; SLOTS],
    pushed: Vec<OwnedString>,
    end: Option<End>,
    /// The cap of the event stream, where an entry came that asks for it.
    cap: Option<u64>,
    events: Vec<Event>,
    /// Slots that changed, a bit each.
    changed: u32,
}

struct Job {
    name: OwnedString,
    key: Key,
    changed: bool,
}

/// Keys that are open.
struct Open<'a> {
    /// Where the bytes of each slot's name lie: a slot is found by that.
    starts: [*const u8; SLOTS],
    names: &'a Names,
    keys: [Option<Key>; SLOTS],
    job: Option<Job>,
    /// Jobs that changed and were closed.
    jobs: Vec<OwnedString>,
}

struct Work<'a> {
    open: Open<'a>,
    recent: Recent,
    pending: Pending,
}

/// The keyspace of the context's database, seen from one queue. Settles when dropped.
pub struct QueueStore<'a> {
    context: Context,
    args: Args<'a>,
    /// Where the arguments of the job under way begin.
    at: usize,
    work: RefCell<Work<'a>>,
}

impl<'a> QueueStore<'a> {
    /// `keys` and `names` are of the same queue.
    pub fn new(context: Context, args: Args<'a>, keys: &'a QueueKeys, names: &'a Names) -> Self {
        let open = Open {
            starts: keys.all().map(<[u8]>::as_ptr),
            names,
            keys: [const { None }; SLOTS],
            job: None,
            jobs: Vec::new(),
        };
        let work = Work { open, recent: Recent::default(), pending: Pending::default() };
        Self { context, args, at: 0, work: RefCell::new(work) }
    }

    /// The job's name and data are arguments from `index` on: they go on as they are, without a copy.
    pub fn job_at(&mut self, index: usize) {
        self.at = index;
    }

    fn words<'w>(&mut self, words: impl Iterator<Item = Word<'w>>) -> Words {
        let (args, at) = (self.args, self.at);
        self.work.get_mut().recent.words(words, |bytes| (at..at + 3).find_map(|index| args.same(index, bytes)))
    }

    fn live(&self) -> LiveStore {
        LiveStore(self.context)
    }

    /// Runs a command that the key API has no part in.
    fn apart<T>(&mut self, run: impl FnOnce(&mut LiveStore) -> T) -> T {
        self.settle();
        run(&mut LiveStore(self.context))
    }

    /// Looks at a key that is kept open.
    fn look<T>(&self, key: &[u8], look: impl FnOnce(&mut Key, &mut Recent) -> T) -> T {
        let mut work = self.work.borrow_mut();
        let work = &mut *work;
        look(work.open.any(self.context, key), &mut work.recent)
    }

    /// Tells AOF, replicas and listeners what was done, and closes all keys.
    pub fn settle(&mut self) {
        let context = self.context;
        let work = self.work.get_mut();
        work.trim(context);
        work.tell_sums(context);
        work.open.keys = [const { None }; SLOTS];
        work.open.close_job();
        let pending = std::mem::take(&mut work.pending);
        for slot in (0..SLOTS).filter(|slot| pending.changed & (1 << slot) != 0) {
            context.signal_modified(work.open.names.slot(slot));
        }
        for job in work.open.jobs.drain(..) {
            context.signal_modified(&job);
        }
        events::quietly(|| {
            for event in &pending.events {
                let name = match &event.place {
                    Place::Slot(slot) => work.open.names.slot(*slot),
                    Place::Job(name) => name,
                };
                context.notify(event.kind, event.name, name);
            }
        });
    }
}

impl Drop for QueueStore<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Open<'_> {
    fn slot(&self, key: &[u8]) -> Option<usize> {
        self.starts.iter().position(|&start| start == key.as_ptr())
    }

    fn at(&mut self, context: Context, slot: usize) -> &mut Key {
        let touch = if QueueKeys::WRITTEN.contains(&slot) { Touch::Yes } else { Touch::No };
        self.keys[slot].get_or_insert_with(|| Key::open(context, self.names.slot(slot), touch))
    }

    fn job(&mut self, context: Context, name: &[u8]) -> &mut Job {
        if self.job.as_ref().is_some_and(|job| job.name.as_bytes() != name) {
            self.close_job();
        }
        self.job.get_or_insert_with(|| {
            let name = OwnedString::new(name);
            Job { key: Key::open(context, &name, Touch::Yes), name, changed: false }
        })
    }

    fn any(&mut self, context: Context, key: &[u8]) -> &mut Key {
        match self.slot(key) {
            Some(slot) => self.at(context, slot),
            None => &mut self.job(context, key).key,
        }
    }

    fn close_job(&mut self) {
        if let Some(job) = self.job.take()
            && job.changed
        {
            self.jobs.push(job.name);
        }
    }
}

impl Work<'_> {
    fn changed(&mut self, slot: usize, kind: c_int, name: &'static CStr) {
        self.pending.changed |= 1 << slot;
        self.pending.events.push(Event { kind, name, place: Place::Slot(slot) });
    }

    /// The events' own trimming, which XADD would do with each entry.
    fn trim(&mut self, context: Context) {
        let Some(cap) = self.pending.cap.take() else { return };
        let events = self.open.at(context, QueueKeys::EVENTS);
        if events.len() <= cap || events.trim(cap) == 0 {
            return;
        }
        let left = self.recent.get(itoa::Buffer::new().format(events.len()).as_bytes());
        let words = [Word::from("MAXLEN"), "=".into(), left.as_bytes().into()];
        let words = self.recent.words(words.into_iter(), |_| None);
        context.replicate(c"XTRIM", self.open.names.slot(QueueKeys::EVENTS), &words.raw);
        self.changed(QueueKeys::EVENTS, raw::REDISMODULE_NOTIFY_STREAM, c"xtrim");
    }

    fn tell_sums(&mut self, context: Context) {
        for slot in 0..SLOTS {
            match std::mem::take(&mut self.pending.increments[slot]) {
                0 => {}
                1 => context.replicate(c"INCR", self.open.names.slot(slot), &[]),
                more => {
                    let more = self.recent.get(itoa::Buffer::new().format(more).as_bytes());
                    context.replicate(c"INCRBY", self.open.names.slot(slot), &[more.as_ptr()]);
                }
            }
        }
        self.tell_pushes(context);
    }

    fn tell_pushes(&mut self, context: Context) {
        let Some(end) = self.pending.end.take() else { return };
        let raw: Vec<_> = self.pending.pushed.iter().map(OwnedString::as_ptr).collect();
        let command = match end {
            End::Left => c"LPUSH",
            End::Right => c"RPUSH",
        };
        context.replicate(command, self.open.names.slot(QueueKeys::WAIT), &raw);
        self.pending.pushed.clear();
    }
}

fn refused(command: &str, key: &[u8]) -> StoreError {
    StoreError(format!("the server refused {command} at {}", crate::text::short(key, 128)))
}

impl Store for QueueStore<'_> {
    fn kind(&self, key: &[u8]) -> Kind {
        self.look(key, |key, _| key.kind())
    }

    fn exists(&self, key: &[u8]) -> bool {
        self.live().exists(key)
    }

    fn ttl(&self, key: &[u8]) -> Ttl {
        self.live().ttl(key)
    }

    fn len(&self, key: &[u8]) -> u64 {
        self.look(key, |key, _| key.len())
    }

    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        if self.work.borrow().open.slot(key).is_none() {
            return self.live().get(key);
        }
        Ok(self.look(key, |key, _| key.text()))
    }

    fn hget(&self, key: &[u8], field: Word) -> Option<Vec<u8>> {
        let value = match field {
            Word::Known(known) => with_known(known, |field| self.look(key, |key, _| key.hget(field))),
            Word::Bytes(bytes) => self.look(key, |key, recent| key.hget(&recent.get(bytes))),
        };
        value.map(|value| value.as_bytes().to_vec())
    }

    fn hmget<const N: usize>(&self, key: &[u8], fields: [Known; N]) -> Option<[Option<Vec<u8>>; N]> {
        self.look(key, |key, _| {
            let value = |field| with_known(field, |field| key.hget(field)).map(|value| value.as_bytes().to_vec());
            (key.kind() == Kind::Hash).then(|| fields.map(value))
        })
    }

    fn zscore(&self, key: &[u8], member: &[u8]) -> Option<f64> {
        self.look(key, |key, recent| key.zscore(&recent.get(member)))
    }

    fn zmax_score(&self, key: &[u8], min: f64, max: f64) -> Option<f64> {
        self.look(key, |key, _| key.last_score(min, max))
    }

    fn zfirst_score(&self, key: &[u8]) -> Option<f64> {
        self.look(key, |key, _| key.first_score())
    }

    fn zrange(&self, key: &[u8], offset: u64, count: u64) -> StoreResult<Vec<Vec<u8>>> {
        self.live().zrange(key, offset, count)
    }

    fn zrandom(&self, key: &[u8], count: u64) -> StoreResult<Vec<Vec<u8>>> {
        self.live().zrandom(key, count)
    }

    fn zrank(&self, key: &[u8], member: &[u8]) -> StoreResult<Option<u64>> {
        self.live().zrank(key, member)
    }

    fn zcount(&self, key: &[u8], min: f64, max: f64) -> StoreResult<u64> {
        self.live().zcount(key, min, max)
    }

    fn lindex(&self, key: &[u8], index: i64) -> StoreResult<Option<Vec<u8>>> {
        self.live().lindex(key, index)
    }

    fn lrange(&self, key: &[u8], start: i64, stop: i64) -> StoreResult<Vec<Vec<u8>>> {
        self.live().lrange(key, start, stop)
    }

    fn list_contains(&self, key: &[u8], element: &[u8]) -> StoreResult<bool> {
        self.live().list_contains(key, element)
    }

    fn hstrlen(&self, key: &[u8], field: Word) -> StoreResult<u64> {
        self.live().hstrlen(key, field)
    }

    fn memory(&self, key: &[u8]) -> StoreResult<u64> {
        self.live().memory(key)
    }

    fn memory_estimate(&self, key: &[u8]) -> StoreResult<u64> {
        self.live().memory_estimate(key)
    }

    fn incr(&mut self, key: &[u8]) -> StoreResult<i64> {
        let context = self.context;
        let work = self.work.get_mut();
        let Some(slot) = work.open.slot(key) else { return self.apart(|live| live.incr(key)) };
        let value = work.open.at(context, slot).incr().ok_or_else(|| refused("INCR", key))?;
        work.pending.increments[slot] += 1;
        work.changed(slot, raw::REDISMODULE_NOTIFY_STRING, c"incrby");
        Ok(value)
    }

    fn set(&mut self, key: &[u8], value: &[u8], expiry: Expiry) -> StoreResult<()> {
        self.apart(|live| live.set(key, value, expiry))
    }

    fn persist(&mut self, key: &[u8]) -> StoreResult<()> {
        self.apart(|live| live.persist(key))
    }

    fn del(&mut self, keys: &[&[u8]]) -> StoreResult<u64> {
        self.apart(|live| live.del(keys))
    }

    fn unlink(&mut self, keys: &[&[u8]]) -> StoreResult<()> {
        self.apart(|live| live.unlink(keys))
    }

    fn hset(&mut self, key: &[u8], fields: &[(Word, Word)]) -> StoreResult<()> {
        if self.work.get_mut().open.slot(key).is_some() {
            return self.apart(|live| live.hset(key, fields));
        }
        let words = self.words(fields.iter().flat_map(|&(field, value)| [field, value]));
        let context = self.context;
        let work = self.work.get_mut();
        let job = work.open.job(context, key);
        job.changed = true;
        // A long value makes a large hash, which keeps no order: it goes first, so that there is nothing to convert.
        let long = fields.iter().position(|(_, value)| value.bytes().len() > SHORT).unwrap_or(0);
        let others = (0..fields.len()).filter(|&at| at != long);
        for at in [long].into_iter().chain(others) {
            // SAFETY: `words` holds its strings.
            if !unsafe { job.key.hset(words.raw[2 * at], words.raw[2 * at + 1]) } {
                return Err(refused("HSET", key));
            }
        }
        context.replicate(c"HSET", &job.name, &words.raw);
        let place = Place::Job(job.name.clone());
        work.pending.events.push(Event { kind: raw::REDISMODULE_NOTIFY_HASH, name: c"hset", place });
        Ok(())
    }

    fn hdel(&mut self, key: &[u8], field: Word) -> StoreResult<()> {
        self.apart(|live| live.hdel(key, field))
    }

    fn rename(&mut self, from: &[u8], to: &[u8]) -> StoreResult<()> {
        self.apart(|live| live.rename(from, to))
    }

    fn push_right(&mut self, key: &[u8], elements: &[Vec<u8>]) -> StoreResult<()> {
        self.apart(|live| live.push_right(key, elements))
    }

    fn drop_left(&mut self, key: &[u8], count: u64) -> StoreResult<()> {
        self.apart(|live| live.drop_left(key, count))
    }

    fn push(&mut self, key: &[u8], end: End, element: &[u8]) -> StoreResult<()> {
        let context = self.context;
        let work = self.work.get_mut();
        if work.open.slot(key) != Some(QueueKeys::WAIT) {
            return self.apart(|live| live.push(key, end, element));
        }
        if work.pending.end.is_some_and(|before| before != end) {
            work.tell_pushes(context);
        }
        let element = work.recent.get(element);
        if !work.open.at(context, QueueKeys::WAIT).push(end, &element) {
            return Err(refused("LPUSH", key));
        }
        work.pending.end = Some(end);
        work.pending.pushed.push(element);
        let event = match end {
            End::Left => c"lpush",
            End::Right => c"rpush",
        };
        work.changed(QueueKeys::WAIT, raw::REDISMODULE_NOTIFY_LIST, event);
        Ok(())
    }

    fn lrem(&mut self, key: &[u8], count: i64, element: &[u8]) -> StoreResult<u64> {
        self.apart(|live| live.lrem(key, count, element))
    }

    fn zadd(&mut self, key: &[u8], score: f64, member: &[u8]) -> StoreResult<()> {
        let context = self.context;
        let work = self.work.get_mut();
        let Some(slot) = work.open.slot(key) else { return self.apart(|live| live.zadd(key, score, member)) };
        let member = work.recent.get(member);
        let placed = work.open.at(context, slot).zadd(score, &member).ok_or_else(|| refused("ZADD", key))?;
        if placed == Placed::Changed {
            let score = work.recent.get(score_text(score).as_bytes());
            context.replicate(c"ZADD", work.open.names.slot(slot), &[score.as_ptr(), member.as_ptr()]);
            work.changed(slot, raw::REDISMODULE_NOTIFY_ZSET, c"zadd");
        }
        Ok(())
    }

    fn zrem(&mut self, key: &[u8], members: &[&[u8]]) -> StoreResult<u64> {
        self.apart(|live| live.zrem(key, members))
    }

    fn zrem_range(&mut self, key: &[u8], offset: u64, count: u64) -> StoreResult<()> {
        self.apart(|live| live.zrem_range(key, offset, count))
    }

    fn sadd(&mut self, key: &[u8], member: &[u8]) -> StoreResult<()> {
        self.apart(|live| live.sadd(key, member))
    }

    fn srem(&mut self, key: &[u8], member: &[u8]) -> StoreResult<bool> {
        self.apart(|live| live.srem(key, member))
    }

    fn xtrim(&mut self, key: &[u8], max: u64) -> StoreResult<u64> {
        self.apart(|live| live.xtrim(key, max))
    }

    fn xadd(&mut self, key: &[u8], max: Option<u64>, fields: &[(Word, Word)]) -> StoreResult<()> {
        if self.work.get_mut().open.slot(key) != Some(QueueKeys::EVENTS) {
            return self.apart(|live| live.xadd(key, max, fields));
        }
        // The id's place comes first.
        let pairs = fields.iter().flat_map(|&(field, value)| [field, value]);
        let mut words = self.words([Word::Known(Known::Zero)].into_iter().chain(pairs));
        let context = self.context;
        let work = self.work.get_mut();
        // SAFETY: `words` holds its strings.
        let id = unsafe { work.open.at(context, QueueKeys::EVENTS).append(&mut words.raw[1..]) };
        let id = id.ok_or_else(|| refused("XADD", key))?;
        let id = OwnedString::new(format!("{}-{}", id.ms, id.seq).as_bytes());
        words.raw[0] = id.as_ptr();
        context.replicate(c"XADD", work.open.names.slot(QueueKeys::EVENTS), &words.raw);
        work.pending.cap = max.or(work.pending.cap);
        work.changed(QueueKeys::EVENTS, raw::REDISMODULE_NOTIFY_STREAM, c"xadd");
        Ok(())
    }
}

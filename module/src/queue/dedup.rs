//! Deduplication on add: simple, throttle, extend, replace, keepLastIfActive, reschedule, stale recovery.
//!
//! Source: deduplicateJob and its helpers in addStandardJob-9, BullMQ 6.7.

use super::add::{enqueue_delayed, xadd_capped};
use super::check::expect;
use super::error::Result;
use super::fields::{Known, Word};
use super::job::{NewJob, QueueKeys};
use super::keys::{QueueName, SUB_KEYS, sub_key};
use super::number::{Style, call_argument};
use super::opts::Deduplication;
use super::store::{Expiry, Kind, Store, Ttl};

/// A deduplication window that a job meets.
pub struct Window<'a> {
    rule: &'a Deduplication,
    /// `de:<id>`: the job that owns the window.
    owner: Vec<u8>,
    /// `dn:<id>`: the job that follows when the owner finishes.
    next: Vec<u8>,
}

/// The adding job and where it goes.
pub struct Entry<'a, 'j> {
    pub queue: &'a QueueName,
    pub keys: &'a QueueKeys,
    pub job: &'a NewJob<'j>,
    pub id: &'a [u8],
    pub opts: &'a str,
    pub cap: u64,
    pub style: Style,
}

impl<'a> Window<'a> {
    pub fn new(queue: &QueueName, rule: &'a Deduplication) -> Self {
        Self { rule, owner: queue.key(format!("de:{}", rule.id)), next: queue.key(format!("dn:{}", rule.id)) }
    }

    pub fn keys(&self) -> [&[u8]; 2] {
        [&self.owner, &self.next]
    }

    /// Refuses wrong types at the keys that [`Window::pass`] may touch.
    pub fn check(&self, store: &impl Store, keys: &QueueKeys) -> Result<()> {
        expect(store, &self.owner, Kind::String)?;
        expect(store, &self.next, Kind::Hash)?;
        expect(store, &keys.active, Kind::List)?;
        expect(store, &keys.delayed, Kind::ZSet)?;
        Ok(())
    }

    /// None: the job enters. Some: it is swallowed, and that job stands for it.
    pub fn pass(&self, store: &mut impl Store, entry: &Entry<'_, '_>) -> Result<Option<Vec<u8>>> {
        let current = store.get(&self.owner)?;
        let Some(current) = current else {
            self.own(store, entry.id)?;
            return Ok(None);
        };
        if self.rule.replace {
            return self.replace(store, entry, current);
        }
        if self.recover_stale(store, entry, &current)? {
            return Ok(None);
        }
        if !self.store_next(store, entry, &current)? {
            if self.rule.ttl > 0 && self.rule.extend {
                self.own(store, &current)?;
            }
            deduplicated(store, entry, &current, &self.rule.id, entry.id)?;
        }
        if self.rule.reschedule && store.zscore(&entry.keys.delayed, &current).is_some() {
            let delay = call_argument(entry.job.options.delay, entry.style);
            store.hset(&entry.queue.key(&current), &[(Known::Delay.into(), Word::Bytes(delay.as_bytes()))])?;
            let (timestamp, delay) = (entry.job.timestamp(), entry.job.options.delay);
            enqueue_delayed(store, entry.keys, &current, timestamp, delay, entry.cap, entry.style)?;
        }
        Ok(Some(current))
    }

    /// setDeduplicationKey; keepLastIfActive never sets a time to live.
    fn own(&self, store: &mut impl Store, id: &[u8]) -> Result<()> {
        let expiry = match self.rule.ttl {
            ttl if ttl > 0 && !self.rule.keep_last_if_active => Expiry::Millis(ttl),
            _ => Expiry::Clear,
        };
        Ok(store.set(&self.owner, id, expiry)?)
    }

    fn replace(&self, store: &mut impl Store, entry: &Entry<'_, '_>, current: Vec<u8>) -> Result<Option<Vec<u8>>> {
        if store.zrem(&entry.keys.delayed, &[&current])? == 0 {
            if self.recover_stale(store, entry, &current)? {
                return Ok(None);
            }
            self.store_next(store, entry, &current)?;
            return Ok(Some(current));
        }
        delete_job(store, &entry.queue.key(&current))?;
        store.xadd(
            &entry.keys.events,
            None,
            &[
                (Known::Event.into(), Known::Removed.into()),
                (Known::JobId.into(), Word::Bytes(&current)),
                (Known::Prev.into(), Known::Delayed.into()),
            ],
        )?;
        // The roles are swapped here, as in removeDelayedJob.
        deduplicated(store, entry, entry.id, &self.rule.id, &current)?;
        store.del(&[&self.next])?;
        if self.rule.ttl > 0 && !self.rule.extend && !self.rule.keep_last_if_active {
            store.set(&self.owner, entry.id, Expiry::Keep)?;
        } else {
            self.own(store, entry.id)?;
        }
        Ok(None)
    }

    /// A window without an end whose owner is gone is taken over (BullMQ 6.4 and later).
    fn recover_stale(&self, store: &mut impl Store, entry: &Entry<'_, '_>, current: &[u8]) -> Result<bool> {
        if store.ttl(&self.owner) != Ttl::Never || store.kind(&entry.queue.key(current)) != Kind::None {
            return Ok(false);
        }
        store.del(&[&self.owner])?;
        store.del(&[&self.next])?;
        self.own(store, entry.id)?;
        Ok(true)
    }

    /// storeDeduplicatedNextJob: while the owner is active, the newest add is kept and becomes a job when it finishes.
    fn store_next(&self, store: &mut impl Store, entry: &Entry<'_, '_>, current: &[u8]) -> Result<bool> {
        if !self.rule.keep_last_if_active || !store.list_contains(&entry.keys.active, current)? {
            return Ok(false);
        }
        let mut fields: Vec<(Word, Word)> = vec![
            (Known::Name.into(), entry.job.name.into()),
            (Known::Data.into(), entry.job.data.into()),
            (Known::Opts.into(), entry.opts.into()),
            (Known::Jid.into(), entry.id.into()),
        ];
        if let Some(scheduler) = &entry.job.options.scheduler {
            fields.push((Known::Rjk.into(), scheduler.as_str().into()));
        }
        store.del(&[&self.next])?;
        store.hset(&self.next, &fields)?;
        store.persist(&self.owner)?;
        deduplicated(store, entry, current, &self.rule.id, entry.id)?;
        Ok(true)
    }
}

fn deduplicated(store: &mut impl Store, entry: &Entry<'_, '_>, job: &[u8], id: &str, other: &[u8]) -> Result<()> {
    xadd_capped(
        store,
        &entry.keys.events,
        entry.cap,
        &[
            (Known::Event.into(), Known::Deduplicated.into()),
            (Known::JobId.into(), job.into()),
            (Known::DeduplicationId.into(), id.into()),
            (Known::DeduplicatedJobId.into(), other.into()),
        ],
    )
}

/// removeJobKeys: the six keys of a job. How many existed.
pub fn delete_job(store: &mut impl Store, job: &[u8]) -> Result<u64> {
    let subs = SUB_KEYS.map(|suffix| sub_key(job, suffix));
    let mut keys: Vec<&[u8]> = vec![job];
    keys.extend(subs.iter().map(Vec::as_slice));
    Ok(store.del(&keys)?)
}

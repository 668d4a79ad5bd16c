//! The walk through all keys of the queue, once its states are known: what belongs to no job and no state. A key whose
//! meaning is unknown, or that may be another queue's, is never a finding.

use super::absent::BETWEEN_MS;
use super::*;

/// Active jobs looked through for the owner of a deduplication.
const MOST_ACTIVE: u64 = 256;

impl Audit {
    pub(super) fn keys_step(
        &mut self,
        store: &mut impl Walk,
        cursor: Option<Vec<u8>>,
        last: bool,
        mut pending: VecDeque<Vec<u8>>,
        now_ms: u64,
        around: &mut impl Around,
    ) -> Result<Stage> {
        let base = self.queue.key("");
        // One at a time: to look an orphan up in long lists takes a millisecond.
        if let Some(key) = pending.pop_front() {
            if let Some(rest) = key.strip_prefix(&base[..]).filter(|rest| !rest.is_empty()) {
                self.judge_key(store, &key, rest, now_ms, around)?;
            }
            return Ok(Stage::Keys { cursor, last, pending });
        }
        if !last {
            let page = store.keys(&base, cursor.as_deref())?;
            return Ok(Stage::Keys { last: page.next.is_none(), cursor: page.next, pending: page.items.into() });
        }
        if let Some(next) = self.without_marker(store)? {
            self.suspects.push(Suspect::Marker { next });
        }
        // The fingerprints are no longer needed.
        self.seen = Seen::default();
        Ok(if self.suspects.is_empty() { Stage::Done } else { Stage::Again { look: 1, due: now_ms + BETWEEN_MS } })
    }

    fn judge_key(
        &mut self,
        store: &mut impl Walk,
        key: &[u8],
        rest: &[u8],
        now_ms: u64,
        around: &mut impl Around,
    ) -> Result<()> {
        self.tally.examined += 1;
        if is_own(rest) {
            return Ok(());
        }
        let part = |suffixes: &[&str]| suffixes.iter().find_map(|suffix| rest.strip_suffix(suffix.as_bytes()));
        let part_of = match store.kind(key) {
            Kind::String => return self.judge_dedup(store, key, rest),
            Kind::List => part(&[":logs"]),
            Kind::Set => part(&[":dependencies"]),
            Kind::ZSet => part(&[":unsuccessful"]),
            Kind::Hash => match shape(store, key)? {
                Shape::Job => return self.judge_hash(store, rest, Fault::OrphanHash, now_ms, around),
                _ if rest.starts_with(b"dn:") => return self.judge_next(store, key, rest),
                shape => match part(&[":processed", ":failed"]) {
                    None if shape == Shape::Ghost => return self.judge_hash(store, rest, Fault::Ghost, now_ms, around),
                    part => part,
                },
            },
            _ => None,
        };
        if let Some(owner) = part_of
            && store.kind(&self.queue.key(owner)) == Kind::None
            && !may_be_anothers(store, &self.queue, rest)?
        {
            let mended = self.mend(|_| Ok(if store.del(&[key])? > 0 { Mended::Yes } else { Mended::No }))?;
            self.found(Fault::OrphanPart, key, mended);
        }
        Ok(())
    }

    fn judge_hash(
        &mut self,
        store: &mut impl Walk,
        id: &[u8],
        fault: Fault,
        now_ms: u64,
        around: &mut impl Around,
    ) -> Result<()> {
        match place(store, &self.keys, &self.seen, self.tide, id)? {
            Place::Somewhere => {}
            Place::Unsure => self.tally.unsure += 1,
            Place::Nowhere if may_be_anothers(store, &self.queue, id)? => {}
            Place::Nowhere => {
                let mended = self.mend(|audit| match fault {
                    Fault::Ghost => audit.drop_ghost(store, id),
                    _ => audit.place_orphan(store, id, now_ms, around),
                })?;
                self.found(fault, &self.queue.key(id), mended);
            }
        }
        Ok(())
    }

    /// `de:<id>` without an end whose owner is gone: it swallows every add (BullMQ up to 6.3).
    fn judge_dedup(&mut self, store: &mut impl Walk, key: &[u8], rest: &[u8]) -> Result<()> {
        let Some(rule) = rest.strip_prefix(b"de:") else { return Ok(()) };
        if store.ttl(key) != Ttl::Never {
            return Ok(());
        }
        let Some(owner) = store.get(key)? else { return Ok(()) };
        if store.kind(&self.queue.key(&owner)) != Kind::None || may_be_anothers(store, &self.queue, rest)? {
            return Ok(());
        }
        let next = self.queue.key([b"dn:", rule].concat());
        let mended = self.mend(|_| Ok(if store.del(&[key, &next])? > 0 { Mended::Yes } else { Mended::No }))?;
        self.found(Fault::StaleDedup, key, mended);
        Ok(())
    }

    /// `dn:<id>` that nothing will consume: no `de:<id>`, and no active job with this rule.
    fn judge_next(&mut self, store: &mut impl Walk, key: &[u8], rest: &[u8]) -> Result<()> {
        let rule = &rest[b"dn:".len()..];
        if store.kind(&self.queue.key([b"de:", rule].concat())) != Kind::None
            || may_be_anothers(store, &self.queue, rest)?
        {
            return Ok(());
        }
        if store.len(&self.keys.active) > MOST_ACTIVE {
            self.tally.unsure += 1;
            return Ok(());
        }
        for id in store.lrange(&self.keys.active, 0, -1)? {
            if store.hget(&self.queue.key(&id), Known::Deid.into()).as_deref() == Some(rule) {
                return Ok(());
            }
        }
        let mended = self.mend(|_| Ok(if store.del(&[key])? > 0 { Mended::Yes } else { Mended::No }))?;
        self.found(Fault::StaleDedup, key, mended);
        Ok(())
    }
}

/// Keys of the queue itself.
fn is_own(rest: &[u8]) -> bool {
    const OWN: [&[u8]; 17] = [
        b"wait",
        b"paused",
        b"active",
        b"prioritized",
        b"delayed",
        b"waiting-children",
        b"completed",
        b"failed",
        b"meta",
        b"id",
        b"pc",
        b"marker",
        b"events",
        b"stalled",
        b"stalled-check",
        b"limiter",
        b"repeat",
    ];
    OWN.contains(&rest) || rest.starts_with(b"guard:") || rest.starts_with(b"metrics:")
}

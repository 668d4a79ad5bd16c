//! What may be absent for a moment in a sound queue, a marker or the children of a parent that is being added: looked at
//! several times before it is a finding.

use super::*;

/// Times that it is looked at.
const LOOKS: u32 = 6;
/// Time between two looks, milliseconds.
pub(super) const BETWEEN_MS: u64 = 500;

/// Whether what was put off until `due` may go on, milliseconds: nothing is put off longer than [`BETWEEN_MS`], so what seems
/// to be due later was put off by a clock that has been set back since.
pub fn is_due(due: u64, now_ms: u64) -> bool {
    due <= now_ms || due - now_ms > BETWEEN_MS
}

impl Audit {
    /// The job next in line, where no marker tells workers of it though it should.
    ///
    /// A worker takes the marker before it takes a job, and a rate limit leaves it out. BullMQ 4 has none.
    pub(super) fn without_marker(&self, store: &impl Walk) -> Result<Option<Vec<u8>>> {
        if store.kind(&self.keys.marker) != Kind::None && !expect(store, &self.keys.marker, Kind::ZSet)?
            || store.zscore(&self.keys.marker, b"0").is_some()
            || store.kind(&self.queue.key("limiter")) != Kind::None
            || self.is_of_v4(store)
            || Meta::read(store, &self.keys)?.hold
        {
            return Ok(None);
        }
        if expect(store, &self.keys.wait, Kind::List)? {
            let last = store.lrange(&self.keys.wait, -2, -1)?;
            if let Some(id) = last.into_iter().rev().find(|id| !is_marker(id)) {
                return Ok(Some(id));
            }
        }
        if expect(store, &self.keys.prioritized, Kind::ZSet)? {
            let first = store.zrange(&self.keys.prioritized, 0, 1)?;
            return Ok(first.into_iter().next());
        }
        Ok(None)
    }

    /// The last client to connect was of BullMQ 4 or older, which keeps no markers.
    fn is_of_v4(&self, store: &impl Store) -> bool {
        let version = store.hget(&self.keys.meta, Word::from("version")).unwrap_or_default();
        let major = version.strip_prefix(b"bullmq:").and_then(|rest| rest.split(|&byte| byte == b'.').next());
        major.and_then(|text| std::str::from_utf8(text).ok()?.parse::<u32>().ok()).is_some_and(|major| major < 5)
    }

    pub(super) fn look_again(&mut self, store: &mut impl Walk, look: u32, now_ms: u64) -> Result<Stage> {
        let mut still = Vec::new();
        for suspect in std::mem::take(&mut self.suspects) {
            let stays = match &suspect {
                Suspect::Marker { next } => self.without_marker(store)?.as_ref() == Some(next),
                Suspect::Parent { id } => {
                    self.waits(store, id) && store.kind(&self.parent(id).dependencies()) == Kind::None
                }
            };
            if stays {
                still.push(suspect);
            }
        }
        if look < LOOKS && !still.is_empty() {
            self.suspects = still;
            return Ok(Stage::Again { look: look + 1, due: now_ms + BETWEEN_MS });
        }
        for suspect in still {
            match suspect {
                Suspect::Marker { .. } => {
                    let mended = self.mend(|audit| {
                        store.zadd(&audit.keys.marker, 0.0, b"0")?;
                        Ok(Mended::Yes)
                    })?;
                    self.found(Fault::MissingMarker, &self.keys.marker.clone(), mended);
                }
                Suspect::Parent { id } => {
                    let parent = self.parent(&id);
                    let mended = self.mend(|_| {
                        let free = parent.check(store).is_ok() && parent.release_if_free(store, now_ms as f64)?;
                        Ok(if free { Mended::Yes } else { Mended::No })
                    })?;
                    self.found(Fault::StuckParent, &parent.key, mended);
                }
            }
        }
        Ok(Stage::Done)
    }
}

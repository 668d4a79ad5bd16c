//! Parents of a flow: finding them, linking a child, letting them go when no child is pending.
//!
//! BullMQ splits a parent's key at its last colon and so misses parents whose id holds one, and its removal ignores
//! the parent's priority and delay. Here the id comes from the child's own `parent` field, and a parent that is let
//! go honours both, as `moveParentToWait` of the add and finish scripts does (6.7).

use serde_json::Value;

use super::add::{delayed_marker, marker_if_free};
use super::check::{Meta, counter, expect};
use super::error::Result;
use super::fields::{Known, Word};
use super::keys::sub_key;
use super::number::Style;
use super::store::{End, Kind, Store};

/// A parent as its child knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Key of the parent's hash.
    pub key: Vec<u8>,
    pub id: Vec<u8>,
    /// Base key of the parent's queue, with its trailing colon.
    pub base: Vec<u8>,
}

impl Parent {
    /// Reads a child's link. None where it has no parent.
    pub fn of_child(store: &impl Store, child: &[u8]) -> Option<Self> {
        let key = store.hget(child, Known::ParentKey.into()).filter(|key| !key.is_empty())?;
        let field = store.hget(child, Known::Parent.into()).unwrap_or_default();
        Some(Self::from_fields(key, &field))
    }

    /// `json` is the `parent` field; where it does not fit the key, the id is what follows the last colon.
    pub fn from_fields(key: Vec<u8>, json: &[u8]) -> Self {
        let told =
            serde_json::from_slice::<Value>(json).ok().and_then(|value| Some(value.get("id")?.as_str()?.to_owned()));
        if let Some(id) = told
            && let Some(base) = key.strip_suffix(id.as_bytes())
            && base.ends_with(b":")
        {
            let base = base.to_vec();
            return Self { id: id.into_bytes(), base, key };
        }
        let split = key.iter().rposition(|&byte| byte == b':').map_or(0, |colon| colon + 1);
        Self { id: key[split..].to_vec(), base: key[..split].to_vec(), key }
    }

    pub fn dependencies(&self) -> Vec<u8> {
        sub_key(&self.key, ":dependencies")
    }

    fn queue_key(&self, suffix: &str) -> Vec<u8> {
        sub_key(&self.base, suffix)
    }

    /// Every key that the removal of a child may change.
    pub fn touched(&self) -> Vec<Vec<u8>> {
        let suffixes = ["waiting-children", "wait", "prioritized", "delayed", "marker", "events", "pc"];
        let mut keys = vec![self.key.clone(), self.dependencies()];
        keys.extend(suffixes.map(|suffix| self.queue_key(suffix)));
        keys
    }

    /// Refuses wrong types at every key that [`Parent::release_if_free`] may touch.
    pub fn check(&self, store: &impl Store) -> Result<()> {
        expect(store, &self.key, Kind::Hash)?;
        expect(store, &self.dependencies(), Kind::Set)?;
        expect(store, &sub_key(&self.key, ":processed"), Kind::Hash)?;
        for (suffix, kind) in [
            ("waiting-children", Kind::ZSet),
            ("wait", Kind::List),
            ("active", Kind::List),
            ("prioritized", Kind::ZSet),
            ("delayed", Kind::ZSet),
            ("marker", Kind::ZSet),
            ("events", Kind::Stream),
        ] {
            expect(store, &self.queue_key(suffix), kind)?;
        }
        counter(store, &self.queue_key("pc"))?;
        Meta::read_at(store, &self.queue_key("meta"), &self.queue_key("active"))?;
        Ok(())
    }

    /// moveParentToWaitIfNoPendingDependencies. True where the parent was let go.
    pub fn release_if_free(&self, store: &mut impl Store, now_ms: f64) -> Result<bool> {
        let waiting = self.queue_key("waiting-children");
        if store.len(&self.dependencies()) > 0
            || store.kind(&self.key) != Kind::Hash
            || store.zscore(&waiting, &self.id).is_none()
        {
            return Ok(false);
        }
        store.zrem(&waiting, &[&self.id])?;
        self.move_to_wait(store, now_ms)?;
        Ok(true)
    }

    fn move_to_wait(&self, store: &mut impl Store, now_ms: f64) -> Result<()> {
        let number = |field: Known| -> f64 {
            let text = store.hget(&self.key, field.into()).unwrap_or_default();
            std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0)
        };
        let (priority, delay) = (number(Known::Priority), number(Known::Delay));
        let (events, marker) = (self.queue_key("events"), self.queue_key("marker"));
        let id = Word::Bytes(&self.id);
        if delay > 0.0 {
            let due = now_ms + delay;
            let delayed = self.queue_key("delayed");
            store.zadd(&delayed, due * 4096.0, &self.id)?;
            let due = super::number::call_argument(due, Style::Shortest);
            store.xadd(
                &events,
                None,
                &[
                    (Known::Event.into(), Known::Delayed.into()),
                    (Known::JobId.into(), id),
                    (Known::Delay.into(), Word::Bytes(due.as_bytes())),
                ],
            )?;
            return delayed_marker(store, &delayed, &marker);
        }
        let meta = Meta::read_at(store, &self.queue_key("meta"), &self.queue_key("active"))?;
        if priority == 0.0 {
            store.push(&self.queue_key("wait"), End::Right, &self.id)?;
        } else {
            let turn = store.incr(&self.queue_key("pc"))?;
            store.zadd(
                &self.queue_key("prioritized"),
                priority * 4_294_967_296.0 + (turn % 4_294_967_296) as f64,
                &self.id,
            )?;
        }
        marker_if_free(store, &marker, meta.hold)?;
        store.xadd(
            &events,
            None,
            &[
                (Known::Event.into(), Known::Waiting.into()),
                (Known::JobId.into(), id),
                (Known::Prev.into(), Known::WaitingChildren.into()),
            ],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_colons_is_found_by_the_childs_own_field() {
        let parent = Parent::from_fields(b"bull:q:repeat:x:5".to_vec(), br#"{"id":"repeat:x:5","queueKey":"bull:q"}"#);
        assert_eq!((parent.id.as_slice(), parent.base.as_slice()), (&b"repeat:x:5"[..], &b"bull:q:"[..]));
        let parent = Parent::from_fields(b"bull:q:7".to_vec(), b"");
        assert_eq!((parent.id.as_slice(), parent.base.as_slice()), (&b"7"[..], &b"bull:q:"[..]));
    }
}

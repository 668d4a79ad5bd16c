//! Making room: the oldest waiting jobs are removed so that a new one may enter.

use super::check::{Meta, expect};
use super::error::Result;
use super::fields::{Known, Word};
use super::job::QueueKeys;
use super::keys::QueueName;
use super::remove::{Removal, remove_job};
use super::store::{Kind, Store};

/// Most jobs removed for one that enters.
pub const MAX_DISPLACED: u32 = 100;

/// Removes up to `jobs` from the end of `wait` that workers take from, each with its event, but not the newcomer that they
/// make room for. Stops at a job that must stay: one with children, a lock, or the pending iteration of a scheduler.
pub fn displace(
    store: &mut impl Store,
    queue: &QueueName,
    keys: &QueueKeys,
    jobs: u32,
    newcomer: &[u8],
    now_ms: u64,
) -> Result<()> {
    if jobs == 0 {
        return Ok(());
    }
    expect(store, &keys.wait, Kind::List)?;
    let cap = Meta::read(store, keys)?.cap();
    for _ in 0..jobs.min(MAX_DISPLACED) {
        let mut last = store.lindex(&keys.wait, -1)?;
        if last.as_deref() == Some(newcomer) {
            last = store.lindex(&keys.wait, -2)?;
        }
        let Some(id) = last else { break };
        // BullMQ 4 keeps markers such as `0:0` in the list.
        if id.starts_with(b"0:") {
            break;
        }
        if let Removal::Kept(_) = remove_job(store, queue, keys, &id, now_ms)? {
            break;
        }
        store.lrem(&keys.wait, -1, &id)?;
        store.xadd(
            &keys.events,
            Some(cap),
            &[
                (Known::Event.into(), Known::Removed.into()),
                (Known::JobId.into(), Word::Bytes(&id)),
                (Known::Prev.into(), Known::Wait.into()),
            ],
        )?;
    }
    Ok(())
}

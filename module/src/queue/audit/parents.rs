//! The walk through the waiting parents: does a child they wait for exist. Children in slots that this node cannot judge
//! are let be.

use super::*;

/// Most suspects that wait for another look.
const MOST_SUSPECTS: usize = 4096;

impl Audit {
    pub(super) fn parents_step(
        &mut self,
        store: &mut impl Walk,
        cursor: Option<Vec<u8>>,
        last: bool,
        mut pending: VecDeque<Vec<u8>>,
    ) -> Result<Stage> {
        if let Some(parent) = pending.pop_front() {
            let parents = Box::new(Stage::Parents { cursor, last, pending });
            return Ok(Stage::Children { parent, cursor: None, stuck: false, parents });
        }
        if last || !expect(store, &self.keys.waiting_children, Kind::ZSet)? {
            return Ok(Stage::Keys { cursor: None, last: false, pending: VecDeque::new() });
        }
        let page = store.members(&self.keys.waiting_children, Group::ZSet, cursor.as_deref())?;
        Ok(Stage::Parents { last: page.next.is_none(), cursor: page.next, pending: page.items.into() })
    }

    pub(super) fn parent(&self, id: &[u8]) -> Parent {
        Parent { key: self.queue.key(id), id: id.to_vec(), base: self.queue.key("") }
    }

    /// The parent waits, and its hash is there.
    pub(super) fn waits(&self, store: &impl Walk, id: &[u8]) -> bool {
        store.zscore(&self.keys.waiting_children, id).is_some() && store.kind(&self.queue.key(id)) == Kind::Hash
    }

    pub(super) fn children_step(
        &mut self,
        store: &mut impl Walk,
        id: Vec<u8>,
        cursor: Option<Vec<u8>>,
        mut stuck: bool,
        parents: Box<Stage>,
        now_ms: u64,
    ) -> Result<Stage> {
        let parent = self.parent(&id);
        let dependencies = parent.dependencies();
        if !self.waits(store, &id) {
            return Ok(*parents);
        }
        match store.kind(&dependencies) {
            Kind::Set => {}
            Kind::None if self.suspects.len() < MOST_SUSPECTS => {
                self.suspects.push(Suspect::Parent { id });
                return Ok(*parents);
            }
            _ => {
                self.tally.unsure += 1;
                return Ok(*parents);
            }
        }
        let page = store.members(&dependencies, Group::Set, cursor.as_deref())?;
        for child in &page.items {
            self.tally.examined += 1;
            let judged = self.scope == Scope::Everything || slot(child) == self.queue.slot();
            if !judged || store.kind(child) != Kind::None {
                continue;
            }
            let mended = self.mend(|_| match parent.check(store) {
                Ok(()) => {
                    store.srem(&dependencies, child)?;
                    Ok(Mended::Yes)
                }
                Err(_) => Ok(Mended::No),
            })?;
            if !std::mem::replace(&mut stuck, true) {
                self.found(Fault::StuckParent, &parent.key, mended);
            }
        }
        if stuck && self.mode == Mode::Repair && parent.check(store).is_ok() {
            parent.release_if_free(store, now_ms as f64)?;
        }
        Ok(match page.next {
            None => *parents,
            cursor => Stage::Children { parent: id, cursor, stuck, parents },
        })
    }
}

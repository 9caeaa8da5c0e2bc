//! [`LocalRelations`]: the numbers by which a segment's changes name their relations. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::Relation;

/// The relations that the current segment describes, by local id.
#[derive(Default)]
pub(super) struct LocalRelations {
    list: Vec<Arc<Relation>>,
    /// By the address of an `Arc` that is kept here, so that the address stays that relation's.
    known: HashMap<usize, (Arc<Relation>, u32)>,
    last: Option<(usize, u32)>,
}

impl LocalRelations {
    pub(super) fn new(list: Vec<Arc<Relation>>) -> LocalRelations {
        LocalRelations {
            list,
            ..LocalRelations::default()
        }
    }

    pub(super) fn list(&self) -> &[Arc<Relation>] {
        &self.list
    }

    /// The local id, if the segment describes the relation: by address, then by value.
    #[inline]
    pub(super) fn find(&mut self, relation: &Arc<Relation>) -> Option<u32> {
        let address = Arc::as_ptr(relation).addr();
        match self.last {
            Some((last, id)) if last == address => Some(id),
            _ => self.find_slowly(relation, address),
        }
    }

    fn find_slowly(&mut self, relation: &Arc<Relation>, address: usize) -> Option<u32> {
        let id = match self.known.get(&address) {
            Some((_, id)) => *id,
            None => {
                let id = self.list.iter().position(|known| known == relation)? as u32;
                self.remember(relation, id);
                id
            }
        };
        self.last = Some((address, id));
        Some(id)
    }

    /// Gives the relation the next local id. Readers get the `interned` one.
    pub(super) fn add(&mut self, relation: &Arc<Relation>, interned: Arc<Relation>) -> u32 {
        let id = self.list.len() as u32;
        self.list.push(interned);
        self.remember(relation, id);
        id
    }

    /// Forgets the relations from local id `len` on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
        self.known.retain(|_, (_, id)| (*id as usize) < len);
        self.last = None;
    }

    fn remember(&mut self, relation: &Arc<Relation>, id: u32) {
        // Every reconnect describes the same relations in new `Arc`s; those of old connections needn't be kept.
        if self.known.len() > 64 + 4 * self.list.len() {
            self.known.clear();
            self.last = None;
        }
        self.known
            .insert(Arc::as_ptr(relation).addr(), (relation.clone(), id));
    }
}

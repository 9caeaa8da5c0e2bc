//! [`Interner`]: one [`Arc`] for each version of a relation, however often it is decoded.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::event::Relation;

/// The relations that records name by local id: by the place in the list. Versions that are equal are one [`Arc`].
pub(crate) type Relations = Arc<Vec<Arc<Relation>>>;

/// The versions of relations that are in use, by their contents.
///
/// Whoever reads a log tells versions apart by their addresses, once for each change, and binds all queries of a table
/// anew when another one comes. So what is equal has to be the same, in whichever record, segment or message it was
/// described: each [`Log`](super::Log) passes what it decodes through one of these.
#[derive(Debug, Default)]
pub struct Interner(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By their OIDs.
    versions: HashMap<u32, Vec<Weak<Relation>>>,
    /// The number of OIDs that were left when those of nobody's use were last dropped.
    swept: usize,
}

/// So many OIDs are not worth sweeping.
const FEW: usize = 1024;

impl Interner {
    /// The version that is equal and in use, or this one, which is from now on.
    pub fn intern(&self, relation: &Arc<Relation>) -> Arc<Relation> {
        let mut known = self.0.lock();
        if known.versions.len() > 2 * known.swept.max(FEW) {
            let is_used = |versions: &Vec<Weak<Relation>>| versions.iter().any(|v| v.strong_count() > 0);
            known.versions.retain(|_, versions| is_used(versions));
            known.swept = known.versions.len();
        }
        let versions = known.versions.entry(relation.oid).or_default();
        versions.retain(|version| version.strong_count() > 0);
        let in_use = versions.iter().filter_map(Weak::upgrade);
        if let Some(same) = in_use.into_iter().find(|version| version == relation) {
            return same;
        }
        versions.push(Arc::downgrade(relation));
        Arc::clone(relation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(oid: u32, prefix: &str) -> Arc<Relation> {
        let mut relation = Relation::of_messages(prefix, true);
        relation.oid = oid;
        Arc::new(relation)
    }

    #[test]
    fn versions_that_are_equal_are_one_as_long_as_it_is_in_use() {
        let interner = Interner::default();
        let first = interner.intern(&relation(1, "a"));
        assert!(Arc::ptr_eq(&first, &interner.intern(&relation(1, "a"))));
        let altered = interner.intern(&relation(1, "b"));
        assert!(!Arc::ptr_eq(&first, &altered));
        assert!(Arc::ptr_eq(&first, &interner.intern(&relation(1, "a"))));
        drop((first, altered));
        for oid in 2..10_000 {
            interner.intern(&relation(oid, "a"));
        }
        assert!(interner.0.lock().versions.len() <= 2 * FEW + 1);
    }
}

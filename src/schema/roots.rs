//! [`Roots`]: partitioned tables of whose old rows less is read than their partitions log by now.
//!
//! The stream describes a partition again when that is altered, but says nothing when it is detached or dropped, or
//! when another one is altered that has written no row since. So what is known of a root's old rows, the weakest of
//! its partitions', may be too little for ever. A stream that starts again, past where this was found, knows only the
//! partitions that there are.

use std::collections::HashMap;

use crate::event::{Relation, ReplicaIdentity};
use crate::lsn::Lsn;

/// The relations by which roots' rows are read, and the roots for which these are outdated.
#[derive(Debug, Default)]
pub(super) struct Roots {
    read: HashMap<u32, Held>,
    /// The newer state of each root, and the position up to which the server had written when it was found.
    found: HashMap<u32, (Held, Lsn)>,
    /// The roots for which the stream has started again. It does so once for each.
    tried: HashMap<u32, Held>,
}

/// The parts that a root's old rows hold: the replica identity, the columns that are always there, the key.
type Held = (ReplicaIdentity, Vec<String>, Vec<usize>);

fn held(relation: &Relation) -> Held {
    let columns = relation.columns.iter().filter(|column| column.identity);
    let columns = columns.map(|column| column.name.clone()).collect();
    (relation.replica_identity, columns, relation.key.clone())
}

impl Roots {
    /// Notes that a stream begins, which has shown no rows yet.
    pub(super) fn begin(&mut self) {
        self.read.clear();
        for (oid, (held, _)) in self.found.drain() {
            self.tried.insert(oid, held);
        }
    }

    /// Notes the relation by which a root's rows are read from now on.
    pub(super) fn read_by(&mut self, relation: &Relation) {
        let held = held(relation);
        if self
            .found
            .get(&relation.oid)
            .is_some_and(|(found, _)| *found == held)
        {
            self.found.remove(&relation.oid);
        }
        self.read.insert(relation.oid, held);
    }

    /// True if the rows of a root are read by another state than that in the database, and the stream has not started
    /// again for it yet.
    pub(super) fn differs(&self, relation: &Relation) -> bool {
        let Some(read) = self.read.get(&relation.oid) else {
            return false;
        };
        let held = held(relation);
        *read != held && self.tried.get(&relation.oid) != Some(&held)
    }

    /// Notes the state of a root in the database, which had written up to `written`.
    pub(super) fn find(&mut self, relation: &Relation, written: Lsn) {
        let held = held(relation);
        if self
            .found
            .get(&relation.oid)
            .is_none_or(|(found, _)| *found != held)
        {
            self.found.insert(relation.oid, (held, written));
        }
    }

    /// True if there is an outdated root, and the stream has come past the position at which that was found.
    pub(super) fn is_due(&self, head: Lsn) -> bool {
        self.found.values().any(|(_, written)| *written <= head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Relation;

    #[test]
    fn a_root_is_due_once_for_each_thing_that_the_database_says_of_it() {
        let mut weak = Relation::of_messages("p", true);
        weak.oid = 7;
        weak.replica_identity = ReplicaIdentity::Default;
        let full = Relation {
            replica_identity: ReplicaIdentity::Full,
            ..weak.clone()
        };
        let mut roots = Roots::default();
        assert!(!roots.differs(&full), "no row has come");
        roots.read_by(&weak);
        assert!(roots.differs(&full) && !roots.differs(&weak));
        roots.find(&full, Lsn(10));
        roots.find(&full, Lsn(20));
        assert!(!roots.is_due(Lsn(9)) && roots.is_due(Lsn(10)));
        roots.begin();
        roots.read_by(&weak);
        assert!(!roots.differs(&full) && !roots.is_due(Lsn(99)));
        // The stream may have described it on its own.
        let mut other = full.clone();
        other.key = vec![0];
        roots.find(&other, Lsn(30));
        roots.read_by(&other);
        assert!(!roots.is_due(Lsn(99)));
    }
}

//! [`Unsettled`]: tables whose rows have uncertain columns.

use std::collections::HashMap;

use crate::event::Relation;
use crate::lsn::Lsn;
use crate::schema::Tables;

/// The uncertain tables, by OID, and the position from which on they can be settled.
#[derive(Debug, Default)]
pub(super) struct Unsettled(HashMap<u32, Lsn>);

impl Unsettled {
    /// Notes what was learned of a table. One that is uncertain, and of which nothing new is known, will not be settled
    /// later either: its rows come under another description, or not at all.
    pub(super) fn note(&mut self, relation: &Relation, tables: &Tables) {
        self.set(
            relation.oid,
            relation.is_uncertain().then(|| tables.settles_at(relation)),
        );
    }

    fn set(&mut self, oid: u32, settles_at: Option<Lsn>) {
        match settles_at {
            Some(lsn) => self.0.insert(oid, lsn),
            None => self.0.remove(&oid),
        };
    }

    /// The tables to ask for before the rows of a transaction that commits at `commit`. They count as settled.
    #[inline]
    pub(super) fn due(&mut self, commit: Lsn) -> Vec<u32> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let due = self.0.extract_if(|_, settles_at| *settles_at <= commit);
        due.map(|(oid, _)| oid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_due_once_the_stream_has_passed_where_it_settles() {
        let mut unsettled = Unsettled::default();
        assert!(unsettled.due(Lsn(9)).is_empty());
        unsettled.set(1, Some(Lsn(10)));
        unsettled.set(2, Some(Lsn(20)));
        unsettled.set(3, Some(Lsn(10)));
        unsettled.set(3, None);
        assert!(unsettled.due(Lsn(9)).is_empty());
        assert_eq!(unsettled.due(Lsn(10)), [1]);
        assert_eq!(unsettled.due(Lsn(99)), [2]);
        assert!(unsettled.due(Lsn(99)).is_empty());
    }
}

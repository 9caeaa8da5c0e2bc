//! [`Found`]: the versions of tables that the database showed, until they are in the log.
//!
//! Only the log's writer adds records to it. Until it has added what the database showed, subscriptions must still be
//! checked against that.
//!
//! Subscriptions that do not fit a new version are ended a little after it was found. Meanwhile they get changes, and so
//! positions, like all others: a client that loses its connection before it was told would come back with a position
//! behind the one where the version was found. So a version counts from the position on at which the subscriptions were
//! ended, and until then for every position.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::event::Relation;
use crate::log::{MAX_VERSIONS, TableHistory, TableRecord, TableVersion};
use crate::lsn::{Lsn, Position};

/// The versions by the tables' OIDs, at most as many of each as the log keeps.
#[derive(Debug, Default)]
pub(super) struct Found {
    records: HashMap<u32, Vec<TableRecord>>,
    /// The last versions that the subscribers of tables are not told of yet.
    untold: HashMap<u32, Untold>,
    /// The published tables, if the log's writer has not taken the last answer yet.
    published: Option<HashSet<u32>>,
}

#[derive(Debug)]
struct Untold {
    /// The position at which the first of the versions was found; `None` if the stream showed all of them.
    first: Option<Lsn>,
    last: Arc<Relation>,
    /// Somebody is about to tell them of the last one.
    is_on_its_way: bool,
}

impl Found {
    /// Takes a version that the database showed. True if it changes a known table: it is the newest version, and
    /// differs from the ones before.
    pub(super) fn take(&mut self, noted: &TableHistory, version: TableVersion) -> bool {
        let oid = version.relation.oid;
        let news = self.with(noted, oid, |known| known.news(&version));
        if news.is_change {
            self.has_changed(&version.relation, Some(version.seen));
        }
        if news.is_new {
            let records = self.records.entry(oid).or_default();
            records.push(version.into());
            if records.len() > MAX_VERSIONS {
                records.remove(0);
                if let Some(TableRecord::Version { is_cut, .. }) = records.first_mut() {
                    *is_cut = true;
                }
            }
        }
        news.is_change
    }

    /// Notes that subscribers have to be told of a version, which was found at a position or shown by the stream.
    pub(super) fn has_changed(&mut self, version: &Arc<Relation>, found_at: Option<Lsn>) {
        let before = self.untold.get(&version.oid).and_then(|before| before.first);
        let untold = Untold {
            first: before.or(found_at),
            last: Arc::clone(version),
            is_on_its_way: false,
        };
        self.untold.insert(version.oid, untold);
    }

    /// The versions that nobody is about to tell the subscribers of.
    pub(super) fn changed(&self) -> Vec<Arc<Relation>> {
        let changed = self.untold.values().filter(|untold| !untold.is_on_its_way);
        changed.map(|untold| Arc::clone(&untold.last)).collect()
    }

    /// Notes that the subscribers of these versions are about to be told.
    pub(super) fn telling(&mut self, versions: &[Arc<Relation>]) {
        for version in versions {
            if let Some(untold) = self.untold.get_mut(&version.oid) {
                untold.is_on_its_way = Arc::ptr_eq(&untold.last, version);
            }
        }
    }

    /// Takes the currently published tables.
    pub(super) fn take_published(&mut self, published: HashSet<u32>) {
        self.published = Some(published);
    }

    /// Asks about a table, by the log and what was found besides it.
    pub(super) fn with<T>(&self, noted: &TableHistory, oid: u32, ask: impl FnOnce(&TableHistory) -> T) -> T {
        let Some(records) = self.records.get(&oid) else {
            return ask(noted);
        };
        let mut known = noted.of_table(oid);
        records.iter().for_each(|record| known.apply(record));
        ask(&known)
    }

    /// The position at which the first version of a table was found that its subscribers are not told of yet.
    fn found_untold(&self, oid: u32) -> Option<Lsn> {
        self.untold.get(&oid).and_then(|untold| untold.first)
    }

    /// The versions of a table that a client with the state at `from` may have been told, and all later ones; `None` if
    /// they are not known any more.
    pub(super) fn versions_since(
        &self,
        noted: &TableHistory,
        oid: u32,
        from: Position,
    ) -> Option<Vec<Arc<Relation>>> {
        let before = self.found_untold(oid).map(|first| Lsn(first.0.saturating_sub(1)));
        let from = before.map_or(from, |before| from.min(Position::after(before)));
        self.with(noted, oid, |known| known.versions_since(oid, from))
    }

    /// Notes that the subscribers of tables were told of these versions, behind everything that ends at `at` or before.
    pub(super) fn told(&mut self, versions: &[Arc<Relation>], at: Lsn) {
        for told in versions {
            let untold = self.untold.get(&told.oid);
            if untold.is_none_or(|untold| !Arc::ptr_eq(&untold.last, told)) {
                continue;
            }
            let first = self.untold.remove(&told.oid).and_then(|untold| untold.first);
            let Some(first) = first else { continue };
            for record in self.records.get_mut(&told.oid).into_iter().flatten() {
                if let TableRecord::Version { version, .. } = record
                    && version.seen >= first
                {
                    version.seen = version.seen.max(Lsn(at.0.saturating_add(1)));
                }
            }
        }
    }

    /// The versions to be noted in the log.
    pub(super) fn records(&self) -> Vec<TableRecord> {
        let told = self
            .records
            .iter()
            .filter(|(oid, _)| self.found_untold(**oid).is_none());
        told.flat_map(|(_, records)| records).cloned().collect()
    }

    /// Forgets versions that the log holds now.
    pub(super) fn noted(&mut self, noted: &[TableRecord]) {
        for record in noted {
            if let Some(records) = self.records.get_mut(&record.oid()) {
                records.retain(|found| !is_it(found, record));
                if records.is_empty() {
                    self.records.remove(&record.oid());
                }
            }
        }
    }

    /// Takes the published tables, if there is a new answer.
    pub(super) fn published(&mut self) -> Option<HashSet<u32>> {
        self.published.take()
    }
}

/// True if two records are the same.
fn is_it(a: &TableRecord, b: &TableRecord) -> bool {
    match (a, b) {
        (TableRecord::Version { version: a, .. }, TableRecord::Version { version: b, .. }) => {
            a.seen == b.seen && Arc::ptr_eq(&a.relation, &b.relation)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Attnum;

    /// A version with one column, of that number.
    fn version(seen: u64, number: i16) -> TableVersion {
        let mut relation = Relation::of_messages("t", true);
        relation.oid = 1;
        relation.columns.truncate(1);
        relation.columns[0].attnum = Attnum::new(number);
        TableVersion {
            seen: Lsn(seen),
            highest: number,
            relation: Arc::new(relation),
        }
    }

    fn count(found: &Found, noted: &TableHistory, from: u64) -> Option<usize> {
        let since = found.versions_since(noted, 1, Position::after(Lsn(from)));
        since.map(|versions| versions.len())
    }

    /// All are told of a version that was taken.
    fn tell(found: &mut Found, version: &TableVersion, at: u64) {
        found.told(&[Arc::clone(&version.relation)], Lsn(at));
    }

    #[test]
    fn a_version_counts_from_where_the_subscribers_were_told_of_it() {
        let mut found = Found::default();
        let mut noted = TableHistory::default();
        found.take(&noted, version(10, 1));
        let [second, third] = [version(30, 2), version(40, 3)];
        assert!(found.take(&noted, second.clone()));
        // Whatever position a client has, it may not know yet.
        assert_eq!([20, 30, 99].map(|from| count(&found, &noted, from)), [Some(2); 3]);
        assert!(found.records().is_empty(), "the log does not say it yet");
        assert!(found.take(&noted, third.clone()));
        tell(&mut found, &second, 45);
        assert_eq!(
            count(&found, &noted, 99),
            Some(3),
            "of the last one nobody is told"
        );
        tell(&mut found, &third, 50);
        assert_eq!(
            [20, 50, 51].map(|from| count(&found, &noted, from)),
            [Some(3), Some(3), Some(1)]
        );
        let records = found.records();
        records.iter().for_each(|record| noted.apply(record));
        found.noted(&records);
        assert_eq!(
            [20, 50, 51].map(|from| count(&found, &noted, from)),
            [Some(3), Some(3), Some(1)]
        );
    }

    #[test]
    fn a_version_that_the_stream_showed_is_told_of_once_beside_those_that_were_found() {
        let mut found = Found::default();
        let mut noted = TableHistory::default();
        noted.apply(&version(10, 1).into());
        let [second, third] = [version(30, 2), version(40, 3)];
        assert!(found.take(&noted, second.clone()));
        // The stream has it in the log already.
        noted.apply(&third.clone().into());
        found.has_changed(&third.relation, None);
        let changed = found.changed();
        assert!(matches!(&changed[..], [only] if Arc::ptr_eq(only, &third.relation)));
        found.telling(&changed);
        assert!(found.changed().is_empty());
        tell(&mut found, &second, 45);
        assert_eq!(
            count(&found, &noted, 99),
            Some(3),
            "of the last one nobody is told"
        );
        tell(&mut found, &third, 50);
        assert_eq!(found.records().len(), 1);
        assert_eq!(count(&found, &noted, 99), Some(1));
    }

    #[test]
    fn what_was_found_is_known_beside_the_log_until_that_says_it() {
        let mut found = Found::default();
        let mut noted = TableHistory::default();
        assert!(!found.take(&noted, version(10, 1)), "there was nothing before it");
        assert!(!found.take(&noted, version(20, 1)));
        let second = version(30, 2);
        assert!(found.take(&noted, second.clone()));
        tell(&mut found, &second, 20);
        assert_eq!(count(&found, &noted, 15), Some(2));
        let first = found.records();
        assert_eq!(first.len(), 2);
        // One more comes meanwhile.
        let third = version(40, 3);
        assert!(found.take(&noted, third.clone()));
        tell(&mut found, &third, 20);
        first.iter().for_each(|record| noted.apply(record));
        found.noted(&first);
        assert_eq!(found.records().len(), 1);
        assert_eq!(count(&found, &noted, 15), Some(3));
        let rest = found.records();
        rest.iter().for_each(|record| noted.apply(record));
        found.noted(&rest);
        assert!(found.records().is_empty());
        assert!(!found.take(&noted, version(50, 3)), "the log says it");
        assert_eq!(count(&found, &noted, 15), Some(3));
    }

    #[test]
    fn of_a_log_that_takes_nothing_no_more_is_kept_than_it_would_keep() {
        let mut found = Found::default();
        let noted = TableHistory::default();
        for number in 1..100_i16 {
            let version = version(10 * u64::from(number.unsigned_abs()), number);
            found.take(&noted, version.clone());
            tell(&mut found, &version, 0);
        }
        assert_eq!(found.records().len(), MAX_VERSIONS);
        assert_eq!(count(&found, &noted, 10), None);
        assert_eq!(count(&found, &noted, 985), Some(2));
    }
}

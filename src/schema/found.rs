//! [`Found`]: the versions of tables that the database showed, until the log says the same.
//!
//! Only the writer of the log notes anything in it. Between a look at the database and that, whoever subscribes here
//! must not know less than the tables that it is shown.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::log::{MAX_VERSIONS, TableHistory, TableRecord, TableVersion};

/// The versions by the tables' OIDs, at most as many of each as the log keeps.
#[derive(Debug, Default)]
pub(super) struct Found {
    records: HashMap<u32, Vec<TableRecord>>,
    /// The published tables, if there was an answer that the log's writer has not heard of.
    published: Option<HashSet<u32>>,
}

impl Found {
    /// Takes a version that the database showed. Returns whether it is a change of a table that was known: the newest
    /// of its versions, and not as the ones before.
    pub(super) fn take(&mut self, noted: &TableHistory, version: TableVersion) -> bool {
        let oid = version.relation.oid;
        let news = self.with(noted, oid, |known| known.news(&version));
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

    /// Takes the tables that are published now.
    pub(super) fn take_published(&mut self, published: HashSet<u32>) {
        self.published = Some(published);
    }

    /// Asks what is known of a table: what the log says, and what was found beside it.
    pub(super) fn with<T>(&self, noted: &TableHistory, oid: u32, ask: impl FnOnce(&TableHistory) -> T) -> T {
        let Some(records) = self.records.get(&oid) else {
            return ask(noted);
        };
        let mut known = noted.of_table(oid);
        records.iter().for_each(|record| known.apply(record));
        ask(&known)
    }

    /// The versions that are to be noted in the log.
    pub(super) fn records(&self) -> Vec<TableRecord> {
        self.records.values().flatten().cloned().collect()
    }

    /// Forgets those: the log says them.
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

    /// The published tables, if they were not asked for since the last answer.
    pub(super) fn published(&mut self) -> Option<HashSet<u32>> {
        self.published.take()
    }
}

/// True if two records are of the same find.
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
    use crate::event::Relation;
    use crate::lsn::{Lsn, Position};
    use crate::types::Attnum;

    /// A version whose one column has that number.
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
        let since = |known: &TableHistory| known.versions_since(1, Position::after(Lsn(from)));
        found.with(noted, 1, since).map(|versions| versions.len())
    }

    #[test]
    fn what_was_found_is_known_beside_the_log_until_that_says_it() {
        let mut found = Found::default();
        let mut noted = TableHistory::default();
        assert!(!found.take(&noted, version(10, 1)), "there was nothing before it");
        assert!(!found.take(&noted, version(20, 1)));
        assert!(found.take(&noted, version(30, 2)));
        assert_eq!(count(&found, &noted, 15), Some(2));
        let first = found.records();
        assert_eq!(first.len(), 2);
        // One more comes meanwhile.
        assert!(found.take(&noted, version(40, 3)));
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
            found.take(&noted, version(10 * u64::from(number.unsigned_abs()), number));
        }
        assert_eq!(found.records().len(), MAX_VERSIONS);
        assert_eq!(count(&found, &noted, 10), None);
        assert_eq!(count(&found, &noted, 985), Some(2));
    }
}

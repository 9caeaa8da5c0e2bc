//! Bytes as records about tables: an error, or a history that its own records make again.
//!
//! Each record comes after its length in two bytes, with its kind first.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walcast::log::{TableHistory, TableRecord};
use walcast::lsn::{Lsn, Position};

fuzz_target!(|bytes: &[u8]| {
    let mut history = TableHistory::default();
    let mut rest = bytes;
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (record, after) = after.split_at(len);
        rest = after;
        let Some(Ok(record)) = record
            .split_first()
            .map(|(kind, payload)| TableRecord::parse(*kind, payload))
        else {
            continue;
        };
        history.apply(&record);
        let once = history.clone();
        history.apply(&record);
        assert!(history == once, "the same record once more changes nothing");
        check(&history, &record);
    }
    let mut again = TableHistory::default();
    history.records().for_each(|record| again.apply(&record));
    assert!(history == again, "its records make it again");
    let newest = history.versions().map(|version| version.seen).max();
    let next = history.next_epoch(newest.unwrap_or(Lsn::ZERO));
    assert!(next.versions().all(|version| version.seen == Lsn::ZERO));
});

/// It knows what it was told last.
fn check(history: &TableHistory, record: &TableRecord) {
    match record {
        TableRecord::Name { table, holder } => {
            assert_eq!(history.holder(table), Some(*holder));
            assert_eq!(history.name(holder.oid), Some(table));
            assert!(history.showing(table, holder.oid, Lsn::ZERO).is_none());
        }
        TableRecord::Version { version, .. } => {
            let oid = version.relation.oid;
            let at = history.versions_since(oid, Position::after(version.seen));
            assert!(at.is_none_or(|versions| !versions.is_empty()));
            assert!(history.of_table(oid).newest_version(oid).is_some());
        }
    }
}

//! Records about tables are known as long as the history goes on: across segments, restarts, rollbacks and crashes.

use std::fs;

use proptest::prelude::*;

use super::support::*;
use crate::event::TableName;
use crate::journal::{Journal, Options, Retention, Writer};
use crate::log::{Holder, Log, LogWriter, TableHistory, TableRecord, TableVersion};
use crate::lsn::{Epoch, Lsn, Start};
use crate::types::Attnum;

/// The record of that number: every third is a name, the others are columns.
fn record(number: u16) -> TableRecord {
    let oid = u32::from(number % 5);
    let position = Lsn(u64::from(number) * 10);
    if number.is_multiple_of(3) {
        let table = TableName::new("public", format!("name {}", number % 4));
        let holder = Holder { oid, since: position };
        return TableRecord::Name { table, holder };
    }
    let mut relation = (*relation(oid, &["a", "b"])).clone();
    relation.columns[1].attnum = Attnum::new(number as i16);
    let version = TableVersion {
        seen: position,
        highest: number as i16,
        relation: relation.into(),
    };
    version.into()
}

/// Everything that the records of the numbers up to `last` say.
fn said(last: u16) -> TableHistory {
    let mut history = TableHistory::default();
    (1..=last).for_each(|number| history.apply(&record(number)));
    history
}

fn noted(journal: &Journal) -> TableHistory {
    journal.tables().borrow().clone()
}

/// So many records, each before a transaction of its own.
fn write(writer: &mut Writer, count: u16) {
    for number in 1..=count {
        writer.note_table(&record(number)).unwrap();
        write_tx(writer, &txs_from(number.into(), 1, 4)[0]).unwrap();
    }
    writer.flush().unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    /// Changes, and perhaps a note between any two of them; committed, or rolled back first.
    Transaction {
        rows: Vec<bool>,
        is_lost: bool,
    },
    Note,
    Flush,
    Reopen,
    Retain,
}

fn step() -> impl Strategy<Value = Step> {
    let transaction = (
        proptest::collection::vec(proptest::bool::weighted(0.2), 1..12),
        proptest::bool::weighted(0.3),
    );
    prop_oneof![
        4 => transaction.prop_map(|(rows, is_lost)| Step::Transaction { rows, is_lost }),
        2 => Just(Step::Note),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Retain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_log_says_everything_that_was_noted(steps in proptest::collection::vec(step(), 1..40)) {
        let bed = Bed::new(tiny());
        let (mut writer, mut journal) = bed.open().unwrap();
        let mut last = 0; let mut all = Vec::<Tx>::new();
        for step in steps {
            match step {
                Step::Transaction { rows, is_lost } => {
                    let tx = &txs_from(all.len() as u64 + 1, 1, rows.len() as u64)[0];
                    for (change, is_noted) in tx.changes.iter().zip(&rows) {
                        if *is_noted {
                            last += 1;
                            writer.note_table(&record(last)).unwrap();
                        }
                        write_change(&mut writer, &relations(), change).unwrap();
                    }
                    if is_lost {
                        writer.rollback().unwrap();
                        write_tx(&mut writer, tx).unwrap();
                    } else {
                        writer.commit(&tx.transaction()).unwrap();
                    }
                    all.push(tx.clone());
                }
                Step::Note => {
                    last += 1;
                    writer.note_table(&record(last)).unwrap();
                }
                Step::Flush => writer.flush().unwrap(),
                Step::Reopen => {
                    writer.flush().unwrap();
                    drop((writer, journal));
                    (writer, journal) = bed.open().unwrap();
                    prop_assert_eq!(journal.recovery().cut_bytes, 0);
                }
                Step::Retain => {
                    let nothing = Retention { max_bytes: Some(0), max_age: None };
                    journal.retain(&nothing, std::time::SystemTime::now()).unwrap();
                }
            }
            prop_assert_eq!(noted(&journal), said(last));
        }
        writer.flush().unwrap();
        drop((writer, journal));
        let (_writer, journal) = bed.open().unwrap();
        prop_assert_eq!(noted(&journal), said(last));
        let held: Vec<Tx> = all.into_iter().filter(|tx| tx.end > journal.earliest().0).collect();
        prop_assert_eq!(read(&journal, Start::Earliest).unwrap(), held);
    }
}

#[test]
fn of_a_tail_that_was_cut_the_log_says_what_stands_before_its_whole_transactions() {
    let bed = Bed::new(Options {
        segment_bytes: 1 << 20,
        ..tiny()
    });
    let (mut writer, journal) = bed.open().unwrap();
    write(&mut writer, 12);
    drop((writer, journal));
    let path = &bed.segments()[0];
    let bytes = fs::read(path).unwrap();
    let begins = bytes.len() - 4000;
    let mut counts = Vec::new();
    for cut in (begins..=bytes.len()).step_by(3).chain([bytes.len()]) {
        fs::write(path, &bytes[..cut]).unwrap();
        let (_writer, journal) = bed.open().unwrap();
        let whole = journal.head().0 / 100;
        // The next note may be there, too.
        let count = (whole..=whole + 1).find(|count| noted(&journal) == said(*count as u16));
        counts.push(count.unwrap_or_else(|| panic!("after {cut} bytes, {whole} transactions")));
    }
    assert!(counts.is_sorted() && counts.last() == Some(&12) && counts[0] < 8);
}

#[test]
fn whatever_byte_is_damaged_no_transaction_is_held_without_what_was_noted_before_it() {
    let bed = Bed::new(tiny());
    let (mut writer, journal) = bed.open().unwrap();
    write(&mut writer, 6);
    drop((writer, journal));
    let files: Vec<_> = bed
        .segments()
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let (newest, bytes) = files.last().unwrap();
    assert!(files.len() >= 3 && bytes.len() > 900, "{}", files.len());
    for at in 0..bytes.len() {
        for entry in fs::read_dir(newest.parent().unwrap()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        files
            .iter()
            .for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(newest, damaged).unwrap();
        let (_writer, journal) = bed.open().unwrap();
        let whole = journal.head().0 / 100;
        assert!(
            (whole..=whole + 1).any(|count| noted(&journal) == said(count as u16)),
            "byte {at}, {whole} transactions"
        );
    }
}

#[test]
fn a_note_inside_a_transaction_outlives_its_rollback_and_a_crash_before_its_end() {
    let bed = Bed::new(tiny());
    let (mut writer, journal) = bed.open().unwrap();
    write(&mut writer, 1);
    let large = &txs_from(2, 1, 40)[0];
    let begin = |writer: &mut Writer, number: u16| {
        for (at, change) in large.changes.iter().enumerate() {
            if at == 20 {
                writer.note_table(&record(number)).unwrap();
            }
            write_change(writer, &relations(), change).unwrap();
        }
        writer.flush().unwrap();
    };
    begin(&mut writer, 2);
    writer.rollback().unwrap();
    assert_eq!(noted(&journal), said(2));
    begin(&mut writer, 3);
    drop((writer, journal));
    let (writer, journal) = bed.open().unwrap();
    assert!(journal.recovery().cut_bytes > 0);
    assert_eq!((noted(&journal), journal.head()), (said(3), Lsn(100)));
    drop((writer, journal));
    let (mut writer, journal) = bed.open().unwrap();
    assert_eq!(journal.recovery().cut_bytes, 0);
    write_all(&mut writer, std::slice::from_ref(large));
    assert_eq!(noted(&journal), said(3));
    assert_eq!(read(&journal, Start::Earliest).unwrap()[1], *large);
}

#[test]
fn a_new_history_begins_with_the_columns_and_one_that_is_taken_over_with_what_is_known_of_it() {
    let bed = Bed::new(tiny());
    let (mut writer, mut journal) = bed.open().unwrap();
    write(&mut writer, 12);
    let before = noted(&journal);
    writer.new_epoch(&identity(), Lsn(5_000)).unwrap();
    assert_eq!(noted(&journal), before.next_epoch(Lsn(5_000)));
    drop((writer, journal));
    (writer, journal) = bed.open().unwrap();
    assert_eq!(noted(&journal), before.next_epoch(Lsn(5_000)));

    let epoch = Epoch::of(7);
    writer
        .adopt_epoch(&identity(), &epoch, Lsn(6_000), said(9))
        .unwrap();
    assert_eq!(noted(&journal), said(9));
    // It may crash before the first segment has its name.
    drop((writer, journal));
    let first = bed.segments().pop().unwrap();
    fs::rename(&first, first.with_extension("seg.new")).unwrap();
    let (writer, journal) = bed.open().unwrap();
    assert_eq!(
        (noted(&journal), journal.epoch(), journal.head()),
        (said(9), epoch, Lsn(6_000))
    );
    drop((writer, journal));
    assert_eq!(noted(&bed.open().unwrap().1), said(9));
}

#[test]
fn a_history_of_more_tables_than_a_segment_has_bytes_begins_no_segment_for_each_transaction() {
    let bed = Bed::new(tiny());
    let (mut writer, journal) = bed.open().unwrap();
    (1..=40).for_each(|number| writer.note_table(&record(number)).unwrap());
    writer.flush().unwrap();
    let before = bed.segments().len();
    for tx in &txs(20, 1) {
        write_all(&mut writer, std::slice::from_ref(tx));
    }
    let bytes = journal.size_bytes();
    assert!(bytes > 4 * tiny().segment_bytes, "{bytes}");
    assert!(
        bed.segments().len() - before <= 4,
        "{}",
        bed.segments().len() - before
    );
}

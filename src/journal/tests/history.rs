//! A history reads back as it was written: whole, in order, from any place.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;

use super::support::*;
use crate::journal::Options;
use crate::log::{Entry, Error, Log, LogReader, LogWriter};
use crate::lsn::{Lsn, Position, Start};

fn after(position: &str) -> Start {
    Start::After(position.parse().unwrap())
}

fn value() -> impl Strategy<Value = Owned> {
    prop_oneof![
        1 => Just(Owned::Null),
        1 => Just(Owned::Unchanged),
        4 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Owned::Text),
        1 => proptest::collection::vec(any::<u8>(), 400..1500).prop_map(Owned::Text),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let tuple = || proptest::collection::vec(value(), 0..4);
    (0..7u8, 0..3u32, tuple(), tuple()).prop_map(|(kind, relation, mut old, mut new)| {
        if kind < 2 || kind == 6 {
            old.clear();
        }
        if kind >= 4 {
            new.clear();
        }
        Change {
            kind,
            relation,
            old,
            new,
        }
    })
}

/// Transactions with room between their ends, each with whether the writer flushes and reopens after it.
fn history() -> impl Strategy<Value = Vec<(Tx, bool, bool)>> {
    let changes = prop_oneof![4 => proptest::collection::vec(change(), 0..4), 1 => proptest::collection::vec(change(), 0..40)];
    let one = (2..50u64, changes, any::<bool>(), proptest::bool::weighted(0.1));
    proptest::collection::vec(one, 0..20).prop_map(|all| {
        let mut end = 0;
        let tx = |(gap, changes, flush, reopen)| {
            end += gap;
            (Tx { end, changes }, flush, reopen)
        };
        all.into_iter().map(tx).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_history_reads_back_from_any_place(history in history(), max_bytes in 1..3000usize) {
        let bed = Bed::new(small());
        let (mut writer, mut journal) = bed.open().unwrap();
        for (tx, flush, reopen) in &history {
            write_tx(&mut writer, tx).unwrap();
            if *flush {
                writer.flush().unwrap();
            }
            if *reopen {
                writer.flush().unwrap();
                drop((writer, journal));
                (writer, journal) = bed.open().unwrap();
            }
        }
        writer.flush().unwrap();
        let txs: Vec<Tx> = history.into_iter().map(|(tx, _, _)| tx).collect();
        let head = txs.last().map_or(0, |tx| tx.end);
        prop_assert_eq!(journal.head(), Lsn(head));
        for reopened in [false, true] {
            if reopened {
                drop((writer, journal));
                (writer, journal) = bed.open().unwrap();
            }
            for place in 0..=head + 1 {
                for position in [Position::after(Lsn(place)), Position::after_change(Lsn(place + 1), 0)] {
                    let whole = position.to_string().contains(':');
                    let rest: Vec<_> = txs.iter().filter(|tx| tx.end > place || (whole && tx.end == place + 1)).cloned().collect();
                    let mut reader = journal.reader(Start::After(position)).unwrap();
                    prop_assert_eq!(read_on(&mut reader, max_bytes).unwrap(), rest);
                }
            }
        }
    }
}

#[test]
fn a_transaction_becomes_visible_by_its_commit_and_flush() {
    let bed = Bed::new(Options::default());
    let (mut writer, journal) = bed.open().unwrap();
    let mut reader = journal.reader(Start::Now).unwrap();
    let tx = &txs(1, 3)[0];
    for change in &tx.changes {
        write_change(&mut writer, &relations(), change).unwrap();
    }
    writer.flush().unwrap();
    assert!(reader.next_blocking(1000).unwrap().is_none());
    writer.commit(&tx.transaction()).unwrap();
    assert_eq!((journal.head(), writer.head()), (Lsn(0), Lsn(100)));
    assert!(reader.next_blocking(1000).unwrap().is_none());
    writer.flush().unwrap();
    assert_eq!(
        (journal.head(), journal.last_transaction_end()),
        (Lsn(100), Lsn(100))
    );
    assert_eq!(read_on(&mut reader, 1000).unwrap(), std::slice::from_ref(tx));
    assert_eq!(reader.position(), Position::after(Lsn(100)));
    assert_eq!(journal.sync_now(Duration::from_secs(10)).unwrap(), Lsn(100));
    assert_eq!(journal.durable(), Lsn(100));
}

#[test]
fn positions_move_the_head_and_are_kept() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    write_all(&mut writer, &txs(1, 1));
    writer.position(Lsn(150)).unwrap();
    writer.position(Lsn(120)).unwrap();
    writer.flush().unwrap();
    assert_eq!(
        (journal.head(), journal.last_transaction_end()),
        (Lsn(150), Lsn(100))
    );
    drop((writer, journal));
    let (mut writer, journal) = bed.open().unwrap();
    assert_eq!(
        (journal.head(), journal.last_transaction_end()),
        (Lsn(150), Lsn(100))
    );
    let mut reader = journal.reader(after("0/64")).unwrap();
    let batch = reader.next_blocking(1000).unwrap().unwrap();
    assert!(matches!(
        batch.entries().collect::<Vec<_>>()[..],
        [Ok(Entry::Position(Lsn(150)))]
    ));
    assert_eq!(reader.position(), Position::after(Lsn(150)));
    let refused = writer.commit(
        &Tx {
            end: 150,
            changes: vec![],
        }
        .transaction(),
    );
    assert!(matches!(
        refused,
        Err(Error::NotAfter {
            end: Lsn(150),
            head: Lsn(150)
        })
    ));
}

#[test]
fn a_position_inside_a_transaction_is_refused() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    write_change(&mut writer, &relations(), &Change::insert(0, "x")).unwrap();
    assert!(matches!(writer.position(Lsn(200)), Err(Error::InTransaction)));
    writer.rollback().unwrap();
    writer.position(Lsn(200)).unwrap();
    writer.flush().unwrap();
    assert_eq!(journal.head(), Lsn(200));
}

#[test]
fn a_large_transaction_is_written_as_it_comes_and_rolled_back_without_a_trace() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    write_all(&mut writer, &txs(2, 1));
    let size = || std::fs::metadata(&bed.segments()[0]).unwrap().len();
    let before = size();
    for i in 0..500 {
        write_change(
            &mut writer,
            &relations(),
            &Change::insert(i % 3, "a row of a large transaction"),
        )
        .unwrap();
    }
    assert!(size() > before + 10_000, "memory is bounded");
    assert_eq!(journal.head(), Lsn(200));
    writer.rollback().unwrap();
    assert_eq!(size(), before);
    let rest = txs_from(3, 20, 5);
    write_all(&mut writer, &rest);
    assert_eq!(read(&journal, after("0/C8")).unwrap(), rest);
    drop((writer, journal));
    let (_writer, journal) = bed.open().unwrap();
    assert_eq!(read(&journal, after("0/C8")).unwrap(), rest);
}

#[test]
fn a_reader_inside_a_large_transaction_knows_it_and_its_place() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let mut all = txs(3, 2);
    all[1] = txs_from(2, 1, 400).remove(0);
    write_all(&mut writer, &all);
    let mut reader = journal.reader(after("0/64")).unwrap();
    let batch = reader.next_blocking(1).unwrap().unwrap();
    let Some(Ok(Entry::Piece(piece))) = batch.entries().next() else {
        panic!("no piece")
    };
    assert_eq!(
        (piece.transaction, piece.first_seq, piece.last),
        (all[1].transaction(), 0, false)
    );
    assert_eq!(
        reader.position(),
        Position::after_change(Lsn(200), piece.count - 1)
    );
    let from = piece.count - 2;
    let rest: Vec<u32> = piece
        .changes
        .from_seq(from)
        .unwrap()
        .map(|change| change.unwrap().seq)
        .collect();
    assert_eq!(rest, [from, from + 1]);

    let again = read(&journal, Start::After(reader.position())).unwrap();
    assert_eq!(
        again,
        all[1..],
        "the whole transaction: the caller skips what it has"
    );
    assert_eq!(read(&journal, after("0/C8")).unwrap(), all[2..]);
}

#[test]
fn a_reader_beyond_the_head_has_nothing_until_the_head_has_passed_it() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let all = txs(3, 1);
    let mut reader = journal.reader(after("0/C8")).unwrap();
    write_all(&mut writer, &all[..2]);
    assert!(reader.next_blocking(1000).unwrap().is_none());
    write_all(&mut writer, &all[2..]);
    assert_eq!(read_on(&mut reader, 1000).unwrap(), all[2..]);
}

/// Writes a history of which little stays in the journal's memory, and reads it back: the reads that may have waited
/// for the disk.
fn slow_reads(disk_is_slow: bool) -> u64 {
    let bed = Bed::new(Options {
        segment_bytes: 1 << 20,
        ..small()
    });
    let (mut writer, journal) = bed.open().unwrap();
    let mut all = txs(30, 2);
    all[10] = txs_from(11, 1, 400).remove(0);
    write_all(&mut writer, &all);
    bed.faults.disk_is_slow.store(disk_is_slow, Ordering::SeqCst);
    bed.faults.slow_reads.store(0, Ordering::SeqCst);
    assert_eq!(read(&journal, Start::Earliest).unwrap(), all);
    bed.faults.slow_reads.load(Ordering::SeqCst)
}

#[test]
fn the_disk_is_waited_for_only_where_the_system_has_not_kept_what_was_written() {
    assert_eq!(slow_reads(false), 0);
    assert!(slow_reads(true) > 0);
}

#[test]
fn who_waits_for_the_disk_gives_its_other_tasks_away() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let all = txs(100, 3);
    write_all(&mut writer, &all);
    bed.faults.disk_is_slow.store(true, Ordering::SeqCst);
    let (go_on, gate) = mpsc::channel();
    *bed.faults.read_gate.lock() = Some(gate);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .unwrap();
    let mut reader = journal.reader(Start::Earliest).unwrap();
    let read = runtime.spawn(async move {
        // It is run by the same thread, which then waits for it.
        tokio::spawn(async move { go_on.send(()) });
        reader.next(1000).await.map(|batch| batch.is_some())
    });
    assert!(runtime.block_on(read).unwrap().unwrap());
}

#[test]
fn readers_follow_the_writer_across_segments() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let all = txs(400, 3);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|i| {
                let journal = journal.clone();
                let expected = &all;
                scope.spawn(move || {
                    let mut reader = journal.reader(Start::Earliest).unwrap();
                    let mut seen = Vec::new();
                    while seen.len() < expected.len() {
                        seen.extend(read_on(&mut reader, 100 << (4 * i)).unwrap());
                        std::thread::yield_now();
                    }
                    assert_eq!(&seen, expected);
                })
            })
            .collect();
        for (i, tx) in all.iter().enumerate() {
            write_tx(&mut writer, tx).unwrap();
            if i % 7 == 0 {
                writer.flush().unwrap();
            }
        }
        writer.flush().unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(bed.segments().len() > 5);
}

//! History that is no longer kept, and histories that end.

use std::fs;
use std::time::{Duration, SystemTime};

use super::support::*;
use crate::journal::Retention;
use crate::log::{Error, Identity, Log, LogReader, LogWriter, RetentionHold, TableHistory};
use crate::lsn::{Epoch, Lsn, Position, Start};

fn at_most(max_bytes: u64) -> Retention {
    Retention {
        max_bytes: Some(max_bytes),
        max_age: None,
    }
}

#[test]
fn the_oldest_segments_go_when_there_is_too_much() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let all = txs(300, 2);
    write_all(&mut writer, &all);
    let size = journal.size_bytes();
    assert_eq!(
        size,
        bed.segments()
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum::<u64>()
    );
    assert_eq!(journal.retain(&at_most(size), SystemTime::now()).unwrap(), 0);
    let removed = journal.retain(&at_most(size / 2), SystemTime::now()).unwrap();
    assert!(removed > 0);
    assert_eq!(journal.size_bytes(), size - removed);
    assert!(journal.size_bytes() <= size / 2 && journal.size_bytes() > size / 2 - 8192);
    let earliest = journal.earliest();
    let kept: Vec<_> = all.iter().filter(|tx| tx.end > earliest.0).cloned().collect();
    assert_eq!(read(&journal, Start::Earliest).unwrap(), kept);
    assert_eq!(
        read(&journal, Start::After(Position::after(earliest))).unwrap(),
        kept
    );
    for gone in [
        Position::after(Lsn(earliest.0 - 1)),
        Position::after_change(earliest, 1),
    ] {
        assert!(
            matches!(journal.reader(Start::After(gone)).err(), Some(Error::Expired { earliest: e }) if e == earliest)
        );
    }
    drop((writer, journal));
    let (mut writer, journal) = bed.open().unwrap();
    assert_eq!(journal.earliest(), earliest);
    assert_eq!(read(&journal, Start::Earliest).unwrap(), kept);
    journal.retain(&at_most(0), SystemTime::now()).unwrap();
    assert_eq!(bed.segments().len(), 1, "the newest is kept");
    write_all(&mut writer, &txs_from(301, 50, 2));
}

#[test]
fn segments_go_by_age_but_not_beyond_a_pin() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    write_all(&mut writer, &txs(300, 2));
    let hour = Retention {
        max_bytes: None,
        max_age: Some(Duration::from_secs(3600)),
    };
    let now = SystemTime::now();
    let later = now + Duration::from_secs(4000);
    assert_eq!(journal.retain(&hour, now).unwrap(), 0);
    let pin = journal.hold(Lsn(0));
    let loose = journal.hold(Lsn(30_000));
    assert_eq!(journal.retain(&hour, later).unwrap(), 0);
    pin.advance(Lsn(10_000));
    pin.advance(Lsn(5_000));
    assert!(journal.retain(&hour, later).unwrap() > 0);
    assert!(journal.earliest() > Lsn(0) && journal.earliest() <= Lsn(10_000));
    drop((pin, loose));
    journal.retain(&hour, later).unwrap();
    assert_eq!(bed.segments().len(), 1);
}

#[test]
fn a_reader_finishes_its_segment_and_then_hears_that_the_next_is_gone() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let all = txs(300, 2);
    write_all(&mut writer, &all);
    let mut reader = journal.reader(Start::Earliest).unwrap();
    let first = reader.next_blocking(1).unwrap().unwrap();
    journal.retain(&at_most(0), SystemTime::now()).unwrap();
    let mut batches = vec![first];
    let earliest = loop {
        match reader.next_blocking(500) {
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => panic!("the head was reached over a gap"),
            Err(Error::Expired { earliest }) => break earliest,
            Err(e) => panic!("{e}"),
        }
    };
    let seen: usize = batches.iter().map(|batch| batch.entries().count()).sum();
    assert_eq!(reader.position(), Position::after(Lsn(seen as u64 * 100)));
    assert!(seen > 10 && earliest > reader.position().end);
}

#[test]
fn what_was_set_aside_goes_first() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    write_all(&mut writer, &txs(300, 2));
    drop((writer, journal));
    fs::remove_file(&bed.segments()[2]).unwrap();
    let opened = bed.open().unwrap();
    assert_eq!(opened.1.recovery().set_aside.len(), 2);
    drop(opened);
    let (_writer, journal) = bed.open().unwrap();
    let size = journal.size_bytes();
    let earliest = journal.earliest();
    journal.retain(&at_most(size - 1), SystemTime::now()).unwrap();
    journal
        .retain(&at_most(journal.size_bytes() - 1), SystemTime::now())
        .unwrap();
    assert_eq!(journal.earliest(), earliest);
    let files = fs::read_dir(bed.dir.path().join("segments")).unwrap().count();
    assert_eq!(files, bed.segments().len());
}

#[test]
fn a_new_epoch_replaces_the_history() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    write_all(&mut writer, &txs(100, 2));
    let old_epoch = journal.epoch();
    let old_files = bed.segments();
    let old: Vec<_> = old_files
        .iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let mut reader = journal.reader(Start::Earliest).unwrap();
    write_change(
        &mut writer,
        &relations(),
        &Change::insert(0, "of a transaction that is forgotten"),
    )
    .unwrap();
    let identity = Identity {
        timeline: 2,
        ..identity()
    };
    writer.new_epoch(&identity, Lsn(5_000)).unwrap();
    assert_ne!(journal.epoch(), old_epoch);
    assert_eq!(
        (journal.head(), journal.durable(), journal.earliest()),
        (Lsn(5_000), Lsn(5_000), Lsn(5_000))
    );
    assert!(matches!(reader.next_blocking(100), Err(Error::EpochChanged)));
    let rest = txs_from(51, 100, 2);
    write_all(&mut writer, &rest);
    assert_eq!(read(&journal, Start::Earliest).unwrap(), rest);
    assert!(matches!(
        journal.reader(Start::After(Position::after(Lsn(4_999)))).err(),
        Some(Error::Expired { earliest: Lsn(5_000) })
    ));
    let epoch = journal.epoch();
    drop((writer, journal, reader));

    for (path, bytes) in old {
        fs::write(path, bytes).unwrap();
    }
    let (mut writer, journal) = bed.open().unwrap();
    assert!(
        old_files.iter().all(|path| !path.exists()),
        "a crash left the old segments; they are removed"
    );
    assert_eq!((journal.epoch(), journal.identity()), (epoch.clone(), identity));
    assert_eq!(read(&journal, Start::Earliest).unwrap(), rest);
    writer.set_timeline(3).unwrap();
    drop((writer, journal));
    let (_writer, journal) = bed.open().unwrap();
    assert_eq!((journal.identity().timeline, journal.epoch()), (3, epoch));
}

#[test]
fn a_history_that_another_journal_held_up_to_there_keeps_its_name_and_none_of_ours() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    write_all(&mut writer, &txs(100, 2));
    let epoch = journal.epoch();
    let mut reader = journal.reader(Start::Earliest).unwrap();
    // Even our own: what lies between is missing.
    writer
        .adopt_epoch(&identity(), &epoch, Lsn(5_000), TableHistory::default())
        .unwrap();
    assert_eq!(
        (journal.epoch(), journal.earliest(), journal.head()),
        (epoch.clone(), Lsn(5_000), Lsn(5_000))
    );
    assert!(matches!(reader.next_blocking(100), Err(Error::EpochChanged)));
    let rest = txs_from(51, 100, 2);
    write_all(&mut writer, &rest);
    let other = Epoch::of(7);
    drop((writer, journal, reader));
    let (mut writer, journal) = bed.open().unwrap();
    assert_eq!(journal.epoch(), epoch);
    assert_eq!(read(&journal, Start::Earliest).unwrap(), rest);
    writer
        .adopt_epoch(&identity(), &other, Lsn(50_000), TableHistory::default())
        .unwrap();
    assert_eq!((journal.epoch(), journal.epoch().number()), (other, Some(7)));
}

#[test]
fn a_crash_in_the_middle_of_a_new_epoch_leaves_the_old_history_or_the_new() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    write_all(&mut writer, &txs(100, 2));
    let manifest = bed.dir.path().join("journal.json");
    let old_manifest = fs::read(&manifest).unwrap();
    let old_files = bed.segments();
    let old: Vec<_> = old_files
        .iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let old_epoch = journal.epoch();
    writer.new_epoch(&identity(), Lsn(5_000)).unwrap();
    let new_epoch = journal.epoch();
    let new_manifest = fs::read(&manifest).unwrap();
    let first = bed.segments().pop().unwrap();
    drop((writer, journal));

    let restore = |manifest_bytes: &[u8]| {
        fs::rename(&first, first.with_extension("seg.new")).unwrap();
        old.iter()
            .for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        fs::write(&manifest, manifest_bytes).unwrap();
    };
    restore(&new_manifest);
    let (writer, journal) = bed.open().unwrap();
    assert_eq!(
        (journal.epoch(), journal.head(), journal.earliest()),
        (new_epoch, Lsn(5_000), Lsn(5_000))
    );
    drop((writer, journal));
    restore(&old_manifest);
    let (_writer, journal) = bed.open().unwrap();
    assert_eq!((journal.epoch(), journal.head()), (old_epoch, Lsn(10_000)));
    assert_eq!(read(&journal, Start::Earliest).unwrap(), txs(100, 2));
}

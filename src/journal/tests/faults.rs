//! Disks that are full, slow or broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::support::*;
use crate::journal::{self, Observer, Options};
use crate::log::{Error, Log, LogReader, LogWriter};
use crate::lsn::{Lsn, Position, Start};

const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_full_disk_loses_nothing_and_goes_on_when_there_is_space() {
    let all = txs(20, 9);
    let needed = {
        let bed = Bed::new(small());
        let (mut writer, journal) = bed.open().unwrap();
        write_all(&mut writer, &all);
        journal.size_bytes()
    };
    for space in (0..needed - 200).step_by(59) {
        let bed = Bed::new(small());
        let (mut writer, journal) = bed.open().unwrap();
        bed.faults.set_space(space);
        let mut was_full = false;
        for tx in &all {
            for change in &tx.changes {
                was_full |= taken(write_change(&mut writer, &relations(), change));
            }
            was_full |= taken(writer.commit(&tx.transaction()));
        }
        was_full |= taken(writer.flush());
        assert!(was_full);
        let head = journal.head().0;
        let seen = read(&journal, Start::Earliest).unwrap();
        assert_eq!(
            seen,
            all.iter()
                .filter(|tx| tx.end <= head)
                .cloned()
                .collect::<Vec<_>>()
        );
        bed.faults.set_space(1 << 30);
        writer.flush().unwrap();
        assert_eq!(read(&journal, Start::Earliest).unwrap(), all);
        assert_eq!(journal.sync_now(LONG).unwrap(), Lsn(2000));
        drop((writer, journal));
        let (_writer, journal) = bed.open().unwrap();
        assert_eq!(journal.recovery().cut_bytes, 0);
        assert_eq!(read(&journal, Start::Earliest).unwrap(), all);
    }
}

#[test]
fn without_file_descriptors_nothing_fails_for_good() {
    let all = txs(100, 9);
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    bed.faults.descriptors_end.store(true, Ordering::SeqCst);
    let mut was_full = false;
    let (first, rest) = all.split_at(20);
    for tx in first {
        for change in &tx.changes {
            was_full |= taken(write_change(&mut writer, &relations(), change));
        }
        was_full |= taken(writer.commit(&tx.transaction()));
    }
    assert!(was_full, "it never needed another file");
    let error = writer.flush().unwrap_err();
    assert!(
        error.is_exhaustion() && matches!(error, Error::Full(_)),
        "{error}"
    );
    assert!(
        error.to_string().contains("no file descriptor is left"),
        "{error}"
    );
    bed.faults.descriptors_end.store(false, Ordering::SeqCst);
    write_all(&mut writer, rest);
    assert_eq!(read(&journal, Start::Earliest).unwrap(), all);
    // Nor do readers lose their place.
    let mut reader = journal.reader(Start::Earliest).unwrap();
    bed.faults.descriptors_end.store(true, Ordering::SeqCst);
    let stopped = loop {
        match reader.next_blocking(1) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it never needed another file"),
            Err(error) => break error,
        }
    };
    assert!(stopped.is_exhaustion(), "{stopped}");
    let at = reader.position();
    bed.faults.descriptors_end.store(false, Ordering::SeqCst);
    assert!(reader.next_blocking(1).unwrap().is_some() && reader.position() > at);
}

/// True if the disk was full, which no call may lose anything by.
fn taken(result: Result<(), Error>) -> bool {
    match result {
        Ok(()) => false,
        Err(Error::Full(_)) => true,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn a_crash_while_the_disk_is_full_loses_only_what_was_not_written() {
    let all = txs(20, 3);
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    bed.faults.set_space(2500);
    let full = all.iter().any(|tx| taken(write_tx(&mut writer, tx)));
    assert!(full);
    let head = journal.head();
    assert!(head > Lsn(0));
    drop((writer, journal));
    bed.faults.set_space(1 << 30);
    let (_writer, journal) = bed.open().unwrap();
    assert_eq!((journal.head(), journal.recovery().cut_bytes), (head, 0));
}

#[test]
fn short_writes_are_continued() {
    let bed = Bed::new(small());
    bed.faults.longest_write.store(7, Ordering::SeqCst);
    let (mut writer, journal) = bed.open().unwrap();
    let all = txs(30, 5);
    write_all(&mut writer, &all);
    assert_eq!(read(&journal, Start::Earliest).unwrap(), all);
    drop((writer, journal));
    assert_eq!(read(&bed.open().unwrap().1, Start::Earliest).unwrap(), all);
}

#[test]
fn after_a_failed_write_nothing_more_is_taken() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let all = txs(2, 1);
    write_all(&mut writer, &all[..1]);
    bed.faults.writes_fail.store(true, Ordering::SeqCst);
    write_tx(&mut writer, &all[1]).unwrap();
    assert!(matches!(
        writer.flush(),
        Err(Error::Failed(cause)) if cause.to_string().contains(": write ")
    ));
    bed.faults.writes_fail.store(false, Ordering::SeqCst);
    assert!(matches!(writer.flush(), Err(Error::Failed(_))));
    assert!(matches!(
        writer.commit(&all[1].transaction()),
        Err(Error::Failed(_))
    ));
    assert!(matches!(journal.check(), Err(journal::Error::Failed { .. })));
    assert!(matches!(journal.sync_now(LONG), Err(Error::Failed(_))));
    assert_eq!(read(&journal, Start::Earliest).unwrap(), all[..1]);
}

#[test]
fn after_a_failed_sync_nothing_is_durable_and_everyone_hears_of_it() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let all = txs(2, 1);
    write_all(&mut writer, &all[..1]);
    journal.sync_now(LONG).unwrap();
    let durable_changes = journal.durable_changes();
    bed.faults.syncs_fail.store(true, Ordering::SeqCst);
    write_all(&mut writer, &all[1..]);
    assert!(matches!(
        journal.sync_now(LONG),
        Err(Error::Failed(cause)) if cause.to_string().contains(": sync ")
    ));
    bed.faults.syncs_fail.store(false, Ordering::SeqCst);
    assert!(
        matches!(journal.sync_now(LONG), Err(Error::Failed(_))),
        "never synced again"
    );
    assert!(matches!(
        write_tx(&mut writer, &txs(3, 1)[2]),
        Err(Error::Failed(_))
    ));
    assert!(matches!(writer.flush(), Err(Error::Failed(_))));
    assert!(matches!(writer.rollback(), Err(Error::Failed(_))));
    assert_eq!(journal.durable(), Lsn(100));
    assert!(durable_changes.has_changed().unwrap());
    assert_eq!(*durable_changes.borrow(), Lsn(100));
    assert_eq!(
        read(&journal, Start::Earliest).unwrap(),
        all,
        "what was written can still be read"
    );
}

#[test]
fn one_sync_covers_all_that_was_written_before_it_began() {
    let observed = Arc::new(Observed::default());
    let bed = Bed::new(Options {
        observer: observed.clone(),
        ..Options::default()
    });
    let (mut writer, journal) = bed.open().unwrap();
    let before = bed.faults.syncs.load(Ordering::SeqCst);
    {
        let _gate = bed.faults.sync_gate.lock();
        for tx in &txs(1000, 1) {
            write_tx(&mut writer, tx).unwrap();
            writer.flush().unwrap();
        }
        assert_eq!((journal.head(), journal.durable()), (Lsn(100_000), Lsn(0)));
        assert!(matches!(
            journal.sync_now(Duration::from_millis(1)),
            Err(Error::TimedOut)
        ));
    }
    assert_eq!(journal.sync_now(LONG).unwrap(), Lsn(100_000));
    let syncs = bed.faults.syncs.load(Ordering::SeqCst) - before;
    assert!(syncs <= 2);
    let written = journal.size_bytes();
    drop(writer);
    assert_eq!(observed.syncs.load(Ordering::SeqCst), syncs);
    let synced = observed.bytes.load(Ordering::SeqCst);
    assert!(
        synced < written && synced > written - 200,
        "all but the segment's header"
    );
}

#[derive(Default)]
struct Observed {
    syncs: AtomicU64,
    bytes: AtomicU64,
}

impl Observer for Observed {
    fn synced(&self, _: Duration, bytes: u64) {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }
}

#[test]
fn durable_follows_by_itself_and_never_passes_the_head() {
    let bed = Bed::new(small());
    let (mut writer, journal) = bed.open().unwrap();
    let mut last = Lsn(0);
    for tx in &txs(300, 2) {
        write_tx(&mut writer, tx).unwrap();
        writer.flush().unwrap();
        let durable = journal.durable();
        assert!(last <= durable && durable <= journal.head());
        last = durable;
    }
    while journal.durable() < Lsn(30_000) {
        std::thread::yield_now();
    }
    assert_eq!(
        journal.reader(Start::Now).unwrap().position(),
        Position::after(journal.durable())
    );
}

//! Files that a crash, a disk or a person has changed: nothing wrong is ever served, and the rest goes on.

use std::fs;
use std::path::Path;

use super::support::*;
use crate::journal::{self, Journal, Options, Writer};
use crate::log::{Error, Identity, Log, LogReader, LogWriter};
use crate::lsn::{Lsn, Position, Start};

fn some_history() -> Vec<Tx> {
    let mut all = txs(8, 2);
    all[6] = txs_from(7, 1, 9).remove(0);
    all
}

fn written(options: Options) -> (Bed, Vec<Tx>) {
    let bed = Bed::new(options);
    let (mut writer, _journal) = bed.open().unwrap();
    let all = some_history();
    write_all(&mut writer, &all);
    drop(writer);
    (bed, all)
}

/// The transactions that are held, oldest first; what turns out damaged meanwhile is no longer held.
fn held(journal: &Journal) -> Vec<Tx> {
    loop {
        match read(journal, Start::Earliest) {
            Ok(held) => return held,
            Err(Error::Expired { earliest }) => assert_eq!(earliest, journal.earliest()),
            Err(e) => panic!("{e}"),
        }
    }
}

/// Checks that an unbroken part of the history up to the head is held, and that the rest can be written again.
fn goes_on(mut writer: Writer, journal: Journal, all: &[Tx]) -> (usize, usize) {
    let expected = |head: Lsn| -> Vec<Tx> {
        let earliest = journal.earliest();
        all.iter()
            .filter(|tx| tx.end > earliest.0 && tx.end <= head.0)
            .cloned()
            .collect()
    };
    let before = held(&journal);
    assert_eq!(before, expected(journal.head()));
    let head = journal.head();
    let rest: Vec<Tx> = all.iter().filter(|tx| tx.end > head.0).cloned().collect();
    write_all(&mut writer, &rest);
    assert_eq!(held(&journal), expected(Lsn(u64::MAX)));
    (before.len(), rest.len())
}

fn restore(path: &Path, bytes: &[u8], bed: &Bed) {
    let dir = bed.dir.path().join("segments");
    for entry in fs::read_dir(&dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_tail_cut_at_any_byte_opens_to_whole_transactions_and_goes_on() {
    let (bed, all) = written(Options {
        segment_bytes: 1 << 20,
        ..tiny()
    });
    let [path] = &bed.segments()[..] else {
        panic!("one segment")
    };
    let bytes = fs::read(path).unwrap();
    let header = bytes
        .windows(16)
        .position(|window| window == epoch(&bed).as_bytes())
        .unwrap()
        + 16;
    let mut lengths = Vec::new();
    for cut in header..=bytes.len() {
        restore(path, &bytes[..cut], &bed);
        let (writer, journal) = bed.open().unwrap();
        assert_eq!(journal.durable(), journal.head());
        let whole = fs::metadata(path).unwrap().len();
        assert_eq!(journal.recovery().cut_bytes, cut as u64 - whole);
        lengths.push(goes_on(writer, journal, &all).0);
    }
    assert!(lengths.is_sorted());
    assert_eq!((lengths[0], lengths.last()), (0, Some(&all.len())));
}

fn epoch(bed: &Bed) -> String {
    let (_writer, journal) = bed.open().unwrap();
    journal.epoch().0
}

#[test]
fn whatever_byte_is_damaged_nothing_wrong_is_served() {
    let (bed, all) = written(tiny());
    let files: Vec<_> = bed
        .segments()
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert!(files.len() >= 3, "{}", files.len());
    for (at, (path, bytes)) in files.iter().enumerate() {
        for i in 0..bytes.len() {
            restore(path, b"", &bed);
            for (path, bytes) in &files {
                fs::write(path, bytes).unwrap();
            }
            let mut damaged = bytes.clone();
            damaged[i] ^= 1 << (i % 8);
            fs::write(path, &damaged).unwrap();
            let (writer, journal) = match bed.open() {
                Ok(opened) => opened,
                Err(e) => panic!("{} byte {i}: {e}", path.display()),
            };
            let (before, rest) = goes_on(writer, journal, &all);
            assert!(before < all.len(), "{} byte {i} does not matter", path.display());
            assert_eq!(rest > 0, at + 1 == files.len(), "only the newest segment is cut");
        }
    }
}

#[test]
fn damage_that_is_found_while_reading_takes_the_segment_out_of_the_history() {
    let bed = Bed::new(tiny());
    let (mut writer, journal) = bed.open().unwrap();
    let all = some_history();
    write_all(&mut writer, &all);
    let mut early = journal.reader(Start::Earliest).unwrap();
    assert!(early.next_blocking(1).unwrap().is_some());
    let path = &bed.segments()[1];
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();

    let mut reader = journal.reader(Start::Earliest).unwrap();
    let earliest = loop {
        match reader.next_blocking(1) {
            Ok(Some(_)) => {}
            Err(Error::Expired { earliest }) => break earliest,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(earliest, journal.earliest());
    assert!(reader.position() < Position::after(earliest));
    assert!(matches!(read_on(&mut early, 100), Err(Error::Expired { .. })));
    goes_on(writer, journal, &all);
}

#[test]
fn damage_in_the_newest_segment_is_an_error_to_its_readers() {
    let bed = Bed::new(Options {
        segment_bytes: 1 << 20,
        ..tiny()
    });
    let (mut writer, journal) = bed.open().unwrap();
    write_all(&mut writer, &some_history());
    let path = &bed.segments()[0];
    let mut bytes = fs::read(path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(path, bytes).unwrap();
    let mut reader = journal.reader(Start::After(Position::after(Lsn(600)))).unwrap();
    let mut seen = 0;
    let error = loop {
        match reader.next_blocking(1) {
            Ok(Some(_)) => seen += 1,
            Ok(None) => panic!("the damaged transaction was passed over"),
            Err(error) => break error,
        }
    };
    assert!(seen > 1);
    assert!(matches!(&error, Error::Failed(cause) if cause.to_string().contains("is damaged at byte")));
    assert!(
        matches!(reader.next_blocking(1), Err(again) if again.to_string() == error.to_string()),
        "asked again it answers the same"
    );
}

#[test]
fn garbage_after_the_tail_is_cut_off() {
    for garbage in [&[0; 5][..], &[0; 5000], &[0xff; 40], b"\x01\0\0\0\0\0\0\0\x06x"] {
        let (bed, all) = written(tiny());
        let path = bed.segments().pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(garbage);
        fs::write(&path, bytes).unwrap();
        let (writer, journal) = bed.open().unwrap();
        assert_eq!(journal.recovery().cut_bytes, garbage.len() as u64);
        assert_eq!(goes_on(writer, journal, &all), (all.len(), 0));
    }
}

#[test]
fn what_is_before_a_missing_segment_is_set_aside() {
    let (bed, all) = written(tiny());
    let segments = bed.segments();
    fs::remove_file(&segments[1]).unwrap();
    let (writer, journal) = bed.open().unwrap();
    assert_eq!(
        journal.recovery().set_aside,
        [segments[0].with_extension("seg.aside")]
    );
    assert!(journal.earliest() > Lsn(0));
    let expired = journal.reader(Start::After(Position::after(Lsn(0))));
    assert!(matches!(expired.err(), Some(Error::Expired { earliest }) if earliest == journal.earliest()));
    goes_on(writer, journal, &all);
}

#[test]
fn empty_and_copied_segments_are_set_aside() {
    let (bed, all) = written(tiny());
    let segments = bed.segments();
    fs::write(&segments[1], b"").unwrap();
    let next = |path: &Path| {
        let sequence = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
        path.with_file_name(format!("{:016x}.seg", sequence + 1))
    };
    let copy = next(segments.last().unwrap());
    fs::copy(&segments[0], &copy).unwrap();
    fs::write(next(&copy), b"").unwrap();
    fs::write(copy.with_file_name("notes.txt"), b"hello").unwrap();
    let (writer, journal) = bed.open().unwrap();
    assert_eq!(journal.recovery().set_aside.len(), 4);
    assert_eq!(bed.segments(), segments[2..]);
    assert_eq!(journal.head(), Lsn(all.last().unwrap().end));
    goes_on(writer, journal, &all);
}

#[test]
fn a_segment_of_another_history_is_refused() {
    let (bed, _) = written(tiny());
    let (other, _) = written(tiny());
    let segments = bed.segments();
    fs::copy(&other.segments()[1], &segments[1]).unwrap();
    let Err(journal::Error::ForeignSegment { path, epoch: found }) = bed.open().map(|_| ()) else {
        panic!("opened")
    };
    assert_eq!((&path, found), (&segments[1], epoch(&other)));
}

#[test]
fn a_directory_is_opened_once_and_by_its_owner_only() {
    let (bed, _) = written(tiny());
    let opened = bed.open().unwrap();
    assert!(matches!(bed.open().err(), Some(journal::Error::Locked(dir)) if dir == bed.dir.path()));
    drop(opened);
    let others = [
        Identity {
            system_id: 1,
            ..identity()
        },
        Identity {
            database_oid: 5,
            ..identity()
        },
        Identity {
            slot: "other".to_owned(),
            ..identity()
        },
    ];
    for other in others {
        let error = bed.open_as(&other).err().unwrap();
        assert!(error.to_string().contains("--data-dir"), "{error}");
        let is_successor = other.succeeds(&identity());
        assert_eq!(
            matches!(error, journal::Error::DatabaseRecreated { .. }),
            is_successor
        );
        assert_eq!(matches!(error, journal::Error::NotOurs { .. }), !is_successor);
    }
    let renamed = Identity {
        database: "renamed".to_owned(),
        timeline: 2,
        ..identity()
    };
    assert_eq!(bed.open_as(&renamed).unwrap().1.identity(), identity());
}

#[test]
fn a_database_in_the_place_of_another_begins_a_new_epoch_where_that_is_asked_for() {
    let (bed, _) = written(Options {
        accepts_recreated_database: true,
        ..tiny()
    });
    let anew = Identity {
        database_oid: 5,
        ..identity()
    };
    let (mut writer, journal) = bed.open_as(&anew).unwrap();
    let before = journal.epoch();
    assert_eq!(journal.identity(), identity(), "until it begins");
    writer.new_epoch(&anew, Lsn(7)).unwrap();
    assert_eq!((journal.identity(), journal.head()), (anew.clone(), Lsn(7)));
    assert_ne!(journal.epoch(), before);
    let stranger = Identity {
        database: "stranger".to_owned(),
        database_oid: 6,
        ..identity()
    };
    assert!(matches!(
        writer.new_epoch(&stranger, Lsn(9)),
        Err(Error::Failed(cause)) if cause.to_string().contains("belongs to")
    ));
    drop((writer, journal));
    assert_eq!(bed.open_as(&anew).unwrap().1.identity(), anew);
}

#[test]
fn a_directory_without_a_good_identity_is_refused() {
    let (bed, _) = written(tiny());
    let path = bed.dir.path().join("journal.json");
    let good = fs::read_to_string(&path).unwrap();
    for bad in ["", "{", "[]", &good.replace("slot", "slut")] {
        fs::write(&path, bad).unwrap();
        assert!(
            matches!(bed.open().err(), Some(journal::Error::Identity { .. })),
            "{bad}"
        );
    }
    for format in [0, 3] {
        fs::write(
            &path,
            good.replace("\"format\": 2", &format!("\"format\": {format}")),
        )
        .unwrap();
        assert!(
            matches!(bed.open().err(), Some(journal::Error::Format { format: found, .. }) if found == format)
        );
    }
    fs::remove_file(&path).unwrap();
    let error = bed.open().err().unwrap();
    assert!(
        error.to_string().contains("missing although there are segments"),
        "{error}"
    );
    fs::write(&path, good).unwrap();
    bed.open().unwrap();
}

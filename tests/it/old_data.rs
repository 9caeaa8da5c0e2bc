//! Data directories of earlier versions open as before, and clients resume in them. `tests/data/journals` has one of each
//! version, with what it holds in `history.txt`.
//!
//! `before-0.1.0` is of format 1, written by the program at commit 3056ca0; `JOURNAL=record` writes that of the version
//! that is being built. Each holds two segments or more, a transaction in chunks, messages, tables that were altered,
//! renamed and replaced, a restart and a `kill -9`.

mod history;
mod kept;
mod newer;
mod resumed;

use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use history::read;
use kept::{Kept, manifest};
use walcast::event::{Op, Relation, TableName, Timestamp, Transaction, Tuple, Value, encode_values};
use walcast::journal::{Journal, Options, Writer};
use walcast::log::{Identity, Log, LogWriter};
use walcast::lsn::{Lsn, Position, Start};
use walcast::postgres::ConnInfo;
use walcast::schema::Tables;

use crate::support::versions;

/// The version that kept names and columns in files of their own.
const OLD: &str = "before-0.1.0";

fn copy() -> Kept {
    Kept::of(OLD)
}

fn identity() -> Identity {
    copy().identity()
}

fn open(dir: &Path) -> (Writer, Journal) {
    Journal::open(dir, Options::default(), &identity()).unwrap()
}

#[test]
fn there_is_a_data_directory_of_each_version() {
    if std::env::var_os("JOURNAL").is_some_and(|value| value == "record") {
        kept::record();
    }
    let mut missing = versions();
    let kept = Kept::all();
    missing.retain(|version| !kept.iter().any(|kept| kept.name == *version));
    assert!(
        missing.is_empty(),
        "no data directory of {missing:?} in tests/data/journals: JOURNAL=record cargo test --test it old_data writes that of \
         this version"
    );
}

#[test]
fn the_history_of_each_version_is_read_whole_and_from_any_place() {
    for kept in Kept::all() {
        let name = &kept.name;
        let epoch = kept.manifest()["epoch"].as_str().unwrap().to_owned();
        let (_writer, journal) = Journal::open(kept.path(), Options::default(), &kept.identity()).unwrap();
        assert_eq!(
            journal.recovery(),
            &Default::default(),
            "{name}: nothing was cut, nothing set aside"
        );
        let (all, end) = read(&journal, Start::Earliest);
        let expected = kept.history();
        assert_eq!(all, expected, "{name}");
        assert_eq!(journal.epoch().0, epoch, "{name}");
        assert_eq!(end, Position::after(journal.head()), "{name}");
        // From behind each transaction the rest comes, and that alone.
        let heads = expected
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.starts_with(' '));
        for (number, line) in heads.filter(|(_, line)| line.ends_with("last true")) {
            let end: Lsn = line.split(' ').next().unwrap().parse().unwrap();
            let rest = expected
                .lines()
                .skip(number + 1)
                .skip_while(|line| line.starts_with(' '));
            let rest: String = rest.flat_map(|line| [line, "\n"]).collect();
            assert_eq!(
                read(&journal, Start::After(Position::after(end))).0,
                rest,
                "{name}: {line}"
            );
        }
    }
}

#[test]
fn the_history_of_each_version_goes_on() {
    for kept in Kept::all() {
        let name = &kept.name;
        let open = || Journal::open(kept.path(), Options::default(), &kept.identity()).unwrap();
        let (mut writer, journal) = open();
        let before = read(&journal, Start::Earliest).0;
        let head = journal.head();
        let relation = holder(&journal, "orders");
        let mut bytes = Vec::new();
        encode_values([Value::Text(b"3"), Value::Text(b"Bonn")].into_iter(), &mut bytes);
        let (new, _) = Tuple::parse(&bytes).unwrap();
        writer.change(&relation, &Op::Insert { new }).unwrap();
        let transaction = Transaction {
            xid: 900,
            commit: Lsn(head.0 + 8),
            end: Lsn(head.0 + 16),
            committed_at: Timestamp(0),
        };
        writer.commit(&transaction).unwrap();
        writer.flush().unwrap();
        drop((writer, journal));
        let (_writer, journal) = open();
        let (all, _) = read(&journal, Start::Earliest);
        let (new, _) = read(&journal, Start::After(Position::after(head)));
        let oid = relation.oid;
        assert!(
            new.contains(&format!(
                r#"orders {oid} (id:integer city:text) insert "3" "Bonn""#
            )),
            "{name}: {new}"
        );
        assert_eq!(all, before + &new, "{name}");
    }
}

/// The newest version of the table that has a name in the end.
fn holder(journal: &Journal, name: &str) -> Arc<Relation> {
    let noted = journal.tables();
    let oid = noted
        .borrow()
        .holder(&TableName::new("public", name))
        .unwrap()
        .oid;
    let nobody = ConnInfo::parse_with("postgresql://nobody@localhost/none", |_| None).unwrap();
    Tables::new(nobody, Vec::new(), &[], noted)
        .newest_version(oid)
        .unwrap()
}

fn tables(dir: &Path) -> Arc<Tables> {
    let (_writer, journal) = open(dir);
    let nobody = ConnInfo::parse_with("postgresql://nobody@localhost/none", |_| None).unwrap();
    Tables::new(nobody, Vec::new(), &[], journal.tables())
}

#[test]
fn the_names_and_columns_of_an_earlier_version_are_known() {
    let dir = copy();
    let tables = tables(dir.path());
    check_holders(dir.path());
    let columns = |relation: &Arc<Relation>| {
        let names = relation.columns.iter().map(|column| column.name.as_str());
        names.collect::<Vec<_>>().join(" ")
    };
    let since = |from| {
        let versions = tables.versions_since(16_391, Position::after(Lsn(from))).unwrap();
        versions.iter().map(columns).collect::<Vec<_>>()
    };
    let first = "id status total tags mood";
    let second = "id status amount tags mood city";
    assert_eq!(since(0x192_a8a0), [first, second]);
    assert_eq!(since(0x19c_cec0), [second]);
}

/// The names of the tables are known in a directory, whatever version wrote it last.
fn check_holders(dir: &Path) {
    let (_writer, journal) = open(dir);
    let noted = journal.tables();
    let holder = |name: &str| {
        let noted = noted.borrow();
        let holder = noted.holder(&TableName::new("public", name)).unwrap();
        (holder.oid, holder.since.to_string())
    };
    assert_eq!(holder("orders"), (16_408, "0/1AC5C51".to_owned()));
    assert_eq!(holder("purchases"), (16_391, "0/1AC5C51".to_owned()));
    assert_eq!(holder("lines"), (16_398, "0/1AC5C51".to_owned()));
}

/// The names of what is in a directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_log_takes_over_what_files_said_of_tables_and_an_earlier_version_is_kept_out() {
    let dir = copy();
    let all = tables(dir.path());
    let versions = |tables: &Tables| tables.versions_since(16_391, Position::after(Lsn::ZERO)).unwrap();
    assert_eq!(names(dir.path()), ["LOCK", "journal.json", "segments"]);
    // Versions before 2 say that they do not know the format, and leave the directory alone.
    assert_eq!(manifest(dir.path())["format"], 2);
    assert_eq!(manifest(dir.path())["walcast"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        names(&dir.path().join("segments")).len(),
        3,
        "a new segment says it"
    );
    for _ in 0..2 {
        check_holders(dir.path());
        assert_eq!(versions(&tables(dir.path())), versions(&all));
        assert_eq!(names(&dir.path().join("segments")).len(), 3);
    }
}

#[test]
fn a_crash_while_the_log_takes_over_what_files_said_loses_nothing() {
    let done = copy();
    drop(open(done.path()));
    let newest = "segments/0000000000000004.seg";
    // The manifest is written first, then the segment, then the files are removed.
    for (manifest, segment) in [(true, false), (true, true)] {
        let dir = copy();
        let take = |name: &str| assert!(fs::copy(done.path().join(name), dir.path().join(name)).is_ok());
        if manifest {
            take("journal.json");
        }
        if segment {
            take(newest);
            // What the files say does not count any more.
            fs::write(dir.path().join("tables.jsonl"), "").unwrap();
        }
        let before = read(&open(done.path()).1, Start::Earliest);
        check_holders(dir.path());
        assert_eq!(read(&open(dir.path()).1, Start::Earliest), before);
        assert_eq!(names(dir.path()), ["LOCK", "journal.json", "segments"]);
    }
}

#[test]
fn a_line_that_was_cut_short_does_not_count_and_a_link_is_not_followed() {
    let dir = copy();
    let path = dir.path().join("tables.jsonl");
    let mut text = fs::read(&path).unwrap();
    text.extend_from_slice(br#"{"epoch":"31d925dc8f86d86d","table":{"schema":"public","na"#);
    fs::write(&path, text).unwrap();
    check_holders(dir.path());

    let dir = copy();
    let path = dir.path().join("tables.jsonl");
    let aside = dir.path().with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    let opened = Journal::open(dir.path(), Options::default(), &identity());
    let error = opened.err().unwrap();
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("symbolic link"), "{cause}");
    fs::remove_file(aside).unwrap();
}

//! A data directory of an earlier version opens as before. `tests/data/journal-v1` was written by the program at commit
//! 3056ca0: two segments, a transaction in chunks, messages, tables that were altered, renamed and replaced, a restart
//! and a `kill -9`. `history.txt` beside it says what it holds.

use std::error::Error as _;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use walcast::event::{OldTuple, Tuple};
use walcast::event::{Op, Relation, TableName, Timestamp, Transaction, Value, encode_values};
use walcast::journal::{Journal, Options, Writer};
use walcast::log::{Entry, Identity, Log, LogReader, LogWriter, Piece};
use walcast::lsn::{Lsn, Position, Start};
use walcast::postgres::ConnInfo;
use walcast::schema::Tables;

const OLD: &str = "tests/data/journal-v1";

/// A copy, since opening a directory may write to it.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let segments = Path::new(OLD).join("segments");
    fs::create_dir(dir.path().join("segments")).unwrap();
    let files = ["journal.json", "tables.jsonl", "columns.jsonl"].map(PathBuf::from);
    let found = fs::read_dir(segments).unwrap();
    let found = found.map(|entry| Path::new("segments").join(entry.unwrap().file_name()));
    for file in files.into_iter().chain(found) {
        fs::copy(Path::new(OLD).join(&file), dir.path().join(&file)).unwrap();
    }
    dir
}

fn identity() -> Identity {
    Identity {
        system_id: 7_713_350_212_176_728_388,
        database_oid: 16_384,
        database: "shop".to_owned(),
        slot: "app".to_owned(),
        timeline: 1,
    }
}

fn open(dir: &Path) -> (Writer, Journal) {
    Journal::open(dir, Options::default(), &identity()).unwrap()
}

fn values(tuple: &Tuple<'_>) -> String {
    let value = |value| match value {
        Value::Null => "null".to_owned(),
        Value::Unchanged => "unchanged".to_owned(),
        Value::Text(text) => format!("{:?}", String::from_utf8_lossy(text)),
    };
    tuple.values().map(value).collect::<Vec<_>>().join(" ")
}

fn op(op: &Op<'_>) -> String {
    let old = |old: &OldTuple<'_>| match old {
        OldTuple::Key(key) => format!("key {}", values(key)),
        OldTuple::Full(full) => format!("full {}", values(full)),
    };
    match op {
        Op::Insert { new } => format!("insert {}", values(new)),
        Op::Update { old: None, new } => format!("update to {}", values(new)),
        Op::Update { old: Some(was), new } => format!("update {} to {}", old(was), values(new)),
        Op::Delete { old: was } => format!("delete {}", old(was)),
        Op::Truncate => "truncate".to_owned(),
    }
}

/// The piece in words: of many changes the first and the last, and a checksum of all.
fn describe(piece: Piece<'_>, out: &mut String) {
    let Transaction {
        xid,
        commit,
        end,
        committed_at,
    } = piece.transaction;
    let first = piece.first_seq;
    let count = piece.count;
    let last = piece.last;
    writeln!(
        out,
        "{end} commit {commit} xid {xid} at {} from {first}, {count} changes, last {last}",
        committed_at.0
    )
    .unwrap();
    let changes: Vec<String> = piece
        .changes
        .map(|change| {
            let change = change.unwrap();
            let Relation {
                table, oid, columns, ..
            } = &**change.relation;
            let columns: Vec<_> = columns
                .iter()
                .map(|column| format!("{}:{}", column.name, column.ty.name))
                .collect();
            format!(
                "{} {table} {oid} ({}) {}",
                change.seq,
                columns.join(" "),
                op(&change.op)
            )
        })
        .collect();
    let text = changes.join("\n");
    match &changes[..] {
        [first, .., last] if changes.len() > 9 => {
            writeln!(
                out,
                "  {first}\n  ...\n  {last}\n  checksum {:08x}",
                crc32c::crc32c(text.as_bytes())
            )
            .unwrap();
        }
        all => all.iter().for_each(|change| writeln!(out, "  {change}").unwrap()),
    }
}

/// Everything from there on, and where the reader is in the end.
fn read(journal: &Journal, start: Start) -> (String, Position) {
    let mut reader = journal.reader(start).unwrap();
    let mut out = String::new();
    while let Some(batch) = reader.next_blocking(64 * 1024).unwrap() {
        for entry in batch.entries() {
            match entry.unwrap() {
                Entry::Position(lsn) => writeln!(out, "{lsn}").unwrap(),
                Entry::Piece(piece) => describe(piece, &mut out),
            }
        }
    }
    (out, reader.position())
}

#[test]
fn the_history_of_an_earlier_version_is_read_whole_and_from_any_place() {
    let dir = copy();
    let (_writer, journal) = open(dir.path());
    assert_eq!(
        journal.recovery(),
        &Default::default(),
        "nothing was cut, nothing set aside"
    );
    let (all, end) = read(&journal, Start::Earliest);
    let expected = fs::read_to_string(Path::new(OLD).join("history.txt")).unwrap();
    assert_eq!(all, expected);
    assert_eq!(journal.epoch().0, "31d925dc8f86d86d");
    assert_eq!(end, Position::after(journal.head()));
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
            "{line}"
        );
    }
}

#[test]
fn the_history_of_an_earlier_version_goes_on() {
    let dir = copy();
    let (mut writer, journal) = open(dir.path());
    let before = read(&journal, Start::Earliest).0;
    let head = journal.head();
    let relation = orders();
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
    let (_writer, journal) = open(dir.path());
    let (all, _) = read(&journal, Start::Earliest);
    let (new, _) = read(&journal, Start::After(Position::after(head)));
    assert!(
        new.contains(r#"orders 16408 (id:integer city:text) insert "3" "Bonn""#),
        "{new}"
    );
    assert_eq!(all, before + &new);
}

fn tables(dir: &Path) -> Arc<Tables> {
    let (_writer, journal) = open(dir);
    let nobody = ConnInfo::parse_with("postgresql://nobody@localhost/none", |_| None).unwrap();
    Tables::new(nobody, Vec::new(), &[], journal.tables())
}

/// The newest version of the table that is called `orders` in the end.
fn orders() -> Arc<Relation> {
    let dir = copy();
    tables(dir.path()).newest_version(16_408).unwrap()
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
    let manifest = fs::read_to_string(dir.path().join("journal.json")).unwrap();
    assert!(manifest.contains("\"format\": 2,"), "{manifest}");
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

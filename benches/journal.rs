//! Appending to the journal and reading it back: rows of 100 bytes, in bulk and one to a transaction.
//!
//! `cargo bench --bench journal`; the directory is made under `TMPDIR`. Syncs run beside the writer, as they do in
//! service, so the figures include what they take from it; those called synced also wait for the last one.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use walcast::event::{
    Collation, Column, Op, Relation, ReplicaIdentity, TableName, Timestamp, Transaction, Tuple, Value,
    encode_values,
};
use walcast::journal::{Journal, Options, Retention, Writer};
use walcast::log::{Entry, Identity, Log, LogReader, LogWriter};
use walcast::lsn::{Lsn, Start};
use walcast::types::{Kind, Type};

const ROWS: u64 = 1_000_000;

fn open(dir: &Path) -> (Writer, Journal) {
    let identity = Identity {
        system_id: 1,
        database_oid: 1,
        database: "bench".to_owned(),
        slot: "bench".to_owned(),
        timeline: 1,
    };
    Journal::open(dir, Options::default(), &identity).expect("a fresh directory")
}

fn relation() -> Arc<Relation> {
    let column = |name: &str| Column {
        name: name.to_owned(),
        ty: Type {
            oid: 25,
            name: "text".to_owned(),
            kind: Kind::Text,
        },
        typmod: -1,
        identity: false,
        collation: Collation::C,
        ctype: Default::default(),
        attnum: Default::default(),
    };
    Arc::new(Relation {
        oid: 1,
        table: TableName::new("public", "bench"),
        replica_identity: ReplicaIdentity::Default,
        columns: ["a", "b", "c", "d", "e", "f"].map(column).to_vec(),
        key: vec![0],
        logging: Default::default(),
    })
}

/// A row of six columns, 100 bytes as Postgres sends it.
fn row() -> Vec<u8> {
    let mut out = Vec::new();
    let values =
        [4, 10, 12, 14, 14, 14].map(|len| Value::Text(b"abcdefghijklmnop".get(..len).unwrap_or_default()));
    encode_values(values.into_iter(), &mut out);
    assert_eq!(out.len(), 100);
    out
}

/// Appends `ROWS` rows in transactions of `rows` each, flushing as ingest does when it is behind: every so many bytes.
fn append(writer: &mut Writer, rows: u64, head: &mut u64) {
    let (relation, row) = (relation(), row());
    let (new, _) = Tuple::parse(&row).expect("a row");
    for _ in 0..ROWS / rows {
        for _ in 0..rows {
            writer
                .change(black_box(&relation), &Op::Insert { new })
                .expect("append");
        }
        *head += 64;
        let transaction = Transaction {
            xid: 1,
            commit: Lsn(*head - 32),
            end: Lsn(*head),
            committed_at: Timestamp(0),
        };
        writer.commit(&transaction).expect("commit");
    }
    writer.flush().expect("flush");
}

fn appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    for (name, rows, synced) in [
        ("bulk", 100_000, false),
        ("bulk, synced", 100_000, true),
        ("single-row transactions", 1, false),
        ("single-row transactions, synced", 1, true),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut writer, journal) = open(dir.path());
        let mut head = 0;
        let least = Retention {
            max_bytes: Some(0),
            max_age: None,
        };
        group.bench_function(name, |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let start = Instant::now();
                    append(&mut writer, rows, &mut head);
                    let appended = start.elapsed();
                    journal.sync_now(Duration::from_secs(60)).expect("sync");
                    took += if synced { start.elapsed() } else { appended };
                    journal.retain(&least, SystemTime::now()).expect("retain");
                }
                took
            });
        });
    }
    group.finish();
}

fn reads(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(ROWS)).sample_size(10);
    for (name, rows) in [("bulk", 100_000), ("single-row transactions", 1)] {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut writer, journal) = open(dir.path());
        append(&mut writer, rows, &mut 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut reader = journal.reader(Start::Earliest).expect("a reader");
                let mut seen = 0u64;
                while let Some(batch) = reader.next_blocking(256 << 10).expect("a batch") {
                    for entry in batch.entries() {
                        if let Entry::Piece(piece) = entry.expect("an entry") {
                            for change in piece.changes {
                                black_box(change.expect("a change"));
                                seen += 1;
                            }
                        }
                    }
                }
                assert_eq!(seen, ROWS);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, appends, reads);
criterion_main!(benches);

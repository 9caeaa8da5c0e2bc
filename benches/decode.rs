//! The cost of a row between the socket and the journal: `cargo bench --bench decode`. An iteration is a thousand
//! rows, so microseconds per iteration are nanoseconds per row.
//!
//! `parse` reads the messages; `assemble` also puts them together as changes of one transaction.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use walcast::decode::{Assembler, Message, Step};
use walcast::event::{
    Collation, Column, Relation, ReplicaIdentity, StreamColumn, Timestamp, Value, encode_values,
};
use walcast::lsn::Lsn;
use walcast::types::{Kind, Type};

const ROWS: usize = 1000;
const OID: u32 = 16384;

fn decode(c: &mut Criterion) {
    for (name, columns, messages) in [
        ("insert of 6 columns", 6, messages(6, insert)),
        ("insert of 30 columns", 30, messages(30, insert)),
        ("update of 6 columns, full identity", 6, messages(6, update)),
    ] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("parse", |b| {
            b.iter(|| {
                for message in black_box(&messages) {
                    black_box(Message::parse(message).unwrap());
                }
            });
        });
        let (mut assembler, mut at) = (assembler(columns), 0);
        group.bench_function("assemble", |b| {
            b.iter(|| {
                at += 1;
                assemble(&mut assembler, at, black_box(&messages));
            });
        });
        group.finish();
    }
}

/// Row by row another content, as rows have.
fn messages(columns: usize, message: fn(&[Vec<u8>]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let value = |row: usize, column: usize| match column % 3 {
        0 => (row * 7919 + column).to_string().into_bytes(),
        1 => vec![b'x'; 1 + (row + column) % 20],
        _ => b"2024-02-29 12:00:00.123456+00".to_vec(),
    };
    (0..ROWS)
        .map(|row| message(&(0..columns).map(|column| value(row, column)).collect::<Vec<_>>()))
        .collect()
}

fn insert(row: &[Vec<u8>]) -> Vec<u8> {
    let mut message = [&b"I"[..], &OID.to_be_bytes(), b"N"].concat();
    encode(row, &mut message);
    message
}

fn update(row: &[Vec<u8>]) -> Vec<u8> {
    let mut message = [&b"U"[..], &OID.to_be_bytes(), b"O"].concat();
    encode(row, &mut message);
    message.push(b'N');
    encode(row, &mut message);
    message
}

/// Every seventh value is null.
fn encode(row: &[Vec<u8>], out: &mut Vec<u8>) {
    let value = |(column, text)| match column % 7 {
        6 => Value::Null,
        _ => Value::Text(text),
    };
    let values: Vec<_> = row.iter().map(Vec::as_slice).enumerate().map(value).collect();
    encode_values(values.into_iter(), out);
}

/// An assembler that knows a table of so many columns and a hundred others.
fn assembler(columns: usize) -> Assembler {
    let mut assembler = Assembler::new(Lsn::ZERO);
    for oid in OID..OID + 100 {
        let message = described(oid, columns);
        let Step::Relation(stream) = assembler.push(Message::parse(&message).unwrap()).unwrap() else {
            panic!("no relation");
        };
        let column = |column: StreamColumn| Column {
            name: column.name,
            ty: Type {
                oid: column.type_oid,
                name: "text".into(),
                kind: Kind::Text,
            },
            typmod: column.typmod,
            identity: column.identity,
            collation: Collation::C,
            ctype: Default::default(),
            attnum: Default::default(),
        };
        let relation = Relation {
            oid,
            table: stream.table,
            replica_identity: ReplicaIdentity::Full,
            columns: stream.columns.into_iter().map(column).collect(),
            key: vec![0],
            logging: Default::default(),
        };
        assembler.learn_relation(Arc::new(relation)).unwrap();
    }
    assembler
}

fn described(oid: u32, columns: usize) -> Vec<u8> {
    let mut message = [&b"R"[..], &oid.to_be_bytes(), b"public\0orders\0f"].concat();
    message.extend_from_slice(&(columns as u16).to_be_bytes());
    for column in 0..columns {
        message.extend_from_slice(format!("\x01column_{column}\0").as_bytes());
        message.extend_from_slice(&[0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff]);
    }
    message
}

/// Pushes a transaction of these messages, whose commit record is one byte long.
fn assemble(assembler: &mut Assembler, at: u64, messages: &[Vec<u8>]) {
    let (commit, end, committed_at, xid) = (Lsn(at), Lsn(at + 1), Timestamp(0), 7);
    let begin = Message::Begin {
        commit,
        committed_at,
        xid,
    };
    assert!(matches!(assembler.push(begin), Ok(Step::Nothing)));
    for message in messages {
        let Step::Changes(changes) = assembler.push(Message::parse(message).unwrap()).unwrap() else {
            panic!("no change");
        };
        changes.for_each(|change| {
            black_box(change);
        });
    }
    let commit = Message::Commit {
        commit,
        end,
        committed_at,
    };
    assert!(matches!(assembler.push(commit), Ok(Step::Commit { .. })));
}

criterion_group!(benches, decode);
criterion_main!(benches);

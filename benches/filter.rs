//! The cost of a row between the journal and the frames: `cargo bench --bench filter`. An iteration is a thousand rows,
//! so microseconds per iteration are nanoseconds per row.
//!
//! `membership` holds rows against one predicate, `encode/row` writes them as JSON, `encode/frames` puts encoded changes
//! into frames.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "orders/relation.rs"]
mod orders;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use orders::relation;
use serde_json::json;
use walcast::event::{Op, Projection, Timestamp, Transaction, Tuple, Value, View, encode_values};
use walcast::filter::{Predicate, membership};
use walcast::lsn::Lsn;
use walcast::protocol::{Framing, Part};
use walcast::types::json::Numbers;

const ROWS: usize = 1000;

fn rows() -> Vec<Vec<u8>> {
    let row = |i: usize| {
        let status = ["new", "paid", "shipped \"express\""][i % 3];
        let texts = [
            i.to_string(),
            (i % 100).to_string(),
            status.to_owned(),
            format!("{}.{:02}", i * 7, i % 100),
            "t".to_owned(),
            "2026-11-22 12:00:00.123456+00".to_owned(),
        ];
        let mut out = Vec::new();
        encode_values(texts.iter().map(|text| Value::Text(text.as_bytes())), &mut out);
        out
    };
    (0..ROWS).map(row).collect()
}

fn filter(c: &mut Criterion) {
    let (relation, rows) = (relation(), rows());
    let mut group = c.benchmark_group("membership");
    group.throughput(Throughput::Elements(ROWS as u64));
    for predicate in [
        "tenant_id = 7",
        "status IN ('paid', 'packed')",
        "amount > 100.5",
        "tenant_id = 7 AND status = 'paid' AND amount > 100.5 AND at > '2026-01-01'",
    ] {
        let matcher = Predicate::parse(predicate)
            .unwrap()
            .bind(View::whole(&relation), &[])
            .unwrap();
        group.bench_function(predicate, |b| {
            b.iter(|| {
                for row in black_box(&rows) {
                    let op = Op::Insert {
                        new: Tuple::parse(row).unwrap().0,
                    };
                    black_box(membership(&matcher, &relation, &op));
                }
            });
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let (relation, rows) = (relation(), rows());
    let projection = Projection::all(&relation, Numbers::Native);
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut out = Vec::new();
    group.bench_function("row", |b| {
        b.iter(|| {
            out.clear();
            for row in black_box(&rows) {
                projection.write_row(Tuple::parse(row).unwrap().0, None, &mut out);
            }
            black_box(out.len())
        });
    });
    let transaction = Transaction {
        xid: 1,
        commit: Lsn(1),
        end: Lsn(2),
        committed_at: Timestamp(0),
    };
    let rest = json!({"op": "insert", "row": {"id": 1, "tenant": 7, "status": "paid"}}).to_string();
    let parts: Vec<Part<'_>> = (0..ROWS as u32)
        .map(|seq| Part {
            seq,
            id: "\"orders\"",
            rest: rest.as_bytes(),
        })
        .collect();
    let framing = Framing {
        transaction: &transaction,
        only: None,
        last: true,
        max_bytes: 65_536,
    };
    group.bench_function("frames", |b| {
        b.iter(|| framing.frames(black_box(&parts), |frame| drop(black_box(frame))));
    });
    group.finish();
}

criterion_group!(benches, filter, encode);
criterion_main!(benches);

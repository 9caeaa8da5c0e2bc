//! The cost of a column by its type: `cargo bench --bench values`. An iteration is a hundred rows of ten columns of one
//! family, so microseconds per iteration are nanoseconds per column; criterion's throughput is columns per second.
//!
//! `decode` reads the message of a row and walks over its values, `encode` writes the row as JSON.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod families;

use std::hint::black_box;
use std::iter::repeat_n;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use walcast::decode::Message;
use walcast::event::{Projection, Tuple};
use walcast::types::json::Numbers;

const ROWS: usize = 100;
const COLUMNS: usize = 10;

fn values(c: &mut Criterion) {
    for (name, kind, texts) in families::families() {
        let rows: Vec<Vec<u8>> = (0..ROWS)
            .map(|row| families::insert((0..COLUMNS).map(|column| texts[(row + column) % texts.len()])))
            .collect();
        let relation = families::relation(repeat_n(kind, COLUMNS));
        let projection = Projection::all(&relation, Numbers::Native);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements((ROWS * COLUMNS) as u64));
        group.bench_function("decode", |b| {
            b.iter(|| {
                for row in black_box(&rows) {
                    black_box(tuple(row).values().count());
                }
            });
        });
        let tuples: Vec<Tuple<'_>> = rows.iter().map(|row| tuple(row)).collect();
        let mut out = Vec::new();
        group.bench_function("encode", |b| {
            b.iter(|| {
                out.clear();
                for &tuple in black_box(&tuples) {
                    projection.write_row(tuple, None, &mut out);
                }
                black_box(&out);
            });
        });
        group.finish();
    }
}

fn tuple(message: &[u8]) -> Tuple<'_> {
    match Message::parse(message).unwrap() {
        Message::Insert { new, .. } => new,
        other => panic!("{other:?}"),
    }
}

criterion_group!(benches, values);
criterion_main!(benches);

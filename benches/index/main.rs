//! The cost of a change by the number of subscriptions on its table, and what these cost: `cargo bench --bench index`.
//!
//! An iteration is one change; the rows differ, so that what they look up is in no cache. `index` is the filter's index
//! alone, with sixteen changes at hand as in the fan-out, `fanout` the fan-out with a million connections on a hundred
//! distinct predicates, up to the frames. The baselines in the same run: every predicate held against every row, and
//! the crate `a-tree`. Bytes are those asked of the allocator.

#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing)]

mod a_tree_crate;
mod fanout;
mod memory;
#[path = "../orders/relation.rs"]
mod orders;
#[path = "../orders/matching.rs"]
mod orders_matching;
mod workload;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use walcast::event::{OldTuple, Op};
use walcast::filter::{Index, Matcher, membership};
use workload::{Rows, Workload};

/// The number of changes that the fan-out has looked up at once.
const AHEAD: usize = 16;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

fn index(c: &mut Criterion) {
    let relation = orders::relation();
    for workload in Workload::ALL {
        let mut group = c.benchmark_group(format!("index/{}", workload.name()));
        for size in SIZES {
            let rows = Rows::new(workload, size);
            let mut index = workload.index(size, &relation);
            let mut tuples = rows.cycle();
            let mut ops = [Op::Truncate; AHEAD];
            let mut at = AHEAD;
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    if at == AHEAD {
                        ops = std::array::from_fn(|_| Op::Insert {
                            new: tuples.next().unwrap(),
                        });
                        if index.is_large() {
                            index.warm(&ops);
                        }
                        at = 0;
                    }
                    let op = ops[at];
                    at += 1;
                    index.matches(&relation, &op, |entry, membership| {
                        black_box((entry, membership));
                    });
                });
            });
        }
        group.finish();
    }
}

/// Updates that leave the tenant as it is, the whole old row known.
fn updates(c: &mut Criterion) {
    let relation = orders::relation();
    let mut group = c.benchmark_group("index/updates of a");
    let size = 1_000_000;
    let rows = Rows::new(Workload::OneHit, size);
    let mut index = Workload::OneHit.index(size, &relation);
    let mut tuples = rows.cycle();
    group.bench_function(BenchmarkId::from_parameter(size), |b| {
        b.iter(|| {
            let new = tuples.next().unwrap();
            let old = Some(OldTuple::Full(new));
            index.matches(&relation, &Op::Update { old, new }, |entry, membership| {
                black_box((entry, membership));
            });
        });
    });
    group.finish();
}

fn linear(c: &mut Criterion) {
    let relation = orders::relation();
    for workload in Workload::ALL {
        let mut group = c.benchmark_group(format!("linear scan/{}", workload.name()));
        for size in [1_000, 10_000] {
            let rows = Rows::new(workload, size);
            let matchers: Vec<Matcher> = workload.matchers(size, &relation).collect();
            let mut tuples = rows.cycle();
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    let op = Op::Insert {
                        new: tuples.next().unwrap(),
                    };
                    for matcher in &matchers {
                        black_box(membership(matcher, &relation, &op));
                    }
                });
            });
        }
        group.finish();
    }
}

/// The cost of subscribing and unsubscribing, and of being subscribed.
fn subscriptions(_: &mut Criterion) {
    let relation = orders::relation();
    println!("index alone: bytes a predicate, ns to insert one more and to remove one");
    for workload in Workload::ALL {
        for size in SIZES {
            let before = memory::in_use();
            let index = workload.index(size, &relation);
            let bytes = (memory::in_use() - before) / size;
            let [insert, slowest, remove] = churn(index, workload, size);
            println!(
                "  {:<52} {size:>8}: {bytes:>4} bytes, insert {insert:>5} ns (slowest {slowest:?}), \
                 remove {remove:>5} ns",
                workload.name()
            );
        }
    }
    fanout::print_bytes();
}

/// Replaces predicates here and there: the mean nanoseconds of an insertion, the slowest one's, and a removal's mean.
fn churn(mut index: Index, workload: Workload, size: usize) -> [u128; 3] {
    let relation = orders::relation();
    let rounds = size.min(100_000);
    let matchers: Vec<Matcher> = workload.matchers(size, &relation).collect();
    let entries: Vec<u32> = (0..rounds)
        .map(|round| (round * (size / rounds)) as u32)
        .collect();
    let began = Instant::now();
    for entry in &entries {
        index.remove(*entry);
    }
    let removed = began.elapsed();
    let (mut inserted, mut slowest) = (Duration::ZERO, Duration::ZERO);
    for entry in &entries {
        let matcher = &matchers[*entry as usize];
        let began = Instant::now();
        index.insert(*entry, matcher, false);
        let took = began.elapsed();
        inserted += took;
        slowest = slowest.max(took);
    }
    let mean = |total: Duration| total.as_nanos() / rounds as u128;
    [mean(inserted), slowest.as_nanos(), mean(removed)]
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500));
    targets = index, updates, linear, a_tree_crate::bench, fanout::bench, subscriptions
}
criterion_main!(benches);

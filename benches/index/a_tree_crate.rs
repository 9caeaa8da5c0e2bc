//! The crate `a-tree` on the same subscriptions and rows, as far as its language goes.

use std::hint::black_box;

use a_tree::{ATree, AttributeDefinition};
use criterion::{BenchmarkId, Criterion};

use crate::workload::{Row, SEED, Workload};

/// At a million its search takes tens of milliseconds.
const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

pub(crate) fn bench(c: &mut Criterion) {
    for workload in [Workload::OneHit, Workload::Three] {
        let mut group = c.benchmark_group(format!("a-tree/{}", workload.name()));
        for size in SIZES {
            let attributes = [
                AttributeDefinition::integer("tenant_id"),
                AttributeDefinition::string("status"),
                AttributeDefinition::float("amount"),
            ];
            let mut tree = ATree::new(&attributes).unwrap();
            let mut rng = fastrand::Rng::with_seed(SEED);
            let mut keys: Vec<usize> = (0..size).collect();
            rng.shuffle(&mut keys);
            for key in keys {
                let expression = match workload {
                    Workload::Three => format!(
                        "tenant_id = {key} and status in ['new', 'paid'] and amount > {}.5",
                        400 + rng.u32(..200)
                    ),
                    _ => format!("tenant_id = {key}"),
                };
                tree.insert(&(key as u64), &expression).unwrap();
            }
            let mut rng = fastrand::Rng::with_seed(SEED + 1);
            group.bench_function(BenchmarkId::from_parameter(size), |b| {
                b.iter(|| {
                    let row = Row::random(workload, size, &mut rng);
                    let mut event = tree.make_event();
                    event.with_integer("tenant_id", row.tenant as i64).unwrap();
                    event.with_string("status", row.status).unwrap();
                    event.with_float("amount", row.cents as i64, 2).unwrap();
                    let event = event.build().unwrap();
                    black_box(tree.search(&event).unwrap().matches().len())
                });
            });
        }
        group.finish();
    }
}

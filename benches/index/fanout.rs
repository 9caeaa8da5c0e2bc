//! A million connections on a hundred distinct predicates; and what a subscription costs the fan-out in memory.

use std::sync::Arc;

use criterion::{Criterion, Throughput};
use serde_json::json;
use walcast::event::Relation;
use walcast::log::{Entry, Log, LogReader, Piece};
use walcast::lsn::Start;
use walcast::matching::{Subscription, SubscriptionRegistry};

use crate::memory;
use crate::orders;
use crate::orders_matching::{self as matching, Count, START};
use crate::workload::{Row, Rows};

const CONNECTIONS: usize = 1_000_000;
const PREDICATES: usize = 100;

fn subscription(tenant: usize) -> Arc<Subscription> {
    matching::subscription(matching::query(&json!({
        "type": "subscribe", "id": "orders", "table": "orders", "where": "tenant_id = $1", "params": [tenant]
    })))
}

pub(crate) fn bench(c: &mut Criterion) {
    let mut fanout = SubscriptionRegistry::new(65_536);
    let subscriptions: Vec<_> = (0..PREDICATES).map(subscription).collect();
    for number in 0..CONNECTIONS {
        let connection = fanout.connect();
        fanout.subscribe(connection, &subscriptions[number % PREDICATES], START);
    }
    let relation = Arc::new(orders::relation());
    with_one_insert(&relation, |piece| {
        let mut group = c.benchmark_group("fanout/e: 1,000,000 clients over 100 predicates");
        let mut sink = Count(0);
        while !fanout.deliver(&mut piece.clone(), &mut sink).unwrap() {}
        assert_eq!(sink.0, CONNECTIONS / PREDICATES);
        group.throughput(Throughput::Elements(sink.0 as u64));
        group.bench_function("one insert, a frame for each of 10,000 clients", |b| {
            b.iter(|| while !fanout.deliver(&mut piece.clone(), &mut sink).unwrap() {});
        });
        group.finish();
    });
}

/// Hands a transaction of one insert over, as a reader of a journal returns it.
fn with_one_insert(relation: &Arc<Relation>, each: impl FnOnce(&Piece<'_>)) {
    let directory = tempfile::tempdir().unwrap();
    let row = Rows::encoded(
        0,
        &Row {
            tenant: 7,
            status: "new",
            cents: 100,
        },
    );
    let journal = matching::journal(directory.path(), relation, [row]);
    let mut reader = journal.reader(Start::After(START)).unwrap();
    let batch = loop {
        if let Some(batch) = reader.next_blocking(1 << 20).unwrap() {
            break batch;
        }
    };
    let mut pieces = batch.entries().filter_map(|entry| match entry.unwrap() {
        Entry::Piece(piece) => Some(piece),
        _ => None,
    });
    let piece = pieces.next().unwrap();
    each(&piece);
}

/// Prints what subscriptions take, parts that are shared only if they are shared in service too.
pub(crate) fn print_bytes() {
    let (distinct, members) = (100_000, 1_000_000);
    let relation = Arc::new(orders::relation());
    println!("fan-out: bytes");
    with_one_insert(&relation, |piece| {
        let mut fanout = SubscriptionRegistry::new(65_536);
        // The queries are bound and indexed once a row has come by.
        let first = fanout.connect();
        fanout.subscribe(first, &subscription(0), START);
        while !fanout.deliver(&mut piece.clone(), &mut Count(0)).unwrap() {}
        let before = memory::in_use();
        let subscriptions: Vec<_> = (1..=distinct).map(subscription).collect();
        let queries = (memory::in_use() - before) / distinct;
        let before = memory::in_use();
        for subscription in &subscriptions {
            fanout.subscribe(first, subscription, START);
        }
        let one = (memory::in_use() - before) / distinct;
        println!("  a further distinct query: {one} in the fan-out, {queries} for the query as it was asked");
        let connections: Vec<_> = (0..members).map(|_| fanout.connect()).collect();
        let before = memory::in_use();
        for connection in connections {
            fanout.subscribe(connection, &subscriptions[connection % 100], START);
        }
        let one = (memory::in_use() - before) / members;
        println!("  a further member of a query, its connection's first subscription: {one}");
    });
}

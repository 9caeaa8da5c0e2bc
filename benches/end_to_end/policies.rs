//! A change's cost with a policy, against the same subscriptions with the predicate written by the client: a hundred
//! thousand connections over ten thousand tenants. In one process, up to the frames: what lies behind is the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use walcast::auth::Claims;
use walcast::event::{Relation, Value, Visible, encode_values};
use walcast::journal::Journal;
use walcast::log::{Entry, Log, LogReader};
use walcast::lsn::Start;
use walcast::matching::{Query, SubscriptionRegistry};
use walcast::policy::{Condition, Policies, Policy, Rows, TablePattern};
use walcast::protocol::Ops;

use matching::{Count, START};

#[path = "../orders/matching.rs"]
mod matching;
#[path = "../orders/relation.rs"]
mod orders;

const CONNECTIONS: usize = 100_000;
const TENANTS: usize = 10_000;
const CHANGES: usize = 2_000;
const ROUNDS: usize = 15;

pub(super) fn run() {
    let relation = Arc::new(orders::relation());
    let directory = tempfile::tempdir().unwrap();
    let journal = written(directory.path(), &relation);
    let mut by_client = registry(|tenant| query(Some(tenant)));
    let policies = policies();
    let mut by_policy = registry(|tenant| {
        let claims = match json!({ "tenant": tenant }) {
            serde_json::Value::Object(claims) => Claims::new(claims),
            other => panic!("{other}"),
        };
        let admission = policies.admission(&relation.table, Some("customer"), &claims, None);
        let mut query = query(None);
        query.admit(admission.unwrap().judged_by(&relation).admission);
        query
    });
    println!(
        "policies: {CONNECTIONS} connections over {TENANTS} tenants, one policy, {CHANGES} transactions of one insert"
    );
    // The first row binds and files all of them.
    let expected = CHANGES * (CONNECTIONS / TENANTS);
    for registry in [&mut by_client, &mut by_policy] {
        assert_eq!(delivered(registry, &journal).1, expected);
    }
    let mut ratios = Vec::new();
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let [client, policy] = [&mut by_client, &mut by_policy].map(|registry| {
            let (time, frames) = delivered(registry, &journal);
            assert_eq!(frames, expected);
            time
        });
        ratios.push(policy.as_secs_f64() / client.as_secs_f64());
        times[0].push(client);
        times[1].push(policy);
    }
    for (name, times) in ["predicate of the client", "policy"].iter().zip(&mut times) {
        times.sort_unstable();
        let each = times[ROUNDS / 2] / CHANGES as u32;
        println!("  {name:24} {each:?} a change, median of {ROUNDS}");
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("  ratio {:.2} (the goal: 1.3)", ratios[ROUNDS / 2]);
}

/// The registry with all connections, each with a subscription of its own to what its tenant has.
fn registry(query: impl Fn(usize) -> Query) -> SubscriptionRegistry {
    let mut registry = SubscriptionRegistry::new(65_536);
    for number in 0..CONNECTIONS {
        let subscription = matching::subscription(query(number % TENANTS));
        let connection = registry.connect();
        registry.subscribe(connection, &subscription, START);
    }
    registry
}

fn query(tenant: Option<usize>) -> Query {
    let mut message = json!({"type": "subscribe", "id": "orders", "table": "orders"});
    if let Some(tenant) = tenant {
        message["where"] = json!("tenant_id = $1");
        message["params"] = json!([tenant]);
    }
    matching::query(&message)
}

fn policies() -> Policies {
    let condition = Condition::parse("tenant_id = claim('tenant')::int").unwrap();
    Policies {
        tables: vec![Policy {
            tables: vec![TablePattern::Schema("public".into())],
            roles: Some(vec!["customer".into()]),
            ops: Ops::ALL,
            columns: Visible::All,
            rows: Rows::Where(Arc::new(condition)),
        }],
        messages: Vec::new(),
    }
}

/// A journal of inserts, each of another tenant.
fn written(directory: &std::path::Path, relation: &Arc<Relation>) -> Journal {
    let row = |number: usize| {
        let (id, tenant) = (number.to_string(), (number * 7 % TENANTS).to_string());
        let values = [
            id.as_str(),
            &tenant,
            "paid",
            "12.50",
            "t",
            "2026-01-01 00:00:00+00",
        ];
        let mut bytes = Vec::new();
        encode_values(values.iter().map(|text| Value::Text(text.as_bytes())), &mut bytes);
        bytes
    };
    matching::journal(directory, relation, (0..CHANGES).map(row))
}

/// The time that a registry takes for all changes, and the frames that it made of them.
fn delivered(registry: &mut SubscriptionRegistry, journal: &Journal) -> (Duration, usize) {
    let mut reader = journal.reader(Start::After(START)).unwrap();
    let mut sink = Count(0);
    let mut time = Duration::ZERO;
    let mut seen = 0;
    while seen < CHANGES {
        let Some(batch) = reader.next_blocking(1 << 20).unwrap() else {
            continue;
        };
        for entry in batch.entries() {
            if let Entry::Piece(piece) = entry.unwrap() {
                seen += 1;
                let mut piece = piece.clone();
                let began = Instant::now();
                while !registry.deliver(&mut piece, &mut sink).unwrap() {}
                time += began.elapsed();
            }
        }
    }
    (time, sink.0)
}

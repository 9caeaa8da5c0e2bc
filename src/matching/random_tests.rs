//! Subscriptions that come and go at random.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::*;
use super::*;

/// Events between two transactions.
#[derive(Clone, Debug)]
enum Step {
    Connect,
    Disconnect(usize),
    Subscribe(usize, usize, usize),
    Unsubscribe(usize),
}

const PREDICATES: [Option<&str>; 4] = [None, Some("b = 1"), Some("b IN (2, 3)"), Some("a >= 5")];

fn step() -> impl Strategy<Value = Step> {
    let any = any::<usize>();
    prop_oneof![
        1 => Just(Step::Connect),
        1 => any.prop_map(Step::Disconnect),
        4 => (any, 0..3_usize, 0..PREDICATES.len()).prop_map(|(c, id, p)| Step::Subscribe(c, id, p)),
        2 => any.prop_map(Step::Unsubscribe),
    ]
}

fn matches(predicate: usize, row: u64) -> bool {
    match predicate {
        0 => true,
        1 => row % 4 == 1,
        2 => row % 4 >= 2,
        _ => row >= 5,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Subscriptions come and go in any order, and each gets exactly its matches, once.
    #[test]
    fn every_subscription_gets_exactly_its_matches(steps in prop::collection::vec(step(), 1..60)) {
        let mut log = TestLog::new(); let mut registry = SubscriptionRegistry::new(200);
        let relation = relation(&["a", "b"]);
        let mut connections: Vec<ConnectionId> = vec![registry.connect()];
        let mut held: Vec<(ConnectionId, usize, usize, Arc<Subscription>)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Connect => connections.push(registry.connect()),
                Step::Disconnect(which) if connections.len() > 1 => {
                    let gone = connections.swap_remove(which % connections.len());
                    registry.disconnect(gone);
                    held.retain(|(connection, ..)| *connection != gone);
                }
                Step::Disconnect(_) => {}
                Step::Subscribe(which, id, predicate) => {
                    let connection = connections[which % connections.len()];
                    if held.iter().any(|(c, i, ..)| (*c, *i) == (connection, id)) {
                        continue;
                    }
                    let subscription = subscription(&id.to_string(), PREDICATES[predicate]);
                    registry.subscribe(connection, &subscription, START);
                    held.push((connection, id, predicate, subscription));
                }
                Step::Unsubscribe(which) if !held.is_empty() => {
                    let (connection, .., subscription) = held.swap_remove(which % held.len());
                    registry.unsubscribe(connection, &subscription);
                }
                Step::Unsubscribe(_) => {}
            }
            if number % 4 == 0 {
                let mut got = Got::default();
                log.commit(&relation, &rows(0..8), |piece| deliver(&mut registry, piece, &mut got));
                let expected: BTreeSet<_> = held
                    .iter()
                    .flat_map(|(connection, id, predicate, _)| {
                        (0..8).filter(|&row| matches(*predicate, row)).map(|row| (*connection, id.to_string(), row))
                    })
                    .collect();
                prop_assert_eq!(got.changes(), expected);
            }
        }
        for connection in connections {
            registry.disconnect(connection);
        }
        prop_assert_eq!((registry.queries(), registry.groups.len()), (0, 0));
        prop_assert!(registry.tables.is_empty() && registry.by_name.is_empty() && registry.by_id.is_empty());
    }
}

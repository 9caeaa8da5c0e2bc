//! Matching over a log that decodes the relations again with each of its messages.

use super::tests::{Got, relation, subscription};
use super::*;
use crate::event::{Op, Timestamp, Transaction, Tuple, Value, encode_values};
use crate::log::memory::MemoryLog;
use crate::log::{Entry, Log, LogReader};
use crate::lsn::{Lsn, Start};

#[test]
fn a_relation_that_is_decoded_anew_in_each_batch_has_no_query_bound_anew() {
    let log = MemoryLog::new();
    let mut bytes = Vec::new();
    encode_values([Value::Text(b"1")].into_iter(), &mut bytes);
    let insert = Op::Insert {
        new: Tuple::parse(&bytes).unwrap().0,
    };
    let commit = |relation: &Relation, end: u64| {
        let transaction = Transaction {
            xid: 1,
            commit: Lsn(end - 1),
            end: Lsn(end),
            committed_at: Timestamp(0),
        };
        log.commit(relation, &[insert], &transaction);
    };
    let mut registry = SubscriptionRegistry::new(65_536);
    let mut got = Got::default();
    let connection = registry.connect();
    registry.subscribe(connection, &subscription("s", None), Position::after(Lsn::ZERO));
    let mut reader = log.reader(Start::Earliest).unwrap();
    let mut deliver = |registry: &mut SubscriptionRegistry| {
        let batch = reader.next_blocking(1).unwrap().unwrap();
        for entry in batch.entries() {
            let Entry::Piece(mut piece) = entry.unwrap() else {
                continue;
            };
            assert!(registry.deliver(&mut piece, &mut got).unwrap());
        }
        let known = registry.relations.values();
        let known = known.map(|(relation, _)| Arc::clone(relation));
        known.collect::<Vec<_>>()
    };
    let first = relation(&["a"]);
    commit(&first, 10);
    let bound = deliver(&mut registry);
    for end in 2..20 {
        commit(&first, 10 * end);
        let now = deliver(&mut registry);
        assert!(now.len() == 1 && Arc::ptr_eq(&now[0], &bound[0]), "batch {end}");
    }
    // Another version has them bound again.
    commit(&relation(&["a", "b"]), 500);
    let altered = deliver(&mut registry);
    assert!(altered.len() == 1 && !Arc::ptr_eq(&altered[0], &bound[0]));
    assert_eq!(got.frames.len(), 20);
}

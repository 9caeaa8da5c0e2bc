use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;
use crate::event::{OldTuple, Op, RowChange, Tuple, Value, encode_values};
use crate::filter::{Decision, Operation, ResultChange};
use crate::matching::tests::{CALLER, relation};
use crate::matching::{Bound, Query, changed_message, unfit_message};
use crate::policy::Grant;
use crate::protocol::{Caller, ClientMessage, Subscribe};

fn message(fields: Json) -> Subscribe {
    let mut message = json!({"type": "subscribe", "id": "s", "table": "t"});
    let Json::Object(fields) = fields else {
        panic!("no fields: {fields}")
    };
    message.as_object_mut().unwrap().extend(fields);
    match ClientMessage::parse(&message.to_string()) {
        Ok(ClientMessage::Subscribe(subscribe)) => *subscribe,
        other => panic!("not a subscribe: {other:?}"),
    }
}

fn query(fields: Json) -> Query {
    Query::new(&message(fields), &CALLER).unwrap()
}

/// Fails to compile when one of these types gets another field, until it is decided here where that belongs.
#[allow(dead_code)]
fn every_field_is_accounted_for(subscribe: Subscribe, caller: Caller, key: QueryKey) {
    let Subscribe {
        // Part of the key, as the test below shows.
        table: _,
        predicate: _,
        params: _,
        columns: _,
        ops: _,
        old: _,
        undecided: _,
        now: _,
        order: _,
        // The subscription's name and place in the history, which are not part of the key.
        id: _,
        opening: _,
        epoch: _,
    } = subscribe;
    let Caller {
        // Part of the key.
        numbers: _,
        // The recipient, which is not part of the key.
        connection: _,
        peer: _,
        client: _,
        // The part that it may see is in `visible` and `admission`.
        subject: _,
    } = caller;
    let QueryKey {
        table: _,
        predicate: _,
        first: _,
        params: _,
        now: _,
        columns: _,
        visible: _,
        admission: _,
        ops: _,
        old: _,
        undecided: _,
        numbers: _,
        row_key: _,
    } = key;
}

#[test]
fn whatever_shapes_what_is_sent_tells_keys_apart() {
    let mut keys = vec![
        query(json!({})),
        query(json!({"table": "other"})),
        query(json!({"where": "a = 1"})),
        query(json!({"where": "a = $1", "params": [1]})),
        query(json!({"where": "a = $1", "params": ["1"]})),
        query(json!({"columns": ["a"]})),
        query(json!({"columns": ["b"]})),
        query(json!({"ops": ["insert"]})),
        query(json!({"old": true})),
        query(json!({"undecided": "send"})),
        query(json!({"undecided": "withhold"})),
        query(json!({"order_by": [{"column": "a"}], "snapshot": true, "limit": 1})),
        query(json!({"order_by": [{"column": "a"}], "snapshot": true, "limit": 2})),
        query(json!({"order_by": [{"column": "a", "desc": true}], "snapshot": true, "limit": 2})),
        query(json!({"order_by": [{"column": "a"}], "bound": [1]})),
        query(json!({"order_by": [{"column": "a"}], "bound": [2]})),
        query(json!({"order_by": [{"column": "a", "nulls": "first"}], "bound": [2]})),
    ];
    let strings = Caller {
        numbers: Numbers::Strings,
        ..CALLER
    };
    keys.push(Query::new(&message(json!({})), &strings).unwrap());
    for now in [1, 2] {
        let mut timed = query(json!({"where": "now() > '2024-01-01'"}));
        timed.set_now(Timestamp(now));
        keys.push(timed);
    }
    for visible in [vec![], vec!["a".to_owned()], vec!["a".to_owned(), "b".to_owned()]] {
        let mut narrowed = query(json!({}));
        narrowed.admit(showing(visible).judged_by(&relation(&["a", "b"])).admission);
        keys.push(narrowed);
    }
    for columns in [&["a"], &["b"]] {
        let mut held = query(json!({}));
        held.hold_to_key(&relation(columns));
        keys.push(held);
    }
    let count = keys.len();
    let distinct: HashSet<Arc<QueryKey>> = keys.iter().map(|query| Arc::clone(query.key())).collect();
    assert_eq!(distinct.len(), count);
    // The name, the place and the connection do not matter.
    let placed = message(json!({"id": "other", "from": "0/10"}));
    let elsewhere = Caller {
        connection: 2,
        ..CALLER
    };
    let placed = Query::new(&placed, &elsewhere).unwrap();
    assert_eq!(placed.key(), query(json!({})).key());
    let listed = |columns: Json| Arc::clone(query(json!({ "columns": columns })).key());
    assert_eq!(listed(json!(["b", "a"])), listed(json!(["a", "b"])));
}

/// Shows these columns of every row.
fn showing(columns: impl IntoIterator<Item = String>) -> Admission {
    let grant = Grant {
        rows: None,
        columns: Visible::only(columns),
        ops: Ops::ALL,
    };
    Admission::of([grant]).unwrap()
}

/// The query of a client for whom these columns exist.
fn narrowed(fields: Json, visible: &[&str]) -> Query {
    let mut query = query(fields);
    let showing = showing(visible.iter().map(|name| (*name).to_owned()));
    query.admit(showing.judged_by(&relation(visible)).admission);
    query
}

#[test]
fn a_hidden_column_answers_as_one_that_does_not_exist() {
    let (whole, without) = (relation(&["id", "note", "secret"]), relation(&["id", "note"]));
    let bind = |fields: Json, relation| {
        let bound = Bound::new(
            &narrowed(fields, &["id", "note"]),
            relation,
            &mut Default::default(),
        );
        bound.map(|(bound, _)| bound.encoder.columns().to_vec())
    };
    for fields in [
        json!({}),
        json!({"columns": ["secret"]}),
        json!({"columns": ["secre"]}),
        json!({"columns": ["note", "secret"]}),
        json!({"where": "secret = 1"}),
        json!({"where": "secre = 1"}),
        json!({"where": "t.secret IS NULL"}),
        json!({"where": "\"SECRET\" = 1"}),
        json!({"where": "secret ->> 'a' = 'b'"}),
        json!({"where": "secret.a = 1"}),
    ] {
        let (hidden, missing) = (bind(fields.clone(), &whole), bind(fields.clone(), &without));
        assert_eq!(hidden, missing, "{fields}");
    }
    // For a client that sees the column, the answers differ.
    let seen = query(json!({"where": "secret = 1"}));
    let (bound, _) = Bound::new(&seen, &whole, &mut Default::default()).unwrap();
    assert_eq!(bound.encoder.columns(), [0, 1, 2]);
}

#[test]
fn a_predicate_that_was_bound_is_bound_again_once_its_key_changes() {
    let relation = relation(&["id", "secret"]);
    let seen = query(json!({"where": "secret = 1"}));
    seen.selection(&relation).unwrap();
    let mut narrowed = seen.clone();
    narrowed.admit(showing(["id".to_owned()]).judged_by(&relation).admission);
    assert!(narrowed.selection(&relation).is_err());
    assert!(seen.selection(&relation).is_ok());

    let mut early = query(json!({"where": "id = 1 AND now() > '2024-01-01'"}));
    early.set_now(Timestamp(0));
    let text = |query: &Query| format!("{:?}", query.selection(&relation).unwrap());
    let before = text(&early);
    let mut late = early.clone();
    late.set_now(Timestamp(4_000_000_000_000_000));
    assert_ne!(text(&late), before);
    assert_eq!(text(&early), before);
}

#[test]
fn a_hidden_key_refuses_the_subscription() {
    let relation = relation(&["id", "note"]);
    let error = Bound::new(
        &narrowed(json!({}), &["note"]),
        &relation,
        &mut Default::default(),
    )
    .unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(!error.message.contains("id"), "{}", error.message);
}

#[test]
fn what_becomes_of_a_hidden_column_is_not_told() {
    let whole = relation(&["id", "note", "secret"]);
    let mut altered = (*whole).clone();
    altered.columns[2].ty.oid = 25;
    let (altered, dropped) = (Arc::new(altered), relation(&["id", "note"]));
    let told = |mut query: Query| {
        query.hold_to_key(&whole);
        let (changed, gone) = (changed_message(&query, &altered), unfit_message(&query, &dropped));
        (changed.is_some(), gone.is_some())
    };
    assert_eq!(told(query(json!({"where": "secret = 1"}))), (true, true));
    assert_eq!(told(narrowed(json!({}), &["id", "note"])), (false, false));
    let added = relation(&["id", "note", "secret", "more"]);
    let shows_more = |mut query: Query| {
        query.hold_to_key(&whole);
        query.shows_more(&added)
    };
    assert!(shows_more(query(json!({}))));
    assert!(!shows_more(narrowed(json!({}), &["id", "note", "secret"])));
}

#[test]
fn no_part_of_a_change_shows_a_hidden_column() {
    let relation = relation(&["id", "note", "secret"]);
    let query = narrowed(json!({"old": true}), &["id", "note"]);
    let (bound, _) = Bound::new(&query, &relation, &mut Default::default()).unwrap();
    let encoded = |values: [Value<'_>; 3]| {
        let mut bytes = Vec::new();
        encode_values(values.into_iter(), &mut bytes);
        bytes
    };
    let old = encoded([Value::Text(b"1"), Value::Text(b"2"), Value::Text(b"4711")]);
    let new = encoded([Value::Text(b"1"), Value::Text(b"3"), Value::Unchanged]);
    let [old, new] = [&old, &new].map(|bytes| Tuple::parse(bytes).unwrap().0);
    for op in [
        Op::Insert { new: old },
        Op::Update {
            old: Some(OldTuple::Full(old)),
            new,
        },
        Op::Update { old: None, new },
        Op::Delete {
            old: OldTuple::Full(old),
        },
    ] {
        let operation = match op {
            Op::Insert { .. } => Operation::Insert,
            Op::Update { .. } => Operation::Update,
            _ => Operation::Delete,
        };
        for oversize in [false, true] {
            let change = RowChange {
                seq: 0,
                relation: &relation,
                op,
                oversize,
            };
            let told = ResultChange {
                op: operation,
                by_update: false,
                decision: Decision::Decided,
            };
            let mut text = Vec::new();
            bound.encoder.write(&change, told, &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(!text.contains("secret") && !text.contains("4711"), "{text}");
        }
    }
}

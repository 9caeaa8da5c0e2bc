use super::*;
use crate::event::{Collation, Column, ReplicaIdentity, Value, View, encode_values};
use crate::filter::testing::{column, table};
use crate::filter::{Predicate, Undecided, decides};
use crate::types::Kind;

/// A table of `id` (the identity), `state` and `body` (which may be TOASTed).
fn relation(replica_identity: ReplicaIdentity) -> Relation {
    let columns = [("id", Kind::Int4), ("state", Kind::Text), ("body", Kind::Text)];
    let columns = columns.map(|(name, kind)| Column {
        identity: replica_identity == ReplicaIdentity::Full || name == "id",
        collation: Collation::Deterministic,
        ..column(name, kind)
    });
    table(replica_identity, columns)
}

/// A row from words: `-` is null, `~` unchanged TOAST.
fn encoded(row: &str) -> Vec<u8> {
    let values: Vec<Value<'_>> = row
        .split(' ')
        .map(|word| match word {
            "-" => Value::Null,
            "~" => Value::Unchanged,
            text => Value::Text(text.as_bytes()),
        })
        .collect();
    let mut bytes = Vec::new();
    encode_values(values.into_iter(), &mut bytes);
    bytes
}

/// The meaning of an update for `predicate`: `old` starts with `key` or `full`, or is empty.
fn updated(predicate: &str, old: &str, new: &str) -> String {
    let full = old.starts_with("full") || old == "lost";
    let relation = relation(if full {
        ReplicaIdentity::Full
    } else {
        ReplicaIdentity::Default
    });
    let matcher = Predicate::parse(predicate)
        .unwrap()
        .bind(View::whole(&relation), &[])
        .unwrap();
    let old_bytes = encoded(old.get(4..).unwrap_or_default().trim());
    let new_bytes = encoded(new);
    let old_tuple = Tuple::parse(&old_bytes).unwrap().0;
    let old = match old.get(..4) {
        Some("full") => Some(OldTuple::Full(old_tuple)),
        Some("key ") => Some(OldTuple::Key(old_tuple)),
        _ => None,
    };
    let new = Tuple::parse(&new_bytes).unwrap().0;
    told(membership(&matcher, &relation, &Op::Update { old, new }))
}

fn told(membership: Option<ResultChange>) -> String {
    match membership {
        None => "nothing".into(),
        Some(ResultChange {
            op,
            by_update,
            decision,
        }) => {
            let decision = match decision {
                Decision::Decided => "",
                Decision::MayHaveBeen => ", maybe",
                Decision::MayBe { as_before: false } => ", undecided",
                Decision::MayBe { as_before: true } => ", as before",
            };
            let cause = if by_update { " by update" } else { "" };
            format!("{op:?}{cause}{decision}").to_lowercase()
        }
    }
}

#[test]
fn an_update_whose_old_row_is_known_has_four_outcomes() {
    for (old, new, expected) in [
        ("full 1 open x", "1 open y", "update"),
        ("full 1 done x", "1 open x", "insert by update"),
        ("full 1 open x", "1 done x", "delete by update"),
        ("full 1 done x", "1 done y", "nothing"),
        ("full 1 - x", "1 open x", "insert by update"),
        ("full 1 open x", "1 - x", "delete by update"),
        // What did not change is in the old row.
        ("full 1 open x", "1 ~ ~", "update"),
        ("full 1 done x", "1 ~ ~", "nothing"),
        // An old value that was not logged may be anything, also null.
        ("full 1 ~ x", "1 open x", "update"),
        ("full 1 ~ x", "1 done x", "delete by update, maybe"),
        ("full 1 ~ x", "1 ~ x", "update, as before"),
        ("full 2 ~ x", "1 ~ x", "update, as before"),
    ] {
        assert_eq!(updated("state = 'open'", old, new), expected, "{old} -> {new}");
    }
}

#[test]
fn an_update_whose_old_row_is_not_known_misses_nothing_and_says_what_is_not_certain() {
    for (predicate, old, new, expected) in [
        ("state = 'open'", "", "1 open x", "update"),
        ("state = 'open'", "", "1 done x", "delete by update, maybe"),
        ("state = 'open'", "key 1 - -", "2 open x", "update"),
        (
            "state = 'open'",
            "key 1 - -",
            "2 done x",
            "delete by update, maybe",
        ),
        // By the identity alone it was not in it.
        ("state = 'open' AND id = 2", "", "1 done x", "nothing"),
        // The identity is known: it did not change, or it was sent.
        ("id = 1", "", "1 done x", "update"),
        ("id = 2", "", "1 done x", "nothing"),
        ("id = 1", "key 1 - -", "2 open x", "delete by update"),
        ("id = 2", "key 1 - -", "2 open x", "insert by update"),
        (
            "id = 2 AND state = 'open'",
            "key 1 - -",
            "2 open x",
            "insert by update",
        ),
        (
            "id = 1 AND state = 'open'",
            "key 1 - -",
            "2 open x",
            "delete by update, maybe",
        ),
        (
            "id = 1 OR state = 'open'",
            "key 1 - -",
            "2 done x",
            "delete by update",
        ),
        // The other columns of a key tuple are absent, whatever it says.
        (
            "state IS NULL",
            "key 1 - -",
            "2 open x",
            "delete by update, maybe",
        ),
        ("state IS NOT NULL", "key 1 - -", "2 open x", "update"),
        // Unlogged TOAST leaves it open, unless the predicate does not depend on it.
        ("body = 'x'", "", "1 open ~", "update, as before"),
        ("body = 'x'", "key 2 - -", "1 open ~", "update, as before"),
        (
            "body = 'x' OR id = 2",
            "key 2 - -",
            "1 open ~",
            "update, undecided",
        ),
        (
            "body = 'x' AND id = 1",
            "key 2 - -",
            "1 open ~",
            "insert by update, undecided",
        ),
        (
            "body = 'x' AND state = 'open'",
            "",
            "1 open ~",
            "update, undecided",
        ),
        (
            "body = 'x' AND state = 'open'",
            "",
            "1 done ~",
            "delete by update, maybe",
        ),
        ("body IS NOT NULL", "", "1 open ~", "update"),
        ("body IS NULL", "", "1 open ~", "delete by update, maybe"),
        ("body = 'x' AND id = 2", "", "1 open ~", "nothing"),
        // Under FULL the old row is always sent; without it nothing is known of it.
        ("id = 1", "lost", "1 open x", "update"),
        ("id = 2", "lost", "1 open x", "delete by update, maybe"),
        ("body = 'x'", "lost", "1 open ~", "update, as before"),
        ("body = 'x' AND id = 1", "lost", "1 open ~", "update, undecided"),
    ] {
        assert_eq!(
            updated(predicate, old, new),
            expected,
            "{predicate}: {old} -> {new}"
        );
    }
}

#[test]
fn inserts_deletes_and_truncates_mean_what_they_say() {
    let matched = |predicate: &str, identity, op: &dyn Fn(Tuple<'static>) -> Op<'static>, row: &str| {
        let relation = relation(identity);
        let matcher = Predicate::parse(predicate)
            .unwrap()
            .bind(View::whole(&relation), &[])
            .unwrap();
        let bytes: &'static [u8] = encoded(row).leak();
        told(membership(
            &matcher,
            &relation,
            &op(Tuple::parse(bytes).unwrap().0),
        ))
    };
    let insert = |new| Op::Insert { new };
    let delete_key = |old| Op::Delete {
        old: OldTuple::Key(old),
    };
    let delete_full = |old| Op::Delete {
        old: OldTuple::Full(old),
    };
    let default = ReplicaIdentity::Default;
    let full = ReplicaIdentity::Full;
    assert_eq!(matched("state = 'open'", default, &insert, "1 open x"), "insert");
    assert_eq!(matched("state = 'open'", default, &insert, "1 - x"), "nothing");
    assert_eq!(
        matched("state = 'open'", full, &delete_full, "1 open x"),
        "delete"
    );
    assert_eq!(
        matched("state = 'open'", full, &delete_full, "1 done x"),
        "nothing"
    );
    assert_eq!(
        matched("state = 'open'", default, &delete_key, "1 - -"),
        "delete, maybe"
    );
    // Of rows that are too large or come from partitions values may be missing.
    assert_eq!(
        matched("body = 'x'", full, &insert, "1 open ~"),
        "insert, undecided"
    );
    assert_eq!(
        matched("body = 'x'", full, &delete_full, "1 open ~"),
        "delete, maybe"
    );
    assert_eq!(
        matched("body IS NULL", full, &delete_full, "1 open ~"),
        "delete, maybe"
    );
    assert_eq!(matched("id = 2", default, &delete_key, "~ - -"), "delete, maybe");
    assert_eq!(
        matched("state IS NULL AND id = 2", default, &delete_key, "1 - -"),
        "nothing"
    );
    assert_eq!(matched("id = 1", default, &delete_key, "1 - -"), "delete");
    assert_eq!(matched("id = 2", default, &|_| Op::Truncate, "1 - -"), "truncate");
}

#[test]
fn a_predicate_outside_the_identity_is_undecided_and_its_words_end_with_the_fix() {
    let bound = |predicate: &str, relation: &Relation| {
        Predicate::parse(predicate)
            .unwrap()
            .bind(View::whole(relation), &[])
    };
    let by_key = relation(ReplicaIdentity::Default);
    let open = bound("state = 'open' AND id > 1 AND body IS NULL", &by_key).unwrap();
    assert!(!decides(&open, &by_key));
    let undecided = Undecided::of(&open, &by_key).unwrap();
    let fix = "; fix: ALTER TABLE public.t REPLICA IDENTITY FULL";
    // That a long value is not null is always known.
    let long = "; an update that leaves a long value of state as it was comes with \"undecided\": true";
    assert_eq!(
        undecided.refusal(),
        format!(
            "the replica identity of public.t does not hold state, body: which rows leave the result by an update cannot \
             be told (\"undecided\" may be \"send\" or \"withhold\" instead){fix}"
        )
    );
    assert_eq!(
        undecided.sent(),
        format!(
            "the replica identity of public.t does not hold state, body: an update whose new row does not match comes as \
             a delete, also of rows that were not in the result{long}{fix}"
        )
    );
    assert_eq!(
        undecided.withheld(),
        format!(
            "the replica identity of public.t does not hold state, body: rows that leave the result by an update are not \
             reported, and every delete is{long}{fix}"
        )
    );
    let mut without_identity = by_key.clone();
    for column in &mut without_identity.columns {
        column.identity = false;
    }
    for (matcher, relation) in [
        (bound("id > 1", &by_key).unwrap(), by_key.clone()),
        (Matcher::all(), by_key),
        (open.clone(), relation(ReplicaIdentity::Full)),
        // Rows only ever come: Postgres neither updates nor deletes them while that is published.
        (open, without_identity),
    ] {
        assert!(decides(&matcher, &relation));
    }
}

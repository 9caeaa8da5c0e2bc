use serde_json::json;

use super::*;
use crate::event::{
    Collation, Column, Relation, ReplicaIdentity, Tuple, Value as Field, View, encode_values,
};
use crate::filter::testing::{column, table};
use crate::filter::{Matcher, Row, Verdict};

fn relation() -> Relation {
    let kinds = [
        ("id", Kind::Int4),
        ("tenant", Kind::Int4),
        ("owner", Kind::Text),
        ("body", Kind::Text),
        ("public", Kind::Bool),
        ("doc", Kind::Json),
        ("data", Kind::Jsonb),
    ];
    let columns = kinds.map(|(name, kind)| Column {
        identity: name != "body",
        collation: Collation::Deterministic,
        ..column(name, kind)
    });
    table(ReplicaIdentity::Default, columns)
}

fn bind(policy: &str, claims: &Json) -> Result<Matcher, Error> {
    let policy = Predicate::parse_policy(policy).unwrap();
    let with_claims = policy.with_claims(&|path| claims.pointer(&format!("/{}", path.replace('.', "/"))));
    with_claims.bind(View::whole(&relation()), &[])
}

/// The verdict on a row from words: `-` is null, `~` a value that the log lacks.
fn verdict(matcher: &Matcher, row: &str) -> Verdict {
    let values = row.split(' ').map(|word| match word {
        "-" => Field::Null,
        "~" => Field::Unchanged,
        text => Field::Text(text.as_bytes()),
    });
    let values: Vec<Field<'_>> = values.collect();
    let mut bytes = Vec::new();
    encode_values(values.into_iter(), &mut bytes);
    matcher.eval(&Row::new(Tuple::parse(&bytes).unwrap().0))
}

fn admits(policy: &str, claims: &Json, row: &str) -> bool {
    let matcher = bind(policy, claims).unwrap().certain();
    verdict(&matcher, row) == Verdict::Matches
}

#[test]
fn a_claim_is_a_text_and_a_cast_makes_it_what_the_column_is() {
    let claims = json!({"tenant": 7, "sub": "ann", "app": {"rooms": [1, "2", null]}, "nothing": null});
    assert!(admits("tenant = claim('tenant')::int", &claims, "1 7 x x t"));
    assert!(!admits("tenant = claim('tenant')::int", &claims, "1 8 x x t"));
    assert!(admits("owner = claim('sub')", &claims, "1 8 ann x t"));
    assert!(admits(
        "tenant = ANY (claim('app.rooms')::int[])",
        &claims,
        "1 2 x x t"
    ));
    assert!(!admits(
        "tenant = ANY (claim('app.rooms')::int[])",
        &claims,
        "1 3 x x t"
    ));
    // As Postgres has no operator for an integer and a text.
    assert!(bind("tenant = claim('tenant')", &claims).is_err());
}

#[test]
fn a_claim_that_is_not_there_is_null() {
    for claims in [json!({}), json!({"tenant": null}), json!({"tenant": {}})] {
        let path = if claims["tenant"].is_object() {
            "tenant.id"
        } else {
            "tenant"
        };
        let policy = format!("tenant = claim('{path}')::int");
        assert!(!admits(&policy, &claims, "1 7 x x t"));
        assert!(admits(&format!("claim('{path}') IS NULL"), &claims, "1 7 x x t"));
    }
}

#[test]
fn a_claim_that_cannot_be_cast_is_an_error_of_the_predicate() {
    assert!(bind("tenant = claim('tenant')::int", &json!({"tenant": "seven"})).is_err());
    assert!(bind("tenant = ANY (claim('rooms')::int[])", &json!({"rooms": ["x"]})).is_err());
}

#[test]
fn a_claim_is_a_value_and_never_a_part_of_the_predicate() {
    let claims = json!({"sub": "' OR true OR owner = '"});
    assert!(!admits("owner = claim('sub')", &claims, "1 7 ann x t"));
}

#[test]
fn claims_stand_in_policies_only() {
    assert!(Predicate::parse("owner = claim('sub')").is_err());
    for wrong in [
        "owner = claim()",
        "owner = claim(owner)",
        "owner = claim('a', 'b')",
        "owner = claim('')",
        "owner = claim($1)",
    ] {
        assert!(Predicate::parse_policy(wrong).is_err(), "{wrong}");
    }
    let policy =
        Predicate::parse_policy("owner = claim('b') AND (claim('a')::bool OR lower(claim('b')) = 'x')");
    assert_eq!(policy.unwrap().claims(), ["a", "b"]);
    // Without a caller there is no value.
    let unbound = Predicate::parse_policy("owner = claim('sub')").unwrap();
    assert!(unbound.bind(View::whole(&relation()), &[]).is_err());
    assert!(unbound.to_sql(View::whole(&relation()), &[]).is_err());
}

#[test]
fn what_is_not_certain_is_not_admitted() {
    let of = |policy: &str| bind(policy, &json!({})).unwrap();
    for (policy, row) in [
        ("body = 'x'", "1 7 ann ~ t"),
        ("body <> 'x'", "1 7 ann ~ t"),
        ("NOT (body = 'x')", "1 7 ann ~ t"),
        ("public OR body = 'x'", "1 7 ann ~ f"),
        ("(body::int) > 0", "1 7 ann x t"),
    ] {
        let matcher = of(policy);
        assert_ne!(verdict(&matcher, row), Verdict::DoesNot, "{policy}");
        assert_eq!(verdict(&matcher.certain(), row), Verdict::DoesNot, "{policy}");
    }
    // Those who write rows choose what is in them: none of this makes a row everybody's.
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    for document in [
        r#"{"tenant":"\u0000"}"#,
        r#"{"tenant":"\ud800"}"#,
        r#"{"tenant":{"a":"me"}}"#,
        r#"[{"tenant":"me"}]"#,
        "me",
        "",
        &deep,
        &format!(r#"{{"a":{deep},"tenant":1}}"#),
    ] {
        for policy in [
            "doc ->> 'tenant' = 'me'",
            "NOT (doc ->> 'tenant' <> 'me')",
            "(doc ->> 'tenant')::int > 0",
            "data ->> 'tenant' = 'me'",
            "data @> '{\"tenant\": \"me\"}'",
            "data -> 'a' -> 'b' ->> 'c' = 'me'",
        ] {
            let row = format!("1 7 ann x t {document} {document}");
            let verdict = verdict(&of(policy).certain(), &row);
            let is_int = policy.contains("int") && document.contains("\"tenant\":1}");
            assert_eq!(verdict == Verdict::Matches, is_int, "{policy}: {document:.40}");
        }
    }
    for (policy, row) in [
        ("public OR body = 'x'", "1 7 ann ~ t"),
        ("body IS NOT NULL", "1 7 ann ~ t"),
    ] {
        assert_eq!(verdict(&of(policy).certain(), row), Verdict::Matches, "{policy}");
    }
}

#[test]
fn a_policy_decides_whatever_the_client_s_predicate_makes_of_the_row() {
    let policy = bind("tenant = claim('tenant')::int", &json!({"tenant": 7}))
        .unwrap()
        .certain();
    let both = |predicate: &str| {
        let client = bind(predicate, &json!({})).unwrap();
        Matcher::all_of([policy.clone(), client])
    };
    let fails = both("(body::int) > 0");
    assert_eq!(verdict(&fails, "1 8 ann x t"), Verdict::DoesNot);
    assert_eq!(verdict(&fails, "1 7 ann x t"), Verdict::Fails);
    let undecided = both("body = 'x'");
    assert_eq!(verdict(&undecided, "1 8 ann ~ t"), Verdict::DoesNot);
    assert_eq!(verdict(&undecided, "1 7 ann ~ t"), Verdict::Undecided);
    assert!(Matcher::any_of([]).is_empty());
    assert_eq!(
        verdict(&Matcher::any_of([policy.clone()]), "1 7 ann ~ t"),
        Verdict::Matches
    );
}

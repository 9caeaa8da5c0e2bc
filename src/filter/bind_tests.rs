use serde_json::json;

use super::*;
use crate::event::{
    Collation, Column, Relation, ReplicaIdentity, Tuple, Value as Field, View, encode_values,
};
use crate::filter::testing::{column, table};
use crate::filter::{Row, Verdict};
use crate::types::Ctype;

fn pair() -> Kind {
    Kind::Composite {
        attributes: Vec::new(),
        only_grew: true,
    }
}

fn mood() -> Kind {
    Kind::Enum {
        labels: ["sad", "ok", "happy"].map(str::to_owned).to_vec(),
        oids: Vec::new(),
        is_domain: false,
    }
}

fn relation() -> Relation {
    let columns = [
        ("id", Kind::Int4, Collation::None),
        ("n", Kind::Numeric, Collation::None),
        ("f4", Kind::Float4, Collation::None),
        ("on", Kind::Bool, Collation::None),
        ("name", Kind::Text, Collation::Deterministic),
        ("code", Kind::Text, Collation::Ascii),
        ("fold", Kind::Text, Collation::Nondeterministic),
        ("Odd", Kind::Int4, Collation::None),
        ("doc", Kind::Jsonb, Collation::None),
        ("at", Kind::TimestampTz, Collation::None),
        ("state", mood(), Collation::None),
        (
            "tags",
            Kind::Array(Box::new(Kind::Text)),
            Collation::Deterministic,
        ),
        ("pair", pair(), Collation::None),
        ("fixed", Kind::Bpchar, Collation::Deterministic),
        ("hour", Kind::Time, Collation::None),
        ("nick", Kind::Citext(Ctype::C), Collation::Ascii),
        (
            "nicks",
            Kind::Array(Box::new(Kind::Citext(Ctype::C))),
            Collation::Deterministic,
        ),
        (
            "unasked",
            Kind::Citext(Ctype::Named("never asked".into())),
            Collation::Deterministic,
        ),
        ("library", Kind::Text, Collation::Library),
        // A type that is known by its text alone.
        ("other", Kind::Other, Collation::Deterministic),
    ];
    let columns = columns.map(|(name, kind, collation)| Column {
        identity: name == "id",
        collation,
        ctype: match name {
            "unasked" => Ctype::Named("never asked".into()),
            _ => Ctype::Unknown,
        },
        ..column(name, kind)
    });
    table(ReplicaIdentity::Default, columns)
}

fn bind(text: &str, parameters: &[Json]) -> Result<Matcher, Error> {
    Predicate::parse(text)?.bind(View::whole(&relation()), parameters)
}

/// The verdict over a row with these values, the others null.
fn verdict(text: &str, parameters: &[Json], values: &[(&str, &str)]) -> Verdict {
    let relation = relation();
    let fields =
        relation.columns.iter().map(
            |column| match values.iter().find(|(name, _)| *name == column.name) {
                Some((_, text)) => Field::Text(text.as_bytes()),
                None => Field::Null,
            },
        );
    let fields: Vec<Field<'_>> = fields.collect();
    let mut bytes = Vec::new();
    encode_values(fields.into_iter(), &mut bytes);
    let matcher = bind(text, parameters).unwrap_or_else(|e| panic!("{text}: {e}"));
    matcher.eval(&Row::new(Tuple::parse(&bytes).unwrap().0))
}

fn matches(text: &str, values: &[(&str, &str)]) -> bool {
    verdict(text, &[], values) == Verdict::Matches
}

#[path = "bind_tests/collations.rs"]
mod collations;
#[path = "bind_tests/refused.rs"]
mod refused;

#[test]
fn a_lone_value_and_a_list_compare_with_real_as_postgres_types_them() {
    let row = [("f4", "0.1")];
    assert!(matches("f4 = '0.1'", &row), "an open literal is a real");
    assert!(
        !matches("f4 = 0.1", &row),
        "a number is compared as double precision"
    );
    assert!(!matches("f4 IN (0.1)", &row), "a single value is no list");
    assert!(matches("f4 IN (0.1, 7)", &row), "a list takes the type real");
    assert!(!matches("f4 IN (0.1, 7::float8)", &row), "or a wider one");
}

#[test]
fn parameters_take_their_type_from_their_place() {
    let id = [("id", "7"), ("n", "9007199254740993"), ("on", "t"), ("name", "7")];
    let yes = |text: &str, parameters: &[Json]| {
        assert_eq!(
            verdict(text, parameters, &id),
            Verdict::Matches,
            "{text} {parameters:?}"
        );
    };
    yes("id = $1 AND name = $1", &[json!(7)]);
    yes("id = $1", &[json!("7")]);
    yes("n = $1", &[json!(9007199254740993i64)]);
    yes("n < $1", &[json!("9007199254740993.5")]);
    yes("\"on\" = $1 AND $1", &[json!(true)]);
    yes("id IN ($1, $2, $3)", &[json!(1), json!(null), json!(7)]);
    yes("f4 IS NOT DISTINCT FROM $1", &[json!(null)]);
    for (text, parameters, message) in [
        ("id = $1", json!([]), "$1 has no value: no parameters were given"),
        (
            "id = $2",
            json!([1]),
            "$2 has no value: one parameter was given, $1",
        ),
        ("id = $1", json!([1, 2]), "parameter $2 is given but not used"),
        (
            "id = $1",
            json!([[1]]),
            "the parameter is an array where a value of type integer is needed: one of its items is asked for by = ANY ($1)",
        ),
        (
            "id = $1",
            json!([{}]),
            "invalid input syntax for type integer: \"{}\"",
        ),
        (
            "name = $1",
            json!(["a\u{0}"]),
            "parameter $1 holds the character U+0000, which no value can",
        ),
        (
            "id = $1",
            json!([1.5]),
            "invalid input syntax for type integer: \"1.5\"",
        ),
        (
            "id = $1",
            json!([3_000_000_000u64]),
            "\"3000000000\" is out of range for type integer",
        ),
    ] {
        let error = bind(text, parameters.as_array().unwrap()).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}

#[test]
fn parameters_are_lists_and_documents_where_those_are_asked_for() {
    let row = [
        ("id", "7"),
        ("tags", "{a,NULL}"),
        ("doc", r#"{"a": [1, "x"], "b": {"c": null}}"#),
    ];
    let is = |text: &str, parameter: Json, expected| {
        assert_eq!(
            verdict(text, std::slice::from_ref(&parameter), &row),
            expected,
            "{text} {parameter}"
        );
    };
    is("id = ANY ($1)", json!([1, "7", null]), Verdict::Matches);
    is("id = ANY ($1)", json!("{1,7}"), Verdict::Matches);
    is("NOT id = ANY ($1)", json!([]), Verdict::Matches);
    is("NOT id = ANY ($1)", json!([null]), Verdict::DoesNot);
    is("tags @> $1", json!(["a"]), Verdict::Matches);
    is("$1 = ANY (tags)", json!("a"), Verdict::Matches);
    is("doc @> $1", json!({"a": ["x"]}), Verdict::Matches);
    is("doc -> 'a' = $1", json!([1.0, "x"]), Verdict::Matches);
    is("doc ->> $1 IS NULL", json!("c"), Verdict::Matches);
    is("doc #>> $1 IS NULL", json!(["b", "c"]), Verdict::Matches);
    is("doc #>> $1 = 'x'", json!(["a", "1"]), Verdict::Matches);
    let too_many = json!(vec![1; 1_001]);
    let error = bind("id = ANY ($1)", &[too_many]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the predicate is too large: more than 1000 values in an array"
    );
    let error = bind("name = $1", &[json!(["x".repeat(70_000)])]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the predicate is too large: more than 65536 bytes of parameters"
    );
}

#[test]
fn what_is_said_in_other_words_is_the_same_matcher() {
    for (text, same) in [
        ("id = ANY ('{1,2}')", "id IN (2, 1)"),
        ("id = ANY ('{1}')", "id = 1"),
        ("name = ANY ('{}')", "1 = 2"),
        ("doc ->> 'x' = ANY ('{b,a}')", "(doc ->> 'x') IN ('a', 'b', 'a')"),
        ("'{a}' <@ tags", "tags @> '{\"a\"}'"),
        ("doc @> '{\"a\":1.0}'", "'{ \"a\" : 1 }' <@ doc"),
        ("id::bigint = 7", "id = 7"),
        ("name NOT LIKE 'a%'", "NOT name LIKE 'a%%'"),
    ] {
        assert_eq!(bind(text, &[]), bind(same, &[]), "{text}");
    }
}

#[test]
fn what_is_not_in_the_log_may_be_anything() {
    let relation = relation();
    for text in [
        "name LIKE 'a%'",
        "name NOT LIKE '%'",
        "doc ->> 'x' IS NULL",
        "doc @> '{}'",
        "NOT doc ? 'x'",
        "tags && '{a}'",
        "'a' = ANY (tags)",
        "NOT tags = '{}'",
        "doc -> 'x' = '1'",
        "doc ->> 'x' IN ('a', 'b')",
        "state < 'ok'",
        "name = ANY (tags)",
        "tags IS DISTINCT FROM '{}'",
        "doc ->> 'x' = name",
    ] {
        let mut bytes = Vec::new();
        encode_values(relation.columns.iter().map(|_| Field::Unchanged), &mut bytes);
        let tuple = Tuple::parse(&bytes).unwrap().0;
        let matcher = bind(text, &[]).unwrap();
        assert_eq!(matcher.eval(&Row::new(tuple)), Verdict::Undecided, "{text}");
        assert_eq!(
            matcher.eval(&Row::identity(tuple, &relation)),
            Verdict::Undecided,
            "{text}"
        );
    }
}

#[test]
fn labels_are_ordered_as_they_were_declared_and_one_that_is_not_known_is_nowhere() {
    let verdict = |text: &str, state: &str| verdict(text, &[], &[("state", state)]);
    use Verdict::{DoesNot, Matches, Undecided};
    for (text, verdicts) in [
        ("state < 'ok'", [Matches, DoesNot, DoesNot, Undecided]),
        ("state >= 'ok'", [DoesNot, Matches, Matches, Undecided]),
        ("'happy' > state", [Matches, Matches, DoesNot, Undecided]),
        ("NOT state <= 'sad'", [DoesNot, Matches, Matches, Undecided]),
        ("state = 'ok'", [DoesNot, Matches, DoesNot, DoesNot]),
        ("state <> 'ok'", [Matches, DoesNot, Matches, Matches]),
        ("state IN ('sad', 'happy')", [Matches, DoesNot, Matches, DoesNot]),
        (
            "state BETWEEN 'sad' AND 'ok'",
            [Matches, Matches, DoesNot, Undecided],
        ),
        ("state < state", [DoesNot, DoesNot, DoesNot, Undecided]),
        ("state::text = 'ok'", [DoesNot, Matches, DoesNot, DoesNot]),
    ] {
        let found = ["sad", "ok", "happy", "new"].map(|state| verdict(text, state));
        assert_eq!(found, verdicts, "{text}");
    }
}

#[test]
fn predicates_of_the_same_meaning_share_one_matcher() {
    for (a, b) in [
        ("id = 1 AND name = 'x'", "(name='x') AND 1 = id"),
        ("id IN (3, 1, 2, 1)", "id IN (1, 2, 3)"),
        ("id IN (1)", "id = 1"),
        ("NOT (id = 1 OR n > 2)", "id <> 1 AND n <= 2.0"),
        ("id BETWEEN 1 AND 2", "id >= 1 AND id <= 2"),
        ("\"on\"", "\"on\" = true AND NOT false"),
        ("NOT \"on\"", "\"on\" <> 't'"),
        ("n = 1.50", "n = '15e-1'"),
        ("1 = 1", "true"),
        ("id = NULL", "NULL"),
    ] {
        assert_eq!(bind(a, &[]), bind(b, &[]), "{a} and {b}");
    }
    assert_eq!(bind("id = $1", &[json!(5)]), bind("id = 5", &[]));
    assert_ne!(bind("id = $1", &[json!(5)]), bind("id = $1", &[json!(6)]));
    assert_eq!(bind("true", &[]), Ok(Matcher::all()));
}

#[test]
fn a_matcher_names_the_columns_it_reads() {
    let matcher = bind(
        "name = 'x' AND (id = 1 OR id < \"Odd\") AND doc IS NULL AND n IN (1, 2)",
        &[],
    );
    assert_eq!(matcher.unwrap().columns(), [0, 1, 4, 7, 8]);
    assert!(Matcher::all().columns().is_empty());
}

#[test]
fn a_value_that_cannot_be_read_leaves_the_row_undecided() {
    assert_eq!(verdict("id = 7", &[], &[("id", "seven")]), Verdict::Undecided);
    assert_eq!(verdict("id IS NULL", &[], &[("id", "seven")]), Verdict::DoesNot);
}

#[test]
fn a_composite_is_asked_for_as_a_value_only() {
    assert_eq!(
        bind("id = 1 OR pair IS NOT NULL", &[]).unwrap_err(),
        Error::unsupported(
            "IS NULL of a composite (IS NOT DISTINCT FROM NULL asks for the value itself)",
            10
        )
    );
    let held = "pair IS DISTINCT FROM NULL";
    assert_eq!(verdict(held, &[], &[("pair", "(,)")]), Verdict::Matches);
    assert_eq!(verdict(held, &[], &[]), Verdict::DoesNot);
    assert!(bind("pair = pair", &[]).is_err());
}

#[test]
fn names_are_measured_one_by_one_also_in_an_array() {
    let mut relation = relation();
    for column in relation.columns.iter_mut().filter(|column| column.name == "name") {
        // Of type `name`, whose values Postgres cuts.
        column.ty.oid = 19;
    }
    let bind = |text: &str| Predicate::parse(text).unwrap().bind(View::whole(&relation), &[]);
    let short = "x".repeat(63);
    let long = "x".repeat(64);
    assert!(bind(&format!("name = '{short}'")).is_ok());
    assert!(bind(&format!("name = ANY ('{{{short},{short}}}')")).is_ok());
    for text in [
        format!("name = '{long}'"),
        format!("name = ANY ('{{a,{long}}}')"),
        format!("name IN ('a', '{long}')"),
    ] {
        let refused = bind(&text).unwrap_err().to_string();
        assert!(refused.contains("63 bytes"), "{text}: {refused}");
    }
}

#[test]
fn what_is_compared_with_nothing_is_computed_all_the_same() {
    use Verdict::{DoesNot, Fails, Matches};
    for (text, parameters, verdicts) in [
        ("f4::int = ANY ('{2}')", json!([]), [Matches, DoesNot, Fails]),
        (
            "f4::int = ANY ($1)",
            json!([["2", null]]),
            [Matches, DoesNot, Fails],
        ),
        ("f4::int = ANY ('{}')", json!([]), [DoesNot, DoesNot, Fails]),
        ("f4::int = ANY ('{NULL}')", json!([]), [DoesNot, DoesNot, Fails]),
        (
            "f4::int = ANY (NULL::int[])",
            json!([]),
            [DoesNot, DoesNot, Fails],
        ),
        ("f4::int <> ANY ($1)", json!([[]]), [DoesNot, DoesNot, Fails]),
        ("NOT f4::int = ANY ('{}')", json!([]), [Matches, Matches, Fails]),
    ] {
        // It is rounded to the even one; there is none; it is none.
        let found = [Some("2.5"), None, Some("1e30")].map(|value| {
            let values: Vec<(&str, &str)> = value.iter().map(|value| ("f4", *value)).collect();
            verdict(text, parameters.as_array().unwrap(), &values)
        });
        assert_eq!(found, verdicts, "{text}");
    }
}

use serde_json::json;

use super::*;
use crate::event::{Collation, Column, ReplicaIdentity, TableName, Tuple, Value as Field, encode_values};
use crate::filter::{Row, Verdict};
use crate::types::{Ctype, Type};

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
        // A type that is known by its text alone.
        ("other", Kind::Other, Collation::Deterministic),
    ];
    Relation {
        oid: 1,
        table: TableName::new("public", "t"),
        replica_identity: ReplicaIdentity::Default,
        columns: columns
            .into_iter()
            .map(|(name, kind, collation)| Column {
                name: name.into(),
                ty: Type {
                    oid: 0,
                    name: kind.name().into(),
                    kind,
                },
                typmod: -1,
                identity: name == "id",
                collation,
                attnum: Default::default(),
                ctype: match name {
                    "unasked" => Ctype::Named("never asked".into()),
                    _ => Ctype::Unknown,
                },
            })
            .collect(),
        key: vec![0],
        logging: Default::default(),
    }
}

fn bind(text: &str, parameters: &[Json]) -> Result<Matcher, Error> {
    Predicate::parse(text)?.bind(&relation(), parameters)
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

#[test]
fn names_fold_as_sql_folds_them() {
    for text in [
        "ID = 7",
        "\"id\" = 7",
        "t.Id = 7",
        "T.id = 7",
        "public.t.id = 7",
        "id=7",
    ] {
        assert!(matches(text, &[("id", "7")]), "{text}");
    }
    assert!(matches("\"Odd\" = 7", &[("Odd", "7")]));
    for (text, name, offset) in [
        ("id = 1 AND Odd = 7", "odd", 11),
        ("\"ID\" = 1", "ID", 0),
        ("u.id = 1", "u.id", 0),
        ("é.id = 1 OR x", "é.id", 0),
        ("ctid = 'x'", "ctid", 0),
    ] {
        let name = name.to_owned();
        match bind(text, &[]) {
            Err(Error::UnknownColumn {
                name: found,
                offset: at,
                ..
            }) => assert_eq!((found, at), (name, offset), "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

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
        (
            "id = $1",
            json!([]),
            "$1 has no value: 0 parameters were given, counted from $1",
        ),
        (
            "id = $2",
            json!([1]),
            "$2 has no value: 1 parameters were given, counted from $1",
        ),
        ("id = $1", json!([1, 2]), "parameter $2 is given but not used"),
        (
            "id = $1",
            json!([[1]]),
            "the parameter is an array where a value of type integer is needed",
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
fn what_the_documentation_calls_refused_is() {
    let long = format!("name LIKE '{}'", "x".repeat(1_001));
    for text in [
        "fixed = name",
        "fixed = 'x'::text",
        "hour = '12:00'::timetz",
        "name = E'x'",
        "name = U&'x'",
        "name = $$x$$",
        "n = '1.25'::numeric(4,1)",
        "name = CAST('abc' AS varchar(2))",
        "(id = 1) = true",
        "id BETWEEN SYMMETRIC 2 AND 1",
        "hour = '12'",
        "other = 'x'",
        "name ILIKE 'x'",
        "doc ->> 'a' ILIKE 'x'",
        "unasked = 'x'",
        "unasked = unasked",
        "unasked IN ('x', 'y')",
        "'x' = ANY (nicks) AND unasked <> 'x'",
        "unasked IS DISTINCT FROM 'x'",
        "unasked LIKE 'x'",
        "nick = fixed",
        "nick = 'x'::citext",
        "name::citext = 'x'",
        "name < 'x'",
        "fold LIKE 'x'",
        "now() > at",
        "n + 1 = 2",
        "id + 1.5 = 2",
        "- n = 2",
        "at + '1 day' > at",
        "length(name) = 2",
        "name SIMILAR TO 'x'",
        "name ~ 'x'",
        "name COLLATE \"C\" < 'x'",
        "at AT TIME ZONE 'UTC' = at",
        "id = ALL ('{1}')",
        "tags = ARRAY[name]",
        "tags = ARRAY[]",
        "tags[1] = 'x'",
        "f4::numeric = 1",
        "(doc -> 'n')::uuid IS NULL",
        "doc::jsonb::date IS NULL",
        "coalesce(nick, 'x') = 'x'",
        "coalesce(tags, '{}') = '{}'",
        "lower(name) = 'x'",
        "at::text = 'x'",
        "doc < '1'",
        "doc -> 'n' > '1'",
        "doc ?| '{a}'",
        "doc ?& '{a}'",
        "doc @? '$'",
        "doc @@ '$'",
        "doc -> name = '1'",
        "name LIKE code",
        "name LIKE 'x\\'",
        "name LIKE 'x' ESCAPE 'ab'",
        "pair IS NULL",
        &long,
    ] {
        assert!(bind(text, &[]).is_err(), "{text}");
    }
    for text in [
        "fixed = 'x'",
        "hour = '12:30:00'",
        "other IS NULL",
        "pair IS NOT DISTINCT FROM NULL",
        "(id = 1) IS TRUE",
        "code ILIKE 'x'",
        "nick = 'x' AND nick < 'x' AND nick LIKE 'x' AND nick IN ('x', 'y') AND 'x' = ANY (nicks) AND nicks @> '{x}'",
        "nick = name AND nick::text = 'x' AND nick = 'x'::text",
        "unasked IS NULL AND unasked::text = 'x' AND unasked = name",
        "code < 'x'",
        "name LIKE 'x'",
        "'a' = ANY (tags)",
        "'a' <> ANY (tags)",
        "id = ANY ('{1,2}'::int[])",
        "tags @> '{x}' AND tags <@ '{x}' AND tags && '{x}' AND tags <> '{x}'",
        "doc -> 'a' -> 0 #> '{a,0}' ->> 'b' LIKE 'x%'",
        "doc #>> '{a,0}' IS NULL",
        "doc -> 'n' = '5' AND doc @> '{}' AND '{}' <@ doc AND doc ? 'key' AND doc <> '1'",
        "id::bigint = 1 AND id::numeric = 1 AND id::real = 1 AND id::float8 = 1 AND f4::float8 = 1",
        "id::text = '1' AND n::text = '1' AND state::text = 'ok' AND doc::text = '1' AND fixed::text = 'x'",
        "state < 'ok'",
    ] {
        assert!(bind(text, &[]).is_ok(), "{text}: {:?}", bind(text, &[]));
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
fn what_postgres_or_we_cannot_type_is_refused_with_its_place() {
    for (text, place, message) in [
        (
            "id = 'abc'",
            "'abc'",
            "invalid input syntax for type integer: \"abc\"",
        ),
        (
            "\"on\" AND id = name",
            "id",
            "values of type integer and text cannot be compared: to compare a text as a number cast it, (…)::numeric",
        ),
        (
            "\"on\" = 1",
            "\"on\"",
            "values of type boolean and integer cannot be compared",
        ),
        ("id AND \"on\"", "id", "a condition must be boolean, not integer"),
        ("doc = '{'", "'{'", "invalid input syntax for type jsonb: \"{\""),
        (
            "state = 'new'",
            "'new'",
            "invalid input syntax for type enum: \"new\"; its labels are 'sad', 'ok', 'happy'",
        ),
        (
            "name ILIKE 'X%'",
            "name",
            "ILIKE on \"name\", whose collation folds letters in a way that is known to the server alone, is not supported \
             in a predicate",
        ),
        (
            "unasked LIKE 'x'",
            "unasked",
            "LIKE on \"unasked\", whose collation folds letters in a way that is known to the server alone, is not \
             supported in a predicate",
        ),
        (
            "unasked = 'x'",
            "'x'",
            "comparing citext is not supported in this database: how its collation folds letters is known to the server \
             alone",
        ),
        (
            "fold LIKE 'x'",
            "fold",
            "LIKE on \"fold\", whose collation is nondeterministic, is not supported in a predicate",
        ),
        ("id LIKE '1'", "id", "LIKE needs a text, not integer"),
        (
            "name LIKE code",
            "code",
            "a pattern that is not a constant is not supported in a predicate",
        ),
        (
            "name LIKE 'x' ESCAPE 'yy'",
            "'yy'",
            "ESCAPE with more than one character is not supported in a predicate",
        ),
        (
            "name LIKE 'x\\'",
            "'x\\'",
            "a pattern that ends in its escape character is not supported in a predicate",
        ),
        (
            "f4::numeric = 1",
            "f4::numeric",
            "a cast of real to numeric is not supported in a predicate",
        ),
        (
            "id + n = 1",
            "id",
            "the operator + on integer and numeric (integers alone have it here) is not supported in a predicate",
        ),
        ("id / 0 = 1 - 1 / 0", "1 / 0", "division by zero"),
        ("id = 2147483647 * 2", "2147483647", "integer out of range"),
        ("id = - '1'", "'1'", "operator is not unique: - unknown"),
        (
            "lower(id) = 'x'",
            "id",
            "the function lower needs a text, not integer: cast it to text",
        ),
        ("lower(code, code) = 'x'", "lower", "lower takes one argument"),
        (
            "coalesce(id, name) = 1",
            "coalesce",
            "COALESCE types integer and text cannot be matched",
        ),
        (
            "coalesce(name, code) = 'x'",
            "code",
            "coalesce of texts of different collations is not supported in a predicate",
        ),
        (
            "doc < doc",
            "doc",
            "ordering jsonb is not supported in a predicate",
        ),
        (
            "doc -> name = '1'",
            "name",
            "a key that is not a constant is not supported in a predicate",
        ),
        ("id -> 'x' IS NULL", "id", "a value of type integer has no parts"),
        (
            "doc ->> 'x' < '1'",
            "doc",
            "ordering \"doc\", whose collation is not \"C\", is not supported in a predicate",
        ),
        (
            "other @> '{}'",
            "other",
            "the operator @> on other is not supported in a predicate",
        ),
        ("tags = ANY (id)", "id", "ANY needs an array, not integer"),
        (
            "tags @> '{a'",
            "'{a'",
            "\"{a\" is not the plain form of this array: write it like '{1,2,NULL}'",
        ),
        (
            "1 = ANY (tags)",
            "1",
            "values of type integer and array cannot be compared",
        ),
        (
            "name < 'x'",
            "name",
            "ordering \"name\", whose collation is not \"C\", is not supported in a predicate",
        ),
        (
            "fold = 'x'",
            "fold",
            "comparing \"fold\", whose collation is nondeterministic, is not supported in a predicate",
        ),
        (
            "at > 'now'",
            "'now'",
            "\"now\" is not an ISO 8601 timestamp with time zone, such as '2024-01-31 10:00:00+02'",
        ),
    ] {
        let error = bind(text, &[]).expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
        assert!(
            text[error.offset()..].starts_with(place),
            "{text}: {}",
            error.offset()
        );
    }
    for text in [
        "code < 'x'",
        "name = 'x'",
        "doc IS NOT NULL",
        "state IS NULL",
        "doc IS DISTINCT FROM NULL",
    ] {
        assert!(bind(text, &[]).is_ok(), "{text}");
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
fn citext_compares_in_lower_case_and_as_text_with_text() {
    let row = [("nick", "Ann"), ("name", "ann"), ("nicks", "{BOB,Ann}")];
    for text in [
        "nick = 'aNN'",
        "nick IN ('x', 'ANN')",
        "nick LIKE 'A_N'",
        "nick < 'ANNA'",
        "nick IS NOT DISTINCT FROM 'ANN'",
        "nick = ANY ('{ANN}')",
        "'bob' = ANY (nicks)",
        "nick = ANY (nicks)",
        "nicks && '{bob}'",
        "nicks = '{bob,ann}'",
        "nick::text = 'Ann'",
        "nick IN ('Ann'::text, 'x')",
    ] {
        assert!(matches(text, &row), "{text}");
    }
    for text in [
        "nick <> 'ANN'",
        "nick = 'ANN'::text",
        "nick = name",
        "nick IN ('ANN'::text, 'ann')",
        "nick::text LIKE 'ANN'",
        "nick = ANY ('{ANN}'::text[])",
    ] {
        assert!(!matches(text, &row), "{text}");
    }
    assert_eq!(
        bind("nick = 'ANN'", &[]),
        bind("nick = 'ann'", &[]),
        "they can share a matcher"
    );
    assert_eq!(verdict("nick = $1", &[json!("ANN")], &row), Verdict::Matches);
}

#[test]
fn names_are_measured_one_by_one_also_in_an_array() {
    let mut relation = relation();
    for column in relation.columns.iter_mut().filter(|column| column.name == "name") {
        // Of type `name`, whose values Postgres cuts.
        column.ty.oid = 19;
    }
    let bind = |text: &str| Predicate::parse(text).unwrap().bind(&relation, &[]);
    let (short, long) = ("x".repeat(63), "x".repeat(64));
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
fn what_people_write_first_is_answered_with_what_to_write() {
    for (text, hint) in [
        (
            "name = \"shipped\"",
            ": a text is written in single quotes, 'shipped'",
        ),
        (
            "name = shipped",
            ": if it is a text, write it in single quotes, 'shipped'",
        ),
        ("nmae = 'x'", ": did you mean name?"),
        (
            "odd = 1",
            ": did you mean \"Odd\"? A name with capitals needs double quotes",
        ),
        (
            "doc.kind = 'x'",
            ": a member of a document is written doc ->> 'kind'",
        ),
        ("o.id = 1", ": the only table is public.t"),
        ("state = 'hapy'", "; did you mean 'happy'?"),
        ("state = 'angry'", "; its labels are 'sad', 'ok', 'happy'"),
        (
            "select * from t where id = 1",
            "is the condition behind WHERE alone, such as status = 'paid'",
        ),
        (
            "where id = 1",
            "is the condition behind WHERE alone, such as status = 'paid'",
        ),
        (
            "id = 1 ORDER BY id",
            "; a predicate is the condition behind WHERE alone",
        ),
        ("name LIK 'x'", "; did you mean LIKE?"),
        ("id == 1", "the operator == (write =)"),
        (
            "id = 1 && id = 2",
            "&& as an operand (between conditions write AND)",
        ),
        (
            "id = 1 && \"on\"",
            "&& as an operand (between conditions write AND)",
        ),
        (
            "id = 1 || id = 2",
            "the operator || (write OR between conditions)",
        ),
        (
            "at > 2024-01-31",
            ": a date is written in single quotes, '2024-01-31'",
        ),
        (
            "doc ->> 'n' > 5",
            ": to compare a text as a number cast it, (…)::numeric",
        ),
        (
            "5 = (doc ->> 'n')",
            ": to compare a text as a number cast it, (…)::numeric",
        ),
        (
            "tags = ARRAY[1]",
            "an array that is written '{…}' has the type of the other",
        ),
    ] {
        let error = bind(text, &[]).expect_err(text).to_string();
        assert!(error.contains(hint), "{text}: {error}");
    }
}

use super::*;
use crate::event::{Collation, Column, Relation, ReplicaIdentity, View};
use crate::filter::testing::{column, table};
use crate::types::{Ctype, Kind};

fn relation() -> Relation {
    let columns = [
        ("id", Kind::Int4),
        ("na\"me", Kind::Text),
        ("tags", Kind::Array(Box::new(Kind::Text))),
        ("data", Kind::Jsonb),
    ];
    let columns = columns.map(|(name, kind)| Column {
        collation: match kind {
            Kind::Text => Collation::C,
            _ => Collation::None,
        },
        ctype: Ctype::C,
        ..column(name, kind)
    });
    table(ReplicaIdentity::Full, columns)
}

fn pushed(text: &str, parameters: &Json) -> (String, Vec<Option<String>>) {
    let predicate = Predicate::parse(text).unwrap();
    let parameters = parameters.as_array().unwrap();
    let Pushed { sql, values, .. } = predicate.to_sql(View::whole(&relation()), parameters).unwrap();
    (sql, values)
}

#[test]
fn a_parameter_goes_once_wherever_it_has_the_same_type() {
    let parameters = serde_json::json!(["7", "k"]);
    for (text, sql, values) in [
        (
            "id IN ($1, 5) OR id = $1",
            r#"(("id" IN ($1, (5))) OR ("id" = $1))"#,
            1,
        ),
        // As a number and as a text it is not the same.
        (
            "id = $1 OR \"na\"\"me\" = $1",
            r#"(("id" = $1) OR ("na""me" = $2))"#,
            2,
        ),
        ("id BETWEEN $1 AND $1", r#"("id" BETWEEN $1 AND $1)"#, 1),
        (
            "data ->> $2 = $1 AND data ->> $2 LIKE $1 AND data ->> 'a' = $1",
            r#"((("data" ->> $1) = $2) AND (("data" ->> $1) LIKE $3) AND (("data" ->> $4) = $2))"#,
            4,
        ),
        (
            "$2 = ANY (tags) OR tags @> '{a}' AND $2 = ANY (tags)",
            r#"(($1 = ANY ("tags")) OR (("tags" @> $2) AND ($1 = ANY ("tags"))))"#,
            2,
        ),
        (
            "id = $1::int OR id > $1::int",
            r#"(("id" = CAST($1 AS integer)) OR ("id" > CAST($1 AS integer)))"#,
            1,
        ),
    ] {
        let (written, given) = pushed(text, &parameters);
        assert_eq!((written.as_str(), given.len()), (sql, values), "{text}");
    }
}

#[test]
fn what_the_database_would_get_is_bounded() {
    let uses: Vec<String> = (0..100).map(|_| "$1 IN ('a', 'b')".to_owned()).collect();
    let predicate = Predicate::parse(&uses.join(" OR ")).unwrap();
    let parameters = [serde_json::json!("x".repeat(50_000))];
    let error = predicate
        .to_sql(View::whole(&relation()), &parameters)
        .unwrap_err();
    assert_eq!(error, Error::too_many_bytes(error.offset()));
}

#[test]
fn texts_go_as_values_and_names_are_quoted() {
    let some = |text: &str| Some(text.to_owned());
    let none = serde_json::json!([]);
    for (text, parameters, sql, values) in [
        (
            r#"id = 5 AND "na""me" <> 'it''s; --'"#,
            none.clone(),
            r#"(("id" = (5)) AND ("na""me" <> $1))"#,
            vec![some("it's; --")],
        ),
        (
            "NOT (id IN (1, -2, $1) OR id IS NULL)",
            serde_json::json!(["7"]),
            r#"((NOT ("id" IN ((1), (-2), $1))) AND (NOT ("id" IS NULL)))"#,
            vec![some("7")],
        ),
        (
            "tags @> $1 AND data @> $2",
            serde_json::json!([["a\"b", null, "c\\"], [1, "x"]]),
            r#"(("tags" @> $1) AND ("data" @> $2))"#,
            vec![some(r#"{"a\"b",NULL,"c\\"}"#), some(r#"[1,"x"]"#)],
        ),
        (
            "data ->> 'k' LIKE 'a%' ESCAPE '!' AND (id > 3) IS NOT UNKNOWN",
            none.clone(),
            r#"((("data" ->> $1) LIKE $2 ESCAPE $3) AND (("id" > (3)) IS NOT UNKNOWN))"#,
            vec![some("k"), some("a%"), some("!")],
        ),
        (
            "(data ->> 'k') COLLATE \"C\" < $1 AND tags COLLATE \"C\" > '{a}'",
            serde_json::json!(["x"]),
            r#"(((("data" ->> $1) COLLATE pg_catalog."C") < $2) AND (("tags" COLLATE pg_catalog."C") > $3))"#,
            vec![some("k"), some("x"), some("{a}")],
        ),
        (
            "'x' IS NULL OR id = ANY ('{1,2}'::int[])",
            none.clone(),
            r#"((CAST($1 AS pg_catalog.text) IS NULL) OR ("id" = ANY (CAST($2 AS integer[]))))"#,
            vec![some("x"), some("{1,2}")],
        ),
        (
            "lower(\"na\"\"me\") = lower($1) OR tags && ARRAY['x']",
            serde_json::json!(["Y"]),
            r#"((pg_catalog.lower("na""me") = pg_catalog.lower(CAST($1 AS pg_catalog.text))) OR ("tags" && ARRAY[$2]))"#,
            vec![some("Y"), some("x")],
        ),
        (
            "NULL IS DISTINCT FROM 'x'",
            none,
            r#"(NULL IS DISTINCT FROM CAST($1 AS pg_catalog.text))"#,
            vec![some("x")],
        ),
    ] {
        assert_eq!(pushed(text, &parameters), (sql.to_owned(), values), "{text}");
    }
}

#[test]
fn operators_of_citext_are_named_with_their_schema_and_take_its_types() {
    let relation = table(
        ReplicaIdentity::Full,
        [("who", Kind::Citext(Ctype::C)), ("note", Kind::Text)].map(|(name, kind)| Column {
            collation: Collation::C,
            ctype: Ctype::C,
            ..column(name, kind)
        }),
    );
    for (text, sql) in [
        (
            "who = 'a'",
            r#"(CAST("who" AS e.citext) OPERATOR(e.=) CAST($1 AS e.citext))"#,
        ),
        // That is `text`, as there.
        ("who = note", r#"("who" = "note")"#),
        ("note = 'a'", r#"("note" = $1)"#),
        (
            "who IN ('a', NULL)",
            r#"((CAST("who" AS e.citext) OPERATOR(e.=) ANY (CAST(ARRAY[CAST($1 AS pg_catalog.text), CAST(NULL AS pg_catalog.text)] AS e.citext[]))))"#,
        ),
        (
            "who NOT LIKE 'a%' ESCAPE '!'",
            r#"(CAST("who" AS e.citext) OPERATOR(e.!~~) pg_catalog.like_escape(CAST($1 AS pg_catalog.text), CAST($2 AS pg_catalog.text)))"#,
        ),
        (
            "who IS DISTINCT FROM 'a'",
            r#"((NOT COALESCE(CAST("who" AS e.citext) OPERATOR(e.=) CAST($1 AS e.citext), CAST("who" AS e.citext) IS NULL AND CAST($2 AS e.citext) IS NULL)))"#,
        ),
    ] {
        let mut pushed = Pushed {
            citext: Some("e".to_owned()),
            ..Pushed::default()
        };
        let predicate = Predicate::parse(text).unwrap();
        predicate
            .append_sql(View::whole(&relation), &[], &mut pushed)
            .unwrap();
        assert_eq!(pushed.sql, sql, "{text}");
    }
}

#[test]
fn what_can_fail_is_asked_last_and_an_index_can_still_be_used() {
    let none = serde_json::json!([]);
    for (text, sql) in [
        (
            "(data ->> 'n')::int > 5 AND id = 1",
            r#"(("id" = (1)) AND CASE WHEN (("id" = (1))) THEN (CAST(("data" ->> $1) AS integer) > (5)) ELSE FALSE END)"#,
        ),
        (
            "id % 2 = 0 OR id IS NULL",
            r#"(CASE WHEN (("id" IS NULL)) IS TRUE THEN TRUE ELSE (("id" % (2)) = (0)) END)"#,
        ),
        (
            "NOT (id % 2 = 0 AND id = 1)",
            r#"(CASE WHEN ((NOT ("id" = (1)))) IS TRUE THEN TRUE ELSE (NOT (("id" % (2)) = (0))) END)"#,
        ),
        (
            "(id % 2 = 0 AND id = 1) IS UNKNOWN",
            r#"((CASE WHEN (("id" = (1))) IS FALSE THEN FALSE ELSE ("id" = (1)) AND (("id" % (2)) = (0)) END) IS UNKNOWN)"#,
        ),
        ("id = 1 AND id = 2", r#"(("id" = (1)) AND ("id" = (2)))"#),
    ] {
        assert_eq!(pushed(text, &none).0, sql, "{text}");
    }
}

use serde_json::{Value as Json, json};

use super::*;
use crate::event::{
    Collation, Column, Relation, ReplicaIdentity, Tuple, Value as Field, View, encode_values,
};
use crate::filter::testing::{column, table};
use crate::filter::{DatabaseSession, Row, Verdict};

#[path = "row_security_tests/sessions.rs"]
mod sessions;

fn mood() -> Kind {
    Kind::Enum {
        labels: ["ok", "bad"].map(str::to_owned).into(),
        oids: Vec::new(),
        is_domain: false,
    }
}

fn relation() -> Relation {
    let array = |kind| Kind::Array(Box::new(kind));
    let kinds = [
        ("id", Kind::Int4),
        ("tenant", Kind::Int8),
        ("owner", Kind::Text),
        ("uid", Kind::Uuid),
        ("m", mood()),
        ("ch", Kind::Bpchar),
        ("ok", Kind::Bool),
        ("tags", array(Kind::Text)),
        ("data", Kind::Jsonb),
        ("n", Kind::Numeric),
        ("ip", Kind::Inet),
        ("at", Kind::TimestampTz),
        ("f", Kind::Float8),
    ];
    let columns = kinds.map(|(name, kind)| Column {
        identity: true,
        collation: match kind {
            Kind::Text | Kind::Bpchar | Kind::Array(_) => Collation::Deterministic,
            _ => Collation::None,
        },
        ..column(name, kind)
    });
    table(ReplicaIdentity::Full, columns)
}

const UID: &str = "4bd8b1ca-0c7b-4c5f-9f3e-1a2b3c4d5e6f";

/// A row that has these values, and nulls in all other columns.
fn row(values: &[(&str, &str)]) -> Vec<u8> {
    let relation = relation();
    let value = |column: &Column| {
        let found = values.iter().find(|(name, _)| *name == column.name);
        found.map_or(Field::Null, |(_, text)| Field::Text(text.as_bytes()))
    };
    let mut bytes = Vec::new();
    encode_values(relation.columns.iter().map(value), &mut bytes);
    bytes
}

fn names() -> PolicyNames {
    let types = ["public.mood", "inet", "character"];
    let function = |name: &str, body: &str, result: &str| {
        let function = SessionFunction::parse(body, result).unwrap();
        (name.to_owned(), function)
    };
    PolicyNames::new(
        types.map(str::to_owned),
        [
            function(
                "auth.uid",
                " select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''), \
                 (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid ",
                "uuid",
            ),
            function(
                "auth.jwt",
                "SELECT coalesce(nullif(current_setting('request.jwt.claim', true), ''), \
                 nullif(current_setting('request.jwt.claims', true), ''))::jsonb; ",
                "jsonb",
            ),
            function(
                "auth.role",
                "RETURN ((current_setting('request.jwt.claims'::text, true))::jsonb ->> 'role'::text)",
                "text",
            ),
        ],
    )
}

fn session(claims: &Json) -> DatabaseSession {
    DatabaseSession::new("customer", claims.as_object().unwrap().clone())
}

fn parse(policy: &str) -> Result<Predicate, Error> {
    Predicate::parse_row_security(policy, &names())
}

/// The verdict of a policy; an error if it cannot be bound.
fn verdict(policy: &str, claims: &Json, values: &[(&str, &str)]) -> Result<Verdict, Error> {
    let predicate = parse(policy).unwrap_or_else(|error| panic!("{policy}: {error}"));
    let (predicate, _) = predicate.in_session(&session(claims));
    let matcher = predicate.bind(View::whole(&relation()), &[])?.certain();
    let bytes = row(values);
    Ok(matcher.eval(&Row::new(Tuple::parse(&bytes).unwrap().0)))
}

fn admits(policy: &str, claims: &Json, values: &[(&str, &str)]) -> bool {
    let verdict = verdict(policy, claims, values);
    verdict.unwrap_or_else(|error| panic!("{policy}: {error}")) == Verdict::Matches
}

fn refusal(policy: &str) -> String {
    match parse(policy) {
        Ok(predicate) => panic!("{policy} is taken for {predicate:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_where_knows_is_known_as_postgres_prints_it() {
    let claims = json!({});
    for (policy, values) in [
        ("true", vec![]),
        ("((id >= 1) AND (id <= 5))", vec![("id", "3")]),
        ("(id = ANY (ARRAY[1, 2, '-3'::integer]))", vec![("id", "-3")]),
        ("(id = ANY ('{1,2}'::integer[]))", vec![("id", "2")]),
        ("(id <> ALL (ARRAY[1, 2]))", vec![("id", "3")]),
        (
            "((owner)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
            vec![("owner", "b")],
        ),
        (
            "((owner)::text <> ALL ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
            vec![("owner", "c")],
        ),
        ("(m = 'ok'::public.mood)", vec![("m", "ok")]),
        (
            "(m = ANY (ARRAY['ok'::public.mood, 'bad'::public.mood]))",
            vec![("m", "bad")],
        ),
        ("((m)::text = 'ok'::text)", vec![("m", "ok")]),
        ("(ch = 'a'::bpchar)", vec![("ch", "a  ")]),
        (
            "(ch = ANY (ARRAY['a'::bpchar, 'b'::bpchar]))",
            vec![("ch", "b  ")],
        ),
        ("(ip = '10.0.0.1'::inet)", vec![("ip", "10.0.0.1")]),
        ("(owner ~~ 'a%'::text)", vec![("owner", "ann")]),
        ("(owner !~~ 'a%'::text)", vec![("owner", "bob")]),
        ("(n > 10.5)", vec![("n", "11")]),
        ("(n > ('-1'::integer)::numeric)", vec![("n", "0")]),
        ("(f > (1.5)::double precision)", vec![("f", "2")]),
        (
            "(f > ('-10000000000'::numeric)::double precision)",
            vec![("f", "2")],
        ),
        (
            "((data ->> 'x'::text) = 'a'::text)",
            vec![("data", r#"{"x": "a"}"#)],
        ),
        (
            "((((data -> 'a'::text) ->> 'n'::text))::integer > 3)",
            vec![("data", r#"{"a": {"n": 4}}"#)],
        ),
        (
            "((data #>> '{a,b}'::text[]) = 'x'::text)",
            vec![("data", r#"{"a": {"b": "x"}}"#)],
        ),
        (
            r#"(data @> '{"a": 1}'::jsonb)"#,
            vec![("data", r#"{"a": 1, "b": 2}"#)],
        ),
        ("(data ? 'k'::text)", vec![("data", r#"{"k": null}"#)]),
        ("(tags && ARRAY['a'::text, 'b'::text])", vec![("tags", "{b}")]),
        ("('x'::text = ANY (tags))", vec![("tags", "{x}")]),
        ("(tags @> '{a}'::text[])", vec![("tags", "{a,b}")]),
        (
            "(at > '2024-01-01 00:00:00+00'::timestamp with time zone)",
            vec![("at", "2024-06-01 00:00:00+00")],
        ),
        ("(NOT ok)", vec![("ok", "f")]),
        ("((ok IS TRUE) AND (ok IS NOT FALSE))", vec![("ok", "t")]),
        ("(owner IS DISTINCT FROM 'a'::text)", vec![]),
        ("((owner = 'a'::text) IS UNKNOWN)", vec![]),
        ("(COALESCE(owner, 'x'::text) = 'x'::text)", vec![]),
        (r"(owner = 'it''s\'::text)", vec![("owner", r"it's\")]),
        (r#"((owner COLLATE "C") < 'b'::text)"#, vec![("owner", "a")]),
        ("((id)::text = '1'::text)", vec![("id", "1")]),
        ("((id % 2) = 0)", vec![("id", "4")]),
        (
            "((data ->> 'x'::text) IS NOT NULL)",
            vec![("data", r#"{"x": 1}"#)],
        ),
    ] {
        assert!(admits(policy, &claims, &values), "{policy}");
        let negated = format!("(NOT {policy})");
        assert!(!admits(&negated, &claims, &values), "{negated}");
    }
}

#[test]
fn what_the_database_is_asked_for_names_no_type_that_it_does_not_have() {
    for (policy, asked) in [
        ("(m = 'ok'::public.mood)", r#""m" = $1"#),
        (
            "(m = ANY (ARRAY['ok'::public.mood, 'bad'::public.mood]))",
            r#""m" IN"#,
        ),
        ("(ch = 'a'::bpchar)", r#""ch" = $1"#),
        ("(ip = '10.0.0.1'::inet)", r#""ip" = $1"#),
    ] {
        let mut pushed = crate::filter::Pushed::default();
        let predicate = parse(policy).unwrap();
        predicate
            .append_sql(View::whole(&relation()), &[], &mut pushed)
            .unwrap();
        assert!(pushed.sql.contains(asked), "{}", pushed.sql);
    }
}

#[test]
fn what_fails_in_the_database_admits_nothing() {
    for (policy, claims) in [
        ("(uid = auth.uid())", json!({"sub": "ann"})),
        ("(uid = auth.uid())", json!({"sub": ""})),
        (
            "(tenant = ((auth.jwt() ->> 'tenant'::text))::integer)",
            json!({"tenant": "seven"}),
        ),
        (
            "(tenant = ANY (((auth.jwt() ->> 'rooms'::text))::integer[]))",
            json!({"rooms": [1, 2]}),
        ),
        (
            "(owner = (auth.jwt() ->> 'sub'::text))",
            json!({"sub": "a\u{0}b"}),
        ),
        // Which of them the setting has is not known.
        (
            "(owner = current_setting('request.jwt.claim.sub'::text, true))",
            json!({"sub": "a", "Sub": "b"}),
        ),
    ] {
        assert!(verdict(policy, &claims, &[("owner", "a")]).is_err(), "{policy}");
    }
    let rooms = json!({"rooms": "{1,2}"});
    let policy = "(tenant = ANY (((auth.jwt() ->> 'rooms'::text))::bigint[]))";
    assert_eq!(
        verdict(policy, &rooms, &[("tenant", "2")]).ok(),
        Some(Verdict::Matches),
        "a literal of an array"
    );
}

#[test]
fn anything_else_is_refused_by_its_name() {
    for (policy, part) in [
        ("(id IN ( SELECT t_1.id\n   FROM public.t t_1))", "a subquery"),
        ("(EXISTS ( SELECT 1))", "a subquery"),
        (
            "(id = ( SELECT max(t_1.id) AS max\n   FROM public.t t_1))",
            "subquery",
        ),
        ("(id = ( SELECT 1 LIMIT 0))", "a subquery"),
        ("(id = ( SELECT 1 WHERE false))", "a subquery"),
        ("(id = ( SELECT 1 OFFSET 1))", "a subquery"),
        ("(id = ( SELECT 1 UNION SELECT 2))", "a subquery"),
        ("(id = ANY (ARRAY( SELECT 1)))", ""),
        ("CASE\n    WHEN ok THEN true\n    ELSE false\nEND", "CASE"),
        ("(owner ~ 'x'::text)", "the operator ~"),
        (
            "(owner = ANY (string_to_array('a,b'::text, ','::text)))",
            "the function string_to_array",
        ),
        ("((owner || 'a'::text) = 'b'::text)", "the operator ||"),
        ("public.mine(id)", "the function public.mine"),
        ("(uid = auth.other())", "the function auth.other"),
        ("(uid = public.uid())", "the function public.uid"),
        ("(uid = auth.uid(1))", "the function auth.uid"),
        ("(owner = SESSION_USER)", "the function SESSION_USER"),
        (
            "(owner = current_setting('app.tenant'::text, true))",
            "current_setting('app.tenant')",
        ),
        ("(owner = current_setting(owner, true))", "current_setting"),
        (
            "(owner = current_setting('request.jwt.claim.sub'::text))",
            "without true",
        ),
        (
            "(owner = current_setting('request.jwt.claims'::text, true))",
            "the text of all claims",
        ),
        ("(NULLIF(owner, ''::text) = 'c'::text)", "NULLIF"),
        ("(at < now())", "the time"),
        ("(at < CURRENT_TIMESTAMP)", "the time"),
        ("(id > ALL ('{1}'::integer[]))", "> ALL"),
        ("(owner OPERATOR(public.=) 'x'::text)", "operator"),
        ("(m = (owner)::public.mood)", "a cast to public.mood"),
        ("(owner = 'x'::public.other)", "a cast to public.other"),
        (
            "(owner = ('abc'::character varying(2))::text)",
            "CHARACTER VARYING(2)",
        ),
        ("(tags[1] = 'a'::text)", "a subscript"),
        ("(owner = claim('sub'))", "claim"),
        (
            "(owner ~~ like_escape('a!%'::text, '!'::text))",
            "the function like_escape",
        ),
    ] {
        let said = refusal(policy);
        assert!(said.contains(part), "{policy}: {said}");
    }
    // A client writes neither.
    for predicate in [
        "owner = current_user",
        "owner ~~ 'a%'",
        "owner <> ALL ('{a}')",
        "owner = (SELECT 'a')",
        "owner = current_setting('request.jwt.claim.sub', true)",
    ] {
        assert!(Predicate::parse(predicate).is_err(), "{predicate}");
        assert!(Predicate::parse_policy(predicate).is_err(), "{predicate}");
    }
}

#[test]
fn a_function_is_what_its_body_says() {
    let sub = "select current_setting('request.jwt.claims', true)::json ->> 'sub'";
    assert!(SessionFunction::parse(sub, "text").is_ok());
    assert!(SessionFunction::parse(&format!("{sub} -- as text\n"), "text").is_ok());
    assert!(SessionFunction::parse(sub, "uuid").is_err(), "of another type");
    for body in [
        "select id from public.t",
        "select now()",
        "select 'a'::text; select 'b'::text",
        "begin return 1; end",
        "select public.f()",
        "select $1",
        "select sub",
        "select",
        "",
        "return",
    ] {
        for result in ["text", "uuid", "jsonb"] {
            assert!(SessionFunction::parse(body, result).is_err(), "{body}");
        }
    }
}

#[test]
fn permissive_policies_are_or_ed_and_restrictive_ones_and_ed() {
    let of = |permissive: &[&str], restrictive: &[&str], values: &[(&str, &str)]| {
        let parse = |policies: &[&str]| -> Vec<Predicate> {
            policies.iter().map(|policy| parse(policy).unwrap()).collect()
        };
        let predicate = Predicate::of_policies(parse(permissive), parse(restrictive));
        let matcher = predicate.bind(View::whole(&relation()), &[]).unwrap().certain();
        let bytes = row(values);
        matcher.eval(&Row::new(Tuple::parse(&bytes).unwrap().0)) == Verdict::Matches
    };
    let row = [("id", "1"), ("ok", "t")];
    assert!(!of(&[], &[], &row) && !of(&[], &["true"], &row));
    assert!(of(&["(id = 2)", "(id = 1)"], &[], &row));
    assert!(of(&["(owner = 'a'::text)", "(id = 1)"], &["ok"], &row));
    assert!(
        !of(&["(id = 1)"], &["ok", "(owner = 'a'::text)"], &row),
        "null is not true"
    );
    assert!(!of(&["(owner = 'a'::text)"], &[], &row));
}

use serde_json::{Value as Json, json};

use super::*;
use crate::event::{Collation, Column, Relation, ReplicaIdentity, View};
use crate::filter::Predicate;
use crate::filter::testing::{column, table};
use crate::types::{Ctype, Kind};

fn relation() -> Relation {
    let array = |kind: Kind| Kind::Array(Box::new(kind));
    let columns = [
        ("id", Kind::Int8),
        ("n", Kind::Numeric),
        ("t", Kind::Text),
        ("j", Kind::Jsonb),
        ("ids", array(Kind::Int8)),
        ("tags", array(Kind::Text)),
    ];
    let columns = columns.map(|(name, kind)| Column {
        identity: true,
        collation: Collation::C,
        ctype: Ctype::C,
        ..column(name, kind)
    });
    table(ReplicaIdentity::Full, columns)
}

fn bind(text: &str, parameters: &[Json]) -> Result<Matcher, Error> {
    Predicate::parse(text)?.bind(View::whole(&relation()), parameters)
}

fn limit(bound: Result<Matcher, Error>) -> &'static str {
    match bound {
        Err(Error::Limit { limit, .. }) => limit,
        Err(other) => panic!("{other}"),
        Ok(bound) => panic!("{:?}", bound.cost()),
    }
}

/// Conditions of that form, each with its number for `~`, one or the other of which must hold.
fn any(count: usize, form: &str) -> String {
    let each = (0..count).map(|number| form.replace('~', &number.to_string()));
    each.collect::<Vec<_>>().join(" OR ")
}

/// An object of about so many bytes.
fn object(bytes: usize) -> Json {
    json!({"a": "x".repeat(bytes), "b": [1, 2, 3]})
}

#[test]
fn what_people_write_is_within_the_limits() {
    let ids: Vec<i64> = (0..1_000).collect();
    let list = (0..1_000).map(|id| id.to_string()).collect::<Vec<_>>().join(", ");
    for (text, parameters) in [
        (format!("id IN ({list})"), json!([])),
        (format!("n NOT IN ({list})"), json!([])),
        (
            "id = ANY ($1) OR ids && $1 OR ids @> $1 OR ids <@ $1".into(),
            json!([ids]),
        ),
        (any(250, "t = 'value number ~'"), json!([])),
        (any(250, "t LIKE '%word ~%'"), json!([])),
        (any(250, "t ILIKE '%w_rd ~%'"), json!([])),
        (any(250, "j ->> 'key ~' = $1"), json!(["x".repeat(1_000)])),
        (any(250, "j #> '{a,b,~}' @> $1"), json!([{"a": {"b": [1, "x"]}}])),
        (any(10, "ids && $1 AND id > ~"), json!([ids])),
        (any(250, "'tag ~' = ANY (tags)"), json!([])),
    ] {
        let parameters = parameters.as_array().unwrap();
        let bound = bind(&text, parameters);
        let cost = bound
            .unwrap_or_else(|error| panic!("{error}: {:.80}", text))
            .cost();
        assert!(cost.work > 0 && cost.bytes > 0, "{cost:?}");
    }
}

#[test]
fn a_parameter_is_read_once_however_often_it_is_used() {
    let uses = |count: usize| vec!["$1"; count].join(", ");
    let parameters = [object(55_000)];
    // The five lists are one condition, of one document.
    let text = vec![format!("j IN ({})", uses(500)); 5].join(" OR ");
    let cost = bind(&text, &parameters).unwrap().cost();
    assert!((55_000..60_000).contains(&cost.bytes), "{cost:?}");
    // One and two of a constant have types of their own.
    for text in [
        "t IN ($1)",
        "t IN ($1, $1)",
        "t IN ($1, $1, $1)",
        "n IN ($1, $1, 2.50)",
    ] {
        let spelled = text.replace("$1", "'1'");
        assert_eq!(bind(text, &[json!("1")]), bind(&spelled, &[]), "{text}");
    }
}

#[test]
fn what_takes_too_much_memory_is_refused_by_the_limit_of_that_name() {
    let long = json!("x".repeat(55_000));
    assert_eq!(
        limit(bind(&any(250, "j ->> 'k~' = $1"), std::slice::from_ref(&long))),
        "predicate_bytes"
    );
    assert_eq!(
        limit(bind(&any(250, "j -> 'k~' @> $1"), &[object(55_000)])),
        "predicate_bytes"
    );
    let many: Vec<String> = (0..1_000).map(|n| format!("{n:060}")).collect();
    assert_eq!(
        limit(bind(&any(80, "tags && $1 AND id > ~"), &[json!(many)])),
        "predicate_bytes"
    );
    assert!(bind(&any(5, "j ->> 'k~' = $1"), &[long]).is_ok());
}

#[test]
fn what_takes_too_long_for_each_row_is_refused_by_the_limit_of_that_name() {
    let nested: Vec<Json> = (0..3_000).map(|n| json!([n])).collect();
    assert_eq!(limit(bind("j @> $1", &[json!(nested)])), "predicate_cost");
    assert_eq!(limit(bind("j <@ $1", &[json!(nested)])), "predicate_cost");
    assert!(bind("j @> $1", &[json!(nested[..300])]).is_ok());
    assert!(bind("j = $1", &[json!(nested)]).is_ok());
    let wild = json!(format!("%{}%", "a_".repeat(250)));
    assert_eq!(
        limit(bind(&any(220, "j ->> 'k~' LIKE $1"), &[wild])),
        "predicate_cost"
    );
}

#[test]
fn any_of_a_list_is_one_comparison_where_one_tells_it() {
    let list: Vec<i64> = (0..1_000).rev().collect();
    let parameters = [json!(list)];
    for (of_all, of_one) in [
        ("id < ANY ($1)", "id < 999"),
        ("id <= ANY ($1)", "id <= 999"),
        ("id > ANY ($1)", "id > 0"),
        ("id >= ANY ($1)", "id >= 0"),
        ("id <> ANY ($1)", "id <> 0 OR id <> 1"),
    ] {
        assert_eq!(bind(of_all, &parameters), bind(of_one, &[]), "{of_all}");
        let with_null = [json!([5, null, 7, 5])];
        let of_one = of_one.replace("999", "7").replace('0', "5").replace('1', "7");
        assert_eq!(
            bind(of_all, &with_null),
            bind(&format!("{of_one} OR NULL"), &[]),
            "{of_all}"
        );
    }
}

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;

use super::*;
use crate::event::{Collation, Column, OldTuple, ReplicaIdentity, Tuple, Value, View, encode_values};
use crate::filter::testing::{column, table};
use crate::filter::{Predicate, decides, membership};
use crate::types::{Ctype, Kind};

/// The columns, and values that are often alike.
const COLUMNS: [(&str, Kind, &[&str]); 11] = [
    ("i", Kind::Int4, &["0", "1", "2", "3", "-5", "1000"]),
    ("j", Kind::Int8, &["0", "1", "2", "3", "9000000000"]),
    (
        "n",
        Kind::Numeric,
        &[
            "0",
            "1",
            "1.00",
            "2.5",
            "-3",
            "1234567890123456789.5",
            "1234567890123456789.50",
            "NaN",
        ],
    ),
    ("f", Kind::Float8, &["0", "-0", "1", "2.5", "NaN", "Infinity"]),
    (
        "t",
        Kind::Text,
        &["", "a", "b", "seven77", "eight888", "eight889", "eight88"],
    ),
    ("c", Kind::Bpchar, &["a", "a  ", "b"]),
    (
        "ci",
        Kind::Citext(Ctype::C),
        &["a", "A", "B", "b", "Eight888", "EIGHT888", "eight889", "É"],
    ),
    ("b", Kind::Bool, &["t", "f"]),
    (
        "u",
        Kind::Uuid,
        &[
            "00000000-0000-0000-0000-000000000001",
            "00000000-0000-0000-0000-000000000002",
            "f0000000-0000-0000-0000-000000000002",
        ],
    ),
    (
        "jb",
        Kind::Jsonb,
        &[
            r#"{"a": "b", "n": 5, "s": "5"}"#,
            r#"{"a": "seven77", "n": 0, "o": {"k": ["x", "eight888"]}, "s": "x"}"#,
            r#"{"a": null, "n": 1.5, "s": "70000000000"}"#,
            r#"[{"a": "b"}, "a"]"#,
            r#""a""#,
            "{}",
        ],
    ),
    (
        "js",
        Kind::Json,
        &[
            r#"{"a":"b","n":5,"s":"5"}"#,
            r#"{"a":"b","a":"a","s":"x"}"#,
            r#"{"a":"\u0000","s":"5"}"#,
            r#" {"o" : {"k":["x", "eight888"]}}"#,
            "null",
        ],
    ),
];

/// Values that are computed of a row, and literals that they are compared with.
const COMPUTED: [(&str, &[&str]); 17] = [
    ("lower(t)", &["'a'", "'eight888'", "'A'"]),
    ("upper(t)", &["'A'", "'EIGHT888'", "'SEVEN77'"]),
    ("lower(ci)", &["'a'", "'eight888'"]),
    ("coalesce(t, 'a')", &["'a'", "'b'", "''"]),
    ("coalesce(i, 1)", &["1", "2"]),
    ("coalesce(b, false)", &["true", "false"]),
    ("jb ->> 'a'", &["'b'", "'seven77'"]),
    ("jb #>> '{o,k,1}'", &["'eight888'", "'x'"]),
    ("jb -> 'o' -> 'k' ->> 0", &["'x'"]),
    ("jb ->> 0", &["'a'", "'b'"]),
    ("js ->> 'a'", &["'a'", "'b'"]),
    ("js #>> '{o,k,1}'", &["'eight888'"]),
    ("(jb ->> 'n')::int", &["0", "5"]),
    ("(jb ->> 's')::int", &["5", "1"]),
    ("(js ->> 's')::numeric", &["5", "1.5"]),
    ("t::int", &["1"]),
    ("i + 1", &["1", "2", "3"]),
];

/// Those that the identity holds unless it is full.
const IDENTITY: Range<usize> = 0..2;

fn relation(replica_identity: ReplicaIdentity) -> Relation {
    let full = replica_identity == ReplicaIdentity::Full;
    let columns = COLUMNS.iter().enumerate().map(|(index, (name, kind, _))| Column {
        identity: full || replica_identity == ReplicaIdentity::Default && IDENTITY.contains(&index),
        collation: Collation::C,
        ctype: Ctype::C,
        ..column(name, kind.clone())
    });
    Relation {
        key: IDENTITY.collect(),
        ..table(replica_identity, columns)
    }
}

/// A value of a column as a literal.
fn literal(column: usize) -> impl Strategy<Value = String> {
    let values = COLUMNS[column].2;
    prop_oneof![
        20 => prop::sample::select(values).prop_map(|value| format!("'{value}'")),
        1 => Just("NULL".to_owned()),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    prop_oneof![4 => Just(0), 2 => Just(2), 2 => Just(4), 3 => 0..COLUMNS.len()].prop_flat_map(|column| {
        let name = COLUMNS[column].0;
        let ops = prop_oneof![
            5 => Just("="),
            4 => prop::sample::select(
                &["<", "<=", ">", ">=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"][..]
            ),
        ];
        let value = || literal(column);
        let compare = (ops, value()).prop_map(move |(op, value)| format!("{name} {op} {value}"));
        let between =
            (value(), value()).prop_map(move |(low, high)| format!("{name} BETWEEN {low} AND {high}"));
        let is_in = (any::<bool>(), prop::collection::vec(value(), 1..5)).prop_map(move |(not, values)| {
            let not = if not { "NOT " } else { "" };
            format!("{name} {not}IN ({})", values.join(", "))
        });
        prop_oneof![
            8 => compare,
            2 => between,
            2 => is_in,
            1 => Just(format!("{name} IS NULL")),
            1 => Just(format!("{name} IS NOT NULL")),
            1 => Just("i < j".to_owned()),
            1 => Just("n = i".to_owned()),
            1 => Just("i = 2.5".to_owned()),
            1 => Just("i > 0.5::float8".to_owned()),
            1 => Just("b".to_owned()),
        ]
    })
}

/// A condition on what is computed.
fn computed() -> impl Strategy<Value = String> {
    (0..COMPUTED.len()).prop_flat_map(|at| {
        let (name, values) = COMPUTED[at];
        let value = || prop::sample::select(values);
        let ops = prop_oneof![
            6 => Just("="),
            3 => prop::sample::select(
                &["<", "<=", ">", ">=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"][..]
            ),
        ];
        let compare = (ops, value()).prop_map(move |(op, value)| format!("{name} {op} {value}"));
        let is_in = (any::<bool>(), value(), value()).prop_map(move |(not, one, other)| {
            let not = if not { "NOT " } else { "" };
            format!("{name} {not}IN ({one}, {other})")
        });
        prop_oneof![
            8 => compare,
            2 => is_in,
            1 => Just(format!("{name} IS NULL")),
            1 => Just(format!("{name} IS NOT NULL")),
        ]
    })
}

fn predicate() -> impl Strategy<Value = String> {
    let any = prop_oneof![3 => condition().boxed(), 2 => computed().boxed()];
    let nested = any.prop_recursive(3, 12, 4, |inner| {
        let list = || prop::collection::vec(inner.clone(), 2..4);
        let tests = &["TRUE", "NOT TRUE", "FALSE", "UNKNOWN", "NOT UNKNOWN"][..];
        prop_oneof![
            3 => list().prop_map(|list| format!("({})", list.join(" AND "))),
            2 => list().prop_map(|list| format!("({})", list.join(" OR "))),
            1 => inner.clone().prop_map(|inner| format!("NOT ({inner})")),
            1 => (inner, prop::sample::select(tests)).prop_map(|(inner, test)| format!("({inner}) IS {test}")),
        ]
    });
    let popular = &[
        "",
        "i = 1 AND ",
        "i = 1 AND t = 'a' AND ",
        "b AND ",
        "n IS NULL AND ",
        "lower(t) = 'a' AND ",
        "(jb ->> 's')::int = 5 AND ",
    ][..];
    let with_common =
        (prop::sample::select(popular), nested).prop_map(|(common, rest)| common.to_owned() + &rest);
    prop_oneof![30 => with_common, 1 => Just("true".to_owned()), 1 => Just("false".to_owned())]
}

/// The contents of a column: a value by its place, or else null, unchanged, or what no server sends.
fn row() -> impl Strategy<Value = Vec<u8>> {
    let cell = prop_oneof![14 => 0..8_usize, 1 => Just(8), 1 => Just(9), 1 => Just(10)];
    prop::collection::vec(cell, COLUMNS.len()).prop_map(|cells| {
        let values = cells
            .iter()
            .zip(&COLUMNS)
            .map(|(cell, (_, _, values))| match cell {
                8 => Value::Null,
                9 => Value::Unchanged,
                10 => Value::Text(b"?"),
                place => Value::Text(values[place % values.len()].as_bytes()),
            });
        let mut bytes = Vec::new();
        encode_values(values.collect::<Vec<_>>().into_iter(), &mut bytes);
        bytes
    })
}

#[derive(Clone, Debug)]
enum Step {
    /// The predicate of an entry, and that of a policy.
    Insert(u32, String, Option<String>),
    Remove(u32),
    /// An operation, how much of the old row is given, whether it equals the new one in the identity, and both rows.
    Change(u8, u8, bool, Vec<u8>, Vec<u8>),
}

fn step(entries: u32) -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..entries, predicate(), prop::option::weighted(0.3, predicate()))
            .prop_map(|(entry, text, policy)| Step::Insert(entry, text, policy)),
        2 => (0..entries).prop_map(Step::Remove),
        4 => (0..10_u8, 0..3_u8, any::<bool>(), row(), row())
            .prop_map(|(op, old, same, before, after)| Step::Change(op, old, same, before, after)),
    ]
}

/// The row `before` with the first columns of `after`.
fn with_identity(before: &[u8], after: &[u8]) -> Vec<u8> {
    let before = Tuple::parse(before).unwrap().0;
    let after = Tuple::parse(after).unwrap().0;
    let values: Vec<_> = after
        .values()
        .take(IDENTITY.end)
        .chain(before.values().skip(IDENTITY.end))
        .collect();
    let mut bytes = Vec::new();
    encode_values(values.into_iter(), &mut bytes);
    bytes
}

/// True if the owner of an entry wants to know of rows that may have left.
fn watches(entry: u32) -> bool {
    entry.is_multiple_of(3)
}

/// True if it is to be told of a change by an index, and not only may be. (Without an identity there are no updates.)
fn is_due(entry: u32, matcher: &Matcher, relation: &Relation, membership: ResultChange) -> bool {
    let is_decided = || decides(matcher, relation) && relation.replica_identity != ReplicaIdentity::Nothing;
    !membership.may_have_left() || watches(entry) || is_decided()
}

fn one_by_one(
    matchers: &BTreeMap<u32, Matcher>,
    relation: &Relation,
    op: &Op<'_>,
) -> BTreeMap<u32, ResultChange> {
    let all = matchers.iter();
    let all = all.filter_map(|(entry, matcher)| Some((*entry, membership(matcher, relation, op)?)));
    all.filter(|(entry, membership)| is_due(*entry, &matchers[entry], relation, *membership))
        .collect()
}

fn run(identity: ReplicaIdentity, steps: Vec<Step>) {
    let relation = relation(identity);
    let mut index = Index::default();
    let mut matchers = BTreeMap::new();
    for step in steps {
        match step {
            Step::Insert(entry, text, policy) => {
                let bind = |text: &str| Predicate::parse(text).unwrap().bind(View::whole(&relation), &[]);
                // Some have no meaning, such as comparing with NaN as an integer, or an order of json.
                let Ok(mut matcher) = bind(&text) else {
                    continue;
                };
                if let Some(Ok(policy)) = policy.map(|policy| bind(&policy)) {
                    matcher = Matcher::all_of([policy.certain(), matcher]);
                }
                index.insert(entry, &matcher, watches(entry) && !relation.is_full());
                matchers.insert(entry, matcher);
            }
            Step::Remove(entry) => {
                index.remove(entry);
                matchers.remove(&entry);
            }
            Step::Change(op, old, same, before, after) => {
                let before = if same {
                    with_identity(&before, &after)
                } else {
                    before
                };
                let new = Tuple::parse(&after).unwrap().0;
                let tuple = Tuple::parse(&before).unwrap().0;
                let old = [OldTuple::Full(tuple), OldTuple::Key(tuple)]
                    .get(usize::from(old))
                    .copied();
                let op = match (op, old) {
                    (0, _) => Op::Truncate,
                    (1..4, Some(old)) => Op::Delete { old },
                    (4..8, old) => Op::Update { old, new },
                    _ => Op::Insert { new },
                };
                index.warm(&[op, Op::Insert { new }]);
                let mut found = BTreeMap::new();
                index.matches(&relation, &op, |entry, membership| {
                    assert!(found.insert(entry, membership).is_none(), "{entry} twice");
                });
                found.retain(|entry, membership| is_due(*entry, &matchers[entry], &relation, *membership));
                assert_eq!(found, one_by_one(&matchers, &relation, &op), "{op:?}");
            }
        }
        assert_eq!(index.len(), matchers.len());
    }
    for entry in matchers.keys() {
        index.remove(*entry);
    }
    assert!(
        index.is_empty()
            && index.root.is_empty()
            && index.watched.is_empty()
            && index.watching.is_empty()
            && index.records.holds_nothing()
            && index.sources.holds_nothing(),
        "{index:?}"
    );
}

fn identity() -> impl Strategy<Value = ReplicaIdentity> {
    use ReplicaIdentity::{Default, Full, Nothing};
    prop::sample::select(&[Full, Full, Default, Nothing][..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_index_finds_what_each_predicate_says_by_itself(
        identity in identity(),
        steps in prop::collection::vec(step(20), 1..100),
    ) {
        run(identity, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(25))]

    #[test]
    fn so_does_one_of_many_predicates(
        identity in identity(),
        steps in prop::collection::vec(step(1000), 2000..2500),
    ) {
        run(identity, steps);
    }
}

//! Policies from the client's side: the changes that it gets add up to the rows that it may see, and no byte comes from
//! others.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::tests::{CALLER, Got, TestLog, encoded, relation};
use super::*;
use crate::auth::Claims;
use crate::event::{OldTuple, Op, Tuple, Visible};
use crate::lsn::{Lsn, Position};
use crate::policy::{Condition, Policies, Policy, Rows, TablePattern};
use crate::protocol::{ClientMessage, ErrorCode, Ops};

const COLUMNS: [&str; 4] = ["id", "tenant", "secret", "note"];

/// A row: its key, its tenant, and two values that no other row has.
type Row = [u32; 4];

/// True if a row is of those that a condition or predicate selects.
type Selects = fn(&Row) -> bool;

/// Conditions of policies, and the same in Rust for the claims of tenant 1.
const CONDITIONS: [(&str, Selects); 5] = [
    ("true", |_| true),
    ("tenant = claim('app.tenant')::int", |row| row[1] == 1),
    ("secret % 2 = 0", |row| row[2].is_multiple_of(2)),
    ("tenant <> 1 AND note % 3 = 0", |row| {
        row[1] != 1 && row[3].is_multiple_of(3)
    }),
    ("tenant = claim('app.missing')::int", |_| false),
];

/// Predicates of clients, the columns that they read, and the same in Rust.
const PREDICATES: [(Option<&str>, &[usize], Selects); 4] = [
    (None, &[], |_| true),
    (Some("id > 1"), &[0], |row| row[0] > 1),
    (Some("note % 2 = 0"), &[3], |row| row[3].is_multiple_of(2)),
    (Some("secret % 5 < 3 OR note % 5 < 3"), &[2, 3], |row| {
        row[2] % 5 < 3 || row[3] % 5 < 3
    }),
];

#[derive(Clone, Debug)]
struct Rule {
    condition: usize,
    /// The visible columns besides the key.
    columns: Vec<usize>,
    ops: [bool; 4],
}

impl Rule {
    fn policy(&self) -> Policy {
        let [insert, update, delete, truncate] = self.ops;
        let shown = self.columns.iter().map(|&column| COLUMNS[column].to_owned());
        Policy {
            tables: vec![TablePattern::Schema("public".into())],
            roles: None,
            ops: Ops {
                insert,
                update,
                delete,
                truncate,
            },
            columns: match self.columns.len() {
                3 => Visible::All,
                _ => Visible::only(shown.chain(["id".to_owned()])),
            },
            rows: Rows::Where(Arc::new(Condition::parse(CONDITIONS[self.condition].0).unwrap())),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u32, u32),
    Delete(u32),
    Truncate,
}

fn rule(any_ops: bool) -> impl Strategy<Value = Rule> {
    let columns = prop::sample::subsequence(vec![1_usize, 2, 3], 0..=3);
    let ops = if any_ops {
        any::<[bool; 4]>().boxed()
    } else {
        Just([true; 4]).boxed()
    };
    (0..CONDITIONS.len(), columns, ops).prop_map(|(condition, columns, ops)| Rule {
        condition,
        columns,
        ops,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..4_u32, 0..3_u32).prop_map(|(id, tenant)| Step::Put(id, tenant)),
        4 => (0..4_u32).prop_map(Step::Delete),
        1 => Just(Step::Truncate),
    ];
    prop::collection::vec(step, 1..30)
}

/// The columns that the rules which allow an operation (any if `None`) show of a row; none if no rule admits it.
fn visible(rules: &[Rule], row: Option<&Row>, op: Option<usize>) -> BTreeSet<usize> {
    let mut visible = BTreeSet::new();
    let Some(row) = row else { return visible };
    for rule in rules {
        if CONDITIONS[rule.condition].1(row) && op.is_none_or(|op| rule.ops[op]) {
            visible.insert(0);
            visible.extend(&rule.columns);
        }
    }
    visible
}

fn shown(row: &Row, columns: &BTreeSet<usize>) -> Json {
    let members = columns
        .iter()
        .map(|&column| (COLUMNS[column].to_owned(), json!(row[column])));
    Json::Object(members.collect())
}

fn query(predicate: Option<&str>, rules: &[Rule], relation: &Arc<Relation>) -> Option<Query> {
    let mut message = json!({"type": "subscribe", "id": "s", "table": "t", "old": true});
    if let Some(predicate) = predicate {
        message["where"] = predicate.into();
    }
    let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(&message.to_string()) else {
        panic!("not a subscribe: {message}");
    };
    let mut query = Query::new(&subscribe, &CALLER).unwrap();
    let policies = Policies {
        tables: rules.iter().map(Rule::policy).collect(),
        messages: Vec::new(),
    };
    let Json::Object(claims) = json!({"app": {"tenant": "1"}, "sub": "ann"}) else {
        unreachable!()
    };
    let admission = policies.admission(&relation.table, Some("customer"), &Claims::new(claims), None)?;
    query.admit(admission.judged_by(relation).admission);
    query.hold_to_key(relation);
    Some(query)
}

fn run(rules: &[Rule], predicate: usize, steps: &[Step]) {
    let (predicate, read, holds) = PREDICATES[predicate];
    let relation = relation(&COLUMNS);
    let query = query(predicate, rules, &relation).unwrap();
    let any_shows = |&column: &usize| column == 0 || rules.iter().any(|rule| rule.columns.contains(&column));
    let bound = Bound::new(&query, &relation, &mut Default::default());
    if !read.iter().all(any_shows) {
        // As for a column that does not exist.
        assert_eq!(bound.unwrap_err().code, ErrorCode::UnknownColumn);
        return;
    }
    bound.unwrap();
    let hears_all = rules.iter().all(|rule| rule.ops == [true; 4]);
    let (mut log, mut registry) = (TestLog::new(), SubscriptionRegistry::new(65_536));
    let connection = registry.connect();
    let subscription = Subscription {
        id: "s".into(),
        query: Arc::new(query),
        oid: relation.oid,
    };
    registry.subscribe(connection, &Arc::new(subscription), Position::after(Lsn(0)));

    let mut table: BTreeMap<u32, Row> = BTreeMap::new();
    let mut held: BTreeMap<u64, Json> = BTreeMap::new();
    let mut next = 1000;
    for step in steps {
        let (before, after) = match *step {
            Step::Put(id, tenant) => {
                next += 2;
                let row = [id, tenant, next, next + 1];
                (table.insert(id, row), Some(row))
            }
            Step::Delete(id) => match table.remove(&id) {
                None => continue,
                gone => (gone, None),
            },
            Step::Truncate => {
                table.clear();
                (None, None)
            }
        };
        let bytes = |row: Option<Row>| encoded(&row.unwrap_or_default().map(|value| value.to_string()));
        let (old, new) = (bytes(before), bytes(after));
        let [old, new] = [&old, &new].map(|bytes| Tuple::parse(bytes).unwrap().0);
        let op = match (before, after) {
            (None, None) => Op::Truncate,
            (None, Some(_)) => Op::Insert { new },
            (Some(_), Some(_)) => Op::Update {
                old: Some(OldTuple::Full(old)),
                new,
            },
            (Some(_), None) => Op::Delete {
                old: OldTuple::Full(old),
            },
        };
        let mut got = Got::default();
        log.commit_ops(&relation, [op].into_iter(), |piece| {
            let mut piece = piece.clone();
            while !registry.deliver(&mut piece, &mut got).unwrap() {}
        });
        assert_eq!(got.ended, []);
        for (_, frame) in &got.frames {
            let message: Json = serde_json::from_str(&frame.text).unwrap();
            for change in message["changes"].as_array().unwrap() {
                let told = change["op"].as_str().unwrap();
                let number = ["insert", "update", "delete", "truncate"]
                    .iter()
                    .position(|name| *name == told);
                check_markers(rules, change, (before.as_ref(), after.as_ref()), number.unwrap());
                if hears_all {
                    fold(&mut held, change);
                }
            }
        }
        if !hears_all {
            continue;
        }
        let is_seen = |row: &&Row| {
            let visible = visible(rules, Some(row), None);
            !visible.is_empty() && read.iter().all(|column| visible.contains(column)) && holds(row)
        };
        let expected = table.values().filter(is_seen);
        let expected: BTreeMap<u64, Json> = expected
            .map(|row| (row[0].into(), shown(row, &visible(rules, Some(row), None))))
            .collect();
        assert_eq!(held, expected, "{step:?}");
    }
}

/// No value but those of columns that are visible of the row before, or after, is anywhere in the change.
fn check_markers(rules: &[Rule], change: &Json, rows: (Option<&Row>, Option<&Row>), op: usize) {
    let values = |row: Option<&Row>| -> BTreeSet<u32> {
        let columns = visible(rules, row, Some(op));
        columns.iter().filter_map(|&column| Some(row?[column])).collect()
    };
    let allowed: BTreeSet<u32> = values(rows.0).union(&values(rows.1)).copied().collect();
    let text = change.to_string();
    let numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok());
    for number in numbers.filter(|number| *number >= 1000_u32) {
        assert!(allowed.contains(&number), "{number} in {text}: {rules:?}");
    }
}

fn fold(held: &mut BTreeMap<u64, Json>, change: &Json) {
    let key = |row: &Json| row["id"].as_u64().unwrap();
    match change["op"].as_str().unwrap() {
        "insert" | "update" => {
            if !change["key"].is_null() {
                held.remove(&key(&change["key"]));
            }
            held.insert(key(&change["row"]), change["row"].clone());
        }
        "delete" => {
            held.remove(&key(&change["key"])).expect("a row that it holds");
        }
        _ => held.clear(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_a_client_folds_is_what_its_policies_show(
        rules in prop::collection::vec(rule(false), 1..4),
        predicate in 0..PREDICATES.len(),
        steps in steps(),
    ) {
        run(&rules, predicate, &steps);
    }

    #[test]
    fn no_operation_shows_what_no_policy_shows_by_it(
        rules in prop::collection::vec(rule(true), 1..4),
        predicate in 0..PREDICATES.len(),
        steps in steps(),
    ) {
        run(&rules, predicate, &steps);
    }
}

#[test]
fn a_policy_that_hides_the_key_is_refused_and_names_no_column() {
    let relation = relation(&COLUMNS);
    let mut policy = Rule {
        condition: 0,
        columns: vec![3],
        ops: [true; 4],
    }
    .policy();
    policy.columns = Visible::only(["note".to_owned()]);
    let policies = Policies {
        tables: vec![policy],
        messages: Vec::new(),
    };
    let admission = policies
        .admission(&relation.table, Some("x"), &Claims::new(Map::new()), None)
        .unwrap();
    let mut query = (*tests::subscription("s", None).query).clone();
    query.admit(admission.judged_by(&relation).admission);
    let error = Bound::new(&query, &relation, &mut Default::default()).unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert!(!error.message.contains("id"), "{}", error.message);
}

/// A version of the table in which a column is another one.
fn with_another(column: &str) -> Arc<Relation> {
    let mut other = (*numbered()).clone();
    let index = other
        .columns
        .iter()
        .position(|known| known.name == column)
        .unwrap();
    other.columns[index].attnum = crate::types::Attnum::new(9);
    Arc::new(other)
}

fn numbered() -> Arc<Relation> {
    let mut numbered = (*relation(&COLUMNS)).clone();
    for (index, column) in numbered.columns.iter_mut().enumerate() {
        column.attnum = crate::types::Attnum::new(1 + index as i16);
    }
    Arc::new(numbered)
}

#[test]
fn rows_of_a_version_in_which_a_policy_s_column_is_another_one_are_withheld() {
    let relation = numbered();
    let rule = Rule {
        condition: 2,
        columns: vec![1],
        ops: [true; 4],
    };
    let query = query(None, &[rule], &relation).unwrap();
    let matches = |version: &Arc<Relation>| {
        let row = encoded(&["1", "1", "1000", "1001"].map(str::to_owned));
        let row = crate::filter::Row::new(Tuple::parse(&row).unwrap().0);
        query.selection(version).unwrap().rows().eval(&row)
    };
    use crate::filter::Verdict::{DoesNot, Matches};
    assert_eq!(matches(&relation), Matches);
    // Policies do not read this one.
    assert_eq!(matches(&with_another("note")), Matches);
    assert_eq!(matches(&with_another("secret")), DoesNot);
    let mut retyped = (*relation).clone();
    retyped.columns[2].ty.oid = 20;
    assert_eq!(matches(&Arc::new(retyped)), DoesNot);
    assert_eq!(matches(&tests::relation(&["id", "tenant", "note"])), DoesNot);
    let told = |version: &Arc<Relation>| unjudged_message(&query, version).map(|error| error.message);
    assert_eq!(told(&relation), None);
    assert_eq!(told(&with_another("note")), None);
    let message = told(&with_another("secret")).unwrap();
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn a_policy_that_the_log_does_not_decide_is_refused_whatever_the_client_asks_for() {
    let mut relation = (*relation(&COLUMNS)).clone();
    relation.replica_identity = crate::event::ReplicaIdentity::Default;
    for column in &mut relation.columns[1..] {
        column.identity = false;
    }
    let relation = Arc::new(relation);
    let rule = |condition| Rule {
        condition,
        columns: vec![1, 2, 3],
        ops: [true; 4],
    };
    let refusal = |condition| {
        let query = query(None, &[rule(condition)], &relation).unwrap();
        Bound::new(&query, &relation, &mut Default::default()).err()
    };
    assert_eq!(refusal(0), None);
    let error = refusal(2).unwrap();
    assert_eq!(error.code, ErrorCode::ReplicaIdentity);
    assert!(
        error
            .message
            .ends_with("ALTER TABLE public.t REPLICA IDENTITY FULL"),
        "{}",
        error.message
    );
    assert!(!error.message.contains("secret"), "{}", error.message);
}

#[test]
fn a_claim_narrows_the_index_as_a_value_of_the_client_s_does() {
    let relation = relation(&COLUMNS);
    let rule = Rule {
        condition: 1,
        columns: vec![1, 2, 3],
        ops: [true; 4],
    };
    let query = query(Some("note > 5"), &[rule], &relation).unwrap();
    let selection = query.selection(&relation).unwrap();
    let filed = crate::filter::filed(selection.rows(), &relation);
    let [filed] = &filed[..] else { panic!("{filed:?}") };
    assert_eq!(
        (filed.kind, &filed.columns[..]),
        (crate::filter::FiledKind::Equality, &[1][..]),
        "{filed:?}"
    );
}

#[test]
fn the_server_is_asked_for_no_row_that_policies_hide_and_fails_for_none() {
    let relation = relation(&COLUMNS);
    let condition = |predicate, conditions: &[usize]| {
        let rules: Vec<Rule> = conditions
            .iter()
            .map(|&condition| Rule {
                condition,
                columns: vec![1, 2, 3],
                ops: [true; 4],
            })
            .collect();
        let query = query(predicate, &rules, &relation).unwrap();
        query.condition(&relation, None).unwrap().unwrap().sql
    };
    assert_eq!(
        condition(None, &[1]),
        "(FALSE OR (\"tenant\" = CAST($1 AS integer)))"
    );
    // A condition that may fail for some row is evaluated by walcast, not by Postgres.
    assert_eq!(condition(Some("id > 1"), &[2]), "TRUE AND (\"id\" > (1))");
    assert_eq!(condition(Some("id / note > 1"), &[2]), "TRUE");
    assert_eq!(
        condition(Some("id / note > 1"), &[1]),
        "(FALSE OR (\"tenant\" = CAST($1 AS integer))) AND CASE WHEN (FALSE OR (\"tenant\" = CAST($1 AS integer))) THEN ((\"id\" / \"note\") > (1)) ELSE FALSE END"
    );
}

//! Results over random changes, as pgoutput tells of them: what a client holds who folds them is the query's result.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use walcast::cluster::Cluster;
use walcast::decode::{Assembler, Message, Step};
use walcast::event::{Op, Relation, StreamRelation, Tuple, Value};
use walcast::filter::{Decision, Matcher, Operation, Predicate, ResultChange, decides, membership};
use walcast::lsn::Lsn;

use crate::predicates::{Written, predicate};
use crate::table::{ROWS, catalog, columns, literal, relation, table};
use crate::{Answer, answers, cluster, seed};

/// The numbers of predicates that follow a table, of statements that change it, and of statements after which views
/// are judged.
const VIEWS: usize = 160;
const STATEMENTS: usize = 180;
const JUDGED_EVERY: usize = 60;

/// A query, and which rows it holds, by their `id`.
struct ClientView {
    written: Written,
    matcher: Matcher,
    /// True if the log always tells what was in the result.
    is_exact: bool,
    /// Those of who is not told of rows that may have left.
    rows: BTreeSet<i64>,
    /// Those of who is told of all that is undecided.
    told: BTreeSet<i64>,
    /// Of these it was told last that they may be in the result.
    open: BTreeSet<i64>,
    /// It failed for a row, and has ended.
    has_ended: bool,
}

/// Makes the table anew, of that replica identity.
fn set_up(cluster: &Cluster, rng: &mut fastrand::Rng, identity: &str) {
    cluster.psql(&table(rng));
    cluster.psql(
        "ALTER TABLE t ALTER i4 SET NOT NULL, ALTER tc SET NOT NULL, ALTER en SET NOT NULL, ADD PRIMARY KEY (id);
         ALTER TABLE t ALTER tx SET STORAGE EXTERNAL, ALTER jb SET STORAGE EXTERNAL;
         CREATE UNIQUE INDEX four ON t (id, i4, tc, en);",
    );
    if identity == PARTITIONED {
        return partition(cluster);
    }
    cluster.psql(&format!("ALTER TABLE t REPLICA IDENTITY {identity}"));
    if identity == "NOTHING" {
        cluster.psql("ALTER PUBLICATION pub SET (publish = 'insert, truncate')");
    }
}

/// No identity of its own: the table has partitions, and a column that is generated.
const PARTITIONED: &str = "of each partition";
/// The identities of its partitions, and what the first has now and then.
const PARTITIONS: [&str; 4] = ["FULL", "DEFAULT", "USING INDEX t2_four", "FULL"];
const FIRST: [&str; 3] = ["DEFAULT", "USING INDEX t0_four", "FULL"];

/// Has the table's rows in partitions, which are published by it.
fn partition(cluster: &Cluster) {
    let version: u32 = cluster.psql("SHOW server_version_num").trim().parse().unwrap();
    // Before that the log has nothing of generated columns.
    let generated = if version >= 180_000 {
        ", publish_generated_columns = stored"
    } else {
        ""
    };
    let mut sql = "DROP PUBLICATION pub; ALTER TABLE t RENAME TO whole;
                   CREATE TABLE t (LIKE whole INCLUDING STORAGE, PRIMARY KEY (id)) PARTITION BY HASH (id);"
        .to_owned();
    for (number, identity) in PARTITIONS.iter().enumerate() {
        // The columns of every other one have other places.
        let create = match number % 2 {
            0 => format!(
                "CREATE TABLE t{number} (gone int, LIKE whole INCLUDING STORAGE); ALTER TABLE t{number} DROP COLUMN gone"
            ),
            _ => format!("CREATE TABLE t{number} (LIKE whole INCLUDING STORAGE)"),
        };
        write!(
            sql,
            "{create}; ALTER TABLE t ATTACH PARTITION t{number} FOR VALUES WITH (MODULUS 4, REMAINDER {number});
             CREATE UNIQUE INDEX t{number}_four ON t{number} (id, i4, tc, en); ALTER TABLE t{number} REPLICA IDENTITY {identity};"
        )
        .unwrap();
    }
    write!(
        sql,
        "INSERT INTO t SELECT * FROM whole; DROP TABLE whole; ALTER TABLE t ADD third bigint GENERATED ALWAYS AS (id % 3) STORED;
         CREATE PUBLICATION pub FOR TABLE t WITH (publish_via_partition_root = true{generated});"
    )
    .unwrap();
    cluster.psql(&sql);
}

/// A random statement, in a transaction of its own.
fn statement(rng: &mut fastrand::Rng, only_inserts: bool, sql: &mut String) {
    let id = if only_inserts {
        rng.usize(ROWS..10 * ROWS)
    } else {
        rng.usize(..ROWS)
    };
    let value = |rng: &mut fastrand::Rng, name: &str| match name {
        // Too large to be logged again with a row that keeps it.
        "tx" if rng.u8(..3) == 0 => format!("repeat({}, 3000)", literal(rng, "tx")),
        "jb" if rng.u8(..4) == 0 => "jsonb_build_object('a', repeat('x', 3000), 'b', 1)".to_owned(),
        name => literal(rng, name),
    };
    match rng.u32(..if only_inserts { 2 } else { 20 }) {
        0..=2 => {
            let names: Vec<&str> = columns().map(|spec| spec.name).filter(|name| *name != "id").collect();
            let values: Vec<String> = names.iter().map(|name| value(rng, name)).collect();
            let names: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.replace('"', "\"\""))).collect();
            writeln!(
                sql,
                "INSERT INTO t (id, {}) VALUES ({id}, {}) ON CONFLICT DO NOTHING;",
                names.join(", "),
                values.join(", ")
            )
        }
        3 | 4 => writeln!(sql, "DELETE FROM t WHERE id = {id};"),
        5 => writeln!(sql, "UPDATE t SET id = {id} + 100 WHERE id = {id} AND NOT EXISTS (SELECT FROM t WHERE id = {id} + 100);"),
        6 => writeln!(sql, "UPDATE t SET id = {id} WHERE id = {id} + 100 AND NOT EXISTS (SELECT FROM t WHERE id = {id});"),
        7 if rng.u8(..8) == 0 => writeln!(sql, "TRUNCATE t;"),
        _ => {
            let names: Vec<&str> = columns().map(|spec| spec.name).filter(|name| *name != "id").collect();
            let name = *rng.choice(&names).expect("there are columns");
            let quoted = name.replace('"', "\"\"");
            let value = value(rng, name);
            writeln!(sql, "UPDATE t SET \"{quoted}\" = {value} WHERE id % 7 = {id} % 7;")
        }
    }
    .unwrap();
}

fn id_of(tuple: Tuple<'_>) -> i64 {
    match tuple.get(0) {
        Some(Value::Text(text)) => std::str::from_utf8(text).unwrap().parse().unwrap(),
        other => panic!("a row without its id: {other:?}"),
    }
}

impl ClientView {
    /// Applies what the change is to the query.
    fn apply(&mut self, relation: &Relation, op: &Op<'_>) {
        if self.has_ended {
            return;
        }
        let membership = membership(&self.matcher, relation, op);
        self.tell(membership, op);
        let Some(membership) = membership.filter(|membership| !membership.may_have_left()) else {
            return;
        };
        let (old, new) = match op {
            Op::Insert { new } => (None, Some(id_of(*new))),
            Op::Update { old, new } => (old.map(|old| id_of(old.tuple())), Some(id_of(*new))),
            Op::Delete { old } => (Some(id_of(old.tuple())), None),
            Op::Truncate => (None, None),
        };
        let before = old.or(new);
        let was_in = before.is_some_and(|id| self.rows.contains(&id));
        let is_right = match membership.op {
            Operation::Insert => !was_in,
            Operation::Update | Operation::Delete => was_in,
            Operation::Truncate => true,
            Operation::Failure => {
                self.has_ended = true;
                return;
            }
        };
        assert!(
            is_right || !self.is_exact,
            "{membership:?} of {op:?}: {}",
            self.written.theirs
        );
        if membership.op == Operation::Truncate {
            self.rows.clear();
        }
        if let Some(id) = before {
            self.rows.remove(&id);
        }
        if let (Operation::Insert | Operation::Update, Some(id)) = (membership.op, new) {
            self.rows.insert(id);
        }
    }
}

/// The ids of a row before and after a change.
fn ids_of(op: &Op<'_>) -> (Option<i64>, Option<i64>) {
    match op {
        Op::Insert { new } => (None, Some(id_of(*new))),
        Op::Update { old, new } => {
            let new = id_of(*new);
            (Some(old.map_or(new, |old| id_of(old.tuple()))), Some(new))
        }
        Op::Delete { old } => (Some(id_of(old.tuple())), None),
        Op::Truncate => (None, None),
    }
}

impl ClientView {
    /// Applies it for who is told of all that is undecided.
    fn tell(&mut self, membership: Option<ResultChange>, op: &Op<'_>) {
        if matches!(op, Op::Truncate) {
            self.told.clear();
            self.open.clear();
            return;
        }
        let (before, after) = ids_of(op);
        let was_told = before.is_some_and(|id| self.told.remove(&id));
        let was_open = before.is_some_and(|id| self.open.remove(&id));
        let (Some(membership), Some(after)) = (membership, after) else {
            return;
        };
        match membership {
            ResultChange {
                decision: Decision::MayBe { as_before: true },
                ..
            } => {
                self.told.extend(was_told.then_some(after));
                self.open.extend(was_open.then_some(after));
            }
            ResultChange {
                decision: Decision::MayBe { .. },
                ..
            } => {
                self.open.insert(after);
            }
            ResultChange {
                op: Operation::Insert | Operation::Update,
                ..
            } => {
                self.told.insert(after);
            }
            _ => {}
        }
    }

    /// Checks that who is told of everything holds the result, apart from rows that are open.
    fn assert_told(&self, expected: &BTreeSet<i64>, identity: &str) {
        let told: BTreeSet<&i64> = self.told.difference(&self.open).collect();
        let expected: BTreeSet<&i64> = expected.difference(&self.open).collect();
        let text = &self.written.theirs;
        assert_eq!(told, expected, "{identity}: {text}\n{:?}", self.matcher);
    }
}

/// The new messages of the slot.
fn messages(cluster: &Cluster) -> Vec<Vec<u8>> {
    let lines = cluster.psql(
        "SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, \
         'proto_version', '1', 'publication_names', 'pub')",
    );
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    lines
        .lines()
        .map(|line| line.as_bytes().chunks(2).map(byte).collect())
        .collect()
}

/// Hands out the changes that messages tell of, as those of one connection.
fn changes(cluster: &Cluster, messages: &[Vec<u8>], mut each: impl FnMut(&Relation, &Op<'_>)) {
    let mut catalog = catalog(cluster);
    let mut learned = |described: &StreamRelation| {
        let described = catalog.describe(described, Lsn::ZERO).unwrap();
        Arc::new(described.into_relation())
    };
    let mut assembler = Assembler::new(Lsn::ZERO);
    for body in messages {
        match assembler.push(Message::parse(body).unwrap()).unwrap() {
            Step::Relation(described) => {
                assembler.learn_relation(learned(&described)).unwrap();
                if let Some(root) = assembler.outdated_root(described.oid).cloned() {
                    assembler.learn_relation(learned(&root)).unwrap();
                }
            }
            Step::Changes(changes) => changes.for_each(|change| each(change.relation, &change.op)),
            _ => {}
        }
    }
}

/// The views of random predicates that can be had on both sides.
fn views(cluster: &Cluster, rng: &mut fastrand::Rng, relation: &Relation) -> Vec<ClientView> {
    let written = (0..VIEWS).map(|_| predicate(rng));
    let bound = written.filter_map(|written| {
        let matcher = Predicate::parse(&written.ours)
            .and_then(|predicate| predicate.bind(walcast::event::View::whole(relation), &written.parameters))
            .ok()?;
        let is_exact = decides(&matcher, relation);
        Some(ClientView {
            written,
            matcher,
            is_exact,
            rows: BTreeSet::new(),
            told: BTreeSet::new(),
            open: BTreeSet::new(),
            has_ended: false,
        })
    });
    let mut views: Vec<ClientView> = bound.collect();
    let written: Vec<&Written> = views.iter().map(|view| &view.written).collect();
    let answers = answers(cluster, &written);
    for (view, answer) in views.iter_mut().zip(answers) {
        let (rows, failed) = ids(&answer);
        view.rows = rows;
        view.has_ended = !failed.is_empty();
        view.told.clone_from(&view.rows);
    }
    views
}

/// The rows that a predicate selects, and those that it fails for.
fn ids(answer: &str) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let ids = |ids: Vec<usize>| ids.into_iter().map(|id| id as i64).collect();
    match Answer::of(answer) {
        Answer::Rows { selected, failed } => (ids(selected), ids(failed)),
        Answer::Error(error) => panic!("{error}"),
    }
}

#[test]
fn a_folded_view_is_the_result_of_its_query() {
    let (cluster, mut rng) = cluster(seed());
    for identity in ["FULL", "DEFAULT", "USING INDEX four", "NOTHING", PARTITIONED] {
        set_up(&cluster, &mut rng, identity);
        cluster.psql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
        let relation = relation(&cluster);
        let mut views = views(&cluster, &mut rng, &relation);
        let mut told = 0;
        let mut exact = 0;
        let mut larger = 0;
        let mut open = 0;
        let mut ended = 0;
        for _ in 0..STATEMENTS / JUDGED_EVERY {
            let mut sql = String::new();
            for turn in 0..JUDGED_EVERY {
                if identity == PARTITIONED && turn % 20 == 10 {
                    let first = rng.choice(&FIRST).expect("there are some");
                    writeln!(sql, "ALTER TABLE t0 REPLICA IDENTITY {first};").unwrap();
                }
                statement(&mut rng, identity == "NOTHING", &mut sql);
            }
            cluster.psql(&sql);
            changes(&cluster, &messages(&cluster), |relation, op| {
                told += 1;
                views.iter_mut().for_each(|view| view.apply(relation, op));
            });
            let written: Vec<&Written> = views.iter().map(|view| &view.written).collect();
            for (view, answer) in views.iter().zip(answers(&cluster, &written)) {
                if view.has_ended {
                    ended += 1;
                    continue;
                }
                let (selected, failed) = ids(&answer);
                // What decides may be asked first here.
                let expected_of = |rows: &BTreeSet<i64>| {
                    let mut expected = selected.clone();
                    expected.extend(failed.intersection(rows));
                    expected
                };
                let expected = expected_of(&view.rows);
                let text = &view.written.theirs;
                view.assert_told(&expected_of(&view.told), identity);
                open += usize::from(!view.open.is_empty());
                if view.is_exact || identity == "NOTHING" {
                    exact += 1;
                    assert_eq!(view.rows, expected, "{identity}: {text}\n{:?}", view.matcher);
                } else {
                    larger += usize::from(view.rows != expected);
                    assert!(view.rows.is_superset(&expected), "{identity}: {text} misses rows");
                }
            }
        }
        eprintln!(
            "{identity}: {told} changes; {exact} views were exact, {larger} held rows that had left; of those who are told, \
             {open} had rows that may not belong; {ended} had ended"
        );
        assert!(
            told > 50 && exact > 0,
            "{identity}: {told} changes, {exact} exact views"
        );
        cluster.psql("SELECT pg_drop_replication_slot('s')");
    }
}

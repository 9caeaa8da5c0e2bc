//! The first rows of an order, live: what a client holds is what Postgres says, up to the bound and with its ties.
//!
//! A failure prints the seed of its case: `WALCAST_SEED=<seed>` runs that alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::guarded::{Guarded, client};
use crate::support::{Client, Database, Setup, Walcast};

const TABLE: &str = r#"
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TABLE t (
        id int PRIMARY KEY, a int, b text COLLATE "C", c numeric, d timestamptz, e float8, f mood, g bigint,
        natural_order text COLLATE "en-x-icu", odd boolean NOT NULL DEFAULT false);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE TABLE by_key (id int PRIMARY KEY, n int);
    CREATE PUBLICATION pub FOR TABLE t, by_key;
"#;

const COLUMNS: [(&str, &str); 8] = [
    ("id", "int"),
    ("a", "int"),
    ("b", "text"),
    ("c", "numeric"),
    ("d", "timestamptz"),
    ("e", "float8"),
    ("f", "mood"),
    ("g", "bigint"),
];

/// A value of a column, of few, so that many tie.
fn value(rng: &mut Rng, column: &str) -> String {
    let values: &[&str] = match column {
        "a" => &["NULL", "-1", "0", "3", "7"],
        "b" => &["NULL", "''", "'a'", "'B'", "'é'", "'a b'"],
        "c" => &["NULL", "1.0", "1.00", "'NaN'", "0.1", "12345678901234567890.5"],
        "d" => &[
            "NULL",
            "'infinity'",
            "'2024-01-01 00:00:00.000001Z'",
            "'2024-01-01Z'",
            "'1999-12-31Z'",
        ],
        "e" => &[
            "NULL",
            "0.1",
            "'-0'",
            "0",
            "'NaN'",
            "'Infinity'",
            "1e-300",
            "0.30000000000000004",
        ],
        "f" => &["NULL", "'sad'", "'ok'", "'happy'"],
        "g" => &[
            "NULL",
            "9007199254740993",
            "9007199254740992",
            "-9007199254740993",
            "5",
        ],
        _ => panic!("{column}"),
    };
    (*rng.choice(values).unwrap()).to_owned()
}

fn row(rng: &mut Rng) -> String {
    let mut row = String::new();
    for (column, _) in &COLUMNS[1..] {
        write!(row, ", {}", value(rng, column)).unwrap();
    }
    row + if rng.bool() { ", true" } else { ", false" }
}

fn insert(rng: &mut Rng, id: u32) -> String {
    let row = row(rng);
    format!("INSERT INTO t (id, a, b, c, d, e, f, g, odd) VALUES ({id}{row}) ON CONFLICT DO NOTHING")
}

fn write(rng: &mut Rng) -> String {
    let id = rng.u32(1..90);
    let column = COLUMNS[rng.usize(1..COLUMNS.len())].0;
    match rng.u32(0..10) {
        0..2 => insert(rng, id),
        2 => format!("DELETE FROM t WHERE id = {id}"),
        3 => format!(
            "UPDATE t SET id = id + 1000 WHERE id = {id} AND NOT EXISTS (SELECT FROM t WHERE id = {id} + 1000)"
        ),
        4 => format!("UPDATE t SET odd = NOT odd WHERE id % 7 = {}", id % 7),
        5 => format!(
            "UPDATE t SET {column} = {} WHERE id % 5 = {}",
            value(rng, column),
            id % 5
        ),
        _ => format!("UPDATE t SET {column} = {} WHERE id = {id}", value(rng, column)),
    }
}

/// A query of the first rows, and what its client holds.
struct First {
    order_by: Value,
    /// The words of SQL behind each column.
    order: Vec<String>,
    columns: Vec<(&'static str, &'static str)>,
    predicate: Option<&'static str>,
    limit: usize,
    bound: Value,
    held: BTreeSet<u64>,
}

impl First {
    fn random(rng: &mut Rng) -> First {
        let mut columns = COLUMNS.to_vec();
        rng.shuffle(&mut columns);
        columns.truncate(rng.usize(1..4));
        let mut order_by = Vec::new();
        let mut order = Vec::new();
        for (column, _) in &columns {
            let mut by = json!({"column": column});
            let mut sql = String::new();
            if rng.bool() {
                by["desc"] = json!(true);
                sql += " DESC";
            }
            if let Some(nulls) = rng
                .choice(["first", "last", ""])
                .filter(|nulls| !nulls.is_empty())
            {
                by["nulls"] = json!(nulls);
                write!(sql, " NULLS {nulls}").unwrap();
            }
            order_by.push(by);
            order.push(sql);
        }
        First {
            order_by: order_by.into(),
            order,
            columns,
            predicate: rng
                .choice([None, Some("odd"), Some("a > 0 OR a IS NULL -- or so")])
                .unwrap(),
            limit: *rng.choice(&[1, 2, 3, 7, 20, 45, 100]).unwrap(),
            bound: Value::Null,
            held: BTreeSet::new(),
        }
    }

    /// The order as SQL, with other names of the columns if they have those.
    fn order(&self, name: impl Fn(usize, &str) -> String) -> String {
        let columns = self.columns.iter().zip(&self.order).enumerate();
        let columns = columns.map(|(index, ((column, _), rest))| name(index, column) + rest);
        columns.collect::<Vec<_>>().join(", ")
    }

    fn in_words(&self) -> String {
        self.order(|_, column| column.to_owned())
    }

    fn condition(&self) -> String {
        self.predicate
            .map_or("true".to_owned(), |predicate| format!("({predicate}\n)"))
    }

    fn subscribe(&self, id: usize) -> Value {
        let mut message =
            json!({"id": id.to_string(), "table": "t", "order_by": self.order_by, "columns": ["a"]});
        if let Some(predicate) = self.predicate {
            message["where"] = json!(predicate);
        }
        message
    }

    /// The rows that are first in the database now.
    fn first(&self, database: &Database) -> BTreeSet<u64> {
        ids(
            database,
            &format!(
                "SELECT id FROM t WHERE {} ORDER BY {} FETCH FIRST {} ROWS WITH TIES",
                self.condition(),
                self.in_words(),
                self.limit
            ),
        )
    }

    /// The rows up to the bound, by a row of its values among them.
    fn within(&self, database: &Database) -> BTreeSet<u64> {
        let Some(bound) = self.bound.as_array() else {
            return ids(database, &format!("SELECT id FROM t WHERE {}", self.condition()));
        };
        let mut names = String::new();
        let mut values = String::new();
        for (index, ((column, ty), value)) in self.columns.iter().zip(bound).enumerate() {
            let literal = match value {
                Value::Null => "NULL".to_owned(),
                Value::String(text) => format!("'{text}'"),
                other => format!("'{other}'"),
            };
            write!(names, ", {column} AS k{index}").unwrap();
            write!(values, ", {literal}::{ty}").unwrap();
        }
        let order = self.order(|index, _| format!("k{index}"));
        ids(
            database,
            &format!(
                "WITH rows AS (SELECT id AS of{names} FROM t WHERE {} UNION ALL SELECT NULL{values}),
                  ranked AS (SELECT of, rank() OVER (ORDER BY {order}) AS place FROM rows)
             SELECT of AS id FROM ranked WHERE of IS NOT NULL
                 AND place <= (SELECT place FROM ranked WHERE of IS NULL)",
                self.condition()
            ),
        )
    }
}

fn ids(database: &Database, query: &str) -> BTreeSet<u64> {
    let rows = database.rows(query);
    rows.iter().map(|row| row["id"].as_u64().unwrap()).collect()
}

/// Takes in what comes up to the pong of a ping that covers all that is written.
fn take_in(client: &mut Client, database: &Database, queries: &mut [First]) {
    let reach = database.value("SELECT pg_current_wal_insert_lsn()");
    client.send(&json!({"type": "ping", "reach": reach}));
    loop {
        let message = client.next();
        let query = |id: &Value| id.as_str().unwrap().parse::<usize>().unwrap();
        match message["type"].as_str() {
            Some("pong") => return,
            Some("subscribed") => queries[query(&message["id"])].bound = message["bound"].clone(),
            Some("snapshot") => {
                let held = &mut queries[query(&message["id"])].held;
                for row in message["rows"].as_array().unwrap() {
                    assert!(held.insert(row["id"].as_u64().unwrap()), "twice: {row}");
                }
            }
            Some("tx" | "live") => {}
            _ => panic!("{message}"),
        }
        for change in message["changes"].as_array().into_iter().flatten() {
            let held = &mut queries[query(&change["id"])].held;
            let [key, row] = ["key", "row"].map(|part| change[part]["id"].as_u64());
            match change["op"].as_str().unwrap() {
                "delete" => assert!(held.remove(&key.unwrap()), "{change}"),
                _ => {
                    key.map(|key| held.remove(&key));
                    held.insert(row.unwrap());
                }
            }
        }
    }
}

fn case(seed: u64, database: &Database, walcast: &Walcast) {
    let rng = &mut Rng::with_seed(seed);
    let mut rows = "TRUNCATE t".to_owned();
    for id in 1..=rng.u32(0..60) {
        rows += "; ";
        rows += &insert(rng, id);
    }
    database.sql(&rows);
    let mut client = walcast.connect();
    let mut queries: Vec<First> = (0..5).map(|_| First::random(rng)).collect();
    for (id, query) in queries.iter().enumerate() {
        let mut message = query.subscribe(id);
        message["type"] = json!("subscribe");
        message["limit"] = json!(query.limit);
        message["snapshot"] = json!(true);
        client.send(&message);
    }
    // In half of the cases rows change while the bounds are looked for and the rows are read.
    let is_quiet = rng.bool();
    for _ in 0..if is_quiet { 0 } else { 30 } {
        database.sql(&write(rng));
    }
    take_in(&mut client, database, &mut queries);
    for query in &queries {
        let expected = if is_quiet {
            query.first(database)
        } else {
            query.within(database)
        };
        assert_eq!(
            query.held,
            expected,
            "the first {} by {}",
            query.limit,
            query.in_words()
        );
        let all = ids(database, &format!("SELECT id FROM t WHERE {}", query.condition()));
        if is_quiet {
            assert_eq!(query.bound.is_null(), all.len() < query.limit, "{}", query.bound);
        }
    }
    for round in 0..4 {
        for _ in 0..15 {
            database.sql(&write(rng));
        }
        take_in(&mut client, database, &mut queries);
        for query in &queries {
            let expected = query.within(database);
            assert_eq!(query.held, expected, "{} up to {}", query.in_words(), query.bound);
        }
        if round == 1 {
            // It comes back, with what it was told.
            let (epoch, from) = (client.hello["epoch"].clone(), client.hello["position"].clone());
            let place = database.value("SELECT pg_current_wal_insert_lsn()");
            assert!(from.is_string());
            client = walcast.connect();
            for (id, query) in queries.iter().enumerate() {
                let mut message = query.subscribe(id);
                message["bound"] = query.bound.clone();
                message["from"] = json!(place);
                message["epoch"] = epoch.clone();
                client.subscribe_live(message);
            }
        }
    }
}

#[test]
fn the_first_rows_of_any_order_stay_those_that_postgres_has_up_to_their_bound() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    let chosen = std::env::var("WALCAST_SEED")
        .ok()
        .map(|seed| seed.parse::<u64>().unwrap());
    let first = chosen.unwrap_or_else(|| fastrand::u64(..));
    for seed in first..first + if chosen.is_some() { 1 } else { 12 } {
        let held = std::panic::AssertUnwindSafe(|| case(seed, &database, &walcast));
        if std::panic::catch_unwind(held).is_err() {
            panic!("the case of WALCAST_SEED={seed} fails");
        }
    }
}

#[test]
fn an_order_that_cannot_be_kept_exactly_is_refused_with_the_reason() {
    let database = Database::new(TABLE);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let mut refused = |fields: Value| {
        let mut subscribe = json!({"id": "s", "table": "t", "snapshot": true, "limit": 3});
        for (name, value) in fields.as_object().unwrap() {
            subscribe[name] = value.clone();
        }
        let error = client.subscribe_refused(subscribe);
        (error["code"].as_str().unwrap().to_owned(), error)
    };
    let by = |column: &str| json!([{"column": column}]);
    let (code, error) = refused(json!({"order_by": by("natural_order")}));
    assert_eq!(code, "bad_predicate", "{error}");
    let words = error["message"].as_str().unwrap();
    assert!(
        words.starts_with("the rows cannot be kept in the order of \"order_by\": "),
        "{error}"
    );
    assert!(
        words.contains("COLLATE") && error.get("offset").is_none(),
        "{error}"
    );
    let (code, error) = refused(json!({"order_by": by("natural_ordre")}));
    assert_eq!(code, "unknown_column");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .ends_with("did you mean natural_order?"),
        "{error}"
    );
    // The log does not tell which values a row had, but for those of its key.
    let (code, error) = refused(json!({"table": "by_key", "order_by": by("n")}));
    assert_eq!(code, "replica_identity", "{error}");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("REPLICA IDENTITY FULL"),
        "{error}"
    );
    // Places in the client's own text.
    let (code, error) = refused(json!({"order_by": by("a"), "where": "a = 1 AND bb = 2"}));
    assert_eq!(
        (code.as_str(), &error["offset"]),
        ("unknown_column", &json!(10)),
        "{error}"
    );
    let (code, _) = refused(json!({"order_by": by("a"), "where": "a = 1) OR (true"}));
    assert_eq!(code, "bad_predicate");
    for wrong in [
        json!({}),
        json!({"order_by": []}),
        json!({"order_by": "a"}),
        json!({"order_by": ["a"]}),
        json!({"order_by": [{"column": "a"}, {"column": "a"}]}),
        json!({"order_by": [{"column": "a", "descending": true}]}),
        json!({"order_by": [{"column": "a", "nulls": "none"}]}),
        json!({"order_by": by("a"), "limit": 0}),
        json!({"order_by": by("a"), "limit": 10_001}),
        json!({"order_by": by("a"), "limit": "3"}),
        json!({"order_by": by("a"), "bound": [1]}),
        json!({"order_by": by("a"), "bound": null}),
        json!({"bound": null}),
        json!({"order_by": by("a"), "snapshot": false}),
        json!({"messages": "m", "table": null, "snapshot": false, "order_by": by("a")}),
    ] {
        let (code, error) = refused(wrong.clone());
        assert_eq!(code, "bad_request", "{wrong} {error}");
    }
    // What the bound is not.
    let (code, _) = {
        let mut client = walcast.connect();
        let bound = json!({"id": "b", "table": "t", "order_by": by("a"), "bound": ["x"], "snapshot": true});
        let error = client.subscribe_refused(bound);
        (error["code"].as_str().unwrap().to_owned(), error)
    };
    assert_eq!(code, "bad_predicate");
    // By its key it is decided.
    let mut client = walcast.connect();
    database.sql("INSERT INTO by_key SELECT g, g FROM generate_series(1, 9) g");
    let newest = json!([{"column": "id", "desc": true}]);
    let subscribed = client
        .subscribe(json!({"id": "k", "table": "by_key", "order_by": newest, "limit": 4, "snapshot": true}));
    assert_eq!(subscribed["bound"], json!([6]));
}

#[test]
fn under_policies_the_first_rows_and_their_bound_are_those_of_what_the_client_may_see() {
    let guarded = Guarded::new(
        "CREATE TABLE t (id int PRIMARY KEY, tenant int, n int, secret int);
         ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t SELECT g, g % 2, g, 100 - g FROM generate_series(1, 40) g;
         CREATE PUBLICATION pub FOR TABLE t",
    );
    let own = "[[policy]]\ntables = [\"t\"]\ncolumns = [\"id\", \"tenant\", \"n\"]\n\
               where = \"tenant = claim('tenant')::int\"\n";
    let late = "[[policy]]\ntables = [\"t\"]\nwhere = \"n > 30\"\n";
    let token = guarded.token_with("ann", &json!({"tenant": 1}));
    let first = |policies: &str, column: &str| {
        let walcast = guarded.setup("", policies).start();
        let mut client = client(&walcast, &token);
        let by = json!([{"column": column}]);
        let message = json!({"type": "subscribe", "id": "s", "table": "t", "order_by": by, "limit": 3, "snapshot": true});
        client.send(&message);
        let answer = client.next();
        if answer["type"] == "error" {
            return (answer["code"].clone(), BTreeSet::new());
        }
        let mut rows = BTreeSet::new();
        loop {
            let message = client.next();
            match message["type"].as_str() {
                Some("snapshot") => {
                    rows.extend(
                        message["rows"]
                            .as_array()
                            .unwrap()
                            .iter()
                            .map(|row| row["id"].as_u64().unwrap()),
                    );
                }
                Some("live") => return (answer["bound"].clone(), rows),
                _ => panic!("{message}"),
            }
        }
    };
    assert_eq!(first(own, "n"), (json!([5]), BTreeSet::from([1, 3, 5])));
    assert_eq!(first(own, "secret").0, "unknown_column");
    // By what the client sees in some rows only, those alone are ordered.
    assert_eq!(
        first(&format!("{own}{late}"), "secret"),
        (json!([62]), BTreeSet::from([38, 39, 40]))
    );
}

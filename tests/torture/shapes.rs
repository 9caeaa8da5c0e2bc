//! Publications of several shapes, and tables with generated columns or without a key.
//!
//! The part of a table that a run's publications carry is drawn by lot. The judge asks Postgres for just that.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::View;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE listed (id bigint PRIMARY KEY, a int, b text, c text);
    CREATE TABLE sieved (id bigint PRIMARY KEY, n int, state text);
    ALTER TABLE sieved REPLICA IDENTITY FULL;
    CREATE TABLE born (id bigint PRIMARY KEY, n int, note text);
    CREATE TABLE ever_born (id bigint, n int, note text);
    CREATE FUNCTION note_birth() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO ever_born SELECT NEW.*; RETURN NULL; END $$;
    CREATE TRIGGER note_birth AFTER INSERT ON born FOR EACH ROW EXECUTE FUNCTION note_birth();
    CREATE TABLE derived (id bigint PRIMARY KEY, n int, half int GENERATED ALWAYS AS (n / 2) STORED, tag text);
    CREATE TABLE derived_key (url text, host text GENERATED ALWAYS AS (substr(url, 1, 2)) STORED, n int, PRIMARY KEY (url, host));
    CREATE TABLE crowd (a int, b text);
    ALTER TABLE crowd REPLICA IDENTITY FULL;
    CREATE SEQUENCE shaped_id;
";

/// The tables that clients ask for.
const TABLES: [&str; 6] = ["listed", "sieved", "born", "derived", "derived_key", "crowd"];

/// The publications of a run.
pub(crate) struct Shape {
    /// The SQL that makes them, with the workload's own.
    pub(crate) sql: String,
    pub(crate) publications: Vec<&'static str>,
    /// Everything is in one publication, of all tables.
    pub(crate) is_all: bool,
    /// The part of a table that the publications leave in: its source, for a `SELECT`.
    sieve: Option<String>,
    /// Births alone are published.
    only_births: bool,
    /// Generated columns are, too, but for virtual ones, which no publication can have: both since 18.
    pub(crate) with_generated: bool,
}

impl Shape {
    /// Draws lots. `version` is the server's.
    pub(crate) fn draw(rng: &mut Rng, version: u32) -> Shape {
        let with_generated = version >= 180_000;
        let generated = if with_generated {
            ", publish_generated_columns = stored"
        } else {
            ""
        };
        // Before 18 the log has nothing of a generated column: without whole rows nobody could tell which row it is of.
        // Since then there are virtual ones, here between others.
        let tables = if with_generated {
            "ALTER TABLE derived DROP COLUMN tag, ADD COLUMN twice int GENERATED ALWAYS AS (n * 2) VIRTUAL,
                     ADD COLUMN tag text;
                 ALTER TABLE derived_key ADD COLUMN long text GENERATED ALWAYS AS (url || '/' || n) VIRTUAL;"
        } else {
            "ALTER TABLE derived_key REPLICA IDENTITY FULL;"
        };
        if rng.u32(0..3) == 0 {
            return Shape {
                sql: format!(
                    "{tables} DROP PUBLICATION pub, said, ledger, person;
                     CREATE PUBLICATION pub FOR ALL TABLES WITH (publish_via_partition_root = true{generated})"
                ),
                publications: vec!["pub"],
                is_all: true,
                sieve: None,
                only_births: false,
                with_generated,
            };
        }
        let can_choose = version >= 150_000;
        let list = *rng.choice(&["(id, a, b)", "(id, c)", "(b, id)", ""]).unwrap();
        let sieve = *rng
            .choice(&[
                "n > 0 AND state <> 'gone'",
                "id % 3 <> 0",
                "state IS NOT NULL",
                "n IS NULL OR n <> 7",
            ])
            .unwrap();
        let (list, filter) = if can_choose {
            (list, format!("WHERE ({sieve})"))
        } else {
            ("", String::new())
        };
        // A second one may carry the same tables, of which it lets other rows through, or other operations.
        let (second, sieve) = match rng.u32(0..3) {
            0 if can_choose => (
                "CREATE PUBLICATION second FOR TABLE item, sieved WHERE (n < -20)",
                format!("({sieve}) OR n < -20"),
            ),
            1 => (
                "CREATE PUBLICATION second FOR TABLE item, part, sieved",
                "true".to_owned(),
            ),
            _ => (
                "CREATE PUBLICATION second FOR TABLE item WITH (publish = 'insert')",
                sieve.to_owned(),
            ),
        };
        let sql = format!(
            "{tables}
             CREATE PUBLICATION listed FOR TABLE listed {list}, crowd;
             CREATE PUBLICATION sieved FOR TABLE sieved {filter};
             CREATE PUBLICATION born FOR TABLE born WITH (publish = 'insert');
             CREATE PUBLICATION derived FOR TABLE derived, derived_key WITH (publish = 'insert, update, delete, truncate'{generated});
             {second};"
        );
        Shape {
            sql,
            publications: vec![
                "pub", "said", "ledger", "person", "listed", "sieved", "born", "derived", "second",
            ],
            is_all: false,
            sieve: (can_choose && sieve != "true")
                .then(|| format!("(SELECT * FROM sieved WHERE {sieve}) sieved")),
            only_births: true,
            with_generated,
        }
    }

    /// A query on one of the tables.
    pub(crate) fn view(&self, rng: &mut Rng, id: &str) -> View {
        let table = *rng.choice(&TABLES).unwrap();
        let n = rng.i32(-40..60);
        let state = *rng.choice(&["open", "gone", "sent"]).unwrap();
        let mut query = json!({"id": id, "table": table, "snapshot": true, "undecided": "send"});
        let mut conditions = match table {
            "listed" => vec![
                format!("id > {}", n * 10),
                format!("id % 3 = {}", n.rem_euclid(3)),
            ],
            "sieved" => vec![
                format!("n > {n}"),
                format!("state = '{state}'"),
                format!("n < {n} OR state IS NULL"),
            ],
            "born" => vec![
                format!("n > {n}"),
                "note IS NULL".into(),
                format!("id > {}", n * 10),
            ],
            "derived" => vec![
                format!("n % 2 = {}", n.rem_euclid(2)),
                format!("id > {n}"),
                format!("tag = 't{}'", n.rem_euclid(5)),
            ],
            "derived_key" => vec![format!("n > {n}"), format!("url LIKE '{}%'", n.rem_euclid(10))],
            _ => vec![
                format!("a > {}", n / 10),
                format!("b = 'b{}'", n.rem_euclid(3)),
                "b IS NULL".into(),
            ],
        };
        if self.with_generated {
            match table {
                "derived" => conditions.push(format!("half > {}", n / 2)),
                "derived_key" => conditions.push(format!("host >= '{}'", n.rem_euclid(10))),
                _ => {}
            }
        }
        if rng.u32(0..5) > 0 {
            query["where"] = json!(rng.choice(&conditions).unwrap());
        }
        if table == "crowd" && rng.bool() {
            query["columns"] = json!(["a"]);
        }
        // Of these the log decides everything.
        let is_decided = matches!(table, "sieved" | "crowd") || table == "born" && self.only_births;
        if is_decided && rng.bool() {
            query.as_object_mut().unwrap().remove("undecided");
            query["old"] = json!(true);
        }
        self.judged(View::new(query, Value::Null, true), table)
    }

    fn judged(&self, view: View, table: &str) -> View {
        match (table, &self.sieve) {
            ("sieved", Some(source)) => view.judged_by(source),
            ("born", _) if self.only_births => view.judged_by("ever_born").may_lack(),
            _ => view,
        }
    }
}

/// Something written to these tables.
pub(crate) fn statement(rng: &mut Rng) -> String {
    let n = rng.i32(-40..60);
    let salt = rng.u32(..1 << 30);
    let state = *rng.choice(&["'open'", "'gone'", "'sent'", "NULL"]).unwrap();
    let some = |table: &str, limit: u32| {
        format!("WHERE id IN (SELECT id FROM {table} ORDER BY hashint8(id # {salt}) LIMIT {limit})")
    };
    let id = "nextval('shaped_id')";
    match rng.u32(0..24) {
        0..2 => format!(
            "INSERT INTO listed SELECT {id}, {n}, 'b{n}', repeat('c', {}) FROM generate_series(1, 2)",
            rng.u32(1..3000)
        ),
        2 => format!("UPDATE listed SET a = {n}, c = c || 'x' {}", some("listed", 2)),
        3 => format!("UPDATE listed SET b = 'B{n}' {}", some("listed", 3)),
        4 => format!("DELETE FROM listed {}", some("listed", 1)),
        5..7 => format!("INSERT INTO sieved SELECT {id}, {n} + g, {state} FROM generate_series(1, 3) g"),
        7..9 => format!("UPDATE sieved SET n = {n}, state = {state} {}", some("sieved", 3)),
        9 => format!("UPDATE sieved SET id = {id} {}", some("sieved", 1)),
        10 => format!("DELETE FROM sieved {}", some("sieved", 1)),
        11..13 => format!("INSERT INTO born SELECT {id}, {n}, {state} FROM generate_series(1, 2)"),
        13 => format!("DELETE FROM born {}", some("born", 1)),
        14..16 => format!(
            "INSERT INTO derived (id, n, tag) SELECT {id}, {n}, 't' || g FROM generate_series(1, 3) g"
        ),
        16 => format!("UPDATE derived SET n = {n} {}", some("derived", 3)),
        17 => format!("DELETE FROM derived {}", some("derived", 1)),
        18..20 => format!("INSERT INTO derived_key (url, n) VALUES ({salt}, {n}) ON CONFLICT DO NOTHING"),
        20 => format!(
            "UPDATE derived_key SET n = n + 1, url = url || 'x' WHERE url LIKE '{}%'",
            salt % 90
        ),
        21 => format!("DELETE FROM derived_key WHERE url LIKE '{}%'", salt % 90),
        22 => format!(
            "INSERT INTO crowd SELECT {} % 6, 'b' || g % 3 FROM generate_series(1, 4) g",
            n.abs()
        ),
        _ => match rng.u32(0..3) {
            0 => format!(
                "UPDATE crowd SET a = a + 1 WHERE a = {} AND b = 'b1'",
                n.abs() % 6
            ),
            1 => format!(
                "UPDATE crowd SET b = NULL WHERE ctid IN (SELECT ctid FROM crowd WHERE a = {} LIMIT 1)",
                n.abs() % 6
            ),
            _ => format!(
                "DELETE FROM crowd WHERE ctid IN (SELECT ctid FROM crowd WHERE a = {} LIMIT 2)",
                n.abs() % 6
            ),
        },
    }
}

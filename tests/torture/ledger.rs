//! A table that is published by its root, whose partitions come and go with replica identities of their own.

use fastrand::Rng;
use serde_json::{Value, json};
use walcast::postgres::Connection;

use crate::support::{Forgiven, Mishaps, View, text};

pub(crate) const SCHEMA: &str = "
    CREATE TABLE ledger (region int, id bigint, code int NOT NULL, state text, n int, note text, PRIMARY KEY (region, id))
        PARTITION BY LIST (region);
    CREATE UNIQUE INDEX ledger_codes ON ledger (region, id, code);
    CREATE TABLE ledger_rest PARTITION OF ledger DEFAULT;
    CREATE TABLE ledger_1 PARTITION OF ledger FOR VALUES IN (1);
    CREATE TABLE ledger_2 PARTITION OF ledger FOR VALUES IN (2);
    ALTER TABLE ledger_1 REPLICA IDENTITY FULL;
    CREATE SEQUENCE ledger_id;
    CREATE PUBLICATION ledger FOR TABLE ledger WITH (publish_via_partition_root = true);
";

/// The number of regions that there are; those without a partition of their own are in the one of the rest.
const REGIONS: u32 = 7;
/// Those whose partitions stay.
const STAYING: u32 = 2;

/// Something written to it.
pub(crate) fn statement(rng: &mut Rng) -> String {
    let region = rng.u32(1..=REGIONS);
    let n = rng.i32(-40..60);
    let code = rng.u32(0..9);
    let state = *rng.choice(&["open", "paid", "sent", "gone"]).unwrap();
    let some = format!(
        "WHERE id IN (SELECT id FROM ledger ORDER BY hashint8(id # {}) LIMIT {})",
        rng.u32(..1 << 30),
        rng.u32(1..4)
    );
    match rng.u32(0..20) {
        0..7 => format!(
            "INSERT INTO ledger SELECT {region}, nextval('ledger_id'), {code}, '{state}', {n}, note
             FROM generate_series(1, {}), (SELECT {}) AS n(note)",
            rng.u32(1..5),
            text(rng)
        ),
        7..11 => format!("UPDATE ledger SET state = '{state}', n = {n} {some}"),
        11..13 => format!("UPDATE ledger SET n = n + 1 {some}"),
        13..16 => format!("UPDATE ledger SET region = {region}, state = '{state}' {some}"),
        16 => format!("UPDATE ledger SET code = {code} {some}"),
        17 => format!("UPDATE ledger SET note = {} {some}", text(rng)),
        18 if rng.u32(0..10) == 0 => "TRUNCATE ledger".into(),
        // Others wrote to what is no partition: nobody is to hear of it.
        18 => "DO $$ BEGIN INSERT INTO loose SELECT 1, -nextval('ledger_id'), 1, 'open', 1, 'ABORTED';
               EXCEPTION WHEN undefined_table THEN NULL; END $$"
            .into(),
        _ => format!("DELETE FROM ledger {some}"),
    }
}

/// A query on it, of any way to deal with what is undecided.
pub(crate) fn query(rng: &mut Rng, id: &str) -> Value {
    let mut query = json!({"id": id, "table": "ledger"});
    let n = rng.i32(-40..60);
    let region = rng.u32(1..=REGIONS);
    let state = *rng.choice(&["open", "paid", "sent", "gone"]).unwrap();
    let conditions = [
        format!("region = {region}"),
        format!("region IN ({region}, 1) AND id > {}", n * 20),
        format!("state = '{state}'"),
        format!("n > {n}"),
        format!("state <> '{state}' AND region <= {region}"),
        format!("n BETWEEN {n} AND {} OR state = '{state}'", n + 30),
        format!("code IN ({}, 5)", region - 1),
        "note IS NULL".to_owned(),
        "note LIKE 'note 1%'".to_owned(),
        format!("NOT (state = '{state}' OR region = {region})"),
    ];
    if rng.u32(0..8) > 0 {
        query["where"] = json!(rng.choice(&conditions).unwrap());
    }
    if rng.u32(0..4) == 0 {
        query["columns"] = rng
            .choice(&[json!(["n"]), json!(["state", "code"]), json!(["note"])])
            .unwrap()
            .clone();
    }
    if rng.bool() {
        query["old"] = json!(true);
    }
    match rng.u32(0..4) {
        0 => {}
        1 => query["undecided"] = json!("refuse"),
        2 => query["undecided"] = json!("withhold"),
        _ => query["undecided"] = json!("send"),
    }
    query
}

/// A view of a query.
pub(crate) fn view(mut query: Value) -> View {
    // The past may have another key.
    query["snapshot"] = json!(true);
    let withholds = query["undecided"] == "withhold";
    let view = View::new(query, json!(null), true).undecided().may_know_less();
    if withholds { view.may_keep() } else { view }
}

/// True if the log may leave open which rows are in the result: the predicate needs more than the key, and whole rows
/// are not logged of all.
fn depends(view: &View) -> bool {
    view.must_know()
        && ["state", "n", "code", "note"]
            .iter()
            .any(|column| view.names(column))
}

/// A view that must know what becomes of rows may be refused at any time: new partitions have the identity that they
/// have.
const UNDECIDED: Forgiven = Forgiven {
    code: "replica_identity",
    table: "ledger",
    says: "",
    of: depends,
};

/// The key of the root is what its own identity says, if all partitions log that. The server describes the root again
/// only before rows of a partition that was altered, or at its next connection: any time later.
const KEY: Forgiven = Forgiven {
    code: "schema_changed",
    table: "ledger",
    says: "the key of public.ledger is",
    of: |_| true,
};

/// Partitions that the run made: their numbers and regions.
#[derive(Default)]
pub(crate) struct Partitions {
    made: Vec<(u32, u32)>,
    number: u32,
    has_loose: bool,
    /// The root's identity has changed.
    has_other_key: bool,
}

impl Partitions {
    /// Forgives the errors that may end a view at any time.
    pub(crate) fn forgive(&self, mishaps: &Mishaps) {
        mishaps.forgive(UNDECIDED);
        if self.has_other_key {
            mishaps.forgive(KEY);
        }
    }

    /// Changes the partitions, in one transaction, and says what may come of it. An error leaves them as they were.
    pub(crate) fn change(&mut self, rng: &mut Rng, mishaps: &Mishaps) -> Change {
        let free = |region: &u32| !self.made.iter().any(|(_, made)| made == region);
        let free: Vec<u32> = (STAYING + 1..=REGIONS).filter(free).collect();
        match rng.u32(0..10) {
            0..3 if !free.is_empty() => {
                let region = *rng.choice(&free).unwrap();
                self.number += 1;
                let made = (self.number, region);
                Change {
                    sql: self.make(rng, self.number, region),
                    after: After::Made(made),
                }
            }
            3..5 if !self.made.is_empty() => {
                let at = rng.usize(..self.made.len());
                let (number, _) = self.made[at];
                let (ends, after) = if self.has_loose || rng.bool() {
                    (format!("DROP TABLE ledger_p{number}"), After::Gone(at, false))
                } else {
                    (
                        format!("ALTER TABLE ledger_p{number} RENAME TO loose"),
                        After::Gone(at, true),
                    )
                };
                let detach = format!("ALTER TABLE ledger DETACH PARTITION ledger_p{number}");
                Change {
                    sql: aside(&format!("ledger_p{number}"), &[&detach, &ends]),
                    after,
                }
            }
            5 if self.has_loose && !free.is_empty() => {
                let region = *rng.choice(&free).unwrap();
                self.number += 1;
                let name = format!("ledger_p{}", self.number);
                let rename = format!("TRUNCATE loose; ALTER TABLE loose RENAME TO {name}");
                let attach = format!("ALTER TABLE ledger ATTACH PARTITION {name} FOR VALUES IN ({region})");
                Change {
                    sql: aside("ledger_rest", &[&rename, &attach]),
                    after: After::Back((self.number, region)),
                }
            }
            6 => {
                // That the rows have no identity at all ends everybody whom they concern, until it is cured.
                let of = |_: &View| true;
                for code in ["replica_identity", "schema_changed"] {
                    mishaps.forgive(Forgiven {
                        code,
                        table: "ledger",
                        says: "",
                        of,
                    });
                }
                let table = rng.choice(&["ledger_1", "ledger_2", "ledger_rest"]).unwrap();
                Change {
                    sql: format!("ALTER TABLE {table} REPLICA IDENTITY NOTHING"),
                    after: After::Nothing,
                }
            }
            7 => {
                self.has_other_key = true;
                mishaps.forgive(KEY);
                let identity = *rng
                    .choice(&["FULL", "DEFAULT", "USING INDEX ledger_codes"])
                    .unwrap();
                Change {
                    sql: format!("ALTER TABLE ledger REPLICA IDENTITY {identity}"),
                    after: After::Nothing,
                }
            }
            8 => {
                let all = self
                    .names()
                    .map(|name| format!("ALTER TABLE {name} REPLICA IDENTITY FULL"));
                Change {
                    sql: all.collect::<Vec<_>>().join("; "),
                    after: After::Nothing,
                }
            }
            _ => {
                let all: Vec<String> = self.names().collect();
                let name = rng.choice(&all).unwrap();
                Change {
                    sql: identity(rng, name),
                    after: After::Nothing,
                }
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let staying = ["ledger_rest", "ledger_1", "ledger_2"]
            .map(str::to_owned)
            .into_iter();
        staying.chain(self.made.iter().map(|(number, _)| format!("ledger_p{number}")))
    }

    fn make(&self, rng: &mut Rng, number: u32, region: u32) -> String {
        let name = format!("ledger_p{number}");
        let own = identity(rng, &name);
        let index = format!("CREATE UNIQUE INDEX {name}_codes ON {name} (region, id, code)");
        let create = match rng.u32(0..3) {
            0 => format!("CREATE TABLE {name} PARTITION OF ledger FOR VALUES IN ({region})"),
            // Its columns have other places than the root's.
            1 => format!(
                "CREATE TABLE {name} (gone int, note text, n int, id bigint, state text, code int NOT NULL, region int,
                     PRIMARY KEY (region, id));
                 ALTER TABLE {name} DROP COLUMN gone; {index};
                 ALTER TABLE ledger ATTACH PARTITION {name} FOR VALUES IN ({region})"
            ),
            _ => format!(
                "CREATE TABLE {name} (LIKE ledger); ALTER TABLE {name} ADD PRIMARY KEY (region, id); {index};
                 ALTER TABLE ledger ATTACH PARTITION {name} FOR VALUES IN ({region})"
            ),
        };
        // Before its first row or after it.
        if rng.bool() {
            aside("ledger_rest", &[&create, &own])
        } else {
            format!("{}; {own}", aside("ledger_rest", &[&create]))
        }
    }

    /// Notes what came of a change.
    pub(crate) fn note(&mut self, after: After) {
        match after {
            After::Made(made) => self.made.push(made),
            After::Back(made) => {
                self.made.push(made);
                self.has_loose = false;
            }
            After::Gone(at, is_loose) => {
                self.made.swap_remove(at);
                self.has_loose |= is_loose;
            }
            After::Nothing => {}
        }
    }
}

/// A statement, and the note that is taken of it.
pub(crate) struct Change {
    pub(crate) sql: String,
    pub(crate) after: After,
}

pub(crate) enum After {
    Made((u32, u32)),
    Back((u32, u32)),
    /// Which of them, and whether its table is left.
    Gone(usize, bool),
    Nothing,
}

/// The part of its old rows that a partition logs.
fn identity(rng: &mut Rng, table: &str) -> String {
    let identity = match rng.u32(0..3) {
        0 => "FULL".to_owned(),
        1 => "DEFAULT".to_owned(),
        _ => {
            return format!(
                "DO $$ BEGIN EXECUTE (SELECT format('ALTER TABLE {table} REPLICA IDENTITY USING INDEX %I', c.relname)
                     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                     WHERE i.indrelid = '{table}'::regclass AND i.indnatts = 3 LIMIT 1); END $$"
            );
        }
    };
    format!("ALTER TABLE {table} REPLICA IDENTITY {identity}")
}

/// Changes partitions while the rows of one are aside: what comes and goes with its partition is told to nobody.
fn aside(table: &str, statements: &[&str]) -> String {
    format!(
        "BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE;
         CREATE TEMPORARY TABLE aside ON COMMIT DROP AS SELECT * FROM {table}; DELETE FROM {table};
         {}; INSERT INTO ledger (region, id, code, state, n, note) SELECT region, id, code, state, n, note FROM aside; COMMIT",
        statements.join("; ")
    )
}

/// Gives every partition an identity again.
pub(crate) fn cure(connection: &mut Connection) -> Option<()> {
    for table in ["ledger_1", "ledger_2", "ledger_rest"] {
        let nothing = format!("SELECT relreplident FROM pg_class WHERE oid = '{table}'::regclass");
        if connection.query(&nothing).ok()?[0].get(0) == Some("n") {
            connection
                .query(&format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT"))
                .ok()?;
        }
    }
    Some(())
}

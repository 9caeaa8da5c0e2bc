//! A table whose columns and labels change places under their names.

use fastrand::Rng;
use serde_json::{Value, json};

use crate::support::Forgiven;

pub(crate) const TABLE: &str = "person";

pub(crate) const SCHEMA: &str = "
    CREATE TYPE mood AS ENUM ('ok', 'sad', 'happy');
    CREATE TABLE person (id bigint PRIMARY KEY, phone text, mail text, mood mood, since timestamptz, gap interval,
                         raw bytea, score float8, fee numeric);
    ALTER TABLE person REPLICA IDENTITY FULL;
    CREATE SEQUENCE person_id;
    CREATE PUBLICATION person FOR TABLE person;
";

/// Something written to it.
pub(crate) fn statement(rng: &mut Rng) -> String {
    let n = rng.i32(-9..90);
    let digit = rng.u32(0..3);
    let mood = *rng.choice(&["ok", "sad", "happy"]).unwrap();
    let some = format!(
        "WHERE id IN (SELECT id FROM person ORDER BY hashint8(id # {}) LIMIT {})",
        rng.u32(..1 << 30),
        rng.u32(1..4)
    );
    match rng.u32(0..8) {
        0..3 => format!(
            "INSERT INTO person (id, phone, mail, mood, since, gap, raw, score, fee) SELECT nextval('person_id'),
                 '{digit}' || g, 'm{digit}@' || {n}, '{mood}', '2026-11-0{} 04:05:06.789+05', '1 day {n} minutes', '\\x00{:02x}5c',
                 {n} / 3.0::float8, {n}.10 FROM generate_series(1, {}) g",
            digit + 1,
            n + 9,
            rng.u32(1..4)
        ),
        3 => format!("UPDATE person SET phone = '{digit}{n}' {some}"),
        4 => format!("UPDATE person SET mail = 'm{digit}', score = score / 3 {some}"),
        5 => format!("UPDATE person SET mood = '{mood}', gap = gap - '1 year'::interval {some}"),
        6 => format!("UPDATE person SET since = since + '1 hour', fee = fee / 3 {some}"),
        _ => format!("DELETE FROM person {some}"),
    }
}

/// A query on it.
pub(crate) fn query(rng: &mut Rng, id: &str) -> Value {
    let mut query = json!({"id": id, "table": "person"});
    let n = rng.i32(-9..90);
    let digit = rng.u32(0..3);
    let mood = *rng.choice(&["ok", "sad", "happy"]).unwrap();
    let conditions = [
        format!("phone LIKE '{digit}%'"),
        format!("phone = '{digit}1' OR mail IS NULL"),
        format!("mail LIKE 'm{digit}%'"),
        format!("mood = '{mood}'"),
        format!("mood > '{mood}'"),
        format!("score > {n}"),
        format!("gap < '1 day {n} minutes'"),
        format!("since >= '2026-11-0{} 00:00:00+00'", digit + 1),
        format!("fee <= {n}.5 AND phone <> mail"),
        "raw > '\\x0030'".to_owned(),
    ];
    if rng.u32(0..8) > 0 {
        query["where"] = json!(rng.choice(&conditions).unwrap());
    }
    if rng.bool() {
        query["columns"] = rng
            .choice(&[
                json!(["phone"]),
                json!(["mail", "gap"]),
                json!(["mood"]),
                json!(["score", "raw", "since"]),
            ])
            .unwrap()
            .clone();
    }
    if rng.bool() {
        query["old"] = json!(true);
    }
    query
}

/// Columns or labels change places: how, and the errors of what goes by them.
pub(crate) fn swap(rng: &mut Rng) -> (String, Vec<Forgiven>) {
    let error = |says, of| Forgiven {
        code: "schema_changed",
        table: TABLE,
        says,
        of,
    };
    let phone = error("\"phone\"", |view| view.needs("phone"));
    let mail = error("\"mail\"", |view| view.needs("mail"));
    let mood = error("\"mood\"", |view| view.needs("mood"));
    let (sql, swapped) = match rng.u32(0..4) {
        0 => (
            "BEGIN; ALTER TABLE person RENAME phone TO between; ALTER TABLE person RENAME mail TO phone;
             ALTER TABLE person RENAME between TO mail; COMMIT",
            vec![phone, mail],
        ),
        1 => (
            "ALTER TABLE person DROP COLUMN phone, ADD COLUMN phone text",
            vec![phone],
        ),
        2 => (
            "ALTER TABLE person DROP COLUMN mail, ADD COLUMN mail text DEFAULT 'm1'",
            vec![mail],
        ),
        _ => (
            "BEGIN; ALTER TYPE mood RENAME VALUE 'ok' TO 'between'; ALTER TYPE mood RENAME VALUE 'sad' TO 'ok';
             ALTER TYPE mood RENAME VALUE 'between' TO 'sad'; COMMIT",
            vec![mood],
        ),
    };
    (sql.into(), swapped)
}

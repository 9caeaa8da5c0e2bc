//! Rows as the server's own `row_to_json` prints them, for every type that there is.

mod random;
mod zoo;

use fastrand::Rng;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::support::{Client, Database, Setup, Walcast};

/// A frame, its rows as they are written.
#[derive(Deserialize)]
struct Tx<'a> {
    #[serde(borrow)]
    changes: Vec<Change<'a>>,
}

#[derive(Deserialize)]
struct Change<'a> {
    op: &'a str,
    #[serde(borrow)]
    row: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    old: Option<&'a RawValue>,
}

/// The outcome of a change: its op, and the texts of its row, key and old row, empty where there is none.
type Texts = (String, String, String, String);

/// The changes of the transactions to come until there are so many.
fn changes(client: &mut Client, count: usize) -> Vec<Texts> {
    let mut changes = Vec::new();
    while changes.len() < count {
        let text = client.tx_text();
        let tx: Tx<'_> = serde_json::from_str(&text).unwrap();
        let of = |value: Option<&RawValue>| value.map(|value| value.get().to_owned()).unwrap_or_default();
        changes.extend(
            tx.changes
                .iter()
                .map(|c| (c.op.to_owned(), of(c.row), of(c.key), of(c.old))),
        );
    }
    changes
}

/// The rows of a query as `row_to_json` prints them, as they are written.
fn printed(database: &Database, query: &str) -> Vec<String> {
    let rows = database.sql(&format!("SELECT row_to_json(q) FROM ({query}) q"));
    rows.iter().map(|row| row.get(0).unwrap().to_owned()).collect()
}

fn assert_same(found: &[String], expected: &[String]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        if found != expected {
            let same = found
                .bytes()
                .zip(expected.bytes())
                .take_while(|(a, b)| a == b)
                .count();
            let from = |text: &str| {
                String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(80)..]).into_owned()
            };
            panic!(
                "different from byte {same} on:\n{}\n\ninstead of\n{}",
                from(found),
                from(expected)
            );
        }
    }
}

/// True if a row is the other with some of its numbers in quotes, and how many.
fn quoted_numbers(texts: &str, native: &str) -> Option<usize> {
    let mut texts = texts;
    let mut native = native;
    let mut count = 0;
    while !native.is_empty() {
        let number = native
            .find(|c: char| !"+-.eE0123456789".contains(c))
            .unwrap_or(native.len());
        let quoted = texts.strip_prefix('"').filter(|_| number > 0);
        let after = quoted.and_then(|rest| rest.strip_prefix(&native[..number])?.strip_prefix('"'));
        if let Some(rest) = after {
            texts = rest;
            native = &native[number..];
            count += 1;
        } else {
            let next = native.chars().next()?.len_utf8();
            texts = texts.strip_prefix(&native[..next])?;
            native = &native[next..];
        }
    }
    texts.is_empty().then_some(count)
}

#[test]
fn rows_of_every_type_are_printed_as_row_to_json_prints_them() {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let database = Database::new(zoo::SCHEMA);
    let mut lacking = Vec::new();
    for (name, sql) in zoo::OPTIONAL {
        if let Err(error) = database.connect().query(sql) {
            eprintln!("without {name}: {error}");
            lacking.push(name);
        }
    }
    let types = zoo::columns(&lacking);
    let columns = types.iter().enumerate();
    let columns: Vec<String> = columns
        .map(|(i, ty)| format!("\"c{i} {}\" {}", ty.name().replace('"', "\"\""), ty.name()))
        .collect();
    database.sql(&format!(
        "CREATE TABLE zoo (id int PRIMARY KEY, {}); ALTER TABLE zoo REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE zoo",
        columns.join(", ")
    ));
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "zoo", "old": true}));
    let mut texts = walcast.try_connect("/v1/stream?numbers=string", &[]).unwrap();
    texts.subscribe_live(json!({"id": "a", "table": "zoo"}));

    const ROWS: usize = 40;
    let mut inserts = String::new();
    for id in 0..ROWS {
        let values: Vec<String> = types.iter().map(|ty| ty.sql(&mut rng)).collect();
        inserts += &format!("INSERT INTO zoo VALUES ({id}, {});\n", values.join(", "));
    }
    database.sql(&inserts);
    let before = printed(&database, "SELECT * FROM zoo ORDER BY id");
    let rows: Vec<String> = changes(&mut client, ROWS).into_iter().map(|c| c.1).collect();
    assert_same(&rows, &before);
    for ((_, row, ..), native) in changes(&mut texts, ROWS).iter().zip(&before) {
        let quoted = quoted_numbers(row, native);
        assert!(quoted.is_some_and(|quoted| quoted > 0), "{row}\n\nfor\n{native}");
        for (i, ty) in types
            .iter()
            .enumerate()
            .filter(|(_, ty)| ["int8", "numeric"].contains(&&*ty.name()))
        {
            let field = format!("\"c{i} {}\":", ty.name());
            let (_, value) = row.split_once(&field).unwrap();
            assert!(value.starts_with(['"', 'n']), "{field}{value}");
        }
    }

    // One by one, so that the order is known: each gets another key.
    let updates: Vec<String> = (0..ROWS)
        .map(|id| format!("UPDATE zoo SET id = id + {ROWS} WHERE id = {id};"))
        .collect();
    database.sql(&updates.concat());
    let after = printed(&database, "SELECT * FROM zoo ORDER BY id");
    let updated = changes(&mut client, ROWS);
    assert!(updated.iter().all(|c| c.0 == "update"));
    assert_same(&updated.iter().map(|c| c.1.clone()).collect::<Vec<_>>(), &after);
    assert_same(&updated.iter().map(|c| c.3.clone()).collect::<Vec<_>>(), &before);

    let deletes: Vec<String> = (ROWS..2 * ROWS)
        .map(|id| format!("DELETE FROM zoo WHERE id = {id};"))
        .collect();
    database.sql(&deletes.concat());
    let deleted = changes(&mut client, ROWS);
    assert!(deleted.iter().all(|c| c.0 == "delete"));
    assert_same(&deleted.iter().map(|c| c.3.clone()).collect::<Vec<_>>(), &after);
}

#[test]
fn keys_of_composites_and_arrays_are_printed_as_row_to_json_prints_them() {
    let database = Database::new(
        "CREATE TYPE place AS (country text, codes int[]);
         CREATE DOMAIN places AS place[];
         CREATE TABLE t (p place, tags text[], note text, d places, PRIMARY KEY (p, tags, d));
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    database.sql(
        r#"INSERT INTO t VALUES (ROW('a "b"', '{1,2}'), '{x,"y \\ z"}', 'n', '{"(c\\,,{NULL})",NULL}')"#,
    );
    let row = r#"{"p":{"country":"a \"b\"","codes":[1,2]},"tags":["x","y \\ z"],"note":"n","d":[{"country":"c,","codes":[null]},null]}"#;
    let key = r#"{"p":{"country":"a \"b\"","codes":[1,2]},"tags":["x","y \\ z"],"d":[{"country":"c,","codes":[null]},null]}"#;
    assert_eq!(printed(&database, "SELECT * FROM t"), [row]);
    assert_eq!(printed(&database, "SELECT p, tags, d FROM t"), [key]);
    assert_eq!(
        changes(&mut client, 1),
        [("insert".into(), row.into(), String::new(), String::new())]
    );
    database.sql("UPDATE t SET p.codes = '{}'");
    let after = &printed(&database, "SELECT * FROM t")[0];
    let new_key = &printed(&database, "SELECT p, tags, d FROM t")[0];
    let update = ("update".into(), after.clone(), key.into(), String::new());
    assert_eq!(changes(&mut client, 1), [update]);
    database.sql("DELETE FROM t");
    assert_eq!(
        changes(&mut client, 1),
        [("delete".into(), String::new(), new_key.clone(), String::new())]
    );
}

#[test]
fn numbers_are_strings_on_demand_wherever_they_are() {
    let database = Database::new(
        "CREATE DOMAIN big AS int8; CREATE TYPE amount AS (n numeric, i int, more int8[]);
         CREATE TABLE t (id int8 PRIMARY KEY, n numeric(10,2), s int2, f float8, b big, ns numeric[], a amount, aa amount[], m money, j jsonb);
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.try_connect("/v1/stream?numbers=string", &[]).unwrap();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    database.sql(
        r#"INSERT INTO t VALUES (9007199254740993, 1.5, 2, 2.5, 7, '{1.10,NULL,NaN}', ROW(0.1, 3, '{4}'), '{"(1,2,\"{3}\")"}', 5, '1')"#,
    );
    assert_eq!(
        changes(&mut client, 1)[0].1,
        r#"{"id":"9007199254740993","n":"1.50","s":2,"f":2.5,"b":"7","ns":["1.10",null,"NaN"],"a":{"n":"0.1","i":3,"more":["4"]},"aa":[{"n":"1","i":2,"more":["3"]}],"m":"$5.00","j":1}"#
    );
}

#[test]
fn a_type_whose_own_cast_makes_json_of_it_is_its_text() {
    let database = Database::new(
        "CREATE TYPE mood AS ENUM ('sad');
         CREATE FUNCTION mood_to_json(mood) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$;
         CREATE CAST (mood AS json) WITH FUNCTION mood_to_json(mood);
         CREATE TABLE t (id int PRIMARY KEY, m mood); CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1, 'sad')");
    assert_eq!(printed(&database, "SELECT * FROM t"), [r#"{"id":1,"m":{}}"#]);
    assert_eq!(changes(&mut client, 1)[0].1, r#"{"id":1,"m":"sad"}"#);
}

#[test]
fn databases_in_other_encodings_are_followed() {
    for (encoding, text) in [("LATIN1", "Zoë ÿ§"), ("EUC_JP", "漢字 かな")] {
        let schema = format!(
            r#"SET client_encoding = 'UTF8'; CREATE TYPE "mood {text}" AS ENUM ('{text}');
            CREATE TYPE "pair {text}" AS ("a {text}" text, m "mood {text}"[]);
            CREATE TABLE "table {text}" ("id {text}" int PRIMARY KEY, t text, p "pair {text}", j json, m "mood {text}");
            ALTER TABLE "table {text}" REPLICA IDENTITY FULL;
            CREATE PUBLICATION pub FOR TABLE "table {text}""#
        );
        let database = Database::encoded(encoding, &schema);
        let walcast = Setup::new(&database).start();
        let mut client = walcast.connect();
        let table = format!("\"table {text}\"");
        client.subscribe_live(json!({
            "id": "a", "table": table, "where": format!("t = '{text}'"), "columns": [format!("id {text}"), "t", "p", "j", "m"],
        }));
        database.sql(&format!(
            r#"INSERT INTO {table} VALUES (1, 'other', NULL, NULL, NULL), (2, '{text}', ROW('"{text}"', '{{"{text}"}}'), '{{"{text}":"{text}"}}', '{text}')"#
        ));
        let expected = printed(&database, &format!("SELECT * FROM {table} WHERE t = '{text}'"));
        assert!(expected[0].contains(text), "{encoding}");
        assert_eq!(changes(&mut client, 1)[0].1, expected[0], "{encoding}");
    }
}

const COMPOSITES: &str = "
    CREATE TYPE pair AS (a int, b text);
    CREATE TYPE holder AS (ps pair[]);
    CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, p pair, h holder);
    CREATE PUBLICATION pub FOR TABLE t;
";

/// A table with composites, and a client of it.
fn composites() -> (Database, Walcast, Client) {
    let database = Database::new(COMPOSITES);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    (database, walcast, client)
}

/// Writes a row with the composites given, and holds what comes of it against what the server says.
fn write(database: &Database, client: &mut Client, pair: &str) {
    database.sql(&format!(
        "INSERT INTO t (p, h) VALUES ({pair}, ROW(ARRAY[{pair}]::pair[]))"
    ));
    let expected = printed(database, "SELECT * FROM t ORDER BY id DESC LIMIT 1");
    assert_eq!(changes(client, 1)[0].1, expected[0]);
}

#[test]
fn a_composite_that_changes_is_looked_up_again() {
    let (database, _walcast, mut client) = composites();
    write(&database, &mut client, "ROW(1, 'x')");
    database.sql("ALTER TYPE pair ADD ATTRIBUTE c numeric");
    write(&database, &mut client, "ROW(1, 'x', 1.50)");
    database.sql("ALTER TYPE pair RENAME ATTRIBUTE b TO label");
    write(&database, &mut client, "ROW(1, 'x', 1.50)");
    database.sql("ALTER TYPE pair DROP ATTRIBUTE a");
    write(&database, &mut client, "ROW('x', 1.50)");
    // As many as before, but others.
    database.sql("ALTER TYPE pair DROP ATTRIBUTE label, ADD ATTRIBUTE d bool");
    write(&database, &mut client, "ROW(1.50, true)");
    // Rows that were there are printed with what they are now.
    database.sql("UPDATE t SET h = h WHERE id = 1");
    let expected = printed(&database, "SELECT * FROM t WHERE id = 1");
    assert_eq!(changes(&mut client, 1)[0].1, expected[0]);
}

#[test]
fn rows_around_a_change_of_a_composite_have_the_attributes_of_their_time() {
    let (database, _walcast, mut client) = composites();
    write(&database, &mut client, "ROW(1, 'x')");
    database.sql("ALTER TYPE pair DROP ATTRIBUTE a");
    write(&database, &mut client, "ROW('x')");
    // Postgres describes the table again, as it was.
    database.sql(
        "COMMENT ON TABLE t IS 'x'; ANALYZE t; ALTER TABLE t SET (fillfactor = 90);
         BEGIN; INSERT INTO t (p) VALUES (ROW('before'));
         ALTER TYPE pair ADD ATTRIBUTE c int; INSERT INTO t (p) VALUES (ROW('after', 3)); COMMIT;",
    );
    let rows: Vec<String> = changes(&mut client, 2).into_iter().map(|c| c.1).collect();
    assert_eq!(
        rows,
        [
            r#"{"id":3,"p":{"b":"before"},"h":null}"#,
            r#"{"id":4,"p":{"b":"after","c":3},"h":null}"#,
        ]
    );
}

#[test]
fn rows_that_were_not_read_when_a_composite_changed_are_not_misread() {
    let database = Database::new(COMPOSITES);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let after = |rows: [&str; 2], change: &str| {
        database.sql(&format!("INSERT INTO t (p) VALUES ({})", rows[0]));
        database.sql(change);
        database.sql(&format!("INSERT INTO t (p) VALUES ({})", rows[1]));
    };
    assert!(walcast.stop().success());
    after(
        ["ROW(1, 'x')", "ROW(1, 'x', 2)"],
        "ALTER TYPE pair ADD ATTRIBUTE c int",
    );
    let rows_of = |count: usize| {
        let walcast = setup.start();
        let mut client = walcast.connect();
        client.subscribe(json!({"id": "a", "table": "t", "columns": ["p"], "from": "earliest"}));
        let rows: Vec<String> = changes(&mut client, count).into_iter().map(|c| c.1).collect();
        assert!(walcast.stop().success());
        rows
    };
    let first = [
        r#"{"id":1,"p":{"a":1,"b":"x"}}"#,
        r#"{"id":2,"p":{"a":1,"b":"x","c":2}}"#,
    ];
    assert_eq!(rows_of(2), first);
    after(
        ["ROW(1, 'x', 2)", "ROW('x', 2)"],
        "ALTER TYPE pair DROP ATTRIBUTE a",
    );
    let rows = rows_of(4);
    assert_eq!(rows[..2], first);
    // What its first attribute was called is not to be known any more.
    assert_eq!(
        rows[2..],
        [r#"{"id":3,"p":"(1,x,2)"}"#, r#"{"id":4,"p":{"b":"x","c":2}}"#]
    );
}

//! Labels of enumerations and attributes of composites that change places under their names.

use std::fs;

use serde_json::{Value, json};

use crate::columns::{concerned, ended, with};
use crate::support::{Database, Direction, Proxy, Setup, eventually, has_wal2json};

const MOODS: &str = "
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE DOMAIN state AS mood;
    CREATE TYPE felt AS (mood mood, why text);
    CREATE TABLE t (id int PRIMARY KEY, mood mood, state state, moods mood[], felt felt, v int);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE t;
";

#[test]
fn labels_that_change_places_end_what_needs_them_and_are_ordered_anew() {
    labels_change_places("pgoutput");
}

fn labels_change_places(plugin: &str) {
    let database = Database::new(MOODS);
    let walcast = with(plugin, &database).start();
    let mut client = walcast.connect();
    for (id, rest) in [
        ("by order", json!({"where": "mood > 'sad'", "columns": ["id"]})),
        ("equal", json!({"where": "mood = 'sad'", "columns": ["id"]})),
        (
            "domain",
            json!({"where": "state::text = 'sad'", "columns": ["id"]}),
        ),
        ("array", json!({"where": "moods @> '{sad}'", "columns": ["id"]})),
        ("composite", json!({"columns": ["felt"]})),
        ("all", json!({})),
        ("v", json!({"where": "v > 0", "columns": ["v"]})),
    ] {
        let mut subscribe = json!({"id": id, "table": "t"});
        subscribe
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        client.subscribe_live(subscribe);
    }
    database.sql(
        "INSERT INTO t VALUES (1, 'ok', 'ok', '{sad}', '(ok,x)', 1), (2, 'sad', 'sad', '{ok}', '(sad,x)', 1)",
    );
    client.changes();
    database.sql(
        "BEGIN; ALTER TYPE mood RENAME VALUE 'sad' TO 'x'; ALTER TYPE mood RENAME VALUE 'ok' TO 'sad';
         ALTER TYPE mood RENAME VALUE 'x' TO 'ok'; COMMIT",
    );
    // It is noticed within seconds, and until then by a row that has composites.
    let mut ids = Vec::new();
    let mut id = 10;
    eventually("they have ended", || {
        id += 1;
        database.sql(&format!("INSERT INTO t VALUES ({id}, 'ok', 'ok', NULL, NULL, 1)"));
        loop {
            let message = client.next();
            if message["type"] == "error" {
                assert_eq!(message["code"], "schema_changed", "{message}");
                ids.push(message["id"].as_str().unwrap().to_owned());
            }
            let changes = message["changes"].as_array().cloned().unwrap_or_default();
            if changes.iter().any(|change| change["id"] == "v") {
                break;
            }
        }
        (ids.len() >= 6).then_some(())
    });
    ids.sort();
    assert_eq!(ids, ["all", "array", "by order", "composite", "domain", "equal"]);
    // New ones go by the new order, which is ok, sad, happy.
    let mut client = walcast.connect();
    client.subscribe_live(
        json!({"id": "o", "table": "t", "where": "mood > 'ok' AND mood <= 'happy'", "columns": ["id"]}),
    );
    client.subscribe_live(json!({"id": "d", "table": "t", "where": "state::text = 'ok'", "columns": ["id"]}));
    database.sql("INSERT INTO t VALUES (3, 'sad', 'sad'), (4, 'ok', 'ok'), (5, 'happy', 'happy')");
    let changes = client.changes();
    let mut seen: Vec<String> = changes
        .iter()
        .map(|change| format!("{} {}", change["id"].as_str().unwrap(), change["row"]["id"]))
        .collect();
    seen.sort();
    assert_eq!(seen, ["d 4", "o 3", "o 5"]);
    assert_eq!(
        database.value(
            "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t WHERE id IN (3, 4, 5) AND mood > 'ok'"
        ),
        "3 5"
    );
}

#[test]
fn labels_in_ranges_are_labels_too() {
    let database = Database::new(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); CREATE TYPE moods AS RANGE (SUBTYPE = mood, MULTIRANGE_TYPE_NAME = many);
         CREATE TABLE t (id int PRIMARY KEY, moods moods, several moods[], many many, v int); CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = with("pgoutput", &database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "range", "table": "t", "columns": ["moods"]}));
    client.subscribe_live(json!({"id": "array", "table": "t", "columns": ["several"]}));
    client.subscribe_live(json!({"id": "multirange", "table": "t", "columns": ["many"]}));
    client.subscribe_live(json!({"id": "v", "table": "t", "columns": ["v"]}));
    database.sql("INSERT INTO t VALUES (1, '[sad,ok]', '{\"[sad,ok]\"}', '{[sad,ok]}', 1)");
    let changes = client.changes();
    let range = changes.iter().find(|change| change["id"] == "range").unwrap();
    assert_eq!(range["row"]["moods"], "[sad,ok]");
    database.sql("ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'");
    let (ids, message) = ended(&mut client, 3);
    assert_eq!(ids, ["array", "multirange", "range"], "{message}");
    assert!(message.contains("\"ok\""), "{message}");
    database.sql("INSERT INTO t (id, v) VALUES (2, 1)");
    assert_eq!(concerned(&mut client), ["v"]);
}

#[test]
fn a_subscription_that_begins_after_labels_changed_places_goes_by_the_new_order_at_once() {
    labels_have_changed_places("pgoutput");
}

fn labels_have_changed_places(plugin: &str) {
    let database = Database::new(MOODS);
    let walcast = with(plugin, &database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "v", "table": "t", "columns": ["v"]}));
    database.sql("INSERT INTO t VALUES (1, 'ok', 'ok'), (2, 'sad', 'sad')");
    client.changes();
    database.sql(
        "BEGIN; ALTER TYPE mood RENAME VALUE 'sad' TO 'x'; ALTER TYPE mood RENAME VALUE 'ok' TO 'sad';
         ALTER TYPE mood RENAME VALUE 'x' TO 'ok'; COMMIT",
    );
    let mut late = walcast.connect();
    late.subscribe(json!({
        "id": "o", "table": "t", "where": "mood > 'ok'", "columns": ["id"], "snapshot": true
    }));
    let snapshot = late.expect("snapshot");
    assert_eq!(snapshot["rows"], json!([{"id": 1}]));
    late.expect("live");
    database.sql("INSERT INTO t VALUES (3, 'sad'), (4, 'ok')");
    let changes = late.changes();
    let ids: Vec<_> = changes.iter().map(|change| &change["row"]["id"]).collect();
    assert_eq!(ids, [&json!(3)]);
}

#[test]
fn attributes_that_change_places_end_what_needs_them() {
    attributes_change_places("pgoutput");
}

fn attributes_change_places(plugin: &str) {
    for change in [
        "BEGIN; ALTER TYPE pair RENAME ATTRIBUTE x TO z; ALTER TYPE pair RENAME ATTRIBUTE y TO x;
         ALTER TYPE pair RENAME ATTRIBUTE z TO y; COMMIT",
        "ALTER TYPE pair DROP ATTRIBUTE x, ADD ATTRIBUTE x int",
    ] {
        let database = Database::new(
            "CREATE TYPE pair AS (x int, y int); CREATE TABLE t (id int PRIMARY KEY, pair pair, pairs pair[], v int);
             CREATE PUBLICATION pub FOR TABLE t;",
        );
        let walcast = with(plugin, &database).start();
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "all", "table": "t"}));
        client.subscribe_live(json!({"id": "pairs", "table": "t", "columns": ["pairs"]}));
        client.subscribe_live(json!({"id": "v", "table": "t", "columns": ["v"]}));
        database.sql("INSERT INTO t VALUES (1, '(1,2)', '{\"(1,2)\"}', 1)");
        assert_eq!(client.changes().len(), 3);
        database.sql(change);
        database.sql("UPDATE t SET v = 2");
        let (ids, message) = ended(&mut client, 2);
        assert_eq!(ids, ["all", "pairs"]);
        assert!(message.contains("\"x\"") || message.contains("pair"), "{message}");
        assert_eq!(concerned(&mut client), ["v"]);
        eventually("it can be had again", || {
            client.subscribe(json!({"id": "all", "table": "t", "snapshot": true}));
            let snapshot = client.expect("snapshot");
            let shown = database.value("SELECT row_to_json(t) FROM t");
            assert_eq!(
                snapshot["rows"][0],
                serde_json::from_str::<Value>(&shown).unwrap()
            );
            client.expect("live");
            Some(())
        });
        for v in 3..5 {
            database.sql(&format!("UPDATE t SET v = {v}"));
            assert_eq!(concerned(&mut client), ["all", "v"]);
        }
    }
}

#[test]
fn with_wal2json_labels_and_attributes_are_told_too() {
    if has_wal2json() {
        labels_change_places("wal2json");
        labels_have_changed_places("wal2json");
        attributes_change_places("wal2json");
    }
}

/// A power failure may take the journal's last transaction, which the server sends again if it was not confirmed. A
/// client that already has it gets no row of it that could tell it of labels that changed meanwhile.
#[test]
fn a_client_that_is_ahead_of_a_journal_that_was_cut_is_told_of_labels_that_changed_meanwhile() {
    let database = Database::new(
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
         CREATE TABLE t (id int PRIMARY KEY, mood mood); CREATE PUBLICATION pub FOR TABLE t",
    );
    let postgres = Proxy::to_postgres(&database);
    let setup = Setup::new(&database).by(postgres.url(&database));
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1, 'ok')");
    client.changes();
    walcast.comes_up_to(&database);
    let segments = fs::read_dir(setup.data().join("segments")).unwrap();
    let segment = segments.map(|entry| entry.unwrap().path()).max().unwrap();
    let length = || fs::metadata(&segment).unwrap().len();
    // Nothing is confirmed any more.
    postgres.stall_one(Direction::Up, true);
    let before = length();
    database.sql("INSERT INTO t VALUES (2, 'ok')");
    let position = client.tx()["position"].clone();
    eventually("the journal has it", || (length() > before).then_some(()));
    walcast.kill();
    fs::File::options()
        .write(true)
        .open(&segment)
        .unwrap()
        .set_len(before)
        .unwrap();
    postgres.stall_one(Direction::Up, false);
    database.sql(
        "BEGIN; ALTER TYPE mood RENAME VALUE 'sad' TO 'x'; ALTER TYPE mood RENAME VALUE 'ok' TO 'sad';
         ALTER TYPE mood RENAME VALUE 'x' TO 'ok'; COMMIT",
    );
    let walcast = setup.start();
    walcast.comes_up_to(&database);
    let epoch = client.hello["epoch"].clone();
    let mut client = walcast.connect();
    assert_eq!(client.hello["epoch"], epoch, "the history goes on");
    client.send(&json!({"type": "subscribe", "id": "all", "table": "t", "from": position, "epoch": epoch}));
    let answer = client.next();
    assert_eq!(answer["code"], "schema_changed", "{answer}");
}

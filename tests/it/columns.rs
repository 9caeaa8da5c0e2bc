//! Columns that change places under their names: what is subscribed to is the column, not its name.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually, has_wal2json};

const SCHEMA: &str = "
    CREATE TABLE customer (id int PRIMARY KEY, phone text, phone_new text, note text, n int);
    ALTER TABLE customer REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE customer;
";

pub fn with(plugin: &str, database: &Database) -> Setup {
    Setup::new(database).flag("--plugin", plugin)
}

/// The ids of the subscriptions that end with `schema_changed`, and the last error's message.
pub fn ended(client: &mut Client, count: usize) -> (Vec<String>, String) {
    let mut message = String::new();
    let mut ids: Vec<String> = (0..count)
        .map(|_| {
            let error = client.error();
            assert_eq!(error["code"], "schema_changed", "{error}");
            message = error["message"].as_str().unwrap().to_owned();
            error["id"].as_str().unwrap().to_owned()
        })
        .collect();
    ids.sort();
    (ids, message)
}

/// The ids of the subscriptions that the next transaction is for.
pub fn concerned(client: &mut Client) -> Vec<String> {
    let changes = client.changes();
    let mut ids: Vec<String> = changes
        .iter()
        .map(|change| change["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Subscriptions to `customer` that need its phone in different ways, and two that do not.
fn by_phone(walcast: &Walcast) -> Client {
    let mut client = walcast.connect();
    for subscribe in [
        json!({"id": "all", "table": "customer"}),
        json!({"id": "columns", "table": "customer", "columns": ["phone"]}),
        json!({"id": "where", "table": "customer", "where": "phone LIKE '0%'", "columns": ["id"]}),
        json!({"id": "note", "table": "customer", "columns": ["note"]}),
        json!({"id": "by note", "table": "customer", "where": "note <> '' AND n > 0", "columns": ["id"]}),
    ] {
        client.subscribe_live(subscribe);
    }
    client
}

/// The database's answer for the rows whose phone begins with a zero.
fn zeros(database: &Database) -> String {
    database.value("SELECT json_agg(id ORDER BY id) FROM customer WHERE phone LIKE '0%'")
}

/// A new subscription to them with a snapshot, and what it holds once it is live.
fn held(walcast: &Walcast) -> (Client, Vec<u64>) {
    let mut client = walcast.connect();
    client.subscribe(json!({
        "id": "held", "table": "customer", "where": "phone LIKE '0%'", "columns": ["id"], "snapshot": true
    }));
    let mut ids = Vec::new();
    loop {
        let message = client.next();
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                let rows = message["rows"].as_array().unwrap();
                ids.extend(rows.iter().map(|row| row["id"].as_u64().unwrap()));
            }
            "live" => break,
            other => panic!("{other}: {message}"),
        }
    }
    ids.sort_unstable();
    (client, ids)
}

#[test]
fn columns_that_change_places_under_their_names_end_what_needs_them_and_nothing_else() {
    change_places("pgoutput");
}

fn change_places(plugin: &str) {
    for swap in [
        "BEGIN; ALTER TABLE customer RENAME phone TO phone_old; ALTER TABLE customer RENAME phone_new TO phone; COMMIT",
        "BEGIN; ALTER TABLE customer RENAME phone TO p; ALTER TABLE customer RENAME phone_new TO phone;
         ALTER TABLE customer RENAME p TO phone_new; COMMIT",
        "ALTER TABLE customer RENAME phone TO phone_old; ALTER TABLE customer RENAME phone_new TO phone",
    ] {
        let database = Database::new(SCHEMA);
        let walcast = with(plugin, &database).start();
        database.sql(
            "INSERT INTO customer SELECT g, '0' || g, '1' || g, 'x', 1 FROM generate_series(1, 9) g;
             INSERT INTO customer SELECT g, '1' || g, '0' || g, 'x', 1 FROM generate_series(10, 12) g",
        );
        let written = database.written();
        eventually("the rows have come", || {
            let position = walcast.connect().hello["position"].as_str().unwrap().parse();
            (position.is_ok_and(|position: walcast::lsn::Lsn| position >= written)).then_some(())
        });
        let mut client = by_phone(&walcast);
        database.sql("UPDATE customer SET n = n + 1");
        client.changes();
        database.sql(swap);
        database.sql("INSERT INTO customer VALUES (13, '13', '013', 'y', 2)");
        let (ids, message) = ended(&mut client, 3);
        assert_eq!(ids, ["all", "columns", "where"], "{swap}");
        assert!(message.contains("\"phone\""), "{message}");
        assert_eq!(concerned(&mut client), ["by note", "note"]);
        // A client that subscribes again has what the database has, and goes on.
        let (mut again, mut ids) = held(&walcast);
        database.sql("INSERT INTO customer VALUES (14, '14', '014', 'z', 3)");
        ids.push(again.change()["row"]["id"].as_u64().unwrap());
        assert_eq!(
            json!(ids),
            serde_json::from_str::<Value>(&zeros(&database)).unwrap()
        );
        assert_eq!(concerned(&mut client), ["by note", "note"]);
    }
}

#[test]
fn a_column_that_is_dropped_and_added_again_is_another_one() {
    are_added_again("pgoutput");
}

fn are_added_again(plugin: &str) {
    for change in [
        "ALTER TABLE customer DROP COLUMN phone, ADD COLUMN phone text",
        "ALTER TABLE customer DROP COLUMN phone; ALTER TABLE customer ADD COLUMN phone text DEFAULT '0'",
        "ALTER TABLE customer RENAME phone TO gone; ALTER TABLE customer DROP COLUMN gone; ALTER TABLE customer ADD phone text",
    ] {
        let database = Database::new(SCHEMA);
        let walcast = with(plugin, &database).start();
        let mut client = by_phone(&walcast);
        database.sql("INSERT INTO customer VALUES (1, '01', '1', 'x', 1)");
        assert_eq!(client.changes().len(), 5);
        database.sql(change);
        database.sql("INSERT INTO customer (id, phone, note, n) VALUES (2, '02', 'y', 2)");
        let (ids, message) = ended(&mut client, 3);
        assert_eq!(ids, ["all", "columns", "where"], "{change}");
        assert!(message.contains("\"phone\""), "{message}");
        assert_eq!(concerned(&mut client), ["by note", "note"]);
        // It can be had again, and goes on.
        let (mut again, _) = held(&walcast);
        client.subscribe_live(json!({"id": "where", "table": "customer", "where": "phone LIKE '0%'"}));
        for id in 3..6 {
            database.sql(&format!(
                "INSERT INTO customer (id, phone, note, n) VALUES ({id}, '0', 'z', 1)"
            ));
            assert_eq!(concerned(&mut client), ["by note", "note", "where"]);
            assert_eq!(again.change()["row"]["id"], id);
        }
    }
}

#[test]
fn columns_of_the_key_that_are_others_under_their_names_end_all() {
    of_the_key("pgoutput");
}

fn of_the_key(plugin: &str) {
    for change in [
        "ALTER TABLE t DROP COLUMN id; ALTER TABLE t ADD COLUMN id serial PRIMARY KEY",
        "ALTER TABLE t RENAME id TO other; ALTER TABLE t RENAME code TO id; ALTER TABLE t DROP CONSTRAINT t_pkey;
         ALTER TABLE t ADD PRIMARY KEY (id)",
    ] {
        let database = Database::new(
            "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL, v int); CREATE PUBLICATION pub FOR TABLE t;",
        );
        let walcast = with(plugin, &database).start();
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "v", "table": "t", "columns": ["v"]}));
        database.sql("INSERT INTO t VALUES (1, 11, 1)");
        client.change();
        database.sql(change);
        database.sql("UPDATE t SET v = 2");
        let (ids, message) = ended(&mut client, 1);
        assert_eq!(ids, ["v"]);
        assert!(message.contains("id"), "{message}");
        // It ends by the description of the table, which comes before the change.
        client.comes_up_to(database.written());
        client.subscribe_live(json!({"id": "v", "table": "t", "columns": ["v"]}));
        let key = database.value("SELECT id FROM t");
        database.sql("UPDATE t SET v = 3");
        assert_eq!(client.change()["row"]["id"].to_string(), key);
        database.sql("DELETE FROM t");
        assert_eq!(client.change()["key"]["id"].to_string(), key);
    }
}

#[test]
fn columns_that_come_and_go_around_those_that_are_needed_end_nothing() {
    come_and_go("pgoutput");
}

fn come_and_go(plugin: &str) {
    let database = Database::new(SCHEMA);
    let walcast = with(plugin, &database).start();
    let mut client = walcast.connect();
    client.subscribe_live(
        json!({"id": "a", "table": "customer", "where": "phone LIKE '0%'", "columns": ["note"]}),
    );
    client.subscribe_live(json!({"id": "b", "table": "customer"}));
    for (id, change) in [
        (1, "ALTER TABLE customer DROP COLUMN n, ADD COLUMN m int"),
        (
            2,
            "ALTER TABLE customer DROP COLUMN phone_new, ADD COLUMN \"more\" text DEFAULT 'd', ADD COLUMN l int",
        ),
        (
            3,
            "ALTER TABLE customer ALTER phone SET DEFAULT '0', ALTER phone SET STATISTICS 10",
        ),
        (
            4,
            "ALTER TABLE customer DROP COLUMN l; ALTER TABLE customer RENAME m TO m2",
        ),
        (
            5,
            "ALTER TABLE customer ADD COLUMN x int; ALTER TABLE customer DROP COLUMN x; ALTER TABLE customer ADD COLUMN x int",
        ),
    ] {
        database.sql(change);
        database.sql(&format!(
            "INSERT INTO customer (id, phone, note) VALUES ({id}, '0', 'x')"
        ));
        assert_eq!(concerned(&mut client), ["a", "b"], "{change}");
    }
}

#[test]
fn columns_of_a_partitioned_table_whose_partitions_have_others_are_the_roots() {
    of_partitions("pgoutput");
}

fn of_partitions(plugin: &str) {
    let database = Database::new(
        "CREATE TABLE root (id int, a text, b text, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
         CREATE TABLE one PARTITION OF root FOR VALUES IN (1);
         CREATE TABLE two (k int NOT NULL, b text, gone int, id int NOT NULL, a text, PRIMARY KEY (id, k));
         ALTER TABLE two DROP COLUMN gone;
         ALTER TABLE root ATTACH PARTITION two FOR VALUES IN (2);
         CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root);",
    );
    let walcast = with(plugin, &database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "root", "columns": ["a"]}));
    client.subscribe_live(json!({"id": "k", "table": "root", "columns": ["k"]}));
    for k in [1, 2, 1] {
        database.sql(&format!(
            "INSERT INTO root VALUES ((SELECT count(*) FROM root), 'a', 'b', {k})"
        ));
        let changes = client.changes();
        assert_eq!((changes.len(), &changes[0]["row"]["a"]), (2, &json!("a")));
    }
    database.sql(
        "BEGIN; ALTER TABLE root RENAME a TO c; ALTER TABLE root RENAME b TO a; ALTER TABLE root RENAME c TO b; COMMIT",
    );
    database.sql("INSERT INTO root VALUES (7, 'b', 'a', 2)");
    assert_eq!(ended(&mut client, 1).0, ["a"]);
    assert_eq!(concerned(&mut client), ["k"]);
    client.comes_up_to(database.written());
    client.subscribe_live(json!({"id": "a", "table": "root", "columns": ["a"]}));
    for k in [1, 2, 1] {
        database.sql(&format!(
            "INSERT INTO root VALUES (7{k} + (SELECT count(*) FROM root), 'b', 'a', {k})"
        ));
        assert_eq!(concerned(&mut client), ["a", "k"]);
    }
}

#[test]
fn a_resume_before_columns_changed_places_does_not_get_rows_of_the_others() {
    are_resumed("pgoutput");
}

fn are_resumed(plugin: &str) {
    let database = Database::new(SCHEMA);
    let walcast = with(plugin, &database).start();
    let mut client = walcast.connect();
    let query = json!({"id": "s", "table": "customer", "where": "phone LIKE '0%'", "columns": ["id"]});
    client.subscribe_live(query.clone());
    database.sql("INSERT INTO customer VALUES (1, '01', '1', 'x', 1)");
    let tx = client.tx();
    database.sql("INSERT INTO customer VALUES (2, '02', '1', 'x', 1)");
    client.change();
    database.sql(
        "BEGIN; ALTER TABLE customer RENAME phone TO p; ALTER TABLE customer RENAME phone_new TO phone;
         ALTER TABLE customer RENAME p TO phone_new; COMMIT",
    );
    database.sql("INSERT INTO customer VALUES (3, '1', '03', 'x', 1)");
    assert_eq!(ended(&mut client, 1).0, ["s"]);
    let mut resuming = query;
    resuming["from"] = tx["position"].clone();
    resuming["epoch"] = client.hello["epoch"].clone();
    let mut client = walcast.connect();
    resuming["type"] = json!("subscribe");
    client.send(&resuming);
    assert_eq!(ended(&mut client, 1).0, ["s"]);
}

const SWAP: &str =
    "BEGIN; ALTER TABLE customer RENAME phone TO p; ALTER TABLE customer RENAME phone_new TO phone;
    ALTER TABLE customer RENAME p TO phone_new; COMMIT";

#[test]
fn columns_that_change_places_end_what_needs_them_though_no_row_says_so() {
    change_without_a_row("pgoutput");
}

fn change_without_a_row(plugin: &str) {
    let database = Database::new(SCHEMA);
    let walcast = with(plugin, &database).start();
    let mut client = by_phone(&walcast);
    database.sql(SWAP);
    assert_eq!(ended(&mut client, 3).0, ["all", "columns", "where"]);
    client.subscribe_live(json!({"id": "where", "table": "customer", "where": "phone LIKE '0%'"}));
    database.sql("INSERT INTO customer VALUES (1, '1', '01', 'x', 1), (2, '02', '2', 'x', 1)");
    assert_eq!(
        concerned(&mut client),
        ["by note", "by note", "note", "note", "where"]
    );
    database.sql("ALTER TABLE customer DROP COLUMN note; ALTER TABLE customer ADD COLUMN note text");
    assert_eq!(ended(&mut client, 3).0, ["by note", "note", "where"]);
}

#[test]
fn a_resume_from_before_columns_changed_places_is_refused_though_no_row_lies_between() {
    are_resumed_without_a_row("pgoutput");
}

fn are_resumed_without_a_row(plugin: &str) {
    let database = Database::new(SCHEMA);
    let setup = with(plugin, &database);
    let mut walcast = Some(setup.start());
    let query = json!({"id": "s", "table": "customer", "where": "phone LIKE '0%'", "columns": ["id"]});
    let other = json!({"id": "o", "table": "customer", "columns": ["n"]});
    let resume = |walcast: &Walcast, query: &Value, from: &Value| {
        let mut client = walcast.connect();
        let mut query = query.clone();
        query["type"] = json!("subscribe");
        query["from"] = from.clone();
        query["epoch"] = client.hello["epoch"].clone();
        client.send(&query);
        let answer = client.next();
        (client, answer)
    };
    let mut client = walcast.as_ref().unwrap().connect();
    client.subscribe_live(query.clone());
    database.sql("INSERT INTO customer VALUES (1, '01', '1', 'x', 1)");
    let before = client.tx()["position"].take();
    let (_, answer) = resume(walcast.as_ref().unwrap(), &query, &before);
    assert_eq!(answer["type"], "subscribed", "{answer}");
    database.sql(SWAP);
    assert_eq!(ended(&mut client, 1).0, ["s"]);
    for _ in 0..2 {
        let walcast = walcast.take().unwrap_or_else(|| setup.start());
        let (_, answer) = resume(&walcast, &query, &before);
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!("schema_changed")),
            "{answer}"
        );
        let (_, answer) = resume(&walcast, &other, &before);
        assert_eq!(answer["type"], "subscribed", "{answer}");
        // What began since goes on.
        let mut client = walcast.connect();
        client.subscribe_live(query.clone());
        database.sql("INSERT INTO customer SELECT max(id) + 1, '1', '01', 'x', 1 FROM customer");
        let after = client.tx()["position"].take();
        database.sql("INSERT INTO customer SELECT max(id) + 1, '1', '01', 'x', 1 FROM customer");
        client.change();
        let (mut resumed, answer) = resume(&walcast, &query, &after);
        assert_eq!(answer["type"], "subscribed", "{answer}");
        assert_eq!(resumed.change()["op"], "insert");
        drop(walcast);
    }
    // Changed while nobody looks, also back and forth.
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(query.clone());
    database.sql("INSERT INTO customer SELECT max(id) + 1, '1', '01', 'x', 1 FROM customer");
    let before = client.tx()["position"].take();
    drop(walcast);
    database.sql("ALTER TABLE customer DROP COLUMN phone; ALTER TABLE customer ADD COLUMN phone text");
    let walcast = setup.start();
    let (_, answer) = resume(&walcast, &query, &before);
    assert_eq!(answer["code"], "schema_changed", "{answer}");
    let (_, answer) = resume(&walcast, &other, &before);
    assert_eq!(answer["type"], "subscribed", "{answer}");
}

#[test]
fn a_column_that_rows_showed_since_ends_what_holds_it_when_another_has_its_name() {
    for (change, again) in [
        (
            "ALTER TABLE customer RENAME phone_new TO mobile",
            "ALTER TABLE customer DROP mobile; ALTER TABLE customer ADD mobile text",
        ),
        (
            "ALTER TABLE customer ADD extra int DEFAULT 7",
            "ALTER TABLE customer DROP extra; ALTER TABLE customer ADD extra int",
        ),
    ] {
        let database = Database::new(SCHEMA);
        let walcast = with("pgoutput", &database).start();
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "all", "table": "customer"}));
        client.subscribe_live(json!({"id": "note", "table": "customer", "columns": ["note"]}));
        database.sql(change);
        database.sql("INSERT INTO customer (id, note) VALUES (1, 'x')");
        assert_eq!(concerned(&mut client), ["all", "note"], "{change}");
        database.sql(again);
        let (ids, message) = ended(&mut client, 1);
        assert_eq!(ids, ["all"], "{message}");
        database.sql("INSERT INTO customer (id, note) VALUES (2, 'x')");
        assert_eq!(concerned(&mut client), ["note"], "{change}");
    }
}

#[test]
fn rows_from_before_and_after_a_column_was_added_again_are_told_apart_or_end_what_needs_it() {
    are_read_late("pgoutput");
}

fn are_read_late(plugin: &str) {
    let database = Database::new(SCHEMA);
    let setup = with(plugin, &database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "note", "table": "customer", "columns": ["note"]}));
    database.sql("INSERT INTO customer VALUES (1, '01', '1', 'x', 1)");
    let position = client.tx()["position"].take();
    drop(walcast);
    for id in 2..6 {
        database.sql(&format!(
            "INSERT INTO customer (id, phone, note) VALUES ({id}, '0{id}', 'x')"
        ));
        database.sql("ALTER TABLE customer DROP COLUMN phone; ALTER TABLE customer ADD COLUMN phone text");
    }
    database.sql("INSERT INTO customer (id, phone, note) VALUES (6, '06', 'x')");
    let walcast = setup.start();
    // Before it has all, a client that catches up would be live in between.
    walcast.comes_up_to(&database);
    let mut client = walcast.connect();
    let from = |mut subscribe: Value| {
        subscribe["from"] = position.clone();
        subscribe["epoch"] = client.hello["epoch"].clone();
        subscribe
    };
    let note = from(json!({"id": "note", "table": "customer", "columns": ["note"]}));
    let phone = json!({"id": "phone", "table": "customer", "columns": ["phone"], "from": "earliest"});
    client.subscribe(note);
    for id in 2..7 {
        assert_eq!(client.change()["row"], json!({"id": id, "note": "x"}));
    }
    client.expect("live");
    // It is of the last phone: rows of the others are not for it.
    client.subscribe(phone);
    assert_eq!(ended(&mut client, 1).0, ["phone"]);
}

#[test]
fn wal2json_tells_columns_that_change_places_too() {
    if has_wal2json() {
        change_places("wal2json");
        are_resumed("wal2json");
        change_without_a_row("wal2json");
        are_resumed_without_a_row("wal2json");
    }
}

#[test]
fn wal2json_tells_columns_that_come_and_go_too() {
    if has_wal2json() {
        are_added_again("wal2json");
        of_the_key("wal2json");
        come_and_go("wal2json");
        of_partitions("wal2json");
        are_read_late("wal2json");
    }
}

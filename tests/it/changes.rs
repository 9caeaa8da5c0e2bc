//! Every kind of change under every replica identity, as docs/protocol.md says it arrives.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually, eventually_equal};

fn serve(schema: &str) -> (Database, Walcast) {
    let database = Database::new(schema);
    let walcast = Setup::new(&database).start();
    (database, walcast)
}

/// A client that hears every change of `t`, without the subscription's id.
fn of_t(walcast: &Walcast, old: bool) -> (Client, Value) {
    let mut client = walcast.connect();
    let subscribed = client.subscribe_live(json!({"id": "s", "table": "t", "old": old}));
    (client, subscribed)
}

/// Runs each statement, a transaction of its own, and compares what arrives of it.
fn assert_changes(database: &Database, client: &mut Client, expected: &[(&str, Value)]) {
    for (sql, expected) in expected {
        database.sql(sql);
        let changes: Vec<Value> = client
            .changes()
            .into_iter()
            .map(|mut change| {
                change.as_object_mut().unwrap().remove("id");
                change.as_object_mut().unwrap().remove("seq");
                change
            })
            .collect();
        assert_eq!(json!(changes), *expected, "{sql}");
    }
}

#[test]
fn under_the_default_identity_the_old_key_comes_when_it_changed() {
    let (database, walcast) = serve(
        "CREATE TABLE t (b text, a int, v int, PRIMARY KEY (a, b)); CREATE PUBLICATION pub FOR TABLE t;",
    );
    let (mut client, subscribed) = of_t(&walcast, true);
    assert_eq!(subscribed["replica_identity"], "default");
    assert_eq!(subscribed["key"], json!(["a", "b"]));
    let row = |a: i32, b: &str, v: i32| json!({"b": b, "a": a, "v": v});
    assert_changes(
        &database,
        &mut client,
        &[
            (
                "INSERT INTO t VALUES ('x', 1, 1), ('y', 2, 2)",
                json!([
            {"op": "insert", "row": row(1, "x", 1)}, {"op": "insert", "row": row(2, "y", 2)}]),
            ),
            (
                "UPDATE t SET v = 3 WHERE a = 1",
                json!([{"op": "update", "row": row(1, "x", 3)}]),
            ),
            (
                "UPDATE t SET v = v WHERE a = 1",
                json!([{"op": "update", "row": row(1, "x", 3)}]),
            ),
            (
                "UPDATE t SET b = 'z' WHERE a = 1",
                json!([
            {"op": "update", "row": row(1, "z", 3), "key": {"b": "x", "a": 1}}]),
            ),
            (
                "DELETE FROM t WHERE a = 1",
                json!([{"op": "delete", "key": {"b": "z", "a": 1}}]),
            ),
            ("TRUNCATE t", json!([{"op": "truncate"}])),
        ],
    );
}

#[test]
fn under_full_identity_the_whole_old_row_is_known() {
    let (database, walcast) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let (mut client, subscribed) = of_t(&walcast, true);
    assert_eq!(
        (&subscribed["replica_identity"], &subscribed["key"]),
        (&json!("full"), &json!(["id"]))
    );
    let row = |id: i32, v: Value| json!({"id": id, "v": v});
    assert_changes(
        &database,
        &mut client,
        &[
            (
                "INSERT INTO t VALUES (1, NULL)",
                json!([{"op": "insert", "row": row(1, Value::Null)}]),
            ),
            (
                "UPDATE t SET v = 2",
                json!([
            {"op": "update", "row": row(1, json!(2)), "old": row(1, Value::Null)}]),
            ),
            (
                "UPDATE t SET id = 7",
                json!([
            {"op": "update", "row": row(7, json!(2)), "key": {"id": 1}, "old": row(1, json!(2))}]),
            ),
            (
                "DELETE FROM t",
                json!([{"op": "delete", "key": {"id": 7}, "old": row(7, json!(2))}]),
            ),
            ("TRUNCATE t", json!([{"op": "truncate"}])),
        ],
    );
}

#[test]
fn under_an_index_identity_the_key_is_that_of_the_index() {
    let (database, walcast) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, area int NOT NULL, v int, UNIQUE (code, area));
         ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_area_key; CREATE PUBLICATION pub FOR TABLE t;",
    );
    let (mut client, subscribed) = of_t(&walcast, true);
    assert_eq!(
        (&subscribed["replica_identity"], &subscribed["key"]),
        (&json!("index"), &json!(["code", "area"]))
    );
    let row = |id: i32, code: &str, v: i32| json!({"id": id, "code": code, "area": 5, "v": v});
    assert_changes(
        &database,
        &mut client,
        &[
            (
                "INSERT INTO t VALUES (1, 'a', 5, 1)",
                json!([{"op": "insert", "row": row(1, "a", 1)}]),
            ),
            (
                "UPDATE t SET v = 2",
                json!([{"op": "update", "row": row(1, "a", 2)}]),
            ),
            // The primary key is a column like any other here.
            (
                "UPDATE t SET id = 2",
                json!([{"op": "update", "row": row(2, "a", 2)}]),
            ),
            (
                "UPDATE t SET code = 'b'",
                json!([
            {"op": "update", "row": row(2, "b", 2), "key": {"code": "a", "area": 5}}]),
            ),
            (
                "DELETE FROM t",
                json!([{"op": "delete", "key": {"code": "b", "area": 5}}]),
            ),
            ("TRUNCATE t", json!([{"op": "truncate"}])),
        ],
    );
}

#[test]
fn under_no_identity_rows_come_and_tables_are_emptied() {
    let (database, walcast) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY NOTHING;
         CREATE PUBLICATION pub FOR TABLE t WITH (publish = 'insert, truncate');",
    );
    let (mut client, subscribed) = of_t(&walcast, true);
    assert_eq!(subscribed["replica_identity"], "nothing");
    assert_changes(
        &database,
        &mut client,
        &[
            (
                "INSERT INTO t VALUES (1, 1)",
                json!([{"op": "insert", "row": {"id": 1, "v": 1}}]),
            ),
            // Nothing of these is published, and without an identity nothing could be.
            (
                "UPDATE t SET v = 2; DELETE FROM t; INSERT INTO t VALUES (2, 2)",
                json!([
            {"op": "insert", "row": {"id": 2, "v": 2}}]),
            ),
            ("TRUNCATE t", json!([{"op": "truncate"}])),
        ],
    );
    database.sql("ALTER PUBLICATION pub SET (publish = 'insert, update, delete, truncate')");
    let refused = database
        .connect()
        .query("UPDATE t SET v = 3")
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("replica identity"),
        "Postgres takes it: {refused}"
    );
}

#[test]
fn a_table_without_a_key_says_which_row_by_its_old_values() {
    let (database, walcast) = serve(
        "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t;",
    );
    let (mut client, subscribed) = of_t(&walcast, false);
    assert_eq!(subscribed["key"], json!([]));
    assert_changes(
        &database,
        &mut client,
        &[
            (
                "INSERT INTO t VALUES (1, 'x')",
                json!([{"op": "insert", "row": {"a": 1, "b": "x"}}]),
            ),
            (
                "UPDATE t SET b = 'y'",
                json!([
            {"op": "update", "row": {"a": 1, "b": "y"}, "old": {"a": 1, "b": "x"}}]),
            ),
            (
                "DELETE FROM t",
                json!([{"op": "delete", "key": {}, "old": {"a": 1, "b": "y"}}]),
            ),
        ],
    );
}

/// A text of that many characters that is stored out of line however well it compresses.
fn toast(characters: u32) -> String {
    format!("(SELECT string_agg(md5(i::text), '') FROM generate_series(1, {characters} / 32) i)")
}

#[test]
fn unchanged_toast_is_filled_where_the_log_has_it_and_named_where_not() {
    let (database, walcast) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, n int, a text, b text); CREATE PUBLICATION pub FOR TABLE t;",
    );
    let (mut client, _) = of_t(&walcast, false);
    let mut matching = walcast.connect();
    matching.subscribe_live(json!({"id": "m", "table": "t", "where": "a = 'other'", "undecided": "send"}));
    database.sql(&format!(
        "INSERT INTO t VALUES (1, 1, {}, {})",
        toast(6400),
        toast(9600)
    ));
    let row = client.change()["row"].clone();
    assert_eq!(row["a"].as_str().map(str::len), Some(6400));
    database.sql("UPDATE t SET n = 2");
    // What decides was not logged: it may match, if it did before.
    let undecided = matching.change();
    assert_eq!(undecided["op"], "update");
    assert_eq!(
        (&undecided["undecided"], &undecided["as_before"]),
        (&json!(true), &json!(true))
    );
    let update = client.change();
    assert_eq!(update["row"], json!({"id": 1, "n": 2}));
    assert_eq!(update["unchanged"], json!(["a", "b"]));
    // A value that was set anew is logged, the other one is not.
    database.sql("UPDATE t SET a = 'short'");
    let update = client.change();
    assert_eq!(update["row"], json!({"id": 1, "n": 2, "a": "short"}));
    assert_eq!(update["unchanged"], json!(["b"]));
    database.sql("ALTER TABLE t REPLICA IDENTITY FULL");
    database.sql("UPDATE t SET n = 3");
    let update = client.change();
    assert_eq!(
        update["row"],
        json!({"id": 1, "n": 3, "a": "short", "b": row["b"]})
    );
    assert_eq!(update.get("unchanged"), None);
}

#[test]
fn an_unchanged_key_that_is_stored_out_of_line_is_filled_from_the_old_key() {
    let (database, walcast) = serve(
        "CREATE TABLE t (k text PRIMARY KEY, n int, long text); ALTER TABLE t ALTER long SET STORAGE EXTERNAL;
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let (mut client, _) = of_t(&walcast, false);
    let mut by_key = walcast.connect();
    by_key.subscribe_live(json!({"id": "k", "table": "t", "where": "k <> 'other'", "columns": ["n"]}));
    // It compresses to more than what stays in the row, and less than what an index takes.
    database.sql("INSERT INTO t VALUES (repeat('k', 200000), 1, repeat('x', 5000))");
    let key = client.change()["row"]["k"].clone();
    assert_eq!(database.value("SELECT pg_column_size(k) > 2000 FROM t"), "t");
    assert_eq!(by_key.change()["row"]["k"], key);
    database.sql("UPDATE t SET n = 2");
    let update = client.change();
    assert_eq!(update["row"], json!({"k": key, "n": 2}));
    assert_eq!(update["unchanged"], json!(["long"]));
    assert_eq!(update.get("key"), None, "the key did not change");
    let update = by_key.change();
    assert_eq!(
        (&update["op"], &update["row"]),
        (&json!("update"), &json!({"k": key, "n": 2}))
    );
    assert_eq!(update.get("unchanged"), None);
    database.sql("UPDATE t SET k = 'other'");
    assert_eq!(client.change()["key"], json!({"k": key}));
    let delete = by_key.change();
    assert_eq!(
        (&delete["op"], &delete["cause"], &delete["key"]),
        (&json!("delete"), &json!("update"), &json!({"k": key}))
    );
}

#[test]
fn one_truncate_reaches_every_table_that_it_empties() {
    let (database, walcast) = serve(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent);
         CREATE TABLE grandchild (id int PRIMARY KEY, c int REFERENCES child); CREATE TABLE other (id int PRIMARY KEY);
         CREATE TABLE unheard (id int PRIMARY KEY, p int REFERENCES parent);
         CREATE PUBLICATION pub FOR TABLE parent, child, grandchild, other;",
    );
    let mut client = walcast.connect();
    for table in ["parent", "child", "grandchild", "other"] {
        client.subscribe_live(json!({"id": table, "table": table, "where": "id > 1000"}));
    }
    database.sql("INSERT INTO parent VALUES (1); TRUNCATE parent, other CASCADE");
    let mut changes = client.changes();
    changes.sort_by_key(|change| change["id"].to_string());
    let ids: Vec<_> = changes
        .iter()
        .map(|change| (change["id"].as_str().unwrap(), &change["op"]))
        .collect();
    let truncated = json!("truncate");
    assert_eq!(
        ids,
        [
            ("child", &truncated),
            ("grandchild", &truncated),
            ("other", &truncated),
            ("parent", &truncated)
        ]
    );
    let mut seqs: Vec<_> = changes
        .iter()
        .map(|change| change["seq"].as_u64().unwrap())
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 3, 4], "each table's is a change of its own");
}

#[test]
fn a_row_beyond_the_bound_comes_as_oversize_with_its_key() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, owner int, doc text, small text); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let setup = Setup::new(&database).flag("--max-row-bytes", "100kB");
    let walcast = setup.start();
    let (mut client, _) = of_t(&walcast, true);
    let mut mine = walcast.connect();
    mine.subscribe_live(json!({"id": "m", "table": "t", "where": "owner = 1"}));
    // What a predicate reads of an oversize row may be gone: it is sent rather than missed.
    let mut undecided = walcast.connect();
    undecided.subscribe_live(json!({"id": "u", "table": "t", "where": "doc = 'never'"}));
    assert_changes(
        &database,
        &mut client,
        &[
            (
                "INSERT INTO t VALUES (1, 1, repeat('x', 200000), 's')",
                json!([
            {"op": "insert", "oversize": true, "key": {"id": 1}}]),
            ),
            (
                "UPDATE t SET owner = 2",
                json!([{"op": "update", "oversize": true, "key": {"id": 1}}]),
            ),
            (
                "UPDATE t SET id = 2",
                json!([
            {"op": "update", "oversize": true, "key": {"id": 1}, "new_key": {"id": 2}}]),
            ),
            // The new row is small, but the old one was not.
            (
                "UPDATE t SET doc = 'd'",
                json!([{"op": "update", "oversize": true, "key": {"id": 2}}]),
            ),
            (
                "UPDATE t SET small = 't'",
                json!([{"op": "update", "row": {"id": 2, "owner": 2, "doc": "d", "small": "t"},
            "old": {"id": 2, "owner": 2, "doc": "d", "small": "s"}}]),
            ),
            (
                "INSERT INTO t VALUES (3, 3, repeat('x', 200000), 's')",
                json!([
            {"op": "insert", "oversize": true, "key": {"id": 3}}]),
            ),
            (
                "DELETE FROM t WHERE id = 3",
                json!([{"op": "delete", "oversize": true, "key": {"id": 3}}]),
            ),
            ("TRUNCATE t", json!([{"op": "truncate"}])),
        ],
    );
    // Small columns still decide.
    let ops: Vec<Value> = (0..3).map(|_| mine.change()["op"].clone()).collect();
    assert_eq!(ops, [json!("insert"), json!("delete"), json!("truncate")]);
    let told = |change: Value| json!([change["op"], change["undecided"], change["as_before"]]);
    let changes: Vec<Value> = (0..7).map(|_| told(undecided.change())).collect();
    assert_eq!(
        json!(changes),
        json!([
            ["insert", true, null],
            ["update", true, null],
            ["update", true, null],
            ["update", true, null],
            ["insert", true, null],
            ["delete", null, null],
            ["truncate", null, null]
        ])
    );
    eventually_equal("it is counted", 6.0, || walcast.metric("oversize_changes_total"));
    // It is the same when it is read back.
    drop(walcast);
    let walcast = setup.start();
    let mut again = walcast.connect();
    again.subscribe(json!({"id": "s", "table": "t", "from": "earliest"}));
    assert_eq!(
        again.change(),
        json!({"id": "s", "seq": 0, "op": "insert", "oversize": true, "key": {"id": 1}})
    );
}

#[test]
fn a_row_beyond_the_bound_that_no_key_names_ends_whoever_keeps_rows() {
    let database = Database::new(
        "CREATE TABLE t (owner int, doc text); ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).flag("--max-row-bytes", "100kB").start();
    for change in [
        "INSERT INTO t VALUES (1, repeat('x', 200000))",
        "UPDATE t SET doc = 'd'",
        "UPDATE t SET doc = repeat('x', 200000)",
        "DELETE FROM t",
    ] {
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "all", "table": "t"}));
        client.subscribe_live(json!({"id": "other", "table": "t", "where": "owner = 2"}));
        client.subscribe_live(json!({"id": "inserts", "table": "t", "ops": ["insert"]}));
        database.sql(change);
        let error = client.error();
        assert_eq!(
            (&error["id"], &error["code"], &error["limit"]),
            (&json!("all"), &json!("limit_exceeded"), &json!("row_bytes")),
            "{change}: {error}"
        );
        // Subscriptions that are not concerned go on, and so do those that take no deletes.
        database.sql("INSERT INTO t VALUES (2, 'small')");
        let mut told = Vec::new();
        while !told.contains(&json!("other")) {
            told.extend(client.changes().iter().map(|change| change["id"].clone()));
        }
        assert!(
            told.contains(&json!("inserts")) && !told.contains(&json!("all")),
            "{told:?}"
        );
        database.sql("DELETE FROM t WHERE owner = 2");
        // The next client begins behind it.
        assert_eq!(client.change()["op"], "delete");
    }
}

#[test]
fn a_row_of_a_hundred_megabytes_arrives_whole_in_bounded_memory() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, doc text); ALTER TABLE t ALTER doc SET STORAGE EXTERNAL;
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let (mut client, _) = of_t(&walcast, false);
    let before = walcast.resident_bytes();
    database.sql("INSERT INTO t VALUES (1, repeat('x', 100000000)), (2, 'after')");
    let changes: Vec<Value> = (0..2)
        .flat_map(|_| {
            let tx = client.tx();
            tx["changes"].as_array().unwrap().clone()
        })
        .collect();
    let doc = changes[0]["row"]["doc"].as_str().unwrap();
    assert!(doc.len() == 100_000_000 && doc.bytes().all(|b| b == b'x'));
    assert_eq!(changes[1]["row"], json!({"id": 2, "doc": "after"}));
    // A few copies at once, and none of them for long.
    let peak = walcast.peak_resident_bytes() - before;
    assert!(peak < 500_000_000, "{peak} bytes more than before");
    eventually("the memory is given back", || {
        (walcast.resident_bytes() - before < 50_000_000).then_some(())
    });
}

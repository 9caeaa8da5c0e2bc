//! Features that only some versions of Postgres have. `scripts/versions.sh` runs all tests on each.

use serde_json::json;

use crate::support::{Database, Setup, left_out};

#[test]
fn generated_columns_come_where_the_publication_has_them() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, note text)",
    );
    if database.connect().server_version_num() < 180_000 {
        return left_out("published generated columns", "they came with version 18");
    }
    database.sql(
        "ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t WITH (publish_generated_columns = stored)",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let subscribed = client.subscribe_live(json!({"id": "t", "table": "t", "where": "twice > 10"}));
    assert_eq!(
        subscribed["columns"][1],
        json!({"name": "twice", "type": "integer"})
    );
    database.sql("INSERT INTO t (id, note) VALUES (3, 'a'), (6, 'b')");
    assert_eq!(client.change()["row"], json!({"id": 6, "twice": 12, "note": "b"}));
}

#[test]
fn generated_columns_are_left_out_otherwise() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, note text);
         CREATE PUBLICATION pub FOR TABLE t",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t (id, note) VALUES (3, 'a')");
    assert_eq!(client.change()["row"], json!({"id": 3, "note": "a"}));
}

#[test]
fn a_large_transaction_with_parts_rolled_back_comes_whole_though_the_server_spills_it() {
    // Little memory for decoding: the server puts the transaction on disk, and version 18 sends a stray STREAM ABORT
    // of a part that it found rolled back.
    let database = Database::on_its_own_server(
        "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE t",
        &["logical_decoding_work_mem = 64kB"],
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql(
        "BEGIN;
         INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 3000) g;
         SAVEPOINT a; INSERT INTO t SELECT g, 'ABORTED' FROM generate_series(3001, 9000) g; ROLLBACK TO a;
         INSERT INTO t SELECT g, 'kept' FROM generate_series(3001, 4000) g;
         COMMIT;
         BEGIN; INSERT INTO t SELECT g, 'ABORTED' FROM generate_series(10001, 16000) g; ROLLBACK;
         INSERT INTO t VALUES (5000, 'last')",
    );
    let mut next = 1;
    while next <= 4000 {
        for change in client.tx()["changes"].as_array().unwrap() {
            assert_eq!(
                (&change["row"]["id"], &change["seq"]),
                (&json!(next), &json!(next - 1))
            );
            next += 1;
        }
    }
    assert_eq!(client.change()["row"]["id"], 5000);
}

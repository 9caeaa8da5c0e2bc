//! Locks that walcast waits for: never while it holds others that an application may want.

use std::thread;

use serde_json::json;

use crate::support::{Database, Setup, eventually};

/// A table of two partitions with a row each, published by its root, on a server that looks for deadlocks soon only
/// for sessions that ask for it: the application's, in these tests.
fn parts() -> Database {
    Database::on_its_own_server(
        "CREATE TABLE root (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (100);
         CREATE TABLE high PARTITION OF root FOR VALUES FROM (100) TO (200);
         INSERT INTO root VALUES (1, 1), (101, 1);
         CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root = true)",
        &["deadlock_timeout = 1min"],
    )
}

/// The number of locks of a mode `granted` or waited for by walcast, on a table or an index.
fn locks(database: &Database, relation: &str, granted: &str) -> String {
    database.value(&format!(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
         WHERE a.application_name = 'walcast' AND l.relation = '{relation}'::regclass AND {granted}"
    ))
}

#[test]
fn a_snapshot_never_has_an_application_aborted_that_locks_a_partition_before_its_root() {
    let database = parts();
    let setup = Setup::new(&database);
    let walcast = setup.start();
    for (first, then) in [
        (
            "ALTER TABLE high ADD CHECK (n > 0)",
            "ALTER TABLE root ADD CHECK (n >= 0)",
        ),
        (
            "TRUNCATE high; INSERT INTO high VALUES (101, 2)",
            "LOCK TABLE root IN ACCESS EXCLUSIVE MODE",
        ),
        (
            "REINDEX INDEX high_pkey",
            "ALTER TABLE root ALTER n SET DEFAULT 7",
        ),
    ] {
        let mut application = database.connect();
        application.query("SET deadlock_timeout = '100ms'").unwrap();
        application.query(&format!("BEGIN; {first}")).unwrap();
        let mut client = walcast.connect();
        client.send(&json!({"type": "subscribe", "id": "s", "table": "root", "snapshot": true}));
        eventually("the snapshot waits", || {
            let waits = ["high", "high_pkey"].map(|name| locks(&database, name, "NOT granted"));
            waits.contains(&"1".to_owned()).then_some(())
        });
        application
            .query(then)
            .unwrap_or_else(|error| panic!("{then}: {error}"));
        application.query("COMMIT").unwrap();
        client.expect("subscribed");
        let rows = client.expect("snapshot");
        assert_eq!(rows["rows"].as_array().unwrap().len(), 2, "{rows}");
        client.expect("live");
    }
}

#[test]
fn a_snapshot_that_waits_for_a_lock_holds_none() {
    let database = parts();
    let walcast = Setup::new(&database).start();
    let mut application = database.connect();
    application
        .query("BEGIN; LOCK TABLE high IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let mut client = walcast.connect();
    client.send(&json!({"type": "subscribe", "id": "s", "table": "root", "snapshot": true}));
    eventually("the snapshot waits", || {
        (locks(&database, "high", "NOT granted") == "1").then_some(())
    });
    // Somebody else's migration, of all but the partition that is held.
    let mut migrates = database.connect();
    migrates.query("SET lock_timeout = '5s'").unwrap();
    migrates
        .query("ALTER TABLE ONLY root ALTER n SET DEFAULT 7; ALTER TABLE low ADD CHECK (n > 0)")
        .unwrap();
    let held = thread::spawn(move || application.query("COMMIT").map(drop));
    client.expect("subscribed");
    assert_eq!(client.expect("snapshot")["rows"].as_array().unwrap().len(), 2);
    held.join().unwrap().unwrap();
}

#[test]
fn a_snapshot_of_a_table_that_stays_locked_is_refused_with_the_reason_and_can_be_had_later() {
    let database = parts();
    let walcast = Setup::new(&database).start();
    let mut application = database.connect();
    application
        .query("BEGIN; LOCK TABLE low IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    let mut client = walcast.connect();
    let subscribe = json!({"type": "subscribe", "id": "s", "table": "root", "snapshot": true});
    client.send(&subscribe);
    let refusal = client.error();
    assert_eq!(refusal["code"], "internal", "{refusal}");
    assert!(
        refusal["message"].as_str().unwrap().contains("locked for long"),
        "{refusal}"
    );
    walcast.logs("a snapshot was given up");
    application.query("ROLLBACK").unwrap();
    client.send(&subscribe);
    client.expect("subscribed");
    assert_eq!(client.expect("snapshot")["rows"].as_array().unwrap().len(), 2);
}

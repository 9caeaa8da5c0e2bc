//! Transactions that are decoded long before anybody may see them: synchronous replication waits for a standby.

use std::thread;

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually, has_wal2json};

/// The settings of a server where commits that ask for it wait for a standby that never comes.
const SETTINGS: [&str; 2] = [
    "synchronous_standby_names = 'nobody'",
    "synchronous_commit = local",
];

/// Commits, and gives up waiting for the standby once walcast has said that it waits too.
fn commit_unseen(database: &Database, walcast: &Walcast, sql: &str) {
    thread::scope(|scope| {
        scope.spawn(|| database.sql(&format!("SET synchronous_commit = on; {sql}")));
        let reason = eventually("walcast waits too", || walcast.ready().err());
        assert!(reason.contains("synchronous_standby_names"), "{reason}");
        let cancel =
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        eventually("it is cancelled", || {
            (database.value(cancel) != "0").then_some(())
        });
    });
    eventually("walcast goes on", || walcast.ready().ok());
}

/// Subscribes once the table is known: it may take a second.
fn subscribe(walcast: &Walcast, table: &str) -> (Client, Value) {
    let mut client = walcast.connect();
    let subscribed = eventually("it can be subscribed to", || {
        client.send(&json!({"type": "subscribe", "id": "s", "table": table, "from": "earliest"}));
        Some(client.next()).filter(|answer| answer["type"] == "subscribed")
    });
    (client, subscribed)
}

#[test]
fn the_catalogs_are_asked_once_they_show_what_the_transaction_did() {
    let database = Database::on_its_own_server(
        "CREATE TABLE old (a int NOT NULL, b int PRIMARY KEY); ALTER TABLE old REPLICA IDENTITY FULL;
         CREATE TYPE pair AS (x int); CREATE TABLE pairs (id int PRIMARY KEY, p pair);
         CREATE PUBLICATION pub FOR ALL TABLES",
        &SETTINGS,
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    database.sql("INSERT INTO old VALUES (1, 1); INSERT INTO pairs VALUES (1, row(1))");
    commit_unseen(
        &database,
        &walcast,
        "BEGIN;
         CREATE TYPE c AS (p int, q text); CREATE TYPE e AS ENUM ('a');
         CREATE TABLE made (id int PRIMARY KEY, c c, cs c[], e e); ALTER TABLE made REPLICA IDENTITY FULL;
         INSERT INTO made VALUES (1, row(1, 'x'), array[row(2, 'y')::c], 'a');
         ALTER TABLE old DROP CONSTRAINT old_pkey; ALTER TABLE old ADD PRIMARY KEY (a);
         INSERT INTO old VALUES (2, 2);
         ALTER TYPE pair ADD ATTRIBUTE y int; INSERT INTO pairs VALUES (2, row(3, 4));
         COMMIT",
    );
    let (mut client, subscribed) = subscribe(&walcast, "made");
    assert_eq!(subscribed["key"], json!(["id"]));
    let row = json!({"id": 1, "c": {"p": 1, "q": "x"}, "cs": [{"p": 2, "q": "y"}], "e": "a"});
    assert_eq!(client.change()["row"], row);
    let (mut client, _) = subscribe(&walcast, "pairs");
    assert_eq!(client.changes()[0]["row"], json!({"id": 1, "p": {"x": 1}}));
    assert_eq!(
        client.changes()[0]["row"],
        json!({"id": 2, "p": {"x": 3, "y": 4}})
    );
    // It had another key before.
    let (mut client, subscribed) = subscribe(&walcast, "old");
    assert_eq!(subscribed["key"], json!(["a"]));
    assert_eq!(client.error()["code"], "schema_changed");
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "o", "table": "old"}));
    database.sql("DELETE FROM old WHERE a = 2");
    assert_eq!(client.change()["key"], json!({"a": 2}));
}

#[test]
fn a_new_table_is_not_left_out_with_wal2json_because_it_cannot_be_seen_yet() {
    if !has_wal2json() {
        return;
    }
    let database = Database::on_its_own_server(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR ALL TABLES",
        &SETTINGS,
    );
    let setup = Setup::new(&database).flag("--plugin", "wal2json");
    let walcast = setup.start();
    commit_unseen(
        &database,
        &walcast,
        "BEGIN; CREATE TABLE made (id int PRIMARY KEY); INSERT INTO made VALUES (1); INSERT INTO t VALUES (2); COMMIT",
    );
    let (mut client, _) = subscribe(&walcast, "made");
    assert_eq!(client.change()["row"], json!({"id": 1}));
}

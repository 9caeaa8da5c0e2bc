//! Servers whose commits wait for walcast: `synchronous_standby_names` names it, or is `*`.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually, has_wal2json};

/// Commits that ask for it wait for walcast; those of the tests themselves do not.
const SETTINGS: [&str; 2] = ["synchronous_standby_names = '*'", "synchronous_commit = local"];

/// A commit that waits for walcast has this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs SQL whose commit waits for walcast, on a thread of its own.
fn begin(database: &Database, sql: &str) -> Receiver<()> {
    let (done, ended) = mpsc::channel();
    let url = database.url().to_owned();
    let sql = format!("SET synchronous_commit = on; {sql}");
    thread::spawn(move || {
        let mut connection = crate::support::connect(&url).unwrap();
        connection.set_read_timeout(None);
        connection.query(&sql).unwrap();
        let _ = done.send(());
    });
    ended
}

fn assert_ends(commit: &Receiver<()>, what: &str) {
    assert_eq!(commit.recv_timeout(PATIENCE), Ok(()), "it waits for ever: {what}");
}

/// Runs SQL whose commit waits for walcast, which must not take long.
fn commit(database: &Database, sql: &str) {
    assert_ends(&begin(database, sql), sql);
}

/// True if a commit waits for a standby.
fn waits(database: &Database) -> Option<()> {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    (database.value(waiting) != "0").then_some(())
}

/// All rows of a table, from its beginning on.
fn rows(walcast: &Walcast, table: &str, count: usize) -> Vec<Value> {
    let mut client = walcast.connect();
    eventually("it can be subscribed to", || {
        client.send(&json!({"type": "subscribe", "id": "s", "table": table, "from": "earliest"}));
        Some(client.next()).filter(|answer| answer["type"] == "subscribed")
    });
    let mut rows = Vec::new();
    while rows.len() < count {
        rows.extend(client.changes().iter().map(|change| change["row"].clone()));
    }
    rows
}

#[test]
fn commits_do_not_wait_for_what_waits_for_them_whatever_they_created_or_altered() {
    let database = Database::on_its_own_server(
        "CREATE TABLE known (id int PRIMARY KEY, note text);
         CREATE TYPE pair AS (x int); CREATE TABLE pairs (id int PRIMARY KEY, p pair);
         CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE moods (id int PRIMARY KEY, m mood);
         CREATE TABLE old (a int NOT NULL, b int PRIMARY KEY); ALTER TABLE old REPLICA IDENTITY FULL;
         CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE PUBLICATION pub FOR ALL TABLES",
        &SETTINGS,
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    walcast.logs("walcast is among the synchronous standbys");
    assert_eq!(walcast.metric("synchronous"), 1.0);
    assert!(
        walcast
            .get("/health/ready")
            .1
            .contains("synchronous_standby_names = '*'"),
        "{}",
        walcast.get("/health/ready").1
    );
    for sql in [
        "INSERT INTO known VALUES (1, 'not described yet')",
        "BEGIN; ALTER TABLE known ADD COLUMN more int DEFAULT 5; INSERT INTO known VALUES (2, 'altered'); COMMIT",
        "INSERT INTO pairs VALUES (1, row(1))",
        // Together with the row the server itself would wait, see below.
        "ALTER TYPE pair ADD ATTRIBUTE y text",
        "INSERT INTO pairs VALUES (2, row(2, 'y'))",
        "INSERT INTO moods VALUES (1, 'sad')",
        "ALTER TYPE mood ADD VALUE 'glad'",
        "INSERT INTO moods VALUES (2, 'glad')",
        "BEGIN; ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; INSERT INTO moods VALUES (3, 'blue'); COMMIT",
        "CREATE TYPE c AS (p int, q text)",
        "BEGIN; CREATE TYPE e AS ENUM ('a'); CREATE DOMAIN d AS text COLLATE \"C\" CHECK (value <> '');
         CREATE TABLE made (id int PRIMARY KEY, c c, cs c[], e e, d d); ALTER TABLE made REPLICA IDENTITY FULL;
         INSERT INTO made VALUES (1, row(1, 'x'), array[row(2, 'y')::c], 'a', 'b'); COMMIT",
        "BEGIN; INSERT INTO old VALUES (1, 1); ALTER TABLE old DROP CONSTRAINT old_pkey; ALTER TABLE old ADD PRIMARY KEY (a);
         INSERT INTO old VALUES (2, 2); COMMIT",
        "BEGIN; CREATE TABLE part PARTITION OF root FOR VALUES FROM (0) TO (9); INSERT INTO root VALUES (1); COMMIT",
        "BEGIN; TRUNCATE moods; DROP TABLE known; CREATE TABLE known (id text PRIMARY KEY); INSERT INTO known VALUES ('anew'); COMMIT",
        "ALTER TABLE pairs RENAME TO doubles",
        "INSERT INTO doubles VALUES (3, row(3, 'z'))",
    ] {
        commit(&database, sql);
    }
    // Everything is as the database has it.
    for (table, count) in [("made", 1), ("part", 1)] {
        assert_eq!(
            rows(&walcast, table, count),
            database.rows(&format!("SELECT * FROM {table}"))
        );
    }
    let mut client = walcast.connect();
    // Commits do not wait until walcast has read them: what comes now may be one of them.
    let from = database.written().to_string();
    for (id, table) in [("d", "doubles"), ("m", "moods"), ("k", "known"), ("o", "old")] {
        client.subscribe_live(json!({"id": id, "table": table, "from": from}));
    }
    commit(
        &database,
        "UPDATE doubles SET p.y = 'w' WHERE id = 2; INSERT INTO moods VALUES (4, 'glad');
         INSERT INTO known VALUES ('last'); DELETE FROM old WHERE a = 2",
    );
    let changes = client.changes();
    assert_eq!(changes[0]["row"], json!({"id": 2, "p": {"x": 2, "y": "w"}}));
    assert_eq!(changes[1]["row"], json!({"id": 4, "m": "glad"}));
    assert_eq!(changes[2]["row"], json!({"id": "last"}));
    assert_eq!(changes[3]["key"], json!({"a": 2}));
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert!(walcast.stop().success());
}

#[test]
fn commits_go_on_under_load_and_when_walcast_is_killed_again_and_again() {
    let database = Database::on_its_own_server(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR ALL TABLES",
        &SETTINGS,
    );
    let setup = Setup::new(&database);
    let mut walcast = setup.start();
    let mut made = 0;
    for round in 0..4 {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let sql: Vec<String> = (0..20)
                    .map(|n| {
                        let id = made + writer * 20 + n;
                        match n % 5 {
                            0 => format!("BEGIN; CREATE TABLE t{id} (id int PRIMARY KEY); INSERT INTO t{id} VALUES ({id}); INSERT INTO t VALUES ({id}); COMMIT; "),
                            _ => format!("INSERT INTO t VALUES ({id}); "),
                        }
                    })
                    .collect();
                let statements: Vec<String> = sql;
                let (done, ended) = mpsc::channel();
                let url = database.url().to_owned();
                thread::spawn(move || {
                    let mut connection = crate::support::connect(&url).unwrap();
                    connection.set_read_timeout(None);
                    connection.query("SET synchronous_commit = on").unwrap();
                    for sql in statements {
                        connection.query(&sql).unwrap();
                    }
                    let _ = done.send(());
                });
                ended
            })
            .collect();
        made += 60;
        if round % 2 == 0 {
            eventually("some have come", || {
                (walcast.metric("transactions_total") > 10.0).then_some(())
            });
            walcast.kill();
            walcast = setup.start();
        }
        for writer in &writers {
            assert_ends(writer, "a writer");
        }
    }
    let mut ids: Vec<i64> = rows(&walcast, "t", made)
        .iter()
        .map(|row| row["id"].as_i64().unwrap())
        .collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..made as i64));
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    eventually("all of it is confirmed", || {
        (database.confirmed(&setup.slot) >= database.written()).then_some(())
    });
}

#[test]
fn what_is_confirmed_but_cannot_be_read_yet_outlives_walcast_and_comes_once() {
    // Two are needed, and walcast is only one.
    let database = Database::on_its_own_server(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR ALL TABLES",
        &[
            "synchronous_standby_names = 'FIRST 2 (*)'",
            "synchronous_commit = local",
        ],
    );
    let setup = Setup::new(&database);
    let mut walcast = setup.start();
    database.sql("INSERT INTO t VALUES (0)");
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    let unseen = begin(
        &database,
        "BEGIN; CREATE TABLE made (id int PRIMARY KEY, t text); INSERT INTO made VALUES (1, repeat('x', 100)); INSERT INTO t VALUES (1); COMMIT",
    );
    eventually("it waits", || waits(&database));
    database.sql("INSERT INTO t VALUES (2)");
    let written = database.written();
    eventually("all of it is confirmed", || {
        (database.confirmed(&setup.slot) >= written).then_some(())
    });
    let reason = eventually("it is said", || walcast.ready().err());
    assert!(reason.contains("synchronous_standby_names"), "{reason}");
    drop(client);
    for _ in 0..2 {
        walcast.kill();
        walcast = setup.start_unready();
        eventually("it waits again", || {
            walcast
                .ready()
                .err()
                .filter(|reason| reason.contains("waits for"))
        });
    }
    assert_eq!(
        unseen.recv_timeout(Duration::ZERO),
        Err(RecvTimeoutError::Timeout)
    );
    database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    assert_ends(&unseen, "it was cancelled");
    eventually("walcast goes on", || walcast.ready().ok());
    assert_eq!(rows(&walcast, "made", 1), database.rows("SELECT * FROM made"));
    assert_eq!(
        rows(&walcast, "t", 3),
        [json!({"id": 0}), json!({"id": 1}), json!({"id": 2})]
    );
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn old_rows_that_are_read_after_a_restart_are_read_by_the_identities_that_were_described_before() {
    let database = Database::on_its_own_server(
        "CREATE TABLE p (region int, id int, v text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
         CREATE TABLE whole PARTITION OF p FOR VALUES IN (1);
         CREATE TABLE keyed PARTITION OF p FOR VALUES IN (2);
         ALTER TABLE whole REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR ALL TABLES WITH (publish_via_partition_root = true)",
        &[
            "synchronous_standby_names = 'FIRST 2 (*)'",
            "synchronous_commit = local",
        ],
    );
    let setup = Setup::new(&database);
    let mut walcast = setup.start();
    // The server describes this partition now, and not again.
    database.sql("INSERT INTO p VALUES (2, 1, 'x'), (2, 2, 'x')");
    walcast.comes_up_to(&database);
    let unseen = begin(
        &database,
        "CREATE TABLE made (id int PRIMARY KEY); INSERT INTO made VALUES (1)",
    );
    eventually("it waits", || waits(&database));
    database.sql("INSERT INTO p VALUES (1, 1, 'x')");
    database.sql("DELETE FROM p WHERE region = 2 AND id = 1; DELETE FROM p WHERE region = 1");
    let written = database.written();
    eventually("all of it is confirmed", || {
        (database.confirmed(&setup.slot) >= written).then_some(())
    });
    walcast.kill();
    walcast = setup.start_unready();
    eventually("it waits again", || {
        let reason = walcast.ready().err();
        reason.filter(|reason| reason.contains("waits for"))
    });
    database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    assert_ends(&unseen, "it was cancelled");
    eventually("walcast goes on", || walcast.ready().ok());
    walcast.comes_up_to(&database);
    let mut client = walcast.connect();
    client.send(
        &json!({"type": "subscribe", "id": "p", "table": "p", "where": "v = 'x'", "undecided": "send",
        "columns": ["region"], "from": "earliest"}),
    );
    assert_eq!(client.next()["type"], "subscribed");
    let mut changes = Vec::new();
    while changes.len() < 5 {
        changes.extend(client.changes());
    }
    let told = changes.iter().map(|change| {
        let row = change.get("key").unwrap_or(&change["row"]);
        format!("{} {} {}", change["op"], row["region"], row["id"])
    });
    let expected = [
        "insert 2 1",
        "insert 2 2",
        "insert 1 1",
        "delete 2 1",
        "delete 1 1",
    ];
    assert_eq!(
        told.collect::<Vec<_>>().join(", ").replace('"', ""),
        expected.join(", ")
    );
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn a_commit_that_waited_before_walcast_came_is_let_go() {
    let database = Database::on_its_own_server("CREATE TABLE t (id int PRIMARY KEY)", &SETTINGS);
    let setup = Setup::new(&database).switch("--create-publication");
    // The publication is made by a commit, too.
    setup.start().kill();
    let waiting = begin(
        &database,
        "BEGIN; ALTER TABLE t ADD COLUMN more int; INSERT INTO t VALUES (1, 2); COMMIT",
    );
    eventually("it waits", || waits(&database));
    let walcast = setup.start();
    assert_ends(&waiting, "it was there before");
    assert_eq!(rows(&walcast, "t", 1), [json!({"id": 1, "more": 2})]);
}

#[test]
fn a_setting_that_names_walcast_while_it_runs_stops_nobody() {
    let database = Database::on_its_own_server(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR ALL TABLES",
        &["synchronous_commit = local"],
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    assert_eq!(walcast.metric("synchronous"), 0.0);
    database.sql("INSERT INTO t VALUES (1)");
    database.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (\"*\")'");
    database.sql("SELECT pg_reload_conf()");
    eventually("it holds", || {
        (!database.value("SHOW synchronous_standby_names").is_empty()).then_some(())
    });
    eventually("commits wait", || {
        let state = database.value("SELECT sync_state FROM pg_stat_replication");
        matches!(state.as_str(), "sync" | "quorum").then_some(())
    });
    commit(&database, "INSERT INTO t VALUES (2)");
    commit(
        &database,
        "BEGIN; CREATE TABLE made (id int PRIMARY KEY); INSERT INTO made VALUES (1); COMMIT",
    );
    assert_eq!(rows(&walcast, "made", 1), [json!({"id": 1})]);
    eventually("it is known", || {
        (walcast.metric("synchronous") == 1.0).then_some(())
    });
}

#[test]
fn with_wal2json_it_is_the_same() {
    if !has_wal2json() {
        return;
    }
    let database = Database::on_its_own_server(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR ALL TABLES",
        &SETTINGS,
    );
    let setup = Setup::new(&database).flag("--plugin", "wal2json");
    let walcast = setup.start();
    commit(&database, "INSERT INTO t VALUES (1)");
    commit(
        &database,
        "BEGIN; CREATE TABLE made (id int PRIMARY KEY); INSERT INTO made VALUES (1); INSERT INTO t VALUES (2); COMMIT",
    );
    assert_eq!(rows(&walcast, "made", 1), [json!({"id": 1})]);
    assert_eq!(rows(&walcast, "t", 2), [json!({"id": 1}), json!({"id": 2})]);
    let _still_there: Client = walcast.connect();
}

#[test]
fn where_the_server_cannot_decode_a_commit_that_waits_it_is_said_who_holds_it_up() {
    let database = Database::on_its_own_server(
        "CREATE TYPE pair AS (x int); CREATE TABLE pairs (id int PRIMARY KEY, p pair);
         CREATE PUBLICATION pub FOR ALL TABLES",
        &SETTINGS,
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    // To print the row, the server's own process takes the lock that the commit holds until walcast has confirmed it.
    let stuck = begin(
        &database,
        "BEGIN; ALTER TYPE pair ADD ATTRIBUTE y text; INSERT INTO pairs VALUES (1, row(1, 'y')); COMMIT",
    );
    walcast.logs("SELECT pg_cancel_backend(");
    assert_eq!(stuck.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    assert_ends(&stuck, "it was cancelled");
    assert_eq!(
        rows(&walcast, "pairs", 1),
        [json!({"id": 1, "p": {"x": 1, "y": "y"}})]
    );
}

#[test]
fn a_slot_that_cannot_be_made_before_a_commit_is_through_names_it() {
    let database = Database::on_its_own_server(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR ALL TABLES",
        &SETTINGS,
    );
    let waiting = begin(&database, "INSERT INTO t VALUES (1)");
    eventually("it waits", || waits(&database));
    let setup = Setup::new(&database);
    let walcast = setup.start_unready();
    let reason = eventually("it is said", || {
        walcast
            .ready()
            .err()
            .filter(|reason| reason.contains("pg_cancel_backend("))
    });
    assert!(
        reason.contains("its commit waiting for a synchronous standby"),
        "{reason}"
    );
    database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    assert_ends(&waiting, "it was cancelled");
    eventually("walcast goes on", || walcast.ready().ok());
    commit(&database, "INSERT INTO t VALUES (2)");
}

//! Schemas change while rows are written: each row is read by the schema that it was written under.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, eventually};

/// Everything that changes a table's shape but not its key, each step a transaction, some of which write as well.
const STEPS: &[&str] = &[
    "INSERT INTO t VALUES (1, 10, 'one')",
    "ALTER TABLE t ADD COLUMN more int DEFAULT 7",
    "UPDATE t SET note = 'uno'",
    // All in one transaction, which writes in between.
    "BEGIN; INSERT INTO t VALUES (2, 20, 'two'); ALTER TABLE t RENAME note TO remark;
     INSERT INTO t VALUES (3, 30, 'three'); ALTER TABLE t ALTER owner TYPE text USING 'u' || owner;
     UPDATE t SET owner = 'v' WHERE id = 3; ALTER TABLE t DROP COLUMN more; INSERT INTO t VALUES (4, 'w', 'four');
     COMMIT",
    "ALTER TABLE t ADD COLUMN at timestamptz; ALTER TABLE t DROP COLUMN remark",
    "INSERT INTO t VALUES (5, 'x', '2026-01-02 03:04:05+00')",
    "UPDATE t SET id = 50 WHERE id = 5",
    "ALTER TABLE t REPLICA IDENTITY DEFAULT",
    "UPDATE t SET owner = 'y' WHERE id = 50",
    "DELETE FROM t WHERE id = 50",
    "BEGIN; ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET owner = 'a' WHERE id = 1;
     ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET owner = 'b' WHERE id = 1; COMMIT",
    "ALTER TABLE t ALTER id TYPE bigint; ALTER TABLE t RENAME owner TO who",
    "INSERT INTO t VALUES (9007199254740993, 'z', NULL)",
    "CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TABLE t ADD COLUMN mood mood",
    "UPDATE t SET mood = 'ok' WHERE who = 'z'",
    "ALTER TABLE t DROP COLUMN mood; DROP TYPE mood",
    "DELETE FROM t WHERE who = 'z'",
    "TRUNCATE t",
];

/// The changes of each transaction up to the truncate, and where each stands.
fn transcript(client: &mut Client) -> Vec<Value> {
    let mut transactions = Vec::new();
    loop {
        let mut tx = client.tx();
        tx.as_object_mut().unwrap().remove("id");
        let last = tx["changes"][0]["op"] == "truncate";
        transactions.push(tx);
        if last {
            return transactions;
        }
    }
}

#[test]
fn rows_are_read_by_the_schema_they_were_written_under_however_far_the_catalog_is_ahead() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, owner int, note text); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let along = Setup::new(&database);
    let behind = Setup::new(&database).on_slot(&format!("{}_behind", database.name));
    let walcast = along.start();
    drop(behind.start());
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t", "old": true}));
    for step in STEPS {
        database.sql(step);
        // Who is told of a change of the columns only after the next one cannot always be told which they are.
        walcast.comes_up_to(&database);
    }
    let live = transcript(&mut client);
    let changes: Vec<Value> = live
        .iter()
        .flat_map(|tx| tx["changes"].as_array().unwrap())
        .map(|change| {
            let mut change = change.clone();
            change.as_object_mut().unwrap().remove("id");
            change.as_object_mut().unwrap().remove("seq");
            change
        })
        .collect();
    let at = "2026-01-02T03:04:05+00:00";
    let expected = json!([
        {"op": "insert", "row": {"id": 1, "owner": 10, "note": "one"}},
        {"op": "update", "row": {"id": 1, "owner": 10, "note": "uno", "more": 7},
            "old": {"id": 1, "owner": 10, "note": "one", "more": 7}},
        {"op": "insert", "row": {"id": 2, "owner": 20, "note": "two", "more": 7}},
        {"op": "insert", "row": {"id": 3, "owner": 30, "remark": "three", "more": 7}},
        {"op": "update", "row": {"id": 3, "owner": "v", "remark": "three", "more": 7},
            "old": {"id": 3, "owner": "u30", "remark": "three", "more": 7}},
        {"op": "insert", "row": {"id": 4, "owner": "w", "remark": "four"}},
        {"op": "insert", "row": {"id": 5, "owner": "x", "at": at}},
        {"op": "update", "row": {"id": 50, "owner": "x", "at": at}, "key": {"id": 5},
            "old": {"id": 5, "owner": "x", "at": at}},
        {"op": "update", "row": {"id": 50, "owner": "y", "at": at}},
        {"op": "delete", "key": {"id": 50}},
        {"op": "update", "row": {"id": 1, "owner": "a", "at": null}, "old": {"id": 1, "owner": "u10", "at": null}},
        {"op": "update", "row": {"id": 1, "owner": "b", "at": null}},
        {"op": "insert", "row": {"id": 9007199254740993_u64, "who": "z", "at": null}},
        {"op": "update", "row": {"id": 9007199254740993_u64, "who": "z", "at": null, "mood": "ok"}},
        {"op": "delete", "key": {"id": 9007199254740993_u64}},
        {"op": "truncate"},
    ]);
    for (change, expected) in changes.iter().zip(expected.as_array().unwrap()) {
        assert_eq!(change, expected);
    }
    assert_eq!(changes.len(), expected.as_array().unwrap().len());
    // One that read all of it afterwards, from a server that knows only the last schema, has the same in its journal;
    // and either has it still when it comes back.
    let earliest = json!({"id": "s", "table": "t", "old": true, "from": "earliest"});
    drop(walcast);
    for setup in [&behind, &behind, &along] {
        let walcast = setup.start();
        // Before that, a subscription may be told of a version on the way, of whose columns not all can be told later.
        walcast.comes_up_to(&database);
        let mut client = walcast.connect();
        client.subscribe(earliest.clone());
        let read = transcript(&mut client);
        for (read, live) in read.iter().zip(&live) {
            assert_eq!(read, live);
        }
    }
}

/// Subscribes to what the database has since a moment, and walcast soon.
fn subscribe_once_known(client: &mut Client, subscribe: &Value) {
    eventually("it is known", || {
        client.send(subscribe);
        (client.next()["type"] == "subscribed").then_some(())
    });
    client.expect("live");
}

#[test]
fn a_change_of_the_key_ends_what_goes_by_the_old_one() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, v int); CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).start();
    for (ddl, write, message) in [
        (
            "ALTER TABLE t RENAME id TO ident",
            "INSERT INTO t VALUES (1, 'a', 1)",
            "is (ident), not (id)",
        ),
        (
            "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key",
            "DELETE FROM t",
            "is (code), not (ident)",
        ),
        (
            "ALTER TABLE t REPLICA IDENTITY DEFAULT, DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (code, ident)",
            "INSERT INTO t VALUES (2, 'b', 2)",
            "is (code, ident), not (code)",
        ),
        (
            "ALTER TABLE t DROP CONSTRAINT t_pkey",
            "INSERT INTO t VALUES (3, 'c', 3)",
            "is gone, and was (code, ident)",
        ),
    ] {
        let mut client = walcast.connect();
        // From where the last change left it, whatever of it the stream has shown.
        client.subscribe_live(json!({"id": "s", "table": "t"}));
        database.sql(ddl);
        database.sql(write);
        let error = client.error();
        assert_eq!(error["code"], "schema_changed", "{error}");
        // The database may have been looked at between the two.
        let said = error["message"].as_str().unwrap();
        assert!(
            said.contains(message) || said.contains("no column \"id\" any more"),
            "{error}"
        );
    }
}

#[test]
fn a_weaker_identity_ends_only_what_it_does_not_decide_and_what_must_know() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).start();
    let mut strict = walcast.connect();
    strict.subscribe_live(json!({"id": "s", "table": "t", "where": "v = 1", "strict": true}));
    let mut decided = walcast.connect();
    decided.subscribe_live(json!({"id": "d", "table": "t", "where": "id < 9", "strict": true}));
    let mut lenient = walcast.connect();
    lenient.subscribe_live(json!({"id": "l", "table": "t", "where": "v = 1", "undecided": "withhold"}));
    let mut exact = walcast.connect();
    exact.subscribe_live(json!({"id": "e", "table": "t", "where": "v = 1", "undecided": "send"}));
    database.sql("ALTER TABLE t REPLICA IDENTITY DEFAULT; INSERT INTO t VALUES (1, 1)");
    let error = strict.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("s"), &json!("replica_identity"))
    );
    assert_eq!(decided.change()["op"], "insert");
    assert_eq!(lenient.change()["op"], "insert");
    assert_eq!(exact.change()["op"], "insert");
    database.sql("UPDATE t SET v = 2");
    let left = exact.change();
    assert_eq!(
        left,
        json!({"id": "e", "seq": 0, "op": "delete", "cause": "update", "key": {"id": 1}})
    );
    // Stronger again, it can be had again.
    strict.subscribe_refused(json!({"id": "s", "table": "t", "where": "v = 1", "strict": true}));
    // At once, though no row says so.
    database.sql("ALTER TABLE t REPLICA IDENTITY FULL");
    strict.subscribe_live(json!({"id": "s", "table": "t", "where": "v = 1", "strict": true}));
    database.sql("INSERT INTO t VALUES (2, 1)");
    assert_eq!(strict.change()["op"], "insert");
    assert_eq!(lenient.change()["op"], "insert");
    database.sql("DELETE FROM t WHERE id = 2");
    assert_eq!(strict.change()["key"], json!({"id": 2}));
}

#[test]
fn a_subscription_to_a_new_column_can_be_made_before_the_stream_has_shown_it() {
    let database =
        Database::new("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE PUBLICATION pub FOR TABLE t;");
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1, 1)");
    client.change();
    database.sql("ALTER TABLE t ADD COLUMN more int");
    subscribe_once_known(
        &mut client,
        &json!({"type": "subscribe", "id": "b", "table": "t", "where": "more = 2", "undecided": "send"}),
    );
    database.sql("INSERT INTO t VALUES (2, 2, 2)");
    assert_eq!(client.changes().len(), 2);
    // Resumed from before there was such a column, it ends there, and says why.
    let mut client = walcast.connect();
    client.subscribe(
        json!({"id": "b", "table": "t", "where": "more = 2", "undecided": "send", "from": "earliest"}),
    );
    let error = client.error();
    assert_eq!(error["code"], "schema_changed");
    assert!(error["message"].as_str().unwrap().contains("more"), "{error}");
}

#[test]
fn a_table_that_was_made_anew_is_another_one() {
    let database =
        Database::new("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE PUBLICATION pub FOR ALL TABLES;");
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1, 1)");
    client.change();
    let held = client.hello["epoch"].clone();
    let before = walcast.connect().hello["position"].clone();
    database.sql("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v int)");
    database.sql("INSERT INTO t VALUES (7, 7)");
    let error = client.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("s"), &json!("schema_changed")),
        "{error}"
    );
    client.comes_up_to(database.written());
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    database.sql("UPDATE t SET v = 8");
    assert_eq!(client.change()["row"], json!({"id": 7, "v": 8}));
    drop(walcast);
    // What a client held of the other table is not this one's: it cannot go on from there, also after a restart.
    let walcast = setup.start();
    let mut client = walcast.connect();
    let resume = json!({"id": "s", "table": "t", "from": before, "epoch": held});
    let error = client.subscribe_refused(resume);
    assert_eq!(error["code"], "resume_expired", "{error}");
    let subscribed = client.subscribe(json!({"id": "s", "table": "t", "from": error["earliest"]}));
    assert_eq!(subscribed["position"], error["earliest"]);
    assert_eq!(client.change()["row"], json!({"id": 7, "v": 7}));
    assert_eq!(client.change()["row"], json!({"id": 7, "v": 8}));
    client.subscribe(json!({"id": "e", "table": "t", "from": "earliest"}));
}

#[test]
fn a_table_under_another_name_is_followed_by_that_name() {
    let database = Database::new(
        "CREATE SCHEMA other; CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY);
         CREATE PUBLICATION pub FOR TABLE t, u;",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    client.subscribe_live(json!({"id": "u", "table": "u"}));
    database.sql("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)");
    client.changes();
    // The new name can be had; the old one ends with the first row under the new one.
    database.sql("ALTER TABLE t RENAME TO \"T.2\"");
    subscribe_once_known(
        &mut client,
        &json!({"type": "subscribe", "id": "t2", "table": "\"T.2\""}),
    );
    database.sql("INSERT INTO \"T.2\" VALUES (2)");
    let error = client.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("t"), &json!("schema_changed")),
        "{error}"
    );
    assert!(
        error["message"].as_str().unwrap().contains("public.\"T.2\""),
        "{error}"
    );
    assert_eq!(client.change()["id"], "t2");
    database.sql("ALTER TABLE \"T.2\" SET SCHEMA other; INSERT INTO other.\"T.2\" VALUES (3)");
    assert_eq!(client.error()["id"], "t2");
    assert_eq!(
        client.subscribe_refused(json!({"id": "t", "table": "t"}))["code"],
        "unknown_table"
    );
    // Two that exchange their names end both: neither name is of the table that it was.
    subscribe_once_known(
        &mut client,
        &json!({"type": "subscribe", "id": "o", "table": "other.\"T.2\""}),
    );
    database.sql(
        "BEGIN; ALTER TABLE u RENAME TO v; ALTER TABLE other.\"T.2\" SET SCHEMA public; ALTER TABLE \"T.2\" RENAME TO u;
         INSERT INTO u VALUES (4); INSERT INTO v VALUES (4); COMMIT",
    );
    let mut ended = [client.error(), client.error()].map(|error| error["id"].as_str().unwrap().to_owned());
    ended.sort();
    assert_eq!(ended, ["o", "u"]);
}

#[test]
fn what_is_dropped_or_taken_out_of_the_publication_ends_though_no_row_says_so() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE v (id int PRIMARY KEY);
         CREATE PUBLICATION pub FOR TABLE t, u, v;",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    for table in ["t", "u", "v"] {
        client.subscribe_live(json!({"id": table, "table": table}));
    }
    database.sql("INSERT INTO t VALUES (1)");
    database.sql("ALTER PUBLICATION pub DROP TABLE u; DROP TABLE t");
    assert_eq!(client.change()["id"], "t");
    let mut ended = [client.error(), client.error()].map(|error| {
        assert_eq!(error["code"], "schema_changed", "{error}");
        error["id"].as_str().unwrap().to_owned()
    });
    ended.sort();
    assert_eq!(ended, ["t", "u"]);
    database.sql("INSERT INTO v VALUES (1)");
    assert_eq!(client.change()["id"], "v");
}

#[test]
fn a_table_whose_schema_or_root_was_renamed_is_followed_by_its_new_name() {
    let database = Database::new(
        "CREATE SCHEMA s; CREATE TABLE s.x (id int PRIMARY KEY);
         CREATE TABLE root (id int, k int, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
         CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1);
         CREATE PUBLICATION pub FOR ALL TABLES WITH (publish_via_partition_root)",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "x", "table": "s.x"}));
    client.subscribe_live(json!({"id": "root", "table": "root"}));
    database.sql("INSERT INTO s.x VALUES (1); INSERT INTO root VALUES (1, 1)");
    assert_eq!(client.changes().len(), 2);
    // Of neither the stream says a word.
    database.sql("ALTER SCHEMA s RENAME TO s2; ALTER TABLE root RENAME TO root2");
    for (id, table, row) in [
        ("x2", "s2.x", "s2.x VALUES (2)"),
        ("r2", "root2", "root2 VALUES (2, 1)"),
    ] {
        let mut client = walcast.connect();
        eventually("it can be subscribed to", || {
            client.send(&json!({"type": "subscribe", "id": id, "table": table}));
            (client.next()["type"] == "subscribed").then_some(())
        });
        assert_eq!(client.expect("live")["id"], id);
        database.sql(&format!("INSERT INTO {row}"));
        assert_eq!(client.change()["row"]["id"], 2);
    }
    // Those to the old names end.
    let mut ended =
        [client.error(), client.error()].map(|error| (error["id"].clone(), error["code"].clone()));
    ended.sort_by_key(|(id, _)| id.to_string());
    let code = json!("schema_changed");
    assert_eq!(ended, [(json!("root"), code.clone()), (json!("x"), code)]);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
}

#[test]
fn a_row_of_a_table_that_was_dropped_meanwhile_ends_what_goes_by_its_key_and_says_so() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR ALL TABLES",
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    // The row is read by a stream that never knew the table.
    walcast.pause(true);
    database.sql("INSERT INTO t VALUES (1, 1)");
    let sender = format!(
        "(SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{}')",
        setup.slot
    );
    database.sql(&format!("SELECT pg_terminate_backend({sender})"));
    eventually("the stream has ended", || {
        (database.value(&format!("SELECT {sender} IS NULL")) == "t").then_some(())
    });
    database.sql("DROP TABLE t");
    walcast.pause(false);
    let ended = client.error();
    assert_eq!(ended["code"], "schema_changed", "{ended}");
    assert_eq!(
        ended["message"],
        "public.t was dropped: resubscribe with a new snapshot"
    );
}

//! The protocol's page, sentence by sentence: what clients are told.

use serde_json::{Value, json};

use crate::support::{At, Client, Database, Setup, Walcast, eventually};

/// A table with everything the log tells of a row.
pub(crate) const FULL: &str = "
    CREATE TABLE t (id int PRIMARY KEY, owner int, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE t;
";

pub(crate) fn serve(schema: &str) -> (Database, Walcast) {
    let database = Database::new(schema);
    let walcast = Setup::new(&database).start();
    (database, walcast)
}

pub(crate) fn live(walcast: &Walcast, subscribe: Value) -> Client {
    let mut client = walcast.connect();
    client.subscribe_live(subscribe);
    client
}

#[test]
fn hello_says_who_serves_which_history() {
    let (database, walcast) = serve(FULL);
    let hello = walcast.connect().hello;
    assert_eq!(hello["protocol"], 1);
    assert_eq!(hello["database"], *database.name);
    assert!(
        hello["server"].as_str().unwrap().starts_with("walcast/"),
        "{hello}"
    );
    assert!(!hello["epoch"].as_str().unwrap().is_empty());
    assert!(At::read(&hello["earliest"]) <= At::read(&hello["position"]));
    assert_eq!(walcast.connect().hello["epoch"], hello["epoch"]);
}

#[test]
fn hello_says_what_else_can_be_asked_and_how_much_of_it() {
    let database = Database::new(FULL);
    let walcast = Setup::new(&database).flag("--max-subscriptions", "7").start();
    let hello = walcast.connect().hello;
    let limits = json!({
        "subscriptions": 7, "subject_subscriptions": 2000, "subject_snapshots": 100, "message_bytes": 65536,
        "predicate_text_bytes": 16384,
    });
    assert_eq!(hello["limits"], limits);
    // The page describes each word, and each limit.
    let page = include_str!("../../docs/protocol.md");
    let named = limits.as_object().unwrap().keys().cloned();
    let words = hello["features"].as_array().unwrap().iter();
    for name in named.chain(words.map(|word| word.as_str().unwrap().to_owned())) {
        assert!(page.contains(&format!("\n| `{name}` |")), "{name}");
    }
    let mut client = walcast.connect();
    let longest = format!("owner = 1{}", " ".repeat(16384 - 9));
    client.subscribe_live(json!({"id": "a", "table": "t", "where": longest}));
    let error = client.subscribe_refused(json!({"id": "b", "table": "t", "where": longest + " "}));
    assert_eq!(error["limit"], "predicate_size", "{error}");
}

#[test]
fn the_subprotocol_is_echoed_only_if_it_was_offered() {
    let (_database, walcast) = serve(FULL);
    let chosen =
        |offer: &[(&'static str, &str)]| walcast.try_connect("/v1/stream", offer).unwrap().subprotocol;
    assert_eq!(chosen(&[]), None);
    let offer = [("sec-websocket-protocol", "other, walcast.v1")];
    assert_eq!(chosen(&offer).as_deref(), Some("walcast.v1"));
}

#[test]
fn subscribed_describes_the_subscription() {
    let schema = r#"
        CREATE SCHEMA "Other schema";
        CREATE TABLE plain (a int, b text, c numeric(8,2)[], d timestamptz, PRIMARY KEY (b, a));
        CREATE TABLE "Other schema"."Odd ""table""" ("Key" uuid PRIMARY KEY, v varchar(10));
        ALTER TABLE "Other schema"."Odd ""table""" REPLICA IDENTITY FULL;
        CREATE TABLE by_index (id int PRIMARY KEY, code text NOT NULL UNIQUE);
        ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_code_key;
        CREATE PUBLICATION pub FOR ALL TABLES;
    "#;
    let (_database, walcast) = serve(schema);
    let mut client = walcast.connect();
    let subscribed = client.subscribe(json!({"id": "a", "table": "plain"}));
    assert_eq!(subscribed["key"], json!(["b", "a"]));
    assert_eq!(subscribed["replica_identity"], "default");
    assert_eq!(subscribed["warnings"], json!([]));
    let columns = json!([
        {"name": "a", "type": "integer"},
        {"name": "b", "type": "text"},
        {"name": "c", "type": "numeric(8,2)[]"},
        {"name": "d", "type": "timestamp with time zone"},
    ]);
    assert_eq!(subscribed["columns"], columns);
    // Key columns are always included.
    let subscribed = client.subscribe(json!({"id": "b", "table": "public.plain", "columns": ["d"]}));
    let names: Vec<&Value> = subscribed["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["a", "b", "d"]);
    let odd = r#""Other schema"."Odd ""table""""#;
    let subscribed = client.subscribe(json!({"id": "c", "table": odd}));
    assert_eq!(subscribed["key"], json!(["Key"]));
    assert_eq!(subscribed["replica_identity"], "full");
    assert_eq!(subscribed["columns"][1]["type"], "character varying(10)");
    let subscribed = client.subscribe(json!({"id": "d", "table": "by_index"}));
    assert_eq!(subscribed["replica_identity"], "index");
    assert_eq!(subscribed["key"], json!(["code"]));
}

#[test]
fn a_transaction_is_one_message_with_every_change_that_matches() {
    let (database, walcast) = serve(FULL);
    let mut client = live(
        &walcast,
        json!({"id": "mine", "table": "t", "where": "owner = 1"}),
    );
    client.subscribe_live(json!({"id": "all", "table": "t", "columns": ["id"]}));
    let before = database.written();
    let xid = database.value(
        "BEGIN; INSERT INTO t VALUES (1, 1, 'one'), (2, 2, NULL); DELETE FROM t WHERE id = 2;
         SELECT txid_current(); COMMIT",
    );
    let tx = client.expect("tx");
    let position = At::read(&tx["position"]);
    assert!(position > At::after(before) && position <= At::after(database.written()));
    assert!(position.is_whole());
    if !xid.is_empty() {
        assert_eq!(tx["xid"].to_string(), xid);
    }
    let time = tx["ts"].as_str().unwrap();
    assert!(
        time.len() == "2026-01-01T00:00:00.000000Z".len() && time.ends_with('Z'),
        "{time}"
    );
    assert_eq!(tx.get("more"), None);
    assert_eq!(tx.get("id"), None);
    let row = json!({"id": 1, "owner": 1, "note": "one"});
    let changes = tx["changes"].as_array().unwrap();
    let of = |id: &str| -> Vec<Value> { changes.iter().filter(|c| c["id"] == id).cloned().collect() };
    assert_eq!(
        of("mine"),
        [json!({"id": "mine", "seq": 0, "op": "insert", "row": row})]
    );
    let expected = [
        json!({"id": "all", "seq": 0, "op": "insert", "row": {"id": 1}}),
        json!({"id": "all", "seq": 1, "op": "insert", "row": {"id": 2}}),
        json!({"id": "all", "seq": 2, "op": "delete", "key": {"id": 2}}),
    ];
    assert_eq!(of("all"), expected);
}

#[test]
fn membership_decides_the_op_and_says_when_an_update_caused_it() {
    let (database, walcast) = serve(FULL);
    let mut client = live(&walcast, json!({"id": "s", "table": "t", "where": "owner = 1"}));
    database.sql("INSERT INTO t VALUES (1, 2, 'x')");
    database.sql("UPDATE t SET note = 'y'");
    database.sql("UPDATE t SET owner = 1");
    let row = |note| json!({"id": 1, "owner": 1, "note": note});
    let entered = json!({"id": "s", "seq": 0, "op": "insert", "cause": "update", "row": row("y")});
    assert_eq!(client.change(), entered);
    database.sql("UPDATE t SET note = 'z'");
    assert_eq!(
        client.change(),
        json!({"id": "s", "seq": 0, "op": "update", "row": row("z")})
    );
    database.sql("UPDATE t SET owner = NULL");
    assert_eq!(
        client.change(),
        json!({"id": "s", "seq": 0, "op": "delete", "cause": "update", "key": {"id": 1}})
    );
    database.sql("UPDATE t SET owner = 1; DELETE FROM t");
    assert_eq!(
        client.changes(),
        [
            json!({"id": "s", "seq": 0, "op": "insert", "cause": "update", "row": row("z")}),
            json!({"id": "s", "seq": 1, "op": "delete", "key": {"id": 1}}),
        ]
    );
}

#[test]
fn a_key_change_carries_the_old_key_and_old_rows_come_if_asked_for() {
    let (database, walcast) = serve(FULL);
    let mut plain = live(&walcast, json!({"id": "s", "table": "t"}));
    let mut with_old = live(
        &walcast,
        json!({"id": "s", "table": "t", "old": true, "columns": ["note"]}),
    );
    database.sql("INSERT INTO t VALUES (1, 1, 'a')");
    database.sql("UPDATE t SET id = 2, note = 'b'");
    database.sql("DELETE FROM t");
    assert_eq!(plain.change()["op"], "insert");
    let update = json!({"id": "s", "seq": 0, "op": "update", "row": {"id": 2, "owner": 1, "note": "b"}, "key": {"id": 1}});
    assert_eq!(plain.change(), update);
    assert_eq!(
        plain.change(),
        json!({"id": "s", "seq": 0, "op": "delete", "key": {"id": 2}})
    );
    assert_eq!(with_old.change().get("old"), None);
    let update = with_old.change();
    assert_eq!(update["key"], json!({"id": 1}));
    assert_eq!(update["old"], json!({"id": 1, "note": "a"}));
    assert_eq!(update["row"], json!({"id": 2, "note": "b"}));
    let delete = with_old.change();
    assert_eq!(
        (&delete["key"], &delete["old"]),
        (&json!({"id": 2}), &json!({"id": 2, "note": "b"}))
    );
}

#[test]
fn only_the_wanted_operations_come() {
    let (database, walcast) = serve(FULL);
    let mut client = live(
        &walcast,
        json!({"id": "d", "table": "t", "ops": ["delete", "truncate"]}),
    );
    client.subscribe_live(json!({"id": "u", "table": "t", "ops": ["update"], "where": "owner > 1"}));
    database.sql("INSERT INTO t VALUES (1, 1, 'a')");
    database.sql("UPDATE t SET owner = 2");
    database.sql("UPDATE t SET owner = 3");
    assert_eq!(client.change()["op"], "update");
    database.sql("DELETE FROM t");
    assert_eq!(
        client.change(),
        json!({"id": "d", "seq": 0, "op": "delete", "key": {"id": 1}})
    );
    database.sql("TRUNCATE t");
    assert_eq!(client.change(), json!({"id": "d", "seq": 0, "op": "truncate"}));
}

#[test]
fn a_truncate_of_two_tables_reaches_every_subscription_of_each() {
    let schema = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY);
                  CREATE PUBLICATION pub FOR TABLE a, b";
    let (database, walcast) = serve(schema);
    let mut client = live(&walcast, json!({"id": "a", "table": "a", "where": "id > 1000"}));
    client.subscribe_live(json!({"id": "a2", "table": "a"}));
    client.subscribe_live(json!({"id": "b", "table": "b"}));
    database.sql("BEGIN; INSERT INTO b VALUES (1); TRUNCATE a, b; COMMIT");
    let mut changes = client.changes();
    assert_eq!(
        changes.remove(0),
        json!({"id": "b", "seq": 0, "op": "insert", "row": {"id": 1}})
    );
    let seq_of = |id: &str| {
        changes.iter().find(|c| c["id"] == id).unwrap()["seq"]
            .as_u64()
            .unwrap()
    };
    assert!(
        changes.iter().all(|c| c["op"] == "truncate") && changes.len() == 3,
        "{changes:?}"
    );
    assert_eq!(seq_of("a"), seq_of("a2"));
    assert_eq!(seq_of("a") + seq_of("b"), 3, "each its own: {changes:?}");
}

#[test]
fn a_table_without_a_key_sends_whole_old_rows() {
    let schema = "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL;
                  CREATE PUBLICATION pub FOR TABLE t";
    let (database, walcast) = serve(schema);
    let mut client = walcast.connect();
    let subscribed = client.subscribe_live(json!({"id": "s", "table": "t"}));
    assert_eq!(subscribed["key"], json!([]));
    database.sql("INSERT INTO t VALUES (1, 'x')");
    database.sql("UPDATE t SET b = 'y'");
    database.sql("DELETE FROM t");
    assert_eq!(client.change()["row"], json!({"a": 1, "b": "x"}));
    let update = client.change();
    assert_eq!(update["old"], json!({"a": 1, "b": "x"}));
    assert_eq!(update["row"], json!({"a": 1, "b": "y"}));
    assert_eq!(update.get("key"), None, "an empty key cannot change");
    let delete = client.change();
    assert_eq!(delete["old"], json!({"a": 1, "b": "y"}));
}

#[test]
fn without_the_old_row_what_is_undecided_can_be_withheld_and_nothing_is_missed() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, owner int); CREATE PUBLICATION pub FOR TABLE t";
    let (database, walcast) = serve(schema);
    let mut client = walcast.connect();
    let withhold = json!({"id": "s", "table": "t", "where": "owner = 1", "undecided": "withhold"});
    let subscribed = client.subscribe_live(withhold);
    let warning = subscribed["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("ALTER TABLE") && warning.contains("REPLICA IDENTITY FULL"),
        "{warning}"
    );
    // A predicate on the key alone needs no old row.
    let keyed = client.subscribe_live(json!({"id": "k", "table": "t", "where": "id < 5"}));
    assert_eq!(keyed["warnings"], json!([]));
    let refused = client.subscribe_refused(json!({"id": "x", "table": "t", "where": "owner = 1"}));
    assert_eq!(refused["code"], "replica_identity");
    client.unsubscribe("k");
    database.sql("INSERT INTO t VALUES (1, 2)");
    database.sql("UPDATE t SET owner = 1");
    assert_eq!(
        client.change(),
        json!({"id": "s", "seq": 0, "op": "update", "row": {"id": 1, "owner": 1}})
    );
    // It leaves: that is not in the log. The delete might be one of ours, and comes.
    database.sql("UPDATE t SET owner = 2");
    database.sql("DELETE FROM t");
    assert_eq!(
        client.change(),
        json!({"id": "s", "seq": 0, "op": "delete", "key": {"id": 1}})
    );
}

#[test]
fn columns_that_the_log_leaves_out_are_named() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, n int, long text); CREATE PUBLICATION pub FOR TABLE t;
                  ALTER TABLE t ALTER long SET STORAGE EXTERNAL";
    let (database, walcast) = serve(schema);
    let mut client = live(&walcast, json!({"id": "s", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1, 1, repeat('x', 5000))");
    assert_eq!(client.change()["row"]["long"].as_str().map(str::len), Some(5000));
    database.sql("UPDATE t SET n = 2");
    assert_eq!(
        client.change(),
        json!({"id": "s", "seq": 0, "op": "update", "row": {"id": 1, "n": 2}, "unchanged": ["long"]})
    );
    // With the old row in the log the value is known.
    database.sql("ALTER TABLE t REPLICA IDENTITY FULL");
    database.sql("UPDATE t SET n = 3");
    let update = client.change();
    assert_eq!(update["row"]["long"].as_str().map(str::len), Some(5000));
    assert_eq!(update.get("unchanged"), None);
}

#[test]
fn rows_are_as_row_to_json_prints_them_and_numbers_can_be_texts() {
    let schema = "CREATE TABLE t (id bigint PRIMARY KEY, p numeric, f float8, s int, j jsonb, l text[], b bytea, at timestamptz);
                  CREATE PUBLICATION pub FOR TABLE t";
    let (database, walcast) = serve(schema);
    let mut plain = live(&walcast, json!({"id": "s", "table": "t"}));
    let mut texts = walcast.try_connect("/v1/stream?numbers=string", &[]).unwrap();
    texts.subscribe_live(json!({"id": "s", "table": "t"}));
    database.sql(
        r#"INSERT INTO t VALUES (9007199254740993, 1.50, 'NaN', 7, '{"a": [1, null]}', ARRAY['x', NULL, 'y"z'], '\x00ff',
                                 '2026-01-02 03:04:05.678+00')"#,
    );
    let expected = database.rows("SELECT * FROM t").remove(0);
    assert_eq!(plain.change()["row"], expected);
    let row = texts.change()["row"].clone();
    assert_eq!(
        (&row["id"], &row["p"]),
        (&json!("9007199254740993"), &json!("1.50"))
    );
    assert_eq!(
        (&row["s"], &row["f"], &row["l"]),
        (&json!(7), &expected["f"], &expected["l"])
    );
}

#[test]
fn parameters_stand_for_values() {
    let (database, walcast) = serve(FULL);
    let mut client = live(
        &walcast,
        json!({"id": "s", "table": "t", "where": "owner = $2 AND note = $1", "params": ["it's", 5]}),
    );
    database.sql("INSERT INTO t VALUES (1, 5, 'x'), (2, 5, 'it''s'), (3, 4, 'it''s')");
    assert_eq!(client.change()["row"]["id"], 2);
}

#[test]
fn after_unsubscribed_nothing_more_of_it_comes_and_its_id_is_free() {
    let (database, walcast) = serve(FULL);
    let mut client = live(&walcast, json!({"id": "s", "table": "t"}));
    client.subscribe_live(json!({"id": "other", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1, 1, NULL)");
    assert_eq!(client.changes().len(), 2);
    client.unsubscribe("s");
    database.sql("INSERT INTO t VALUES (2, 1, NULL)");
    assert_eq!(client.change()["id"], "other");
    client.subscribe_live(json!({"id": "s", "table": "t", "where": "id > 2"}));
    database.sql("INSERT INTO t VALUES (3, 1, NULL)");
    assert_eq!(client.changes().len(), 2);
}

#[test]
fn ping_is_answered_with_the_same_ref_as_it_was_written() {
    let (_database, walcast) = serve(FULL);
    let mut client = walcast.connect();
    for reference in [
        json!({"a": [1.5, null, "x"]}),
        json!("text"),
        json!(7),
        json!(null),
    ] {
        client.send(&json!({"type": "ping", "ref": reference}));
        assert_eq!(client.next(), json!({"type": "pong", "ref": reference}));
    }
}

#[test]
fn quiet_clients_hear_how_far_the_history_has_come() {
    let (database, walcast) = serve(FULL);
    let mut client = live(&walcast, json!({"id": "s", "table": "t", "where": "owner = 1"}));
    for id in 1..4 {
        database.sql(&format!("INSERT INTO t VALUES ({id}, 2, NULL)"));
        let written = At::after(database.written());
        let mut last = None;
        eventually("progress", || {
            let until = std::time::Instant::now() + std::time::Duration::from_secs(1);
            let crate::support::Incoming::Message(message) = client.next_by(until) else {
                return None;
            };
            assert_eq!(message["type"], "progress", "{message}");
            let position = At::read(&message["position"]);
            assert!(Some(position) > last);
            last = Some(position);
            (position >= written).then_some(())
        });
    }
}

#[test]
fn a_commit_time_that_no_calendar_holds_is_the_last_one_that_can_be_written() {
    let (database, walcast) = serve(FULL);
    let mut client = live(&walcast, json!({"id": "s", "table": "t"}));
    // The time of a commit that is replicated is the origin's: it can be anything.
    let origin = format!("origin_{}", database.name);
    let mut connection = database.connect();
    connection
        .query(&format!(
            "SELECT pg_replication_origin_create('{origin}'), pg_replication_origin_session_setup('{origin}')"
        ))
        .unwrap();
    for (time, expected) in [
        ("12000-01-01", "9999-12-31T23:59:59.999999Z"),
        ("4000-01-01 BC", "1970-01-01T00:00:00.000000Z"),
    ] {
        connection
            .query(&format!(
                "BEGIN; SELECT pg_replication_origin_xact_setup('0/1', '{time} UTC');
                 INSERT INTO t (id) SELECT count(*) + 1 FROM t; COMMIT"
            ))
            .unwrap();
        assert_eq!(client.tx()["ts"], expected);
    }
}

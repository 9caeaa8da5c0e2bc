//! Logical messages (`pg_logical_emit_message`), which can be subscribed to by their prefix.

use serde_json::json;

use crate::support::{Database, Setup};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY);
    CREATE PUBLICATION pub FOR TABLE t;
";

fn emit(transactional: bool, prefix: &str, content: &str) -> String {
    format!("SELECT pg_logical_emit_message({transactional}, '{prefix}', {content})")
}

#[test]
fn messages_of_a_prefix_come_in_order_with_the_rows_around_them() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).flag("--messages", "news,odd \"one\"");
    let mut walcast = setup.start();
    let mut client = walcast.connect();
    let subscribed = client.subscribe(json!({"id": "n", "table": null, "messages": "news"}));
    assert_eq!(subscribed["key"], json!([]));
    assert_eq!(
        subscribed["columns"],
        json!([{"name": "content", "type": "text"}])
    );
    assert_eq!(client.expect("live")["id"], "n");
    client.subscribe_live(json!({"id": "o", "messages": "odd \"one\""}));
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql(&format!(
        "BEGIN; INSERT INTO t VALUES (1); {}; {}; INSERT INTO t VALUES (2); COMMIT",
        emit(true, "news", "'first \"é\" \t'"),
        emit(true, "other", "'not this'"),
    ));
    let first = client.tx();
    assert_eq!(
        first["changes"],
        json!([
            {"id": "t", "seq": 0, "op": "insert", "row": {"id": 1}},
            {"id": "n", "seq": 1, "op": "message", "content": "first \"é\" \t"},
            {"id": "t", "seq": 2, "op": "insert", "row": {"id": 2}},
        ])
    );
    // Of no transaction: it comes although this is rolled back.
    database.sql(&format!(
        "BEGIN; INSERT INTO t VALUES (3); {}; {}; ROLLBACK",
        emit(false, "odd \"one\"", r"'\xff00'::bytea"),
        emit(true, "news", "'never'"),
    ));
    let second = client.tx();
    assert_eq!(
        second["changes"],
        json!([{"id": "o", "seq": 0, "op": "message", "content": "\\xff00", "encoding": "hex"}])
    );
    database.sql(&emit(false, "news", "''"));
    let third = client.tx();
    assert_eq!(
        third["changes"],
        json!([{"id": "n", "seq": 0, "op": "message", "content": ""}])
    );
    // Once each, whatever happens, and from the journal as well.
    walcast.kill();
    walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "n", "messages": "news", "from": first["position"]}));
    let again = client.tx();
    assert_eq!(
        (&again["position"], &again["changes"]),
        (&third["position"], &third["changes"])
    );
    assert_eq!(client.expect("live")["id"], "n");
    database.sql(&emit(false, "news", "'last'"));
    assert_eq!(client.tx()["changes"][0]["content"], "last");
}

#[test]
fn a_message_beyond_the_bound_says_so_whether_it_is_part_of_a_transaction_or_not() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).flag("--messages", "news");
    let walcast = setup.flag("--max-row-bytes", "4KiB").start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "n", "messages": "news"}));
    for transactional in [true, false] {
        database.sql(&emit(transactional, "news", "repeat('x', 5000)"));
        assert_eq!(
            client.tx()["changes"],
            json!([{"id": "n", "seq": 0, "op": "message", "content": null, "oversize": true}])
        );
    }
    database.sql(&emit(true, "news", "repeat('x', 4000)"));
    assert_eq!(client.tx()["changes"][0]["content"], "x".repeat(4000));
    assert_eq!(walcast.metric("oversize_changes_total"), 2.0);
}

#[test]
fn in_a_database_of_another_encoding_a_message_comes_as_the_bytes_that_it_is() {
    let database = Database::encoded("LATIN1", SCHEMA);
    let walcast = Setup::new(&database).flag("--messages", "news").start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "n", "messages": "news"}));
    // The second would be the UTF-8 of another letter.
    for (text, content) in [("Zo\u{eb}", "\\x5a6feb"), ("\u{c3}\u{a9}", "\\xc3a9")] {
        database.sql(&emit(true, "news", &format!("'{text}'")));
        let change = client.change();
        assert_eq!(
            (&change["content"], &change["encoding"]),
            (&json!(content), &json!("hex"))
        );
    }
    database.sql(&emit(true, "news", "'plain'"));
    assert_eq!(client.change()["content"], "plain");
}

#[test]
fn messages_have_nothing_that_rows_have_and_only_the_named_prefixes_are_read() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).flag("--messages", "news").start();
    let mut client = walcast.connect();
    let mut refused = |subscribe| client.subscribe_refused(subscribe)["code"].clone();
    assert_eq!(refused(json!({"id": "a", "messages": "other"})), "unknown_table");
    assert_eq!(
        refused(json!({"id": "a", "messages": "news", "table": "t"})),
        "bad_request"
    );
    assert_eq!(
        refused(json!({"id": "a", "messages": "news", "where": "true"})),
        "bad_request"
    );
    assert_eq!(
        refused(json!({"id": "a", "messages": "news", "snapshot": true})),
        "bad_request"
    );
    assert_eq!(refused(json!({"id": "a", "table": "\"\".news"})), "bad_request");
    assert_eq!(refused(json!({"id": "a", "table": null})), "bad_request");
}

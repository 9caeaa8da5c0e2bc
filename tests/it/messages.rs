//! Logical messages (`pg_logical_emit_message`), which can be subscribed to by their prefix.

use serde_json::json;

use crate::support::{Client, Database, Setup, eventually, eventually_equal};

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
fn messages_of_one_content_come_alone_live_and_from_the_past() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).flag("--messages", "ack");
    let walcast = setup.start();
    let mut client = walcast.connect();
    let start = client.hello["position"].clone();
    let subscribed =
        client.subscribe_live(json!({"id": "é", "messages": "ack", "content": "Zo\u{eb} \\x41"}));
    assert_eq!(subscribed["warnings"], json!([]));
    client.subscribe_live(json!({"id": "empty", "messages": "ack", "content": ""}));
    client.subscribe_live(json!({"id": "all", "messages": "ack"}));
    let contents = [
        "'zo\u{eb} \\x41'",
        "'Zo\u{eb} \\x41'",
        "''",
        "'Zo\u{eb} A'",
        r"'\xff'::bytea",
    ];
    let mut transaction = "BEGIN; INSERT INTO t VALUES (1)".to_owned();
    for (number, content) in contents.iter().enumerate() {
        transaction += &format!("; {}", emit(number % 2 == 0, "ack", content));
    }
    database.sql(&format!("{transaction}; COMMIT"));
    let mut got = Vec::new();
    while got.len() < 7 {
        got.extend(client.changes());
    }
    let of = |id: &str| -> Vec<_> {
        let changes = got.iter().filter(|change| change["id"] == id);
        changes
            .map(|change| change["content"].as_str().unwrap())
            .collect()
    };
    assert_eq!(of("é"), ["Zo\u{eb} \\x41"]);
    assert_eq!(of("empty"), [""]);
    assert_eq!(of("all").len(), 5);
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "é", "messages": "ack", "content": "Zo\u{eb} \\x41", "from": start}));
    assert_eq!(client.change()["content"], "Zo\u{eb} \\x41");
    client.expect("live");
    for wrong in [
        json!({"messages": "ack", "content": 1}),
        json!({"table": "t", "content": "x"}),
    ] {
        let mut wrong = wrong;
        wrong["id"] = json!("w");
        assert_eq!(client.subscribe_refused(wrong)["code"], "bad_request");
    }
}

#[test]
fn in_a_database_of_another_encoding_the_content_asked_for_is_ascii() {
    let database = Database::encoded("LATIN1", SCHEMA);
    let walcast = Setup::new(&database).flag("--messages", "ack").start();
    let mut client = walcast.connect();
    // As a bytea's text this would be an A.
    client.subscribe_live(json!({"id": "a", "messages": "ack", "content": "\\x41"}));
    let refused = json!({"id": "w", "messages": "ack", "content": "Zo\u{eb}"});
    assert_eq!(client.subscribe_refused(refused)["code"], "bad_request");
    database.sql(&emit(true, "ack", "'A'"));
    database.sql(&emit(true, "ack", r"'\x41'"));
    assert_eq!(client.change()["content"], "\\x41");
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
    eventually_equal("it is counted", 2.0, || walcast.metric("oversize_changes_total"));
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

/// The part of the next transaction that a client hears: the ids of rows, the contents of messages.
fn heard(client: &mut Client) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let tx = client.tx();
        heard.extend(tx["changes"].as_array().unwrap().iter().map(
            |change| match change["content"].as_str() {
                Some(content) => content.to_owned(),
                None => change["row"]["id"].to_string(),
            },
        ));
        if tx.get("more").is_none() {
            return heard;
        }
    }
}

/// The same of the next transaction of a slot that is read without streaming, by another plugin.
fn decoded(database: &Database) -> Vec<String> {
    let rows = database.sql("SELECT data FROM pg_logical_slot_get_changes('judge', NULL, NULL)");
    let lines = rows.iter().map(|row| row.get(0).unwrap().to_owned());
    let read = |line: String| {
        if let Some(message) = line.strip_prefix("message: transactional: 1 prefix: news, ") {
            return Some(message.split_once("content:").unwrap().1.to_owned());
        }
        let id = line.strip_prefix("table public.t: INSERT: id[integer]:")?;
        Some(id.to_owned())
    };
    lines.filter_map(read).collect()
}

#[test]
fn a_message_of_a_savepoint_that_was_rolled_back_is_never_delivered() {
    let database = Database::on_its_own_server(SCHEMA, &["logical_decoding_work_mem = 64kB"]);
    let setup = Setup::new(&database).flag("--messages", "news");
    let mut walcast = setup.start();
    database.sql("SELECT pg_create_logical_replication_slot('judge', 'test_decoding')");
    let rows = |from: u32| format!("INSERT INTO t SELECT generate_series({from}, {}); ", from + 1999);
    let news = |content: &str| format!("{}; ", emit(true, "news", &format!("'{content}'")));
    // So much that the server sends what it has.
    let other = format!("{}; ", emit(true, "other", "repeat('not this', 20000)"));
    // What comes in the transaction, how far it has come before it ends, and whether it is to be read again.
    let cases = [
        // The first thing in the savepoint; the only one; nothing but messages of others.
        (
            [
                &rows(1),
                "SAVEPOINT a; ",
                &news("gone"),
                &rows(2001),
                "ROLLBACK TO a; ",
            ]
            .concat(),
            true,
        ),
        (
            [
                &rows(1),
                "SAVEPOINT a; ",
                &news("gone"),
                &other,
                "ROLLBACK TO a; ",
            ]
            .concat(),
            true,
        ),
        (
            [&rows(1), "SAVEPOINT a; ", &other, &rows(2001), "ROLLBACK TO a; "].concat(),
            false,
        ),
        // In a savepoint that is kept, within one that is not.
        (
            [
                &rows(1),
                "SAVEPOINT a; SAVEPOINT b; ",
                &news("gone"),
                &other,
                "RELEASE b; ",
                &rows(2001),
                "ROLLBACK TO a; ",
                &news("kept"),
            ]
            .concat(),
            true,
        ),
        // After rows of the savepoint, with which it goes; before it, and followed by rows that stay.
        (
            [
                &news("first"),
                &rows(1),
                "SAVEPOINT a; ",
                &rows(2001),
                &news("gone"),
                "ROLLBACK TO a; ",
                &rows(4001),
                &news("last"),
            ]
            .concat(),
            false,
        ),
        // Kept, and before something that is not, with nothing in between.
        (
            [
                &rows(1),
                &news("kept"),
                "SAVEPOINT a; ",
                &rows(2001),
                "ROLLBACK TO a; ",
            ]
            .concat(),
            true,
        ),
        // As a function does it.
        (
            [
                &rows(1),
                "DO $$ BEGIN FOR i IN 1..20 LOOP BEGIN
                     PERFORM pg_logical_emit_message(true, 'news', i::text);
                     INSERT INTO t SELECT generate_series(10000 + 200 * i, 10199 + 200 * i);
                     IF i % 3 = 0 THEN PERFORM 1 / 0; END IF;
                 EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$; ",
            ]
            .concat(),
            true,
        ),
    ];
    for (sql, reread) in cases {
        let mut client = walcast.connect();
        client.subscribe_live(json!({"id": "t", "table": "t"}));
        client.subscribe_live(json!({"id": "n", "messages": "news"}));
        let counts =
            || ["transactions_reread_total", "transactions_streamed_total"].map(|name| walcast.metric(name));
        let before = counts();
        let mut session = database.connect();
        session.query("BEGIN").unwrap();
        session.query(&sql).unwrap();
        session.query(&rows(20_001)).unwrap();
        eventually("parts of it have come", || {
            (walcast.metric("spooled_transactions") == 1.0).then_some(())
        });
        session.query("COMMIT").unwrap();
        assert_eq!(heard(&mut client), decoded(&database), "{sql}");
        let after = counts();
        let expected = if reread { [1.0, 0.0] } else { [0.0, 1.0] };
        assert_eq!([after[0] - before[0], after[1] - before[1]], expected, "{sql}");
        database.sql("DELETE FROM t");
        decoded(&database);
        // So that the next client begins after it.
        heard(&mut client);
        if reread {
            // It goes on streaming after a restart.
            drop(client);
            walcast.kill();
            walcast = setup.start();
        }
    }
}

#[test]
fn large_transactions_are_streamed_again_once_the_one_that_is_read_again_is_past() {
    let database = Database::on_its_own_server(SCHEMA, &["logical_decoding_work_mem = 64kB"]);
    let walcast = Setup::new(&database).flag("--messages", "news").start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    client.subscribe_live(json!({"id": "n", "messages": "news"}));
    database.sql("SELECT pg_create_logical_replication_slot('judge', 'test_decoding')");
    let rows = |from: u32| format!("INSERT INTO t SELECT generate_series({from}, {}); ", from + 1999);
    let message = emit(true, "news", "'gone'");
    let doubtful = [
        &rows(1),
        "SAVEPOINT a; ",
        &message,
        "; ",
        &rows(2001),
        "ROLLBACK TO a; ",
    ]
    .concat();
    for (sql, counts) in [(doubtful, [1.0, 0.0]), (rows(50_001), [1.0, 1.0])] {
        let mut session = database.connect();
        session.query("BEGIN").unwrap();
        session.query(&sql).unwrap();
        session.query(&rows(20_001)).unwrap();
        eventually("parts of it come while it runs", || {
            (walcast.metric("spooled_transactions") == 1.0).then_some(())
        });
        session.query("COMMIT").unwrap();
        assert_eq!(heard(&mut client), decoded(&database));
        let found = ["transactions_reread_total", "transactions_streamed_total"];
        eventually_equal("they are counted", counts, || {
            found.map(|name| walcast.metric(name))
        });
        database.sql("TRUNCATE t");
        decoded(&database);
        heard(&mut client);
    }
}

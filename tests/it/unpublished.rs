//! Tables that are not published: operators are told why, and clients are not.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Database, Setup, eventually};

const SCHEMA: &str = "
    CREATE SCHEMA crm; CREATE TABLE crm.customer (id int PRIMARY KEY);
    CREATE TABLE listed (id int PRIMARY KEY); CREATE TABLE plain (id int PRIMARY KEY, v int);
    CREATE TABLE keyless (id int, v int); CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
    CREATE VIEW seen AS SELECT * FROM plain; CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain;
    CREATE TABLE root (id int, area text, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
    CREATE TABLE leaf PARTITION OF root FOR VALUES IN ('a');
    CREATE TABLE parts (id int, area text) PARTITION BY LIST (area);
    CREATE TABLE part PARTITION OF parts FOR VALUES IN ('a');
    CREATE PUBLICATION pub FOR TABLE listed, crm.customer, parts;
    CREATE PUBLICATION by_root FOR TABLE root WITH (publish_via_partition_root = true)";

/// The answer of `walcast tables` about tables, and whether all of them can be subscribed to.
fn tables(database: &Database, names: &[&str]) -> (String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
    command
        .args(["tables", "--database-url", database.url(), "--slot", "none"])
        .args(["--publication", "pub", "--publication", "by_root"])
        .args(names);
    let output = command.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn why_a_table_cannot_be_subscribed_to_is_said_with_what_mends_it() {
    let database = Database::new(SCHEMA);
    for (name, words) in [
        ("nowhere", "the database has no such table"),
        ("customer", "did you mean crm.customer?"),
        ("listd", "did you mean public.listed?"),
        ("leaf", "subscribe to public.root"),
        ("seen", "it is a view"),
        ("kept", "it is a materialized view"),
        ("fast", "fix: ALTER TABLE public.fast SET LOGGED;"),
        ("pg_catalog.pg_class", "it is the system's"),
        ("parts", "published by its partitions"),
        ("plain", "fix: ALTER PUBLICATION \"pub\" ADD TABLE public.plain;"),
        (
            "keyless",
            "fix: ALTER TABLE public.keyless REPLICA IDENTITY FULL;  -- or a primary key\n  fix: ALTER PUBLICATION \"pub\" ADD \
             TABLE public.keyless;",
        ),
    ] {
        let (text, code) = tables(&database, &[name]);
        assert!(text.contains(words), "{name}: {text}");
        assert_eq!(code, Some(1), "{text}");
    }
    let (text, code) = tables(&database, &["listed", "root", "part", "crm.customer"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("public.root\n") && text.contains("crm.customer\n"),
        "{text}"
    );

    // What it says leaves the application writing, and makes the tables known.
    for name in ["plain", "keyless"] {
        let (text, _) = tables(&database, &[name]);
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("fix: ")) {
            database.sql(line);
        }
        database.sql(&format!(
            "INSERT INTO {name} VALUES (1, 1); UPDATE {name} SET v = 2; DELETE FROM {name}"
        ));
        assert_eq!(tables(&database, &[name]).1, Some(0));
    }
}

#[test]
fn a_client_hears_nothing_of_tables_that_are_not_published_and_the_log_why() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    let mut refusal = |table: &str| -> Value {
        let refused = client.subscribe_refused(json!({"id": "t", "table": table}));
        assert_eq!(refused["code"], "unknown_table");
        refused["message"].as_str().unwrap().replace(table, "…").into()
    };
    // Of a table that there is, a client is told what it is told of one that there is not.
    assert_eq!(refusal("public.keyless"), refusal("public.nowhere"));
    eventually("it is explained in the log", || {
        refusal("public.keyless");
        let log = walcast.log();
        log.contains("ADD TABLE public.keyless").then_some(())
    });
    assert!(
        refusal("customer")
            .as_str()
            .unwrap()
            .contains("did you mean crm."),
        "it is published"
    );
}

#[test]
fn a_client_s_words_stay_on_their_line_of_the_log_and_are_cut() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    let walcast = Setup::new(&database).flag("--log", "debug").start();
    let mut client = walcast.connect();
    let name = format!("\"x\n2026-01-01 ERROR forged\u{1b}[2J{}\".t", "y".repeat(30_000));
    let refusal = client.subscribe_refused(json!({"id": "a\nb", "table": name}));
    assert_eq!(refusal["code"], "unknown_table", "{refusal}");
    client.subscribe_live(json!({"id": "c\nd\u{1b}", "table": "t"}));
    let fields = |message: &str| {
        eventually(message, || {
            let log = walcast.log();
            let line = log.lines().find(|line| line.contains(message))?;
            Some(serde_json::from_str::<Value>(line).unwrap()["fields"].clone())
        })
    };
    let asked = fields("a client asked for a table that is not published");
    assert!(asked["table"].as_str().unwrap().contains("x\\n2026"), "{asked}");
    for fields in [
        asked,
        fields("a subscription is live"),
        fields("a subscription ended"),
    ] {
        for (name, text) in fields.as_object().unwrap() {
            let text = text.as_str().unwrap_or_default();
            assert!(
                text.len() < 700 && !text.contains(char::is_control),
                "{name}: {text:?}"
            );
        }
    }
}

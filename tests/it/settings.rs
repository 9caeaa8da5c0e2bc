//! Settings that somebody gave the role, the database or the server: nothing that walcast says or does depends on them.

use std::time::Duration;

use serde_json::{Value, json};
use walcast::postgres::{ConnInfo, Connection, Purpose};

use crate::support::{Client, Database, Setup, eventually, left_out};

/// Values whose text, and predicates whose meaning, depends on settings. The index has a limit of its own to how many
/// rows it returns.
const SCHEMA: &str = "
    CREATE TABLE v (id int PRIMARY KEY, d date, ts timestamp, tz timestamptz, i interval, b bytea, f float8, r real,
                    c regclass, tags text[], x xml, note text);
    ALTER TABLE v REPLICA IDENTITY FULL;
    CREATE INDEX ON v USING gin (tags);
    CREATE PUBLICATION pub FOR TABLE v";

/// Rows from `first` on.
fn rows_from(first: u32, count: u32) -> String {
    format!(
        "INSERT INTO v SELECT g, '2026-02-03', '2026-02-03 04:05:06.789', '2026-02-03 04:05:06+05', '-1 day 02:00:03',
             '\\x00ff5c27', 0.1::float8 + 0.2::float8, 1.0::real / 3, 'v', ARRAY['NULL', 'a\\b'], '<x/>', 'Straße ' || g
         FROM generate_series({first}, {first} + {count} - 1) g"
    )
}

/// A role of its own with all of these settings.
fn odd_role(database: &Database, settings: &[(&str, &str)]) -> String {
    let role = format!("odd_{}", database.name);
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    for (name, value) in settings {
        database.sql(&format!("ALTER ROLE {role} SET {name} = {value}"));
    }
    database.url().replace("postgres@", &format!("{role}@"))
}

/// The application's own view.
fn expected(database: &Database, condition: &str) -> Vec<Value> {
    database.rows(&format!("SELECT * FROM v WHERE {condition} ORDER BY id"))
}

fn by_id(mut rows: Vec<Value>) -> Vec<Value> {
    rows.sort_by_key(|row| row["id"].as_i64());
    rows
}

/// All that changes what a value's text is, or what a predicate means.
const MEANING: [(&str, &str); 14] = [
    ("datestyle", "'German, DMY'"),
    ("intervalstyle", "'iso_8601'"),
    ("timezone", "'Asia/Tokyo'"),
    ("client_encoding", "'LATIN1'"),
    ("bytea_output", "'escape'"),
    ("extra_float_digits", "-10"),
    ("quote_all_identifiers", "on"),
    ("search_path", "nowhere"),
    ("standard_conforming_strings", "off"),
    ("transform_null_equals", "on"),
    ("array_nulls", "off"),
    ("gin_fuzzy_search_limit", "5"),
    ("xmloption", "'document'"),
    ("default_transaction_isolation", "'serializable'"),
];

#[test]
fn values_and_predicates_mean_the_same_whatever_the_roles_settings_are() {
    let database = Database::new(SCHEMA);
    let url = odd_role(&database, &MEANING);
    // They hold for a session that leaves them as they are.
    let application = url.replace(&format!("/{}", database.name), "/postgres");
    let shown = crate::support::connect(&application)
        .unwrap()
        .query("SHOW transform_null_equals")
        .unwrap();
    assert_eq!(shown[0].get(0), Some("on"));
    database.sql(&rows_from(1, 3000));
    // The planner takes the index for few rows of many.
    database.sql("UPDATE v SET tags = '{rare}' WHERE id % 20 = 0; ANALYZE v");
    let setup = Setup::new(&database).by(url);
    let walcast = setup.start();
    let queries = [
        ("all", "id <= 3"),
        ("fuzzy", "tags && '{rare}'"),
        ("null", "note = NULL"),
        ("nulls", "tags @> '{NULL}'"),
        ("backslash", r#"tags @> '{"a\\b"}'"#),
        ("text", "note LIKE 'Stra%e 1_'"),
        ("day", "d = '2026-02-03' AND id < 9"),
    ];
    let mut client = walcast.connect();
    for (id, condition) in queries {
        let rows = client.snapshot(json!({"id": id, "table": "v", "where": condition}));
        assert_eq!(by_id(rows), expected(&database, condition), "{condition}");
    }
    // And the stream says the same of the same rows.
    let mut stream = walcast.connect();
    stream.subscribe_live(json!({"id": "s", "table": "v"}));
    database.sql(&rows_from(9001, 1));
    assert_eq!(stream.change()["row"], expected(&database, "id = 9001")[0]);
    assert!(walcast.stop().success());
}

/// All that ends a session or a statement, and can be set for a role, but `statement_timeout`: that of a snapshot is
/// the administrator's to bound.
fn ends(version: u32) -> Vec<(&'static str, &'static str)> {
    let mut settings = vec![
        ("lock_timeout", "'1ms'"),
        ("idle_in_transaction_session_timeout", "'50ms'"),
        ("idle_session_timeout", "'300ms'"),
        ("exit_on_error", "on"),
        ("default_transaction_read_only", "on"),
        ("client_min_messages", "debug5"),
    ];
    if version >= 170_000 {
        settings.push(("transaction_timeout", "'300ms'"));
    }
    settings
}

#[test]
fn the_roles_timeouts_end_neither_the_stream_nor_a_snapshot() {
    let database = Database::new(SCHEMA);
    let url = odd_role(&database, &ends(database.version()));
    database.sql(&rows_from(1, 20_000));
    // Large transactions come whole after their commit, in one transaction of the server's.
    let setup = Setup::new(&database).by(url).flag("--streaming", "off");
    let walcast = setup.start();
    let mut client = walcast.connect();
    let rows = client.snapshot(json!({"id": "v", "table": "v"}));
    assert_eq!(rows.len(), 20_000);
    client.subscribe_live(json!({"id": "i", "table": "v", "where": "id = 20001"}));
    database.sql(&rows_from(20_001, 60_000));
    all_come(&mut client, 60_001);
    assert_eq!(walcast.metric("replication_stuck"), 0.0);
    // And after everything has been idle for longer than it may.
    std::thread::sleep(Duration::from_millis(700));
    let rows = client.snapshot(json!({"id": "later", "table": "v", "where": "id = 7"}));
    assert_eq!(rows, expected(&database, "id = 7"));
    assert_eq!(walcast.metric("replication_connects_total"), 1.0);
    assert!(walcast.stop().success());
}

#[test]
fn the_roles_statement_timeout_ends_neither_the_stream_nor_a_question() {
    let database = Database::new(SCHEMA);
    let url = odd_role(&database, &[("statement_timeout", "'20ms'")]);
    let setup = Setup::new(&database).by(url).flag("--streaming", "off");
    let walcast = setup.start();
    let mut client = walcast.connect();
    // The letters take longer.
    client.subscribe_live(json!({"id": "i", "table": "v", "where": "note ILIKE 'STRAße %'"}));
    database.sql(&rows_from(1, 40_000));
    all_come(&mut client, 40_000);
    assert_eq!(walcast.metric("replication_connects_total"), 1.0);
    assert!(walcast.stop().success());
}

/// So many changes come.
fn all_come(client: &mut Client, count: usize) {
    let mut seen = 0;
    while seen < count {
        seen += client.expect("tx")["changes"].as_array().unwrap().len();
    }
    assert_eq!(seen, count);
}

#[test]
fn a_role_that_is_read_only_by_default_may_create_what_serve_creates() {
    let database = Database::new("CREATE TABLE v (id int PRIMARY KEY)");
    let url = odd_role(&database, &[("default_transaction_read_only", "on")]);
    database.sql(&format!("ALTER ROLE odd_{} SUPERUSER", database.name));
    let setup = Setup::new(&database).by(url).switch("--create-publication");
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "v", "table": "v"}));
    database.sql("INSERT INTO v VALUES (1)");
    assert_eq!(client.change()["row"], json!({"id": 1}));
}

#[test]
fn that_changes_are_passed_over_is_noticed_also_by_a_role_that_hears_of_errors_alone() {
    let database = Database::new(SCHEMA);
    if database.version() < 180_000 {
        return left_out(
            "a publication that is passed over",
            "before version 18 it is an error",
        );
    }
    let url = odd_role(&database, &[("client_min_messages", "error")]);
    let setup = Setup::new(&database).by(url);
    let walcast = setup.start();
    database.sql("DROP PUBLICATION pub");
    database.sql(&rows_from(1, 1));
    let reason = eventually("it is not ready", || walcast.ready().err());
    assert!(reason.contains("create the publication"), "{reason}");
}

#[test]
fn letters_that_the_server_did_not_tell_are_asked_for_again() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    // A collation of its own, whose letters nobody has asked for yet, and a database that cancels that question.
    let cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
                  WHERE query LIKE '%generate_series(1, 1114111)%' AND state = 'active' AND pid <> pg_backend_pid()";
    let canceller = |connection: &mut Connection| -> bool {
        let rows = connection.query(cancel).unwrap();
        rows[0].get(0) != Some("0")
    };
    let mut connection = database.connect();
    database.sql(
        "CREATE COLLATION letters (locale = 'C.UTF-8');
         CREATE TABLE l (id int PRIMARY KEY, t text COLLATE letters);
         ALTER TABLE l REPLICA IDENTITY FULL;
         ALTER PUBLICATION pub ADD TABLE l",
    );
    let mut client = walcast.connect();
    let mut cancelled = false;
    let mut tries = 0;
    eventually("it is known in the end", || {
        // The question is cancelled, once.
        client.send(
            &json!({"type": "subscribe", "id": format!("l{tries}"), "table": "l", "where": "t ILIKE 'É%'"}),
        );
        loop {
            cancelled = cancelled || canceller(&mut connection);
            let until = std::time::Instant::now() + Duration::from_millis(5);
            if let crate::support::Incoming::Message(answer) = client.next_by(until) {
                match answer["type"].as_str().unwrap() {
                    "subscribed" => return Some(()),
                    "error" => break,
                    _ => {}
                }
            }
        }
        tries += 1;
        std::thread::sleep(Duration::from_millis(300));
        None
    });
    if !cancelled {
        left_out(
            "letters that are asked for twice",
            "the question was too fast to be cancelled",
        );
    }
}

#[test]
fn sessions_print_money_alike_whatever_becomes_of_the_roles_setting() {
    let database =
        Database::new("CREATE TABLE m (id int PRIMARY KEY, price money); CREATE PUBLICATION pub FOR TABLE m");
    let url = odd_role(&database, &[("lc_monetary", "'C.utf8'")]);
    let set = |value: &str| {
        database.sql(&format!(
            "ALTER ROLE odd_{} SET lc_monetary = '{value}'",
            database.name
        ))
    };
    let info = ConnInfo::parse(&url).unwrap();
    let shown = |info: &ConnInfo, purpose| {
        let rows = Connection::connect(info, purpose)
            .unwrap()
            .query("SHOW lc_monetary")
            .unwrap();
        rows[0].get(0).unwrap().to_owned()
    };
    assert_eq!(shown(&info, Purpose::Query), "C.utf8");
    set("POSIX");
    let other = ConnInfo::parse(&url).unwrap();
    for purpose in [Purpose::Query, Purpose::Snapshot, Purpose::Replication] {
        assert_eq!(shown(&info.clone(), purpose), "C.utf8");
        let snapshots = other.clone().agreeing_with(&info);
        assert_eq!(shown(&snapshots, purpose), "C.utf8");
    }
    assert_eq!(shown(&other, Purpose::Query), "POSIX");
}

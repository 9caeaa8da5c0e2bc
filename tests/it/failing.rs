//! Predicates that fail for a row, as the SELECT does: casts, overflow, division.

use serde_json::json;

use crate::support::{Database, Setup, Walcast};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, kind text, data jsonb);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE t;
";

fn serve() -> (Database, Walcast, Setup) {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    (database, walcast, setup)
}

#[test]
fn a_row_that_a_predicate_fails_for_ends_its_subscription_alone() {
    let (database, walcast, _setup) = serve();
    let mut client = walcast.connect();
    for (id, predicate) in [
        ("cast", "(data ->> 'n')::int > 5"),
        ("overflow", "id * 1000000 > 5"),
        ("division", "id / (id - 3) > 5"),
        ("guarded", "(data ->> 'n')::int > 5 AND kind = 'number'"),
        ("other", "kind = 'word'"),
    ] {
        client.subscribe_live(json!({"id": id, "table": "t", "where": predicate}));
    }
    database.sql(r#"INSERT INTO t VALUES (1, 'number', '{"n": "7"}')"#);
    let mut ids: Vec<String> = client
        .changes()
        .iter()
        .map(|change| change["id"].to_string())
        .collect();
    ids.sort();
    assert_eq!(ids, [r#""cast""#, r#""guarded""#, r#""overflow""#]);
    let statements = [
        (r#"INSERT INTO t VALUES (2, 'word', '{"n": "x"}')"#, "cast"),
        ("INSERT INTO t VALUES (3, 'word', NULL)", "division"),
        ("INSERT INTO t VALUES (10000, 'word', NULL)", "overflow"),
    ];
    for (statement, id) in statements {
        database.sql(statement);
        let mut ended = None;
        let mut told = None;
        while ended.is_none() || told.is_none() {
            let message = client.next();
            match message["type"].as_str() {
                Some("error") => ended = Some((message["id"].clone(), message["code"].clone())),
                Some("tx") => {
                    let changes = message["changes"].as_array().unwrap();
                    let of_other = changes.iter().filter(|change| change["id"] == "other");
                    told = told.or(Some(of_other.count())).filter(|count| *count > 0);
                }
                _ => {}
            }
        }
        assert_eq!(ended, Some((json!(id), json!("bad_predicate"))), "{statement}");
    }
    // The guard leaves out what the cast would fail for, and goes on.
    database.sql(r#"INSERT INTO t VALUES (4, 'number', '{"n": 8}')"#);
    assert_eq!(client.change()["id"], "guarded");
}

#[test]
fn a_snapshot_asks_the_guard_first_and_fails_as_the_select_does() {
    let (database, walcast, _setup) = serve();
    database.sql(
        r#"INSERT INTO t SELECT i, 'number', jsonb_build_object('n', i) FROM generate_series(1, 20) i;
           INSERT INTO t VALUES (100, 'word', '{"n": "x"}')"#,
    );
    let mut client = walcast.connect();
    // Postgres by itself would take the cheapest condition first, which is the cast.
    let guarded = "(data ->> 'n')::int > 18 AND lower(lower(kind)) = 'number'";
    client.send(&json!({"type": "subscribe", "id": "b", "table": "t", "where": guarded, "snapshot": true}));
    client.expect("subscribed");
    assert_eq!(client.expect("snapshot")["rows"].as_array().unwrap().len(), 2);
    client.expect("live");
    let error = client.subscribe_refused(
        json!({"id": "c", "table": "t", "where": "(data ->> 'n')::int > 18", "snapshot": true}),
    );
    assert_eq!(error["id"], "c");
    let message = error["message"].as_str().unwrap();
    assert!(!message.contains("\"x\""), "no row's value: {message}");
}

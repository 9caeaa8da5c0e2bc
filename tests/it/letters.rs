//! Facts about collations that the server alone knows: asked once a predicate needs it, once for all; and the order of
//! texts.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tokio::sync::watch;

use walcast::cluster::Shutdown;
use walcast::log::TableHistory;
use walcast::postgres::ConnInfo;
use walcast::schema::Tables;
use walcast::types::CollationQuestion;

use crate::support::{Client, Database, Setup, left_out};

const SCHEMA: &str = "CREATE EXTENSION citext;
    CREATE TABLE t (id int PRIMARY KEY, who citext, what text COLLATE \"C.utf8\", note text);
    ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t";

/// The number of times that the server was asked for letters, and for the order of a collation.
fn questions(database: &Database) -> (usize, usize) {
    let log = std::fs::read_to_string(database.server().log()).unwrap();
    let asked = |part: &str| log.matches(part).count();
    (
        asked("pg_catalog.upper(c.c COLLATE"),
        asked("generate_series(1, 1114110)"),
    )
}

#[test]
fn the_server_is_asked_for_letters_and_order_once_a_predicate_needs_them_and_once_for_all() {
    let database = Database::on_its_own_server(SCHEMA, &["log_statement = 'all'"]);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    let plain = "note = 'x' OR what LIKE 'x%' OR who IS NULL OR who::text = 'x' OR note COLLATE \"C\" < 'a'";
    client.subscribe_live(json!({"id": "p", "table": "t", "where": plain, "snapshot": true}));
    database
        .sql("INSERT INTO t VALUES (1, 'ÉVA', 'ÇA va', 'x'), (2, 'eva', 'ça va', 'é'), (3, 'x', 'x', 'z')");
    assert_eq!(client.changes().len(), 2);
    assert_eq!(questions(&database), (0, 0));

    let everybody = |condition: &str, expected: &[u64]| {
        let together = Barrier::new(100);
        thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    let mut client = walcast.connect();
                    together.wait();
                    let subscribe = json!({"id": "l", "table": "t", "where": condition, "from": "earliest"});
                    client.subscribe(subscribe);
                    assert_eq!(ids(&client.changes()), expected);
                });
            }
        });
    };
    everybody("what ILIKE 'Ça%'", &[1, 2]);
    assert_eq!(questions(&database), (1, 0));
    // The database's own collation has another name.
    everybody("who = 'éva' OR lower(what) = 'x'", &[1, 3]);
    assert_eq!(questions(&database), (2, 0));
    everybody("note > 'x'", &[2, 3]);
    let (letters, order) = questions(&database);
    assert!(letters == 2 && order <= 2, "the two names of one locale: {order}");

    // Rows of before, in a process that knows nothing yet.
    assert!(walcast.stop().success());
    let walcast = setup.start();
    assert_eq!(questions(&database), (letters, order));
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "l", "table": "t", "where": "what ILIKE 'ÇA%'", "from": "earliest"}));
    assert_eq!(ids(&client.changes()), [1, 2]);
    assert_eq!(questions(&database), (letters + 1, order));
}

fn ids(changes: &[Value]) -> Vec<u64> {
    let id = |change: &Value| change["row"]["id"].as_u64().unwrap();
    changes.iter().map(id).collect()
}

#[test]
fn a_server_that_refuses_to_tell_its_letters_is_asked_again_once_it_may() {
    let database = Database::new(SCHEMA);
    let role = format!("mute_{}", database.name);
    database.sql(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role};
         REVOKE EXECUTE ON FUNCTION pg_catalog.upper(text) FROM PUBLIC"
    ));
    let setup = Setup::new(&database).by(database.url().replace("postgres@", &format!("{role}@")));
    let walcast = setup.start();
    let mut client = walcast.connect();
    let subscribe = json!({"id": "l", "table": "t", "where": "what ILIKE 'É%'"});
    for _ in 0..2 {
        let refused = client.subscribe_refused(subscribe.clone());
        assert_eq!(refused["code"], "database_refused", "{refused}");
        assert!(
            refused["message"].as_str().unwrap().contains("42501"),
            "{refused}"
        );
    }
    database.sql("GRANT EXECUTE ON FUNCTION pg_catalog.upper(text) TO PUBLIC");
    client.subscribe_live(subscribe);
    database.sql("INSERT INTO t (id, what) VALUES (1, 'école')");
    assert_eq!(client.change()["row"]["id"], 1);
}

/// The rows of a live query by their ids.
fn result(client: &mut Client, condition: &str) -> BTreeMap<u64, Value> {
    client.send(
        &json!({"type": "subscribe", "id": condition, "table": "t", "where": condition, "snapshot": true}),
    );
    client.expect("subscribed");
    let mut rows = BTreeMap::new();
    loop {
        let message = client.next();
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                for row in message["rows"].as_array().unwrap() {
                    rows.insert(row["id"].as_u64().unwrap(), row.clone());
                }
            }
            "live" => return rows,
            other => panic!("{other}: {message}"),
        }
    }
}

#[test]
fn a_range_of_texts_is_the_same_in_the_database_in_snapshots_and_live() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, d text, u text COLLATE \"C.utf8\", c text COLLATE \"C\", x text);
         ALTER TABLE t REPLICA IDENTITY FULL; CREATE PUBLICATION pub FOR TABLE t",
    );
    let has_icu = database.value("SELECT count(*) FROM pg_collation WHERE collname = 'en-x-icu'") == "1";
    if has_icu {
        drop(database.sql("ALTER TABLE t ALTER x TYPE text COLLATE \"en-x-icu\""))
    } else {
        left_out("a collation of ICU's", "the server has none")
    }
    let texts = "ARRAY['', 'a', 'B', 'é', 'Z', 'z', 'ab', U&'\\FFFF', U&'\\E000', U&'\\+010000', U&'\\+10FFFF', 'éé', 'a ']";
    let fill = |step: u32| {
        format!(
            "SELECT g, v, v, v, v FROM (SELECT g, ({texts})[(g * {step}) % 13 + 1] AS v FROM generate_series(1, 39) g) s"
        )
    };
    database.sql(&format!("INSERT INTO t {}", fill(1)));
    let walcast = Setup::new(&database).start();
    let conditions = [
        "d < 'é'",
        "u > '\u{ffff}'",
        "c >= '\u{10000}' OR d <= ''",
        "x COLLATE \"C\" < 'a'",
        "x COLLATE \"C\" BETWEEN '\u{e000}' AND '\u{10000}'",
    ];
    let mut client = walcast.connect();
    let mut results: BTreeMap<&str, BTreeMap<u64, Value>> = BTreeMap::new();
    for condition in conditions {
        results.insert(condition, result(&mut client, condition));
    }
    let check = |results: &BTreeMap<&str, BTreeMap<u64, Value>>| {
        for (condition, rows) in results {
            let expected = database.rows(&format!("SELECT * FROM t WHERE {condition} ORDER BY id"));
            assert!(!expected.is_empty(), "{condition}");
            assert_eq!(
                rows.values().cloned().collect::<Vec<_>>(),
                expected,
                "{condition}"
            );
        }
    };
    check(&results);
    database.sql(&format!(
        "UPDATE t SET d = n.v, u = n.v, c = n.v, x = n.v FROM ({}) n (id, v, v2, v3, v4) WHERE n.id = t.id",
        fill(5)
    ));
    for change in client.changes() {
        let rows = results.get_mut(change["id"].as_str().unwrap()).unwrap();
        let id = |of: &Value| of["id"].as_u64().unwrap();
        match change["op"].as_str().unwrap() {
            "delete" => drop(rows.remove(&id(&change["key"]))),
            _ => drop(rows.insert(id(&change["row"]), change["row"].clone())),
        }
    }
    check(&results);
    if has_icu {
        let refused = client.subscribe_refused(json!({"id": "x", "table": "t", "where": "x < 'a'"}));
        assert_eq!(
            (&refused["code"], &refused["offset"]),
            (&json!("bad_predicate"), &json!(0))
        );
        assert!(
            refused["message"]
                .as_str()
                .unwrap()
                .ends_with("write \"x\" COLLATE \"C\""),
            "{refused}"
        );
    }
}

#[test]
fn in_an_encoding_whose_order_is_another_no_text_is_ordered() {
    const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, n text); ALTER TABLE t REPLICA IDENTITY FULL;
        CREATE PUBLICATION pub FOR TABLE t; INSERT INTO t VALUES (1, 'a'), (2, 'x')";
    let database = Database::encoded("EUC_JP", SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    for (condition, words) in [("n < 'b'", "ordering \"n\""), ("n COLLATE \"C\" < 'b'", "EUC_JP")] {
        let refused = client.subscribe_refused(json!({"id": "r", "table": "t", "where": condition}));
        assert_eq!(refused["code"], "bad_predicate", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(words), "{refused}");
    }
    assert_eq!(result(&mut client, "n = 'a'").len(), 1);

    // A byte of LATIN1 is its code point.
    let database = Database::encoded("LATIN1", SCHEMA);
    database.sql("INSERT INTO t VALUES (3, 'é'), (4, 'ÿ'), (5, 'z'), (6, '')");
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    for condition in [
        "n < 'é'",
        "n > 'z'",
        "n COLLATE \"C\" >= 'é'",
        "n BETWEEN 'a' AND 'é'",
    ] {
        let expected = database.rows(&format!("SELECT * FROM t WHERE {condition} ORDER BY id"));
        let rows: Vec<Value> = result(&mut client, condition).into_values().collect();
        assert_eq!(rows, expected, "{condition}");
    }
}

#[test]
fn a_collation_that_is_not_there_is_not_asked_for_again_and_again() {
    let database = Database::on_its_own_server("", &[]);
    let info = ConnInfo::parse(database.url()).unwrap();
    let noted = watch::channel(TableHistory::default()).1;
    let tables = Tables::new(info, Vec::new(), &[], noted);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let learn = |name: &str| runtime.block_on(tables.learn(&CollationQuestion::Letters(name.into())));
    learn("libc xx_XX.utf8").unwrap();
    database.server().stop(Shutdown::Fast).unwrap();
    learn("libc xx_XX.utf8").unwrap();
    // A question that failed leaves nothing behind.
    learn("libc yy_YY.utf8").unwrap_err();
    database.server().resume().unwrap();
    learn("libc yy_YY.utf8").unwrap();
}

//! Tables change under their subscriptions.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually};

const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, owner int, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE t;
";

#[test]
fn a_column_that_goes_ends_only_the_subscriptions_that_need_it() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "by owner", "table": "t", "where": "owner = 1"}));
    client.subscribe_live(json!({"id": "of owner", "table": "t", "columns": ["owner"]}));
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    client.subscribe_live(json!({"id": "by id", "table": "t", "where": "id < 100", "columns": ["note"]}));
    database.sql("INSERT INTO t VALUES (1, 1, 'a')");
    assert_eq!(client.changes().len(), 4);
    database.sql("ALTER TABLE t DROP COLUMN owner");
    database.sql("INSERT INTO t VALUES (2, 'b')");
    let mut ended = [client.error(), client.error()].map(|error| {
        assert_eq!(error["code"], "schema_changed", "{error}");
        error["id"].as_str().unwrap().to_owned()
    });
    ended.sort();
    assert_eq!(ended, ["by owner", "of owner"]);
    let changes = client.changes();
    let rows: Vec<_> = changes
        .iter()
        .map(|change| (&change["id"], &change["row"]))
        .collect();
    assert_eq!(
        rows,
        [
            (&json!("all"), &json!({"id": 2, "note": "b"})),
            (&json!("by id"), &json!({"id": 2, "note": "b"})),
        ]
    );
    // Its id is free, and the column is not to be had any more.
    assert_eq!(
        client.subscribe_refused(json!({"id": "by owner", "table": "t", "where": "owner = 1"}))["code"],
        "unknown_column"
    );
    client.subscribe_live(json!({"id": "by owner", "table": "t", "where": "note = 'c'"}));
    database.sql("INSERT INTO t VALUES (3, 'c')");
    assert_eq!(client.changes().len(), 3);
}

#[test]
fn a_column_whose_type_no_longer_fits_a_predicate_ends_it() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t", "where": "owner > 1"}));
    client.subscribe_live(json!({"id": "b", "table": "t"}));
    database.sql("ALTER TABLE t ALTER owner TYPE text");
    database.sql("INSERT INTO t VALUES (1, '2', 'a')");
    let error = client.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("a"), &json!("schema_changed"))
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("\"owner\"") && message.contains("text"),
        "{message}"
    );
    assert_eq!(
        client.change()["row"],
        json!({"id": 1, "owner": "2", "note": "a"})
    );
}

#[test]
fn a_column_that_has_another_type_ends_what_names_it_though_it_would_still_fit() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "before", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1, 1, 'a')");
    client.change();
    client.comes_up_to(database.written());
    client.subscribe_live(json!({"id": "where", "table": "t", "where": "owner > 0"}));
    client.subscribe_live(json!({"id": "columns", "table": "t", "columns": ["owner"]}));
    client.subscribe_live(json!({"id": "neither", "table": "t", "where": "id > 0", "columns": ["note"]}));
    database.sql("ALTER TABLE t ALTER owner TYPE bigint");
    database.sql("INSERT INTO t VALUES (2, 2, 'b')");
    let mut ended = [client.error(), client.error()];
    ended.sort_by_key(|error| error["id"].to_string());
    for (error, id) in ended.iter().zip(["columns", "where"]) {
        assert_eq!(
            (&error["id"], &error["code"]),
            (&json!(id), &json!("schema_changed"))
        );
        assert!(
            error["message"].as_str().unwrap().contains("\"owner\""),
            "{error}"
        );
    }
    let ids: Vec<Value> = client
        .changes()
        .iter()
        .map(|change| change["id"].clone())
        .collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids.contains(&json!("before")) && ids.contains(&json!("neither")));
    // It begins anew.
    client.subscribe_live(json!({"id": "where", "table": "t", "where": "owner > 0"}));
    database.sql("INSERT INTO t VALUES (3, 3, 'c')");
    assert_eq!(client.changes().len(), 3);
}

#[test]
fn another_type_is_told_though_no_row_of_the_first_one_came_by() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let query = json!({"id": "where", "table": "t", "where": "owner > 0"});
    let mut live = walcast.connect();
    let subscribed = live.subscribe_live(query.clone());
    database.sql("ALTER TABLE t ALTER owner TYPE bigint");
    database.sql("INSERT INTO t VALUES (1, 1, 'a')");
    assert_eq!(live.error()["code"], "schema_changed");
    // Who comes back and is told of the table as it is now does not get rows as they were.
    database.sql("ALTER TABLE t ALTER owner TYPE int");
    let mut resumed = walcast.connect();
    let mut resuming = query;
    resuming["from"] = subscribed["position"].clone();
    resuming["epoch"] = resumed.hello["epoch"].clone();
    let column = eventually("the type is known", || {
        let mut asking = walcast.connect();
        let columns = asking.subscribe_live(json!({"id": "now", "table": "t"}))["columns"].take();
        (columns[1]["type"] == "integer").then(|| columns[1]["name"].clone())
    });
    assert_eq!(column, "owner");
    let error = resumed.subscribe_refused(resuming);
    assert_eq!(error["code"], "schema_changed");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("\"owner\"") && message.contains("bigint") && message.contains("integer"),
        "{message}"
    );
}

#[test]
fn who_was_told_of_the_types_that_columns_have_now_goes_on() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let query = json!({"id": "a", "table": "t", "where": "owner > 0 AND note <> ''"});
    let types = |subscribed: &Value| {
        let columns = subscribed["columns"].as_array().unwrap();
        [&columns[1], &columns[2]].map(|column| column["type"].as_str().unwrap().to_owned())
    };
    let told_of = |owner: &str, note: &str| {
        eventually("the types are known", || {
            let mut client = walcast.connect();
            let subscribed = client.try_subscribe_live(query.clone()).ok()?;
            (types(&subscribed) == [owner, note]).then_some(client)
        })
    };
    let mut before = told_of("integer", "text");
    database.sql("INSERT INTO t VALUES (1, 1, 'a')");
    before.change();
    // The last row that came by is of the old types until the last.
    database.sql("ALTER TABLE t ALTER owner TYPE bigint");
    let mut between = told_of("bigint", "text");
    database.sql("ALTER TABLE t ALTER note TYPE varchar");
    let mut after = told_of("bigint", "character varying");
    database.sql("INSERT INTO t VALUES (2, 2, 'b')");
    for (client, column) in [(&mut before, "\"owner\""), (&mut between, "\"note\"")] {
        let error = client.error();
        assert_eq!(error["code"], "schema_changed");
        assert!(error["message"].as_str().unwrap().contains(column), "{error}");
    }
    assert_eq!(after.change()["row"], json!({"id": 2, "owner": 2, "note": "b"}));
}

#[test]
fn an_added_or_renamed_column_appears_in_rows() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t"}));
    database.sql("ALTER TABLE t ADD COLUMN more int DEFAULT 7");
    database.sql("INSERT INTO t VALUES (1, 1, 'x')");
    assert_eq!(
        client.change()["row"],
        json!({"id": 1, "owner": 1, "note": "x", "more": 7})
    );
    database.sql("ALTER TABLE t RENAME note TO remark");
    database.sql("UPDATE t SET more = 8");
    assert_eq!(
        client.change()["row"],
        json!({"id": 1, "owner": 1, "remark": "x", "more": 8})
    );
    // A subscription that begins before the change sees both shapes.
    client.subscribe(json!({"id": "b", "table": "t", "from": "earliest"}));
    assert_eq!(
        client.change()["row"],
        json!({"id": 1, "owner": 1, "note": "x", "more": 7})
    );
    assert_eq!(
        client.change()["row"],
        json!({"id": 1, "owner": 1, "remark": "x", "more": 8})
    );
}

#[test]
fn a_table_that_is_published_later_can_be_subscribed_to() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    database.sql("CREATE TABLE later (id int PRIMARY KEY)");
    assert_eq!(
        client.subscribe_refused(json!({"id": "l", "table": "later"}))["code"],
        "unknown_table"
    );
    database.sql("ALTER PUBLICATION pub ADD TABLE later");
    crate::support::eventually("it is known", || {
        client.send(&json!({"type": "subscribe", "id": "l", "table": "later"}));
        (client.next()["type"] == "subscribed").then_some(())
    });
    client.expect("live");
    database.sql("INSERT INTO later VALUES (1)");
    assert_eq!(client.change()["row"]["id"], 1);
}

/// A connection that has fallen behind: it has not read the rows of `t` that were written just now.
fn behind(database: &Database, walcast: &Walcast, subscribe: &[Value]) -> Client {
    let mut client = walcast.connect();
    for subscription in subscribe {
        client.subscribe_live(subscription.clone());
    }
    let before = walcast.metric("fell_behind_total");
    let rows = "SELECT g, 1, repeat('x', 1000) FROM generate_series(1000, 9000) g";
    database.sql(&format!("INSERT INTO t {rows}"));
    eventually("it fell behind", || {
        (walcast.metric("fell_behind_total") > before).then_some(())
    });
    client
}

#[test]
fn a_subscription_that_a_change_of_the_table_ends_while_its_connection_is_behind_stays_ended() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = behind(
        &database,
        &walcast,
        &[
            json!({"id": "by owner", "table": "t", "where": "owner = 1"}),
            json!({"id": "all", "table": "t", "columns": ["id"]}),
        ],
    );
    // It comes back, but what needed it is over.
    database.sql("ALTER TABLE t DROP COLUMN owner");
    database.sql("INSERT INTO t VALUES (1, 'a')");
    database.sql("ALTER TABLE t ADD COLUMN owner int DEFAULT 1");
    database.sql("INSERT INTO t VALUES (2, 'b')");
    let mut errors = Vec::new();
    let mut over = false;
    let mut seen = Vec::new();
    while seen != [1, 2] {
        let message = client.next();
        if message["type"] == "error" {
            errors.push((message["id"].clone(), message["code"].clone()));
            over = true;
        }
        let changes = message["changes"].as_array().cloned().unwrap_or_default();
        for change in &changes {
            assert!(!over || change["id"] == "all", "{change}");
            let id = change["row"]["id"].as_u64().unwrap();
            if change["id"] == "all" && id < 1000 {
                seen.push(id);
            }
        }
    }
    assert_eq!(errors, [(json!("by owner"), json!("schema_changed"))]);
    // Its name is free, and stands for the new one alone.
    client.subscribe_live(json!({"id": "by owner", "table": "t", "where": "owner = 1"}));
    database.sql("INSERT INTO t VALUES (3, 'c', 1)");
    let changes = client.changes();
    let ids: Vec<_> = changes.iter().map(|change| &change["id"]).collect();
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids.contains(&&json!("all")) && ids.contains(&&json!("by owner")));
}

#[test]
fn a_new_column_can_be_asked_for_before_a_row_has_it() {
    let database = Database::new(SCHEMA);
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "all", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1, 1, 'a')");
    assert_eq!(client.changes().len(), 1);
    database.sql("ALTER TABLE t ADD COLUMN more int");
    eventually("it can be asked for", || {
        client.send(&json!({"type": "subscribe", "id": "new", "table": "t", "where": "more = 7"}));
        (client.next()["type"] == "subscribed").then_some(())
    });
    assert_eq!(client.expect("live")["id"], "new");
    database.sql("INSERT INTO t VALUES (2, 1, 'b', 7)");
    let changes = client.changes();
    assert_eq!(changes.len(), 2);
    assert!(changes.iter().all(|change| change["row"]["more"] == 7));
}

#[test]
fn a_row_with_a_new_label_has_its_place_in_the_order() {
    let database = Database::new(
        "CREATE TYPE mood AS ENUM ('sad', 'happy');
         CREATE TABLE t (id int PRIMARY KEY, mood mood); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE t;",
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "a", "table": "t", "where": "mood > 'sad'"}));
    client.subscribe_live(json!({"id": "b", "table": "t", "where": "mood < 'happy'"}));
    database.sql("INSERT INTO t VALUES (1, 'sad')");
    database.sql("ALTER TYPE mood ADD VALUE 'ok' BEFORE 'happy'");
    database.sql("ALTER TYPE mood ADD VALUE 'low' BEFORE 'sad'");
    database.sql("INSERT INTO t VALUES (2, 'low')");
    database.sql("INSERT INTO t VALUES (3, 'ok')");
    database.sql("INSERT INTO t VALUES (4, 'happy')");
    let mut seen = Vec::new();
    while seen.len() < 5 {
        for change in client.changes() {
            seen.push(format!(
                "{} {}",
                change["id"].as_str().unwrap(),
                change["row"]["id"]
            ));
        }
    }
    assert_eq!(seen, ["b 1", "b 2", "a 3", "b 3", "a 4"]);
}

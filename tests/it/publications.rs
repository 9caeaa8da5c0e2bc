//! Publications, in every way that Postgres has to say it, and what becomes of subscriptions when that changes.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually};

fn serve(schema: &str) -> (Database, Walcast, Setup) {
    let database = Database::new(schema);
    let setup = Setup::new(&database);
    (database, setup.start(), setup)
}

/// True if the server is older than what a test is about, which it then says.
fn is_before(version: u32) -> bool {
    let found = Database::new("SELECT 1").value("SELECT current_setting('server_version_num')");
    let is_before = found.parse::<u32>().unwrap() < version;
    if is_before {
        eprintln!("left out: the server is {found}, and this needs {version}");
    }
    is_before
}

/// A client that subscribes to each table under its own name.
fn of(walcast: &Walcast, tables: &[&str]) -> Client {
    let mut client = walcast.connect();
    for table in tables {
        client.subscribe_live(json!({"id": table, "table": table}));
    }
    client
}

/// The next transaction's changes: whose, what, and which row.
fn seen(client: &mut Client) -> Vec<(String, String, Value)> {
    let changes = client.changes();
    let changes = changes.iter().map(|change| {
        let text = |name: &str| change[name].as_str().unwrap().to_owned();
        let row = change
            .get("row")
            .or(change.get("key"))
            .cloned()
            .unwrap_or_default();
        (text("id"), text("op"), row)
    });
    changes.collect()
}

fn change(id: &str, op: &str, row: Value) -> (String, String, Value) {
    (id.to_owned(), op.to_owned(), row)
}

const PARTITIONED: &str = "
    CREATE TABLE root (id int, area text, v int, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
    CREATE TABLE north PARTITION OF root FOR VALUES IN ('n');
    CREATE TABLE south (v int, area text NOT NULL, id int NOT NULL, PRIMARY KEY (id, area));
    ALTER TABLE root ATTACH PARTITION south FOR VALUES IN ('s');";

#[test]
fn partitions_are_tables_of_their_own_unless_they_are_published_by_their_root() {
    let (database, walcast, _setup) = serve(&format!("{PARTITIONED} CREATE PUBLICATION pub FOR TABLE root;"));
    let mut client = of(&walcast, &["north", "south"]);
    assert_eq!(
        client.subscribe_refused(json!({"id": "r", "table": "root"}))["code"],
        "unknown_table"
    );
    database.sql("INSERT INTO root VALUES (1, 'n', 1), (2, 's', 2)");
    assert_eq!(
        seen(&mut client),
        [
            change("north", "insert", json!({"id": 1, "area": "n", "v": 1})),
            change("south", "insert", json!({"v": 2, "area": "s", "id": 2})),
        ]
    );
    // A row that moves leaves one table and comes into the other.
    database.sql("UPDATE root SET area = 's' WHERE id = 1");
    assert_eq!(
        seen(&mut client),
        [
            change("north", "delete", json!({"id": 1, "area": "n"})),
            change("south", "insert", json!({"v": 1, "area": "s", "id": 1})),
        ]
    );
    // A partition that is attached is published from then on.
    database
        .sql("CREATE TABLE west PARTITION OF root FOR VALUES IN ('w'); INSERT INTO root VALUES (3, 'w', 3)");
    walcast.comes_up_to(&database);
    eventually("the new partition is known", || {
        client.send(&json!({"type": "subscribe", "id": "west", "table": "west", "from": "earliest"}));
        (client.next()["type"] == "subscribed").then_some(())
    });
    assert_eq!(
        seen(&mut client),
        [change("west", "insert", json!({"id": 3, "area": "w", "v": 3}))]
    );
    client.expect("live");
    database.sql("TRUNCATE root");
    let mut truncated = seen(&mut client);
    truncated.sort_by_key(|(id, ..)| id.clone());
    assert_eq!(
        truncated,
        ["north", "south", "west"].map(|id| change(id, "truncate", Value::Null))
    );
    database.sql("TRUNCATE south");
    assert_eq!(seen(&mut client), [change("south", "truncate", Value::Null)]);
    // One that is detached is not published any more.
    database.sql("ALTER TABLE root DETACH PARTITION south");
    let error = client.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("south"), &json!("schema_changed"))
    );
}

#[test]
fn published_by_the_root_every_partition_s_rows_are_the_root_s() {
    let (database, walcast, _setup) = serve(&format!(
        "{PARTITIONED} CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root = true);"
    ));
    let mut client = of(&walcast, &["root"]);
    assert_eq!(
        client.subscribe_refused(json!({"id": "n", "table": "north"}))["code"],
        "unknown_table"
    );
    // In the columns' order of the root, whatever the partition's.
    database.sql("INSERT INTO root VALUES (1, 'n', 1), (2, 's', 2)");
    assert_eq!(
        seen(&mut client),
        [
            change("root", "insert", json!({"id": 1, "area": "n", "v": 1})),
            change("root", "insert", json!({"id": 2, "area": "s", "v": 2})),
        ]
    );
    database.sql("UPDATE root SET area = 's' WHERE id = 1");
    assert_eq!(
        seen(&mut client),
        [
            change("root", "delete", json!({"id": 1, "area": "n"})),
            change("root", "insert", json!({"id": 1, "area": "s", "v": 1})),
        ]
    );
    database.sql("INSERT INTO south VALUES (4, 's', 4)");
    assert_eq!(
        seen(&mut client),
        [change("root", "insert", json!({"id": 4, "area": "s", "v": 4}))]
    );
    // Postgres says nothing when rows come and go with their partition, or by a truncate of it alone.
    database.sql("TRUNCATE south; ALTER TABLE root DETACH PARTITION south; DROP TABLE south");
    database
        .sql("CREATE TABLE east PARTITION OF root FOR VALUES IN ('e'); INSERT INTO root VALUES (5, 'e', 5)");
    assert_eq!(
        seen(&mut client),
        [change("root", "insert", json!({"id": 5, "area": "e", "v": 5}))]
    );
    database.sql("TRUNCATE root");
    assert_eq!(seen(&mut client), [change("root", "truncate", Value::Null)]);
}

#[test]
fn publications_of_all_tables_of_schemas_and_of_tables_can_be_read_at_once() {
    if is_before(150_000) {
        return;
    }
    let database = Database::new(
        r#"CREATE SCHEMA "Süd.1"; CREATE SCHEMA hidden; CREATE TABLE alone (id int PRIMARY KEY);
           CREATE TABLE "Süd.1"."Tëst ""x"".y" ("Ä b" int PRIMARY KEY); CREATE TABLE hidden.t (id int PRIMARY KEY);
           CREATE TABLE twice_named (id int PRIMARY KEY, a int, b int);
           CREATE PUBLICATION pub FOR TABLE alone, twice_named; CREATE PUBLICATION "Pub 2" FOR TABLES IN SCHEMA "Süd.1";
           CREATE PUBLICATION third FOR TABLE twice_named;"#,
    );
    let setup = Setup::new(&database).publications(&["pub", "Pub 2", "third"]);
    let walcast = setup.start();
    let odd = r#""Süd.1"."Tëst ""x"".y""#;
    let mut client = of(&walcast, &["alone", odd, "twice_named"]);
    let tables = ["hidden.t", r#""Süd"."1.Tëst ""x"".y""#, "\"alone \"", "Alone2"];
    for table in tables {
        assert_eq!(
            client.subscribe_refused(json!({"id": "x", "table": table}))["code"],
            "unknown_table",
            "{table}"
        );
    }
    database.sql(&format!(
        "INSERT INTO alone VALUES (1); INSERT INTO {odd} VALUES (2); INSERT INTO hidden.t VALUES (3);
         INSERT INTO twice_named VALUES (4, 5, 6)"
    ));
    assert_eq!(
        seen(&mut client),
        [
            change("alone", "insert", json!({"id": 1})),
            change(odd, "insert", json!({"Ä b": 2})),
            change("twice_named", "insert", json!({"id": 4, "a": 5, "b": 6})),
        ]
    );
    let changes: Value = {
        let mut by_column = walcast.connect();
        by_column
            .subscribe_live(json!({"id": "c", "table": odd, "where": "\"Ä b\" > 6", "columns": ["Ä b"]}));
        database.sql(&format!(
            "CREATE TABLE \"Süd.1\".new (id int PRIMARY KEY); INSERT INTO {odd} VALUES (6), (7)"
        ));
        by_column.change()["row"].clone()
    };
    assert_eq!(changes, json!({"Ä b": 7}));
    client.changes();
    // A table of the schema that was made meanwhile is published as well.
    eventually("the new table is known", || {
        client.send(&json!({"type": "subscribe", "id": "n", "table": "\"Süd.1\".new"}));
        (client.next()["type"] == "subscribed").then_some(())
    });
    client.expect("live");
    database.sql("INSERT INTO \"Süd.1\".new VALUES (1)");
    assert_eq!(seen(&mut client), [change("n", "insert", json!({"id": 1}))]);
}

#[test]
fn a_column_list_is_all_that_there_is_of_a_table_and_can_change() {
    if is_before(150_000) {
        return;
    }
    let (database, walcast, _setup) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, secret text, a int, twice int GENERATED ALWAYS AS (a * 2) STORED);
         CREATE PUBLICATION pub FOR TABLE t (id, a);",
    );
    let mut client = walcast.connect();
    let subscribed = client.subscribe_live(json!({"id": "all", "table": "t"}));
    assert_eq!(subscribed["columns"].as_array().unwrap().len(), 2);
    client.subscribe_live(json!({"id": "a", "table": "t", "where": "a = 2", "undecided": "send"}));
    assert_eq!(
        client.subscribe_refused(json!({"id": "s", "table": "t", "where": "secret = 'x'"}))["code"],
        "unknown_column"
    );
    database.sql("INSERT INTO t VALUES (1, 'x', 2)");
    assert_eq!(
        seen(&mut client),
        ["all", "a"].map(|id| change(id, "insert", json!({"id": 1, "a": 2})))
    );
    database.sql("ALTER PUBLICATION pub SET TABLE t (id, secret)");
    database.sql("UPDATE t SET secret = 'y'");
    let error = client.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("a"), &json!("schema_changed"))
    );
    assert!(error["message"].as_str().unwrap().contains("\"a\""), "{error}");
    assert_eq!(
        seen(&mut client),
        [change("all", "update", json!({"id": 1, "secret": "y"}))]
    );
    // Without a list there are all columns, but for generated ones on servers before 18.
    database.sql("ALTER PUBLICATION pub SET TABLE t");
    database.sql("UPDATE t SET secret = 'z'");
    assert_eq!(
        seen(&mut client),
        [change("all", "update", json!({"id": 1, "secret": "z", "a": 2}))]
    );
    if database.value("SELECT current_setting('server_version_num')::int >= 180000") == "t" {
        database.sql("ALTER PUBLICATION pub SET (publish_generated_columns = stored)");
        database.sql("UPDATE t SET a = 3");
        assert_eq!(
            seen(&mut client),
            [change(
                "all",
                "update",
                json!({"id": 1, "secret": "z", "a": 3, "twice": 6})
            )]
        );
    } else {
        eprintln!("the server is older than 18: it publishes no generated columns");
    }
}

#[test]
fn a_row_filter_makes_rows_come_and_go_and_can_change() {
    if is_before(150_000) {
        return;
    }
    let (database, walcast, _setup) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY FULL;
         CREATE PUBLICATION pub FOR TABLE t WHERE (v > 10);",
    );
    let mut client = of(&walcast, &["t"]);
    database.sql("INSERT INTO t VALUES (1, 1), (2, 20)");
    assert_eq!(
        seen(&mut client),
        [change("t", "insert", json!({"id": 2, "v": 20}))]
    );
    database.sql("UPDATE t SET v = v + 15");
    assert_eq!(
        seen(&mut client),
        [
            change("t", "insert", json!({"id": 1, "v": 16})),
            change("t", "update", json!({"id": 2, "v": 35})),
        ]
    );
    database.sql("UPDATE t SET v = 0 WHERE id = 1; DELETE FROM t WHERE id = 1");
    assert_eq!(seen(&mut client), [change("t", "delete", json!({"id": 1}))]);
    // Rows that a new filter lets in or keeps out are not told of, their changes are.
    database.sql("ALTER PUBLICATION pub SET TABLE t WHERE (v < 10)");
    database.sql("INSERT INTO t VALUES (3, 3), (4, 40)");
    assert_eq!(
        seen(&mut client),
        [change("t", "insert", json!({"id": 3, "v": 3}))]
    );
    // A truncate is for everybody.
    database.sql("TRUNCATE t");
    assert_eq!(seen(&mut client), [change("t", "truncate", Value::Null)]);
}

#[test]
fn the_operations_of_a_publication_can_change_while_rows_are_written() {
    let (database, walcast, _setup) = serve(
        "CREATE TABLE t (id int PRIMARY KEY, v int); CREATE PUBLICATION pub FOR TABLE t WITH (publish = 'insert, delete');",
    );
    let mut client = of(&walcast, &["t"]);
    database
        .sql("INSERT INTO t VALUES (1, 1); UPDATE t SET v = 2; DELETE FROM t; INSERT INTO t VALUES (2, 2)");
    assert_eq!(
        seen(&mut client),
        [
            change("t", "insert", json!({"id": 1, "v": 1})),
            change("t", "delete", json!({"id": 1})),
            change("t", "insert", json!({"id": 2, "v": 2})),
        ]
    );
    database.sql("ALTER PUBLICATION pub SET (publish = 'update, truncate')");
    database.sql("INSERT INTO t VALUES (3, 3); UPDATE t SET v = 4 WHERE id = 2; DELETE FROM t WHERE id = 3");
    assert_eq!(
        seen(&mut client),
        [change("t", "update", json!({"id": 2, "v": 4}))]
    );
    database.sql("TRUNCATE t");
    assert_eq!(seen(&mut client), [change("t", "truncate", Value::Null)]);
}

#[test]
fn a_table_comes_into_a_publication_and_leaves_it_inside_a_transaction() {
    let (database, walcast, _setup) = serve(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE late (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t;",
    );
    let mut client = of(&walcast, &["t"]);
    database.sql(
        "BEGIN; INSERT INTO t VALUES (1); INSERT INTO late VALUES (1); ALTER PUBLICATION pub ADD TABLE late;
         INSERT INTO late VALUES (2); COMMIT",
    );
    assert_eq!(seen(&mut client), [change("t", "insert", json!({"id": 1}))]);
    eventually("the table is known", || {
        client.send(&json!({"type": "subscribe", "id": "late", "table": "late", "from": "earliest"}));
        (client.next()["type"] == "subscribed").then_some(())
    });
    assert_eq!(seen(&mut client), [change("late", "insert", json!({"id": 2}))]);
    client.expect("live");
    // From another session, while a transaction is open.
    let mut open = database.connect();
    open.query("BEGIN").unwrap();
    open.query("INSERT INTO late VALUES (3)").unwrap();
    open.query("INSERT INTO t VALUES (3)").unwrap();
    database.sql("CREATE TABLE other (id int PRIMARY KEY); ALTER PUBLICATION pub ADD TABLE other");
    open.query("INSERT INTO other VALUES (3)").unwrap();
    open.query("ALTER PUBLICATION pub DROP TABLE late").unwrap();
    open.query("INSERT INTO late VALUES (4)").unwrap();
    open.query("INSERT INTO t VALUES (4)").unwrap();
    open.query("COMMIT").unwrap();
    assert_eq!(
        seen(&mut client),
        [
            change("late", "insert", json!({"id": 3})),
            change("t", "insert", json!({"id": 3})),
            change("t", "insert", json!({"id": 4})),
        ]
    );
    let error = client.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("late"), &json!("schema_changed"))
    );
}

#[test]
fn a_publication_may_have_any_name_that_postgres_takes() {
    let names = ["a,b", "say \"hi\"", " x ", "Größe; --", "c"];
    let database = Database::new("");
    for (at, name) in names.iter().enumerate() {
        let quoted = walcast::postgres::quote_identifier(name);
        database.sql(&format!(
            "CREATE TABLE t{at} (id int PRIMARY KEY); CREATE PUBLICATION {quoted} FOR TABLE t{at}"
        ));
    }
    // As one list, and each by itself.
    let quoted = names.map(walcast::postgres::quote_identifier);
    let list = quoted.join(",");
    for given in [vec![&*list], quoted.iter().map(|name| &**name).collect()] {
        let setup = Setup::new(&database).publications(&given);
        let walcast = setup.start();
        let tables = ["t0", "t1", "t2", "t3", "t4"];
        let mut client = of(&walcast, &tables);
        for table in tables {
            database.sql(&format!("INSERT INTO {table} VALUES (1)"));
            assert_eq!(seen(&mut client), [change(table, "insert", json!({"id": 1}))]);
            database.sql(&format!("DELETE FROM {table}"));
            client.changes();
        }
        assert!(walcast.stop().success());
    }
}

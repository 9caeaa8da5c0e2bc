//! Rows that only a snapshot could read, or only the stream would bring: neither is in a live query, or it says so.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, eventually, has_wal2json, left_out};

/// The rows of a snapshot, and what the answer to the subscription was.
fn snapshot(client: &mut Client, id: &str, table: &str) -> (Value, Vec<Value>) {
    client.send(&json!({"type": "subscribe", "id": id, "table": table, "snapshot": true}));
    let subscribed = client.expect("subscribed");
    let mut rows = Vec::new();
    loop {
        let message = client.next();
        match message["type"].as_str() {
            Some("snapshot") => rows.extend(message["rows"].as_array().unwrap().iter().cloned()),
            Some("live") => break,
            _ => panic!("{message}"),
        }
    }
    rows.sort_by_key(ToString::to_string);
    (subscribed, rows)
}

fn warnings(subscribed: &Value) -> String {
    subscribed["warnings"].to_string()
}

#[test]
fn rows_of_partitions_that_log_nothing_are_in_no_snapshot() {
    let database = Database::new(
        "CREATE TABLE root (id int, area text) PARTITION BY LIST (area);
         CREATE TABLE logged PARTITION OF root FOR VALUES IN ('l'); ALTER TABLE logged REPLICA IDENTITY FULL;
         CREATE UNLOGGED TABLE unlogged PARTITION OF root FOR VALUES IN ('u');
         CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root = true);
         INSERT INTO root VALUES (1, 'l'), (2, 'u')",
    );
    let foreign = database.connect().query(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE elsewhere PARTITION OF root FOR VALUES IN ('f')
         SERVER files OPTIONS (program 'echo 3,f', format 'csv')",
    );
    match &foreign {
        Ok(_) => assert_eq!(database.value("SELECT count(*) FROM root"), "3"),
        Err(error) => left_out("foreign partitions", &error.to_string()),
    }
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    let (subscribed, rows) = snapshot(&mut client, "r", "root");
    assert_eq!(rows, [json!({"id": 1, "area": "l"})]);
    let warnings = warnings(&subscribed);
    assert!(
        warnings.contains("foreign and unlogged tables log no changes"),
        "{warnings}"
    );
    database.sql("UPDATE root SET id = id + 10 WHERE area <> 'f'; INSERT INTO root VALUES (4, 'l')");
    let changes = client.changes();
    assert_eq!(changes.len(), 2, "{changes:?}");
}

#[test]
fn foreign_partitions_are_not_read_for_a_snapshot() {
    let database = Database::new(
        "CREATE TABLE root (id int, area text, v text) PARTITION BY LIST (area);
         CREATE TABLE mid PARTITION OF root FOR VALUES IN ('l', 'm', 'u') PARTITION BY LIST (area);
         CREATE TABLE \"Logged\" PARTITION OF mid FOR VALUES IN ('l'); ALTER TABLE \"Logged\" REPLICA IDENTITY FULL;
         CREATE TABLE other (v text, area text, id int); ALTER TABLE other REPLICA IDENTITY FULL;
         ALTER TABLE mid ATTACH PARTITION other FOR VALUES IN ('m');
         CREATE UNLOGGED TABLE unlogged PARTITION OF mid FOR VALUES IN ('u');
         CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root = true);
         INSERT INTO root VALUES (1, 'l', 'x'), (2, 'u', 'x'), (3, 'm', 'x'), (4, 'm', 'y')",
    );
    let foreign = database.connect().query(
        "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
         CREATE FOREIGN TABLE gone PARTITION OF root FOR VALUES IN ('g')
             SERVER files OPTIONS (filename '/nowhere', format 'csv');
         CREATE FOREIGN TABLE failing PARTITION OF root FOR VALUES IN ('f')
             SERVER files OPTIONS (program 'false', format 'csv')",
    );
    if let Err(error) = foreign {
        return left_out("foreign partitions", &error.to_string());
    }
    let read = database.connect().query("SELECT FROM root");
    assert!(read.is_err(), "whoever reads them fails");
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    let (_, rows) = snapshot(&mut client, "r", "root");
    let expected = [(1, "l", "x"), (3, "m", "x"), (4, "m", "y")];
    assert_eq!(
        rows,
        expected.map(|(id, area, v)| json!({"id": id, "area": area, "v": v}))
    );
    client.send(&json!({"type": "subscribe", "id": "s", "table": "root", "columns": ["id"], "where": "v = 'x' AND area <> 'l'", "snapshot": true}));
    client.expect("subscribed");
    assert_eq!(client.expect("snapshot")["rows"], json!([{"id": 3}]));
}

#[test]
fn a_partition_that_logs_nothing_is_no_table_of_the_publication() {
    let database = Database::new(
        "CREATE TABLE root (id int, area text, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
         CREATE TABLE logged PARTITION OF root FOR VALUES IN ('l');
         CREATE UNLOGGED TABLE unlogged PARTITION OF root FOR VALUES IN ('u'); CREATE PUBLICATION pub FOR TABLE root;",
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    let refused = client.subscribe_refused(json!({"id": "u", "table": "unlogged"}));
    assert_eq!(refused["code"], "unknown_table");
    client.subscribe_live(json!({"id": "l", "table": "logged"}));
}

#[test]
fn a_partition_that_is_published_by_itself_and_by_its_root_comes_as_its_root() {
    let database = Database::new(
        "CREATE TABLE root (id int, area text, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
         CREATE TABLE leaf PARTITION OF root FOR VALUES IN ('a');
         CREATE PUBLICATION pub FOR TABLE leaf;
         CREATE PUBLICATION by_root FOR TABLE root WITH (publish_via_partition_root = true);",
    );
    for publications in [["pub", "by_root"], ["by_root", "pub"]] {
        let setup = Setup::new(&database)
            .publications(&publications)
            .on_slot(&format!("{}_{}", database.name, publications[0]));
        let walcast = setup.start();
        let mut client = walcast.connect();
        let unknown = |client: &mut Client| {
            let refused = client.subscribe_refused(json!({"id": "l", "table": "leaf"}));
            assert_eq!(refused["code"], "unknown_table");
        };
        unknown(&mut client);
        client.subscribe_live(json!({"id": "r", "table": "root"}));
        database.sql("INSERT INTO root VALUES (1, 'a')");
        assert_eq!(client.change()["id"], "r");
        // The stream has described it by now, as it does everything that it reads.
        unknown(&mut client);
        database.sql("DELETE FROM leaf");
        assert_eq!(client.change()["key"], json!({"id": 1, "area": "a"}));
    }
}

#[test]
fn operations_that_publications_have_of_partitions_alone_come_as_the_roots_and_are_reckoned_with() {
    of_partitions_alone("pgoutput");
    if has_wal2json() {
        of_partitions_alone("wal2json");
    }
}

fn of_partitions_alone(plugin: &str) {
    let database = Database::new(
        "CREATE TABLE keyed (id int, area text, v int, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
         CREATE TABLE keyed_a PARTITION OF keyed FOR VALUES IN ('a');
         CREATE TABLE keyed_b PARTITION OF keyed FOR VALUES IN ('b');
         CREATE TABLE keyless (id int, area text) PARTITION BY LIST (area);
         CREATE TABLE keyless_a PARTITION OF keyless FOR VALUES IN ('a'); ALTER TABLE keyless_a ADD PRIMARY KEY (id);
         INSERT INTO keyed VALUES (1, 'a', 1), (2, 'b', 1);
         CREATE PUBLICATION pub FOR TABLE keyed, keyless WITH (publish_via_partition_root = true, publish = 'insert');
         CREATE PUBLICATION parts FOR TABLE keyed_a, keyless_a WITH (publish = 'insert, update, delete')",
    );
    let setup = Setup::new(&database)
        .flag("--plugin", plugin)
        .publications(&["pub", "parts"]);
    let walcast = setup.start();
    let mut client = walcast.connect();
    for query in [
        json!({"id": "k", "table": "keyed", "where": "v = 1"}),
        json!({"id": "l", "table": "keyless", "undecided": "send"}),
    ] {
        let refused = client.subscribe_refused(query);
        assert_eq!(refused["code"], "replica_identity", "{refused}");
    }
    client.subscribe_live(json!({"id": "i", "table": "keyless", "ops": ["insert"]}));
    let subscribed =
        client.subscribe_live(json!({"id": "k", "table": "keyed", "where": "v = 1", "undecided": "send"}));
    let said = warnings(&subscribed);
    assert!(
        said.contains("leave out update, delete of some partitions") && said.contains("leave out truncate:"),
        "{said}"
    );
    database.sql("UPDATE keyed SET v = 2");
    assert_eq!(
        client.change(),
        json!({"id": "k", "seq": 0, "op": "delete", "cause": "update", "key": {"id": 1, "area": "a"}})
    );
    database.sql(
        "INSERT INTO keyless VALUES (1, 'a'); UPDATE keyless SET id = 2; INSERT INTO keyless VALUES (3, 'a')",
    );
    let rows: Vec<Value> = client
        .changes()
        .iter()
        .map(|change| change["row"]["id"].clone())
        .collect();
    assert_eq!(rows, [1, 3]);
}

#[test]
fn what_publications_filter_by_operation_is_read_as_what_all_of_them_let_through() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, v int); ALTER TABLE t REPLICA IDENTITY FULL;
         INSERT INTO t VALUES (1, 1), (2, 20)",
    );
    if database.value("SELECT current_setting('server_version_num')::int >= 150000") != "t" {
        return left_out("row filters", "they came with version 15");
    }
    database.sql(
        "CREATE PUBLICATION pub FOR TABLE t WITH (publish = 'insert, truncate');
         CREATE PUBLICATION filtered FOR TABLE t WHERE (v > 10) WITH (publish = 'update, delete')",
    );
    let setup = Setup::new(&database).publications(&["pub", "filtered"]);
    let walcast = setup.start();
    let mut client = walcast.connect();
    let (subscribed, rows) = snapshot(&mut client, "t", "t");
    assert_eq!(rows, [json!({"id": 2, "v": 20})]);
    let said = warnings(&subscribed);
    assert!(
        said.contains("different row filters for inserts, updates and deletes"),
        "{said}"
    );
    // The row that was left out comes as soon as it is told of.
    database.sql("UPDATE t SET v = 11 WHERE id = 1");
    assert_eq!(client.change()["row"], json!({"id": 1, "v": 11}));
    database.sql("ALTER PUBLICATION filtered SET TABLE t");
    eventually("the change of the filter is known", || {
        let (subscribed, rows) = snapshot(&mut walcast.connect(), "again", "t");
        (subscribed["warnings"] == json!([])).then(|| assert_eq!(rows.len(), 2))
    });
}

#[test]
fn rows_of_tables_that_inherit_are_their_own() {
    let database = Database::new(
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
         CREATE PUBLICATION pub FOR TABLE ONLY parent; INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2)",
    );
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    assert_eq!(snapshot(&mut client, "p", "parent").1, [json!({"id": 1})]);
    assert_eq!(
        client.subscribe_refused(json!({"id": "c", "table": "child"}))["code"],
        "unknown_table"
    );
    database.sql("INSERT INTO child VALUES (3); UPDATE parent SET id = id + 10");
    assert_eq!(client.change()["row"], json!({"id": 11}));
}

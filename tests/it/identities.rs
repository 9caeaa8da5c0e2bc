//! The part of old rows that the log holds, which each table that writes them decides, and the words for it.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually, has_wal2json};

/// True if the server is older than what a test is about, which it then says.
fn is_before(version: u32) -> bool {
    let found = Database::new("SELECT 1").value("SELECT current_setting('server_version_num')");
    let is_before = found.parse::<u32>().unwrap() < version;
    if is_before {
        eprintln!("left out: the server is {found}, and this needs {version}");
    }
    is_before
}

fn serve(schema: &str) -> (Database, Walcast, Setup) {
    serve_by("pgoutput", schema)
}

fn serve_by(plugin: &str, schema: &str) -> (Database, Walcast, Setup) {
    let database = Database::new(schema);
    let setup = Setup::new(&database).flag("--plugin", plugin);
    (database, setup.start(), setup)
}

/// The cure that a warning or an error names, without what it says of it.
fn cure(text: &str) -> String {
    let (_, cure) = text
        .split_once("fix: ")
        .unwrap_or_else(|| panic!("no cure in {text:?}"));
    cure.split("  --").next().unwrap().to_owned()
}

/// Subscribes with these further fields, and waits for it to be live.
fn open(client: &mut Client, id: &str, fields: Value) -> Value {
    let mut subscribe = json!({"id": id, "table": "root", "strict": false});
    for (name, value) in fields.as_object().unwrap() {
        subscribe[name] = value.clone();
    }
    client.subscribe_live(subscribe)
}

/// Nulls in what a change says of an old row.
fn nulls(change: &Value) -> Vec<&str> {
    let of = |name: &str| {
        change
            .get(name)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    let values = of("old").into_iter().chain(of("key"));
    values
        .filter(|(_, value)| value.is_null())
        .map(|(name, _)| name.as_str())
        .collect()
}

const BY_ROOT: &str = "
    CREATE TABLE root (id int, area text, state text, note text, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
    CREATE TABLE whole PARTITION OF root FOR VALUES IN ('w');
    ALTER TABLE root REPLICA IDENTITY FULL; ALTER TABLE whole REPLICA IDENTITY FULL;
    CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root = true);";

#[test]
fn a_partition_s_own_identity_decides_what_is_known_of_its_rows() {
    by_its_own_identity("pgoutput");
}

fn by_its_own_identity(plugin: &str) {
    let (database, walcast, _setup) = serve_by(
        plugin,
        &format!(
            "{BY_ROOT} CREATE TABLE later PARTITION OF root FOR VALUES IN ('l');
         INSERT INTO root VALUES (1, 'w', 'open', NULL), (2, 'l', 'open', 'x'), (3, 'l', 'done', NULL)"
        ),
    );
    let mut client = walcast.connect();
    let open_rows = json!({"where": "state = 'open'", "old": true});
    let subscribed = open(&mut client, "o", open_rows.clone());
    assert_eq!(subscribed["replica_identity"], "default", "{subscribed}");
    assert_eq!(subscribed["key"], json!(["id", "area"]));
    let warning = subscribed["warnings"][0].as_str().unwrap().to_owned();
    let mut strict = walcast.connect();
    let refused = strict
        .subscribe_refused(json!({"id": "s", "table": "root", "where": "state = 'open'", "strict": true}));
    assert_eq!(refused["code"], "replica_identity");
    // Of a partition that logs whole rows all is known, whatever the others do.
    database.sql("UPDATE root SET note = 'n' WHERE id = 1");
    let change = client.change();
    assert_eq!(
        change["old"],
        json!({"id": 1, "area": "w", "state": "open", "note": null}),
        "{change}"
    );
    database.sql("UPDATE root SET state = 'done' WHERE id = 1");
    let change = client.change();
    assert_eq!(
        (&change["op"], &change["cause"]),
        (&json!("delete"), &json!("update"))
    );
    // Of the other no more than the key, and what is not logged is not null.
    database.sql("DELETE FROM root WHERE id = 2");
    let change = client.change();
    assert_eq!(
        (&change["op"], &change["key"]),
        (&json!("delete"), &json!({"id": 2, "area": "l"}))
    );
    assert_eq!(nulls(&change), Vec::<&str>::new(), "{change}");
    // A key that changes.
    database.sql("UPDATE root SET id = 30, state = 'open' WHERE id = 3");
    let change = client.change();
    assert_eq!(nulls(&change), Vec::<&str>::new(), "{change}");
    assert_eq!(change["key"], json!({"id": 3, "area": "l"}), "{change}");
    // The cure is one for all partitions. The subscription that it makes possible knows all from then on.
    database.sql(&cure(&warning));
    eventually("the cure is known", || {
        let mut client = walcast.connect();
        client.send(&json!({"type": "subscribe", "id": "s", "table": "root", "where": "state = 'open'", "strict": true}));
        (client.next()["type"] == "subscribed").then_some(())
    });
    let mut strict = walcast.connect();
    let subscribed = strict.subscribe_live(
        json!({"id": "s", "table": "root", "where": "state = 'open'", "strict": true, "old": true}),
    );
    assert_eq!(subscribed["replica_identity"], "full");
    // Of identities there is nothing to be said any more.
    let warnings = subscribed["warnings"].as_array().unwrap();
    assert!(
        warnings.len() == 1 && warnings[0].as_str().unwrap().contains("with a whole partition"),
        "{warnings:?}"
    );
    database.sql("UPDATE root SET state = 'done' WHERE id = 30");
    let change = strict.change();
    assert_eq!(
        (&change["op"], &change["cause"]),
        (&json!("delete"), &json!("update"))
    );
    assert_eq!(
        change["old"],
        json!({"id": 30, "area": "l", "state": "open", "note": null})
    );
    // The next partition does not inherit it, and a query that must know everything ends at its first row.
    database.sql("CREATE TABLE next PARTITION OF root FOR VALUES IN ('n'); INSERT INTO root VALUES (4, 'n', 'open', NULL)");
    let error = strict.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("s"), &json!("replica_identity")),
        "{error}"
    );
}

#[test]
fn a_key_that_not_every_partition_logs_is_none() {
    by_a_key_of_some("pgoutput");
}

fn by_a_key_of_some(plugin: &str) {
    let (database, walcast, _setup) = serve_by(
        plugin,
        "CREATE TABLE root (id int, area text, code int NOT NULL, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
         CREATE UNIQUE INDEX codes ON root (code, area);
         CREATE TABLE a PARTITION OF root FOR VALUES IN ('a'); ALTER TABLE root REPLICA IDENTITY USING INDEX codes;
         CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root = true);
         INSERT INTO root VALUES (1, 'a', 10), (2, 'a', 20)",
    );
    let mut client = walcast.connect();
    let subscribed = open(&mut client, "r", json!({"old": true}));
    assert_eq!(subscribed["key"], json!(["id", "area"]), "{subscribed}");
    database.sql("UPDATE root SET code = 11 WHERE id = 1; DELETE FROM root WHERE id = 2");
    let changes = client.changes();
    assert_eq!(changes[0]["row"], json!({"id": 1, "area": "a", "code": 11}));
    let deleted = &changes[1];
    assert_eq!(deleted["key"], json!({"id": 2, "area": "a"}), "{deleted}");
    assert_eq!(nulls(deleted), Vec::<&str>::new(), "{deleted}");
    // Once all log the index's columns, they are the key.
    let index = database.value(
        "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'a'::regclass AND NOT indisprimary",
    );
    database.sql(&format!(
        "ALTER TABLE a REPLICA IDENTITY USING INDEX {index}; UPDATE root SET code = 12"
    ));
    let error = client.error();
    assert_eq!(
        (&error["id"], &error["code"]),
        (&json!("r"), &json!("schema_changed")),
        "{error}"
    );
    // The stream's description of the table ended it, before the transaction that the description came with is told.
    client.comes_up_to(database.written());
    let subscribed = open(&mut client, "again", json!({}));
    assert_eq!(
        (&subscribed["key"], &subscribed["replica_identity"]),
        (&json!(["code", "area"]), &json!("index"))
    );
    database.sql("DELETE FROM root");
    assert_eq!(client.change()["key"], json!({"code": 12, "area": "a"}));
}

#[test]
fn changes_that_do_not_tell_their_row_are_refused_and_never_sent() {
    by_no_identity("pgoutput");
}

fn by_no_identity(plugin: &str) {
    let (database, walcast, _setup) = serve_by(
        plugin,
        "CREATE TABLE root (id int, area text) PARTITION BY LIST (area);
         CREATE TABLE a PARTITION OF root FOR VALUES IN ('a'); ALTER TABLE a ADD PRIMARY KEY (id);
         CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root = true);",
    );
    let mut client = walcast.connect();
    let refused = client.subscribe_refused(json!({"id": "r", "table": "root", "strict": false}));
    assert_eq!(refused["code"], "replica_identity", "{refused}");
    let cure = cure(refused["message"].as_str().unwrap());
    open(&mut client, "i", json!({"ops": ["insert"]}));
    database.sql("INSERT INTO root VALUES (1, 'a'); DELETE FROM root; INSERT INTO root VALUES (2, 'a')");
    let inserted: Vec<Value> = client
        .changes()
        .iter()
        .map(|change| change["row"]["id"].clone())
        .collect();
    assert_eq!(inserted, [1, 2]);
    database.sql(&cure);
    let mut client = eventually("the cure is known", || {
        let mut client = walcast.connect();
        client.send(&json!({"type": "subscribe", "id": "r", "table": "root"}));
        (client.next()["type"] == "subscribed").then_some(client)
    });
    client.expect("live");
    database.sql("UPDATE root SET id = 3; DELETE FROM root");
    let changes = client.changes();
    let olds: Vec<_> = changes
        .iter()
        .map(|change| (&change["op"], &change["old"]))
        .collect();
    assert_eq!(
        olds,
        [
            (&json!("update"), &json!({"id": 2, "area": "a"})),
            (&json!("delete"), &json!({"id": 3, "area": "a"})),
        ]
    );
}

#[test]
fn a_weak_partition_that_goes_leaves_the_others_whole() {
    let (database, walcast, _setup) = serve(&format!(
        "{BY_ROOT} CREATE TABLE weak PARTITION OF root FOR VALUES IN ('k')"
    ));
    let mut client = walcast.connect();
    open(&mut client, "o", json!({"where": "state = 'open'"}));
    database.sql("INSERT INTO root VALUES (1, 'w', 'open', NULL), (2, 'k', 'open', NULL)");
    assert_eq!(client.changes().len(), 2);
    database.sql("ALTER TABLE root DETACH PARTITION weak");
    let mut strict = eventually("the partition is gone", || {
        let mut client = walcast.connect();
        client.send(&json!({"type": "subscribe", "id": "s", "table": "root", "where": "state = 'open'", "strict": true}));
        let is_live = client.next()["type"] == "subscribed" && client.next()["type"] == "live";
        is_live.then_some(client)
    });
    // The server says nothing of it to the stream, which finds out all the same.
    let change = eventually("the stream knows it", || {
        database.sql("UPDATE root SET note = coalesce(note, '') || 'x' WHERE id = 1");
        match strict.next() {
            tx if tx["type"] == "tx" => Some(tx),
            ended => {
                assert_eq!(ended["code"], "replica_identity", "{ended}");
                strict = walcast.connect();
                strict.send(&json!({"type": "subscribe", "id": "s", "table": "root", "where": "state = 'open'", "strict": true}));
                strict.next();
                strict.next();
                None
            }
        }
    });
    assert_eq!(change["changes"][0]["op"], "update", "{change}");
    database.sql("UPDATE root SET state = 'done' WHERE id = 1");
    assert_eq!(strict.change()["op"], "delete");
}

#[test]
fn a_generated_column_of_the_key_is_the_same_to_the_catalog_and_to_the_stream() {
    let (database, walcast, setup) = serve(
        "CREATE TABLE root (url text, host text GENERATED ALWAYS AS (substr(url, 1, 2)) STORED, n int, PRIMARY KEY (url, host));
         CREATE PUBLICATION pub FOR TABLE root; INSERT INTO root VALUES ('abc', DEFAULT, 1)",
    );
    let version: u32 = database.value("SHOW server_version_num").parse().unwrap();
    let mut client = walcast.connect();
    let refused = client.subscribe_refused(json!({"id": "r", "table": "root", "strict": false}));
    assert_eq!(refused["code"], "replica_identity", "{refused}");
    open(&mut client, "i", json!({"ops": ["insert"]}));
    for n in [1, 2] {
        database.sql(&format!("INSERT INTO root VALUES ('x{n}', DEFAULT, {n})"));
        assert_eq!(client.change()["row"]["n"], n);
    }
    // With the cure, and also after a start, where everything is described anew.
    database.sql(&cure(refused["message"].as_str().unwrap()));
    drop((client, walcast));
    let walcast = setup.start();
    let mut client = walcast.connect();
    let subscribed = open(&mut client, "r", json!({}));
    database.sql("INSERT INTO root VALUES ('y', DEFAULT, 3); UPDATE root SET n = 9 WHERE url = 'y'; DELETE FROM root WHERE url = 'y'");
    let changes = client.changes();
    let ops: Vec<&Value> = changes.iter().map(|change| &change["op"]).collect();
    assert_eq!(ops, ["insert", "update", "delete"]);
    let deleted = &changes[2];
    if version >= 180_000 {
        assert_eq!(subscribed["key"], json!(["url", "host"]));
        assert_eq!(deleted["key"], json!({"url": "y", "host": "y"}));
    } else {
        assert_eq!(subscribed["key"], json!([]));
        assert_eq!(deleted["old"], json!({"url": "y", "n": 9}));
    }
}

#[test]
fn a_publication_of_inserts_without_a_part_of_the_key_has_none() {
    if is_before(150_000) {
        return;
    }
    let (database, walcast, setup) = serve(
        "CREATE TABLE root (a int, b int, c int, PRIMARY KEY (a, b));
         CREATE PUBLICATION pub FOR TABLE root (a, c) WITH (publish = 'insert');",
    );
    let mut walcast = walcast;
    for _ in 0..2 {
        let mut client = walcast.connect();
        let subscribed = open(&mut client, "r", json!({}));
        assert_eq!(subscribed["key"], json!([]));
        let warnings = subscribed["warnings"].to_string();
        assert!(
            warnings.contains("leave out update, delete, truncate"),
            "{warnings}"
        );
        database.sql("DELETE FROM root; INSERT INTO root VALUES (1, 2, 3); UPDATE root SET c = 4");
        assert_eq!(client.change()["row"], json!({"a": 1, "c": 3}));
        walcast.kill();
        walcast = setup.start();
    }
}

#[test]
fn a_subscription_says_that_the_application_s_writes_fail() {
    let (database, walcast, _setup) = serve(
        "CREATE TABLE root (id int PRIMARY KEY, code int NOT NULL); CREATE UNIQUE INDEX codes ON root (code);
         ALTER TABLE root REPLICA IDENTITY USING INDEX codes; CREATE PUBLICATION pub FOR TABLE root;
         INSERT INTO root VALUES (1, 1); DROP INDEX codes;",
    );
    assert!(database.connect().query("UPDATE root SET code = 2").is_err());
    let mut client = walcast.connect();
    let subscribed = open(&mut client, "r", json!({}));
    let warnings = subscribed["warnings"].to_string();
    assert!(
        warnings.contains("UPDATE and DELETE fail: published without a replica identity"),
        "{warnings}"
    );
    database.sql("ALTER TABLE root REPLICA IDENTITY DEFAULT; UPDATE root SET code = 2");
    assert_eq!(client.change()["row"], json!({"id": 1, "code": 2}));
    assert_eq!(open(&mut client, "again", json!({}))["warnings"], json!([]));
}

#[test]
fn with_wal2json_a_partition_s_own_identity_decides_too() {
    if has_wal2json() {
        by_its_own_identity("wal2json");
        by_a_key_of_some("wal2json");
        by_no_identity("wal2json");
    }
}

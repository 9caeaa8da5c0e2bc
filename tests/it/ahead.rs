//! Tables that the stream describes for the first time, many at once: the catalogs are asked for them together, and
//! every row is read as if they had been asked for it alone.

use serde_json::{Value, json};

use crate::support::{Client, Database, Setup, Walcast, eventually, eventually_equal};

/// The number of partitions.
const PARTITIONS: usize = 2000;
/// For so many of them one question is to be enough, at least. (Asked for one by one, each takes two or more.)
const FOR_ONE_QUESTION: usize = 5;

/// Waits until everything that is written is in the journal.
fn catches_up(database: &Database, walcast: &Walcast) {
    let written = database.written();
    eventually("it has come up", || {
        let position = walcast.connect().hello["position"].as_str().unwrap().parse();
        (position.is_ok_and(|position: walcast::lsn::Lsn| position >= written)).then_some(())
    });
}

/// The rows that a subscription from the beginning on has brought, in order.
fn rows(client: &mut Client, subscribe: Value, count: usize) -> Vec<Value> {
    client.subscribe(subscribe);
    let mut rows = Vec::new();
    while rows.len() < count {
        let tx = client.expect("tx");
        let changes = tx["changes"].as_array().unwrap();
        rows.extend(changes.iter().map(|change| change["row"].clone()));
    }
    rows
}

#[test]
fn tables_that_are_described_together_are_asked_for_together() {
    for by_root in [true, false] {
        let database = Database::new(&format!(
            "CREATE TABLE root (id int PRIMARY KEY, note text) PARTITION BY LIST (id);
             CREATE PUBLICATION pub FOR TABLE root WITH (publish_via_partition_root = {by_root})"
        ));
        // A transaction cannot hold so many locks.
        database.sql(&format!(
            "CREATE PROCEDURE for_each(what text) LANGUAGE plpgsql AS $$ BEGIN
                 FOR i IN 1..{PARTITIONS} LOOP EXECUTE replace(what, '#', i::text); COMMIT; END LOOP;
             END $$"
        ));
        database.sql("CALL for_each('CREATE TABLE p# PARTITION OF root FOR VALUES IN (#)')");
        let setup = Setup::new(&database);
        let writes = [
            "CALL for_each('INSERT INTO root VALUES (#, ''in a transaction of its own'')')",
            &format!("UPDATE root SET note = 'in one' WHERE id <= {}", PARTITIONS / 2),
        ];
        for write in writes {
            // A new connection knows nothing of any.
            let walcast = setup.start();
            let before = walcast.metric("catalog_questions_total");
            walcast.pause(true);
            database.sql(write);
            walcast.pause(false);
            catches_up(&database, &walcast);
            let asked = walcast.metric("catalog_questions_total") - before;
            let most = (PARTITIONS / FOR_ONE_QUESTION) as f64;
            assert!(
                asked <= most,
                "{asked} questions for {write:?}, by_root: {by_root}"
            );
            assert!(asked > 0.0);
            assert!(walcast.stop().success());
        }
        let walcast = setup.start();
        let mut client = walcast.connect();
        let select = "SELECT * FROM root ORDER BY id";
        let updated = PARTITIONS / 2;
        let expected = database.rows(select);
        if by_root {
            let subscribe = json!({"id": "s", "table": "root", "from": "earliest"});
            let mut rows = rows(&mut client, subscribe, PARTITIONS + updated);
            let mut last: Vec<Value> = rows.split_off(PARTITIONS);
            last.extend(rows.split_off(updated));
            last.sort_by_key(|row| row["id"].as_u64());
            assert_eq!(last, expected);
        } else {
            for id in (1..=PARTITIONS).step_by(PARTITIONS / 40) {
                let table = format!("p{id}");
                let count = if id <= updated { 2 } else { 1 };
                let subscribe = json!({"id": &table, "table": &table, "from": "earliest"});
                assert_eq!(
                    rows(&mut client, subscribe, count).last(),
                    expected.get(id - 1),
                    "{table}"
                );
                client.unsubscribe(&table);
            }
        }
    }
}

#[test]
fn tables_that_a_transaction_describes_while_it_runs_are_asked_for_together() {
    let database = Database::new("CREATE PUBLICATION pub FOR ALL TABLES");
    let name = &database.name;
    database.sql(&format!(
        "ALTER DATABASE {name} SET logical_decoding_work_mem = '64kB'"
    ));
    let walcast = Setup::new(&database).start();
    let before = walcast.metric("catalog_questions_total");
    // They are made in it, too: nobody knows them before.
    let mut session = database.connect();
    session
        .query(
            "BEGIN;
             DO $$ BEGIN FOR i IN 1..200 LOOP
                 EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, note text)', i);
                 EXECUTE format('INSERT INTO t%s SELECT g, repeat(''x'', 100) FROM generate_series(1, 20) g', i);
             END LOOP; END $$",
        )
        .unwrap();
    eventually("parts of it have come", || {
        (walcast.metric("spooled_transactions") == 1.0).then_some(())
    });
    session.query("COMMIT").unwrap();
    catches_up(&database, &walcast);
    eventually_equal("it is counted", 1.0, || {
        walcast.metric("transactions_streamed_total")
    });
    let asked = walcast.metric("catalog_questions_total") - before;
    assert!(asked <= 20.0, "{asked} questions");
    for table in ["t1", "t77", "t200"] {
        let mut client = walcast.connect();
        let subscribe = json!({"id": table, "table": table, "from": "earliest"});
        let expected = database.rows(&format!("SELECT * FROM {table} ORDER BY id"));
        assert_eq!(rows(&mut client, subscribe, 20), expected);
    }
}

/// Changes of tables between their rows. `#` stands for each of ten tables of that kind.
const STEPS: &[&str] = &[
    "INSERT INTO plain# VALUES (1, 'a', 'b', 1); INSERT INTO added# VALUES (1, 'a', 'b', 1);
     INSERT INTO swapped# VALUES (1, 'a', 'b', 1); INSERT INTO typed# VALUES (1, 'a', 'b', 1);
     INSERT INTO anew# VALUES (1, 'a', 'b', 1); INSERT INTO gone# VALUES (1, 'a', 'b', 1);
     INSERT INTO identified# VALUES (1, 'a', 'b', 1)",
    "ALTER TABLE added# ADD COLUMN more int DEFAULT 7",
    "BEGIN; INSERT INTO added# VALUES (2, 'c', 'd', 2, 8); INSERT INTO plain# VALUES (2, 'c', 'd', 2);
     ALTER TABLE typed# ALTER n TYPE text USING 'n' || n; INSERT INTO typed# VALUES (2, 'c', 'd', 'text'); COMMIT",
    "BEGIN; ALTER TABLE swapped# RENAME x TO z; ALTER TABLE swapped# RENAME y TO x; ALTER TABLE swapped# RENAME z TO y; COMMIT",
    "INSERT INTO swapped# VALUES (2, 'c', 'd', 2); INSERT INTO gone# VALUES (2, 'c', 'd', 2)",
    "DROP TABLE gone#",
    "BEGIN; DROP TABLE anew#; CREATE TABLE anew# (id text PRIMARY KEY, list int[]);
     INSERT INTO anew# VALUES ('one', '{1,2}'); COMMIT",
    "INSERT INTO anew# VALUES ('two', '{3}')",
    "ALTER TABLE identified# REPLICA IDENTITY FULL",
    "UPDATE identified# SET x = 'changed'; ALTER TABLE identified# REPLICA IDENTITY DEFAULT; UPDATE identified# SET y = 'too'",
    "UPDATE plain# SET x = 'last'; UPDATE added# SET x = 'last'; UPDATE swapped# SET x = 'last';
     UPDATE typed# SET x = 'last'; UPDATE anew# SET list = '{}'; UPDATE identified# SET x = 'last'",
];
const KINDS: [&str; 7] = ["plain", "added", "swapped", "typed", "anew", "gone", "identified"];
const OF_EACH_KIND: usize = 10;

/// All that the journal has of a table, from the beginning on up to the row that was written last.
fn transcript(walcast: &Walcast, table: &str) -> Vec<Value> {
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "s", "table": table, "from": "earliest", "old": true}));
    let mut changes = Vec::new();
    loop {
        let message = client.next();
        match message["type"].as_str().unwrap() {
            "tx" => {
                for change in message["changes"].as_array().unwrap() {
                    changes.push(change.clone());
                    let row = &change["row"];
                    if row["x"] == "last" || row["list"] == json!([]) {
                        // Of each row there is one last change.
                        let last = changes.iter().filter(|change| {
                            change["row"]["x"] == "last" || change["row"]["list"] == json!([])
                        });
                        if last.count() == if table.starts_with("identified") { 1 } else { 2 } {
                            return changes;
                        }
                    }
                }
            }
            "live" | "progress" => {}
            _ => {
                changes.push(message);
                return changes;
            }
        }
    }
}

#[test]
fn tables_that_change_within_what_is_read_at_once_are_read_as_if_each_was_asked_for_alone() {
    let database = Database::new("CREATE PUBLICATION pub FOR ALL TABLES");
    let tables = |kind: &str| -> Vec<String> {
        let numbered = (1..=OF_EACH_KIND).map(|number| format!("{kind}{number}"));
        numbered.collect()
    };
    for kind in KINDS {
        for table in tables(kind) {
            database.sql(&format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, x text, y text, n int)"
            ));
        }
    }
    let along = Setup::new(&database);
    let behind = Setup::new(&database).on_slot(&format!("{}_behind", database.name));
    let walcast = along.start();
    drop(behind.start());
    // The one goes along, so that each table is described and asked for by itself.
    for step in STEPS {
        for number in 1..=OF_EACH_KIND {
            database.sql(&step.replace('#', &number.to_string()));
        }
        catches_up(&database, &walcast);
    }
    let later = behind.start();
    catches_up(&database, &later);
    let asked = later.metric("catalog_questions_total");
    assert!(asked < 100.0, "{asked} questions");
    for kind in KINDS.iter().filter(|kind| **kind != "gone") {
        for table in tables(kind) {
            let live = transcript(&walcast, &table);
            let read = transcript(&later, &table);
            for (read, live) in read.iter().zip(&live) {
                assert_eq!(read, live, "{table}");
            }
            assert_eq!(read.len(), live.len(), "{table}");
        }
    }
}

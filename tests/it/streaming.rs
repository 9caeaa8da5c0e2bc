//! Large transactions that are sent while they still run, and transactions that commit in two phases.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Audience, Database, Pace, SCHEMA, Setup, Workload, eventually, eventually_equal, queries, views,
};

/// Makes the server send transactions of more than 64 kB while they run: some hundred rows.
fn with_little_memory(database: &Database) {
    let name = &database.name;
    database.sql(&format!(
        "ALTER DATABASE {name} SET logical_decoding_work_mem = '64kB'"
    ));
}

const PACE: Pace = Pace {
    workers: 3,
    rest: Duration::from_millis(20),
    big: 150,
};

#[test]
fn nothing_is_lost_or_repeated_when_large_transactions_come_while_they_run() {
    let database = Database::new(SCHEMA);
    with_little_memory(&database);
    let setup = Setup::new(&database);
    let mut walcast = setup.start();
    let mut audience = Audience::new(setup.address());
    for some in queries().chunks(6) {
        audience.join_with(views(some));
    }
    audience.everybody_has_joined();
    let workload = Workload::start(&database, PACE);
    for _ in 0..2 {
        eventually("some come while they run", || {
            (walcast.metric("transactions_streamed_total") > 0.0).then_some(())
        });
        workload.goes_on(20);
        walcast.kill();
        walcast = setup.start();
    }
    workload.finish();
    audience.judge(&database);
    eventually_equal("spooled_transactions", 0.0, || {
        walcast.metric("spooled_transactions")
    });
    assert!(walcast.stop().success());
}

const TABLES: &str = "
    CREATE TABLE t (id int PRIMARY KEY, note text);
    CREATE TABLE u (id int PRIMARY KEY, note text);
    CREATE PUBLICATION pub FOR TABLE t, u;
";

/// Rows that take more than the server's memory.
fn rows(table: &str, from: u32, to: u32) -> String {
    format!("INSERT INTO {table} SELECT g, repeat('x', 100) FROM generate_series({from}, {to}) g;")
}

/// The ids that a client hears of in the next transaction, by table, and how far their numbering went.
fn ids(client: &mut crate::support::Client) -> (Vec<u64>, Vec<u64>) {
    let mut t = Vec::new();
    let mut u = Vec::new();
    let mut seqs = Vec::new();
    loop {
        let tx = client.tx();
        for change in tx["changes"].as_array().unwrap() {
            let id = change["row"]["id"].as_u64().unwrap();
            if change["id"] == "t" { &mut t } else { &mut u }.push(id);
            seqs.push(change["seq"].as_u64().unwrap());
        }
        if tx.get("more").is_none() {
            assert!(seqs.iter().copied().eq(0..seqs.len() as u64));
            return (t, u);
        }
    }
}

fn both(walcast: &crate::support::Walcast) -> crate::support::Client {
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    client.subscribe_live(json!({"id": "u", "table": "u"}));
    client
}

#[test]
fn what_a_running_transaction_rolls_back_is_never_seen() {
    let database = Database::new(TABLES);
    with_little_memory(&database);
    let walcast = Setup::new(&database).start();
    let mut client = both(&walcast);
    let mut one = database.connect();
    one.query("BEGIN").unwrap();
    one.query(&rows("t", 1, 2000)).unwrap();
    one.query("SAVEPOINT a").unwrap();
    // The first rows of this table come, and with them its description, in what is rolled back.
    one.query(&rows("u", 1, 2000)).unwrap();
    one.query("SAVEPOINT b").unwrap();
    one.query(&rows("t", 2001, 4000)).unwrap();
    one.query("RELEASE b").unwrap();
    one.query(&rows("t", 4001, 6000)).unwrap();
    eventually("much of it has come", || {
        (walcast.metric("spooled_bytes") > 500_000.0).then_some(())
    });
    one.query("ROLLBACK TO a").unwrap();
    one.query(&rows("u", 3001, 5000)).unwrap();
    one.query("SAVEPOINT c").unwrap();
    one.query(&rows("t", 6001, 8000)).unwrap();
    one.query("RELEASE c").unwrap();
    // Another one runs beside it and is rolled back as a whole, a third one commits.
    let mut two = database.connect();
    two.query("BEGIN").unwrap();
    two.query(&rows("u", 10_001, 13_000)).unwrap();
    eventually("both are there", || {
        (walcast.metric("spooled_transactions") == 2.0).then_some(())
    });
    database.sql("INSERT INTO t VALUES (100000, '')");
    assert_eq!(ids(&mut client), (vec![100_000], vec![]));
    two.query("ROLLBACK").unwrap();
    one.query("INSERT INTO t VALUES (100001, ''); COMMIT").unwrap();
    let (t, u) = ids(&mut client);
    assert!(t.into_iter().eq((1..=2000).chain(6001..=8000).chain([100_001])));
    assert!(u.into_iter().eq(3001..=5000));
    eventually("nothing is kept", || {
        (walcast.metric("spooled_transactions") == 0.0).then_some(())
    });
    eventually_equal("it is counted", 1.0, || {
        walcast.metric("transactions_streamed_total")
    });
}

#[test]
fn a_transaction_larger_than_memory_passes_to_who_takes_all_of_it() {
    for streaming in ["on", "off"] {
        let database = Database::new(TABLES);
        let setup = Setup::new(&database).flag("--streaming", streaming);
        let walcast = setup.start();
        let mut all = walcast.connect();
        all.subscribe_live(json!({"id": "t", "table": "t"}));
        let mut other = walcast.connect();
        other.subscribe_live(json!({"id": "u", "table": "u"}));
        let mut large = database.connect();
        large.query("BEGIN").unwrap();
        // Some 300 MB, which compression would not let the server log otherwise.
        large
            .query("ALTER TABLE t ALTER note SET STORAGE EXTERNAL")
            .unwrap();
        large
            .query("INSERT INTO t SELECT g, repeat('x', 100000) FROM generate_series(1, 3000) g")
            .unwrap();
        if streaming == "on" {
            eventually("most of it has come", || {
                (walcast.metric("spooled_bytes") > 200e6).then_some(())
            });
        }
        // Others go on meanwhile with what is committed before it.
        database.sql("INSERT INTO u VALUES (1, 'meanwhile')");
        assert_eq!(other.changes().len(), 1);
        large.query("COMMIT").unwrap();
        database.sql("INSERT INTO u VALUES (2, 'behind it')");
        let mut next = 1;
        while next <= 3000 {
            for change in all.expect("tx")["changes"].as_array().unwrap() {
                assert_eq!(change["row"]["id"], next);
                assert_eq!(change["row"]["note"].as_str().map(str::len), Some(100_000));
                next += 1;
            }
        }
        assert_eq!(other.changes().len(), 1);
        let peak = walcast.peak_resident_bytes();
        assert!(peak < 128_000_000, "--streaming {streaming}: {peak} bytes");
    }
}

#[test]
fn a_running_transaction_has_a_schema_of_its_own() {
    let database = Database::new(TABLES);
    with_little_memory(&database);
    let walcast = Setup::new(&database).start();
    let mut client = both(&walcast);
    database.sql("INSERT INTO t VALUES (-1, 'before'); INSERT INTO u VALUES (-1, 'before')");
    assert_eq!(ids_of(&mut client).len(), 2);
    let mut one = database.connect();
    one.query("BEGIN").unwrap();
    one.query("SAVEPOINT a; ALTER TABLE t ADD COLUMN gone int DEFAULT 1")
        .unwrap();
    one.query("INSERT INTO t SELECT g, repeat('x', 100), 7 FROM generate_series(1, 2000) g")
        .unwrap();
    eventually("parts of it have come", || {
        (walcast.metric("spooled_bytes") > 0.0).then_some(())
    });
    one.query("ROLLBACK TO a; ALTER TABLE t ADD COLUMN more int DEFAULT 2; ALTER TABLE t DROP COLUMN note")
        .unwrap();
    one.query("INSERT INTO t SELECT g, 8 FROM generate_series(1, 4000) g")
        .unwrap();
    // Rows of the other table come meanwhile, in the schema that everybody else sees.
    database.sql("INSERT INTO u VALUES (1, 'beside')");
    assert_eq!(ids_of(&mut client), [json!({"id": 1, "note": "beside"})]);
    one.query("COMMIT").unwrap();
    let of_t = ids_of(&mut client);
    assert!(
        of_t.len() == 4000 && of_t[0] == json!({"id": 1, "more": 8}),
        "{}",
        of_t[0]
    );
    // What the transaction said of the table holds from now on.
    database.sql("INSERT INTO t VALUES (5000, 9); INSERT INTO u VALUES (2, 'after')");
    assert_eq!(
        ids_of(&mut client),
        [json!({"id": 5000, "more": 9}), json!({"id": 2, "note": "after"})]
    );
    // A schema that was rolled back as a whole leaves nothing either.
    one.query("BEGIN; ALTER TABLE u ADD COLUMN gone int").unwrap();
    one.query("INSERT INTO u SELECT g, repeat('x', 100), 7 FROM generate_series(11, 2000) g")
        .unwrap();
    eventually("parts of it have come", || {
        (walcast.metric("spooled_bytes") > 0.0).then_some(())
    });
    one.query("ROLLBACK").unwrap();
    database.sql("INSERT INTO u VALUES (3, 'after')");
    assert_eq!(ids_of(&mut client), [json!({"id": 3, "note": "after"})]);
    // And what it holds is what the journal holds.
    let mut late = walcast.connect();
    late.subscribe(json!({"id": "t", "table": "t", "from": "earliest"}));
    let rows: Vec<Value> = [ids_of(&mut late), ids_of(&mut late)].concat();
    assert_eq!(rows[0], json!({"id": -1, "note": "before"}));
    assert_eq!(rows[1], json!({"id": 1, "more": 8}));
}

/// The rows of the next transaction.
fn ids_of(client: &mut crate::support::Client) -> Vec<Value> {
    let mut rows = Vec::new();
    loop {
        let tx = client.tx();
        rows.extend(
            tx["changes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|change| change["row"].clone()),
        );
        if tx.get("more").is_none() {
            return rows;
        }
    }
}

#[test]
fn with_streaming_off_transactions_come_after_their_commit() {
    let database = Database::new(TABLES);
    with_little_memory(&database);
    let walcast = Setup::new(&database).flag("--streaming", "off").start();
    let mut client = both(&walcast);
    let mut one = database.connect();
    one.query("BEGIN").unwrap();
    one.query(&rows("t", 1, 3000)).unwrap();
    database.sql("INSERT INTO u VALUES (1, '')");
    assert_eq!(ids(&mut client), (vec![], vec![1]));
    one.query("COMMIT").unwrap();
    assert!(ids(&mut client).0.into_iter().eq(1..=3000));
    assert_eq!(walcast.metric("transactions_streamed_total"), 0.0);
}

#[test]
fn a_prepared_transaction_comes_when_it_is_committed() {
    for streamed in [false, true] {
        let database = Database::on_its_own_server(TABLES, &["max_prepared_transactions = 10"]);
        if streamed {
            with_little_memory(&database);
        }
        let setup = Setup::new(&database);
        let mut walcast = setup.start();
        let mut client = both(&walcast);
        let prepare = |range, name| {
            let (from, to) = range;
            database.sql(&format!(
                "BEGIN; {} PREPARE TRANSACTION '{name}'",
                rows("t", from, to)
            ))
        };
        prepare((1, 2000), "kept");
        prepare((2001, 4000), "gone");
        database.sql("INSERT INTO u VALUES (1, '')");
        assert_eq!(ids(&mut client), (vec![], vec![1]));
        database.sql("ROLLBACK PREPARED 'gone'");
        // It outlives everybody.
        walcast.kill();
        database
            .server()
            .stop(walcast::cluster::Shutdown::Immediate)
            .unwrap();
        database.server().resume().unwrap();
        walcast = setup.start();
        let mut client = both(&walcast);
        database.sql("COMMIT PREPARED 'kept'");
        let (t, u) = ids(&mut client);
        assert!(t.into_iter().eq(1..=2000) && u.is_empty());
    }
}

#[test]
fn thousands_of_subtransactions_are_each_kept_or_rolled_back() {
    let database = Database::new(TABLES);
    with_little_memory(&database);
    let walcast = Setup::new(&database).start();
    let mut client = both(&walcast);
    // Each has a child. Of three, one is kept and two are rolled back, of which one writes only after its child did.
    database.sql(
        "DO $$ BEGIN FOR i IN 1..3000 LOOP
             BEGIN
                 IF i % 3 <> 1 THEN INSERT INTO t VALUES (i, repeat('x', 50)); END IF;
                 BEGIN
                     INSERT INTO u VALUES (i, repeat('x', 50));
                 EXCEPTION WHEN unique_violation THEN NULL;
                 END;
                 INSERT INTO t VALUES (100000 + i, repeat('x', 50));
                 IF i % 3 <> 0 THEN PERFORM 1 / 0; END IF;
             EXCEPTION WHEN division_by_zero THEN NULL;
             END;
         END LOOP; END $$",
    );
    let (t, u) = ids(&mut client);
    let kept = || (1..=3000).filter(|i| i % 3 == 0);
    assert!(t.into_iter().eq(kept().flat_map(|i| [i, 100_000 + i])));
    assert!(u.into_iter().eq(kept()));
    eventually_equal("it is counted", 1.0, || {
        walcast.metric("transactions_streamed_total")
    });
    eventually_equal("spooled_bytes", 0.0, || walcast.metric("spooled_bytes"));
}

#[test]
fn where_there_is_no_room_for_running_transactions_the_server_keeps_them() {
    for full in [true, false] {
        let database = Database::new(TABLES);
        with_little_memory(&database);
        let setup = Setup::new(&database);
        let setup = if full {
            setup.on_a_small_disk()
        } else {
            setup.flag("--max-spool-bytes", "2MiB")
        };
        let walcast = setup.start();
        let mut client = both(&walcast);
        let mut gone = database.connect();
        let mut kept = database.connect();
        kept.query("BEGIN").unwrap();
        kept.query(&rows("t", 1, 1000)).unwrap();
        eventually("a part of it has come", || {
            (walcast.metric("spooled_transactions") == 1.0).then_some(())
        });
        gone.query("BEGIN").unwrap();
        gone.query(&rows("t", 1_000_001, 1_030_000)).unwrap();
        eventually("there is no room", || {
            (walcast.metric("spool_overflows_total") == 1.0).then_some(())
        });
        database.sql("INSERT INTO u VALUES (1, 'meanwhile')");
        assert_eq!(ids(&mut client), (vec![], vec![1]));
        eventually_equal("spooled_bytes", 0.0, || walcast.metric("spooled_bytes"));
        gone.query("ROLLBACK").unwrap();
        database.sql("INSERT INTO u VALUES (2, 'after it')");
        assert_eq!(ids(&mut client), (vec![], vec![2]));
        kept.query(&rows("t", 1001, 30_000)).unwrap();
        kept.query("COMMIT").unwrap();
        if full {
            // The journal has no room for this one either, and waits for some.
            walcast.fills_its_disk();
            walcast.make_space();
        }
        let (t, u) = ids(&mut client);
        assert!(t.into_iter().eq(1..=30_000) && u.is_empty());
        let counted = ["spool_overflows_total", "transactions_streamed_total"];
        eventually_equal("they are counted", [1.0, 0.0], || {
            counted.map(|name| walcast.metric(name))
        });
        assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    }
}

#[test]
fn a_transaction_that_is_read_back_into_a_full_journal_comes_once_and_whole() {
    let database = Database::new(TABLES);
    with_little_memory(&database);
    let walcast = Setup::new(&database).on_a_small_disk().start();
    let mut client = both(&walcast);
    // Each of them has room, both together have not.
    for (from, to) in [(1, 9000), (9001, 18_000)] {
        database.sql(&rows("t", from, to));
    }
    let (t, _) = ids(&mut client);
    assert!(t.into_iter().eq(1..=9000));
    eventually("it is given up", || {
        (walcast.metric("spool_overflows_total") == 1.0).then_some(())
    });
    walcast.fills_its_disk();
    walcast.make_space();
    let (t, _) = ids(&mut client);
    assert!(t.into_iter().eq(9001..=18_000));
    database.sql("INSERT INTO u VALUES (1, 'after it')");
    assert_eq!(ids(&mut client), (vec![], vec![1]));
}

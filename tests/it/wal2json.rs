//! wal2json gives what pgoutput gives: both plugins read the same transactions, and the events are compared.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    At, Audience, Database, Follower, Pace, SCHEMA, Setup, Walcast, Workload, eventually, has_wal2json,
    left_out, queries, refused, views, views_from,
};

/// One walcast for each plugin, on slots that begin at the same place.
struct Both {
    walcasts: [Walcast; 2],
    // Their journals.
    _setups: [Setup; 2],
}

impl Both {
    fn start(database: &Database) -> Both {
        let setups = ["pgoutput", "wal2json"].map(|plugin| {
            let slot = format!("{}_{plugin}", database.name);
            Setup::new(database).on_slot(&slot).flag("--plugin", plugin)
        });
        Both {
            walcasts: setups.each_ref().map(Setup::start),
            _setups: setups,
        }
    }

    /// Waits until both have everything.
    fn settle(&self, database: &Database) {
        let goal = At::after(database.written());
        for walcast in &self.walcasts {
            eventually("everything is in the journal", || {
                walcast.assert_running();
                (At::read(&walcast.connect().hello["position"]) >= goal).then_some(())
            });
        }
    }

    /// Compares all that came of these tables, and returns it: for each table its changes, with their transactions.
    fn compare(&self, database: &Database, tables: &[&str]) -> Vec<Vec<Value>> {
        self.settle(database);
        let [expected, found] = self.walcasts.each_ref().map(|walcast| {
            tables
                .iter()
                .map(|table| events(walcast, table))
                .collect::<Vec<_>>()
        });
        for ((expected, found), table) in expected.iter().zip(&found).zip(tables) {
            for (expected, found) in expected.iter().zip(found) {
                assert_eq!(found, expected, "{table}");
            }
            assert_eq!(found.len(), expected.len(), "{table}");
        }
        expected
    }
}

/// Everything that the journal holds of a table: each change with its transaction.
fn events(walcast: &Walcast, table: &str) -> Vec<Value> {
    let mut client = walcast.connect();
    client.subscribe(json!({"id": "t", "table": table, "old": true, "from": "earliest"}));
    let mut events = Vec::new();
    loop {
        let message = client.next();
        if message["type"] == "live" {
            return events;
        }
        assert_eq!(message["type"], "tx", "{message}");
        // Where a transaction is cut into frames is no part of what happened.
        let position = message["position"].as_str().unwrap();
        let end = position.split(':').next().unwrap();
        for change in message["changes"].as_array().unwrap() {
            events.push(json!([end, message["xid"], message["ts"], change]));
        }
    }
}

#[test]
fn one_workload_read_through_both_plugins_gives_the_same_events() {
    let database = Database::new(SCHEMA);
    if !has_wal2json() {
        return;
    }
    let both = Both::start(&database);
    let pace = Pace {
        workers: 4,
        rest: Duration::from_millis(5),
        big: 10,
    };
    let workload = Workload::start(&database, pace);
    workload.goes_on(400);
    workload.finish();
    let events = both.compare(&database, &["item", "part", "entry", "account"]);
    assert!(events.iter().all(|events| events.len() > 20));
}

#[test]
fn values_of_all_kinds_are_the_same_through_both_plugins() {
    let database = Database::new(
        r#"CREATE TYPE mood AS ENUM ('a "x"', 'ü');
        CREATE TYPE pair AS (x int, "y ""z""" text);
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE DOMAIN bits AS bytea;
        CREATE DOMAIN yes AS bool;
        CREATE TABLE "T é" (
            id int PRIMARY KEY, i2 smallint, i8 bigint, o oid, n numeric, n2 numeric(20,4), f4 real, f8 double precision,
            m money, b bool, dy yes, t text, v varchar(40), c char(5), "q "" \ü" text, nm name, ch "char", by bytea,
            db bits, d date, ti time, tz timetz, ts timestamp, tt timestamptz, iv interval, u uuid, j json, jb jsonb,
            x xml, ip inet, ci cidr, ma macaddr, bi bit(3), vb bit varying(9), r int4range, mr nummultirange, p point,
            po polygon, tv tsvector, rc regclass, l pg_lsn, e mood, dp positive, ai int[], at text[], ab bool[],
            aby bytea[], ae mood[], pa pair, pas pair[], g int GENERATED ALWAYS AS (id * 2) STORED);
        ALTER TABLE "T é" REPLICA IDENTITY FULL;
        CREATE PUBLICATION pub FOR ALL TABLES"#,
    );
    if !has_wal2json() {
        return;
    }
    if database.connect().server_version_num() >= 180_000 {
        // There the application's UPDATE fails if whole rows are logged and the publication lacks a column of them.
        database.sql("ALTER PUBLICATION pub SET (publish_generated_columns = stored)");
    }
    let both = Both::start(&database);
    database.sql(
        r#"INSERT INTO "T é" VALUES (1, -32768, 9223372036854775807, 4294967295,
            12345678901234567890.1234567890, 1.5, 1.1, 1e-300, 12.34, true, true, E'q"\\\n\t\u0001é/\b\f<😀', 'v', 'c',
            '"', 'name', 'x', '\xdeadbeef', '\x00ff', '2020-02-29', '01:02:03.4', '01:02:03+02', '0044-03-15 00:00 BC',
            'infinity', '1 year -2 days 03:04:05.678', '12345678-1234-1234-1234-123456789abc', '{"a":  [1, "\u00e9"]}',
            '{"b": null}', '<a b="c"/>', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '101', '10101', '[1,4)',
            '{[1.5,2],[3,4)}', '(1,2)', '((0,0),(1,1),(1,0))', 'a:1 b:2', 'pg_class', '16/B374D848', 'a "x"', 7,
            '[0:2]={1,null,3}', '{"a,b",null,"NULL","\\"}', '{t,f}', '{"\\x01"}', '{"a \"x\"",ü}',
            '(1,"a "" b")', '{"(1,x)",null}');
        INSERT INTO "T é" (id, t, by, f8, f4, n, ai) VALUES (2, '', '', '-0', 1e30, 0.000, '{}');
        UPDATE "T é" SET id = id + 10, t = NULL, i8 = -1 WHERE id = 1;
        DELETE FROM "T é""#,
    );
    let changed = both.compare(&database, &["\"T é\""]);
    assert_eq!(changed[0].len(), 5);
}

#[test]
fn what_publications_and_tables_are_like_is_the_same_through_both_plugins() {
    publications_and_tables(false);
}

#[test]
fn it_is_the_same_where_the_catalogs_are_asked_long_after_the_rows_were_written() {
    publications_and_tables(true);
}

/// `late`: walcast reads by wal2json only when all is written that may be read late without a difference.
fn publications_and_tables(late: bool) {
    let database = Database::new(
        "CREATE TABLE plain (id int PRIMARY KEY, big text, v int);
         ALTER TABLE plain ALTER big SET STORAGE EXTERNAL;
         CREATE TABLE full_row (id int PRIMARY KEY, big text, v int);
         ALTER TABLE full_row ALTER big SET STORAGE EXTERNAL; ALTER TABLE full_row REPLICA IDENTITY FULL;
         CREATE TABLE by_index (a int NOT NULL, b text, c int NOT NULL, UNIQUE (c, a));
         ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_c_a_key;
         CREATE TABLE keyless (v int); ALTER TABLE keyless REPLICA IDENTITY FULL;
         CREATE TABLE all_key (a int, b int, PRIMARY KEY (b, a));
         CREATE TABLE root (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
         CREATE TABLE low (v int, gone int, id int NOT NULL); ALTER TABLE low DROP COLUMN gone;
         ALTER TABLE root ATTACH PARTITION low FOR VALUES FROM (0) TO (100);
         CREATE TABLE high PARTITION OF root FOR VALUES FROM (100) TO (200);
         CREATE TABLE later (id int PRIMARY KEY); CREATE TABLE silent (id int PRIMARY KEY);
         CREATE PUBLICATION pub FOR TABLE plain, full_row, by_index, keyless, all_key;
         ALTER PUBLICATION pub SET (publish_via_partition_root = true); ALTER PUBLICATION pub ADD TABLE root",
    );
    if !has_wal2json() {
        return;
    }
    let both = Both::start(&database);
    both.walcasts[1].pause(late);
    for sql in [
        "INSERT INTO plain VALUES (1, repeat('x', 9000), 1); UPDATE plain SET v = 2; UPDATE plain SET id = 2;
         UPDATE plain SET big = 'short'; DELETE FROM plain",
        "INSERT INTO full_row VALUES (1, repeat('x', 9000), NULL); UPDATE full_row SET v = 2;
         UPDATE full_row SET id = 2; DELETE FROM full_row",
        "INSERT INTO by_index VALUES (1, 'x', 2); UPDATE by_index SET b = 'y'; UPDATE by_index SET c = 3;
         DELETE FROM by_index",
        "INSERT INTO keyless VALUES (1), (1); UPDATE keyless SET v = v + 1; DELETE FROM keyless",
        "INSERT INTO all_key VALUES (1, 2); UPDATE all_key SET a = 3; DELETE FROM all_key",
        "INSERT INTO root VALUES (1, 1), (101, 1), (2, 2); UPDATE root SET v = 5; UPDATE root SET id = id + 100 WHERE id = 2;
         DELETE FROM low; TRUNCATE high; INSERT INTO root VALUES (3, 3); TRUNCATE root",
        "INSERT INTO silent VALUES (1); INSERT INTO plain VALUES (5); INSERT INTO later VALUES (1)",
        "TRUNCATE plain, full_row, silent, by_index",
        // Membership of the publication, and DDL in the middle of it all.
        "ALTER PUBLICATION pub ADD TABLE later",
        "INSERT INTO later VALUES (2)",
        "BEGIN; INSERT INTO plain VALUES (6, 'a', 1); ALTER TABLE plain ADD extra int DEFAULT 9;
         INSERT INTO plain VALUES (7, 'b', 2, 3); ALTER TABLE plain RENAME v TO w; UPDATE plain SET w = 4;
         ALTER TABLE plain DROP COLUMN w; DELETE FROM plain WHERE id = 6; COMMIT",
        "ALTER TABLE plain REPLICA IDENTITY FULL; UPDATE plain SET extra = 1",
        "UPDATE plain SET big = repeat('y', 9000)",
        "UPDATE plain SET extra = 2",
        "ALTER TABLE plain REPLICA IDENTITY DEFAULT",
        "UPDATE plain SET extra = 3",
        "ALTER TABLE plain ALTER extra TYPE text; UPDATE plain SET extra = extra || 'x'",
        "ALTER PUBLICATION pub SET (publish = 'insert, delete')",
        "INSERT INTO later VALUES (3); UPDATE plain SET extra = 'not published'; TRUNCATE later; INSERT INTO later VALUES (4)",
    ] {
        // What a publication has is known as it is now: the difference that there is.
        // And rows between two changes of their table are read when both have happened.
        if sql.starts_with("ALTER PUBLICATION") || sql.ends_with("REPLICA IDENTITY DEFAULT") {
            both.walcasts[1].pause(false);
            both.settle(&database);
            both.walcasts[1].pause(late);
        }
        database.sql(sql);
    }
    both.walcasts[1].pause(false);
    let tables = [
        "plain", "full_row", "by_index", "keyless", "all_key", "root", "later",
    ];
    let events = both.compare(&database, &tables);
    let counts: Vec<usize> = events.iter().map(Vec::len).collect();
    assert!(counts.iter().all(|&count| count > 2), "{counts:?}");
}

#[test]
fn column_lists_hold_and_row_filters_are_refused_with_wal2json() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY, secret text, note text)");
    if !has_wal2json() {
        return;
    }
    if database.connect().server_version_num() < 150_000 {
        return left_out("column lists and row filters", "they came with version 15");
    }
    database.sql("CREATE PUBLICATION pub FOR TABLE t (id, note)");
    let both = Both::start(&database);
    database.sql("INSERT INTO t VALUES (1, 's', 'n'); UPDATE t SET secret = 'x'; DELETE FROM t");
    assert_eq!(both.compare(&database, &["t"])[0].len(), 3);
    // From now on wal2json would deliver rows that are not published: it stops instead.
    database.sql("ALTER PUBLICATION pub SET TABLE t WHERE (id > 10)");
    database.sql("INSERT INTO t VALUES (2)");
    let reason = eventually("the stream stops", || both.walcasts[1].ready().err());
    assert!(reason.contains("row filter"), "{reason}");
    let setup = Setup::new(&database).flag("--plugin", "wal2json");
    let said = refused(setup.command());
    assert!(said.contains("row filter") && said.contains("public.t"), "{said}");
}

#[test]
fn nothing_is_lost_or_repeated_when_walcast_is_killed_on_wal2json() {
    let database = Database::new(SCHEMA);
    if !has_wal2json() {
        return;
    }
    let setup = Setup::new(&database).flag("--plugin", "wal2json");
    let mut walcast = setup.start();
    let mut audience = Audience::new(setup.address());
    for some in queries().chunks(4) {
        audience.join_with(views(some));
    }
    audience.join(Follower::new(
        setup.address(),
        views_from(&queries(), &json!("earliest")),
    ));
    audience.everybody_has_joined();
    let pace = Pace {
        workers: 3,
        rest: Duration::from_millis(30),
        big: 7,
    };
    let workload = Workload::start(&database, pace);
    for _ in 0..4 {
        workload.goes_on(20);
        walcast.kill();
        audience.assert_following();
        walcast = setup.start();
    }
    workload.finish();
    audience.judge(&database);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert!(walcast.stop().success());
}

#[test]
fn a_slot_of_the_other_plugin_is_refused_in_words() {
    let database = Database::new("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t");
    let setup = Setup::new(&database);
    assert!(setup.start().stop().success());
    let said = refused(setup.flag("--plugin", "wal2json").command());
    assert!(said.contains("decodes by pgoutput, not by wal2json"), "{said}");
}

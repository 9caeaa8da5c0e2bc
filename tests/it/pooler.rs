//! A pooler between walcast and the server: what it does not keep is not asked of it, and where that will not do it is
//! said.

use std::process::Command;

use serde_json::{Value, json};
use walcast::event::TableName;
use walcast::postgres::{Catalog, ConnInfo, Publication};

use crate::support::{Client, Database, PROGRAM, Pooler, Setup, eventually, left_out};

/// Values whose text depends on settings, and settings of the database that are none of walcast's.
const SCHEMA: &str = "
    CREATE TABLE t (id int PRIMARY KEY, i interval, d date, b bytea, note text);
    ALTER TABLE t REPLICA IDENTITY FULL;
    INSERT INTO t SELECT g, '1 day 02:00', '2026-02-03', '\\x00ff', 'note ' || g FROM generate_series(1, 5000) g;
    CREATE PUBLICATION pub FOR TABLE t";
const SETTINGS: [(&str, &str); 3] = [
    ("intervalstyle", "'iso_8601'"),
    ("datestyle", "'German'"),
    ("bytea_output", "'escape'"),
];

fn database() -> Database {
    let database = Database::new(SCHEMA);
    for (name, value) in SETTINGS {
        database.sql(&format!("ALTER DATABASE {} SET {name} = {value}", database.name));
    }
    database
}

/// The rows of a snapshot until it is live, by their keys.
fn snapshot(client: &mut Client, subscribe: Value) -> Vec<Value> {
    let mut rows = client.snapshot(subscribe);
    rows.sort_by_key(|row| row["id"].as_i64());
    rows
}

fn without_pooler() {
    left_out("a pooler", "there is no PgBouncer (scripts/install.sh pooler)");
}

#[test]
fn snapshots_through_a_pooler_say_what_the_stream_says_and_leave_nothing_behind() {
    let database = database();
    let shared = "pool_mode = transaction\ndefault_pool_size = 2";
    for (at, (settings, is_shared)) in [
        // As Debian installs it: what a session begins with is refused.
        (&["pool_mode = session"][..], false),
        (&[shared], true),
        // As many run it: it is passed over without a word.
        (
            &[
                shared,
                "ignore_startup_parameters = extra_float_digits, options, IntervalStyle, search_path, bytea_output",
            ],
            true,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let Some(pooler) = Pooler::before(&database, settings) else {
            return without_pooler();
        };
        // Applications that leave their own settings in the sessions that all share.
        let at_once = |sql: &str| -> Vec<Vec<String>> {
            let mut both = [pooler.connect().unwrap(), pooler.connect().unwrap()];
            both.iter_mut().for_each(|one| drop(one.query("BEGIN").unwrap()));
            let rows = both.iter_mut().map(|one| one.query(sql).unwrap().remove(0));
            let found = rows.map(|row| (0..row.len()).map(|at| row.get(at).unwrap().to_owned()).collect());
            let found = found.collect();
            both.iter_mut().for_each(|one| drop(one.query("COMMIT").unwrap()));
            found
        };
        if is_shared {
            at_once(
                "SET intervalstyle = 'sql_standard'; SET statement_timeout = '59s'; SET transform_null_equals = on; SELECT 1",
            );
        }
        let setup = Setup::new(&database)
            .on_slot(&format!("{}_{at}", database.name))
            .flag("--snapshot-url", &pooler.url());
        let walcast = setup.start();
        let mut client = walcast.connect();
        let all = snapshot(&mut client, json!({"id": "all", "table": "t"}));
        assert_eq!(all, database.rows("SELECT * FROM t ORDER BY id"), "{settings:?}");
        let null = snapshot(
            &mut client,
            json!({"id": "null", "table": "t", "where": "note = NULL OR id = 7"}),
        );
        assert_eq!(
            null,
            database.rows("SELECT * FROM t WHERE id = 7"),
            "{settings:?}"
        );
        // One who leaves in the middle cancels by the pooler's own key; those who come later are served.
        let mut leaves = walcast.connect();
        leaves.subscribe(json!({"id": "x", "table": "t", "snapshot": true, "where": "i > '1 hour'"}));
        drop(leaves);
        snapshot(&mut client, json!({"id": "one", "table": "t", "where": "id = 1"}));
        database.sql("INSERT INTO t VALUES (9001, '1 day 02:00', '2026-02-03', '\\x00ff', 'new')");
        let row = eventually("the stream has it", || {
            let message = client.next();
            let changes = message["changes"].as_array()?.clone();
            changes.into_iter().find(|change| change["id"] == "all")
        });
        assert_eq!(row["row"], database.rows("SELECT * FROM t WHERE id = 9001")[0]);
        database.sql("DELETE FROM t WHERE id = 9001");
        assert!(walcast.stop().success());
        database.drop_slot(&setup.slot);
        if is_shared {
            let found = at_once(
                "SELECT current_setting('statement_timeout'), current_setting('transform_null_equals'),
                        current_setting('search_path'), current_setting('synchronous_commit')",
            );
            let own = ["59s", "on", "\"$user\", public", "on"];
            assert_eq!(found, [own, own], "{settings:?}");
        }
    }
}

#[test]
fn the_catalog_is_asked_through_a_pooler_under_our_settings_which_stay_behind_with_nobody() {
    let database = database();
    database.sql(
        "CREATE SCHEMA shop; CREATE TYPE shop.kind AS ENUM ('a'); CREATE TABLE u (id int PRIMARY KEY, kind shop.kind);
         ALTER PUBLICATION pub ADD TABLE u",
    );
    let settings = ["pool_mode = transaction\ndefault_pool_size = 1"];
    let Some(pooler) = Pooler::before(&database, &settings) else {
        return without_pooler();
    };
    let mut application = pooler.connect().unwrap();
    application.query("SET search_path = shop").unwrap();
    let mut catalog = Catalog::new(ConnInfo::parse(&pooler.url()).unwrap());
    let publications = [Publication::new("pub").unwrap()];
    let table = catalog.table(&publications, &TableName::new("public", "u"));
    let table = table.unwrap().unwrap();
    assert_eq!(table.columns[1].ty.name, "shop.kind");
    // A statement that fails leaves no transaction behind either: the pooler has one session.
    assert!(catalog.orders_by_code_points("shop.none").is_err());
    let path = application.query("SHOW search_path").unwrap();
    assert_eq!(path[0].get(0), Some("shop"));
    assert_eq!(catalog.tables(&publications).unwrap().len(), 2);
}

#[test]
fn check_says_that_a_pooler_is_no_way_to_the_stream_and_what_is() {
    let database = database();
    for settings in [
        &["pool_mode = session"][..],
        &[
            "pool_mode = transaction",
            "ignore_startup_parameters = replication",
        ],
    ] {
        let Some(pooler) = Pooler::before(&database, settings) else {
            return without_pooler();
        };
        let output = Command::new(PROGRAM)
            .args(["check", "--slot", "s", "--publication", "pub", "--create-slot"])
            .args(["--database-url", &pooler.url()])
            .output()
            .unwrap();
        let found = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(1), "{found}");
        for words in [
            "error: a pooler stands before the server",
            "--snapshot-url",
            "1.23",
        ] {
            assert!(found.contains(words), "{words}: {found}");
        }
        // What the pooler shares is asked all the same, so the one error is all there is.
        assert_eq!(found.matches("error: ").count(), 1, "{found}");
    }
}

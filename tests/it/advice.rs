//! Everything that `serve` and its pages tell people to run is run where they say so; then the application goes on
//! writing.

use serde_json::json;
use walcast::cluster::Cluster;

use crate::support::{Database, PROGRAM, Setup, Walcast, eventually, left_out, refused};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE PUBLICATION pub FOR TABLE t";

/// The application inserts, updates and deletes, and a client hears of all of it.
fn assert_goes_on(database: &Database, walcast: &Walcast) {
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    for (sql, op) in [
        ("INSERT INTO t (id) VALUES (77)", "insert"),
        ("UPDATE t SET id = 78 WHERE id = 77", "update"),
        ("DELETE FROM t WHERE id = 78", "delete"),
    ] {
        database.sql(sql);
        assert_eq!(client.change()["op"], op);
    }
}

/// The reason why it is not ready, once the words are in it.
fn unready(walcast: &Walcast, words: &str) -> String {
    eventually(words, || {
        walcast.ready().err().filter(|reason| reason.contains(words))
    })
}

/// The statement in `words` that begins so.
fn statement<'w>(words: &'w str, beginning: &str) -> &'w str {
    let begin = words
        .find(beginning)
        .unwrap_or_else(|| panic!("no {beginning}: {words}"));
    let statement = &words[begin..];
    &statement[..statement.find(';').unwrap_or(statement.len())]
}

#[test]
fn a_slot_on_a_standby_is_there_once_the_primary_has_said_what_runs() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    if database.version() < 160_000 {
        return left_out("a slot on a standby", "before version 16 it has none");
    }
    let standby = Cluster::standby_of(&database.server(), &["hot_standby_feedback = on".to_owned()]).unwrap();
    let setup = Setup::new(&database).by(standby.url(&database.name));
    // The slot waits for this one to end, too.
    let mut open = database.connect();
    open.query("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    let walcast = setup.start_unready();
    let reason = unready(&walcast, "cannot be created yet");
    let say = statement(&reason, "SELECT pg_log_standby_snapshot()");
    database.sql(say);
    open.query("COMMIT").unwrap();
    eventually("the slot is there", || {
        database.sql(say);
        walcast.ready().ok()
    });
    let slots = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
        setup.slot
    );
    assert_eq!(standby.try_psql(&database.name, &slots).unwrap(), "1");
    assert_goes_on(&database, &walcast);
    assert!(walcast.stop().success());
}

#[test]
fn a_slot_that_is_gone_is_made_by_the_statement_that_serve_prints() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let walcast = setup.start();
    assert_goes_on(&database, &walcast);
    database.drop_slot(&setup.slot);
    let log = walcast.ended_with_log();
    database.sql(statement(&log, "SELECT pg_create_logical_replication_slot("));
    assert_eq!(
        database.version() >= 170_000,
        database.value(&format!(
            "SELECT coalesce((to_jsonb(s) ->> 'failover')::bool, false) FROM pg_replication_slots s WHERE slot_name = '{}'",
            setup.slot
        )) == "t"
    );
    let walcast = setup.start();
    assert_goes_on(&database, &walcast);
}

#[test]
fn a_role_that_loses_its_right_to_replication_is_given_it_back() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database).by(database.limited_role());
    let role = format!("limited_{}", database.name);
    let walcast = setup.start();
    database.sql(&format!("ALTER ROLE {role} NOREPLICATION"));
    database.sql(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{}'",
        setup.slot
    ));
    let reason = unready(&walcast, "give the role its right back");
    database.sql(&statement(&reason, "ALTER ROLE").replace('…', &role));
    eventually("it goes on", || walcast.ready().ok());
    assert_goes_on(&database, &walcast);
}

#[test]
fn a_role_that_sees_no_transactions_of_others_sees_them_once_it_may() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    database.sql("CREATE ROLE walcast LOGIN REPLICATION");
    let mut open = database.connect();
    open.query("BEGIN; INSERT INTO t VALUES (1)").unwrap();
    let setup = Setup::new(&database).by(database.url().replace("postgres@", "walcast@"));
    let walcast = setup.start_unready();
    let reason = unready(&walcast, "cannot be created yet");
    assert!(!reason.contains("idle in transaction"), "{reason}");
    // As docs/operations.md has it.
    database.sql("GRANT pg_monitor TO walcast");
    let reason = unready(&walcast, "idle in transaction");
    database.sql(statement(&reason, "SELECT pg_terminate_backend"));
    eventually("the slot is there", || walcast.ready().ok());
    assert_goes_on(&database, &walcast);
}

#[test]
fn a_composite_type_is_altered_as_the_page_says_where_commits_wait_for_walcast() {
    let database = Database::on_its_own_server(
        "CREATE TYPE pair AS (x int); CREATE TABLE t (id int PRIMARY KEY, p pair); CREATE PUBLICATION pub FOR TABLE t",
        &["synchronous_standby_names = '*'", "synchronous_commit = local"],
    );
    let walcast = Setup::new(&database).start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "s", "table": "t"}));
    database.sql(
        "SET synchronous_commit = on; BEGIN; SET LOCAL synchronous_commit = local; ALTER TYPE pair ADD ATTRIBUTE y text;
         INSERT INTO t VALUES (1, row(1, 'y')); COMMIT",
    );
    assert_eq!(client.change()["row"], json!({"id": 1, "p": {"x": 1, "y": "y"}}));
    assert_goes_on(&database, &walcast);
}

#[test]
fn serve_creates_no_publication_that_has_the_application_s_writes_fail() {
    let database = Database::new(
        "CREATE TABLE t (id int PRIMARY KEY, note text); CREATE TABLE keyless (id int); INSERT INTO keyless VALUES (1)",
    );
    let setup = Setup::new(&database).switch("--create-publication");
    let words = refused(setup.command());
    assert!(
        words.contains("UPDATE and DELETE fail on public.keyless"),
        "{words}"
    );
    database.sql("UPDATE keyless SET id = 2");
    database.sql(statement(&words, "ALTER TABLE public.keyless"));
    let walcast = setup.start();
    database.sql("UPDATE keyless SET id = 3");
    database.sql("DELETE FROM keyless");
    assert_goes_on(&database, &walcast);
}

#[test]
fn a_standby_that_the_server_waits_for_in_vain_is_said_while_it_runs() {
    let database = Database::on_its_own_server(SCHEMA, &[]);
    if database.version() < 170_000 {
        return left_out("synchronized_standby_slots", "it came with version 17");
    }
    let walcast = Setup::new(&database).start();
    database.sql("ALTER SYSTEM SET synchronized_standby_slots = 'nowhere'");
    database.sql("SELECT pg_reload_conf()");
    let log = eventually("it is said", || {
        Some(walcast.log()).filter(|log| log.contains("nowhere does not exist"))
    });
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    database.sql("INSERT INTO t VALUES (1)");
    database.sql(statement(&log, "ALTER SYSTEM SET synchronized_standby_slots"));
    database.sql("SELECT pg_reload_conf()");
    assert_eq!(client.change()["row"]["id"], 1);
    assert_goes_on(&database, &walcast);
}

#[test]
fn a_publication_that_cannot_be_named_so_is_a_wrong_flag() {
    let too_long = "x".repeat(64);
    for command in ["serve", "check", "tables"] {
        let mut walcast = std::process::Command::new(PROGRAM);
        walcast.args([command, "--database-url", "postgresql://nowhere", "--slot", "s"]);
        walcast.args(["--publication", &format!("pub,{too_long}")]);
        if command == "serve" {
            walcast.args(["--data-dir", "/nowhere"]);
        }
        let output = walcast.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(
            said.contains("--publication") && said.contains("1 to 63 bytes"),
            "{said}"
        );
    }
}

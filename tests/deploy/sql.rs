//! `sql/setup.sql` and `sql/teardown.sql`, as an operator runs them.

use std::process::Command;

use serde_json::json;

use crate::support::{Client, Database, PROGRAM, Setup};

const SCHEMA: &str = "
    CREATE TABLE orders (id int PRIMARY KEY, status text);
    CREATE TABLE accounts (id int PRIMARY KEY, secret text);";

/// Runs a script of `sql/` twice, with names of the test's own.
fn run_twice(database: &Database, script: &str, role: &str, slot: &str) {
    for _ in 0..2 {
        let named = format!(
            "\\set tables orders\n\\set full orders\n\\set role {role}\n\\set publication pub\n\\set slot {slot}\n{script}"
        );
        database.server().try_psql(&database.name, &named).unwrap();
    }
}

#[test]
fn the_role_of_the_setup_script_can_serve_and_nothing_else_and_teardown_leaves_nothing() {
    let database = Database::new(SCHEMA);
    let setup = Setup::new(&database);
    let role = format!("role_{}", database.name);
    run_twice(&database, include_str!("../../sql/setup.sql"), &role, &setup.slot);

    let url = database.url().replace("postgres@", &format!("{role}@"));
    let check = Command::new(PROGRAM)
        .args([
            "check",
            "--database-url",
            &url,
            "--slot",
            &setup.slot,
            "--publication",
            "pub",
        ])
        .output()
        .unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stderr)
    );
    let may = |what: &str| database.value(&format!("SELECT {what}")) == "t";
    assert!(may(&format!("has_table_privilege('{role}', 'orders', 'SELECT')")));
    for right in ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"] {
        assert!(
            !may(&format!("has_table_privilege('{role}', 'orders', '{right}')")),
            "{right}"
        );
    }
    assert!(!may(&format!(
        "has_table_privilege('{role}', 'accounts', 'SELECT')"
    )));
    assert!(
        !may(&format!("has_schema_privilege('{role}', 'public', 'CREATE')")) || database.version() < 150_000
    );
    assert!(!may(&format!(
        "(SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolbypassrls FROM pg_roles WHERE rolname = '{role}')"
    )));

    let walcast = setup.by(url).start();
    let mut client: Client = walcast.connect();
    let subscribe = json!({"id": "o", "table": "orders", "where": "status = 'open'"});
    assert_eq!(client.snapshot(subscribe), Vec::<serde_json::Value>::new());
    database.sql("INSERT INTO orders VALUES (1, 'open'); INSERT INTO accounts VALUES (1, 'x')");
    assert_eq!(client.change()["row"]["id"], 1);
    assert!(walcast.stop().success());

    let slot = database.name.clone();
    run_twice(&database, include_str!("../../sql/teardown.sql"), &role, &slot);
    let left = database.value(&format!(
        "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = '{role}')
              + (SELECT count(*) FROM pg_publication)
              + (SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}')"
    ));
    assert_eq!(left, "0");
}

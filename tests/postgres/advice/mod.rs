//! Everything that we tell people to run is run, in each situation that it is said for; then the application goes on
//! writing.

mod findings;
mod identities;
mod publications;
mod registry;
mod server;

use walcast::cluster::{Cluster, Options};
use walcast::postgres::*;

use crate::info;

/// Columns of every table that the application writes, beside `id`.
const COLUMNS: &str = "state text NOT NULL, area text NOT NULL";

fn start() -> Cluster {
    Cluster::start(&Options::default()).unwrap()
}

fn version(cluster: &Cluster) -> u32 {
    cluster.psql("SHOW server_version_num").parse().unwrap()
}

/// The setup that is to work: the publication `p`, and a slot `s` that serve makes.
fn wanted() -> Requirements {
    Requirements {
        slot: SlotName::new("s").unwrap(),
        publications: vec![Publication::new("p").unwrap()],
        plugin: Plugin::Pgoutput,
        create_slot: true,
        recreate_slot: false,
        create_publication: false,
    }
}

/// The findings that there is a cure for.
fn found(cluster: &Cluster, wanted: &Requirements) -> Vec<Finding> {
    let mut found = check(&info(&cluster.url("postgres")), wanted).unwrap();
    found.retain(|finding| finding.code != Code::WholePartitions);
    found
}

/// The finding of that kind, if there is one.
fn of_kind(cluster: &Cluster, wanted: &Requirements, code: Code) -> Option<Finding> {
    let found = found(cluster, wanted);
    found.into_iter().find(|finding| finding.code == code)
}

/// The statements of a cure: they stand on lines of their own.
fn statements(cure: &str) -> Vec<&str> {
    const BEGINNINGS: [&str; 7] = ["ALTER ", "BEGIN;", "CREATE ", "DO ", "DROP ", "GRANT ", "SELECT "];
    let lines = cure.lines().filter_map(|line| line.split("  --").next());
    let lines = lines.filter(|line| BEGINNINGS.iter().any(|beginning| line.starts_with(beginning)));
    lines.collect()
}

/// Runs what a finding of that kind says, which it has to find; then it finds it no more.
fn cure(cluster: &Cluster, wanted: &Requirements, code: Code) -> Finding {
    let finding = of_kind(cluster, wanted, code);
    let finding = finding.unwrap_or_else(|| panic!("no {code:?}: {:?}", found(cluster, wanted)));
    println!("{finding}");
    let statements = statements(&finding.cure);
    assert!(!statements.is_empty(), "{finding}");
    for statement in statements {
        cluster.psql(statement);
    }
    finding
}

fn assert_cured(cluster: &Cluster, wanted: &Requirements, code: Code) {
    assert_eq!(of_kind(cluster, wanted, code), None);
}

/// The application's own statements. It panics if the server refuses it.
fn write(cluster: &Cluster, table: &str) {
    cluster.psql(&format!(
        "INSERT INTO {table} (id, state, area) VALUES (1, 'open', 'a')"
    ));
    cluster.psql(&format!("UPDATE {table} SET state = 'done'"));
    cluster.psql(&format!("DELETE FROM {table}"));
}

/// True if the server refuses an UPDATE or a DELETE of a row of the table.
fn is_refused(cluster: &Cluster, table: &str) -> bool {
    let insert = format!("INSERT INTO {table} (id, state, area) VALUES (1, 'open', 'a')");
    let refused = [
        format!("UPDATE {table} SET state = 'done'"),
        format!("DELETE FROM {table}"),
    ]
    .map(|statement| {
        let sql = format!("BEGIN; {insert}; {statement}; ROLLBACK");
        cluster.try_psql("postgres", &sql).is_err()
    });
    assert_eq!(refused[0], refused[1], "{table}");
    refused[0]
}

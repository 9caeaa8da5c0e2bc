//! Publications that are made, completed and mended as we say.

use walcast::cluster::Cluster;
use walcast::postgres::*;

use super::*;
use crate::info;

/// Tables of every kind that a publication of all tables has to do with, and whether UPDATE of it would fail in one.
fn tables(version: u32) -> Vec<(&'static str, String, bool)> {
    let mut tables = vec![
        ("plain", format!("CREATE TABLE plain (id int PRIMARY KEY, {COLUMNS})"), false),
        ("keyless", format!("CREATE TABLE keyless (id int, {COLUMNS})"), true),
        ("\"Odd 't'\"", format!("CREATE TABLE \"Odd 't'\" (id int, {COLUMNS})"), true),
        ("nothing", format!("CREATE TABLE nothing (id int PRIMARY KEY, {COLUMNS}); ALTER TABLE nothing REPLICA IDENTITY NOTHING"), true),
        (
            "dropped",
            format!(
                "CREATE TABLE dropped (id int, {COLUMNS}); CREATE UNIQUE INDEX i ON dropped (area);
                 ALTER TABLE dropped REPLICA IDENTITY USING INDEX i; DROP INDEX i"
            ),
            true,
        ),
        ("whole", format!("CREATE TABLE whole (id int, {COLUMNS}); ALTER TABLE whole REPLICA IDENTITY FULL"), false),
        ("unlogged", format!("CREATE UNLOGGED TABLE unlogged (id int, {COLUMNS})"), false),
        (
            "stored",
            format!("CREATE TABLE stored (id int, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') STORED)"),
            true,
        ),
        (
            "stored_whole",
            format!(
                "CREATE TABLE stored_whole (id int, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') STORED);
                 ALTER TABLE stored_whole REPLICA IDENTITY FULL"
            ),
            false,
        ),
        (
            "root",
            format!(
                "CREATE TABLE root (id int, {COLUMNS}) PARTITION BY LIST (area);
                 CREATE TABLE a PARTITION OF root FOR VALUES IN ('a')"
            ),
            true,
        ),
        (
            "keyed",
            format!(
                "CREATE TABLE keyed (id int, {COLUMNS}) PARTITION BY LIST (area);
                 CREATE TABLE keyed_a PARTITION OF keyed FOR VALUES IN ('a'); ALTER TABLE keyed_a ADD PRIMARY KEY (id)"
            ),
            false,
        ),
    ];
    if version >= 180_000 {
        tables.push((
            "virtual_whole",
            format!(
                "CREATE TABLE virtual_whole (id int PRIMARY KEY, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') VIRTUAL);
                 ALTER TABLE virtual_whole REPLICA IDENTITY FULL"
            ),
            true,
        ));
    }
    tables
}

fn with_tables() -> (Cluster, Vec<(&'static str, bool)>) {
    let cluster = start();
    let tables = tables(version(&cluster));
    for (_, sql, _) in &tables {
        cluster.psql(sql);
    }
    let names = tables.into_iter().map(|(name, _, fails)| (name, fails));
    (cluster, names.collect())
}

/// Checks that serve would work, and that the application writes: `keyed` has no key that its changes could be told
/// apart by.
fn assert_fine(cluster: &Cluster, wanted: &Requirements) {
    let found = found(cluster, wanted);
    assert!(
        found.iter().all(|finding| finding.code == Code::RowsUnnamed),
        "{found:?}"
    );
}

#[test]
fn a_publication_of_all_tables_is_made_only_where_the_application_goes_on_writing() {
    let (cluster, tables) = with_tables();
    let creating = Requirements {
        create_publication: true,
        ..wanted()
    };
    // What it says would fail is what fails.
    let finding = of_kind(&cluster, &creating, Code::PublicationEndangersWrites).unwrap();
    assert_eq!(finding.severity, Severity::Blocks);
    let mut sql = Connection::connect(&info(&cluster.url("postgres")), Purpose::Application).unwrap();
    sql.create_publication(&creating.publications[0]).unwrap();
    for (table, fails) in &tables {
        assert_eq!(is_refused(&cluster, table), *fails, "{table}");
        let named = format!("public.{} ", table.replace("root", "a"));
        assert_eq!(finding.cure.contains(&named), *fails, "{table}: {finding}");
    }
    cluster.psql("DROP PUBLICATION p");
    cure(&cluster, &creating, Code::PublicationEndangersWrites);
    assert_fine(&cluster, &creating);
    sql.create_publication(&creating.publications[0]).unwrap();
    for (table, _) in tables {
        write(&cluster, table);
    }
    assert_fine(&cluster, &wanted());
}

#[test]
fn a_publication_that_is_missing_is_made_as_check_says_and_the_application_goes_on_writing() {
    let (cluster, tables) = with_tables();
    let finding = cure(&cluster, &wanted(), Code::PublicationMissing);
    for (table, _) in tables {
        write(&cluster, table);
    }
    assert_fine(&cluster, &wanted());
    // Of some tables.
    cluster.psql("DROP PUBLICATION p");
    let some = of_kind(&cluster, &wanted(), Code::PublicationMissing)
        .unwrap()
        .cure;
    let some = &some[some.find("CREATE PUBLICATION \"p\" FOR TABLE").unwrap()..];
    cluster.psql(&some.replace('…', "plain, keyless"));
    write(&cluster, "plain");
    write(&cluster, "keyless");
    // A role that may not is told the same.
    cluster.psql("DROP PUBLICATION p; CREATE ROLE plain LOGIN REPLICATION");
    let creating = Requirements {
        create_publication: true,
        ..wanted()
    };
    let as_plain = cluster.url("postgres").replace("postgres@", "plain@");
    let found = check(&info(&as_plain), &creating).unwrap();
    let refused = found
        .iter()
        .find(|f| f.code == Code::CannotCreatePublication)
        .unwrap();
    assert_eq!(statements(&refused.cure).last(), statements(&finding.cure).last());
}

#[test]
fn a_publication_of_some_operations_is_completed_and_the_application_goes_on_writing() {
    let (cluster, tables) = with_tables();
    let names: Vec<&str> = tables
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| *name != "unlogged")
        .collect();
    cluster.psql(&format!(
        "CREATE PUBLICATION p FOR TABLE {} WITH (publish = 'insert')",
        names.join(", ")
    ));
    cure(&cluster, &wanted(), Code::PublicationPartial);
    for (table, _) in tables {
        write(&cluster, table);
    }
    assert_cured(&cluster, &wanted(), Code::PublicationPartial);
}

#[test]
fn column_lists_and_row_filters_are_given_up_as_check_says_and_other_tables_stay() {
    let cluster = start();
    if version(&cluster) < 150_000 {
        return crate::left_out("column lists and row filters", "they came with version 15");
    }
    cluster.psql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); CREATE TABLE other (id int PRIMARY KEY, {COLUMNS});
         CREATE TABLE parent (id int PRIMARY KEY, {COLUMNS}); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
         CREATE TABLE \"Root\" (id int, {COLUMNS}, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
         CREATE TABLE a PARTITION OF \"Root\" FOR VALUES IN ('a')"
    ));
    let all = ["t", "other", "parent", "\"Root\""];
    let write_all = || all.iter().for_each(|table| write(&cluster, table));
    let published = |name: &str| {
        cluster.psql(&format!(
            "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables WHERE pubname = '{name}'"
        ))
    };
    // Row filters, one beside a column list.
    cluster.psql(
        "CREATE PUBLICATION p FOR TABLE t (id, state) WHERE (id > 0), other, ONLY parent WHERE (id > 1), \"Root\" WHERE (id > 0)
         WITH (publish_via_partition_root)",
    );
    let before = published("p");
    cure(&cluster, &wanted(), Code::PublicationFiltered);
    assert_eq!(found(&cluster, &wanted()), []);
    assert_eq!(published("p"), before);
    assert_eq!(
        cluster.psql("SELECT attnames FROM pg_publication_tables WHERE tablename = 't'"),
        "{id,state}"
    );
    write_all();
    // Lists that conflict.
    cluster.psql("CREATE PUBLICATION q FOR TABLE t, other; ALTER PUBLICATION p SET TABLE t (id, state), other, \"Root\" (id, area)");
    let both = Requirements {
        publications: ["p", "q"].map(|name| Publication::new(name).unwrap()).to_vec(),
        ..wanted()
    };
    let before = published("p");
    cure(&cluster, &both, Code::ColumnListsConflict);
    assert_cured(&cluster, &both, Code::ColumnListsConflict);
    assert_eq!(published("p"), before);
    write_all();
    // Filters of inserts that are not those of updates.
    cluster.psql(
        "DROP PUBLICATION q; DROP PUBLICATION p; CREATE PUBLICATION p FOR TABLE t WHERE (id > 0), other WITH (publish = 'insert');
         CREATE PUBLICATION q FOR TABLE t, other WITH (publish = 'update, delete, truncate')",
    );
    cure(&cluster, &both, Code::RowFiltersDiffer);
    assert_cured(&cluster, &both, Code::RowFiltersDiffer);
    assert_cured(&cluster, &both, Code::PublicationFiltered);
    write_all();
    // By wal2json, which knows no row filters.
    cluster.psql("DROP PUBLICATION q; ALTER PUBLICATION p SET TABLE t WHERE (id > 0), other; ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')");
    let by_wal2json = Requirements {
        plugin: Plugin::Wal2json,
        ..wanted()
    };
    cure(&cluster, &by_wal2json, Code::RowFilter);
    assert_cured(&cluster, &by_wal2json, Code::RowFilter);
    write_all();
}

#[test]
fn a_publication_without_tables_is_given_one_as_check_says() {
    let cluster = start();
    cluster.psql(&format!(
        "CREATE TABLE orders (id int PRIMARY KEY, {COLUMNS}); CREATE PUBLICATION p"
    ));
    let finding = of_kind(&cluster, &wanted(), Code::PublicationEmpty).unwrap();
    cluster.psql(&statements(&finding.cure)[0].replace('…', "orders"));
    assert_eq!(found(&cluster, &wanted()), []);
    write(&cluster, "orders");
}

#[test]
fn a_publication_younger_than_the_slot_is_read_without_a_loss_first() {
    let cluster = start();
    if version(&cluster) >= 180_000 {
        return crate::left_out(
            "a publication younger than the slot",
            "since version 18 the server passes over it",
        );
    }
    cluster.psql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); CREATE PUBLICATION old FOR TABLE t;
         SELECT pg_create_logical_replication_slot('s', 'pgoutput')"
    ));
    write(&cluster, "t");
    cluster.psql("CREATE PUBLICATION p FOR TABLE t");
    let reads = |publication: &str| {
        let read = format!(
            "SELECT count(*) FROM pg_logical_slot_peek_binary_changes('s', NULL, NULL, 'proto_version', '1', \
             'publication_names', '{publication}')"
        );
        cluster.try_psql("postgres", &read)
    };
    assert!(reads("p").is_err());
    let finding = of_kind(&cluster, &wanted(), Code::PublicationYoungerThanSlot).unwrap();
    let keeps = finding.cure.find("older than the slot");
    let loses = finding.cure.find("is lost");
    assert!(
        keeps.is_some() && keeps < loses && loses < finding.cure.find("SELECT"),
        "{finding}"
    );
    let older = Requirements {
        publications: vec![Publication::new("old").unwrap()],
        ..wanted()
    };
    assert_eq!(found(&cluster, &older), []);
    assert_ne!(reads("old").unwrap(), "0");
    cure(&cluster, &wanted(), Code::PublicationYoungerThanSlot);
    assert_eq!(found(&cluster, &wanted()), []);
    write(&cluster, "t");
    assert_ne!(reads("p").unwrap(), "0");
}

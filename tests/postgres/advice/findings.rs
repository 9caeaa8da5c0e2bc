//! Slots, rights and tables that are mended as `check` says.

use walcast::cluster::{Cluster, Options};
use walcast::lsn::Lsn;
use walcast::postgres::*;

use super::*;
use crate::info;

fn with_table() -> Cluster {
    let cluster = start();
    cluster.psql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); CREATE PUBLICATION p FOR TABLE t"
    ));
    cluster
}

#[test]
fn a_slot_is_made_freed_and_dropped_as_check_says() {
    let cluster = with_table();
    let given = Requirements {
        create_slot: false,
        ..wanted()
    };
    cure(&cluster, &given, Code::SlotMissing);
    assert_eq!(found(&cluster, &given), []);
    if version(&cluster) >= 170_000 {
        assert_eq!(cluster.psql("SELECT failover FROM pg_replication_slots"), "t");
    }
    write(&cluster, "t");
    let reader = Connection::connect(&info(&cluster.url("postgres")), Purpose::Replication).unwrap();
    let begin = StartReplication::pgoutput(given.slot.clone(), Lsn::ZERO, &given.publications);
    let _stream = reader.start_replication(&begin).unwrap();
    let finding = of_kind(&cluster, &given, Code::SlotActive).unwrap();
    let free = &finding.cure[finding.cure.find("SELECT pg_terminate_backend").unwrap()..];
    cluster.psql(free);
    crate::wait_for("the slot is free", || found(&cluster, &given).is_empty());
    cluster.psql("SELECT pg_drop_replication_slot('s')");
    for (code, make) in [
        (
            Code::SlotOfOtherPlugin,
            "pg_create_logical_replication_slot('s', 'test_decoding')",
        ),
        (
            Code::SlotTwoPhase,
            "pg_create_logical_replication_slot('s', 'pgoutput', false, true)",
        ),
    ] {
        cluster.psql(&format!("SELECT {make}"));
        cure(&cluster, &wanted(), code);
        assert_eq!(found(&cluster, &wanted()), [], "{code:?}");
    }
    write(&cluster, "t");
}

#[test]
fn a_lost_slot_is_made_anew_as_check_says() {
    let settings = [
        "max_slot_wal_keep_size = 1MB",
        "max_wal_size = 32MB",
        "min_wal_size = 32MB",
    ];
    let cluster = Cluster::start(&Options {
        settings: settings.map(str::to_owned).to_vec(),
        ..Options::default()
    })
    .unwrap();
    cluster.psql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); CREATE PUBLICATION p FOR TABLE t;
         SELECT pg_create_logical_replication_slot('s', 'pgoutput')"
    ));
    for _ in 0..3 {
        cluster.psql("INSERT INTO t VALUES (1, '', ''); DELETE FROM t; SELECT pg_switch_wal(); CHECKPOINT");
    }
    cure(&cluster, &wanted(), Code::SlotLost);
    assert_eq!(found(&cluster, &wanted()), []);
    write(&cluster, "t");
}

#[test]
fn a_role_is_given_what_it_lacks_as_check_says() {
    let cluster = with_table();
    cluster.psql("CREATE ROLE \"Plain\" LOGIN; ALTER TABLE t ENABLE ROW LEVEL SECURITY");
    let mut plain = info(&cluster.url("postgres"));
    plain.user = "Plain".into();
    for code in [Code::NoReplicationRight, Code::NoSelectRight, Code::RowSecurity] {
        let found = check(&plain, &wanted()).unwrap();
        let finding = found.iter().find(|finding| finding.code == code);
        let finding = finding.unwrap_or_else(|| panic!("no {code:?}: {found:?}"));
        for statement in statements(&finding.cure) {
            cluster.psql(statement);
        }
    }
    assert_eq!(check(&plain, &wanted()).unwrap(), []);
    write(&cluster, "t");
}

#[test]
fn tables_are_logged_and_given_keys_as_check_says() {
    let cluster = start();
    cluster.psql(&format!(
        "CREATE TABLE t (id int, {COLUMNS}, PRIMARY KEY (id, area)) PARTITION BY LIST (area);
         CREATE TABLE a PARTITION OF t FOR VALUES IN ('a'); CREATE UNLOGGED TABLE u PARTITION OF t FOR VALUES IN ('u');
         CREATE TABLE keyless (id int, {COLUMNS});
         CREATE PUBLICATION p FOR TABLE t, keyless WITH (publish_via_partition_root)"
    ));
    cure(&cluster, &wanted(), Code::RowsLeftOut);
    assert_cured(&cluster, &wanted(), Code::RowsLeftOut);
    let finding = of_kind(&cluster, &wanted(), Code::NoReplicaIdentity).unwrap();
    cluster.psql(&statements(&finding.cure)[0].replace('…', "id"));
    assert_eq!(found(&cluster, &wanted()), []);
    write(&cluster, "t");
    write(&cluster, "keyless");
}

#[test]
fn a_table_with_virtual_columns_is_given_a_key_as_check_says() {
    let cluster = start();
    if version(&cluster) < 180_000 {
        return crate::left_out("virtual generated columns", "they came with version 18");
    }
    cluster.psql(&format!(
        "CREATE TABLE t (id int, {COLUMNS}, g text GENERATED ALWAYS AS (state || 'x') VIRTUAL); ALTER TABLE t REPLICA IDENTITY FULL"
    ));
    let finding = of_kind(&cluster, &wanted(), Code::PublicationMissing).unwrap();
    println!("{finding}");
    for statement in statements(&finding.cure) {
        cluster.psql(&statement.replace('…', "id"));
    }
    write(&cluster, "t");
    assert_eq!(found(&cluster, &wanted()), []);
}

//! Settings of the server, and roles that it does not let in.

use walcast::cluster::{Cluster, Options, Shutdown};
use walcast::postgres::*;

use super::*;
use crate::{info, left_out};

fn with(settings: &[&str]) -> Cluster {
    let cluster = Cluster::start(&Options {
        settings: settings.iter().map(|line| (*line).to_owned()).collect(),
        ..Options::default()
    })
    .unwrap();
    cluster.psql(&format!(
        "CREATE TABLE t (id int PRIMARY KEY, {COLUMNS}); CREATE PUBLICATION p FOR TABLE t"
    ));
    cluster
}

fn restart(cluster: &mut Cluster) {
    cluster.stop(Shutdown::Fast).unwrap();
    cluster.resume().unwrap();
}

#[test]
fn settings_are_changed_as_check_says_and_serve_would_work() {
    let mut cluster = with(&[
        "wal_level = replica",
        "max_wal_senders = 1",
        "max_replication_slots = 1",
    ]);
    cure(&cluster, &wanted(), Code::WalLevel);
    restart(&mut cluster);
    assert_eq!(found(&cluster, &wanted()), []);
    cluster.psql("SELECT pg_create_logical_replication_slot('other', 'pgoutput')");
    let mut only = Connection::connect(&info(&cluster.url("postgres")), Purpose::Replication).unwrap();
    only.identify_system().unwrap();
    cure(&cluster, &wanted(), Code::WalSendersUsedUp);
    cure(&cluster, &wanted(), Code::SlotsUsedUp);
    only.close();
    restart(&mut cluster);
    let _another = Connection::connect(&info(&cluster.url("postgres")), Purpose::Replication).unwrap();
    assert_eq!(found(&cluster, &wanted()), []);
    write(&cluster, "t");
}

#[test]
fn commits_do_not_wait_for_walcast_once_what_check_says_is_run() {
    let cluster = with(&["synchronous_standby_names = '*'", "synchronous_commit = local"]);
    cure(&cluster, &wanted(), Code::Synchronous);
    crate::wait_for("the setting holds", || {
        of_kind(&cluster, &wanted(), Code::Synchronous).is_none()
    });
    write(&cluster, "t");
}

#[test]
fn standbys_that_the_slot_waits_for_in_vain_are_found_and_waited_for_no_more() {
    let cluster = with(&[]);
    if version(&cluster) < 170_000 {
        return left_out("synchronized_standby_slots", "it came with version 17");
    }
    let set = |value: &str| {
        cluster.psql(&format!("ALTER SYSTEM SET synchronized_standby_slots = {value}"));
        cluster.psql("SELECT pg_reload_conf()");
        let plain = value.replace('\'', "");
        crate::wait_for("the setting holds", || {
            cluster.psql("SHOW synchronized_standby_slots") == plain
        });
    };
    cluster.psql(
        "SELECT pg_create_physical_replication_slot('idle', true); SELECT pg_create_logical_replication_slot('logical', 'pgoutput')",
    );
    assert_eq!(found(&cluster, &wanted()), []);
    set("'idle, nowhere'");
    let finding = of_kind(&cluster, &wanted(), Code::StandbySlots).unwrap();
    assert!(
        finding
            .what
            .contains("idle is read by nobody, nowhere does not exist"),
        "{finding}"
    );
    // A slot that standbys have no copies of does not wait.
    cluster.psql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    assert_cured(&cluster, &wanted(), Code::StandbySlots);
    cluster.psql("SELECT pg_drop_replication_slot('s')");
    cluster.psql("SELECT pg_create_logical_replication_slot('s', 'pgoutput', failover => true)");
    cure(&cluster, &wanted(), Code::StandbySlots);
    crate::wait_for("it waits no more", || {
        of_kind(&cluster, &wanted(), Code::StandbySlots).is_none()
    });
    assert_eq!(cluster.psql("SHOW synchronized_standby_slots"), "");
    write(&cluster, "t");
    // One that is there is kept.
    let _standby = Cluster::standby_of(&cluster, &["primary_slot_name = 'idle'".to_owned()]).unwrap();
    crate::wait_for("the slot is read", || {
        cluster.psql("SELECT active FROM pg_replication_slots WHERE slot_name = 'idle'") == "t"
    });
    set("'idle, nowhere'");
    cure(&cluster, &wanted(), Code::StandbySlots);
    crate::wait_for("the other is kept", || {
        cluster.psql("SHOW synchronized_standby_slots") == "idle"
    });
    assert_cured(&cluster, &wanted(), Code::StandbySlots);
}

#[test]
fn a_slot_that_is_given_up_when_walcast_is_away_is_warned_of() {
    let cluster = with(&[]);
    if version(&cluster) < 180_000 {
        return left_out("idle_replication_slot_timeout", "it came with version 18");
    }
    assert_eq!(found(&cluster, &wanted()), []);
    cluster.psql("ALTER SYSTEM SET idle_replication_slot_timeout = '90min'");
    cluster.psql("SELECT pg_reload_conf()");
    crate::wait_for("the setting holds", || {
        of_kind(&cluster, &wanted(), Code::IdleSlotTimeout).is_some()
    });
    let finding = cure(&cluster, &wanted(), Code::IdleSlotTimeout);
    assert!(finding.what.contains("for 90min (idle"), "{finding}");
    crate::wait_for("it is kept", || {
        of_kind(&cluster, &wanted(), Code::IdleSlotTimeout).is_none()
    });
    write(&cluster, "t");
}

/// The SQL that stands inside what is said, up to its semicolon.
fn inside(words: &str) -> &str {
    let starts = ["ALTER ", "GRANT "].iter().filter_map(|word| words.find(word));
    let sql = &words[starts.min().unwrap()..];
    &sql[..=sql.find(';').unwrap()]
}

#[test]
fn a_role_that_is_not_let_in_is_once_what_is_said_is_run() {
    let cluster = with(&[]);
    cluster.psql("CREATE ROLE \"Odd role\" REPLICATION; CREATE DATABASE \"Odd base\"; REVOKE CONNECT ON DATABASE \"Odd base\" FROM PUBLIC");
    let mut odd = info(&cluster.url("postgres"));
    odd.user = "Odd role".into();
    odd.database = "Odd base".into();
    let connect = || Connection::connect(&odd, Purpose::Application);
    let mended = |words: &str| {
        let refusal = connect().unwrap_err();
        let step = next_step(&refusal, &odd).unwrap_or_else(|| panic!("{refusal}"));
        println!("{refusal}\n    {step}");
        assert!(step.contains(words), "{step}");
        cluster.psql(inside(&step));
    };
    mended("LOGIN");
    mended("GRANT CONNECT");
    connect().unwrap().close();
    cluster.psql("ALTER ROLE \"Odd role\" CONNECTION LIMIT 0");
    mended("the role has no more connections");
    cluster.psql("ALTER DATABASE \"Odd base\" CONNECTION LIMIT 0");
    mended("the database has no more connections");
    connect().unwrap().close();
    write(&cluster, "t");
}

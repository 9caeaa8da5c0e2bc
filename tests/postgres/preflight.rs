//! Preflight on real servers: each finding is provoked once.

use walcast::cluster::{Cluster, Options, Shutdown};
use walcast::lsn::Lsn;
use walcast::postgres::Severity::{Blocks, Warns};
use walcast::postgres::*;

use crate::{connect, info, left_out};

fn wanted(slot: &str, publications: &[&str]) -> Requirements {
    Requirements {
        slot: SlotName::new(slot).unwrap(),
        publications: publications
            .iter()
            .map(|name| Publication::new(*name).unwrap())
            .collect(),
        plugin: Plugin::Pgoutput,
        create_slot: false,
        recreate_slot: false,
        create_publication: false,
    }
}

fn creating(slot: &str, publications: &[&str]) -> Requirements {
    Requirements {
        create_slot: true,
        create_publication: true,
        ..wanted(slot, publications)
    }
}

fn findings(cluster: &Cluster, wanted: &Requirements) -> Vec<(Code, Severity)> {
    let findings = check(&info(&cluster.url("postgres")), wanted).unwrap();
    for finding in &findings {
        println!("{finding}");
    }
    findings
        .iter()
        .map(|finding| (finding.code, finding.severity))
        .collect()
}

#[test]
fn a_good_setup_has_no_findings() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    cluster.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR ALL TABLES");
    assert_eq!(findings(&cluster, &creating("s", &["p"])), []);
    assert_eq!(findings(&cluster, &creating("s", &["made_later"])), []);
    cluster.psql("SELECT pg_create_logical_replication_slot('s', 'pgoutput')");
    assert_eq!(findings(&cluster, &wanted("s", &["p"])), []);
    // What it says to do for a missing publication is what `create_publication` does.
    let mut sql = Connection::connect(&info(&cluster.url("postgres")), Purpose::Application).unwrap();
    let odd = [Publication::new("od\"d").unwrap()];
    assert_eq!(sql.missing_publications(&odd).unwrap(), odd);
    sql.create_publication(&odd[0]).unwrap();
    assert_eq!(sql.missing_publications(&odd).unwrap(), []);
}

#[test]
fn what_is_wrong_with_slots_is_found() {
    let cluster = Cluster::start(&Options {
        settings: vec!["max_wal_senders = 1".into()],
        ..Options::default()
    })
    .unwrap();
    cluster
        .psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t; CREATE DATABASE other");
    cluster.psql("SELECT pg_create_physical_replication_slot('physical')");
    cluster.psql("SELECT pg_create_logical_replication_slot('decoding', 'test_decoding')");
    cluster.psql("SELECT pg_create_logical_replication_slot('prepared', 'pgoutput', false, true)");
    cluster
        .try_psql(
            "other",
            "SELECT pg_create_logical_replication_slot('elsewhere', 'pgoutput')",
        )
        .unwrap();
    let cases = [
        ("missing", Code::SlotMissing),
        ("physical", Code::SlotPhysical),
        ("decoding", Code::SlotOfOtherPlugin),
        ("elsewhere", Code::SlotOfOtherDatabase),
        ("prepared", Code::SlotTwoPhase),
    ];
    for (slot, code) in cases {
        assert_eq!(
            findings(&cluster, &wanted(slot, &["p"])),
            [(code, Blocks)],
            "{slot}"
        );
    }
    // Reading the slot takes the only walsender.
    let mut reader = Connection::connect(&info(&cluster.url("postgres")), Purpose::Replication).unwrap();
    let slot = SlotName::new("active").unwrap();
    reader.create_slot(&slot, "pgoutput", || true).unwrap();
    let publications = [Publication::new("p").unwrap()];
    let _stream = reader
        .start_replication(&StartReplication::pgoutput(slot, Lsn::ZERO, &publications))
        .unwrap();
    let found = findings(&cluster, &wanted("active", &["p"]));
    assert_eq!(
        found,
        [(Code::WalSendersUsedUp, Blocks), (Code::SlotActive, Warns)]
    );
}

#[test]
fn a_lost_slot_and_used_up_slots_are_found() {
    let cluster = Cluster::start(&Options {
        settings: [
            "max_slot_wal_keep_size = 1MB",
            "max_wal_size = 32MB",
            "min_wal_size = 32MB",
            "max_replication_slots = 1",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..Options::default()
    })
    .unwrap();
    cluster.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t");
    cluster.psql("SELECT pg_create_logical_replication_slot('old', 'pgoutput')");
    assert_eq!(
        findings(&cluster, &creating("new", &["p"])),
        [(Code::SlotsUsedUp, Blocks)]
    );
    for _ in 0..3 {
        cluster.psql("INSERT INTO t VALUES (1); DELETE FROM t; SELECT pg_switch_wal(); CHECKPOINT");
    }
    assert_eq!(
        findings(&cluster, &wanted("old", &["p"])),
        [(Code::SlotLost, Blocks)]
    );
    let recreating = Requirements {
        recreate_slot: true,
        ..creating("old", &["p"])
    };
    assert_eq!(findings(&cluster, &recreating), [(Code::SlotLost, Warns)]);
}

#[test]
fn what_is_wrong_with_publications_and_tables_is_found() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    cluster.psql(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE no_key (id int); CREATE SCHEMA s; CREATE TABLE s.hidden (id int PRIMARY KEY);
         CREATE PUBLICATION empty; CREATE PUBLICATION no_key FOR TABLE no_key;
         CREATE PUBLICATION inserts FOR TABLE no_key WITH (publish = 'insert'); CREATE PUBLICATION hidden FOR TABLE s.hidden;
         SELECT pg_create_logical_replication_slot('s', 'pgoutput');
         CREATE ROLE reader LOGIN REPLICATION; CREATE ROLE plain LOGIN",
    );
    let cases = [
        ("missing", Code::PublicationMissing, Blocks),
        ("empty", Code::PublicationEmpty, Warns),
        ("no_key", Code::NoReplicaIdentity, Warns),
        ("inserts", Code::PublicationPartial, Warns),
    ];
    for (publication, code, severity) in cases {
        let mut expected = vec![(code, severity)];
        // The other publication of the table has its updates fail, whichever is read.
        expected.extend((publication == "inserts").then_some((Code::NoReplicaIdentity, Warns)));
        assert_eq!(
            findings(&cluster, &wanted("s", &[publication])),
            expected,
            "{publication}"
        );
    }
    if cluster.psql("SHOW server_version_num").parse::<u32>().unwrap() >= 150_000 {
        cluster.psql(
            "CREATE PUBLICATION some_columns FOR TABLE t (id); CREATE PUBLICATION some_rows FOR TABLE t WHERE (id > 0);
             ALTER TABLE t ADD note text; SELECT pg_drop_replication_slot('s');
             SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
        );
        assert_eq!(
            findings(&cluster, &wanted("s", &["some_rows", "some_columns"])),
            [
                (Code::ColumnListsConflict, Blocks),
                (Code::PublicationFiltered, Warns)
            ]
        );
    }
    let as_role = |role: &str, wanted: &Requirements| {
        let url = cluster.url("postgres").replace("postgres@", &format!("{role}@"));
        let findings = check(&info(&url), wanted).unwrap();
        findings
            .into_iter()
            .map(|finding| (finding.code, finding.cure))
            .collect::<Vec<_>>()
    };
    let found = as_role("reader", &wanted("s", &["hidden"]));
    let cure = "GRANT USAGE ON SCHEMA s TO \"reader\";\nGRANT SELECT ON s.hidden TO \"reader\";";
    assert_eq!(found, [(Code::NoSelectRight, cure.to_owned())]);
    cluster.psql("GRANT USAGE ON SCHEMA s TO reader");
    let cure = "GRANT SELECT ON s.hidden TO \"reader\";";
    assert_eq!(
        as_role("reader", &wanted("s", &["hidden"])),
        [(Code::NoSelectRight, cure.to_owned())]
    );
    cluster.psql(cure);
    assert_eq!(as_role("reader", &wanted("s", &["hidden"])), []);
    // No more is asked for than is published.
    if cluster.psql("SHOW server_version_num").parse::<u32>().unwrap() >= 150_000 {
        cluster.psql(
            r#"CREATE TABLE listed (id int PRIMARY KEY, "Odd name" text, secret text);
               CREATE PUBLICATION listed FOR TABLE listed (id, "Odd name"); GRANT SELECT (id) ON listed TO reader;
               SELECT pg_drop_replication_slot('s'); SELECT pg_create_logical_replication_slot('s', 'pgoutput')"#,
        );
        let cure = r#"GRANT SELECT ("Odd name") ON public.listed TO "reader";"#;
        let found = as_role("reader", &wanted("s", &["listed"]));
        assert_eq!(found, [(Code::NoSelectRight, cure.to_owned())]);
        cluster.psql(cure);
        assert_eq!(as_role("reader", &wanted("s", &["listed"])), []);
    }
    cluster.psql("ALTER TABLE s.hidden ENABLE ROW LEVEL SECURITY");
    let cure = r#"ALTER ROLE "reader" BYPASSRLS;"#;
    let found = as_role("reader", &wanted("s", &["hidden"]));
    assert_eq!(found, [(Code::RowSecurity, cure.to_owned())]);
    cluster.psql(cure);
    assert_eq!(as_role("reader", &wanted("s", &["hidden"])), []);
    // Only the one that is missing is made.
    let found = as_role("reader", &creating("s", &["empty", "new"]));
    let (code, cure) = &found[0];
    assert_eq!(*code, Code::CannotCreatePublication);
    assert!(
        cure.contains("CREATE PUBLICATION \"new\"") && !cure.contains("empty"),
        "{cure}"
    );
    let found = as_role("plain", &wanted("s", &["empty"]));
    assert_eq!(
        found.first().map(|(code, _)| *code),
        Some(Code::NoReplicationRight)
    );
}

#[test]
fn a_publication_that_is_younger_than_the_slot_is_found() {
    let cluster = Cluster::start(&Options::default()).unwrap();
    cluster.psql(
        "CREATE TABLE t (id int PRIMARY KEY); SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    );
    // What is to be made first is named first.
    let missing = [(Code::PublicationMissing, Blocks), (Code::SlotMissing, Blocks)];
    assert_eq!(findings(&cluster, &wanted("none", &["p"])), missing);
    cluster.psql("CREATE PUBLICATION p FOR TABLE t");
    let found = match cluster.psql("SHOW server_version_num").parse::<u32>().unwrap() {
        ..180_000 => vec![(Code::PublicationYoungerThanSlot, Warns)],
        _ => vec![],
    };
    assert_eq!(findings(&cluster, &wanted("s", &["p"])), found);
    cluster.psql(
        "SELECT pg_drop_replication_slot('s'); SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
    );
    assert_eq!(findings(&cluster, &wanted("s", &["p"])), []);
}

#[test]
fn a_server_that_cannot_decode_is_found() {
    let cluster = Cluster::start(&Options {
        settings: vec!["wal_level = replica".into()],
        initdb: vec!["--encoding=SQL_ASCII".into(), "--locale=C".into()],
        hba: vec!["local all not_here reject".into()],
        ..Options::default()
    })
    .unwrap();
    cluster.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t");
    let found = findings(&cluster, &creating("s", &["p"]));
    assert_eq!(found, [(Code::WalLevel, Blocks), (Code::Encoding, Blocks)]);
    let refused = check(
        &info(&cluster.url("postgres").replace("postgres@", "not_here@")),
        &creating("s", &["p"]),
    );
    assert_eq!(refused.unwrap_err().sqlstate(), Some("28000"));
}

fn with_wal2json(slot: &str) -> Requirements {
    Requirements {
        plugin: Plugin::Wal2json,
        ..creating(slot, &["p"])
    }
}

#[test]
fn a_server_without_the_plugin_is_found() {
    let cluster = Cluster::start(&Options {
        settings: vec!["dynamic_library_path = '/nowhere'".into()],
        ..Options::default()
    })
    .unwrap();
    cluster.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t");
    assert_eq!(findings(&cluster, &creating("s", &["p"])), []);
    let found = check(&info(&cluster.url("postgres")), &with_wal2json("s")).unwrap();
    let [finding] = found.as_slice() else {
        panic!("{found:?}")
    };
    // The minor versions since August 2026 ask first whether it is allowed.
    let setting = cluster.psql("SELECT coalesce(current_setting('output_plugin_libraries', true), '')");
    if setting.is_empty() {
        assert_eq!((finding.code, finding.severity), (Code::PluginMissing, Blocks));
        let major = connect(&cluster, Purpose::Application).server_version_num() / 10_000;
        let package = format!("postgresql-{major}-wal2json");
        assert!(finding.cure.contains(&package), "{finding}");
        left_out("output_plugin_libraries", "this server does not have the setting");
    } else {
        assert_eq!((finding.code, finding.severity), (Code::PluginNotAllowed, Blocks));
        let statement = finding.cure.lines().next().unwrap();
        cluster.psql(statement);
        cluster.psql("SELECT pg_reload_conf()");
        let found = check(&info(&cluster.url("postgres")), &with_wal2json("s")).unwrap();
        assert_eq!(found[0].code, Code::PluginMissing, "{found:?}");
    }
    assert_eq!(cluster.psql("SELECT count(*) FROM pg_replication_slots"), "0");
}

#[test]
fn what_wal2json_does_not_do_is_found() {
    let cluster = Cluster::start(&Options {
        initdb: vec!["--encoding=LATIN1".into(), "--locale=C".into()],
        ..Options::default()
    })
    .unwrap();
    cluster.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t");
    let found = |code| {
        let found = check(&info(&cluster.url("postgres")), &with_wal2json("s")).unwrap();
        found.iter().any(|finding| finding.code == code)
    };
    assert!(found(Code::Encoding));
    assert_eq!(findings(&cluster, &creating("s", &["p"])), []);
    if connect(&cluster, Purpose::Application).server_version_num() < 150_000 {
        return left_out("row filters", "they came with version 15");
    }
    assert!(!found(Code::RowFilter));
    cluster.psql("ALTER PUBLICATION p SET TABLE t WHERE (id > 0)");
    assert!(found(Code::RowFilter));
}

/// A server that ends with the test, however that ends.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
        drop(self.0.wait());
    }
}

#[test]
fn a_standby_is_found() {
    let mut primary = Cluster::start(&Options::default()).unwrap();
    primary.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t");
    // A copy of a server that is stopped: not every package of servers has pg_basebackup.
    let standby = primary.socket_directory().join("standby");
    primary.stop(Shutdown::Fast).unwrap();
    let copied = primary
        .command("cp")
        .arg("-a")
        .args([&primary.data(), &standby])
        .status();
    assert!(copied.unwrap().success());
    std::fs::write(standby.join("standby.signal"), "").unwrap();
    primary.resume().unwrap();
    let server = primary
        .command("postgres")
        .args(["-p", "5433", "-c", "listen_addresses=", "-D"])
        .arg(&standby)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _server = Ended(server);
    let url = primary
        .url("postgres")
        .replace(&format!(":{}/", primary.port()), ":5433/");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let found = loop {
        match check(&info(&url), &creating("s", &["p"])) {
            Ok(findings) => break findings,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let multi = format!(
        "host={0},{0} port=5433,{1} user=postgres dbname=postgres",
        primary.socket_directory().display(),
        primary.port()
    );
    let which = |attributes: &str| {
        let info = info(&format!("{multi} target_session_attrs={attributes}"));
        let mut connection = Connection::connect(&info, Purpose::Application).unwrap();
        connection.query("SELECT pg_is_in_recovery()").unwrap()[0].get(0) == Some("t")
    };
    let sessions = ["primary", "read-write", "standby", "read-only", "prefer-standby"].map(which);
    assert!(
        found.iter().any(|finding| finding.code == Code::InRecovery),
        "{found:?}"
    );
    assert_eq!(sessions, [false, false, true, true, true]);
}

#[test]
fn it_is_found_that_commits_will_wait_for_walcast() {
    let settings = [
        "synchronous_standby_names = 'ANY 1 (other, \"Walcast\")'",
        "synchronous_commit = local",
    ];
    let cluster = Cluster::start(&Options {
        settings: settings.map(str::to_owned).to_vec(),
        ..Options::default()
    })
    .unwrap();
    cluster.psql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR ALL TABLES");
    let wanted = creating("s", &["p"]);
    let called = |name: &str| {
        let url = format!("{}?application_name={name}", cluster.url("postgres"));
        let found = check(&info(&url), &wanted).unwrap();
        found
            .iter()
            .map(|finding| (finding.code, finding.severity))
            .collect::<Vec<_>>()
    };
    assert_eq!(called("walcast"), [(Code::Synchronous, Warns)]);
    assert_eq!(called("somebody"), []);
}

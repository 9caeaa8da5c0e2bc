//! A server that is restored from a base backup and its archive of WAL, up to a point in time, as docs/runbooks.md has it.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use walcast::cluster::Shutdown;

use crate::support::{Client, Database, Setup, eventually, left_out};

const SCHEMA: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";

fn insert(database: &Database, client: &mut Client, id: u32) -> Value {
    database.sql(&format!("INSERT INTO t VALUES ({id})"));
    let tx = client.expect("tx");
    assert_eq!(tx["changes"][0]["row"]["id"], id);
    tx["position"].clone()
}

/// Takes a base backup; false if this server's package has no program for it.
fn back_up(database: &Database, to: &Path) -> bool {
    let server = database.server();
    let mut command = server.command("pg_basebackup");
    command.args(["-U", "postgres", "-c", "fast", "-X", "none", "-h"]);
    command
        .arg(server.socket_directory())
        .args(["-p", &server.port().to_string(), "-D"])
        .arg(to);
    command.output().is_ok_and(|output| {
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        true
    })
}

#[test]
fn a_server_restored_to_a_point_in_time_lacks_the_slot_and_goes_on_in_a_new_epoch() {
    let archive = tempfile::Builder::new()
        .prefix("walcast-archive-")
        .tempdir_in("/tmp")
        .unwrap();
    fs::set_permissions(archive.path(), Permissions::from_mode(0o777)).unwrap();
    let archive = archive.path().display().to_string();
    let archiving =
        format!("archive_command = 'cp %p {archive}/%f.part && mv {archive}/%f.part {archive}/%f'");
    let database = Database::on_its_own_server(SCHEMA, &["archive_mode = on", &archiving]);
    let data = database.server().data();
    let backup = data.with_file_name("backup");
    let setup = Setup::new(&database);
    let walcast = setup.start();
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    insert(&database, &mut client, 1);
    if !back_up(&database, &backup) {
        return left_out(
            "a restore to a point in time",
            "this server comes without pg_basebackup",
        );
    }
    insert(&database, &mut client, 2);
    database.sql("SELECT pg_create_restore_point('before_the_mistake')");
    let place = insert(&database, &mut client, 3);
    let epoch = client.hello["epoch"].clone();
    let last = database.value("SELECT pg_walfile_name(pg_switch_wal())");
    eventually("the WAL is archived", || {
        Path::new(&archive).join(&last).exists().then_some(())
    });

    // The restore, as its administrator does it.
    {
        let mut server = database.server();
        server.stop(Shutdown::Immediate).unwrap();
        fs::rename(&data, data.with_file_name("lost")).unwrap();
        fs::rename(&backup, &data).unwrap();
        let mut settings = OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.auto.conf"))
            .unwrap();
        writeln!(
            settings,
            "restore_command = 'cp {archive}/%f %p'\nrecovery_target_name = 'before_the_mistake'\n\
             recovery_target_action = 'promote'"
        )
        .unwrap();
        let signal = data.join("recovery.signal");
        assert!(server.command("touch").arg(signal).status().unwrap().success());
        server.resume().unwrap();
    }
    eventually("it is promoted", || {
        (database.value("SELECT pg_is_in_recovery()") == "f").then_some(())
    });
    assert_eq!(database.value("SELECT count(*) FROM t"), "2");
    assert_eq!(database.value("SELECT count(*) FROM pg_replication_slots"), "0");

    // A base backup has no slots: walcast ends rather than go on with a gap, and says what to do.
    let log = walcast.ended_with_log();
    assert!(log.contains("--recreate-slot"), "{log}");
    let words = crate::support::refused(setup.command());
    assert!(
        words.contains(&setup.slot) && words.contains("--recreate-slot"),
        "{words}"
    );
    let setup = setup.switch("--recreate-slot");
    let walcast = setup.start();
    let mut client = walcast.connect();
    assert_ne!(client.hello["epoch"], epoch);
    let old = json!({"id": "old", "table": "t", "from": place, "epoch": epoch});
    assert_eq!(client.subscribe_refused(old)["code"], "resume_invalid");
    let rows = client.snapshot(json!({"id": "t", "table": "t"}));
    assert_eq!(rows, [json!({"id": 1}), json!({"id": 2})]);
    insert(&database, &mut client, 4);
}

//! Statements, slots and streams.

use std::time::{Duration, Instant};

use walcast::cluster::{Cluster, Options};
use walcast::lsn::Lsn;
use walcast::postgres::*;

use crate::{connect, info, publication, shared, slot, wait_for};

/// Makes a slot and starts to read a publication through it.
fn start(cluster: &Cluster, slot: &SlotName, publication: &Publication) -> ReplicationStream {
    let mut connection = connect(cluster, Purpose::Replication);
    connection.create_slot(slot, "pgoutput", || true).unwrap();
    let start = StartReplication::pgoutput(slot.clone(), Lsn::ZERO, std::slice::from_ref(publication));
    connection.start_replication(&start).unwrap()
}

/// The first bytes of the data frames up to and including the first `last`, with the end of the last one.
fn read_until(receiver: &mut Receiver, last: u8) -> (String, Lsn) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut kinds = String::new();
    while Instant::now() < deadline {
        while let Some(frame) = receiver.next().unwrap() {
            if let Frame::Data { body, wal_end, .. } = frame {
                kinds.push(char::from(body[0]));
                // Before version 15 transactions of other tests, without anything for this one, are sent too.
                if kinds.ends_with("BC") {
                    kinds.truncate(kinds.len() - 2);
                } else if body[0] == last {
                    return (kinds, wal_end);
                }
            }
        }
        receiver.fill(Duration::from_secs(1)).unwrap();
    }
    panic!("no {:?} after {kinds:?}", char::from(last));
}

#[test]
fn a_query_gives_rows_or_the_servers_own_error() {
    let cluster = &*shared();
    let mut connection = connect(cluster, Purpose::Application);
    let rows = connection
        .query("SELECT 1; SELECT 'ä', NULL, '' FROM generate_series(1, 2)")
        .unwrap();
    assert_eq!(rows.len(), 2);
    let row = rows.first().unwrap();
    assert_eq!(
        (row.get(0), row.get(1), row.get(2), row.get(3)),
        (Some("ä"), None, Some(""), None)
    );
    let error = connection.query("SELECT 1; SELECT nothing").unwrap_err();
    assert_eq!(error.sqlstate(), Some("42703"));
    assert!(!error.is_fatal());
    assert!(connection.query("").unwrap().is_empty());
    let version = connection.query("SHOW server_version_num").unwrap();
    assert_eq!(
        version[0].get(0),
        Some(connection.server_version_num().to_string().as_str())
    );
    let large = connection.query("SELECT repeat('x', 5000000)").unwrap();
    assert_eq!(large[0].get(0).map(str::len), Some(5_000_000));
}

#[test]
fn a_stream_delivers_frames_and_a_status_update_moves_the_slot() {
    let cluster = &*shared();
    cluster.psql("CREATE TABLE s1 (id int PRIMARY KEY); CREATE PUBLICATION s1 FOR TABLE s1");
    let name = slot("s1");
    let ReplicationStream { mut receiver, sender } = start(cluster, &name, &publication("s1"));
    cluster.psql("INSERT INTO s1 SELECT generate_series(1, 3)");
    let (kinds, end) = read_until(&mut receiver, b'C');
    assert_eq!(kinds, "BRIIIC");
    sender.send(&StatusUpdate::all_at(end)).unwrap();
    let mut sql = connect(cluster, Purpose::Application);
    wait_for("the slot to move", || {
        let state = sql.slot(&name).unwrap().unwrap();
        state.confirmed_flush_lsn == Some(end)
    });
    receiver.finish(Duration::from_secs(10)).unwrap();
    assert_eq!(sql.slot(&name).unwrap().unwrap().active_pid, None);
    sql.drop_slot(&name).unwrap();
    assert_eq!(sql.slot(&name).unwrap(), None);
}

#[test]
fn status_goes_out_while_the_reader_waits() {
    let cluster = &*shared();
    cluster.psql("CREATE PUBLICATION s2");
    let ReplicationStream { mut receiver, sender } = start(cluster, &slot("s2"), &publication("s2"));
    let reader = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            receiver.fill(Duration::from_secs(20)).unwrap();
            while let Some(frame) = receiver.next().unwrap() {
                if matches!(frame, Frame::Keepalive { .. }) {
                    return true;
                }
            }
        }
        false
    });
    let ask = StatusUpdate {
        reply_requested: true,
        ..StatusUpdate::default()
    };
    sender.send(&ask).unwrap();
    assert!(
        reader.join().unwrap(),
        "the answer to the status update woke the reader"
    );
}

#[test]
fn a_fast_shutdown_ends_the_stream_in_good_order() {
    let mut cluster = Cluster::start(&Options::default()).unwrap();
    cluster.psql("CREATE PUBLICATION p");
    let ReplicationStream { mut receiver, sender } = start(&cluster, &slot("s"), &publication("p"));
    // Until then a shutdown would be a plain 57P01.
    wait_for("the stream", || {
        cluster.psql("SELECT state FROM pg_stat_replication") == "streaming"
    });
    cluster.signal(rustix::process::Signal::INT).unwrap();
    let mut ended = false;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ended && Instant::now() < deadline {
        receiver.fill(Duration::from_secs(1)).unwrap();
        while let Some(frame) = receiver.next().unwrap() {
            match frame {
                Frame::Keepalive { wal_end, .. } => sender.send(&StatusUpdate::all_at(wal_end)).unwrap(),
                Frame::End => ended = true,
                _ => {}
            }
        }
    }
    assert!(ended);
    assert!(matches!(
        receiver.fill(Duration::from_secs(10)),
        Err(Error::Closed)
    ));
    assert!(cluster.wait().unwrap().unwrap().success());
}

#[test]
fn the_sessions_settings_are_pinned() {
    let cluster = &*shared();
    cluster.psql("CREATE DATABASE pinned; ALTER DATABASE pinned SET datestyle = 'German'; ALTER DATABASE pinned SET timezone = 'Asia/Tokyo'");
    let mut connection = Connection::connect(&info(&cluster.url("pinned")), Purpose::Replication).unwrap();
    let rows = connection
        .query("SELECT timestamptz '2026-01-02 03:04:05Z', '\\x01'::bytea")
        .unwrap();
    assert_eq!(
        (rows[0].get(0), rows[0].get(1)),
        (Some("2026-01-02 03:04:05+00"), Some("\\x01"))
    );
}

#[test]
fn a_slot_creation_that_waits_can_be_explained_and_given_up() {
    // A server of its own: the open transaction would hold up the other tests' slots.
    let cluster = Cluster::start(&Options::default()).unwrap();
    let mut holder = connect(&cluster, Purpose::Application);
    holder.query("BEGIN; CREATE TABLE held (id int)").unwrap();
    let mut creator = connect(&cluster, Purpose::Replication);
    let mut observer = connect(&cluster, Purpose::Application);
    let mut blockers = Vec::new();
    let created = creator.create_slot(&slot("waits"), "pgoutput", || {
        blockers = observer.slot_creation_blockers().unwrap();
        blockers.is_empty()
    });
    assert_eq!(created.unwrap_err().sqlstate(), Some("57014"));
    assert_eq!(blockers[0].pid, Some(holder.backend_pid()));
    assert!(
        blockers[0].description.contains("idle in transaction"),
        "{blockers:?}"
    );
    assert_eq!(observer.slot(&slot("waits")).unwrap(), None);
    let identity = creator.identify_system().unwrap();
    assert_eq!((identity.timeline, identity.database.as_str()), (1, "postgres"));
    assert_eq!(creator.timeline_history(identity.timeline).unwrap(), []);
}

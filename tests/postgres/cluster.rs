//! The throwaway server itself.
//!
//! Not a unit test: between fork and exec a child holds our files' locks, and the journal's tests, in the same process,
//! would now and then find theirs taken.

use walcast::cluster::{Cluster, Options, Shutdown};

#[test]
fn a_throwaway_server_runs_restarts_and_leaves_nothing_behind() {
    let mut cluster = Cluster::start(&Options {
        tcp: true,
        ..Options::default()
    })
    .unwrap();
    cluster.psql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    cluster.stop(Shutdown::Immediate).unwrap();
    assert!(cluster.try_psql("postgres", "SELECT 1").is_err());
    cluster.resume().unwrap();
    assert_eq!(cluster.psql("SELECT id FROM t; SHOW wal_level"), "1\nlogical");
    let directory = cluster.socket_directory().to_owned();
    drop(cluster);
    assert!(!directory.exists());
}

//! The wall clock is set while walcast runs: nothing but what it says of times may depend on it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::{Audience, Database, Follower, Pace, SCHEMA, Setup, Workload, left_out, queries, views};

/// Debian's library that shows one program another clock.
fn library() -> Option<PathBuf> {
    let directories = fs::read_dir("/usr/lib").ok()?.filter_map(Result::ok);
    let mut libraries = directories.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    libraries.find(|path| path.exists())
}

#[test]
fn a_clock_that_is_set_forth_and_back_ends_nothing_and_loses_nothing() {
    let Some(library) = library() else {
        return left_out("a clock that is set", "there is no libfaketime");
    };
    let database = Database::new(SCHEMA);
    let directory = tempfile::tempdir().unwrap();
    let clock = directory.path().join("clock");
    let set = |offset: &str| fs::write(&clock, offset).unwrap();
    set("+0");
    // The monotonic clock is not one that anybody sets.
    let setup = Setup::new(&database)
        .after(&format!(
            "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
             FAKETIME_DISABLE_SHM=1",
            library.display(),
            clock.display()
        ))
        .flag("--segment-bytes", "1MiB")
        .flag("--ping-interval", "200ms")
        .flag("--pong-timeout", "60s")
        .flag("--stall-timeout", "60s");
    let walcast = setup.start();
    let mut audience = Audience::new(setup.address());
    audience.join_with(views(&queries()));
    // One that comes and goes.
    audience.join(Follower::new(setup.address(), views(&queries())).cut_once_in(60, 4, 1));
    audience.everybody_has_joined();
    let pace = Pace {
        workers: 3,
        rest: Duration::from_millis(20),
        big: 5,
    };
    let workload = Workload::start(&database, pace);
    let now = || {
        let line = walcast.log().lines().last().unwrap_or_default().to_owned();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        line["timestamp"].as_str().unwrap_or_default().to_owned()
    };
    let mut before = now();
    let mut connects = walcast.metric("replication_connects_total");
    for offset in ["+3600", "-3600", "+0"] {
        set(offset);
        workload.goes_on(40);
        // It says what time it takes it to be.
        database.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_replication
             WHERE pid IN (SELECT active_pid FROM pg_replication_slots WHERE database = current_database())",
        );
        walcast.reads_again(connects);
        connects = walcast.metric("replication_connects_total");
        assert_ne!(now()[..13], before[..13], "the clock was not set to {offset}");
        before = now();
        workload.goes_on(40);
    }
    workload.finish();
    let followers = audience.judge(&database);
    assert_eq!(followers[0].connects, 1, "it was closed");
    for code in ["4001", "4002", "1001"] {
        let closed = format!("connections_closed_total{{code=\"{code}\"}}");
        assert_eq!(walcast.metric(&closed), 0.0, "{code}");
    }
    assert!(walcast.metric("commit_to_send_duration_seconds_count") > 0.0);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert!(walcast.stop().success());
}

//! Support for the tests: databases, walcast itself, clients that read like transcripts, and what goes wrong between
//! them.

// Two programs of tests stand on it, each on a part.
#![allow(dead_code, unused_imports)]

pub mod abuse;
mod audience;
mod authority;
mod client;
mod database;
mod failure;
mod follower;
pub mod guarded;
pub mod issuer;
mod line;
mod pages;
mod pooler;
mod printing;
mod proxy;
mod raw;
mod server;
mod view;
mod workload;

use std::fmt::Debug;
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

pub use audience::{Audience, queries, snapshot_views, views, views_from};
pub use authority::Authority;
pub use client::{Client, End, Incoming, Refused};
pub use database::{Database, connect};
pub use follower::{Follower, Forgiven, Goal, Mishaps};
pub use line::Line;
pub use pages::{block, blocks, versions};
pub use pooler::Pooler;
pub use printing::Printing;
pub use proxy::{Direction, Proxy};
pub use raw::Raw;
pub use server::{PROGRAM, Setup, Walcast, http, http_get, refused};
pub use view::{At, View, names};
pub use workload::{Pace, SCHEMA, Workload, text};

/// The time that anything may take. Generous: it is only ever waited for in full by a test that fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Looks again and again until there is something, and fails the test if there never is.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a value is the expected one.
pub fn eventually_equal<T: PartialEq + Debug>(what: &str, expected: T, mut look: impl FnMut() -> T) {
    let until = Instant::now() + DEADLINE;
    loop {
        let found = look();
        if found == expected {
            return;
        }
        assert!(
            Instant::now() < until,
            "{what}: {found:?} instead of {expected:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

/// True if the server has the plugin wal2json; says so if not.
pub fn has_wal2json() -> bool {
    let database = Database::new("");
    let is_there = database.connect().query("LOAD 'wal2json'").is_ok();
    if !is_there {
        let version = database.value("SHOW server_version");
        left_out(
            "wal2json",
            &format!("the server {version} does not have the plugin"),
        );
    }
    is_there
}

/// Says that this machine lacks what a test is about: past the capture, which keeps what passing tests print to itself.
pub fn left_out(what: &str, why: &str) {
    let line = format!("left out: {what}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

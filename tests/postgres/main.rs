//! Talking to a real Postgres.

// Outside a test function's own body clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod advice;
mod catalog;
mod cluster;
mod login;
mod portal;
mod preflight;
mod published;
mod stream;
mod tls;

use std::io::Write;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use walcast::cluster::{Cluster, Options};
use walcast::postgres::{ConnInfo, Connection, Publication, Purpose, SlotName};

/// A server that the tests share; each makes tables, roles and slots of its own names. It ends with the last test that
/// holds it: a static itself would never be dropped.
fn shared() -> Arc<Cluster> {
    static CLUSTER: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut current = CLUSTER.lock();
    current.upgrade().unwrap_or_else(|| {
        let hba = [
            "host all by_password 127.0.0.1/32 password",
            "host all by_md5 127.0.0.1/32 md5",
            "host all by_scram 127.0.0.1/32 scram-sha-256",
            "host all by_none 127.0.0.1/32 reject",
        ];
        let options = Options {
            tcp: true,
            hba: hba.map(str::to_owned).to_vec(),
            ..Options::default()
        };
        let cluster = Arc::new(Cluster::start(&options).unwrap());
        *current = Arc::downgrade(&cluster);
        cluster
    })
}

fn info(url: &str) -> ConnInfo {
    ConnInfo::parse_with(url, |name| (name == "USER").then(|| "postgres".into())).unwrap()
}

fn connect(cluster: &Cluster, purpose: Purpose) -> Connection {
    Connection::connect(&info(&cluster.url("postgres")), purpose).unwrap()
}

fn slot(name: &str) -> SlotName {
    SlotName::new(name).unwrap()
}

fn publication(name: &str) -> Publication {
    Publication::new(name).unwrap()
}

/// Says that this server lacks what a test is about: past the capture, which keeps what passing tests print to itself.
fn left_out(what: &str, why: &str) {
    let line = format!("left out: {what}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

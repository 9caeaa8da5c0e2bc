//! The program of an earlier version against this one, on the same database: `WALCAST_PREVIOUS` is its path.
//! `make test-upgrade` builds that of the last tag, or of `FROM=<commit>`, and runs these tests.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::standby::{start_standby, vouched_for};
use crate::support::{
    Audience, Client, Database, Pace, SCHEMA, Setup, Walcast, Workload, eventually, left_out, queries,
    refused, views,
};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t";

/// The program of an earlier version, if there is one.
fn previous() -> Option<PathBuf> {
    let path = std::env::var_os("WALCAST_PREVIOUS").map(PathBuf::from);
    if path.is_none() {
        left_out(
            "an earlier version beside this one",
            "WALCAST_PREVIOUS names no program (make test-upgrade)",
        );
    }
    path
}

/// One that is run by the program of an earlier version until it is told otherwise.
fn setup_of(database: &Database, previous: &Path) -> Setup {
    let mut setup = Setup::new(database);
    setup.run_by(previous);
    setup
}

/// Stops the one that serves, as an operator does, once no client is further behind than the standby can serve, and
/// sends clients to the standby.
fn hand_over(
    database: &Database,
    from: Walcast,
    on: &Setup,
    to: &Walcast,
    audience: &Audience,
    way: &Mutex<SocketAddr>,
) {
    vouched_for(database, on);
    eventually("clients keep up", || {
        (audience.reached() >= database.confirmed(&on.slot)).then_some(())
    });
    assert!(from.stop().success());
    eventually("the other has taken over", || to.ready().ok());
    *way.lock().unwrap() = to.listen();
    assert_eq!(to.metric("epoch_changes_total"), 0.0);
}

#[test]
fn both_of_a_pair_are_upgraded_and_taken_back_one_by_one_and_nobody_misses_anything() {
    let Some(previous) = previous() else { return };
    let database = Database::new(SCHEMA);
    let mut one = setup_of(&database, &previous);
    let mut two = setup_of(&database, &previous);
    let first = one.start();
    // What leads clients to the one that serves: a load balancer, say.
    let way = Setup::new(&database).address();
    *way.lock().unwrap() = first.listen();
    let mut audience = Audience::new(Arc::clone(&way));
    for some in queries().chunks(4) {
        audience.join_with(views(some));
    }
    audience.everybody_has_joined();
    let pace = Pace {
        workers: 3,
        rest: Duration::from_millis(20),
        big: 3,
    };
    let workload = Workload::start(&database, pace);
    let second = start_standby(&first, &two);
    workload.goes_on(50);
    // The standby first: it stops, and starts with the new program on the same directory.
    assert!(second.stop().success());
    two.run_by(Path::new(crate::support::PROGRAM));
    let second = start_standby(&first, &two);
    hand_over(&database, first, &one, &second, &audience, &way);
    workload.goes_on(50);
    one.run_by(Path::new(crate::support::PROGRAM));
    let first = start_standby(&second, &one);
    hand_over(&database, second, &one, &first, &audience, &way);
    workload.goes_on(50);
    // And back: the earlier version stands by with an empty directory, whatever the format of the others is.
    let three = setup_of(&database, &previous);
    let third = start_standby(&first, &three);
    hand_over(&database, first, &one, &third, &audience, &way);
    workload.goes_on(50);
    workload.finish();
    let followers = audience.judge_by_the_tables(&database);
    for follower in followers {
        assert!(follower.connects >= 4, "{} connections", follower.connects);
    }
}

fn follow(walcast: &Walcast) -> Client {
    let mut client = walcast.connect();
    client.subscribe_live(json!({"id": "t", "table": "t"}));
    client
}

/// Writes rows, and returns the place of each.
fn write(database: &Database, client: &mut Client, ids: std::ops::Range<u32>) -> Vec<(u32, Value)> {
    let places = ids.map(|id| {
        database.sql(&format!("INSERT INTO t VALUES ({id})"));
        let tx = client.expect("tx");
        assert_eq!(tx["changes"][0]["row"]["id"], id);
        (id, tx["position"].clone())
    });
    places.collect()
}

/// Clients resume from each of these places, and get what comes behind it, once.
fn resume_from(walcast: &Walcast, places: &[(u32, Value)], epoch: &Value) {
    let last = places.last().unwrap().0;
    for (at, place) in places {
        let mut client = walcast.connect();
        assert_eq!(client.hello["epoch"], *epoch);
        client.subscribe(json!({"id": "t", "table": "t", "from": place, "epoch": epoch}));
        for id in at + 1..=last {
            assert_eq!(client.change()["row"]["id"], id);
        }
        client.expect("live");
    }
}

fn manifest(setup: &Setup) -> String {
    fs::read_to_string(setup.data().join("journal.json")).unwrap()
}

fn format(setup: &Setup) -> u64 {
    let manifest: Value = serde_json::from_str(&manifest(setup)).unwrap();
    manifest["format"].as_u64().unwrap()
}

#[test]
fn a_directory_is_taken_over_and_given_back_where_the_format_is_the_same() {
    let Some(previous) = previous() else { return };
    let database = Database::new(TABLE);
    let mut setup = setup_of(&database, &previous);
    let walcast = setup.start();
    let mut client = follow(&walcast);
    let epoch = client.hello["epoch"].clone();
    let mut places = write(&database, &mut client, 0..5);
    assert!(walcast.stop().success());
    let before = format(&setup);

    setup.run_by(Path::new(crate::support::PROGRAM));
    let walcast = setup.start();
    resume_from(&walcast, &places, &epoch);
    places.extend(write(&database, &mut follow(&walcast), 5..10));
    resume_from(&walcast, &places, &epoch);
    assert_eq!(walcast.metric("epoch_changes_total"), 0.0);
    assert!(walcast.stop().success());

    setup.run_by(&previous);
    if format(&setup) == before {
        let walcast = setup.start();
        resume_from(&walcast, &places, &epoch);
        assert!(walcast.stop().success());
    } else {
        // No way back in place: it says so, and this version goes on afterwards.
        let raised = manifest(&setup);
        let words = refused(setup.command());
        assert!(words.contains("format"), "{words}");
        assert_eq!(manifest(&setup), raised);
    }
    setup.run_by(Path::new(crate::support::PROGRAM));
    resume_from(&setup.start(), &places, &epoch);
}

#[test]
fn a_copy_of_the_directory_from_before_the_upgrade_begins_a_new_epoch() {
    let Some(previous) = previous() else { return };
    let database = Database::new(TABLE);
    let mut setup = setup_of(&database, &previous);
    let walcast = setup.start();
    let mut client = follow(&walcast);
    let epoch = client.hello["epoch"].clone();
    write(&database, &mut client, 0..5);
    assert!(walcast.stop().success());
    let data = setup.data();
    let copy = data.with_file_name("copy");
    let cp = |from: &Path, to: &Path| {
        let status = std::process::Command::new("cp")
            .arg("-a")
            .args([from, to])
            .status();
        assert!(status.unwrap().success());
    };
    cp(&data, &copy);
    setup.run_by(Path::new(crate::support::PROGRAM));
    let walcast = setup.start();
    let places = write(&database, &mut follow(&walcast), 5..10);
    vouched_for(&database, &setup);
    assert!(walcast.stop().success());
    // What was confirmed meanwhile is in no journal that the earlier version has.
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&copy, &data).unwrap();
    setup.run_by(&previous);
    let walcast = setup.start();
    let mut client = walcast.connect();
    assert_ne!(client.hello["epoch"], epoch);
    let old = json!({"id": "t", "table": "t", "from": places[4].1, "epoch": epoch});
    assert_eq!(client.subscribe_refused(old)["code"], "resume_invalid");
}

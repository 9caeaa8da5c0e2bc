//! Everything at once: writers, clients and faults at random, and an oracle that knows what must come of it.
//!
//! Between rounds the writers pause, and each client's view has to be its query's result; strictly folded all along, no
//! change may come twice, out of order or to a row that is not there. At the end each has to have got, change for
//! change, what a client gets that reads all of it at once. A client may be told to start again only after a fault
//! that no history survives, or because of what was done to its table, and then for that reason: a column that its
//! query goes by has another type or is another one, a key is another one, a partition has a replica identity that
//! leaves open what it must know. No writer may be held up.
//!
//! Beside the workload's tables there are messages in savepoints ([`said`]), a partitioned table ([`ledger`]), one
//! whose columns change places ([`person`]), and publications of the shape that the run draws ([`shapes`]). Somebody
//! changes what is set for walcast's role, and which commits wait for it ([`settings`]).
//!
//! The seed is printed; `WALCAST_SEED` sets it. `WALCAST_TORTURE` sets how long it goes on, in seconds, and
//! `WALCAST_FAULTS` which faults there are, by their names.

// Clippy allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod faults;
mod further;
mod ledger;
mod person;
mod queries;
mod said;
mod settings;
mod shapes;
// What the integration tests stand on.
#[allow(unreachable_pub)]
#[path = "../it/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::json;

use faults::{Ground, RETYPED, SCHEMA_CHANGES};
use queries::query;
use support::{At, Database, Follower, Goal, Pace, SCHEMA, View, Workload, names};

/// The time that it goes on if `WALCAST_TORTURE` does not say.
const SECONDS: u64 = 60;
/// The number of clients that there are at a time.
const CLIENTS: usize = 50;
/// The number of faults that come before the writers pause.
const FAULTS_A_ROUND: usize = 4;
const PACE: Pace = Pace {
    workers: 4,
    rest: Duration::from_millis(80),
    big: 3,
};

/// A client for one round: it has its views from the round before.
struct Clients {
    followers: Vec<Follower>,
    rng: Rng,
    made: usize,
}

impl Clients {
    /// As many clients as there are to be: some leave, new ones come.
    fn renew(&mut self, ground: &Ground) {
        let rng = &mut self.rng;
        self.followers.retain(|_| rng.u32(0..8) > 0);
        while self.followers.len() < CLIENTS {
            let client = self.new_client(ground);
            self.followers.push(client);
        }
    }

    /// The views of a new client.
    fn views(&mut self, ground: &Ground) -> Vec<View> {
        let rng = &mut self.rng;
        if rng.u32(0..8) == 0 {
            self.made += 1;
            let from = if !ground.has_broken() && rng.bool() {
                json!("earliest")
            } else {
                json!(null)
            };
            return said::views(self.made, &from, &ground.epoch);
        }
        let views = (0..rng.usize(1..4)).map(|_| {
            self.made += 1;
            let id = format!("q{}", self.made);
            let mut query = match rng.u32(0..20) {
                0..4 => return ledger::view(ledger::query(rng, &id)),
                4..7 => person::query(rng, &id),
                7..10 => return ground.shape.view(rng, &id),
                _ => query(rng, &id),
            };
            // From the start of the history everything was empty; once it broke, only the rows tell, and who names a
            // column that had another type does not get through it.
            let is_retyped = ground.has_retyped() && RETYPED.iter().any(|[_, column]| names(&query, column));
            let gets_through =
                !(ground.has_broken() || is_retyped || query["table"] == "person" && ground.has_swapped());
            let from_start = gets_through && rng.bool();
            if !from_start {
                query["snapshot"] = json!(true);
            }
            // From a position only a time that was told is one; those who say the same one share a query.
            let asks_for_time = query["where"].as_str().is_some_and(|text| text.contains("now()"));
            if asks_for_time && (from_start || rng.bool()) {
                query["now"] = json!(ground.now);
            }
            let has_labels = query["table"] == "person";
            let view = if from_start {
                View::new(query, json!("earliest"), true).in_epoch(&ground.epoch)
            } else {
                View::new(query, json!(null), true)
            };
            if has_labels { view.may_end_late() } else { view }
        });
        views.collect()
    }

    fn new_client(&mut self, ground: &Ground) -> Follower {
        let views = self.views(ground);
        let rng = &mut self.rng;
        let seed = rng.u64(..);
        let address = match rng.u32(0..3) {
            0 => ground.clients_proxy(),
            _ => ground.address(),
        };
        let follower = Follower::new(address, views).forgiving(&ground.mishaps);
        let follower = match rng.u32(0..3) {
            0 => follower.cut_once_in(60, 10, seed),
            _ => follower,
        };
        match rng.u32(0..6) {
            0 => follower.slow(Duration::from_millis(rng.u64(1..10))),
            _ => follower,
        }
    }

    /// Has all of them follow, each on its own thread, until they are told where to stop.
    fn follow(&mut self, goal: &Goal) -> Vec<JoinHandle<Follower>> {
        let joined = Arc::default();
        self.followers
            .drain(..)
            .map(|follower| follower.follow(goal, &joined))
            .collect()
    }
}

#[test]
fn every_client_holds_its_querys_result_whatever_happens() {
    let seed = std::env::var("WALCAST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let seconds = std::env::var("WALCAST_TORTURE").map_or(SECONDS, |seconds| seconds.parse().unwrap());
    eprintln!("seed: WALCAST_SEED={seed} WALCAST_TORTURE={seconds}");
    let database = Database::on_its_own_server(
        &[
            settings::SCHEMA,
            SCHEMA,
            said::SCHEMA,
            ledger::SCHEMA,
            person::SCHEMA,
            shapes::SCHEMA,
        ]
        .concat(),
        &["wal_sender_timeout = 5s", "logical_decoding_work_mem = 64kB"],
    );
    let mut ground = Ground::new(&database, Rng::with_seed(seed ^ 1));
    let mut clients = Clients {
        followers: Vec::new(),
        rng: Rng::with_seed(seed ^ 2),
        made: 0,
    };
    let began = Instant::now();
    let mut rounds = 0;
    let mut committed = 0;
    while rounds == 0 || began.elapsed() < Duration::from_secs(seconds) {
        rounds += 1;
        ground.tell_time();
        clients.renew(&ground);
        let goal = Goal::default();
        let following = clients.follow(&goal);
        let workload = Workload::start_with(&database, PACE, further::statement);
        for _ in 0..FAULTS_A_ROUND {
            workload.goes_on(20);
            ground.fault();
        }
        workload.goes_on(20);
        committed += workload.committed();
        workload.finish();
        ground.settle();
        goal.set(At::after(database.written())).unwrap();
        let joined = following.into_iter().map(JoinHandle::join);
        clients.followers = joined
            .map(|follower| follower.expect("a client failed"))
            .collect();
        for follower in &clients.followers {
            for view in follower.views.iter().filter(|view| view.table().is_some()) {
                view.assert_is_result(&database);
            }
            said::judge(follower, &database);
        }
        ground.forgive_no_more();
        if began.elapsed() < Duration::from_secs(seconds) {
            let change = SCHEMA_CHANGES[(rounds - 1) % SCHEMA_CHANGES.len()];
            if ground.shape.is_all {
                // It has all tables by itself.
                database.sql(
                    &change
                        .replace("ALTER PUBLICATION", "-- ALTER PUBLICATION")
                        .replace("; ", ";\n"),
                );
            } else {
                database.sql(change);
            }
        }
    }
    let views = || clients.followers.iter().flat_map(|follower| &follower.views);
    // Who was refused without it then would be refused again: what came was judged by the table alone.
    let can_be_read_again = |view: &&View| view.table() != Some("ledger") || !view.must_know();
    eprintln!(
        "{rounds} rounds in {:?}: {committed} transactions, {} clients with {} queries made; {} connections of the last; \
         {} told to start again, {} ended by what was done to their tables, {} to ask again; faults: {}",
        began.elapsed(),
        clients.made,
        views().count(),
        clients
            .followers
            .iter()
            .map(|follower| follower.connects)
            .sum::<usize>(),
        ground.mishaps.restarts.load(Ordering::Relaxed),
        ground.mishaps.endings.load(Ordering::Relaxed),
        ground.mishaps.retries.load(Ordering::Relaxed),
        ground.report(),
    );
    // What came, change for change, against somebody who reads all of it at once.
    let goal = At::after(database.written());
    let swaps = ground.of_swaps();
    for some in views().filter(can_be_read_again).collect::<Vec<_>>().chunks(40) {
        let whole = some.iter().map(|view| view.whole());
        let mut whole = Follower::new(ground.address(), whole.collect()).forgiving(&swaps);
        whole.until(|whole| whole.has_come_to(goal));
        for (view, whole) in some.iter().zip(&whole.views) {
            // One that was refused has begun again, with the rows that are there.
            if !whole.is_snapshot() {
                view.assert_is_tail_of(whole);
            }
        }
    }
    let asked_again = swaps.retries.load(Ordering::Relaxed);
    assert_eq!(asked_again, 0, "the database was there all the time");
    ground.end();
}

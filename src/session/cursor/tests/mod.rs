//! Random scripts drive a cursor against models of the journal, the router, the outbox and the client. The model of the
//! client knows which changes it must be sent, and checks every message. Once nothing goes wrong any more, all
//! subscriptions must reach the head and be live there.
//!
//! A failure prints the seed of its script: `WALCAST_SEED=<seed> cargo test --lib session::cursor -- --nocapture` runs
//! that one alone, and prints its events. `WALCAST_SCRIPTS` sets the number of scripts.

mod answers;
mod client;
mod log;
mod router;
mod script;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Cursor, Pending};
use crate::lsn::Lsn;
use crate::matching::Subscription;
use crate::matching::tests::subscription;
use crate::protocol::{ClientMessage, Subscribe};
use script::TOPICS;
use world::World;

const SCRIPTS: u64 = 100_000;

impl Cursor {
    /// True if nothing is under way.
    fn is_idle(&self) -> bool {
        self.work.is_none()
            && self.jobs.is_empty()
            && self.replays == 0
            && self.joining.is_empty()
            && matches!(self.pending, Pending::Nothing)
    }

    /// Panics if a replay is not counted among those that may be furthest behind.
    fn knows_all_replays(&self) {
        assert_eq!(self.all_replays().count(), self.replays);
        let behind = self.furthest_behind();
        assert_eq!(behind.is_some(), self.replays > 0 || !self.live.is_empty());
        let is_before = |at: Lsn| behind.is_some_and(|behind| behind <= at);
        assert!(self.all_replays().all(|replay| is_before(replay.at().end)));
        assert!(self.live.is_empty() || is_before(self.at.end));
    }
}

fn message() -> Subscribe {
    match ClientMessage::parse(r#"{"type":"subscribe","id":"s","table":"t"}"#) {
        Ok(ClientMessage::Subscribe(message)) => *message,
        other => panic!("{other:?}"),
    }
}

/// Some subscriptions for each topic, which is the last character of their ids.
fn subscriptions() -> Vec<Arc<Subscription>> {
    let ids = (0..3).flat_map(|number| (0..TOPICS).map(move |topic| format!("s{number}of{topic}")));
    ids.map(|id| subscription(&id, None)).collect()
}

/// Runs the script of a seed.
fn run(seed: u64, subscriptions: &[Arc<Subscription>], message: &Subscribe, traces: bool) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut some = subscriptions.to_vec();
    rng.shuffle(&mut some);
    some.truncate(rng.usize(1..=6));
    let mut world = World::new(rng.fork(), some, message.clone(), traces);
    for _ in 0..rng.usize(10..100) {
        if world.closed.is_some() {
            return;
        }
        world.step();
    }
    world.settle();
    // Transactions that are written from here on arrive, too.
    world.settle();
}

fn number(variable: &str) -> Option<u64> {
    let number = std::env::var(variable).ok()?;
    Some(number.parse().expect("a number"))
}

#[test]
fn whatever_happens_every_change_comes_once_and_in_order_and_everything_becomes_live() {
    let subscriptions = subscriptions();
    let message = message();
    if let Some(seed) = number("WALCAST_SEED") {
        return run(seed, &subscriptions, &message, true);
    }
    let scripts = number("WALCAST_SCRIPTS").unwrap_or(SCRIPTS);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= scripts {
                        return;
                    }
                    let runs = || run(seed, &subscriptions, &message, false);
                    if catch_unwind(AssertUnwindSafe(runs)).is_err() {
                        next.store(scripts, Ordering::Relaxed);
                        panic!("the script of WALCAST_SEED={seed} fails");
                    }
                }
            });
        }
    });
}

#[test]
fn what_is_subscribed_gets_on_beside_a_connection_that_stays_behind() {
    let subscriptions = subscriptions();
    for seed in 0..100 {
        let some = subscriptions[..2].to_vec();
        let rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(rng, some, message(), false);
        world.has_faults = false;
        world.subscribe();
        world.settle();
        world.overflow();
        world.outbox();
        world.subscribe();
        for _ in 0..400 {
            // More than one step reads.
            (0..8).for_each(|_| world.write());
            world.now += Duration::from_millis(20);
            world.work();
            world.work();
            world.route();
        }
        assert!(world.cursor.is_behind(), "seed {seed}: it came to the head");
        let new = world.client.subscriptions.last().unwrap();
        assert!(new.has_some(), "seed {seed}: {new:?} waits");
    }
}

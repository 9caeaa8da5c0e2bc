//! [`Pace`]: limits the rate of subscriptions of all clients together. Those beyond it wait, and subjects take turns.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::limit::{Bucket, Rate};

/// The pace at which subscriptions are checked. If they come faster, each waits for its turn: refusals would hit
/// clients at random, not those that ask for much.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    line: Mutex<Line>,
}

/// The queue of those who wait. Pure, but for waking them.
#[derive(Debug)]
struct Line {
    bucket: Bucket,
    /// By turn: each owner has one in a round.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<()>>,
    /// The round being served.
    round: u64,
    /// The first round in which an owner may have its next turn; only owners that have waited since the queue was last
    /// empty.
    next: HashMap<u64, u64>,
    came: u64,
    /// True while a task lets them in.
    is_served: bool,
}

impl Line {
    /// Lets one in, or returns the channel that it has to wait for.
    fn come(&mut self, owner: u64, rate: Rate, now: Instant) -> Option<oneshot::Receiver<()>> {
        if self.waiting.is_empty() && self.bucket.take(1, rate, now).is_ok() {
            return None;
        }
        let next = self.next.entry(owner).or_default();
        let round = self.round.max(*next);
        *next = round + 1;
        self.came += 1;
        let (turn, comes) = oneshot::channel();
        self.waiting.insert((round, self.came), turn);
        Some(comes)
    }

    /// Lets in those whose turn has come, and returns the time until the next one; `None` if nobody waits any more.
    fn serve(&mut self, rate: Rate, now: Instant) -> Option<Duration> {
        while let Some(first) = self.waiting.first_entry() {
            if first.get().is_closed() {
                first.remove();
                continue;
            }
            if let Err(wait) = self.bucket.take(1, rate, now) {
                return Some(wait);
            }
            let ((round, _), turn) = first.remove_entry();
            self.round = round;
            // The receiver may be gone by now.
            let _gone = turn.send(());
        }
        // The queue is empty: nobody has a lead any more.
        self.next.clear();
        None
    }
}

impl Pace {
    /// A pace of so many a second.
    pub fn new(rate: Rate) -> Arc<Pace> {
        Arc::new(Pace {
            rate,
            line: Mutex::new(Line {
                bucket: Bucket::full(Instant::now()),
                waiting: BTreeMap::new(),
                round: 0,
                next: HashMap::new(),
                came: 0,
                is_served: false,
            }),
        })
    }

    /// Waits for the turn of an owner, which is a subject or a connection. `waits` is called first if it has to wait.
    pub(super) async fn turn(self: &Arc<Self>, owner: u64, waits: impl FnOnce()) {
        let comes = {
            let mut line = self.line.lock();
            let Some(comes) = line.come(owner, self.rate, Instant::now()) else {
                return;
            };
            if !std::mem::replace(&mut line.is_served, true) {
                tokio::spawn(Arc::clone(self).serve());
            }
            comes
        };
        waits();
        // The sender is dropped only when the program ends.
        let _over = comes.await;
    }

    /// Lets in those who wait, until nobody does.
    async fn serve(self: Arc<Self>) {
        loop {
            let wait = {
                let mut line = self.line.lock();
                let wait = line.serve(self.rate, Instant::now());
                line.is_served = wait.is_some();
                wait
            };
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 2,
    };

    #[test]
    fn an_owner_that_asks_for_much_waits_for_itself() {
        let pace = Pace::new(RATE);
        let mut line = pace.line.lock();
        let start = Instant::now();
        line.bucket = Bucket::full(start);
        let mut waiting = Vec::new();
        for owner in [1, 1, 1, 1, 1, 1, 2, 3, 2] {
            waiting.extend(line.come(owner, RATE, start).map(|comes| (owner, comes)));
        }
        assert_eq!(waiting.len(), 7, "two came at once");
        // The last one of the first goes away.
        drop(waiting.remove(3));
        let mut order = Vec::new();
        for step in 1.. {
            let now = start + Duration::from_millis(100 * step);
            let wait = line.serve(RATE, now);
            waiting.retain_mut(|(owner, comes)| {
                let has_come = comes.try_recv().is_ok();
                order.extend(has_come.then_some(*owner));
                !has_come
            });
            if wait.is_none() {
                break;
            }
            assert_eq!(wait, Some(Duration::from_millis(100)));
            assert_eq!(order.len() as u64, step, "one in each tenth of a second");
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 1]);
        assert!(line.next.is_empty());
        // Who comes now does not wait for what was before.
        let later = start + Duration::from_secs(60);
        assert!(line.come(1, RATE, later).is_none());
    }

    #[tokio::test]
    async fn all_who_wait_come_in() {
        let rate = Rate {
            per_second: 1000,
            burst: 1,
        };
        let pace = Pace::new(rate);
        let waited = std::sync::atomic::AtomicUsize::new(0);
        let turns = (0..20).map(|owner| {
            pace.turn(owner % 3, || {
                waited.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            })
        });
        futures_util::future::join_all(turns).await;
        assert!(waited.into_inner() >= 10);
        assert!(pace.line.lock().waiting.is_empty());
    }
}

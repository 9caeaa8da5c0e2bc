//! A panic while the journal is read concerns only the sessions that it is read for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::replay_shares::MAX_SENDING;
use super::*;
use crate::delivery::{ActiveSubscription, Delivery, ResumePoint, Standing};
use crate::journal::{Hold, Journal, Reader};
use crate::log::{self, Batch, Identity, Log, LogReader, TableHistory};
use crate::lsn::{Epoch, Lsn, Start};
use crate::matching::tests::{TestLog, relation, subscription};

/// A journal whose reading panics at the piece of this number.
#[derive(Clone)]
struct Brittle {
    journal: Journal,
    breaks: Arc<AtomicUsize>,
}

struct BrittleReader {
    reader: Reader,
    breaks: Arc<AtomicUsize>,
}

impl LogReader for BrittleReader {
    async fn next(&mut self, max_bytes: usize) -> Result<Option<Batch>, log::Error> {
        let left = |left: usize| left.checked_sub(1);
        let left = self.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        assert_ne!(left, Ok(1), "it breaks, as asked");
        self.reader.next(max_bytes).await
    }

    fn position(&self) -> Position {
        self.reader.position()
    }
}

impl Log for Brittle {
    type Reader = BrittleReader;
    type Hold = Hold;

    fn identity(&self) -> Identity {
        self.journal.identity()
    }

    fn epoch(&self) -> Epoch {
        self.journal.epoch()
    }

    fn head(&self) -> Lsn {
        self.journal.head()
    }

    fn tables(&self) -> tokio::sync::watch::Receiver<TableHistory> {
        self.journal.tables()
    }

    fn durable(&self) -> Lsn {
        self.journal.durable()
    }

    fn sync_now(&self, timeout: Duration) -> Result<Lsn, log::Error> {
        self.journal.sync_now(timeout)
    }

    fn earliest(&self) -> Lsn {
        self.journal.earliest()
    }

    fn between(&self, after: Lsn, before: Lsn) -> Option<Lsn> {
        self.journal.between(after, before)
    }

    fn head_changes(&self) -> tokio::sync::watch::Receiver<Lsn> {
        self.journal.head_changes()
    }

    fn hold(&self, lsn: Lsn) -> Hold {
        self.journal.hold(lsn)
    }

    fn reader(&self, start: Start) -> Result<BrittleReader, log::Error> {
        Ok(BrittleReader {
            reader: self.journal.reader(start)?,
            breaks: Arc::clone(&self.breaks),
        })
    }
}

/// A request for everything.
fn request(id: &str) -> Box<ReplayRequest<Brittle>> {
    let start = Position::after(Lsn::ZERO);
    let subscription = subscription(id, None);
    Box::new(ReplayRequest {
        owner: 1,
        subscriptions: Arc::new(vec![ActiveSubscription {
            subscription: Arc::clone(&subscription),
            after: start,
        }]),
        only: Some(subscription),
        from: ResumePoint::told(start),
        until: None,
        boundary: None,
        standing: Standing::default(),
        cursor: None,
    })
}

fn pool(history: &Brittle) -> Arc<ReplayPool<Brittle>> {
    ReplayPool::new(
        history.clone(),
        1024,
        MAX_SENDING,
        Metrics::new(),
        Handle::current(),
    )
}

/// The number of frames that were read for a request, and whether it is shareable from now on; `None` if its reading
/// panicked.
async fn heard(answered: oneshot::Receiver<ReplayResult<Brittle>>) -> Option<(usize, bool)> {
    let result = answered.await.ok()?;
    let items = result.found.unwrap().items;
    let is_frame = |item: &&Delivery| matches!(item, Delivery::Frame(_));
    let frames = items.iter().filter(is_frame).count();
    Some((frames, !result.standing.is_unshared))
}

#[tokio::test]
async fn a_reading_for_many_that_panics_is_made_for_each_alone_and_ends_only_whom_it_concerns() {
    let mut log = TestLog::new();
    for number in 0..3 {
        log.commit(&relation(&["a"]), &[vec![number.to_string()]], |_| {});
    }
    let history = Brittle {
        journal: log.journal.clone(),
        breaks: Arc::default(),
    };
    let pool = pool(&history);
    let asks = || pool.queue.lock().ask(request("s"), false);
    let read_all = || {
        pool.queue.lock().threads += 1;
        read_for_all(&pool, Lane::SHARED);
    };
    let many: Vec<_> = (0..=FEW).map(|_| asks()).collect();
    // It panics once all have joined.
    history.breaks.store(2, Ordering::SeqCst);
    read_all();
    assert_eq!(history.breaks.load(Ordering::SeqCst), 0, "nothing broke");
    for answered in many {
        assert_eq!(heard(answered).await, Some((3, false)));
    }
    // No other request is there, so it ends the one that asked.
    let broken = asks();
    let next = asks();
    history.breaks.store(1, Ordering::SeqCst);
    read_all();
    assert_eq!(heard(broken).await, None);
    assert_eq!(heard(next).await, Some((3, true)));
}

/// A pool with an empty journal, in which an owner may have so many requests served at once.
fn idle_pool(max_of_owner: usize) -> Arc<ReplayPool<Brittle>> {
    let history = Brittle {
        journal: TestLog::new().journal.clone(),
        breaks: Arc::default(),
    };
    ReplayPool::new(history, 1024, max_of_owner, Metrics::new(), Handle::current())
}

/// Adds a request of an owner to a lane.
fn add(queue: &mut Queue<Brittle>, lane: Lane, owner: u64) -> oneshot::Receiver<ReplayResult<Brittle>> {
    let mut request = request("s");
    request.owner = owner;
    let (answer, answered) = oneshot::channel();
    let number = queue.asked;
    queue.asked += 1;
    queue.lane(lane).waiting.push_back(Waiting {
        number,
        request,
        answer,
        share: None,
        was_held_up: false,
    });
    answered
}

#[tokio::test]
async fn who_took_much_apart_has_its_turn_when_the_others_have_taken_as_much() {
    let pool = idle_pool(MAX_SENDING);
    let mut queue = pool.queue.lock();
    // The hostile owner has asked first, and by many connections.
    let _kept: Vec<_> = [1, 1, 1, 2, 3]
        .map(|owner| add(&mut queue, Lane::APART, owner))
        .into();
    let mut next = |work: u64| {
        let (mut together, _) = queue.next(Lane::APART, &pool).unwrap();
        let waiting = together.ahead.pop_front().unwrap();
        queue.apart_turns.took(waiting.request.owner, work);
        (waiting.request.owner, waiting.number)
    };
    assert_eq!(next(1_000), (1, 0));
    assert_eq!([next(10), next(20)], [(2, 3), (3, 4)]);
    assert_eq!([next(10), next(20)], [(1, 1), (1, 2)]);
}

#[tokio::test]
async fn an_owner_with_many_requests_has_a_turn_as_one_with_a_single_one_has() {
    let pool = idle_pool(MAX_SENDING);
    let mut queue = pool.queue.lock();
    let _kept: Vec<_> = [1, 1, 1, 1, 2, 3, 2]
        .map(|owner| add(&mut queue, Lane::SHARED, owner))
        .into();
    let served: Vec<_> = std::iter::from_fn(|| {
        let (together, _) = queue.next(Lane::SHARED, &pool)?;
        assert_eq!(together.ahead.len(), 1, "they are few");
        together
            .ahead
            .front()
            .map(|waiting| (waiting.request.owner, waiting.number))
    })
    .collect();
    assert_eq!(served, [(1, 0), (2, 4), (3, 5), (1, 1), (2, 6), (1, 2), (1, 3)]);
}

#[tokio::test]
async fn so_many_requests_of_an_owner_are_served_at_the_same_moment_and_others_go_on() {
    let pool = idle_pool(3);
    let mut queue = pool.queue.lock();
    let owners: Vec<u64> = (0..100)
        .map(|number| if number % 20 == 0 { number } else { 1 })
        .collect();
    let _kept: Vec<_> = owners
        .iter()
        .map(|owner| add(&mut queue, Lane::SHARED, *owner))
        .collect();
    // Grouped, since they are many.
    let (together, shares) = queue.next(Lane::SHARED, &pool).unwrap();
    let mut served: Vec<_> = together
        .ahead
        .iter()
        .map(|waiting| waiting.request.owner)
        .collect();
    served.sort_unstable();
    assert_eq!(served, [0, 1, 1, 1, 20, 40, 60, 80]);
    assert!(queue.next(Lane::SHARED, &pool).is_none());
    let metrics = pool.metrics.render([]);
    assert!(
        metrics.contains("walcast_limits_reached_total{limit=\"subject_replays\"} 92"),
        "{metrics}"
    );
    // Another one comes, and one of theirs is done.
    let _kept_too = add(&mut queue, Lane::SHARED, 7);
    let (together, _) = queue.next(Lane::SHARED, &pool).unwrap();
    assert_eq!(together.ahead.front().unwrap().request.owner, 7);
    for share in shares {
        queue.sending.give_back(share);
    }
    let (together, _) = queue.next(Lane::SHARED, &pool).unwrap();
    assert_eq!(together.ahead.len(), 3);
}

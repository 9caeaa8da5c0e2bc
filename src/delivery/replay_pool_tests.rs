//! A panic while the journal is read concerns whom it is read for, at the most.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::delivery::{ActiveSubscription, Delivery, ResumePoint, Standing};
use crate::journal::{Hold, Journal, Reader};
use crate::log::{self, Batch, Identity, Log, LogReader, TableHistory};
use crate::lsn::{Epoch, Lsn, Start};
use crate::matching::tests::{TestLog, relation, subscription};

/// A journal of which the so many-th piece that is read next panics, if any.
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
    ReplayPool::new(history.clone(), 1024, Metrics::new())
}

/// The number of frames that were read for somebody, and whether it is read for with others from now on; `None` if its
/// reading broke.
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
    let asks = || pool.queue.lock().ask(request("s"));
    let read_all = || {
        pool.queue.lock().threads += 1;
        read_for_all(&pool, Lane::SHARED);
    };
    let many: Vec<_> = (0..=FEW).map(|_| asks()).collect();
    // Once all have joined, by what was read first.
    history.breaks.store(2, Ordering::SeqCst);
    read_all();
    assert_eq!(history.breaks.load(Ordering::SeqCst), 0, "nothing broke");
    for answered in many {
        assert_eq!(heard(answered).await, Some((3, false)));
    }
    // Nobody else is there to be read for, so that it ends who asked.
    let broken = asks();
    let next = asks();
    history.breaks.store(1, Ordering::SeqCst);
    read_all();
    assert_eq!(heard(broken).await, None);
    assert_eq!(heard(next).await, Some((3, true)));
}

#[tokio::test]
async fn who_took_much_apart_has_its_turn_when_the_others_have_taken_as_much() {
    let log = TestLog::new();
    let history = Brittle {
        journal: log.journal.clone(),
        breaks: Arc::default(),
    };
    let pool = pool(&history);
    let mut queue = pool.queue.lock();
    let mut answers = Vec::new();
    let mut asks = |queue: &mut Queue<Brittle>, taken| {
        let mut request = request("s");
        request.standing.taken = taken;
        let (answer, answered) = oneshot::channel();
        answers.push(answered);
        let number = queue.asked;
        queue.asked += 1;
        queue.apart.push_back(Waiting {
            number,
            request,
            answer,
            share: None,
        });
    };
    let next = |queue: &mut Queue<Brittle>| {
        let (mut together, _) = queue.next(Lane::APART).unwrap();
        together.ahead.pop_front().unwrap().request.standing.taken
    };
    // The hostile one has asked first, and had a step before.
    asks(&mut queue, 2_000);
    asks(&mut queue, 10);
    assert_eq!(next(&mut queue), 10);
    asks(&mut queue, 1_000);
    assert_eq!(next(&mut queue), 1_000);
    asks(&mut queue, 2_000);
    asks(&mut queue, 2_001);
    // Of two that took the same the one that asked first is next, and then the other.
    assert_eq!(queue.apart.front().unwrap().number, 0);
    assert_eq!([(); 3].map(|()| next(&mut queue)), [2_000, 2_000, 2_001]);
    assert_eq!(queue.apart_taken, 2_001);
}

//! A panic while the journal is read concerns only the sessions that it is read for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::replay_queue::FEW;
use super::super::replay_request::tests::request;
use super::super::replay_shares::MAX_SENDING;
use super::*;
use crate::delivery::Delivery;
use crate::journal::{Hold, Journal, Reader};
use crate::log::{self, Batch, Identity, Log, LogReader, TableHistory};
use crate::lsn::{Epoch, Lsn, Start};
use crate::matching::tests::{TestLog, relation};

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
    let asks = || pool.queue.lock().ask(request(1), false);
    let read_all = || {
        assert!(pool.queue.lock().takes_thread(Lane::SHARED, 1));
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

//! A panic while the journal is read concerns whom it is read for, at the most.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use super::*;
use crate::delivery::{self, Delivery, Router};
use crate::journal::{Batch, Identity, Journal};
use crate::lsn::{Epoch, Lsn, Start};
use crate::matching::tests::{Log, relation, subscription};
use crate::postgres::ConnInfo;
use crate::schema::Tables;
use crate::session::{Limits, Options};
use crate::snapshot::{self, Snapshots};
use crate::telemetry::Metrics;

/// A journal of which the so many-th piece that is read next panics, if any.
#[derive(Clone)]
struct Brittle {
    journal: Journal,
    breaks: Arc<AtomicUsize>,
}

struct BrittleReader {
    reader: journal::Reader,
    breaks: Arc<AtomicUsize>,
}

impl journal::Read for BrittleReader {
    fn next(&mut self, max_bytes: usize) -> Result<Option<Batch>, journal::Error> {
        let left = |left: usize| left.checked_sub(1);
        let left = self.breaks.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left);
        assert_ne!(left, Ok(1), "it breaks, as asked");
        self.reader.next(max_bytes)
    }

    fn position(&self) -> Position {
        self.reader.position()
    }
}

impl History for Brittle {
    type Reader = BrittleReader;
    type Pin = journal::Pin;

    fn identity(&self) -> Identity {
        self.journal.identity()
    }

    fn epoch(&self) -> Epoch {
        self.journal.epoch()
    }

    fn head(&self) -> Lsn {
        self.journal.head()
    }

    fn durable(&self) -> Lsn {
        self.journal.durable()
    }

    fn sync_now(&self, timeout: Duration) -> Result<Lsn, journal::Error> {
        self.journal.sync_now(timeout)
    }

    fn earliest(&self) -> Lsn {
        self.journal.earliest()
    }

    fn head_changes(&self) -> tokio::sync::watch::Receiver<Lsn> {
        self.journal.head_changes()
    }

    fn pin(&self, lsn: Lsn) -> journal::Pin {
        self.journal.pin(lsn)
    }

    fn reader(&self, start: Start) -> Result<BrittleReader, journal::Error> {
        Ok(BrittleReader {
            reader: self.journal.reader(start)?,
            breaks: Arc::clone(&self.breaks),
        })
    }
}

/// The state that sessions share, without a database: nobody asks it here.
fn shared(history: &Brittle, dir: &std::path::Path) -> Arc<Services<Brittle>> {
    let metrics = Metrics::new();
    let conninfo = ConnInfo::parse_with("postgresql://nobody@localhost/none", |_| None).unwrap();
    let options = Options {
        limits: Limits {
            max_subscriptions: 1,
            ping_interval: Duration::from_secs(1),
            pong_timeout: Duration::from_secs(1),
        },
        outbox_bytes: 1024,
        max_frame_bytes: 1024,
        progress_interval: Duration::from_secs(1),
        stall_timeout: Duration::from_secs(1),
        spread: Duration::ZERO,
    };
    let routing = delivery::Options {
        max_frame_bytes: 1024,
    };
    let (_, router) = Router::new(history.clone(), routing, Arc::clone(&metrics)).unwrap();
    let snapshots = snapshot::Options {
        conninfo: conninfo.clone(),
        primary: conninfo.clone(),
        publications: Vec::new(),
        max_connections: 1,
        timeout: Duration::from_secs(1),
        max_bytes: 0,
        max_row_bytes: 0,
        max_frame_bytes: 1024,
        dir: dir.to_owned(),
    };
    Arc::new(Services {
        history: history.clone(),
        snapshots: Snapshots::new(history.clone(), Arc::default(), snapshots, Arc::clone(&metrics)),
        router,
        tables: Tables::open(conninfo, Vec::new(), &[], dir, history.epoch()).unwrap(),
        metrics,
        database: "none".into(),
        options,
        readers: ReplayPool::default(),
        spool_readers: Semaphore::new(1),
    })
}

/// Somebody who asks for a reading of everything.
fn asks(shared: &Arc<Services<Brittle>>) -> oneshot::Receiver<JobOutcome<Brittle>> {
    let start = Position::after(Lsn::ZERO);
    let replay = Replay::alone(shared, subscription("s", None), start, None);
    shared.readers.queue().ask(replay)
}

/// The number of frames that were read for somebody, and whether it is read for alone from now on; `None` if its
/// reading broke.
async fn heard(answered: oneshot::Receiver<JobOutcome<Brittle>>) -> Option<(usize, bool)> {
    match answered.await.ok()? {
        JobOutcome::Stepped(replay, step, _) => {
            let items = step.unwrap().items;
            let is_frame = |item: &&Delivery| matches!(item, Delivery::Frame(_));
            Some((items.iter().filter(is_frame).count(), replay.is_shareable()))
        }
        _ => panic!("something else was done"),
    }
}

#[tokio::test]
async fn a_reading_for_many_that_panics_is_made_for_each_alone_and_ends_only_whom_it_concerns() {
    let mut log = Log::new();
    for number in 0..3 {
        log.commit(&relation(&["a"]), &[vec![number.to_string()]], |_| {});
    }
    let history = Brittle {
        journal: log.journal.clone(),
        breaks: Arc::default(),
    };
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(&history, dir.path());
    let read_all = || {
        shared.readers.queue().threads += 1;
        read_for_all(&shared, Lane::SHARED);
    };
    let many: Vec<_> = (0..=FEW).map(|_| asks(&shared)).collect();
    // Once all have joined, by what was read first.
    history.breaks.store(2, Ordering::SeqCst);
    read_all();
    assert_eq!(history.breaks.load(Ordering::SeqCst), 0, "nothing broke");
    for answered in many {
        assert_eq!(heard(answered).await, Some((3, false)));
    }
    // Nobody else is there to be read for, so that it ends who asked.
    let (broken, next) = (asks(&shared), asks(&shared));
    history.breaks.store(1, Ordering::SeqCst);
    read_all();
    assert_eq!(heard(broken).await, None);
    assert_eq!(heard(next).await, Some((3, true)));
}

#[tokio::test]
async fn who_took_much_apart_has_its_turn_when_the_others_have_taken_as_much() {
    let log = Log::new();
    let history = Brittle {
        journal: log.journal.clone(),
        breaks: Arc::default(),
    };
    let dir = tempfile::tempdir().unwrap();
    let shared = shared(&history, dir.path());
    let mut queue = shared.readers.queue();
    let mut answers = Vec::new();
    let mut asks = |queue: &mut Queue<Brittle>, taken| {
        let start = Position::after(Lsn::ZERO);
        let mut replay = Replay::alone(&shared, subscription("s", None), start, None);
        replay.taken = taken;
        let (answer, answered) = oneshot::channel();
        answers.push(answered);
        let number = queue.asked;
        queue.asked += 1;
        queue.apart.push_back(ReplayRequest {
            number,
            replay,
            answer,
            sending: None,
        });
    };
    let next = |queue: &mut Queue<Brittle>| {
        let (mut together, _) = queue.next(Lane::APART).unwrap();
        together.ahead.pop_front().unwrap().replay.taken
    };
    // The hostile one has asked first, and had a step before.
    asks(&mut queue, 2_000);
    asks(&mut queue, 10);
    assert_eq!(next(&mut queue), 10);
    asks(&mut queue, 1_000);
    assert_eq!(next(&mut queue), 1_000);
    asks(&mut queue, 2_000);
    asks(&mut queue, 2_001);
    // Of two who took the same it is the turn of who asked first, and then of the others.
    assert_eq!(queue.apart.front().unwrap().number, 0);
    assert_eq!([(); 3].map(|()| next(&mut queue)), [2_000, 2_000, 2_001]);
    assert_eq!(queue.apart_taken, 2_001);
}

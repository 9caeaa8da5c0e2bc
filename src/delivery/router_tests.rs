//! Behaviour of the router beyond what the integration tests can be sure to meet.

use std::pin::pin;

use tempfile::TempDir;
use tokio::task::JoinHandle;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::delivery::{Delivery, Received};
use crate::journal::{self, Journal, Writer};
use crate::log::{Identity, LogWriter};
use crate::lsn::{Lsn, Position};
use crate::matching::tests::subscription;
use crate::telemetry::Metrics;

const OPTIONS: Options = Options {
    max_frame_bytes: 1024,
};

fn identity() -> Identity {
    Identity {
        system_id: 1,
        database_oid: 1,
        database: "shop".into(),
        slot: "walcast".into(),
        timeline: 1,
    }
}

/// A router that runs over a journal.
struct Bed {
    writer: Writer,
    handle: Handle,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
    _dir: TempDir,
}

impl Bed {
    /// A bed whose history starts there.
    fn at(start: Lsn) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, journal) =
            Journal::open(dir.path(), journal::Options::default(), &identity()).unwrap();
        LogWriter::new_epoch(&mut writer, &identity(), start).unwrap();
        let (router, handle) = Router::new(journal, OPTIONS, Metrics::new()).unwrap();
        let stop = CancellationToken::new();
        Bed {
            writer,
            handle,
            running: tokio::spawn(router.run(stop.clone())),
            stop,
            _dir: dir,
        }
    }

    async fn ends(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_subscription_that_is_further_on_is_added_once_the_router_has_come_there() {
    let mut bed = Bed::at(Lsn(1000));
    let handle = bed.handle.clone();
    let at = Position::after(Lsn(1000));
    let (registration, _) = handle.join(1024, Vec::new(), at).await.unwrap();
    let after = Position::after(Lsn(2000));
    let subscription = subscription("t", None);
    let mut adding = pin!(handle.add(&registration, &subscription, after));
    assert!(futures_util::poll!(&mut adding).is_pending());
    // A later command is answered.
    handle.join(1024, Vec::new(), at).await.unwrap();
    assert!(futures_util::poll!(&mut adding).is_pending());
    LogWriter::position(&mut bed.writer, Lsn(2000)).unwrap();
    LogWriter::flush(&mut bed.writer).unwrap();
    assert_eq!(adding.await.unwrap(), after);
    bed.ends().await;
}

#[tokio::test]
async fn a_subscription_that_was_further_on_in_another_history_is_answered() {
    let mut bed = Bed::at(Lsn(1000));
    let handle = bed.handle.clone();
    let at = Position::after(Lsn(1000));
    let subscription = subscription("t", None);
    let (registration, _) = handle.join(1024, Vec::new(), at).await.unwrap();
    let after = Position::after(Lsn(2000));
    let mut adding = pin!(handle.add(&registration, &subscription, after));
    assert!(futures_util::poll!(&mut adding).is_pending());
    LogWriter::new_epoch(&mut bed.writer, &identity(), Lsn(500)).unwrap();
    // Whether it asked before the router noticed, or after that.
    let new = Position::after(Lsn(500));
    assert_eq!(adding.await.unwrap(), new);
    assert_eq!(
        handle.add(&registration, &subscription, after).await.unwrap(),
        new
    );
    let mut items = Vec::new();
    assert_eq!(
        registration.outbox.try_take(&mut items),
        Some(Received::EpochChanged)
    );
    bed.ends().await;
}

#[tokio::test]
async fn a_history_that_is_replaced_before_the_router_runs_is_delivered_from_its_start() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, journal) = Journal::open(dir.path(), journal::Options::default(), &identity()).unwrap();
    // First the history of an empty directory, then one whose head is beyond the start of the new one.
    for start in [Lsn(1000), Lsn(500)] {
        let (router, handle) = Router::new(journal.clone(), OPTIONS, Metrics::new()).unwrap();
        assert_eq!(handle.position(), journal.head());
        let mut current = pin!(handle.current_epoch(&journal));
        assert_eq!(
            futures_util::poll!(&mut current),
            std::task::Poll::Ready(journal.epoch())
        );
        LogWriter::new_epoch(&mut writer, &identity(), start).unwrap();
        // Whoever begins now waits, and is not taken for one of the old history.
        let mut current = pin!(handle.current_epoch(&journal));
        assert!(futures_util::poll!(&mut current).is_pending());
        let stop = CancellationToken::new();
        stop.cancel();
        router.run(stop).await.unwrap();
        assert_eq!(handle.position(), start);
        assert_eq!(current.await, journal.epoch());
    }
}

#[tokio::test]
async fn after_a_panic_in_delivery_all_who_are_there_read_for_themselves_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, journal) = Journal::open(dir.path(), journal::Options::default(), &identity()).unwrap();
    LogWriter::new_epoch(&mut writer, &identity(), Lsn(1000)).unwrap();
    let (mut router, handle) = Router::new(journal, OPTIONS, Metrics::new()).unwrap();
    let at = Position::after(Lsn(1000));
    let placed = |id: &str| ActiveSubscription {
        subscription: subscription(id, None),
        after: at,
    };
    let mut registrations = Vec::new();
    for id in ["a", "b"] {
        let mut joining = pin!(handle.join(1024, vec![placed(id)], at));
        assert!(futures_util::poll!(&mut joining).is_pending());
        router.apply_waiting();
        registrations.push(joining.await.unwrap().0);
    }
    router.have_all_read();
    assert_eq!(router.registry.queries(), 0);
    for registration in &registrations {
        assert_eq!(
            registration.outbox.try_take(&mut Vec::new()),
            Some(Received::Behind)
        );
    }
    // A client that has caught up from the journal is served as before, and so is a new one.
    let stop = CancellationToken::new();
    let running = tokio::spawn(router.run(stop.clone()));
    let (registration, joined_at) = handle.join(1024, vec![placed("a")], at).await.unwrap();
    assert_eq!(joined_at, at);
    drop(registrations);
    let relation = crate::matching::tests::relation(&["id"]);
    let mut row = Vec::new();
    crate::event::encode_values([crate::event::Value::Text(b"7")].into_iter(), &mut row);
    let (new, _) = crate::event::Tuple::parse(&row).unwrap();
    writer
        .change(&relation, &crate::event::Op::Insert { new })
        .unwrap();
    let transaction = crate::event::Transaction {
        xid: 1,
        commit: Lsn(1999),
        end: Lsn(2000),
        committed_at: crate::event::Timestamp(0),
    };
    writer.commit(&transaction).unwrap();
    LogWriter::flush(&mut writer).unwrap();
    let mut items = Vec::new();
    while items.is_empty() {
        let mut taken = Vec::new();
        let took = std::future::poll_fn(|cx| registration.outbox.poll_take(cx, &mut taken)).await;
        assert_eq!(took, Received::Items);
        items.append(&mut taken);
    }
    assert!(matches!(items.as_slice(), [Delivery::Frame(_)]), "{items:?}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

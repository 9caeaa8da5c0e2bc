//! [`Replay`]: a reading of the journal for subscriptions that are not at the head.
//!
//! It goes step by step, so that a slow client is sent one step's messages before the next is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::JobOutcome;
use super::{Services, replay_pool};
use crate::delivery::{ActiveSubscription, Delivery, Registration};
use crate::delivery::{Found, ReplayCursor, ReplayFilter, ResumePoint};
use crate::journal::{self, History};
use crate::lsn::Position;
use crate::matching::{Lane, Subscription, gone_message, unfit_message};
use crate::snapshot::SnapshotBoundary;
use crate::telemetry::Metrics;

/// A reading of the journal for subscriptions that are not at the head.
pub(super) struct Replay<H: History> {
    pub(super) subscriptions: Vec<ActiveSubscription>,
    /// The one that catches up alone; none if it is the whole connection.
    pub(super) alone: Option<Arc<Subscription>>,
    /// Those that came to the head alone while the whole connection had not. They wait where they are for it to come
    /// there: from then on it is read for them too.
    coming: Vec<Box<Replay<H>>>,
    /// The place where it goes on, and where it went on before the last step.
    next: ResumePoint,
    before: ResumePoint,
    /// Something has been read: the place where it starts has come.
    has_begun: bool,
    /// Since when the place where it starts has been waited for.
    waits_since: Option<Instant>,
    /// Its own scan, unless it was last read for together with others.
    scan: Option<ReplayCursor<H>>,
    /// It is read for alone, because it was not well to be read for with others.
    is_unshared: bool,
    /// The work that its steps took where it is read for apart, from what the others there had taken when it came.
    pub(super) taken: u64,
    /// The part that the subscription has by its snapshot. The router knows nothing of that, so it takes over beyond
    /// it.
    boundary: Option<Arc<SnapshotBoundary>>,
    /// The last step came to the head.
    at_head: bool,
    /// The place where the router takes over, once it is known.
    pub(super) until: Option<Position>,
    /// The connection's registration, which rests until then.
    pub(super) registration: Option<Registration>,
    _counted: Counted,
}

/// The finds of one step.
#[derive(Debug)]
pub(super) struct Step {
    /// The items that the client gets, in order.
    pub(super) items: Vec<Delivery>,
    /// True if there is nothing more to read now, or not up to where it was to read.
    pub(super) done: bool,
}

/// One more catch-up, as long as it lives.
struct Counted(Arc<Metrics>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.catching_up.dec();
    }
}

/// The least work that a step counts for: it reads of the journal.
const STEP: u64 = 1_000_000;

/// The time that what is served apart waits at the head before it looks again, at least.
const APART_POLL: Duration = Duration::from_millis(20);

/// The time that a subscription whose start has not come yet waits before it looks again, at most.
const FUTURE_POLL: Duration = Duration::from_millis(200);

/// The time to wait for a place that Postgres has reached in memory alone, until it is asked to write it to disk. By
/// itself it does so in three times `wal_writer_delay`, 0.6 s. A place that lies just behind the head of a page comes
/// with the next record only.
const FUTURE_PATIENCE: Duration = Duration::from_secs(1);

impl<H: History> Replay<H> {
    /// A reading for the whole connection.
    pub(super) fn of_all(
        shared: &Services<H>,
        subscriptions: Vec<ActiveSubscription>,
        start: Position,
    ) -> Box<Replay<H>> {
        Replay::new(shared, subscriptions, None, start, None)
    }

    /// A reading for one subscription, with what it has by its snapshot if it began with one.
    pub(super) fn alone(
        shared: &Services<H>,
        subscription: Arc<Subscription>,
        start: Position,
        boundary: Option<Arc<SnapshotBoundary>>,
    ) -> Box<Replay<H>> {
        let placed = ActiveSubscription {
            subscription: Arc::clone(&subscription),
            after: start,
        };
        Replay::new(shared, vec![placed], Some(subscription), start, boundary)
    }

    fn new(
        shared: &Services<H>,
        subscriptions: Vec<ActiveSubscription>,
        alone: Option<Arc<Subscription>>,
        start: Position,
        boundary: Option<Arc<SnapshotBoundary>>,
    ) -> Box<Replay<H>> {
        shared.metrics.catching_up.inc();
        Box::new(Replay {
            _counted: Counted(Arc::clone(&shared.metrics)),
            subscriptions,
            alone,
            taken: 0,
            coming: Vec::new(),
            next: ResumePoint::told(start),
            before: ResumePoint::told(start),
            has_begun: false,
            waits_since: None,
            scan: None,
            is_unshared: false,
            boundary,
            at_head: false,
            until: None,
            registration: None,
        })
    }

    /// Everything up to here has been read.
    pub(super) fn at(&self) -> Position {
        self.next.position
    }

    /// True if it is of the whole connection.
    pub(super) fn is_of_all(&self) -> bool {
        self.alone.is_none()
    }

    /// True if it can be read for together with others.
    pub(super) fn is_shareable(&self) -> bool {
        !self.is_unshared && !self.is_before_boundary() && !self.is_apart()
    }

    /// True if it is to be read for apart: it has a query that takes long.
    pub(super) fn is_apart(&self) -> bool {
        let now = Instant::now();
        let mut queries = self.subscriptions.iter().map(|placed| &placed.subscription.query);
        queries.any(|query| query.meter.is_apart(now))
    }

    /// Has it read for alone from now on.
    pub(super) fn share_no_more(&mut self) {
        self.is_unshared = true;
    }

    /// The part of the history that is to be read for it.
    pub(super) fn wanted(&self) -> ReplayFilter<'_> {
        ReplayFilter {
            subscriptions: &self.subscriptions,
            only: self.alone.as_deref(),
            from: self.next,
            until: self.reads_to(),
        }
    }

    /// The place where the next of those that wait for it is.
    fn next_coming(&self) -> Option<Position> {
        self.coming.iter().map(|replay| replay.at()).min()
    }

    /// Up to where it is to be read for, if not to the head.
    fn reads_to(&self) -> Option<Position> {
        let places = [self.until, self.next_coming()];
        places.into_iter().flatten().min()
    }

    /// Has one that is further on, or as far, wait for it; whether that can be.
    pub(super) fn awaits(&mut self, mut replay: Box<Replay<H>>) -> Result<(), Box<Replay<H>>> {
        // Once the router has the others, it is a moment until it can have this one.
        if self.until.is_some() || replay.at() < self.at() {
            return Err(replay);
        }
        replay.let_go();
        self.coming.push(replay);
        Ok(())
    }

    /// Those whose places it has come to.
    pub(super) fn met(&mut self) -> Vec<Box<Replay<H>>> {
        let at = self.at();
        self.coming.extract_if(.., |coming| coming.at() <= at).collect()
    }

    /// Those that wait for it, which does not come to them.
    pub(super) fn leave_behind(&mut self) -> impl Iterator<Item = Box<Replay<H>>> {
        std::mem::take(&mut self.coming).into_iter()
    }

    /// It is read for one more from where it is.
    pub(super) fn take_in(&mut self, subscription: Arc<Subscription>) {
        let after = self.at();
        self.subscriptions
            .push(ActiveSubscription { subscription, after });
        self.let_go();
    }

    /// True if there may still be transactions that the snapshot's rows hold already.
    fn is_before_boundary(&self) -> bool {
        self.boundary
            .as_ref()
            .is_some_and(|boundary| self.at() < Position::after(boundary.until))
    }

    pub(super) fn leave_out(&mut self, subscription: &Arc<Subscription>) {
        self.subscriptions
            .retain(|placed| !Arc::ptr_eq(&placed.subscription, subscription));
        if let Some(scan) = &mut self.scan {
            scan.leave_out(0, subscription);
        }
    }

    /// What has ended by an older version of its table must not come back by a newer one. If the router has it already,
    /// the reading goes on without the router until the next head.
    pub(super) fn leave_out_ended(&mut self, ended: &[Arc<Subscription>]) {
        for subscription in ended {
            self.leave_out(subscription);
            if self.alone.is_none() {
                (self.registration, self.until) = (None, None);
            }
        }
    }

    /// True if the place to start from has not been reached yet.
    pub(super) fn is_early(&self, shared: &Services<H>) -> bool {
        self.is_before_boundary() || !self.has_begun && self.at().end > shared.router.position()
    }

    /// True if it stays apart at the head, where the router would take it over: the whole connection, as long as it
    /// has a query that takes long.
    pub(super) fn waits_apart(&self) -> bool {
        self.is_of_all() && self.until.is_none() && self.is_apart()
    }

    /// Goes back to `position`, or to where the last step began: what came after it was not sent.
    pub(super) fn rewind(&mut self, position: Option<Position>) {
        self.next = position.map_or(self.before, ResumePoint::told);
        self.at_head = false;
        self.let_go();
    }

    /// Keeps nothing of what was read, until there is more to be read.
    pub(super) fn let_go(&mut self) {
        self.scan = None;
    }

    /// Reads one step for it alone.
    pub(super) fn read(&mut self, shared: &Services<H>, lane: Lane) -> Result<Step, journal::Error> {
        let scan = match self.scan.take() {
            Some(mut scan) => {
                scan.go_on(0, self.reads_to());
                scan
            }
            None => {
                let (place, max_frame_bytes) = (self.at(), shared.options.max_frame_bytes);
                let mut scan =
                    ReplayCursor::new(&shared.history, place, self.boundary.clone(), max_frame_bytes)?;
                scan.join(&self.wanted());
                scan
            }
        };
        let scan = self.scan.insert(scan);
        let before = scan.registry().worked();
        let found = scan.step_alone(lane);
        let worked = scan.registry().worked() - before;
        self.taken = self.taken.saturating_add(worked).saturating_add(STEP);
        count(scan, &shared.metrics);
        let found = found?;
        if found.as_ref().is_some_and(|found| found.is_cut) {
            self.let_go();
        }
        Ok(match found {
            Some(found) => self.took(shared, found),
            None => self.nothing_more(shared),
        })
    }

    /// A step that had nothing to read.
    pub(super) fn nothing_more(&mut self, shared: &Services<H>) -> Step {
        let nothing = Found {
            items: Vec::new(),
            next: self.next,
            done: true,
            is_cut: false,
        };
        self.took(shared, nothing)
    }

    /// Goes on behind what was found.
    pub(super) fn took(&mut self, shared: &Services<H>, mut found: Found) -> Step {
        // Where others wait for it, it only halts.
        found.done &= self.next_coming().is_none_or(|place| found.next.position < place);
        self.before = std::mem::replace(&mut self.next, found.next);
        (self.has_begun, self.at_head) = (true, found.done);
        let mut step = Step {
            items: found.items,
            done: found.done,
        };
        if step.done {
            self.end_gone(shared, &mut step);
        }
        step
    }

    /// Ends the subscriptions whose tables are gone, or have other columns: the router ended others like them while it
    /// did not have these.
    fn end_gone(&mut self, shared: &Services<H>, step: &mut Step) {
        let is_gone = |placed: &&ActiveSubscription| {
            let Subscription { query, oid, .. } = &*placed.subscription;
            !shared.tables.has(query.table(), *oid)
        };
        let changed = |placed: &ActiveSubscription| {
            let Subscription { query, oid, .. } = &*placed.subscription;
            unfit_message(query, &*shared.tables.newest_version(*oid)?)
        };
        for placed in &self.subscriptions {
            let subscription = &placed.subscription;
            let has_ended = |item: &Delivery| matches!(item, Delivery::Ended { subscription: ended, .. } if Arc::ptr_eq(ended, subscription));
            if step.items.iter().any(has_ended) {
                continue;
            }
            let error = match is_gone(&placed) {
                true => gone_message(subscription.query.table()),
                false => match changed(placed) {
                    Some(error) => error,
                    None => continue,
                },
            };
            let error = error.about(&*subscription.id);
            step.items.push(Delivery::Ended {
                subscription: Arc::clone(subscription),
                error: Box::new(error),
            });
        }
    }
}

/// Adds what a scan took to what is counted.
pub(super) fn count<H: History>(scan: &mut ReplayCursor<H>, metrics: &Metrics) {
    metrics.undecided(scan.registry().take_undecided());
    scan.registry()
        .take_work(|table, units| metrics.match_work(&table.schema, &table.name, units));
}

/// One step of a reading.
pub(super) async fn step<H: History>(shared: Arc<Services<H>>, mut replay: Box<Replay<H>>) -> JobOutcome<H> {
    if replay.at_head && replay.waits_apart() {
        // Nothing is read anew for each transaction, however many there are.
        tokio::time::sleep(APART_POLL).await;
        let (mut heads, at) = (shared.history.head_changes(), replay.at().end);
        drop(tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head > at)).await);
    }
    if replay.at_head && replay.is_before_boundary() {
        let (mut heads, at) = (shared.history.head_changes(), replay.at().end);
        let moved = tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head > at)).await;
        if moved.is_err() {
            shared.snapshots.request_wal_flush();
        }
    }
    let start = replay.at().end;
    if !replay.has_begun && start > shared.router.position() && replay.alone.is_some() {
        let mut heads = shared.history.head_changes();
        // Whether it came or not is looked at again.
        drop(tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head >= start)).await);
        if start > shared.history.head() {
            let since = *replay.waits_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= FUTURE_PATIENCE {
                shared.snapshots.request_wal_flush();
            }
            return JobOutcome::Stepped(
                replay,
                Ok(Step {
                    items: Vec::new(),
                    done: true,
                }),
                None,
            );
        }
    }
    match replay_pool::read(&shared, replay).await {
        // It goes on where it is once there is a file descriptor for it.
        JobOutcome::Stepped(mut replay, Err(error), sending) if error.is_exhaustion() => {
            drop(sending);
            replay.let_go();
            tokio::time::sleep(FUTURE_POLL).await;
            let nothing = Step {
                items: Vec::new(),
                done: false,
            };
            JobOutcome::Stepped(replay, Ok(nothing), None)
        }
        done => done,
    }
}

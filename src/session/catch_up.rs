//! [`CatchUp`]: a reading of the journal for subscriptions that are not at the head, and how it ends there.
//!
//! It goes step by step, so that a slow client is sent one step's messages before the next is read. At the head the
//! router takes over: it says from where on, and the reading ends exactly there.

use std::sync::Arc;
use std::time::Duration;

use super::job::{Done, Job, add};
use super::scan::{Found, From, Scan, Wanted};
use super::{End, Session, Shared, readers};
use crate::fanout::{Subscription, gone_message};
use crate::journal::{self, History};
use crate::lsn::Position;
use crate::protocol::{CloseCode, Detail, ErrorCode, ErrorMessage};
use crate::router::{Item, Placed, Seat};
use crate::snapshot::Seam;
use crate::telemetry::Metrics;

/// A reading of the journal for subscriptions that are not at the head.
pub(super) struct CatchUp<H: History> {
    subscriptions: Vec<Placed>,
    /// The one that catches up alone; none if it is the whole connection.
    alone: Option<Arc<Subscription>>,
    /// Where it goes on, and where it went on before the last step.
    next: From,
    before: From,
    /// Something has been read: the place where it starts has come.
    has_begun: bool,
    /// Its own scan, unless it was last read for together with others.
    scan: Option<Scan<H>>,
    /// It is read for alone, because it was not well to be read for with others.
    is_unshared: bool,
    /// What the subscription has by its snapshot. The router knows nothing of that, so it takes over beyond it.
    seam: Option<Arc<Seam>>,
    /// The last step came to the head.
    at_head: bool,
    /// Where the router takes over, once it is known.
    until: Option<Position>,
    /// The connection's seat, which rests until then.
    seat: Option<Seat>,
    _counted: Counted,
}

/// What one step found.
#[derive(Debug)]
pub(super) struct Step {
    /// What the client gets, in order.
    pub(super) items: Vec<Item>,
    /// Whether there is nothing more to read now, or not up to where it was to read.
    pub(super) done: bool,
}

/// One more catch-up, as long as it lives.
struct Counted(Arc<Metrics>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.catching_up.dec();
    }
}

/// How long a subscription whose start has not come yet waits before it looks again, at most.
const FUTURE_POLL: Duration = Duration::from_millis(200);

impl<H: History> CatchUp<H> {
    /// A reading for the whole connection.
    pub(super) fn of_all(shared: &Shared<H>, subscriptions: Vec<Placed>, start: Position) -> Box<CatchUp<H>> {
        CatchUp::new(shared, subscriptions, None, start, None)
    }

    /// A reading for one subscription, with what it has by its snapshot if it began with one.
    pub(super) fn alone(
        shared: &Shared<H>,
        subscription: Arc<Subscription>,
        start: Position,
        seam: Option<Arc<Seam>>,
    ) -> Box<CatchUp<H>> {
        let placed = Placed {
            subscription: Arc::clone(&subscription),
            after: start,
        };
        CatchUp::new(shared, vec![placed], Some(subscription), start, seam)
    }

    fn new(
        shared: &Shared<H>,
        subscriptions: Vec<Placed>,
        alone: Option<Arc<Subscription>>,
        start: Position,
        seam: Option<Arc<Seam>>,
    ) -> Box<CatchUp<H>> {
        shared.metrics.catching_up.inc();
        Box::new(CatchUp {
            _counted: Counted(Arc::clone(&shared.metrics)),
            subscriptions,
            alone,
            next: From::told(start),
            before: From::told(start),
            has_begun: false,
            scan: None,
            is_unshared: false,
            seam,
            at_head: false,
            until: None,
            seat: None,
        })
    }

    /// Everything up to here has been read.
    pub(super) fn at(&self) -> Position {
        self.next.position
    }

    /// Whether it is of the whole connection.
    pub(super) fn is_of_all(&self) -> bool {
        self.alone.is_none()
    }

    /// Whether it can be read for together with others.
    pub(super) fn is_shareable(&self) -> bool {
        !self.is_unshared && !self.is_before_seam()
    }

    /// Has it read for alone from now on.
    pub(super) fn share_no_more(&mut self) {
        self.is_unshared = true;
    }

    /// What is to be read for it.
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            subscriptions: &self.subscriptions,
            only: self.alone.as_deref(),
            from: self.next,
            until: self.until,
        }
    }

    /// Whether there may still be transactions that the snapshot's rows hold already.
    fn is_before_seam(&self) -> bool {
        self.seam
            .as_ref()
            .is_some_and(|seam| self.at() < Position::after(seam.until))
    }

    fn leave_out(&mut self, subscription: &Arc<Subscription>) {
        self.subscriptions
            .retain(|placed| !Arc::ptr_eq(&placed.subscription, subscription));
        if let Some(scan) = &mut self.scan {
            scan.leave_out(0, subscription);
        }
    }

    /// What has ended by an older version of its table must not come back by a newer one. If the router has it already,
    /// the reading goes on without the router until the next head.
    fn leave_out_ended(&mut self, ended: &[Arc<Subscription>]) {
        for subscription in ended {
            self.leave_out(subscription);
            if self.alone.is_none() {
                (self.seat, self.until) = (None, None);
            }
        }
    }

    /// Goes back to `position`, or to where the last step began: what came after it was not sent.
    fn rewind(&mut self, position: Option<Position>) {
        self.next = position.map_or(self.before, From::told);
        self.at_head = false;
        self.let_go();
    }

    /// Keeps nothing of what was read, until there is more to be read.
    pub(super) fn let_go(&mut self) {
        self.scan = None;
    }

    /// Reads one step for it alone.
    pub(super) fn read(&mut self, shared: &Shared<H>) -> Result<Step, journal::Error> {
        let scan = match self.scan.take() {
            Some(mut scan) => {
                scan.go_on(0, self.until);
                scan
            }
            None => {
                let (place, max_frame_bytes) = (self.at(), shared.options.max_frame_bytes);
                let mut scan = Scan::new(&shared.history, place, self.seam.clone(), max_frame_bytes)?;
                scan.join(&self.wanted());
                scan
            }
        };
        let found = self.scan.insert(scan).step_alone()?.unwrap_or(Found {
            items: Vec::new(),
            next: self.next,
            done: true,
        });
        Ok(self.took(shared, found))
    }

    /// Goes on behind what was found.
    pub(super) fn took(&mut self, shared: &Shared<H>, found: Found) -> Step {
        self.before = std::mem::replace(&mut self.next, found.next);
        (self.has_begun, self.at_head) = (true, found.done);
        let mut step = Step {
            items: found.items,
            done: found.done,
        };
        if step.done && self.until.is_none() {
            self.end_gone(shared, &mut step);
        }
        step
    }

    /// Ends the subscriptions whose tables are gone: the router ended others like them while these were not there.
    fn end_gone(&mut self, shared: &Shared<H>, step: &mut Step) {
        let is_gone = |placed: &&Placed| {
            let Subscription { query, oid, .. } = &*placed.subscription;
            !shared.tables.has(&query.table, *oid)
        };
        for Placed { subscription, .. } in self.subscriptions.iter().filter(is_gone) {
            let error = gone_message(&subscription.query.table).about(&*subscription.id);
            step.items.push(Item::Ended {
                subscription: Arc::clone(subscription),
                error: Box::new(error),
            });
        }
    }
}

/// One step of a reading.
pub(super) async fn step<H: History>(shared: Arc<Shared<H>>, catch_up: Box<CatchUp<H>>) -> Done<H> {
    if catch_up.at_head && catch_up.is_before_seam() {
        let (mut heads, at) = (shared.history.head_changes(), catch_up.at().end);
        let moved = tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head > at)).await;
        if moved.is_err() {
            shared.snapshots.nudge();
        }
    }
    let start = catch_up.at().end;
    if !catch_up.has_begun && start > shared.router.position() && catch_up.alone.is_some() {
        let mut heads = shared.history.head_changes();
        // Whether it came or not is looked at again.
        drop(tokio::time::timeout(FUTURE_POLL, heads.wait_for(|head| *head >= start)).await);
        if start > shared.history.head() {
            return Done::Stepped(
                catch_up,
                Ok(Step {
                    items: Vec::new(),
                    done: true,
                }),
                None,
            );
        }
    }
    readers::read(&shared, catch_up).await
}

impl<H: History> Session<H> {
    pub(super) async fn stepped(&mut self, mut catch_up: Box<CatchUp<H>>, mut step: Step) -> Result<(), End> {
        if self.is_abandoned(&catch_up) {
            self.abandon(&mut catch_up);
            return Ok(());
        }
        self.same_epoch().await?;
        let delivered = match catch_up.alone {
            Some(_) => self.deliver(&mut step.items).await?,
            None => self.send_items(&mut step.items).await?,
        };
        catch_up.leave_out_ended(&delivered.ended);
        if delivered.is_cut {
            catch_up.rewind(delivered.position);
            step.done = false;
        } else if delivered.stalled {
            catch_up.let_go();
        }
        if delivered.stalled {
            self.wire.flush().await?;
        }
        if catch_up.alone.is_none() {
            self.give_up(&mut catch_up).await?;
        }
        if self.is_abandoned(&catch_up) {
            self.abandon(&mut catch_up);
        } else if !step.done || self.is_early(&catch_up) {
            self.go_on(catch_up);
        } else if let Some(until) = catch_up.until {
            if let Some(seat) = catch_up.seat.take() {
                self.sit(seat);
            }
            match catch_up.alone {
                Some(subscription) => self.go_live(subscription, until).await?,
                // What lay behind its last frame did not concern it, and it may be long until more is said.
                None => {
                    self.rejoining = false;
                    self.progress(until).await?;
                }
            }
        } else if self.behind || self.rejoining && !catch_up.is_of_all() {
            self.join_those_behind(catch_up).await?;
        } else {
            self.hand_over(catch_up);
        }
        Ok(())
    }

    /// A subscription that has come to the head while its connection is behind, without a seat to take: it is read for
    /// with the others from here on, which get what it has already.
    async fn join_those_behind(&mut self, catch_up: Box<CatchUp<H>>) -> Result<(), End> {
        let whole = self.jobs.iter_mut().find_map(|job| match job {
            Job::CatchUp(whole) if whole.is_of_all() => Some(whole),
            _ => None,
        });
        match (&catch_up.alone, whole) {
            (Some(subscription), None) => self.go_live(Arc::clone(subscription), catch_up.at()).await,
            (Some(subscription), Some(whole)) if whole.until.is_none() => {
                whole.subscriptions.push(Placed {
                    subscription: Arc::clone(subscription),
                    after: catch_up.at(),
                });
                whole.let_go();
                self.go_live(Arc::clone(subscription), catch_up.at()).await
            }
            // The router has the others already: it is a moment until it can be added there.
            _ => {
                self.jobs.push_back(Job::CatchUp(catch_up));
                Ok(())
            }
        }
    }

    /// While the whole connection catches up, what the client unsubscribes is left out from here on: it may have done
    /// so because it cannot keep up. Once the router has the subscriptions too, they are removed there.
    async fn give_up(&mut self, catch_up: &mut CatchUp<H>) -> Result<(), End> {
        if catch_up.until.is_some() {
            return Ok(());
        }
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Unsubscribe(subscription) => {
                    catch_up.leave_out(&subscription);
                    self.over(&subscription.id).await?;
                }
                job => self.jobs.push_back(job),
            }
        }
        Ok(())
    }

    /// Whether the subscription that catches up has ended meanwhile.
    fn is_abandoned(&self, catch_up: &CatchUp<H>) -> bool {
        catch_up
            .alone
            .as_ref()
            .is_some_and(|subscription| !self.machine.holds(&subscription.id))
    }

    /// What the router may have delivered of it by now must not be seen: the connection gives up its seat, and rejoins
    /// with the others.
    fn abandon(&mut self, catch_up: &mut CatchUp<H>) {
        if catch_up.seat.take().is_some() {
            self.behind = true;
        }
    }

    /// Whether the place to start from has not been reached yet.
    fn is_early(&self, catch_up: &CatchUp<H>) -> bool {
        catch_up.is_before_seam() || !catch_up.has_begun && catch_up.at().end > self.shared.router.position()
    }

    /// A subscription on its own lets others have their turn; what holds up the whole connection does not.
    fn go_on(&mut self, catch_up: Box<CatchUp<H>>) {
        if catch_up.alone.is_some() && catch_up.until.is_none() {
            self.jobs.push_back(Job::CatchUp(catch_up));
        } else {
            self.jobs.push_front(Job::CatchUp(catch_up));
        }
    }

    /// At the head: the router takes over. What it had delivered by then is read from the journal before.
    fn hand_over(&mut self, mut catch_up: Box<CatchUp<H>>) {
        let shared = Arc::clone(&self.shared);
        let seat = self.seat.take();
        let at = catch_up.at();
        for placed in &mut catch_up.subscriptions {
            placed.after = placed.after.max(at);
        }
        self.work = Some(Box::pin(async move {
            let added = match &catch_up.alone {
                Some(subscription) => add(&shared, seat, subscription, Some(at)).await,
                None => {
                    let joined = shared.router.join(
                        shared.options.outbox_bytes,
                        catch_up.subscriptions.clone(),
                        Some(at),
                    );
                    joined.await
                }
            };
            match added {
                Ok((seat, position)) => Done::Added(catch_up, seat, position),
                Err(stopped) => stopped.into(),
            }
        }));
    }

    pub(super) fn added(&mut self, mut catch_up: Box<CatchUp<H>>, seat: Seat, position: Position) {
        catch_up.until = Some(position.max(catch_up.at()));
        self.wire.patience.outbox = Arc::downgrade(&seat.outbox);
        catch_up.seat = Some(seat);
        self.jobs.push_front(Job::CatchUp(catch_up));
    }

    /// The journal cannot be read from where it was to be.
    pub(super) async fn unreadable(
        &mut self,
        catch_up: CatchUp<H>,
        error: journal::Error,
    ) -> Result<(), End> {
        // The reader goes here: it must not live across what is waited for.
        let CatchUp { alone, seat, .. } = catch_up;
        self.seat = self.seat.take().or(seat);
        let refusal = match &error {
            journal::Error::EpochChanged => return Err(self.epoch_changed().await?),
            journal::Error::Expired { earliest } => {
                let message =
                    format!("the journal holds nothing before {earliest} any more: read the rows anew");
                ErrorMessage::new(ErrorCode::ResumeExpired, message).with(Detail::Earliest(*earliest))
            }
            error => self.shared.internal(error),
        };
        match (alone, &error) {
            (Some(subscription), _) => {
                let error = refusal.about(&*subscription.id);
                self.refuse(&subscription.id, &error).await
            }
            (None, journal::Error::Expired { .. }) => Err(End::Close(CloseCode::TooSlow)),
            (None, _) => {
                self.wire.error(&refusal).await?;
                Err(End::Close(CloseCode::GoingAway {
                    spread: Duration::ZERO,
                }))
            }
        }
    }
}

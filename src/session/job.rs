//! The work of a session besides reading and writing its socket: one thing at a time, none of which blocks the socket.

use std::sync::Arc;
use std::time::Instant;

use super::replay::{Replay, Step, step};
use super::replay_pool::Sending;
use super::snapshot::{Found, Snapshot};
use super::subscribe::{Beginning, Prepared, now};
use super::{End, Session};
use crate::delivery::{ActiveSubscription, Registration, Stopped};
use crate::journal::{self, History};
use crate::lsn::Position;
use crate::matching::Subscription;
use crate::protocol::{CloseCode, ErrorCode, ErrorMessage, ServerMessage, Subscribe};
use crate::snapshot;
use crate::telemetry::Excerpt;

/// Something to be done.
pub(super) enum Job<H: History> {
    /// Look whether a subscription can be, and from where.
    Subscribe(Arc<str>, Box<Subscribe>),
    /// Send the rows that a subscription begins with.
    Snapshot(Box<Snapshot>),
    /// Read on for what is not at the head.
    Replay(Box<Replay<H>>),
    /// The whole connection fell behind: read on for it, then join again.
    Rejoin,
    /// Take a subscription out of force, and tell the client.
    Unsubscribe(Arc<Subscription>),
    /// Tell the client that a subscription is over which never was in force, or not any more.
    Over(Arc<str>),
}

/// Turns of jobs beside the reading that a connection rejoins by: they have a quarter of the time.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// When the last one began, while it goes on.
    began: Option<Instant>,
    /// When the next one may begin.
    next: Option<Instant>,
}

impl Turns {
    /// True if one of them has its turn now, the last one being over.
    fn are_others(&mut self, now: Instant) -> bool {
        if let Some(began) = self.began.take() {
            self.next = Some(now + 3 * now.duration_since(began));
        }
        self.next.is_none_or(|next| now >= next)
    }

    fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }
}

impl<H: History> Job<H> {
    /// True if a client's message asked for it, and so that of how many there are is for the client to say.
    pub(super) fn is_asked_for(&self) -> bool {
        matches!(self, Job::Subscribe(..) | Job::Unsubscribe(_) | Job::Over(_))
    }
}

/// The outcome of it.
pub(super) enum JobOutcome<H: History> {
    Prepared(Arc<str>, Result<Box<Prepared>, ErrorMessage>),
    Snapshot(Box<Snapshot>, Result<Found, Arc<snapshot::Error>>),
    Stepped(Box<Replay<H>>, Result<Step, journal::Error>, Option<Sending<H>>),
    Added(Box<Replay<H>>, Registration, Position),
    Removed(Arc<Subscription>, Registration),
    Over(Arc<str>),
    Stopped,
    /// Reading panicked: a defect.
    Panicked,
}

impl<H: History> From<Stopped> for JobOutcome<H> {
    fn from(_: Stopped) -> JobOutcome<H> {
        JobOutcome::Stopped
    }
}

impl<H: History> Session<H> {
    /// Begins the next job, if nothing is being done.
    pub(super) fn start_work(&mut self) {
        while self.work.is_none() {
            let Some(job) = self.next_job() else { return };
            self.begin(job);
        }
    }

    /// The next job. A connection that is behind rejoins first, since whatever needs a registration waits for that; but
    /// under constant load it may be behind for ever, so that what needs none has its turns in between.
    fn next_job(&mut self) -> Option<Job<H>> {
        if !self.is_behind() {
            (self.behind, self.turns) = (false, Turns::default());
            return self.jobs.pop_front();
        }
        let now = Instant::now();
        if self.turns.are_others(now)
            && let Some(other) = self.needs_no_seat()
        {
            self.turns.begin(now);
            return self.jobs.remove(other);
        }
        if self.rejoining {
            let is_whole = |job: &Job<H>| matches!(job, Job::Replay(replay) if replay.is_of_all());
            let whole = self.jobs.iter().position(is_whole);
            return whole.and_then(|whole| self.jobs.remove(whole));
        }
        (self.behind, self.rejoining) = (false, true);
        Some(Job::Rejoin)
    }

    /// True if what is live waits for the connection to rejoin.
    pub(super) fn is_behind(&self) -> bool {
        self.rejoining || self.behind && !self.live.is_empty()
    }

    /// The first job that can be done without a registration. What the client asked for is looked at in the order in
    /// which it did.
    fn needs_no_seat(&self) -> Option<usize> {
        let asked = self.jobs.iter().position(Job::is_asked_for);
        let mut jobs = self.jobs.iter().enumerate();
        let found = jobs.find(|(at, job)| match job {
            Job::Subscribe(..) | Job::Over(_) => asked == Some(*at),
            Job::Snapshot(_) => true,
            Job::Replay(replay) => !replay.is_of_all(),
            _ => false,
        });
        found.map(|(at, _)| at)
    }

    fn begin(&mut self, job: Job<H>) {
        let shared = Arc::clone(&self.shared);
        match job {
            Job::Subscribe(id, subscribe) => {
                if !self.machine.holds(&id) {
                    return;
                }
                let caller = self.caller;
                self.work = Some(Box::pin(async move {
                    let prepared = Prepared::new(&shared, Arc::clone(&id), &subscribe, &caller).await;
                    let prepared = prepared.map(|mut prepared| {
                        prepared.message = (prepared.start == Beginning::Snapshot).then_some((subscribe, 0));
                        Box::new(prepared)
                    });
                    JobOutcome::Prepared(id, prepared)
                }));
            }
            Job::Snapshot(rows) => {
                let caller = self.caller;
                // What the client asks for waits behind each of those that wait for rows, one after the other.
                let others = match self.jobs.iter().any(Job::is_asked_for) {
                    true => None,
                    false => Some(self.jobs.len()),
                };
                self.work = Some(Box::pin(super::snapshot::step(shared, rows, caller, others)));
            }
            Job::Replay(replay) => self.work = Some(Box::pin(step(shared, replay))),
            Job::Rejoin => {
                let replay = Replay::of_all(&shared, self.live.clone(), self.at);
                self.work = Some(Box::pin(step(shared, replay)));
            }
            Job::Unsubscribe(subscription) => self.remove(subscription),
            Job::Over(id) => self.work = Some(Box::pin(async { JobOutcome::Over(id) })),
        }
    }

    fn remove(&mut self, subscription: Arc<Subscription>) {
        let shared = Arc::clone(&self.shared);
        let Some(registration) = self.registration.take() else {
            // Without a place at the router nothing of it can come any more.
            self.jobs.push_front(Job::Over(Arc::clone(&subscription.id)));
            return;
        };
        self.work = Some(Box::pin(async move {
            match shared.router.remove(&registration, &subscription).await {
                Ok(()) => JobOutcome::Removed(subscription, registration),
                Err(stopped) => stopped.into(),
            }
        }));
    }

    /// Goes on from what a job came to.
    pub(super) async fn done(&mut self, done: JobOutcome<H>) -> Result<(), End> {
        match done {
            JobOutcome::Prepared(id, prepared) => self.prepared(&id, prepared).await,
            JobOutcome::Snapshot(rows, found) => self.snapshot(rows, found).await,
            JobOutcome::Stepped(replay, Ok(step), sending) => {
                let sends = self.stepped(replay, step);
                match sending {
                    Some(sending) => sending.during(sends).await,
                    None => sends.await,
                }
            }
            JobOutcome::Stepped(replay, Err(error), sending) => {
                drop(sending);
                self.unreadable(*replay, error).await
            }
            JobOutcome::Added(replay, registration, position) => {
                self.added(replay, registration, position).await
            }
            JobOutcome::Panicked => {
                let message = "reading the journal failed; this is our fault, and it is logged";
                self.wire
                    .error(&ErrorMessage::new(ErrorCode::Internal, message))
                    .await?;
                let spread = self.shared.options.spread;
                Err(End::Close(CloseCode::GoingAway { spread }))
            }
            JobOutcome::Removed(subscription, registration) => {
                self.removed(&subscription, registration).await
            }
            JobOutcome::Over(id) => self.over(&id).await,
            JobOutcome::Stopped => {
                self.same_epoch().await?;
                Err(Stopped.into())
            }
        }
    }

    async fn prepared(
        &mut self,
        id: &Arc<str>,
        prepared: Result<Box<Prepared>, ErrorMessage>,
    ) -> Result<(), End> {
        self.same_epoch().await?;
        if !self.machine.holds(id) {
            return Ok(());
        }
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse(id, &error).await,
        };
        if let Err(error) = self.machine.weigh(id, prepared.cost) {
            return self.refuse(id, &error.about(&**id)).await;
        }
        let start = match prepared.start {
            Beginning::Snapshot => return self.open_snapshot(prepared).await,
            Beginning::After(start) => start,
            Beginning::Now => {
                let history = &self.shared.history;
                now(self.shared.router.position(), history.earliest(), history.head())
            }
        };
        self.wire.send(prepared.subscribed(start)).await?;
        let is_now = prepared.start == Beginning::Now;
        let replay = Replay::alone(&self.shared, prepared.subscription, start, None);
        // What starts at the head, as most do, needs no reading before the router takes it.
        if is_now && !self.is_behind() && self.shared.history.head() <= start.end {
            self.hand_over(replay);
        } else {
            self.jobs.push_back(Job::Replay(replay));
        }
        Ok(())
    }

    pub(super) async fn refuse(&mut self, id: &Arc<str>, error: &ErrorMessage) -> Result<(), End> {
        self.machine.free(id);
        self.log_end(id, error.code.as_str());
        Ok(self.wire.error(error).await?)
    }

    /// From here on the subscription moves with the connection.
    pub(super) async fn go_live(
        &mut self,
        subscription: Arc<Subscription>,
        position: Position,
    ) -> Result<(), End> {
        let (connection, table) = (self.caller.connection, subscription.query.table());
        let id = Excerpt::new(&subscription.id);
        tracing::debug!(connection, %id, %table, "a subscription is live");
        let live = ServerMessage::Live {
            id: &subscription.id,
            position,
        }
        .to_json();
        self.wire.send(live).await?;
        // Without others it may have been further on, in a history that is over.
        self.at = match self.live.is_empty() {
            true => position,
            false => self.at.max(position),
        };
        self.live.push(ActiveSubscription {
            subscription,
            after: position,
        });
        self.shared.metrics.subscriptions.inc();
        Ok(())
    }

    async fn removed(&mut self, subscription: &Subscription, registration: Registration) -> Result<(), End> {
        let outbox = Arc::clone(&registration.outbox);
        self.attach(registration);
        // Whatever of it the outbox still holds comes before the word that it is over.
        let mut items = Vec::new();
        if let Some(taken) = outbox.try_take(&mut items) {
            self.taken(taken, &mut items).await?;
        }
        self.over(&subscription.id).await
    }

    /// Tells the client that a subscription is over: from here on nothing more of it comes, and its id is free.
    pub(super) async fn over(&mut self, id: &Arc<str>) -> Result<(), End> {
        self.machine.free(id);
        self.log_end(id, "unsubscribed");
        Ok(self
            .wire
            .send(ServerMessage::Unsubscribed { id }.to_json())
            .await?)
    }

    /// Logs that a subscription is over.
    pub(super) fn log_end(&self, id: &str, why: &str) {
        let connection = self.caller.connection;
        tracing::debug!(connection, id = %Excerpt::new(id), why, "a subscription ended");
    }
}

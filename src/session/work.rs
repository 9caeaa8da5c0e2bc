//! The work of a session besides reading and writing its socket: one thing at a time, none of which blocks the socket.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::cursor::{Action, Input, Preparation, Reading, ReplayId};
use super::outcome::Outcome;
use super::subscribe::{Beginning, Prepared, now};
use super::{End, Session, identity, replay};
use crate::delivery::{ReplayResult, Stopped};
use crate::limit::Limit;
use crate::log::{self, Log};
use crate::lsn::Position;
use crate::protocol::{CloseCode, Detail, ErrorCode, ErrorMessage};

/// Work that is being done.
pub(super) type Work<H> = Pin<Box<dyn Future<Output = Outcome<H>> + Send>>;

impl<H: Log> Session<H> {
    /// Begins the work that an action asks for.
    pub(super) fn begin(&mut self, action: Action) {
        let services = Arc::clone(&self.services);
        let caller = self.caller.clone();
        let registration = self.registration.clone();
        let owner = self.member.owner();
        let work: Work<H> = match action {
            Action::Prepare(id, subscribe) => {
                self.traced.step(&id, "subscribe check");
                Box::pin(self.traced.during(&Arc::clone(&id), async move {
                    let metrics = &services.metrics;
                    services
                        .shared
                        .pace
                        .turn(owner, || metrics.limit(Limit::TotalSubscribes))
                        .await;
                    let prepared = Prepared::new(&services, Arc::clone(&id), &subscribe, &caller).await;
                    let prepared = prepared.map(|mut prepared| {
                        prepared.message = (prepared.start == Beginning::Snapshot).then_some((subscribe, 0));
                        Box::new(prepared)
                    });
                    Outcome::Prepared(id, prepared)
                }))
            }
            Action::ReadRows { id, others } => {
                let Some(place) = self.rows.iter().position(|rows| Arc::ptr_eq(rows.id(), &id)) else {
                    debug_assert!(false, "rows are read that nobody asked for");
                    return;
                };
                let rows = Box::new(self.rows.swap_remove(place));
                let step = super::snapshot::step(services, rows, caller, others);
                Box::pin(self.traced.during(&id, step))
            }
            Action::Read(request) => {
                let place = self.replays.iter().position(|(id, _)| *id == request.replay);
                let cursor = place.map(|place| self.replays.swap_remove(place).1);
                Box::pin(replay::step(services, *request, cursor, owner))
            }
            Action::Join(subscriptions, at) => {
                for active in &subscriptions {
                    self.traced.step(&active.subscription.id, "subscribe join");
                }
                Box::pin(async move {
                    match services
                        .router
                        .join(services.options.outbox_bytes, subscriptions, at)
                        .await
                    {
                        Ok((registration, position)) => Outcome::Joined(registration, position),
                        Err(stopped) => stopped.into(),
                    }
                })
            }
            Action::Add(subscription, at) => {
                self.traced.step(&subscription.id, "subscribe join");
                Box::pin(async move {
                    let Some(registration) = registration else {
                        return Outcome::Stopped;
                    };
                    match services.router.add(&registration, &subscription, at).await {
                        Ok(position) => Outcome::Added(position),
                        Err(stopped) => stopped.into(),
                    }
                })
            }
            Action::Remove(subscription) => Box::pin(async move {
                let Some(registration) = registration else {
                    return Outcome::Stopped;
                };
                match services.router.remove(&registration, &subscription).await {
                    Ok(()) => Outcome::Removed,
                    Err(stopped) => stopped.into(),
                }
            }),
            other => {
                debug_assert!(false, "{other:?} is no work");
                return;
            }
        };
        debug_assert!(self.work.is_none(), "one thing at a time");
        self.work = Some(work);
    }

    /// Continues with the outcome of the work at hand.
    pub(super) async fn done(&mut self, outcome: Outcome<H>) -> Result<(), End> {
        match outcome {
            Outcome::Prepared(id, prepared) => self.prepared(id, prepared).await,
            Outcome::Rows(rows, found) => self.has_rows(rows, found).await,
            Outcome::Read(replay, result) => self.has_read(replay, *result).await,
            Outcome::NotYet => self.reading(Reading::NotYet).await,
            Outcome::Exhausted => self.reading(Reading::Exhausted).await,
            Outcome::Joined(registration, position) => {
                self.wire.patience.outbox = Arc::downgrade(&registration.outbox);
                self.registration = Some(Arc::new(registration));
                self.handed_over(position).await
            }
            Outcome::Added(position) => self.handed_over(position).await,
            Outcome::Removed => self.feed(Input::Removed).await,
            Outcome::Panicked => {
                let message = "reading the journal failed; this is our fault, and it is logged";
                self.wire
                    .error(&ErrorMessage::new(ErrorCode::Internal, message))
                    .await?;
                let spread = self.services.options.spread;
                Err(End::Close(CloseCode::GoingAway { spread }))
            }
            Outcome::Stopped => {
                self.same_epoch().await?;
                Err(Stopped.into())
            }
        }
    }

    async fn prepared(
        &mut self,
        id: Arc<str>,
        prepared: Result<Box<Prepared>, ErrorMessage>,
    ) -> Result<(), End> {
        self.same_epoch().await?;
        let preparation = match prepared {
            _ if !self.cursor.awaits(&id) => Preparation::Unneeded,
            Ok(prepared) => self.preparation(prepared).await,
            Err(error) => Preparation::Refused(Box::new(error)),
        };
        self.feed(Input::Prepared(id, preparation)).await
    }

    /// The place where a checked subscription starts, or the reason why it may not.
    async fn preparation(&mut self, prepared: Box<Prepared>) -> Preparation {
        let id = &prepared.subscription.id;
        let table = prepared.subscription.query.table();
        self.traced.note(id, |span| span.say("db.collection.name", table));
        if let Some(identity) = &mut self.identity {
            // Policies may have changed since it was checked.
            let query = &prepared.subscription.query;
            if !self.services.is_judged_alike(query, &self.caller).await {
                return Preparation::Refused(Box::new(identity::forbidden(id)));
            }
            identity.note(&prepared.subscription, self.guard.ids());
        }
        if let Err(error) = self.guard.weigh(id, prepared.cost) {
            return Preparation::Refused(Box::new(error.about(&**id)));
        }
        if let Err(limit) = self.member.keep_predicates(self.guard.predicate_bytes()) {
            return Preparation::Refused(Box::new(self.services.over(limit).about(&**id)));
        }
        let start = match prepared.start {
            Beginning::Snapshot => return self.open_snapshot(prepared),
            Beginning::After(start) => start,
            Beginning::Now => {
                let history = &self.services.history;
                // The router's place is published a moment after its changes: the client may have them already.
                let reached = self.services.router.position().max(self.cursor.complete_to());
                now(reached, history.earliest(), history.head())
            }
        };
        self.traced.step(id, "subscribe replay");
        let is_now = prepared.start == Beginning::Now;
        Preparation::From {
            subscribed: prepared.subscribed(start),
            start,
            at_head: is_now && self.services.history.head() <= start.end,
            subscription: prepared.subscription,
        }
    }

    async fn has_read(&mut self, replay: ReplayId, result: ReplayResult<H>) -> Result<(), End> {
        let ReplayResult {
            found,
            standing,
            cursor,
            share,
        } = result;
        let reading = match found {
            Ok(found) => {
                let tables = &self.services.tables;
                let found_changes = tables.changes_found();
                let gone = if found.done {
                    replay::gone(tables, self.cursor.at_work())
                } else if found_changes != self.found_changes {
                    // It may be long until all is read.
                    replay::unfit(tables, self.cursor.at_work())
                } else {
                    Vec::new()
                };
                self.found_changes = found_changes;
                self.replays.extend(cursor.map(|cursor| (replay, cursor)));
                Reading::Found {
                    found,
                    gone,
                    standing,
                }
            }
            Err(error) => {
                drop(share);
                return self.unreadable(&error).await;
            }
        };
        // Boxed, since it is moved into the future that holds the share.
        let goes_on = Box::pin(self.reading(reading));
        match share {
            Some(share) => share.during(goes_on).await,
            None => goes_on.await,
        }
    }

    async fn unreadable(&mut self, error: &log::Error) -> Result<(), End> {
        let reading = match error {
            log::Error::EpochChanged => return self.feed(Input::EpochChanged).await,
            log::Error::Expired { earliest } => {
                let message = format!(
                    "the journal holds nothing before {earliest} any more: resubscribe with a new snapshot"
                );
                let error =
                    ErrorMessage::new(ErrorCode::ResumeExpired, message).with(Detail::Earliest(*earliest));
                Reading::Expired(Box::new(error))
            }
            error => Reading::Failed(Box::new(self.services.internal(error))),
        };
        self.feed(Input::Read(reading, self.services.router.position()))
            .await
    }

    async fn reading(&mut self, reading: Reading) -> Result<(), End> {
        self.same_epoch().await?;
        self.feed(Input::Read(reading, self.services.router.position()))
            .await
    }

    async fn handed_over(&mut self, position: Position) -> Result<(), End> {
        self.same_epoch().await?;
        let gone = replay::gone(&self.services.tables, self.cursor.at_work());
        self.feed(Input::HandedOver { position, gone }).await
    }
}

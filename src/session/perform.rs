//! Performs the cursor's actions, in their order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cursor::{Action, Delivered, Input};
use super::wire::Pace;
use super::{End, Session, identity};
use crate::delivery::Delivery;
use crate::event::Timestamp;
use crate::log::Log;
use crate::protocol::{CloseCode, ErrorCode, ErrorMessage, ServerMessage};
use crate::telemetry::Excerpt;

impl<H: Log> Session<H> {
    /// Hands an input to the cursor, and performs the actions that follow.
    pub(super) async fn feed(&mut self, input: Input) -> Result<(), End> {
        self.cursor.on(input, Instant::now());
        while let Some(action) = self.cursor.next_action() {
            let answer = match action {
                Action::Deliver(items) => Some(Input::Sent(self.deliver(items).await?)),
                // Boxed, since it is large and rare.
                action => Box::pin(self.perform(action)).await?,
            };
            if let Some(answer) = answer {
                self.cursor.on(answer, Instant::now());
            }
        }
        self.count();
        Ok(())
    }

    /// Begins the next job, if nothing is being done.
    pub(super) async fn start_work(&mut self) -> Result<(), End> {
        if self.work.is_none() {
            self.cursor.start(Instant::now());
            while let Some(action) = self.cursor.next_action() {
                let answer = Box::pin(self.perform(action)).await?;
                debug_assert!(answer.is_none(), "a job begins without an answer");
            }
            self.count();
        }
        Ok(())
    }

    /// Performs an action, and returns its answer if it has an immediate one.
    async fn perform(&mut self, action: Action) -> Result<Option<Input>, End> {
        match action {
            Action::Deliver(items) => return Ok(Some(Input::Sent(self.deliver(items).await?))),
            Action::Take => {
                let mut items = std::mem::take(&mut self.items);
                let registration = self.registration.as_ref();
                let taken = registration.and_then(|registration| registration.outbox.try_take(&mut items));
                return Ok(Some(Input::Taken(taken, items)));
            }
            Action::Flush => self.wire.flush().await?,
            Action::Send(text) => self.wire.send(text).await?,
            Action::Live(subscription, position) => {
                let connection = self.caller.connection;
                let id = &subscription.id;
                let table = subscription.query.table();
                let shown = Excerpt::new(id);
                tracing::debug!(connection, id = %shown, %table, "a subscription is live");
                self.wire
                    .send(ServerMessage::Live { id, position }.to_json())
                    .await?;
                self.traced
                    .note(id, |span| span.say("walcast.position", &position));
                self.traced.over(id, None);
            }
            Action::Unsubscribed(id) => {
                self.free(&id);
                let identity = self.identity.as_mut();
                if identity.is_some_and(|identity| identity.was_revoked(&id)) {
                    let error = identity::forbidden(&id);
                    self.log_end(&id, error.code.as_str());
                    self.wire.error(&error).await?;
                    return Ok(None);
                }
                self.log_end(&id, "unsubscribed");
                let over = ServerMessage::Unsubscribed { id: &id };
                self.wire.send(over.to_json()).await?;
            }
            Action::Refuse(id, error) => {
                self.free(&id);
                self.guard.refused(Instant::now());
                self.log_end(&id, error.code.as_str());
                self.wire.error(&error).await?;
            }
            Action::Progress(position) => {
                self.wire
                    .send(ServerMessage::Progress { position }.to_json())
                    .await?;
            }
            Action::Pong(reference, position) => {
                let pong = ServerMessage::Pong {
                    reference: reference.as_ref(),
                    position: Some(position),
                };
                self.wire.send(pong.to_json()).await?;
            }
            Action::RefusePing(error) => {
                self.guard.refused(Instant::now());
                self.wire.error(&error).await?;
            }
            Action::EndEpoch => return Err(self.epoch_changed().await?),
            Action::Close(error, code) => {
                if let Some(error) = error {
                    self.wire.error(&error).await?;
                }
                return Err(End::Close(code));
            }
            Action::Leave => self.registration = None,
            Action::ForgetRows(id) => self.rows.retain(|rows| !Arc::ptr_eq(rows.id(), &id)),
            Action::LetGo(replay) => self.replays.retain(|(other, _)| *other != replay),
            Action::LeaveOut(replay, subscription) => {
                for (_, cursor) in self.replays.iter_mut().filter(|(other, _)| *other == replay) {
                    cursor.leave_out(0, &subscription);
                }
            }
            work @ (Action::Prepare(..)
            | Action::ReadRows { .. }
            | Action::Read(_)
            | Action::Join(..)
            | Action::Add(..)
            | Action::Remove(_)) => self.begin(work),
        }
        Ok(None)
    }

    /// Sends items in as few writes as possible. If the client stalls, the rest is dropped, and is read again when the
    /// client goes on.
    async fn deliver(&mut self, mut items: Vec<Delivery>) -> Result<Delivered, End> {
        let mut delivered = Delivered::default();
        let now = Timestamp::now();
        // The past is as old as the client was away.
        let is_timed = self.counted.replays == 0;
        for item in items.iter() {
            // Items in hand were admitted by the policies of their time.
            let is_outdated = self
                .identity
                .as_ref()
                .is_some_and(|identity| identity.is_outdated());
            if is_outdated || self.wire.item(item, now, is_timed).await? == Pace::Stalled {
                delivered.stalled = true;
                break;
            }
            match item {
                Delivery::Frame(frame) => delivered.position = Some(frame.position),
                Delivery::Ended { subscription, error } => {
                    self.free(&subscription.id);
                    self.log_end(&subscription.id, error.code.as_str());
                    delivered.ended.push(Arc::clone(subscription));
                }
            }
        }
        delivered.is_cut = delivered.stalled;
        delivered.stalled = delivered.stalled || self.wire.flush_unless_stalled().await? == Pace::Stalled;
        if !delivered.stalled {
            self.trace_sent(&items);
        }
        items.clear();
        // The memory of one burst is not kept for ever, since there are many connections.
        items.shrink_to(64);
        if items.capacity() > self.items.capacity() {
            self.items = items;
        }
        Ok(delivered)
    }

    /// Notes that these items were sent, for the few transactions whose way is traced.
    fn trace_sent(&self, items: &[Delivery]) {
        let traces = &self.services.metrics.traces;
        for item in items {
            if let Delivery::Frame(frame) = item
                && traces.has(frame.position.end)
            {
                traces.sent(frame.position.end, self.caller.connection);
            }
        }
    }

    /// Makes sure that the history is still the one that the client was told of.
    pub(super) async fn same_epoch(&mut self) -> Result<(), End> {
        if self.services.history.epoch() == self.epoch {
            return Ok(());
        }
        self.feed(Input::EpochChanged).await
    }

    /// Sends an error for every subscription, since their history has ended.
    async fn epoch_changed(&mut self) -> Result<End, End> {
        let message =
            "the history broke and a new epoch has begun: reconnect, and resubscribe with a new snapshot";
        for id in self.guard.ids().used().to_vec() {
            self.wire
                .error(&ErrorMessage::new(ErrorCode::ResumeInvalid, message).about(&*id))
                .await?;
        }
        Ok(End::Close(CloseCode::GoingAway {
            spread: Duration::ZERO,
        }))
    }

    /// Logs the end of a subscription.
    fn log_end(&mut self, id: &str, why: &'static str) {
        self.traced.over(id, Some(why));
        let connection = self.caller.connection;
        tracing::debug!(connection, id = %Excerpt::new(id), why, "a subscription ended");
    }

    /// Gives back the place of a subscription and the bytes of its predicate. Called before the message of its end is
    /// flushed: the client's other connections may use them from then on.
    fn free(&mut self, id: &Arc<str>) {
        self.guard.free(id);
        self.member.has_subscriptions(self.guard.ids().len());
        // Fewer bytes are never refused.
        let _fewer = self.member.keep_predicates(self.guard.predicate_bytes());
    }

    /// Brings the gauges up to date.
    fn count(&mut self) {
        let metrics = &self.services.metrics;
        let counts = [
            (self.cursor.live(), &mut self.counted.live, &metrics.subscriptions),
            (
                self.cursor.replays(),
                &mut self.counted.replays,
                &metrics.catching_up,
            ),
        ];
        let seen = &self.wire.seen;
        seen.has_come_to(
            self.cursor.furthest_behind(),
            self.cursor.live(),
            self.cursor.replays(),
        );
        for (now, counted, gauge) in counts {
            if now != *counted {
                gauge.add(now as i64 - *counted as i64);
                *counted = now;
            }
        }
    }
}

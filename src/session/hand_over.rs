//! The way in which a reading of the journal ends: at the head the router takes over. It says from where on, and the
//! reading ends exactly there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::{Job, JobOutcome};
use super::replay::{Replay, Step};
use super::{End, Session};
use crate::delivery::{Delivery, Received, Registration};
use crate::journal::{self, History};
use crate::lsn::Position;
use crate::matching::Subscription;
use crate::protocol::{CloseCode, Detail, ErrorCode, ErrorMessage};

impl<H: History> Session<H> {
    pub(super) async fn stepped(&mut self, mut replay: Box<Replay<H>>, mut step: Step) -> Result<(), End> {
        if self.is_abandoned(&replay) {
            self.abandon(&mut replay);
            return Ok(());
        }
        self.same_epoch().await?;
        let delivered = match replay.alone {
            Some(_) => self.deliver(&mut step.items).await?,
            None => self.send_items(&mut step.items).await?,
        };
        replay.leave_out_ended(&delivered.ended);
        if delivered.is_cut {
            replay.rewind(delivered.position);
            step.done = false;
        } else if delivered.stalled {
            replay.let_go();
        }
        if delivered.stalled {
            self.wire.flush().await?;
        }
        if replay.alone.is_none() {
            self.give_up(&mut replay).await?;
            self.take_in(&mut replay).await?;
        }
        if self.is_abandoned(&replay) {
            self.abandon(&mut replay);
        } else if !step.done || replay.is_early(&self.shared) {
            self.go_on(replay);
        } else if let Some(until) = replay.until {
            match replay.alone {
                Some(_) => self.join_the_others(replay, until).await?,
                // What lay behind its last frame did not concern it, and it may be long until more is said.
                None => {
                    replay
                        .registration
                        .take()
                        .into_iter()
                        .for_each(|registration| self.attach(registration));
                    self.rejoining = false;
                    self.progress(until).await?;
                }
            }
        } else if replay.waits_apart() {
            self.progress_apart(replay.at()).await?;
            self.go_on(replay);
        } else if self.is_behind() && !replay.is_of_all() {
            self.wait_for_the_others(replay);
        } else {
            self.hand_over(replay);
        }
        Ok(())
    }

    /// What is served apart hears now and then how far it is complete.
    async fn progress_apart(&mut self, at: Position) -> Result<(), End> {
        let now = Instant::now();
        let interval = self.shared.options.progress_interval;
        if self
            .progressed
            .is_some_and(|last| now.duration_since(last) < interval)
        {
            return Ok(());
        }
        self.progressed = Some(now);
        self.progress(at).await
    }

    /// A subscription that has come to where the router took it over moves with the others from here on: once they have
    /// come there too.
    async fn join_the_others(&mut self, mut replay: Box<Replay<H>>, until: Position) -> Result<(), End> {
        let (Some(subscription), Some(registration)) = (replay.alone.clone(), replay.registration.take())
        else {
            debug_assert!(false, "what the router took over is alone and has a registration");
            return Ok(());
        };
        let (mut items, mut later) = (Vec::new(), Vec::new());
        let outbox = Arc::clone(&registration.outbox);
        self.attach(registration);
        if let Some(taken) = outbox.try_take(&mut items) {
            later = split_off_later(&mut items, until, &subscription);
            self.taken(taken, &mut items).await?;
        }
        if self.registration.is_none() {
            // They fell behind. What the router had of this one was not sent either.
            replay.until = None;
            self.go_on(replay);
            return Ok(());
        }
        self.go_live(subscription, until).await?;
        match later.is_empty() {
            true => Ok(()),
            false => self.taken(Received::Items, &mut later).await,
        }
    }

    /// A subscription that has come to the head while its connection is behind, without a registration to take, waits
    /// there.
    fn wait_for_the_others(&mut self, replay: Box<Replay<H>>) {
        let whole = self.jobs.iter_mut().find_map(|job| match job {
            Job::Replay(whole) if whole.is_of_all() => Some(whole),
            _ => None,
        });
        let waits = match whole {
            Some(whole) => whole.awaits(replay),
            None => Err(replay),
        };
        if let Err(replay) = waits {
            self.jobs.push_back(Job::Replay(replay));
        }
    }

    /// Those that waited for the whole connection to come to where they are move with it from here on.
    async fn take_in(&mut self, whole: &mut Replay<H>) -> Result<(), End> {
        for waited in whole.met() {
            match &waited.alone {
                Some(_) if self.is_abandoned(&waited) => {}
                Some(subscription) if waited.at() == whole.at() => {
                    whole.take_in(Arc::clone(subscription));
                    self.go_live(Arc::clone(subscription), waited.at()).await?;
                }
                _ => self.jobs.push_back(Job::Replay(waited)),
            }
        }
        Ok(())
    }

    /// While the whole connection catches up, what the client unsubscribes is left out from here on: it may have done
    /// so because it cannot keep up. Once the router has the subscriptions too, they are removed there.
    async fn give_up(&mut self, replay: &mut Replay<H>) -> Result<(), End> {
        if replay.until.is_some() {
            return Ok(());
        }
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Unsubscribe(subscription) => {
                    replay.leave_out(&subscription);
                    self.over(&subscription.id).await?;
                }
                job => self.jobs.push_back(job),
            }
        }
        Ok(())
    }

    /// True if the subscription that catches up has ended meanwhile.
    fn is_abandoned(&self, replay: &Replay<H>) -> bool {
        replay
            .alone
            .as_ref()
            .is_some_and(|subscription| !self.machine.holds(&subscription.id))
    }

    /// What the router may have delivered of it by now must not be seen: the connection gives up its registration, and
    /// rejoins with the others.
    fn abandon(&mut self, replay: &mut Replay<H>) {
        if replay.registration.take().is_some() {
            self.behind = true;
        }
    }

    /// A subscription on its own lets others have their turn; what holds up the whole connection does not.
    fn go_on(&mut self, replay: Box<Replay<H>>) {
        if replay.alone.is_some() && replay.until.is_none() {
            self.jobs.push_back(Job::Replay(replay));
        } else {
            self.jobs.push_front(Job::Replay(replay));
        }
    }

    /// At the head: the router takes over. What it had delivered by then is read from the journal before.
    pub(super) fn hand_over(&mut self, mut replay: Box<Replay<H>>) {
        let shared = Arc::clone(&self.shared);
        // Nothing is live that could be behind, or it is what is handed over.
        self.behind = false;
        let registration = self.registration.take();
        // At the head none waits for it any more; should one, it goes on by itself.
        self.jobs.extend(replay.leave_behind().map(Job::Replay));
        let at = replay.at();
        for placed in &mut replay.subscriptions {
            placed.after = placed.after.max(at);
        }
        self.work = Some(Box::pin(async move {
            let taken_over = match (&replay.alone, registration) {
                (Some(subscription), Some(registration)) => {
                    let subscription = Arc::clone(subscription);
                    let added = shared.router.add(&registration, &subscription, at).await;
                    added.map(|position| (registration, position))
                }
                _ => {
                    let (bytes, subscriptions) = (shared.options.outbox_bytes, replay.subscriptions.clone());
                    shared.router.join(bytes, subscriptions, at).await
                }
            };
            match taken_over {
                Ok((registration, position)) => JobOutcome::Added(replay, registration, position),
                Err(stopped) => stopped.into(),
            }
        }));
    }

    pub(super) async fn added(
        &mut self,
        mut replay: Box<Replay<H>>,
        registration: Registration,
        position: Position,
    ) -> Result<(), End> {
        let at = replay.at();
        replay.until = Some(position.max(at));
        self.wire.patience.outbox = Arc::downgrade(&registration.outbox);
        replay.registration = Some(registration);
        if position > at {
            self.jobs.push_front(Job::Replay(replay));
            return Ok(());
        }
        let step = replay.nothing_more(&self.shared);
        self.stepped(replay, step).await
    }

    /// The journal cannot be read from where it was to be.
    pub(super) async fn unreadable(
        &mut self,
        mut replay: Replay<H>,
        error: journal::Error,
    ) -> Result<(), End> {
        // The router has what cannot be read for, and may have delivered of it.
        self.abandon(&mut replay);
        // The reader goes here: it must not live across what is waited for.
        let Replay { alone, .. } = replay;
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

/// The part of an outbox after a place, where the router took `subscription` over. Whatever it has of that comes later.
fn split_off_later(
    items: &mut Vec<Delivery>,
    place: Position,
    subscription: &Arc<Subscription>,
) -> Vec<Delivery> {
    let is_later = |item: &Delivery| match item {
        Delivery::Frame(frame) => frame.position > place,
        Delivery::Ended {
            subscription: ended, ..
        } => Arc::ptr_eq(ended, subscription),
    };
    let first = items.iter().position(is_later).unwrap_or(items.len());
    items.split_off(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use crate::lsn::Lsn;
    use crate::matching::tests::subscription;
    use crate::protocol::Frame;

    #[test]
    fn the_end_of_what_goes_live_comes_after_that() {
        let [other, this] = ["other", "this"].map(|id| subscription(id, None));
        let ended = |subscription: &Arc<Subscription>| Delivery::Ended {
            subscription: Arc::clone(subscription),
            error: Box::new(ErrorMessage::new(ErrorCode::SchemaChanged, "gone")),
        };
        let frame = |lsn: u64| {
            Delivery::Frame(Frame {
                position: Position::after(Lsn(lsn)),
                committed_at: Timestamp::now(),
                text: "".into(),
            })
        };
        let split = |mut items: Vec<Delivery>| {
            let later = split_off_later(&mut items, Position::after(Lsn(10)), &this);
            (items.len(), later.len())
        };
        assert_eq!(split(vec![frame(9), ended(&other), frame(10)]), (3, 0));
        assert_eq!(split(vec![frame(10), frame(11), ended(&this)]), (1, 2));
        assert_eq!(split(vec![frame(10), ended(&this), ended(&other)]), (1, 2));
    }
}

//! The way in which a reading of the journal ends: at the head the router takes over. It says from where on, and the reading
//! ends exactly there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catch_up::{CatchUp, Step};
use super::job::{Done, Job};
use super::{End, Session};
use crate::fanout::Subscription;
use crate::journal::{self, History};
use crate::lsn::Position;
use crate::protocol::{CloseCode, Detail, ErrorCode, ErrorMessage};
use crate::router::{Item, Seat, Taken};

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
            self.take_in(&mut catch_up).await?;
        }
        if self.is_abandoned(&catch_up) {
            self.abandon(&mut catch_up);
        } else if !step.done || catch_up.is_early(&self.shared) {
            self.go_on(catch_up);
        } else if let Some(until) = catch_up.until {
            match catch_up.alone {
                Some(_) => self.join_the_others(catch_up, until).await?,
                // What lay behind its last frame did not concern it, and it may be long until more is said.
                None => {
                    catch_up.seat.take().into_iter().for_each(|seat| self.sit(seat));
                    self.rejoining = false;
                    self.progress(until).await?;
                }
            }
        } else if catch_up.waits_apart() {
            self.progress_apart(catch_up.at()).await?;
            self.go_on(catch_up);
        } else if self.is_behind() && !catch_up.is_of_all() {
            self.wait_for_the_others(catch_up);
        } else {
            self.hand_over(catch_up);
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
    async fn join_the_others(&mut self, mut catch_up: Box<CatchUp<H>>, until: Position) -> Result<(), End> {
        let (Some(subscription), Some(seat)) = (catch_up.alone.clone(), catch_up.seat.take()) else {
            debug_assert!(false, "what the router took over is alone and has a seat");
            return Ok(());
        };
        let (mut items, mut later) = (Vec::new(), Vec::new());
        let outbox = Arc::clone(&seat.outbox);
        self.sit(seat);
        if let Some(taken) = outbox.try_take(&mut items) {
            later = split_off_later(&mut items, until, &subscription);
            self.taken(taken, &mut items).await?;
        }
        if self.seat.is_none() {
            // They fell behind. What the router had of this one was not sent either.
            catch_up.until = None;
            self.go_on(catch_up);
            return Ok(());
        }
        self.go_live(subscription, until).await?;
        match later.is_empty() {
            true => Ok(()),
            false => self.taken(Taken::Items, &mut later).await,
        }
    }

    /// A subscription that has come to the head while its connection is behind, without a seat to take, waits there.
    fn wait_for_the_others(&mut self, catch_up: Box<CatchUp<H>>) {
        let whole = self.jobs.iter_mut().find_map(|job| match job {
            Job::CatchUp(whole) if whole.is_of_all() => Some(whole),
            _ => None,
        });
        let waits = match whole {
            Some(whole) => whole.awaits(catch_up),
            None => Err(catch_up),
        };
        if let Err(catch_up) = waits {
            self.jobs.push_back(Job::CatchUp(catch_up));
        }
    }

    /// Those that waited for the whole connection to come to where they are move with it from here on.
    async fn take_in(&mut self, whole: &mut CatchUp<H>) -> Result<(), End> {
        for waited in whole.met() {
            match &waited.alone {
                Some(_) if self.is_abandoned(&waited) => {}
                Some(subscription) if waited.at() == whole.at() => {
                    whole.take_in(Arc::clone(subscription));
                    self.go_live(Arc::clone(subscription), waited.at()).await?;
                }
                _ => self.jobs.push_back(Job::CatchUp(waited)),
            }
        }
        Ok(())
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

    /// True if the subscription that catches up has ended meanwhile.
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

    /// A subscription on its own lets others have their turn; what holds up the whole connection does not.
    fn go_on(&mut self, catch_up: Box<CatchUp<H>>) {
        if catch_up.alone.is_some() && catch_up.until.is_none() {
            self.jobs.push_back(Job::CatchUp(catch_up));
        } else {
            self.jobs.push_front(Job::CatchUp(catch_up));
        }
    }

    /// At the head: the router takes over. What it had delivered by then is read from the journal before.
    pub(super) fn hand_over(&mut self, mut catch_up: Box<CatchUp<H>>) {
        let shared = Arc::clone(&self.shared);
        // Nothing is live that could be behind, or it is what is handed over.
        self.behind = false;
        let seat = self.seat.take();
        // At the head none waits for it any more; should one, it goes on by itself.
        self.jobs.extend(catch_up.leave_behind().map(Job::CatchUp));
        let at = catch_up.at();
        for placed in &mut catch_up.subscriptions {
            placed.after = placed.after.max(at);
        }
        self.work = Some(Box::pin(async move {
            let taken_over = match (&catch_up.alone, seat) {
                (Some(subscription), Some(seat)) => {
                    let subscription = Arc::clone(subscription);
                    let added = shared.router.add(&seat, &subscription, at).await;
                    added.map(|position| (seat, position))
                }
                _ => {
                    let (bytes, subscriptions) =
                        (shared.options.outbox_bytes, catch_up.subscriptions.clone());
                    shared.router.join(bytes, subscriptions, at).await
                }
            };
            match taken_over {
                Ok((seat, position)) => Done::Added(catch_up, seat, position),
                Err(stopped) => stopped.into(),
            }
        }));
    }

    pub(super) async fn added(
        &mut self,
        mut catch_up: Box<CatchUp<H>>,
        seat: Seat,
        position: Position,
    ) -> Result<(), End> {
        let at = catch_up.at();
        catch_up.until = Some(position.max(at));
        self.wire.patience.outbox = Arc::downgrade(&seat.outbox);
        catch_up.seat = Some(seat);
        if position > at {
            self.jobs.push_front(Job::CatchUp(catch_up));
            return Ok(());
        }
        let step = catch_up.nothing_more(&self.shared);
        self.stepped(catch_up, step).await
    }

    /// The journal cannot be read from where it was to be.
    pub(super) async fn unreadable(
        &mut self,
        mut catch_up: CatchUp<H>,
        error: journal::Error,
    ) -> Result<(), End> {
        // The router has what cannot be read for, and may have delivered of it.
        self.abandon(&mut catch_up);
        // The reader goes here: it must not live across what is waited for.
        let CatchUp { alone, .. } = catch_up;
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
fn split_off_later(items: &mut Vec<Item>, place: Position, subscription: &Arc<Subscription>) -> Vec<Item> {
    let is_later = |item: &Item| match item {
        Item::Frame(frame) => frame.position > place,
        Item::Ended {
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
    use crate::fanout::tests::subscription;
    use crate::lsn::Lsn;
    use crate::protocol::Frame;

    #[test]
    fn the_end_of_what_goes_live_comes_after_that() {
        let [other, this] = ["other", "this"].map(|id| subscription(id, None));
        let ended = |subscription: &Arc<Subscription>| Item::Ended {
            subscription: Arc::clone(subscription),
            error: Box::new(ErrorMessage::new(ErrorCode::SchemaChanged, "gone")),
        };
        let frame = |lsn: u64| {
            Item::Frame(Frame {
                position: Position::after(Lsn(lsn)),
                committed_at: Timestamp::now(),
                text: "".into(),
            })
        };
        let split = |mut items: Vec<Item>| {
            let later = split_off_later(&mut items, Position::after(Lsn(10)), &this);
            (items.len(), later.len())
        };
        assert_eq!(split(vec![frame(9), ended(&other), frame(10)]), (3, 0));
        assert_eq!(split(vec![frame(10), frame(11), ended(&this)]), (1, 2));
        assert_eq!(split(vec![frame(10), ended(&this), ended(&other)]), (1, 2));
    }
}

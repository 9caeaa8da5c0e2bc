//! The end of a replay: at the head the router takes over. The router says from which place on, and the replay ends
//! exactly there.

use std::sync::Arc;
use std::time::Instant;

use super::jobs::Job;
use super::replay::{Replay, Step, ended_is};
use super::{Action, Cursor, Delivered, Pending, Reading, Registered, Then, Work};
use crate::delivery::{ActiveSubscription, Delivery};
use crate::lsn::{Lsn, Position};
use crate::matching::Subscription;
use crate::protocol::CloseCode;

impl Cursor {
    /// Continues with the outcome of a step.
    pub(super) fn has_read(&mut self, reading: Reading, routed: Lsn, now: Instant) {
        let Some(Work::Read(mut replay)) = self.work.take() else {
            debug_assert!(false, "nothing was being read");
            return;
        };
        let discards = std::mem::take(&mut self.discards);
        if self.is_abandoned(&replay) {
            self.abandon(replay);
            return;
        }
        if discards && replay.is_of_all() && replay.until.take().is_some() {
            self.leave();
        }
        let step = match reading {
            Reading::Found { .. } if discards => {
                self.actions.push_back(Action::LetGo(replay.id));
                Step::default()
            }
            Reading::Found {
                found,
                gone,
                standing,
            } => {
                replay.standing = standing;
                replay.took(found, gone)
            }
            Reading::NotYet => {
                replay.waits_since.get_or_insert(now);
                Step {
                    items: Vec::new(),
                    done: true,
                }
            }
            Reading::Exhausted => {
                self.actions.push_back(Action::LetGo(replay.id));
                Step::default()
            }
            Reading::Expired(error) => return self.unreadable(replay, error, CloseCode::TooSlow),
            Reading::Failed(error) => {
                let spread = std::time::Duration::ZERO;
                return self.unreadable(replay, error, CloseCode::GoingAway { spread });
            }
        };
        self.send_step(replay, step, routed);
    }

    fn send_step(&mut self, replay: Box<Replay>, step: Step, routed: Lsn) {
        match replay.alone {
            Some(_) => self.actions.push_back(Action::Deliver(step.items)),
            None => self.deliver_to_all(step.items),
        }
        self.pending = Pending::Step(replay, step.done, routed);
    }

    /// Continues after a step was sent, or as much of it as the client took.
    pub(super) fn sent_step(
        &mut self,
        mut replay: Box<Replay>,
        mut done: bool,
        delivered: &Delivered,
        routed: Lsn,
        now: Instant,
    ) {
        if replay.is_of_all() {
            self.at = delivered.position.unwrap_or(self.at);
        }
        self.leave_out_ended(&mut replay, &delivered.ended);
        if delivered.is_cut {
            replay.rewind(delivered.position);
            done = false;
        }
        if delivered.stalled {
            self.actions.push_back(Action::LetGo(replay.id));
            self.actions.push_back(Action::Flush);
        }
        if replay.is_of_all() {
            self.give_up(&mut replay);
            self.take_in(&mut replay);
        }
        if self.is_abandoned(&replay) {
            self.abandon(replay);
        } else if !done || replay.is_early(routed) {
            self.go_on(replay);
        } else if let Some(until) = replay.until {
            self.registered = Registered::Here;
            if replay.alone.is_some() {
                // It goes live once the others have come to this place too.
                self.take(Then::Join(replay, until));
            } else {
                self.end_replay(&replay);
                self.rejoining = false;
                // Nothing after its last frame concerned it, and the next frame may take long to come.
                self.progress(until);
            }
        } else if replay.waits_apart(now) {
            self.progress_apart(replay.at(), now);
            self.go_on(replay);
        } else if self.is_behind() && !replay.is_of_all() {
            self.wait_for_the_others(replay);
        } else {
            self.hand_over(replay);
        }
    }

    /// Sends progress to a connection that is served apart, now and then, and when the client asked for it.
    fn progress_apart(&mut self, at: Position, now: Instant) {
        let is_recent = |last| now.duration_since(last) < self.progress_interval;
        if self.is_awaited(at) || self.progressed.is_none_or(|last| !is_recent(last)) {
            self.progressed = Some(now);
            self.progress(at);
        }
    }

    /// Lets a subscription go live, since the others have come to where the router took it over.
    pub(super) fn joined(&mut self, mut replay: Box<Replay>, until: Position, later: Vec<Delivery>) {
        let Some(subscription) = replay.alone.clone().filter(|_| self.is_registered()) else {
            // They fell behind, and with them what the outbox had of this one.
            replay.until = None;
            self.go_on(replay);
            return;
        };
        self.end_replay(&replay);
        self.go_live(subscription, until);
        if !later.is_empty() {
            self.pending = Pending::Outbox(Then::Nothing);
            self.deliver_to_all(later);
        }
    }

    /// Adds a subscription to the live ones.
    fn go_live(&mut self, subscription: Arc<Subscription>, position: Position) {
        self.has_joined(&subscription.id);
        self.actions
            .push_back(Action::Live(Arc::clone(&subscription), position));
        // Without live subscriptions the old place means nothing.
        self.at = if self.live.is_empty() {
            position
        } else {
            self.at.max(position)
        };
        self.live.push(ActiveSubscription {
            subscription,
            after: position,
        });
    }

    /// Lets a subscription wait at the head while its connection is behind and has no registration.
    fn wait_for_the_others(&mut self, replay: Box<Replay>) {
        let whole = self.jobs.iter_mut().find_map(|job| match job {
            Job::Replay(whole) if whole.is_of_all() => Some(whole),
            _ => None,
        });
        let id = replay.id;
        let waits = match whole {
            Some(whole) => whole.awaits(replay),
            None => Err(replay),
        };
        match waits {
            Ok(()) => self.actions.push_back(Action::LetGo(id)),
            Err(replay) => self.jobs.push_back(Job::Replay(replay)),
        }
    }

    /// Lets the replays go live that waited for the whole connection to reach them.
    fn take_in(&mut self, whole: &mut Replay) {
        for waited in whole.met() {
            match &waited.alone {
                Some(_) if self.is_abandoned(&waited) => self.end_replay(&waited),
                Some(subscription) if waited.at() == whole.at() => {
                    whole.take_in(Arc::clone(subscription));
                    self.actions.push_back(Action::LetGo(whole.id));
                    self.end_replay(&waited);
                    self.go_live(Arc::clone(subscription), waited.at());
                }
                _ => self.jobs.push_back(Job::Replay(Box::new(waited))),
            }
        }
    }

    /// Leaves out of a replay of the whole connection what the client has unsubscribed, perhaps because it cannot keep
    /// up. Once the router has the subscriptions too, they are removed there instead.
    pub(super) fn give_up(&mut self, replay: &mut Replay) {
        if replay.until.is_some() {
            return;
        }
        for job in std::mem::take(&mut self.jobs) {
            match job {
                Job::Unsubscribe(subscription) => {
                    self.leave_out(replay, &subscription);
                    self.actions
                        .push_back(Action::Unsubscribed(Arc::clone(&subscription.id)));
                }
                job => self.jobs.push_back(job),
            }
        }
    }

    fn leave_out(&mut self, replay: &mut Replay, subscription: &Arc<Subscription>) {
        replay.leave_out(subscription);
        self.actions
            .push_back(Action::LeaveOut(replay.id, Arc::clone(subscription)));
    }

    /// Leaves out subscriptions that have ended by an older version of their table: they must not come back by a newer
    /// one. If the router has them already, the registration is given up, and the replay goes on to the next head.
    fn leave_out_ended(&mut self, replay: &mut Replay, ended: &[Arc<Subscription>]) {
        for subscription in ended {
            self.leave_out(replay, subscription);
            if replay.is_of_all() && replay.until.take().is_some() {
                self.leave();
            }
        }
    }

    /// True if the subscription of this replay has ended in the meantime.
    pub(super) fn is_abandoned(&self, replay: &Replay) -> bool {
        replay
            .alone
            .as_ref()
            .is_some_and(|subscription| !self.awaits(&subscription.id))
    }

    /// Drops a replay that is not needed any more. The client must not see what the router may have delivered for it by
    /// now, so the connection gives up its registration and rejoins with the others.
    fn abandon(&mut self, replay: Box<Replay>) {
        self.end_replay(&replay);
        if replay.until.is_some() {
            self.leave();
            self.behind = true;
        }
    }

    /// Gives up the registration.
    pub(super) fn leave(&mut self) {
        self.registered = Registered::No;
        self.actions.push_back(Action::Leave);
    }

    /// A subscription on its own lets other jobs have their turn; what holds up the whole connection does not.
    fn go_on(&mut self, replay: Box<Replay>) {
        if replay.alone.is_some() && replay.until.is_none() {
            self.jobs.push_back(Job::Replay(replay));
        } else {
            self.jobs.push_front(Job::Replay(replay));
        }
    }

    /// At the head, asks the router to take over. Up to the place from which it serves, the journal is read.
    pub(super) fn hand_over(&mut self, mut replay: Box<Replay>) {
        // Either nothing is live that could be behind, or that is what is handed over.
        self.behind = false;
        // At the head no other replay waits for this one any more. Should one, it goes on by itself.
        let coming = replay.coming.drain(..).map(Box::new);
        self.jobs.extend(coming.map(Job::Replay));
        let at = replay.at();
        for placed in Arc::make_mut(&mut replay.subscriptions) {
            placed.after = placed.after.max(at);
        }
        let action = match &replay.alone {
            Some(subscription) if self.is_registered() => Action::Add(Arc::clone(subscription), at),
            _ => {
                debug_assert!(self.registered == Registered::No, "a connection registers once");
                Action::Join(replay.subscriptions.to_vec(), at)
            }
        };
        self.registered = Registered::Lent;
        self.actions.push_back(action);
        self.work = Some(Work::HandOver(replay));
    }

    /// Continues once the router serves the subscriptions of a replay from `position` on.
    pub(super) fn handed_over(&mut self, position: Position, gone: Vec<Delivery>) {
        let Some(Work::HandOver(mut replay)) = self.work.take() else {
            debug_assert!(false, "nothing was being handed over");
            return;
        };
        let at = replay.at();
        if std::mem::take(&mut self.discards) && replay.is_of_all() {
            // The outbox may hold what must not be sent.
            self.leave();
            self.send_step(replay, Step::default(), at.end);
            return;
        }
        replay.until = Some(position.max(at));
        if position > at {
            self.jobs.push_front(Job::Replay(replay));
            return;
        }
        if self.is_abandoned(&replay) {
            self.abandon(replay);
            return;
        }
        let step = replay.nothing_more(gone);
        // The replay has begun, so the place of the router does not matter.
        self.send_step(replay, step, at.end);
    }

    /// Ends what cannot be read for: a subscription on its own, or else the connection, by `code`.
    fn unreadable(
        &mut self,
        replay: Box<Replay>,
        error: Box<crate::protocol::ErrorMessage>,
        code: CloseCode,
    ) {
        let alone = replay.alone.clone();
        // The router may have delivered what comes after the gap.
        self.abandon(replay);
        match (alone, code) {
            (Some(subscription), _) => {
                let id = Arc::clone(&subscription.id);
                self.refuse(id, Box::new(error.about(&*subscription.id)));
            }
            (None, CloseCode::TooSlow) => self.actions.push_back(Action::Close(None, code)),
            (None, code) => self.actions.push_back(Action::Close(Some(error), code)),
        }
    }
}

/// Splits off the items of an outbox that come after a place, at which a subscription goes live: they are sent once the
/// client was told so.
pub(super) fn split_off_later(items: &mut Vec<Delivery>, place: Position, replay: &Replay) -> Vec<Delivery> {
    let is_later = |item: &Delivery| match item {
        Delivery::Frame(frame) => frame.position > place,
        ended @ Delivery::Ended { .. } => replay.alone.iter().any(|this| ended_is(ended, this)),
    };
    let first = items.iter().position(is_later).unwrap_or(items.len());
    items.split_off(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use crate::matching::tests::subscription;
    use crate::protocol::{ErrorCode, ErrorMessage, Frame};

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
        let place = Position::after(Lsn(10));
        let mut cursor = Cursor::new(std::time::Duration::ZERO);
        let replay = cursor.begin_replay(Vec::new(), Some(Arc::clone(&this)), place, None);
        let split = |mut items: Vec<Delivery>| {
            let later = split_off_later(&mut items, place, &replay);
            (items.len(), later.len())
        };
        assert_eq!(split(vec![frame(9), ended(&other), frame(10)]), (3, 0));
        assert_eq!(split(vec![frame(10), frame(11), ended(&this)]), (1, 2));
        assert_eq!(split(vec![frame(10), ended(&this), ended(&other)]), (1, 2));
    }
}

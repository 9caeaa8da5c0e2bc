//! The jobs of a connection, which are done one at a time, and the choice of the next one.

use std::sync::Arc;
use std::time::Instant;

use super::replay::Replay;
use super::{Action, Cursor, Registered, Work};
use crate::matching::Subscription;
use crate::protocol::Subscribe;

/// Something to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// Check a subscription.
    Subscribe(Arc<str>, Box<Subscribe>),
    /// Send the rows that the subscription of this id begins with.
    Rows(Arc<str>),
    /// Read the next step of a replay.
    Replay(Box<Replay>),
    /// Start a replay for the whole connection, which fell behind, and join the router again after it.
    Rejoin,
    /// Remove a subscription, and tell the client.
    Unsubscribe(Arc<Subscription>),
    /// Tell the client that a subscription is over that is not registered.
    Over(Arc<str>),
}

impl Job {
    /// True for jobs that a message of the client asks for, so that the client decides how many there are.
    fn is_asked_for(&self) -> bool {
        matches!(self, Job::Subscribe(..) | Job::Unsubscribe(_) | Job::Over(_))
    }
}

/// The turns of other jobs while a connection replays in order to rejoin: they get a quarter of the time.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The time at which the current one began.
    began: Option<Instant>,
    /// The time from which the next one may begin.
    next: Option<Instant>,
}

impl Turns {
    /// Ends the current turn, and returns true if the next one may begin.
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

impl Cursor {
    /// The number of the client's requests that wait for their turn.
    pub(in crate::session) fn waiting_requests(&self) -> usize {
        self.jobs.iter().filter(|job| job.is_asked_for()).count()
    }

    /// Begins the next job, if nothing is being done. To be called once all actions that followed an input were
    /// performed.
    pub(in crate::session) fn start(&mut self, now: Instant) {
        debug_assert!(
            matches!(self.pending, super::Pending::Nothing),
            "an answer is awaited"
        );
        while self.work.is_none() {
            let Some(job) = self.next_job(now) else { break };
            self.begin(job, now);
        }
    }

    /// The next job. A connection that is behind rejoins first, since jobs that need the registration wait for that.
    /// Under constant load it may stay behind for ever, so jobs that need no registration have turns in between.
    fn next_job(&mut self, now: Instant) -> Option<Job> {
        if !self.is_behind() {
            self.behind = false;
            self.turns = Turns::default();
            return self.jobs.pop_front();
        }
        if self.turns.are_others(now)
            && let Some(other) = self.needs_no_registration()
        {
            self.turns.begin(now);
            return self.jobs.remove(other);
        }
        if self.rejoining {
            let is_whole = |job: &Job| matches!(job, Job::Replay(replay) if replay.is_of_all());
            let whole = self.jobs.iter().position(is_whole);
            return whole.and_then(|whole| self.jobs.remove(whole));
        }
        self.behind = false;
        self.rejoining = true;
        Some(Job::Rejoin)
    }

    /// True if live subscriptions wait for the connection to rejoin.
    pub(super) fn is_behind(&self) -> bool {
        self.rejoining || self.behind && !self.live.is_empty()
    }

    /// The first job that can be done without a registration. Requests of the client keep their order.
    fn needs_no_registration(&self) -> Option<usize> {
        let asked = self.jobs.iter().position(Job::is_asked_for);
        let mut jobs = self.jobs.iter().enumerate();
        let found = jobs.find(|(at, job)| match job {
            Job::Subscribe(..) | Job::Over(_) => asked == Some(*at),
            Job::Rows(_) => true,
            Job::Replay(replay) => !replay.is_of_all(),
            _ => false,
        });
        found.map(|(at, _)| at)
    }

    fn begin(&mut self, job: Job, now: Instant) {
        match job {
            // It was unsubscribed before its turn came.
            Job::Subscribe(id, _) if !self.awaits(&id) => {}
            Job::Subscribe(id, subscribe) => {
                self.work = Some(Work::Prepare);
                self.actions.push_back(Action::Prepare(id, subscribe));
            }
            Job::Rows(id) => {
                self.work = Some(Work::Rows);
                // A request of the client waits for all the jobs before it, each of which may wait for rows.
                let is_asked_for = self.jobs.iter().any(Job::is_asked_for);
                let others = (!is_asked_for).then_some(self.jobs.len());
                self.actions.push_back(Action::ReadRows { id, others });
            }
            Job::Replay(mut replay) => {
                if replay.is_of_all() {
                    self.give_up(&mut replay);
                }
                self.read(replay, now);
            }
            Job::Rejoin => {
                let replay = self.begin_replay(self.live.clone(), None, self.at, None);
                self.read(replay, now);
            }
            Job::Unsubscribe(subscription) if self.registered == Registered::Here => {
                self.registered = Registered::Lent;
                self.actions.push_back(Action::Remove(Arc::clone(&subscription)));
                self.work = Some(Work::Remove(subscription));
            }
            // Without a registration nothing more of it can come.
            Job::Unsubscribe(subscription) => self
                .actions
                .push_back(Action::Unsubscribed(Arc::clone(&subscription.id))),
            Job::Over(id) => self.actions.push_back(Action::Unsubscribed(id)),
        }
    }

    fn read(&mut self, replay: Box<Replay>, now: Instant) {
        self.actions
            .push_back(Action::Read(Box::new(replay.request(now))));
        self.work = Some(Work::Read(replay));
    }
}

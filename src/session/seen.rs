//! [`Sessions`]: the open connections, as operators see them. A session notes what it does in a record of its own, which
//! costs it a few stores to memory that nobody else writes.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use slab::Slab;

use crate::auth::Subject;
use crate::lsn::Lsn;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Its client has not sent its token yet, or has no subscription.
    Opening,
    /// Changes are sent as they come.
    Live,
    /// It, or one of its subscriptions, replays the journal.
    CatchingUp,
    /// Its client reads nothing.
    Stalled,
}

impl SessionState {
    /// Its name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            SessionState::Opening => "opening",
            SessionState::Live => "live",
            SessionState::CatchingUp => "catching_up",
            SessionState::Stalled => "stalled",
        }
    }
}

/// The record of an open connection.
#[derive(Debug)]
pub struct Seen {
    /// The number of the connection since the listener was started. Those of operators begin at 10^12, so that they are
    /// no clients' numbers.
    pub connection: u64,
    /// The client's address.
    pub client: IpAddr,
    /// The web page that it is of, as its browser named it.
    pub origin: Option<Box<str>>,
    /// True if it is an operator's.
    pub is_operator: bool,
    /// The time at which it was opened.
    pub opened: SystemTime,
    subject: Mutex<Option<Arc<Subject>>>,
    sent_bytes: AtomicU64,
    /// Zero if there is none.
    position: AtomicU64,
    subscriptions: AtomicU32,
    is_catching_up: AtomicU8,
    is_stalled: AtomicU8,
}

impl Seen {
    pub(super) fn new(
        connection: u64,
        client: IpAddr,
        origin: Option<Box<str>>,
        is_operator: bool,
        subject: Option<Arc<Subject>>,
    ) -> Seen {
        Seen {
            connection,
            client,
            origin,
            is_operator,
            opened: SystemTime::now(),
            subject: Mutex::new(subject),
            sent_bytes: AtomicU64::new(0),
            position: AtomicU64::new(0),
            subscriptions: AtomicU32::new(0),
            is_catching_up: AtomicU8::new(0),
            is_stalled: AtomicU8::new(0),
        }
    }

    /// The token's subject, if there is one.
    pub fn subject(&self) -> Option<Arc<Subject>> {
        self.subject.lock().clone()
    }

    /// The bytes of messages that were sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// The live subscriptions.
    pub fn subscriptions(&self) -> u32 {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// The position of the subscription that is furthest behind, be it live or in a replay: up to there, everything of
    /// all of them was sent, or at least read for them. `None` without subscriptions.
    pub fn position(&self) -> Option<Lsn> {
        Some(Lsn(self.position.load(Ordering::Relaxed))).filter(|&position| position > Lsn::ZERO)
    }

    /// The state.
    pub fn state(&self) -> SessionState {
        if self.is_stalled.load(Ordering::Relaxed) > 0 {
            SessionState::Stalled
        } else if self.is_catching_up.load(Ordering::Relaxed) > 0 {
            SessionState::CatchingUp
        } else if self.subscriptions() > 0 {
            SessionState::Live
        } else {
            SessionState::Opening
        }
    }

    pub(super) fn is_of(&self, subject: Option<Arc<Subject>>) {
        *self.subject.lock() = subject;
    }

    /// Notes bytes that were sent. Only the session itself writes here, so this need not be one step.
    pub(super) fn sent(&self, bytes: u64) {
        let before = self.sent_bytes.load(Ordering::Relaxed);
        self.sent_bytes.store(before + bytes, Ordering::Relaxed);
    }

    /// Notes the position of the subscription that is furthest behind, and how many are live or replay the journal.
    pub(super) fn has_come_to(&self, position: Option<Lsn>, subscriptions: usize, replays: usize) {
        let position = position.unwrap_or(Lsn::ZERO);
        self.position.store(position.0, Ordering::Relaxed);
        let subscriptions = u32::try_from(subscriptions).unwrap_or(u32::MAX);
        self.subscriptions.store(subscriptions, Ordering::Relaxed);
        self.is_catching_up
            .store(u8::from(replays > 0), Ordering::Relaxed);
    }

    pub(super) fn stalls(&self, stalls: bool) {
        self.is_stalled.store(u8::from(stalls), Ordering::Relaxed);
    }
}

/// The open connections of a source.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Slab<Arc<Seen>>>);

/// A connection's place among the open ones, until it is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    sessions: Arc<Sessions>,
    place: usize,
    pub(super) seen: Arc<Seen>,
}

impl Sessions {
    /// All of them.
    pub fn all(&self) -> Vec<Arc<Seen>> {
        let sessions = self.0.lock();
        sessions.iter().map(|(_, seen)| Arc::clone(seen)).collect()
    }

    pub(super) fn enter(self: &Arc<Self>, seen: Seen) -> Entered {
        let seen = Arc::new(seen);
        let place = self.0.lock().insert(Arc::clone(&seen));
        Entered {
            sessions: Arc::clone(self),
            place,
            seen,
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.sessions.0.lock().try_remove(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_connection_is_among_the_open_ones_until_it_ends() {
        let sessions = Arc::<Sessions>::default();
        let seen = |connection| Seen::new(connection, Ipv4Addr::LOCALHOST.into(), None, false, None);
        let first = sessions.enter(seen(1));
        let second = sessions.enter(seen(2));
        assert_eq!(sessions.all().len(), 2);
        drop(first);
        let left = sessions.all();
        assert_eq!((left.len(), left[0].connection), (1, 2));
        assert_eq!(second.seen.state(), SessionState::Opening);
        second.seen.has_come_to(Some(Lsn(7)), 3, 0);
        second.seen.sent(10);
        second.seen.sent(5);
        assert_eq!(second.seen.state(), SessionState::Live);
        assert_eq!(
            (second.seen.sent_bytes(), second.seen.position()),
            (15, Some(Lsn(7)))
        );
        second.seen.has_come_to(Some(Lsn(8)), 3, 1);
        assert_eq!(second.seen.state(), SessionState::CatchingUp);
        second.seen.has_come_to(None, 0, 0);
        assert_eq!(second.seen.position(), None);
        second.seen.stalls(true);
        assert_eq!(second.seen.state(), SessionState::Stalled);
    }
}

//! [`PositionVerifier`]: asks the server how far it has written, before a position that it mentioned in passing is
//! confirmed.
//!
//! A position that was garbled on its way would be believed by everybody: the server does not check confirmations, and
//! sends nothing more until it has written that far, which may be never. So a position that came is a claim, and counts
//! once an answer to a question of our own, asked after it came, has gone as far. One that the answer disproves ends
//! the connection. A transaction's end is in its message and around it, and has to be the same in both; it is journaled
//! at once, and confirmed after the answer.
//!
//! A server that shuts down answers no questions, and waits until all that it sent is confirmed. There a position
//! counts that was said twice, one after the other, and is not far from the last answer.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::Error;
use super::progress::Progress;
use crate::lsn::Lsn;
use crate::postgres::{self, ConnInfo, Connection, Purpose};

/// The position up to which the server is known to have written.
#[derive(Debug, Default)]
pub(super) struct PositionVerifier {
    /// By its answers, or by a position that it repeated while it shut down.
    shown: AtomicU64,
    /// The last keepalive's position, and the last one that came twice.
    said: AtomicU64,
    said_twice: AtomicU64,
    /// The position up to which everything came as a whole.
    held: AtomicU64,
    /// A claimed position that was disproved, with the one up to which the server had really written; 0 if there is
    /// none.
    disproved: AtomicU64,
    written: AtomicU64,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

/// The largest commit record (`XLogRecordMaxSize`), with the headers of its pages.
const MAX_COMMIT_RECORD: u64 = (1 << 30) + (1 << 24);
/// The most WAL that a server is expected to write between our last question and its shutdown.
const MAX_LAST_WORDS: u64 = 16 << 30;
/// The shortest interval at which it is asked, while nobody waits for the answer.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// The pause while there is nothing to ask.
const IDLE: Duration = Duration::from_millis(100);
/// The time to wait after a question that was not answered.
const PAUSE: Duration = Duration::from_millis(100);
/// The time that an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that a stop waits for the last answer.
const LAST_ANSWER: Duration = Duration::from_secs(1);

impl PositionVerifier {
    /// A verifier that knows the server to have written up to `written`.
    pub(super) fn new(written: Lsn) -> PositionVerifier {
        PositionVerifier {
            shown: AtomicU64::new(written.0),
            ..PositionVerifier::default()
        }
    }

    /// The position up to which the server is known to have written.
    pub(super) fn shown(&self) -> Lsn {
        Lsn(self.shown.load(Ordering::Acquire))
    }

    /// Notes the position of a keepalive.
    pub(super) fn said(&self, lsn: Lsn) {
        if self.said.swap(lsn.0, Ordering::AcqRel) == lsn.0 {
            self.said_twice.store(lsn.0, Ordering::Release);
        }
    }

    /// Notes that everything up to a position came as a whole, so that it was not only mentioned.
    pub(super) fn holds(&self, lsn: Lsn) {
        self.held.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// Has the server asked, if a newer position came than is known.
    pub(super) fn wake(&self, progress: &Progress) {
        if progress.newest() > self.shown()
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// # Errors
    /// The server has not written as far as it said.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.disproved.load(Ordering::Acquire) {
            0 => Ok(()),
            claimed => Err(Error::Unwritten {
                claimed: Lsn(claimed),
                written: Lsn(self.written.load(Ordering::Acquire)),
            }),
        }
    }

    /// Waits, for a moment at most, until the server is known to have written as far as `lsn`.
    pub(super) fn until_shown(&self, lsn: Lsn) {
        let deadline = Instant::now() + LAST_ANSWER;
        while self.shown() < lsn && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops asking.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Asks whenever a newer position came than is known, until stopped. Answers wake `confirmer`.
    pub(super) fn run(&self, conninfo: &ConnInfo, progress: &Progress, confirmer: &Thread, at_once: bool) {
        self.thread.get_or_init(thread::current);
        let mut session = None;
        let mut asked: Option<Instant> = None;
        while !self.stopped.load(Ordering::Acquire) {
            let claimed = progress.newest();
            let since = asked.map_or(MIN_INTERVAL, |at| at.elapsed());
            if claimed <= self.shown() {
                thread::park_timeout(IDLE);
                continue;
            }
            if !at_once && since < MIN_INTERVAL {
                thread::sleep(MIN_INTERVAL - since);
            }
            asked = Some(Instant::now());
            // Read before the question, so that the answer cannot be older.
            let claimed = progress.newest();
            match ask(&mut session, conninfo) {
                Ok(written) => {
                    self.shown.fetch_max(written.0, Ordering::AcqRel);
                    if written < claimed {
                        self.written.store(written.0, Ordering::Release);
                        self.disproved.store(claimed.0, Ordering::Release);
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the server does not say how far it has written");
                    session = None;
                    if error.cannot_connect_now() {
                        self.believe_last_words();
                    }
                    thread::park_timeout(PAUSE);
                }
            }
            confirmer.unpark();
        }
    }

    /// Believes the last position of a server that is shutting down and answers no more questions.
    fn believe_last_words(&self) {
        let shown = self.shown();
        let twice = self.said_twice.load(Ordering::Acquire);
        let held = self.held.load(Ordering::Acquire);
        let last = [twice, held]
            .into_iter()
            .filter(|lsn| Lsn(*lsn).bytes_since(shown) <= MAX_LAST_WORDS)
            .max();
        self.shown.fetch_max(last.unwrap_or(0), Ordering::AcqRel);
    }
}

/// Checks the start and the end of a transaction's commit record, or of a message outside transactions, against the
/// position in its frame.
///
/// # Errors
/// It cannot end there.
pub(super) fn check_end(start: Lsn, end: Lsn, wal_end: Lsn) -> Result<(), Error> {
    if end > wal_end || end.bytes_since(start) > MAX_COMMIT_RECORD {
        return Err(Error::End { start, end, wal_end });
    }
    Ok(())
}

fn ask(session: &mut Option<Connection>, conninfo: &ConnInfo) -> Result<Lsn, postgres::Error> {
    let connection = match session {
        Some(connection) => connection,
        none => {
            let mut connection = Connection::connect(conninfo, Purpose::Query)?;
            connection.set_read_timeout(Some(ANSWER_TIMEOUT));
            none.insert(connection)
        }
    };
    connection.written()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_ends_within_its_frame_and_soon_after_its_commit_record_begins() {
        let check = |start, end, wal_end| check_end(Lsn(start), Lsn(end), Lsn(wal_end)).is_ok();
        assert!(check(100, 150, 150) && check(100, 150, 151) && check(100, 100, 100));
        assert!(!check(100, 151, 150), "beyond its frame");
        assert!(!check(100, 150 | 1 << 40, 150), "a bit of its end");
        assert!(!check(100, 150 | 1 << 31, 150 | 1 << 31), "a bit of both");
    }

    #[test]
    fn last_words_count_if_they_are_said_twice_and_lie_near() {
        let verifier = PositionVerifier::new(Lsn(100));
        let words = |said: &[u64]| {
            said.iter().for_each(|lsn| verifier.said(Lsn(*lsn)));
            verifier.believe_last_words();
            verifier.shown().0
        };
        assert_eq!(words(&[200]), 100);
        assert_eq!(words(&[300, 200]), 100);
        assert_eq!(words(&[200]), 200);
        assert_eq!(words(&[1 << 40, 1 << 40]), 200);
        verifier.holds(Lsn(250));
        assert_eq!(words(&[]), 250);
    }
}

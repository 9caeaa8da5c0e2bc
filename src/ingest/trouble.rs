//! [`Trouble`]: what keeps the stream from going on, said once, and when it is over.
//!
//! A stream that has begun proves nothing: the server may fail at the very next change, again and again at the same one.

use std::time::{Duration, Instant};

use super::Error;
use crate::lsn::Lsn;
use crate::postgres::SlotName;
use crate::telemetry::chain;

/// What keeps the stream from going on, or kept it until a moment ago.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The last words, with their cure; empty while all is well.
    said: String,
    /// Whether the server itself ended the last stream: perhaps at a change that it can never pass.
    at_a_change: bool,
    /// What the connection at hand has to reach before it counts as good; `None` once it has.
    goal: Option<Goal>,
}

#[derive(Debug)]
struct Goal {
    began: Instant,
    /// Where the stream starts.
    head: Lsn,
    /// How far the server had written when it was asked: what failed before is not beyond that.
    written: Lsn,
}

/// A stream that has held for so long is taken for a good one, though nothing came.
const HELD: Duration = Duration::from_secs(10);
/// The same after the server itself has ended one.
const HELD_AFTER_AN_ERROR: Duration = Duration::from_secs(60);

impl Trouble {
    /// A stream begins at `head`; the server has written up to `written`.
    pub(super) fn begins(&mut self, head: Lsn, written: Lsn) {
        self.goal = Some(Goal {
            began: Instant::now(),
            head,
            written,
        });
    }

    /// Whether the stream, which has come to `received` and the journal to `head`, is over the trouble: said once.
    pub(super) fn is_over(&mut self, received: Lsn, head: Lsn) -> bool {
        let Some(goal) = &self.goal else { return false };
        let moved = head > goal.head && !self.at_a_change;
        let long = if self.at_a_change {
            HELD_AFTER_AN_ERROR
        } else {
            HELD
        };
        let over = moved || received >= goal.written || goal.began.elapsed() >= long;
        if over {
            *self = Trouble::default();
        }
        over
    }

    /// Notes why the stream could not begin or has ended. Returns the reason and its cure if they were not said yet.
    pub(super) fn because<'a>(
        &mut self,
        error: &Error,
        has_begun: bool,
        slot: &'a SlotName,
    ) -> Option<(String, Option<Cure<'a>>)> {
        self.goal = None;
        self.at_a_change |= has_begun && matches!(error, Error::Postgres(e) if e.sqlstate().is_some());
        let reason = chain(error);
        if reason == self.said {
            return None;
        }
        self.said.clone_from(&reason);
        Some((reason, Cure::of(error, slot)))
    }
}

/// What mends an error at a change that the server cannot pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cure<'a> {
    what: &'static str,
    slot: &'a SlotName,
}

impl<'a> Cure<'a> {
    fn of(error: &Error, slot: &'a SlotName) -> Option<Cure<'a>> {
        let Error::Postgres(error) = error else {
            return None;
        };
        let words = error.to_string();
        let what = match error.sqlstate()? {
            "42704" if words.contains("publication") => {
                "create the publication, or leave it out of --publication"
            }
            "0A000" if words.contains("column list") => {
                "give the table one column list in all publications, or name fewer by --publication"
            }
            _ => return None,
        };
        Some(Cure { what, slot })
    }
}

impl std::fmt::Display for Cure<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cure { what, slot } = self;
        // A change is decoded with the publications as they were when it was made.
        write!(
            f,
            "{what}; if the error stays, changes were made meanwhile that the slot cannot pass: \
             SELECT pg_drop_replication_slot('{slot}'); \
             SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput'); a new epoch begins by itself"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{self, ServerError};

    fn refusal(code: &str, message: &str) -> Error {
        let error = ServerError {
            severity: "ERROR".into(),
            code: code.into(),
            message: message.into(),
            ..ServerError::default()
        };
        Error::Postgres(postgres::Error::Server(Box::new(error)))
    }

    #[test]
    fn an_error_at_the_same_change_is_said_once_however_often_the_stream_begins() {
        let slot = SlotName::new("s").unwrap();
        let gone = || refusal("42704", "publication \"pub\" does not exist");
        let mut trouble = Trouble::default();
        let (reason, cure) = trouble.because(&gone(), true, &slot).unwrap();
        assert!(reason.contains("does not exist"), "{reason}");
        let cure = cure.unwrap().to_string();
        assert!(cure.contains("pg_drop_replication_slot('s')"), "{cure}");
        for _ in 0..3 {
            trouble.begins(Lsn(10), Lsn(20));
            // What lies before the change comes through each time, and notes a position.
            assert!(!trouble.is_over(Lsn(15), Lsn(15)));
            assert_eq!(trouble.because(&gone(), true, &slot), None);
        }
        trouble.begins(Lsn(10), Lsn(20));
        assert!(trouble.is_over(Lsn(20), Lsn(10)));
        assert!(!trouble.is_over(Lsn(21), Lsn(21)), "it is over once");
        assert!(trouble.because(&gone(), true, &slot).is_some());
    }

    #[test]
    fn a_stream_that_was_only_cut_is_good_once_the_journal_moves() {
        let slot = SlotName::new("s").unwrap();
        let mut trouble = Trouble::default();
        let (_, cure) = trouble.because(&Error::ServerShutdown, true, &slot).unwrap();
        assert_eq!(cure, None);
        trouble.begins(Lsn(10), Lsn(1000));
        assert!(!trouble.is_over(Lsn(10), Lsn(10)));
        assert!(trouble.is_over(Lsn(11), Lsn(11)));
    }
}

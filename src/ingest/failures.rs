//! [`FailureTracker`]: reports what keeps the stream from continuing once, and notices when it is over.
//!
//! A stream that has begun proves nothing: the server may fail at the very next change, again and again at the same
//! one.

use std::time::{Duration, Instant};

use super::Error;
use crate::lsn::Lsn;
use crate::postgres::SlotName;
use crate::telemetry::chain;

/// The failures that keep the stream from continuing, or did until a moment ago.
#[derive(Debug, Default)]
pub(super) struct FailureTracker {
    /// The last report with its cure; empty while all is well.
    said: String,
    /// True if the server itself ended the last stream, perhaps at a change that it can never get past.
    at_a_change: bool,
    /// The journal's head when the stream last ended.
    head: Lsn,
    times: u32,
    /// The position that the connection at hand has to reach before it counts as good; `None` once it has.
    goal: Option<Goal>,
}

#[derive(Debug)]
struct Goal {
    began: Instant,
    /// The start of the stream.
    head: Lsn,
    /// The position up to which the server had written when it was asked. The change that failed before lies at or
    /// before it.
    written: Lsn,
}

/// The number of failures at the same change after which the server is expected to fail each time.
const STUCK: u32 = 3;
/// The time after which a stream counts as working even though nothing came.
const HELD: Duration = Duration::from_secs(10);
/// The same after the server itself has ended one.
const HELD_AFTER_AN_ERROR: Duration = Duration::from_secs(60);

impl FailureTracker {
    /// Notes that a stream begins at `head`, and that the server has written up to `written`.
    pub(super) fn begins(&mut self, head: Lsn, written: Lsn) {
        self.goal = Some(Goal {
            began: Instant::now(),
            head,
            written,
        });
    }

    /// True, once, if the stream has recovered: it has received up to `received`, and the journal's head is `head`.
    pub(super) fn is_over(&mut self, received: Lsn, head: Lsn) -> bool {
        let Some(goal) = &self.goal else { return false };
        // After a start without failures, the server's first message is enough. It may have to read much that does not
        // concern us, such as other databases' changes, before it reaches what it had written; clients are served
        // exactly meanwhile.
        let answered = self.said.is_empty() && received > Lsn::ZERO;
        let moved = head > goal.head && !self.at_a_change;
        let long = if self.at_a_change {
            HELD_AFTER_AN_ERROR
        } else {
            HELD
        };
        let over = answered || moved || received >= goal.written || goal.began.elapsed() >= long;
        if over {
            *self = FailureTracker::default();
        }
        over
    }

    /// Notes the reason why the stream could not begin, or ended with the journal at `head`. Returns the reason and its
    /// cure if they were not reported yet.
    pub(super) fn because<'a>(
        &mut self,
        error: &Error,
        has_begun: bool,
        head: Lsn,
        slot: &'a SlotName,
    ) -> Option<(String, Option<Cure<'a>>)> {
        self.goal = None;
        self.at_a_change |= has_begun && error.is_of_the_server();
        let fails = has_begun && error.is_of_the_server() && !is_about_the_session(error);
        let reason = chain(error);
        if fails && reason == self.said && head == self.head {
            self.times += 1;
        } else {
            self.times = 1;
        }
        self.head = head;
        let cure = Cure::of(error, has_begun, slot);
        if reason != self.said {
            self.said.clone_from(&reason);
            return Some((reason, cure));
        }
        let stuck = self.times == STUCK && cure.is_none();
        stuck.then_some((reason, Some(Cure::unknown(slot))))
    }

    /// True if the server has failed so often at the same change that it may never get past it.
    pub(super) fn is_stuck(&self) -> bool {
        self.times >= STUCK
    }
}

/// True if the server ended the session, rather than failing at what it had to send.
fn is_about_the_session(error: &Error) -> bool {
    // Class 57 is "Operator Intervention", 53 "Insufficient Resources"; of 25 there are timeouts only.
    let classes = ["57", "53", "25"];
    matches!(error, Error::Postgres(e) if e.sqlstate().is_some_and(|code| classes.iter().any(|class| code.starts_with(class))))
}

/// The cure of a server's error. The one that loses nothing comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cure<'a> {
    what: &'static str,
    /// The slot, if it may be stuck at changes that nothing can mend.
    may_be_stuck: Option<&'a SlotName>,
}

impl<'a> Cure<'a> {
    /// Chosen by the SQLSTATE, or by the server's function where that is ambiguous: the message may be in any language.
    fn of(error: &Error, has_begun: bool, slot: &'a SlotName) -> Option<Cure<'a>> {
        const PUBLICATION: &str = "create the publication, or leave it out of --publication";
        let without_loss = |what| Cure {
            what,
            may_be_stuck: None,
        };
        let stuck = |what| Cure {
            what,
            may_be_stuck: Some(slot),
        };
        let error = match error {
            Error::Postgres(error) => error,
            Error::PassedOver(_) => return Some(stuck(PUBLICATION)),
            _ => return None,
        };
        if error.is_exhaustion() {
            return Some(without_loss(
                "clients and the journal's files have all file descriptors that the system lets walcast have: raise \
                 LimitNOFILE or fs.file-max, or lower --max-connections. It goes on as soon as some are closed",
            ));
        }
        Some(match error.sqlstate()? {
            // Before the stream has begun, it is the slot that is missing.
            "42704" if has_begun => stuck(PUBLICATION),
            "0A000" if has_begun => {
                stuck("give the table one column list in all publications, or name fewer by --publication")
            }
            "54000" | "XX000" if has_begun && is_too_large(error) => {
                stuck("a row is too large for the server to decode, which it will be each time")
            }
            "3D000" => without_loss(
                "the database is not there: clients are served what the journal has. If it is created again, --recreate-slot \
                 begins a new epoch with it",
            ),
            "42501" => without_loss("give the role its right back: ALTER ROLE … REPLICATION"),
            "25P03" | "25P04" | "57014" | "57P05" => without_loss(
                "something ends walcast's sessions: a job that looks for long ones (leave out those with a backend_type of \
                 walsender in pg_stat_activity), or a timeout that is set again and again (pg_db_role_setting)",
            ),
            "53100" => without_loss("the server's disk is full: free space there"),
            "53200" => without_loss("the server has not enough memory"),
            _ => return None,
        })
    }

    /// The cure of a recurring error of which nothing else is known.
    fn unknown(slot: &'a SlotName) -> Cure<'a> {
        Cure {
            what: "the server fails at the same change each time: its own log says more, and that is to be mended first",
            may_be_stuck: Some(slot),
        }
    }
}

/// True if the server could not build a message: it allocates a gigabyte at most.
fn is_too_large(error: &crate::postgres::Error) -> bool {
    let routine = error.routine().unwrap_or_default();
    let allocates = ["alloc", "MemoryContext", "StringInfo"];
    // Errors of the class "Internal Error" are not translated.
    allocates.iter().any(|name| routine.contains(name))
        || error.to_string().contains("invalid memory alloc request size")
}

impl std::fmt::Display for Cure<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Cure { what, may_be_stuck } = self;
        f.write_str(what)?;
        let Some(slot) = may_be_stuck else { return Ok(()) };
        // A change is decoded with the publications as they were when it was made.
        write!(
            f,
            ". The server keeps all changes meanwhile. If the error stays, there are some that the slot cannot pass, and the \
             last way out is to lose them: \
             SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn()), again if the slot is active at that \
             moment; a new epoch begins by itself, and clients resubscribe with new snapshots"
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
        let mut failures = FailureTracker::default();
        let (reason, cure) = failures.because(&gone(), true, Lsn(10), &slot).unwrap();
        assert!(reason.contains("does not exist"), "{reason}");
        let cure = cure.unwrap().to_string();
        assert!(cure.contains("pg_replication_slot_advance('s'"), "{cure}");
        for _ in 0..3 {
            failures.begins(Lsn(10), Lsn(20));
            // Changes before the failing one come through each time, and move the position.
            assert!(!failures.is_over(Lsn(15), Lsn(15)));
            assert_eq!(failures.because(&gone(), true, Lsn(10), &slot), None);
        }
        failures.begins(Lsn(10), Lsn(20));
        assert!(failures.is_over(Lsn(20), Lsn(10)));
        assert!(!failures.is_over(Lsn(21), Lsn(21)), "it is over once");
        assert!(failures.because(&gone(), true, Lsn(10), &slot).is_some());
    }

    #[test]
    fn a_first_stream_is_good_once_the_server_says_anything() {
        let mut failures = FailureTracker::default();
        failures.begins(Lsn(10), Lsn(1000));
        assert!(!failures.is_over(Lsn::ZERO, Lsn(10)));
        assert!(failures.is_over(Lsn(3), Lsn(10)));
        assert!(!failures.is_over(Lsn(4), Lsn(10)), "it is over once");
    }

    #[test]
    fn a_stream_that_was_only_cut_is_good_once_the_journal_moves() {
        let slot = SlotName::new("s").unwrap();
        let mut failures = FailureTracker::default();
        let (_, cure) = failures
            .because(&Error::ServerShutdown, true, Lsn(10), &slot)
            .unwrap();
        assert_eq!(cure, None);
        failures.begins(Lsn(10), Lsn(1000));
        assert!(!failures.is_over(Lsn(10), Lsn(10)));
        assert!(failures.is_over(Lsn(11), Lsn(11)));
    }

    #[test]
    fn a_change_that_cannot_be_decoded_is_told_from_a_session_that_is_ended_again_and_again() {
        let slot = SlotName::new("s").unwrap();
        let mut failures = FailureTracker::default();
        let bad = || refusal("22P05", "character 0x81 has no equivalent in encoding \"UTF8\"");
        assert_eq!(
            failures
                .because(&bad(), true, Lsn(10), &slot)
                .map(|(_, cure)| cure),
            Some(None)
        );
        assert_eq!(failures.because(&bad(), true, Lsn(10), &slot), None);
        assert!(!failures.is_stuck());
        let (_, cure) = failures.because(&bad(), true, Lsn(10), &slot).unwrap();
        assert!(cure.unwrap().to_string().contains("same change"));
        assert!(failures.is_stuck());
        assert_eq!(
            failures.because(&bad(), true, Lsn(10), &slot),
            None,
            "it is said once"
        );
        let ended = || refusal("57P01", "terminating connection due to administrator command");
        for _ in 0..5 {
            let said = failures.because(&ended(), true, Lsn(10), &slot);
            assert!(said.is_none_or(|(_, cure)| cure.is_none()));
        }
        for head in 11..20 {
            // It gets further each time.
            failures.because(&bad(), true, Lsn(head), &slot);
        }
        assert!(!failures.is_stuck());
    }

    #[test]
    fn the_cure_is_found_in_every_language_and_none_that_loses_changes_comes_first() {
        let slot = SlotName::new("s").unwrap();
        let cure = |code: &str, routine: Option<&str>, has_begun| {
            let Error::Postgres(postgres::Error::Server(mut error)) = refusal(code, "Fehler") else {
                return None;
            };
            error.routine = routine.map(str::to_owned);
            let error = Error::Postgres(postgres::Error::Server(error));
            let said = FailureTracker::default().because(&error, has_begun, Lsn(1), &slot)?;
            said.1.map(|cure| cure.to_string())
        };
        let loses = |cure: &str| cure.find("pg_replication_slot_advance");
        for (code, routine, first) in [
            ("42704", Some("get_publication_oid"), "create the publication"),
            ("42704", None, "create the publication"),
            ("0A000", None, "column list"),
            ("54000", Some("enlargeStringInfo"), "too large"),
            ("XX000", Some("MemoryContextSizeFailure"), "too large"),
        ] {
            let cure = cure(code, routine, true).unwrap();
            assert!(cure.find(first) < loses(&cure), "{code}: {cure}");
        }
        for (code, word) in [
            ("25P04", "timeout"),
            ("57P05", "timeout"),
            ("57014", "job"),
            ("53100", "disk"),
            ("42501", "REPLICATION"),
        ] {
            let cure = cure(code, None, true).unwrap();
            assert!(cure.contains(word) && loses(&cure).is_none(), "{code}: {cure}");
        }
        assert_eq!(cure("42704", None, false), None, "the slot is not there");
        assert_eq!(cure("XX000", Some("pgoutput_change"), true), None);
    }

    #[test]
    fn a_row_that_the_server_has_no_room_for_is_explained_at_once() {
        let slot = SlotName::new("s").unwrap();
        let large = refusal("XX000", "invalid memory alloc request size 1073741837");
        let (_, cure) = FailureTracker::default()
            .because(&large, true, Lsn(1), &slot)
            .unwrap();
        assert!(cure.unwrap().to_string().contains("too large"));
    }
}

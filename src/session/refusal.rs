//! The errors for rows that cannot be read; their codes say what the client can do about it.

use std::time::Instant;

use parking_lot::Mutex;

use super::{Services, Session};
use crate::limit::Limit;
use crate::log::Log;
use crate::postgres;
use crate::protocol::{Detail, ErrorCode, ErrorMessage};
use crate::schema::AskError;
use crate::snapshot;
use crate::telemetry::Failures;

/// The refusals of snapshots that were logged lately.
static REFUSED: Mutex<Failures> = Mutex::new(Failures::new());

/// The message for a predicate that fails for a row, which is not told.
const FAILS: &str = "the predicate fails for an existing row, as it would in Postgres";

/// The kinds of SQLSTATE, by whether a retry may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The predicate fails for a row.
    OfARow,
    /// It took too long, by the server's own bound, or was cancelled there.
    Cancelled,
    /// The database will refuse it again.
    Permanent,
    /// A retry may help: locks, restarts, connections.
    Passing,
}

fn kind(sqlstate: &str) -> Kind {
    match sqlstate {
        // NaN as an integer, and two columns of different collations.
        "0A000" | "42P22" => Kind::OfARow,
        "57014" => Kind::Cancelled,
        code => match code.get(..2) {
            Some("22") => Kind::OfARow,
            Some("0A" | "42" | "54") => Kind::Permanent,
            _ => Kind::Passing,
        },
    }
}

/// The number of times that a refusal came since it was logged last, if it is to be logged now: a client may ask again
/// and again.
fn due(error: &snapshot::Error) -> Option<u64> {
    REFUSED.lock().note(&error.to_string(), 0, Instant::now()).now
}

impl<H: Log> Session<H> {
    /// The error for a snapshot that failed.
    pub(super) fn refusal(&self, error: &snapshot::Error) -> ErrorMessage {
        use snapshot::Error;
        let limit =
            |limit| ErrorMessage::new(ErrorCode::LimitExceeded, error.to_string()).with(Detail::Limit(limit));
        match error {
            Error::Busy | Error::GivenWay => limit("snapshots"),
            Error::TimedOut(_) => limit("snapshot_timeout"),
            Error::RowTooLarge(_) => limit("row_bytes"),
            Error::Locked => {
                if let Some(again) = due(error) {
                    tracing::warn!(
                        event = "snapshot_blocked", %error, again,
                        "a snapshot was given up: pg_locks says who has the lock"
                    );
                }
                ErrorMessage::new(ErrorCode::Internal, format!("{error}: try again later"))
            }
            Error::TableChanged => ErrorMessage::new(
                ErrorCode::SchemaChanged,
                format!("{error}: resubscribe with a new snapshot"),
            ),
            Error::Unpublished => ErrorMessage::new(ErrorCode::UnknownTable, error.to_string()),
            Error::Denied(_) => {
                if let Some(again) = due(error) {
                    tracing::warn!(event = "snapshot_denied", %error, again, "a snapshot was refused by the database");
                }
                ErrorMessage::new(ErrorCode::DatabaseRefused, error.to_string())
            }
            Error::Predicate(error) => error.clone().into(),
            Error::Fails => ErrorMessage::new(ErrorCode::BadPredicate, FAILS),
            Error::Values(error) => of_values(error),
            Error::Postgres(refused) => match refused.sqlstate() {
                Some(code) => self.services.refused(error, code),
                None => self.services.unanswered(error),
            },
            error => self.services.unanswered(error),
        }
    }
}

impl<H: Log> Services<H> {
    /// The error for a subject's limit.
    pub(super) fn over(&self, limit: Limit) -> ErrorMessage {
        let limits = self.shared.subjects.limits();
        let message = match limit {
            Limit::SubjectSnapshots => format!(
                "a client may have {} snapshots on their way, on all its connections (--max-snapshots-per-subject): try \
                 again later",
                limits.max_snapshots
            ),
            Limit::SubjectPredicateBytes => format!(
                "the predicates of a client, on all its connections, may take {} bytes (--max-predicate-bytes-per-subject)",
                limits.max_predicate_bytes
            ),
            Limit::TotalPredicateBytes => format!(
                "the predicates of all clients take the {} bytes that they may (--max-total-predicate-bytes): try again later",
                limits.max_total_predicate_bytes
            ),
            _ => format!(
                "a client may have {} subscriptions, on all its connections (--max-subscriptions-per-subject)",
                limits.max_subscriptions
            ),
        };
        ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit(limit.as_str()))
    }

    /// The error for a failed question about the collations that a predicate needs.
    pub(super) fn unlearnt(&self, error: &AskError) -> ErrorMessage {
        match error.sqlstate().map(|code| (code, kind(code))) {
            Some((code, Kind::Permanent)) => {
                let id = super::logged(error);
                let message = format!(
                    "the database refuses a question about the collations that this predicate needs (SQLSTATE {code}); it is \
                     logged under {id}"
                );
                ErrorMessage::new(ErrorCode::DatabaseRefused, message)
            }
            _ => self.unanswered(error),
        }
    }

    /// The error for a refused query, by its SQLSTATE alone: the database's message may hold a row's values.
    fn refused(&self, error: &snapshot::Error, sqlstate: &str) -> ErrorMessage {
        match kind(sqlstate) {
            Kind::OfARow => {
                tracing::debug!(sqlstate, "a predicate fails for a row");
                ErrorMessage::new(ErrorCode::BadPredicate, format!("{FAILS} (SQLSTATE {sqlstate})"))
            }
            Kind::Cancelled => {
                let message = "the rows were not read within the database's statement_timeout, or the query was cancelled there";
                ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit("snapshot_timeout"))
            }
            Kind::Permanent => {
                let id = super::logged(error);
                let message = format!(
                    "the database refuses to read the rows (SQLSTATE {sqlstate}); it is logged under {id}"
                );
                ErrorMessage::new(ErrorCode::DatabaseRefused, message)
            }
            Kind::Passing => self.unanswered(error),
        }
    }
}

/// The error for a value of the predicate that the database does not accept.
fn of_values(error: &postgres::Error) -> ErrorMessage {
    let sqlstate = error.sqlstate().unwrap_or_default();
    let what = match sqlstate {
        "22P05" | "22021" => "has a character that the database's encoding does not have",
        _ => "is not one that Postgres accepts there",
    };
    ErrorMessage::new(
        ErrorCode::BadPredicate,
        format!("a text of where or params {what} (SQLSTATE {sqlstate})"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_to_be_tried_again() {
        for (sqlstate, expected) in [
            ("22P02", Kind::OfARow),
            ("22P05", Kind::OfARow),
            ("0A000", Kind::OfARow),
            ("57014", Kind::Cancelled),
            ("42501", Kind::Permanent),
            ("42883", Kind::Permanent),
            ("54001", Kind::Permanent),
            ("55P03", Kind::Passing),
            ("40001", Kind::Passing),
            ("53300", Kind::Passing),
            ("57P01", Kind::Passing),
            ("08006", Kind::Passing),
            ("25P04", Kind::Passing),
            ("XX000", Kind::Passing),
            ("", Kind::Passing),
        ] {
            assert_eq!(kind(sqlstate), expected, "{sqlstate}");
        }
    }
}

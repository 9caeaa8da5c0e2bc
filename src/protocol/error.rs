//! [`ErrorCode`], [`ErrorMessage`] and [`CloseCode`]: what goes wrong, and what each tells the client to do.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::filter;
use crate::lsn::Lsn;
use crate::protocol::Reference;

/// The kind of the error, for programs. With an `id` an error ends (or refuses) that subscription; the connection stays
/// unless it says otherwise here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// No message of the protocol's: not JSON, an unknown type, unknown, wrong or duplicate fields. Twenty in a row
    /// close the connection ([`CloseCode::BadRequests`]).
    BadRequest,
    /// `where` or `params` do not parse, do not type-check or are too large.
    BadPredicate,
    /// The table is not published, or not visible to this token: both answer alike.
    UnknownTable,
    /// The column is not published, or not visible to this token: both answer alike.
    UnknownColumn,
    /// The connection has a subscription of that `id`.
    DuplicateId,
    /// The connection has no subscription of that `id`.
    UnknownId,
    /// The log cannot decide which rows belong to the subscription, and it was strict or a policy needs it.
    ReplicaIdentity,
    /// `from` is older than what the journal holds: the client takes a snapshot again.
    ResumeExpired,
    /// `from` is no position, or beyond what Postgres has written, or of an epoch that is over.
    ResumeInvalid,
    /// A column that the subscription needs is gone or changed its type.
    SchemaChanged,
    /// More than the server allows of something; the detail names it.
    LimitExceeded,
    /// Too many messages; the detail says how long to wait.
    RateLimited,
    /// A token is required and was not given, or is not good. Closes the connection.
    Unauthenticated,
    /// The token's time is over. Closes the connection.
    TokenExpired,
    /// The token's policies do not allow it.
    Forbidden,
    /// The database does not let walcast read what was asked for, until somebody changes that.
    DatabaseRefused,
    /// The server's own failure; the message holds the id that it was logged under.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [ErrorCode; 17] = [
        ErrorCode::BadRequest,
        ErrorCode::BadPredicate,
        ErrorCode::UnknownTable,
        ErrorCode::UnknownColumn,
        ErrorCode::DuplicateId,
        ErrorCode::UnknownId,
        ErrorCode::ReplicaIdentity,
        ErrorCode::ResumeExpired,
        ErrorCode::ResumeInvalid,
        ErrorCode::SchemaChanged,
        ErrorCode::LimitExceeded,
        ErrorCode::RateLimited,
        ErrorCode::Unauthenticated,
        ErrorCode::TokenExpired,
        ErrorCode::Forbidden,
        ErrorCode::DatabaseRefused,
        ErrorCode::Internal,
    ];

    /// The code as clients read it.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::BadPredicate => "bad_predicate",
            ErrorCode::UnknownTable => "unknown_table",
            ErrorCode::UnknownColumn => "unknown_column",
            ErrorCode::DuplicateId => "duplicate_id",
            ErrorCode::UnknownId => "unknown_id",
            ErrorCode::ReplicaIdentity => "replica_identity",
            ErrorCode::ResumeExpired => "resume_expired",
            ErrorCode::ResumeInvalid => "resume_invalid",
            ErrorCode::SchemaChanged => "schema_changed",
            ErrorCode::LimitExceeded => "limit_exceeded",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Unauthenticated => "unauthenticated",
            ErrorCode::TokenExpired => "token_expired",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::DatabaseRefused => "database_refused",
            ErrorCode::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The `error` message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ErrorMessage {
    /// The kind of the error, for programs.
    pub code: ErrorCode,
    /// The problem and the cure, for people. Never a row's value or a token.
    pub message: String,
    /// The subscription that it concerns, which then does not exist.
    pub id: Option<String>,
    /// The `ref` of the ping that it answers.
    pub reference: Option<Reference>,
    /// The details that some codes add.
    pub detail: Option<Detail>,
}

/// A detail that some codes add to the message, each as a field of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// With [`ErrorCode::BadPredicate`]: the place in `where`, in bytes.
    Offset(usize),
    /// With [`ErrorCode::ResumeExpired`]: the oldest position that can be resumed from.
    Earliest(Lsn),
    /// With [`ErrorCode::LimitExceeded`]: the limit's name.
    Limit(&'static str),
    /// With [`ErrorCode::BadPredicate`]: the place in `where` at which a limit is passed, in bytes, and the limit's name.
    OffsetOfLimit(usize, &'static str),
    /// With [`ErrorCode::RateLimited`]: the limit's name, and the time to wait, in milliseconds.
    RetryAfter {
        /// The limit's name.
        limit: &'static str,
        /// The time to wait.
        ms: u64,
    },
}

/// The longest message.
const MAX_MESSAGE_CHARS: usize = 4_000;
/// The longest one about a predicate, whose words they repeat.
const MAX_PREDICATE_CHARS: usize = 600;

fn cut(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl From<filter::Error> for ErrorMessage {
    fn from(error: filter::Error) -> ErrorMessage {
        let code = match error {
            filter::Error::UnknownColumn { .. } => ErrorCode::UnknownColumn,
            filter::Error::Limit { limit, message, .. } => {
                return ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit(limit));
            }
            filter::Error::TooLarge { offset, .. } => {
                let message = error.to_string();
                return ErrorMessage::new(ErrorCode::BadPredicate, message)
                    .with(Detail::OffsetOfLimit(offset, "predicate_size"));
            }
            _ => ErrorCode::BadPredicate,
        };
        let message = cut(error.to_string(), MAX_PREDICATE_CHARS);
        ErrorMessage::new(code, message).with(Detail::Offset(error.offset()))
    }
}

impl ErrorMessage {
    /// An error that concerns no subscription. A message may repeat what the client sent, but never so much of it that
    /// the answer is as large as the question: a very long one is cut.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ErrorMessage {
        ErrorMessage {
            code,
            message: cut(message.into(), MAX_MESSAGE_CHARS),
            id: None,
            reference: None,
            detail: None,
        }
    }

    /// The name of the limit that was reached, if it is about one.
    pub fn limit(&self) -> Option<&'static str> {
        match self.detail {
            Some(
                Detail::Limit(limit) | Detail::OffsetOfLimit(_, limit) | Detail::RetryAfter { limit, .. },
            ) => Some(limit),
            Some(Detail::Offset(_) | Detail::Earliest(_)) | None => None,
        }
    }

    /// The same about a subscription, which it ends or refuses.
    #[must_use]
    pub fn about(mut self, id: impl Into<String>) -> ErrorMessage {
        self.id = Some(id.into());
        self
    }

    /// The same as the answer to a ping of this `ref`.
    #[must_use]
    pub fn answering(mut self, reference: Option<Reference>) -> ErrorMessage {
        self.reference = reference;
        self
    }

    /// The same with a detail.
    #[must_use]
    pub fn with(mut self, detail: Detail) -> ErrorMessage {
        self.detail = Some(detail);
        self
    }
}

/// The reason why the server closes a websocket. Up to 4499 a client comes back with its positions; from 4500 on it
/// does not come back unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The server stops: reconnect after a random part of this time, so that not all clients come at once.
    GoingAway {
        /// The time; whole seconds are sent.
        spread: Duration,
    },
    /// The client broke the websocket protocol.
    ProtocolError,
    /// A text message was not UTF-8.
    NotText,
    /// A message was larger than the server takes: send less at once.
    TooBig,
    /// A message came in more fragments than the server takes: send it in fewer.
    Fragmented,
    /// The journal no longer holds the client's place, or nothing was read for too long: reconnect, and be faster.
    TooSlow,
    /// A message was on its way for too long: reconnect, and be faster.
    Unfinished,
    /// No pong came: reconnect.
    NoPong,
    /// Get a new token, then reconnect.
    TokenExpired,
    /// Messages kept coming too fast: reconnect, send slower.
    RateLimited,
    /// A good token is required.
    Unauthenticated,
    /// Too many bad requests in a row: the client does not speak this protocol.
    BadRequests,
    /// This subject or address has as many connections as it may have.
    OverLimit,
}

impl CloseCode {
    /// The code of the websocket's close frame.
    pub fn code(self) -> u16 {
        match self {
            CloseCode::GoingAway { .. } => 1001,
            CloseCode::ProtocolError => 1002,
            CloseCode::NotText => 1007,
            CloseCode::TooBig | CloseCode::Fragmented => 1009,
            CloseCode::TooSlow | CloseCode::Unfinished => 4001,
            CloseCode::NoPong => 4002,
            CloseCode::TokenExpired => 4003,
            CloseCode::RateLimited => 4004,
            CloseCode::Unauthenticated => 4500,
            CloseCode::BadRequests => 4501,
            CloseCode::OverLimit => 4502,
        }
    }

    /// The reason in the close frame: what the client should do. At most 123 bytes, as the frame demands.
    pub fn reason(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            CloseCode::GoingAway { spread } => return format!("spread={}", spread.as_secs()).into(),
            CloseCode::ProtocolError => "this is not the websocket protocol",
            CloseCode::NotText => "a text message was not UTF-8",
            CloseCode::TooBig => "message too big",
            CloseCode::Fragmented => "a message in too many fragments",
            CloseCode::TooSlow => "too slow: reconnect with your positions",
            CloseCode::Unfinished => "a message took too long to come: reconnect with your positions",
            CloseCode::NoPong => "no pong: reconnect with your positions",
            CloseCode::TokenExpired => "token expired: reconnect with a new one and your positions",
            CloseCode::RateLimited => "too many messages: reconnect with your positions, then send slower",
            CloseCode::Unauthenticated => "a good token is required",
            CloseCode::BadRequests => "too many bad requests",
            CloseCode::OverLimit => "over a limit of this subject or address",
        })
    }

    /// True if a client may come back as it is, with its positions.
    pub fn may_reconnect(self) -> bool {
        use CloseCode::{Fragmented, NotText, ProtocolError, TooBig};
        self.code() < 4500 && !matches!(self, ProtocolError | NotText | TooBig | Fragmented)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own() {
        let mut names: Vec<_> = ErrorCode::ALL.map(ErrorCode::as_str).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_message_is_never_as_long_as_what_it_may_repeat() {
        let error = ErrorMessage::new(ErrorCode::BadPredicate, "é".repeat(50_000));
        assert_eq!(error.message.chars().count(), MAX_MESSAGE_CHARS + 1);
        let short = "é".repeat(MAX_MESSAGE_CHARS);
        assert_eq!(ErrorMessage::new(ErrorCode::BadPredicate, &*short).message, short);
    }

    #[test]
    fn close_codes_say_whether_to_come_back() {
        let spread = Duration::from_secs(30);
        let going = CloseCode::GoingAway { spread };
        let slow = CloseCode::TooSlow;
        assert_eq!((going.code(), &*going.reason()), (1001, "spread=30"));
        assert!(going.may_reconnect() && slow.may_reconnect() && CloseCode::RateLimited.may_reconnect());
        for close in [
            CloseCode::ProtocolError,
            CloseCode::NotText,
            CloseCode::TooBig,
            CloseCode::Fragmented,
            CloseCode::Unauthenticated,
            CloseCode::BadRequests,
            CloseCode::OverLimit,
        ] {
            assert!(!close.may_reconnect(), "{close:?}");
            assert!(close.reason().len() <= 123);
        }
    }
}

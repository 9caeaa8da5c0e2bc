//! Errors between us and Postgres.

use std::io;

use super::conninfo::ConnInfoError;
use super::server_error::ServerError;
use super::wire::WireError;
use crate::exhaustion::is_exhaustion;

/// An error between us and Postgres.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection string cannot be used.
    #[error("bad connection string")]
    ConnInfo(#[from] ConnInfoError),
    /// None of the hosts could be used; what each said, in order.
    #[error("{}", list(.0))]
    Connect(Vec<Attempt>),
    /// The socket failed.
    #[error("{doing} failed")]
    Io {
        /// The action that failed.
        doing: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The TLS session could not be had, or broke.
    #[error("TLS: {0}")]
    Tls(String),
    /// We cannot, or will not, prove who we are in the way the server asks.
    #[error("authentication: {0}")]
    Auth(String),
    /// The server answered with an error.
    #[error(transparent)]
    Server(Box<ServerError>),
    /// The server's bytes are not the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Nothing came within the time allowed.
    #[error("timed out {0}")]
    Timeout(&'static str),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server is not of the kind that `target_session_attrs` asks for.
    #[error("the session is not {0} (target_session_attrs)")]
    SessionAttributes(&'static str),
    /// A setting of the session that is not what was set.
    #[error(
        "the session's setting {name} is {found:?}, though it was set to {wanted:?}: something between here and the server \
         undoes it; connect directly"
    )]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value as it was set.
        wanted: String,
        /// Its value as the server has it.
        found: String,
    },
    /// The session is not with one process of the server.
    #[error(
        "a pooler gives each statement to another process of the server, which a session for replication cannot be \
         without: connect directly"
    )]
    Pooled,
    /// An answer that does not have the expected form.
    #[error("unexpected answer to {question}: {problem}")]
    Answer {
        /// The question.
        question: &'static str,
        /// The problem with the answer.
        problem: String,
    },
}

impl Error {
    /// The SQLSTATE, if the server itself refused; of the last host if several were tried.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Error::Server(error) => Some(&error.code),
            Error::Connect(attempts) => attempts.last().and_then(|attempt| attempt.error.sqlstate()),
            _ => None,
        }
    }

    /// The server's function that refused; of the last host if several were tried.
    pub fn routine(&self) -> Option<&str> {
        match self {
            Error::Server(error) => error.routine.as_deref(),
            Error::Connect(attempts) => attempts.last().and_then(|attempt| attempt.error.routine()),
            _ => None,
        }
    }

    /// True if a host that was tried takes no connections now: it starts or shuts down.
    pub fn cannot_connect_now(&self) -> bool {
        match self {
            Error::Server(error) => error.code == "57P03",
            Error::Connect(attempts) => attempts.iter().any(|attempt| attempt.error.cannot_connect_now()),
            _ => false,
        }
    }

    /// True if the server may be there soon: it starts or stops, has crashed, or nothing listens where it is to be.
    /// Where several hosts were tried, that is so of one, and of the others it is all the same or they are of another
    /// kind than was asked for.
    pub fn is_absence(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotFound};
        match self {
            Error::Server(error) => matches!(error.code.as_str(), "57P01" | "57P02" | "57P03"),
            // The file of a unix socket comes with its server.
            Error::Io { doing, source } if source.kind() == NotFound => *doing == CONNECTING,
            Error::Io { source, .. } => matches!(
                source.kind(),
                BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset
            ),
            Error::Closed => true,
            Error::Connect(attempts) => {
                let may_pass = |attempt: &Attempt| {
                    attempt.error.is_absence() || matches!(attempt.error, Error::SessionAttributes(_))
                };
                attempts.iter().any(|attempt| attempt.error.is_absence()) && attempts.iter().all(may_pass)
            }
            _ => false,
        }
    }

    /// Tells errors of a system that has run out of file descriptors, or of memory for sockets.
    pub fn is_exhaustion(&self) -> bool {
        match self {
            Error::Io { source, .. } => is_exhaustion(source),
            Error::Connect(attempts) => attempts.iter().any(|attempt| attempt.error.is_exhaustion()),
            _ => false,
        }
    }

    /// True if the server sent a message that is longer than the connection takes.
    pub fn is_too_long(&self) -> bool {
        matches!(self, Error::Wire(WireError::TooLong { .. }))
    }

    /// True if the connection is of no further use: every error but those with which the server answers a statement.
    pub fn is_fatal(&self) -> bool {
        match self {
            Error::Server(error) => matches!(error.severity.as_str(), "FATAL" | "PANIC"),
            Error::Answer { .. } => false,
            _ => true,
        }
    }

    pub(super) fn io(doing: &'static str) -> impl Fn(io::Error) -> Error {
        move |source| Error::Io { doing, source }
    }
}

/// The action of [`Error::Io`] that makes a connection.
pub(super) const CONNECTING: &str = "connecting";

/// The answer of one host.
#[derive(Debug)]
pub struct Attempt {
    /// The host, as in `db.example.com:5432`.
    pub host: String,
    /// The reason why it could not be used.
    pub error: Error,
}

fn list(attempts: &[Attempt]) -> String {
    let lines = attempts.iter().map(|Attempt { host, error }| {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        format!("cannot connect to {host}: {error}{}", cause.unwrap_or_default())
    });
    lines.collect::<Vec<_>>().join("; ")
}

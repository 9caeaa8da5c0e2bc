//! [`Error`]: what a log answers when it cannot do as asked.

use std::fmt;
use std::sync::Arc;

use super::Malformed;
use crate::lsn::Lsn;

/// The reason why a log could not do as asked. Cheap to clone: a failure is told to everyone who waits.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The position is older than what the log still holds.
    #[error("the log holds nothing before {earliest}")]
    Expired {
        /// The oldest position that can be read from.
        earliest: Lsn,
    },
    /// The history that the reader was reading has ended; another one has begun.
    #[error("the history was replaced by a new one")]
    EpochChanged,
    /// A record that was written wrong, with the right checksum: a defect.
    #[error("a record of the log cannot be read")]
    Malformed(#[from] Malformed),
    /// The transaction does not end after the head: the history only moves forward.
    #[error("a transaction that ends at {end} cannot follow {head}")]
    NotAfter {
        /// The end of the refused transaction.
        end: Lsn,
        /// The head.
        head: Lsn,
    },
    /// A position came between a transaction's changes.
    #[error("a position cannot be recorded inside a transaction")]
    InTransaction,
    /// The change, or the number of changes in the transaction, exceeds 32 bits.
    #[error("the {0} is too large for the log")]
    TooLarge(&'static str),
    /// It did not happen in the time given.
    #[error("the log was not synced in time")]
    TimedOut,
    /// There is no room for what was appended. Nothing is lost: what was given is kept in memory, and
    /// [`LogWriter::flush`](super::LogWriter::flush) goes on once there is room again.
    #[error(transparent)]
    Full(Cause),
    /// The log cannot be read at the moment. It is unharmed: wait, and try again.
    #[error(transparent)]
    Unavailable(Cause),
    /// The log cannot go on, and trying again does not help. For a writer: what it holds is no longer known, and
    /// nothing more is appended or called durable.
    #[error(transparent)]
    Failed(Cause),
}

impl Error {
    /// True if it passes without anybody's doing: wait, and try again.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Error::Unavailable(_))
    }

    /// True if the cause is that the system has run out of file descriptors, and not of space.
    pub fn is_exhaustion(&self) -> bool {
        match self {
            Error::Full(cause) | Error::Unavailable(cause) | Error::Failed(cause) => cause.is_exhaustion,
            _ => false,
        }
    }
}

/// The error of an implementation behind an [`Error`]: it reads as that one does, and has its sources.
#[derive(Clone)]
pub struct Cause {
    error: Arc<dyn std::error::Error + Send + Sync>,
    is_exhaustion: bool,
}

impl Cause {
    /// The error of an implementation; `is_exhaustion` if the system has run out of file descriptors.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static, is_exhaustion: bool) -> Cause {
        Cause {
            error: Arc::new(error),
            is_exhaustion,
        }
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

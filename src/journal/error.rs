//! [`Error`]: what goes wrong with the files of a journal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::exhaustion::is_exhaustion;
use crate::log::{self, Cause};

/// The reason why a journal cannot be opened, or its files not be read or written. Cheap to clone: a failure is told to
/// everyone who waits. Who uses the journal as a [log] gets it as the cause of a [`log::Error`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another process, or another part of this one, has the directory open.
    #[error("{dir} is in use by another walcast; stop it or use another --data-dir", dir = .0.display())]
    Locked(PathBuf),
    /// The directory holds the history of something else.
    #[error("{dir} belongs to {found}, not to {wanted}; use another --data-dir", dir = dir.display())]
    NotOurs {
        /// The data directory.
        dir: PathBuf,
        /// The identity of its owner.
        found: String,
        /// The identity that was asked for.
        wanted: String,
    },
    /// The directory holds the history of a database that is gone, and another one has its name.
    #[error(
        "the database {database:?} was dropped and created again since {dir} was written: start with --recreate-slot to begin a \
         new history there (clients resubscribe with new snapshots), or use another --data-dir",
        dir = dir.display()
    )]
    DatabaseRecreated {
        /// The data directory.
        dir: PathBuf,
        /// The database's name.
        database: String,
    },
    /// The directory holds something else than a journal.
    #[error(
        "{dir} is not empty, and what is in it is no journal ({holds:?} for one): use another --data-dir, or a directory \
         below it, which is made",
        dir = dir.display()
    )]
    NotEmpty {
        /// The data directory.
        dir: PathBuf,
        /// Something that is in it.
        holds: String,
    },
    /// The directory's `journal.json` is missing although there are segments, or unreadable.
    #[error("{path}: {reason}; restore it or use another --data-dir", path = path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        reason: String,
    },
    /// The directory is of a format that this version does not know.
    #[error(
        "{path} is of format {format}, and this is walcast {version}, which knows the formats up to {known}: nothing was \
         changed. Start {}, or begin anew with another --data-dir: clients that come back then take new snapshots",
        able(writer.as_deref()),
        path = path.display()
    )]
    Format {
        /// The file that says it.
        path: PathBuf,
        /// The format of the directory.
        format: u32,
        /// The version that wrote the file, if it says so.
        writer: Option<String>,
        /// The version of this program.
        version: &'static str,
        /// The newest format that it knows.
        known: u32,
    },
    /// A segment file of another history lies among ours.
    #[error("{path} belongs to another history (epoch {epoch}); move it away", path = path.display())]
    ForeignSegment {
        /// The file.
        path: PathBuf,
        /// The epoch that it names.
        epoch: String,
    },
    /// No space is left, by the disk, a quota or a limit, or no file descriptor. Nothing is lost: what was given is
    /// kept in memory, and [`LogWriter::flush`](log::LogWriter::flush) goes on once there is space again.
    #[error("no {} left to write {path}", lacking(source), path = path.display())]
    Full {
        /// The file that did not fit.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// A write or a sync failed, so what is on disk is no longer known. Nothing more is appended or called durable:
    /// open the journal again, which reads back what is really on disk.
    #[error("the journal failed, and can be opened again after a restart: {action} {path}", path = path.display())]
    Failed {
        /// The action that failed.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// Reading, creating or removing a file failed. The journal itself is unharmed.
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        /// The action that failed.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// The newest segment does not read back as it was written. Nothing of the damaged part is ever served.
    #[error("{path} is damaged at byte {offset}: {reason}", path = path.display())]
    Damaged {
        /// The segment file.
        path: PathBuf,
        /// The place, in bytes from the start of the file.
        offset: u64,
        /// The problem there.
        reason: &'static str,
    },
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io {
            action,
            path,
            source: Arc::new(source),
        }
    }

    /// A failed write: [`Error::Full`] if waiting for space can help, [`Error::Failed`] otherwise.
    pub(super) fn write(path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        let full = is_full(&source);
        let source = Arc::new(source);
        if full {
            Error::Full { path, source }
        } else {
            Error::Failed {
                action: "write",
                path,
                source,
            }
        }
    }

    /// True if the system has run out of file descriptors.
    pub(super) fn is_exhaustion(&self) -> bool {
        match self {
            Error::Full { source, .. } | Error::Failed { source, .. } | Error::Io { source, .. } => {
                is_exhaustion(source)
            }
            _ => false,
        }
    }

    pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
        Error::Failed {
            action,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

impl From<Error> for log::Error {
    fn from(error: Error) -> log::Error {
        let is_exhaustion = error.is_exhaustion();
        let is_full = matches!(error, Error::Full { .. });
        let is_unread = matches!(error, Error::Io { .. });
        let cause = Cause::new(error, is_exhaustion);
        if is_full {
            log::Error::Full(cause)
        } else if is_unread && is_exhaustion {
            log::Error::Unavailable(cause)
        } else {
            log::Error::Failed(cause)
        }
    }
}

/// The versions that know what `writer` wrote.
fn able(writer: Option<&str>) -> String {
    match writer {
        Some(writer) => format!("walcast {writer}, which wrote it, or a later version"),
        None => "the version that wrote it, or a later one".to_owned(),
    }
}

/// The resource that is used up.
fn lacking(error: &io::Error) -> &'static str {
    if is_exhaustion(error) {
        "file descriptor is"
    } else {
        "space is"
    }
}

/// ENOSPC, EDQUOT, EFBIG, EMFILE and ENFILE: all of them pass.
fn is_full(error: &io::Error) -> bool {
    is_exhaustion(error)
        || matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        )
}

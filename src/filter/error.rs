//! [`Error`]: what is wrong with a predicate, and where.

use super::cost::MAX_BYTES;
use crate::types::{CollationQuestion, Ctype, LiteralError, Quoted};

/// The reason why a predicate cannot be used. The offset is that of the byte in the `where` text at which the problem
/// lies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text is not an expression of Postgres.
    #[error("syntax error: {message}")]
    Syntax {
        /// The problem.
        message: String,
        /// Its place.
        offset: usize,
    },
    /// Postgres would take it; we cannot give its exact meaning.
    #[error("{what} is not supported in a predicate")]
    Unsupported {
        /// The construct, named as it is written.
        what: String,
        /// Its place.
        offset: usize,
    },
    /// It depends on more of a collation than is known here.
    #[error("{message}")]
    Collation {
        /// The construct, the reason why it is not known, and the cure.
        message: String,
        /// The question that the server may answer, if it was not asked yet.
        question: Option<CollationQuestion>,
        /// Its place.
        offset: usize,
    },
    /// The text or one of its parts is over a limit.
    #[error("the predicate is too large: more than {limit} {of}")]
    TooLarge {
        /// The thing of which there is too much.
        of: &'static str,
        /// The amount that there may be.
        limit: usize,
        /// The place where the limit is passed.
        offset: usize,
    },
    /// To look at rows with it takes too much.
    #[error("{message}")]
    Limit {
        /// The limit's name.
        limit: &'static str,
        /// The thing of which there is too much, how much there may be, and what helps.
        message: String,
        /// The place where the limit is passed.
        offset: usize,
    },
    /// The table has no such column, or it is not published.
    #[error("there is no column {}{hint}", Quoted(name))]
    UnknownColumn {
        /// The name as looked up, unquoted.
        name: String,
        /// The name that may have been meant; empty if nothing comes to mind.
        hint: String,
        /// Its place.
        offset: usize,
    },
    /// The types do not go together.
    #[error("{message}")]
    Type {
        /// The problem.
        message: String,
        /// Its place.
        offset: usize,
    },
    /// A literal or parameter has no value of the type that its place needs.
    #[error("{source}")]
    Literal {
        /// The problem.
        source: LiteralError,
        /// Its place.
        offset: usize,
    },
    /// The parameters do not fit the predicate.
    #[error("{message}")]
    Parameter {
        /// The problem.
        message: String,
        /// The place where the parameter is used.
        offset: usize,
    },
}

impl Error {
    /// The byte in the `where` text at which the problem lies.
    pub fn offset(&self) -> usize {
        match self {
            Error::Syntax { offset, .. }
            | Error::Unsupported { offset, .. }
            | Error::Collation { offset, .. }
            | Error::TooLarge { offset, .. }
            | Error::Limit { offset, .. }
            | Error::UnknownColumn { offset, .. }
            | Error::Type { offset, .. }
            | Error::Literal { offset, .. }
            | Error::Parameter { offset, .. } => *offset,
        }
    }

    /// The question that the server is to be asked, for the predicate may be given exactly once it has answered.
    pub fn collation_question(&self) -> Option<CollationQuestion> {
        match self {
            Error::Collation { question, .. } => question.clone(),
            Error::Literal {
                source: LiteralError::Citext(ctype),
                ..
            } => ctype.collation_question(),
            _ => None,
        }
    }

    /// Letters fold in `what` in a way that is not known here.
    pub(super) fn letters(what: &str, ctype: Option<&Ctype>, offset: usize) -> Error {
        Error::Collation {
            message: format!("{what} is not supported in a predicate"),
            question: ctype.and_then(Ctype::collation_question),
            offset,
        }
    }

    /// Bound, the predicate takes too many bytes.
    pub(super) fn too_many_bytes(offset: usize) -> Error {
        let message = format!(
            "the predicate takes more than {MAX_BYTES} bytes with its parameters in every place where they are used: use \
             long ones in fewer places"
        );
        Error::Limit {
            limit: "predicate_bytes",
            message,
            offset,
        }
    }

    /// `what` may quote the text; it becomes one line.
    pub(super) fn unsupported(what: impl Into<String>, offset: usize) -> Error {
        let what = what.into().replace(['\n', '\r'], " ");
        Error::Unsupported { what, offset }
    }

    /// `message` may quote the text; it becomes one line.
    pub(super) fn syntax(message: impl Into<String>, offset: usize) -> Error {
        let message = message.into().replace(['\n', '\r'], " ");
        Error::Syntax { message, offset }
    }

    pub(super) fn ty(message: impl Into<String>, offset: usize) -> Error {
        let message = message.into();
        Error::Type { message, offset }
    }
}

//! [`JsonError`]: the reasons why a question about a document has no answer.

use super::{Exhausted, Malformed};

/// The depth to which values may nest in a constant, and in containers of which one contains the other: more than
/// people write, and less than a stack holds.
pub(super) const MAX_DEPTH: usize = 256;

/// The reason why a question about a `json` or `jsonb` has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is no JSON, or a string of it has no text in Postgres (`\u0000`), where the server too fails.
    #[error("malformed json")]
    Malformed,
    /// The path counts from the end below the first level of a `json` ([`Path::is_exact`](super::Path::is_exact)).
    #[error(
        "a negative index below the first level of a json means different elements in different documents"
    )]
    NegativeStep,
    /// It nests deeper than is followed.
    #[error("json is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// It takes more work than there may be.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl From<Malformed> for JsonError {
    fn from(_: Malformed) -> JsonError {
        JsonError::Malformed
    }
}

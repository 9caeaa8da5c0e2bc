//! [`Statement`]: a statement that the server keeps parsed for a session.

use std::sync::Arc;

use postgres_types::Type as PgType;

/// A statement that the server has parsed for the session. The catalog's questions are long: to parse one again takes a
/// seventh of the time in which it is answered.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// Its name; none if it is not kept.
    pub(super) name: String,
    /// The types of its parameters.
    pub(super) types: Vec<PgType>,
    /// Those of its answer.
    pub(super) columns: Columns,
}

/// The types of an answer's columns; `None` of one that is not built in.
pub(super) type Columns = Arc<[Option<PgType>]>;

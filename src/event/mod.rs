//! The vocabulary everyone shares: relations, tuples, and the row changes that transactions are made of.

mod column_change;
mod logging;
mod name;
mod ops;
mod projection;
mod published;
mod quote;
mod relation;
mod transaction;
mod tuple;
mod view;

pub use column_change::ColumnChange;
pub use logging::{Caveat, Logging, Obstacle, Refusal};
pub use name::NameError;
pub use ops::Ops;
pub use projection::Projection;
pub use published::{Lookup, Published};
pub use quote::{quote_identifier, quote_literal};
pub use relation::{Collation, Column, Relation, ReplicaIdentity, StreamColumn, StreamRelation, TableName};
pub use transaction::{OldTuple, Op, RowChange, Timestamp, Transaction};
pub use tuple::{Truncated, Tuple, Value, Values, encode_values};
pub use view::{View, Visible};

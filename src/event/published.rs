//! [`Published`]: what the publications have of a table, for a stream that does not know them.

use super::StreamRelation;
use crate::lsn::Lsn;
use crate::types::Attnum;

/// A table as the publications have it: what pgoutput applies by itself and other plugins know nothing of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The table, or the partitioned table that its changes are published as, with the published columns.
    pub relation: StreamRelation,
    /// The numbers of the relation's columns.
    pub numbers: Vec<Attnum>,
    /// The names of all columns of the table itself, published or not, in the order in which its rows hold them. A
    /// partition's own, whatever its root's is.
    pub order: Vec<String>,
    /// Transactions that commit from here on come after everything that led to this.
    pub seen: Lsn,
    /// The names that other columns had when the table was looked at last: by such a name alone it cannot be told which
    /// of the two a row has that commits before `seen`.
    pub renamed: Vec<String>,
    /// The names of the columns that are not published.
    pub left_out: Vec<String>,
    /// True if the table is a partition whose changes are published as its ancestor's (`publish_via_partition_root`).
    pub via_root: bool,
    /// True if a publication has a row filter for it.
    pub row_filter: bool,
    /// True if inserts are published.
    pub insert: bool,
    /// True if updates are published.
    pub update: bool,
    /// True if deletes are published.
    pub delete: bool,
    /// True if truncates are published.
    pub truncate: bool,
}

/// The answer of the catalogs about a table's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The table is published.
    Published(Published),
    /// There is such a table, and it is not published.
    Unpublished,
    /// There is no table of that name any more.
    Gone,
}

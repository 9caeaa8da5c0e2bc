//! [`Section`]: the keys of a section and where their values stand.

use std::ops::Range;

use super::fields::Table;

/// A section of the file that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its header, as in `[auth]`.
    pub header: &'static str,
    /// The bytes of the header.
    pub at: Range<usize>,
    /// The keys that it may have, in the order in which they are documented, and the bytes of their values.
    pub values: Vec<(&'static str, Option<Range<usize>>)>,
}

impl Section {
    pub(super) fn of(header: &'static str, table: &Table<'_>, keys: &[&'static str]) -> Section {
        Section {
            header,
            at: table.at().clone(),
            values: keys.iter().map(|key| (*key, table.place(key))).collect(),
        }
    }
}

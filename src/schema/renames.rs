//! [`Renames`]: tables for which the stream still uses a former name.
//!
//! pgoutput describes a table again when it was altered, but not when its schema was renamed, nor, of rows that are
//! published as their root's, when the root was. A stream that starts again names every row as it was named when it was
//! written.

use std::collections::HashMap;

use crate::event::TableName;
use crate::lsn::Lsn;

/// The tables' names in the stream, and the tables that have another name by now.
#[derive(Debug, Default)]
pub(super) struct Renames {
    streamed: HashMap<u32, TableName>,
    /// The tables' names now, and the position up to which the server had written when they were found.
    found: HashMap<u32, (TableName, Lsn)>,
}

impl Renames {
    /// Notes that a stream begins, which has described nothing yet.
    pub(super) fn begin(&mut self) {
        *self = Renames::default();
    }

    /// Notes that the stream has described a table.
    pub(super) fn describe(&mut self, oid: u32, name: &TableName) {
        if self.streamed.get(&oid) != Some(name) {
            self.streamed.insert(oid, name.clone());
        }
        if self.found.get(&oid).is_some_and(|(found, _)| found == name) {
            self.found.remove(&oid);
        }
    }

    /// True if the stream uses another name for the table.
    pub(super) fn differs(&self, oid: u32, name: &TableName) -> bool {
        self.streamed.get(&oid).is_some_and(|streamed| streamed != name)
    }

    /// Notes that a table's name in the database, which had written up to `written`, differs from the one in the
    /// stream.
    pub(super) fn find(&mut self, oid: u32, name: &TableName, written: Lsn) {
        if self.found.get(&oid).is_none_or(|(found, _)| found != name) {
            self.found.insert(oid, (name.clone(), written));
        }
    }

    /// True if the stream still uses the former name of a table, although it has come past the renaming.
    pub(super) fn is_due(&self, head: Lsn) -> bool {
        self.found.values().any(|(_, written)| *written <= head)
    }

    /// True if the stream is known to use the table's former name.
    pub(super) fn is_renamed(&self, oid: u32) -> bool {
        self.found.contains_key(&oid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_under_an_old_name_is_due_once_the_stream_has_passed_where_the_new_one_was_found() {
        let [old, new] = ["old", "new"].map(|name| TableName::new("public", name));
        let mut renames = Renames::default();
        assert!(!renames.differs(1, &new), "the stream has not shown it yet");
        renames.describe(1, &old);
        assert!(renames.differs(1, &new) && !renames.differs(1, &old));
        renames.find(1, &new, Lsn(10));
        renames.find(1, &new, Lsn(20));
        assert!(renames.is_renamed(1) && !renames.is_renamed(2));
        assert!(!renames.is_due(Lsn(9)) && renames.is_due(Lsn(10)));
        // It may describe the table again on its own.
        renames.describe(1, &new);
        assert!(!renames.is_renamed(1) && !renames.is_due(Lsn(99)));
        renames.find(1, &old, Lsn(30));
        renames.begin();
        assert!(!renames.is_due(Lsn(99)));
    }
}

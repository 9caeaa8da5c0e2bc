//! [`Renames`]: tables that the stream goes on calling by a name that they do not have any more.
//!
//! pgoutput describes a table again when it was altered, but not when its schema was renamed, nor, of rows that are
//! published as their root's, when the root was. A stream that starts again names every row as it was named when it was
//! written.

use std::collections::HashMap;

use crate::event::TableName;
use crate::lsn::Lsn;

/// The names that the stream has for tables, and which of them have another one by now.
#[derive(Debug, Default)]
pub(super) struct Renames {
    streamed: HashMap<u32, TableName>,
    /// The names that they have now, and how far the server had written when that was found.
    found: HashMap<u32, (TableName, Lsn)>,
}

impl Renames {
    /// A stream begins: it has described nothing yet.
    pub(super) fn begin(&mut self) {
        *self = Renames::default();
    }

    /// The stream has described a table.
    pub(super) fn describe(&mut self, oid: u32, name: &TableName) {
        if self.streamed.get(&oid) != Some(name) {
            self.streamed.insert(oid, name.clone());
        }
        if self.found.get(&oid).is_some_and(|(found, _)| found == name) {
            self.found.remove(&oid);
        }
    }

    /// True if the stream calls the table by another name.
    pub(super) fn differs(&self, oid: u32, name: &TableName) -> bool {
        self.streamed.get(&oid).is_some_and(|streamed| streamed != name)
    }

    /// The database, which had written up to `written`, says that a table has another name than the stream has for it.
    pub(super) fn find(&mut self, oid: u32, name: &TableName, written: Lsn) {
        if self.found.get(&oid).is_none_or(|(found, _)| found != name) {
            self.found.insert(oid, (name.clone(), written));
        }
    }

    /// True if there is a table that the stream calls by its old name, though it has come past the renaming.
    pub(super) fn is_due(&self, head: Lsn) -> bool {
        self.found.values().any(|(_, written)| *written <= head)
    }

    /// True if the stream is known to call the table by its old name.
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
        // It may describe the table by itself.
        renames.describe(1, &new);
        assert!(!renames.is_renamed(1) && !renames.is_due(Lsn(99)));
        renames.find(1, &old, Lsn(30));
        renames.begin();
        assert!(!renames.is_due(Lsn(99)));
    }
}

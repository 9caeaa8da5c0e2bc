//! [`SnapshotMessage`]: the rows that a subscription begins with, some of them in each message.
//!
//! Rows are written once for all who read the same snapshot; each client's message puts its subscription's id before
//! them.

use super::quoted_id;
use crate::event::{Projection, Tuple};

/// The message of one subscription, around its rows.
#[derive(Clone, Debug)]
pub struct SnapshotMessage {
    before: String,
}

impl SnapshotMessage {
    /// The text behind the rows.
    pub const AFTER: &'static str = "}";

    /// The message of the subscription of that id.
    pub fn new(id: &str) -> SnapshotMessage {
        let id = quoted_id(id);
        SnapshotMessage {
            before: format!("{{\"type\":\"snapshot\",\"id\":{id},\"rows\":"),
        }
    }

    /// The text before the rows.
    pub fn before(&self) -> &str {
        &self.before
    }
}

/// Rows for one message, as a JSON array.
#[derive(Debug, Default)]
pub struct Rows {
    /// Not closed yet; empty if there are no rows.
    text: Vec<u8>,
}

impl Rows {
    /// Adds a row.
    pub fn push(&mut self, tuple: Tuple<'_>, projection: &Projection) {
        self.text.push(if self.text.is_empty() { b'[' } else { b',' });
        projection.write_row(tuple, None, &mut self.text);
    }

    /// The size of what was added, in bytes.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// True if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The whole array.
    pub fn close(&mut self) -> &[u8] {
        self.text.push(b']');
        &self.text
    }

    /// Forgets the rows, and keeps room for `bytes` of others at most.
    pub fn clear(&mut self, bytes: usize) {
        self.text.clear();
        self.text.shrink_to(bytes);
    }
}

//! [`Look`]: a row as it is looked at by many predicates, and the work that this takes.

use super::row::{Cell, Row};
use crate::types::{Exhausted, Work};

/// A row that is looked at.
#[derive(Debug)]
pub(super) struct Look<'r> {
    row: Row<'r>,
    work: &'r Work,
}

impl<'r> Look<'r> {
    /// A first look at a row, with what is counted of it.
    pub(super) fn new(row: Row<'r>, work: &'r Work) -> Look<'r> {
        Look { row, work }
    }

    /// The row itself.
    pub(super) fn row(&self) -> &Row<'r> {
        &self.row
    }

    /// What is known of column `index`.
    pub(super) fn get(&self, index: usize) -> Cell<'r> {
        self.row.get(index)
    }

    /// The work that was done, and may be.
    pub(super) fn work(&self) -> &'r Work {
        self.work
    }

    /// Counts what is about to be done, unless that is too much.
    pub(super) fn spend(&self, units: usize) -> Result<(), Exhausted> {
        self.work.spend(units)
    }
}

//! [`Look`]: a row as it is looked at by many predicates, and the work that this takes.

use super::parts::{Parts, Walked};
use super::row::{Cell, Row};
use super::scalar::Part;
use crate::types::{Exhausted, Work};

/// A row that is looked at.
#[derive(Debug)]
pub(super) struct Look<'r> {
    row: Row<'r>,
    work: &'r Work,
    walked: Option<Walked<'r>>,
}

impl<'r> Look<'r> {
    /// A first look at a row, with what is counted of it.
    pub(super) fn new(row: Row<'r>, work: &'r Work) -> Look<'r> {
        Look {
            row,
            work,
            walked: None,
        }
    }

    /// The same by predicates that read these parts of documents.
    pub(super) fn with_parts(row: Row<'r>, work: &'r Work, parts: &'r Parts) -> Look<'r> {
        Look {
            row,
            work,
            walked: Some(Walked::new(parts)),
        }
    }

    /// Everything that is known of column `index`.
    pub(super) fn get(&self, index: usize) -> Cell<'r> {
        self.row.get(index)
    }

    /// The text of a part of a document of the row, or else that it is not there, if that was found out for several
    /// together.
    pub(super) fn part(&self, part: &Part, text: &'r [u8]) -> Result<Option<Option<&'r [u8]>>, Exhausted> {
        match &self.walked {
            Some(walked) => walked.find(part, text, self.work),
            None => Ok(None),
        }
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

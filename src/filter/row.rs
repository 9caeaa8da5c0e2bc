//! [`Row`]: a row as far as the log tells it.

use crate::event::{Relation, Tuple, Value};

/// Everything that is known of one column of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell<'a> {
    /// It is null.
    Null,
    /// It has this text.
    Text(&'a [u8]),
    /// It has a value, not null, that was not logged: TOAST that the update did not change.
    Unchanged,
    /// Nothing is known, not even whether it is null.
    Absent,
}

/// A row, some of whose values may not be known. Copying it copies pointers.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    tuple: Option<Tuple<'a>>,
    /// The place where unchanged values are to be found.
    fill: Option<Tuple<'a>>,
    /// If given, only its identity columns are known.
    identity_of: Option<&'a Relation>,
    /// It is an old tuple, in which a value that was not logged may be null.
    is_old: bool,
}

impl<'a> Row<'a> {
    /// A whole row; TOASTed values that the update did not change may be missing from it.
    pub fn new(tuple: Tuple<'a>) -> Row<'a> {
        Row {
            tuple: Some(tuple),
            fill: None,
            identity_of: None,
            is_old: false,
        }
    }

    /// A row that was there before, as far as it was logged.
    pub fn old(tuple: Tuple<'a>) -> Row<'a> {
        Row {
            is_old: true,
            ..Row::new(tuple)
        }
    }

    /// A row after an update whose old version is known, or its key: what did not change is taken from there.
    pub fn updated(new: Tuple<'a>, old: Tuple<'a>) -> Row<'a> {
        Row {
            fill: Some(old),
            ..Row::new(new)
        }
    }

    /// A row of which only the identity's columns are known.
    pub fn identity(tuple: Tuple<'a>, relation: &'a Relation) -> Row<'a> {
        Row {
            identity_of: Some(relation),
            ..Row::old(tuple)
        }
    }

    /// The row that an update without an old tuple replaced. Its identity was the new row's, or Postgres would have
    /// sent it; nothing else is known of it. Under `FULL` the old row is always sent: should it be missing, nothing is
    /// known at all.
    pub fn before_update(new: Tuple<'a>, relation: &'a Relation) -> Row<'a> {
        if relation.is_full() {
            return Row {
                tuple: None,
                fill: None,
                identity_of: None,
                is_old: true,
            };
        }
        Row::identity(new, relation)
    }

    /// Everything that is known of column `index`.
    pub fn get(&self, index: usize) -> Cell<'a> {
        if let Some(relation) = self.identity_of
            && !relation.columns.get(index).is_some_and(|column| column.identity)
        {
            return Cell::Absent;
        }
        match self.tuple.and_then(|tuple| tuple.get(index)) {
            Some(Value::Unchanged) if self.is_old => Cell::Absent,
            Some(Value::Unchanged) => match self.fill.and_then(|old| old.get(index)) {
                Some(Value::Text(text)) => Cell::Text(text),
                _ => Cell::Unchanged,
            },
            Some(Value::Null) => Cell::Null,
            Some(Value::Text(text)) => Cell::Text(text),
            None => Cell::Absent,
        }
    }
}

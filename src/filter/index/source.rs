//! [`Sources`], what the predicates read of a row, and [`Seen`], what was found there: each once per change.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::event::Relation;
use crate::filter::look::Look;
use crate::filter::matcher::Source;
use crate::filter::row::{Cell, Row};
use crate::types::{Abbreviated, Datum, Reading, Work};

/// The number of a [`Source`].
pub(super) type SourceId = u16;

/// The columns that predicates read, each by each reading that they compare it as; and how their values are hashed.
#[derive(Debug, Default)]
pub(super) struct Sources {
    list: Vec<Source>,
    ids: HashMap<Source, SourceId>,
    seed: RandomState,
}

/// A value as the key of a hash table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The value's place in its order if that is exact, else a hash of it.
    pub(super) bits: u64,
    /// Whether no other value has the same key.
    pub(super) exact: bool,
}

impl Sources {
    /// The number of a source, a new one if need be. (Postgres has at most 1600 columns, each with a few readings.)
    pub(super) fn id(&mut self, source: Source) -> SourceId {
        *self.ids.entry(source).or_insert_with(|| {
            self.list.push(source);
            (self.list.len() - 1) as SourceId
        })
    }

    /// The source of a test for null, which reads nothing.
    pub(super) fn of_null(&mut self, column: usize) -> SourceId {
        let reading = Reading::Text;
        self.id(Source { column, reading })
    }

    /// Whether it holds true and false only.
    pub(super) fn is_bool(&self, id: SourceId) -> bool {
        self.list
            .get(usize::from(id))
            .is_some_and(|source| source.reading == Reading::Bool)
    }

    /// The column that it is of.
    pub(super) fn column(&self, id: SourceId) -> Option<usize> {
        self.list.get(usize::from(id)).map(|source| source.column)
    }

    pub(super) fn key(&self, datum: &Datum<'_>) -> Key {
        let Abbreviated { place, exact } = datum.abbreviated();
        Key {
            bits: if exact { place } else { self.seed.hash_one(datum) },
            exact,
        }
    }

    /// The value of a source in a row, if that is known.
    pub(super) fn read<'r>(&self, id: SourceId, row: &Row<'r>) -> Option<Datum<'r>> {
        let source = self.list.get(usize::from(id))?;
        match row.get(source.column) {
            Cell::Text(text) => source.reading.read(text),
            _ => None,
        }
    }

    /// A number that nobody outside can foresee.
    pub(super) fn secret(&self) -> u64 {
        self.seed.hash_one(0)
    }
}

/// What is known of a source's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not looked for yet.
    Unread,
    Null,
    /// Some value, not null.
    Unknown,
    /// Not even whether it is null.
    Absent,
    Value(Abbreviated),
}

/// A row, and what was read of it.
#[derive(Debug)]
pub(super) struct Seen<'r> {
    pub(super) row: Look<'r>,
    known: Vec<Known>,
}

impl<'r> Seen<'r> {
    /// A row, of which nothing was read; `space` is used for what will be.
    pub(super) fn new(row: Row<'r>, work: &'r Work, sources: &Sources, mut space: Vec<Known>) -> Seen<'r> {
        space.clear();
        space.resize(sources.list.len(), Known::Unread);
        Seen {
            row: Look::new(row, work),
            known: space,
        }
    }

    /// Gives the space back.
    pub(super) fn into_space(self) -> Vec<Known> {
        self.known
    }

    /// What is known of a source's value.
    #[inline]
    pub(super) fn known(&mut self, id: SourceId, sources: &Sources) -> Known {
        match self.known.get(usize::from(id)) {
            Some(Known::Unread) | None => self.read(id, sources),
            Some(known) => *known,
        }
    }

    fn read(&mut self, id: SourceId, sources: &Sources) -> Known {
        let Some(source) = sources.list.get(usize::from(id)) else {
            return Known::Absent;
        };
        let known = match self.row.get(source.column) {
            Cell::Null => Known::Null,
            Cell::Unchanged => Known::Unknown,
            Cell::Absent => Known::Absent,
            // A text that is not of its type is some value, but we cannot say which.
            Cell::Text(text) => match source.reading.read(text) {
                Some(datum) => Known::Value(datum.abbreviated()),
                None => Known::Unknown,
            },
        };
        if let Some(place) = self.known.get_mut(usize::from(id)) {
            *place = known;
        }
        known
    }

    /// Whether something was looked for in vain that the old row should hold.
    pub(super) fn lacks_identity(&self, sources: &Sources, relation: &Relation) -> bool {
        let is_held = |source: &Source| {
            let column = relation.columns.get(source.column);
            relation.is_full() || column.is_some_and(|column| column.identity)
        };
        let mut read = self.known.iter().zip(&sources.list);
        read.any(|(known, source)| matches!(known, Known::Absent | Known::Unknown) && is_held(source))
    }

    /// The value of a source, where what is known of it does not tell it.
    pub(super) fn datum(&self, id: SourceId, sources: &Sources) -> Option<Datum<'r>> {
        sources.read(id, self.row.row())
    }

    /// The key of a source's value that is known.
    #[inline]
    pub(super) fn key(&self, id: SourceId, known: Abbreviated, sources: &Sources) -> Key {
        if known.exact {
            return Key {
                bits: known.place,
                exact: true,
            };
        }
        let datum = self.datum(id, sources);
        Key {
            bits: datum.map_or(0, |datum| sources.seed.hash_one(datum)),
            exact: false,
        }
    }
}

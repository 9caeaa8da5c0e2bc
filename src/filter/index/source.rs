//! [`Sources`], what the predicates read of a row, and [`Seen`], what was found there: each once per change.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use crate::event::Relation;
use crate::filter::eval::{Operand, operand};
use crate::filter::look::Look;
use crate::filter::matcher::Source;
use crate::filter::parts::Parts;
use crate::filter::row::{Cell, Row};
use crate::filter::scalar::Scalar;
use crate::types::{Abbreviated, Datum, Exhausted, Failure, Reading, Work};

/// The number of a source: a value of a row that predicates compare.
pub(super) type SourceId = u16;

/// The values that predicates read: columns, each by each reading that they compare it as, and what is computed of
/// them; and how values are hashed.
#[derive(Debug, Default)]
pub(super) struct Sources {
    list: Vec<Held>,
    ids: HashMap<Scalar, SourceId>,
    /// The numbers of those that nobody reads any more.
    free: Vec<SourceId>,
    /// The parts of documents that the predicates read, also where they are not filed by them.
    pub(super) parts: Parts,
    seed: RandomState,
}

#[derive(Debug)]
struct Held {
    /// `None` if nobody reads it any more.
    scalar: Option<Scalar>,
    /// The number of tests that read it; not counted for columns, of which there are few.
    uses: u32,
    /// It is true or false.
    is_bool: bool,
}

/// So many sources have numbers; what else predicates compute is read by each for itself.
const MAX_SOURCES: usize = 60_000;

/// A value as the key of a hash table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The value's place in its order if that is exact, else a hash of it.
    pub(super) bits: u64,
    /// True if no other value has the same key.
    pub(super) exact: bool,
}

impl Sources {
    /// The number of a column, a new one if need be. (Postgres has at most 1600 columns, each with a few readings.)
    pub(super) fn id(&mut self, source: Source) -> SourceId {
        let scalar = Scalar::Column(source);
        match self.ids.get(&scalar) {
            Some(id) => *id,
            None => self.insert(scalar, source.reading == Reading::Bool),
        }
    }

    /// The source of a test for null, which reads nothing.
    pub(super) fn of_null(&mut self, column: usize) -> SourceId {
        let reading = Reading::Text;
        self.id(Source { column, reading })
    }

    /// The number of what is computed, for one test more; `None` if there are too many others.
    pub(super) fn hold(&mut self, scalar: &Scalar, is_bool: bool) -> Option<SourceId> {
        let id = match self.ids.get(scalar) {
            Some(id) => *id,
            None if self.list.len() - self.free.len() >= MAX_SOURCES => return None,
            None => {
                self.parts.add_scalar(scalar);
                self.insert(scalar.clone(), is_bool)
            }
        };
        if let Some(held) = self.list.get_mut(usize::from(id)) {
            held.uses += 1;
        }
        Some(id)
    }

    /// The number of what some test [holds](Sources::hold).
    pub(super) fn find(&self, scalar: &Scalar) -> Option<SourceId> {
        self.ids.get(scalar).copied()
    }

    /// A test that has it is gone. Of columns nothing is forgotten.
    pub(super) fn release(&mut self, id: SourceId) {
        let Some(held) = self.list.get_mut(usize::from(id)) else {
            return;
        };
        if let Some(Scalar::Column(_)) | None = held.scalar {
            return;
        }
        held.uses -= 1;
        if held.uses == 0
            && let Some(scalar) = held.scalar.take()
        {
            self.parts.remove_scalar(&scalar);
            self.ids.remove(&scalar);
            self.free.push(id);
        }
    }

    fn insert(&mut self, scalar: Scalar, is_bool: bool) -> SourceId {
        let held = Held {
            scalar: Some(scalar.clone()),
            uses: 0,
            is_bool,
        };
        let id = match self.free.pop() {
            Some(id) => id,
            None => self.list.len() as SourceId,
        };
        match self.list.get_mut(usize::from(id)) {
            Some(place) => *place = held,
            None => self.list.push(held),
        }
        self.ids.insert(scalar, id);
        id
    }

    /// Adds the columns that a source is made of. True if it is a column itself.
    pub(super) fn columns_of(&self, id: SourceId, columns: &mut Vec<usize>) -> bool {
        let scalar = self.scalar(id);
        scalar.inspect(|scalar| scalar.columns(columns));
        matches!(scalar, Some(Scalar::Column(_)))
    }

    fn scalar(&self, id: SourceId) -> Option<&Scalar> {
        self.list.get(usize::from(id))?.scalar.as_ref()
    }

    /// True if it holds true and false only.
    pub(super) fn is_bool(&self, id: SourceId) -> bool {
        self.list.get(usize::from(id)).is_some_and(|held| held.is_bool)
    }

    /// Tells whether a row may have no such value.
    pub(super) fn may_fail(&self, id: SourceId) -> bool {
        self.scalar(id).is_some_and(Scalar::may_fail)
    }

    /// The columns that it is of.
    pub(super) fn columns(&self, id: SourceId, out: &mut Vec<usize>) {
        if let Some(scalar) = self.scalar(id) {
            scalar.columns(out);
        }
    }

    pub(super) fn key(&self, datum: &Datum<'_>) -> Key {
        let Abbreviated { place, exact } = datum.abbreviated();
        Key {
            bits: if exact { place } else { self.seed.hash_one(datum) },
            exact,
        }
    }

    /// The value of a column in a row, if that is known.
    pub(super) fn read<'r>(&self, id: SourceId, row: &Row<'r>) -> Option<Datum<'r>> {
        let Some(Scalar::Column(source)) = self.scalar(id) else {
            return None;
        };
        match row.get(source.column) {
            Cell::Text(text) => source.reading.read(text),
            _ => None,
        }
    }

    /// A number that nobody outside can foresee.
    pub(super) fn secret(&self) -> u64 {
        self.seed.hash_one(0)
    }

    /// Tells whether every trace of computed values is gone.
    #[cfg(test)]
    pub(super) fn holds_nothing(&self) -> bool {
        let mut held = self.list.iter().filter_map(|held| held.scalar.as_ref());
        held.all(|scalar| matches!(scalar, Scalar::Column(_))) && self.parts.holds_nothing()
    }
}

/// Everything that is known of a source's value.
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
    /// There is none: Postgres fails to make it.
    Fails,
    /// It cannot be made here, though some server may.
    Unclear,
    /// To look for it takes more work than there may be now.
    Exhausted,
}

/// A row, and what was read of it.
#[derive(Debug)]
pub(super) struct Seen<'r> {
    pub(super) row: Look<'r>,
    sources: &'r Sources,
    known: Vec<Known>,
    /// Computed values that their places do not tell.
    values: HashTable<(SourceId, Datum<'r>)>,
    /// The hashes of long values.
    hashes: HashTable<(SourceId, u64)>,
}

fn spread(id: SourceId) -> u64 {
    u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A value of more bytes is hashed once.
const LONG: usize = 64;

impl<'r> Seen<'r> {
    /// A row, of which nothing was read; `space` is used for what will be.
    pub(super) fn new(row: Row<'r>, work: &'r Work, sources: &'r Sources, mut space: Vec<Known>) -> Seen<'r> {
        space.clear();
        space.resize(sources.list.len(), Known::Unread);
        Seen {
            row: Look::with_parts(row, work, &sources.parts),
            sources,
            known: space,
            values: HashTable::new(),
            hashes: HashTable::new(),
        }
    }

    /// Gives the space back.
    pub(super) fn into_space(self) -> Vec<Known> {
        self.known
    }

    /// Everything that is known of a source's value.
    #[inline]
    pub(super) fn known(&mut self, id: SourceId) -> Known {
        match self.known.get(usize::from(id)) {
            Some(Known::Unread) | None => self.read(id),
            Some(known) => *known,
        }
    }

    /// Tells whether it was looked for.
    #[inline]
    pub(super) fn is_read(&self, id: SourceId) -> bool {
        !matches!(self.known.get(usize::from(id)), Some(Known::Unread) | None)
    }

    fn read(&mut self, id: SourceId) -> Known {
        let known = match self.sources.scalar(id) {
            None => return Known::Absent,
            // Of a text nothing is read before it is compared, and then no more than the other has.
            Some(Scalar::Column(Source {
                column,
                reading: Reading::Text,
            })) => match self.row.get(*column) {
                Cell::Text(text) => Known::Value(text_of(text).abbreviated()),
                Cell::Null => Known::Null,
                Cell::Unchanged => Known::Unknown,
                Cell::Absent => Known::Absent,
            },
            Some(Scalar::Column(source)) => match operand(*source, &self.row) {
                Operand::Value(datum) => Known::Value(datum.abbreviated()),
                other => Known::without_value(&other),
            },
            Some(scalar) => match scalar.read(&self.row) {
                Operand::Value(datum) => self.keep(id, datum),
                Operand::Is(datum) => self.keep(id, datum.borrowed()),
                other => Known::without_value(&other),
            },
        };
        // With more work it may be found.
        if known == Known::Absent && self.row.work().is_exhausted() {
            return Known::Exhausted;
        }
        if let Some(place) = self.known.get_mut(usize::from(id)) {
            *place = known;
        }
        known
    }

    fn keep(&mut self, id: SourceId, datum: Datum<'r>) -> Known {
        let abbreviated = datum.abbreviated();
        if !abbreviated.exact && !self.row.work().is_exhausted() {
            self.values
                .insert_unique(spread(id), (id, datum), |(id, _)| spread(*id));
        }
        Known::Value(abbreviated)
    }

    /// True if something was looked for in vain that the old row should hold.
    pub(super) fn lacks_identity(&self, relation: &Relation) -> bool {
        let is_held = |column: usize| {
            let column = relation.columns.get(column);
            relation.is_full() || column.is_some_and(|column| column.identity)
        };
        let read = self.known.iter().zip(&self.sources.list);
        let mut columns = Vec::new();
        let mut in_vain = read.filter(|(known, _)| matches!(known, Known::Absent | Known::Unknown));
        in_vain.any(|(_, held)| match &held.scalar {
            Some(Scalar::Column(source)) => is_held(source.column),
            Some(scalar) => {
                columns.clear();
                scalar.columns(&mut columns);
                columns.iter().any(|&column| is_held(column))
            }
            None => false,
        })
    }

    /// The order of a source's value to another one, where their places are equal and do not tell it.
    pub(super) fn order(&self, id: SourceId, other: &Datum<'_>) -> std::cmp::Ordering {
        let computed = self.values.find(spread(id), |(known, _)| *known == id);
        match computed {
            Some((_, datum)) => datum.cmp(other),
            None => match self.column(id) {
                Some(datum) => datum.cmp(other),
                None => std::cmp::Ordering::Equal,
            },
        }
    }

    fn column(&self, id: SourceId) -> Option<Datum<'r>> {
        match self.sources.scalar(id)? {
            Scalar::Column(source) => match self.row.get(source.column) {
                Cell::Text(text) => source.reading.read(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// The key of a source's value that is known.
    ///
    /// # Errors
    /// To find it takes more work than there may be.
    #[inline]
    pub(super) fn key(&mut self, id: SourceId, known: Abbreviated) -> Result<Key, Exhausted> {
        if known.exact {
            return Ok(Key {
                bits: known.place,
                exact: true,
            });
        }
        self.hash(id).map(|bits| Key { bits, exact: false })
    }

    fn hash(&mut self, id: SourceId) -> Result<u64, Exhausted> {
        if let Some((_, hash)) = self.hashes.find(spread(id), |(known, _)| *known == id) {
            return Ok(*hash);
        }
        let column;
        let datum = match self.values.find(spread(id), |(known, _)| *known == id) {
            Some((_, datum)) => Some(datum),
            None => {
                column = self.column(id);
                column.as_ref()
            }
        };
        let bytes = match datum {
            Some(Datum::Text(text) | Datum::Bytea(text) | Datum::Bit(text)) => text.len(),
            Some(Datum::Numeric(_)) => LONG + 1,
            _ => 0,
        };
        if bytes > LONG {
            self.row.spend(bytes)?;
        }
        let hash = datum.map_or(0, |datum| self.sources.seed.hash_one(datum));
        if bytes > LONG {
            self.hashes
                .insert_unique(spread(id), (id, hash), |(id, _)| spread(*id));
        }
        Ok(hash)
    }
}

fn text_of(text: &[u8]) -> Datum<'_> {
    Datum::Text(Cow::Borrowed(text))
}

impl Known {
    /// The same of an operand that has no value, or none that is known.
    fn without_value(operand: &Operand<'_>) -> Known {
        match operand {
            Operand::Null => Known::Null,
            Operand::Unknown => Known::Unknown,
            Operand::None(Failure::Fails) => Known::Fails,
            Operand::None(Failure::Unclear) => Known::Unclear,
            Operand::Absent | Operand::Value(_) | Operand::Is(_) => Known::Absent,
        }
    }
}

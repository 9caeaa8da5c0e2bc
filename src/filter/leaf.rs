//! [`Leaf`]: a test of a row's value that is more than to compare a column with a value.

use std::sync::Arc;

use super::eval::{Operand, compare, holds, is_in, operand};
use super::look::Look;
use super::matcher::Comparison;
use super::scalar::{Scalar, text_of};
use super::truth::{Possible, Truth};
use crate::types::{
    Array, ArrayRef, ArraySet, ArraySize, ArrayText, Datum, Document, JsonForm, Jsonb, Malformed, Pattern,
    Reading,
};

/// A test of one of a row's values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Leaf {
    pub(super) left: Scalar,
    pub(super) test: Test,
    pub(super) negated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Test {
    /// `IS NULL` of a part; that of a column is a node of its own, as are these three.
    IsNull,
    Compare {
        comparison: Comparison,
        right: Datum<'static>,
    },
    With {
        comparison: Comparison,
        right: Scalar,
    },
    In {
        /// Sorted.
        values: Arc<[Datum<'static>]>,
        or_null: bool,
    },
    /// `LIKE`, `ILIKE`
    Like(Pattern),
    /// True if a label of an enumeration is one of these. A label that is not known may be.
    Label {
        /// Sorted.
        among: Box<[Box<[u8]>]>,
        /// All others that are known, sorted.
        known: Box<[Box<[u8]>]>,
    },
    /// The order of two labels of an enumeration. One that is not known may be anywhere in it.
    Labels {
        comparison: Comparison,
        right: Scalar,
        /// In their declared order.
        labels: Box<[Box<[u8]>]>,
    },
    /// `item comparison ANY (array)`; the column is the array.
    Any {
        item: Item,
        comparison: Comparison,
        elements: ElementsAs,
    },
    /// An array against another.
    Array {
        operator: ArrayOperator,
        right: ArraySide,
        elements: ElementsAs,
    },
    /// A `jsonb` against another.
    Document {
        operator: DocumentOperator,
        right: DocumentSide,
    },
    /// `?`
    HasKey(Box<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum DocumentOperator {
    Equals,
    Contains,
    IsContained,
}

impl DocumentOperator {
    /// The same operator with its sides exchanged.
    pub(super) fn mirrored(self) -> DocumentOperator {
        match self {
            DocumentOperator::Equals => DocumentOperator::Equals,
            DocumentOperator::Contains => DocumentOperator::IsContained,
            DocumentOperator::IsContained => DocumentOperator::Contains,
        }
    }

    /// True if it holds; `None` if that cannot be told.
    fn holds(self, left: Document<'_>, right: Document<'_>, row: &Look<'_>) -> Option<bool> {
        let holds = match self {
            DocumentOperator::Equals => {
                row.spend(left.raw().len()).ok()?;
                left.equals(right)
            }
            DocumentOperator::Contains => left.contains(right, row.work()),
            DocumentOperator::IsContained => right.contains(left, row.work()),
        };
        holds.ok()
    }
}

/// The right side of an operator of documents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum DocumentSide {
    Constant(Jsonb),
    Value(Scalar),
}

/// The item that ANY compares with an array's elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Item {
    Null,
    Constant(Datum<'static>),
    Value(Scalar),
}

/// The way in which the elements of arrays are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ElementsAs {
    pub(super) reading: Reading,
    pub(super) delimiter: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ArrayOperator {
    Compare(Comparison),
    Contains,
    IsContained,
    Overlaps,
}

impl ArrayOperator {
    /// The same operator with its sides exchanged.
    pub(super) fn mirrored(self) -> ArrayOperator {
        match self {
            ArrayOperator::Compare(comparison) => ArrayOperator::Compare(comparison.mirrored()),
            ArrayOperator::Contains => ArrayOperator::IsContained,
            ArrayOperator::IsContained => ArrayOperator::Contains,
            ArrayOperator::Overlaps => ArrayOperator::Overlaps,
        }
    }
}

/// The right side of an operator of arrays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ArraySide {
    /// With a comparison.
    Constant(Array),
    /// With any other operator.
    Set(ArraySet),
    Column(usize),
}

impl Leaf {
    /// The values that the test may have for the row.
    pub(super) fn eval(&self, row: &Look<'_>) -> Possible {
        let left = self.left.read(row);
        let possible = match &self.test {
            Test::IsNull => match left {
                Operand::Null => Possible::TRUE,
                Operand::Absent => Possible::KNOWN,
                Operand::None(failure) => failure.into(),
                _ => Possible::FALSE,
            },
            Test::Compare { comparison, right } => compare(&left, *comparison, &Operand::Is(right)),
            Test::With { comparison, right } => compare(&left, *comparison, &right.read(row)),
            Test::In { values, or_null } => is_in(&left, values, *or_null),
            Test::Like(pattern) => text(&left, |text| {
                row.spend(pattern.work(text.len()) as usize).ok()?;
                Some(pattern.matches(text))
            }),
            Test::Label { among, known } => text(&left, |label| {
                let is_in = |list: &[Box<[u8]>]| list.binary_search_by(|known| (**known).cmp(label)).is_ok();
                is_in(among)
                    .then_some(true)
                    .or_else(|| is_in(known).then_some(false))
            }),
            Test::Labels {
                comparison,
                right,
                labels,
            } => {
                let rank = |label: &[u8]| labels.iter().position(|known| **known == *label);
                texts(&left, &right.read(row), |left, right| {
                    Some(holds(*comparison, rank(left)?.cmp(&rank(right)?)))
                })
            }
            Test::Any {
                item,
                comparison,
                elements,
            } => any(&left, item, *comparison, *elements, row),
            Test::Array {
                operator,
                right,
                elements,
            } => match right {
                ArraySide::Constant(right) => text(&left, |left| {
                    row.spend(elements.size(left).reading() as usize).ok()?;
                    operator.holds(elements.of(left), ArrayRef::Constant(right))
                }),
                ArraySide::Set(right) => text(&left, |left| {
                    row.spend(right.work(elements.size(left)) as usize).ok()?;
                    operator.holds_for(elements.of(left), right)
                }),
                ArraySide::Column(column) => texts(&left, &operand(text_of(*column), row), |left, right| {
                    let of_left = elements.size(left);
                    let of_right = elements.size(right);
                    row.spend(of_left.comparing(of_right).max(of_right.comparing(of_left)) as usize)
                        .ok()?;
                    operator.holds(elements.of(left), elements.of(right))
                }),
            },
            Test::Document { operator, right } => match right {
                DocumentSide::Constant(right) => text(&left, |left| {
                    operator.holds(document(left), right.document(), row)
                }),
                DocumentSide::Value(right) => texts(&left, &right.read(row), |left, right| {
                    operator.holds(document(left), document(right), row)
                }),
            },
            Test::HasKey(key) => text(&left, |left| {
                row.spend(left.len()).ok()?;
                document(left).has(key).ok()
            }),
        };
        if self.negated { possible.not() } else { possible }
    }

    /// The columns that it reads.
    pub(super) fn columns(&self, out: &mut Vec<usize>) {
        self.left.columns(out);
        match &self.test {
            Test::Labels { right, .. }
            | Test::With { right, .. }
            | Test::Document {
                right: DocumentSide::Value(right),
                ..
            } => right.columns(out),
            Test::Any {
                item: Item::Value(item),
                ..
            } => item.columns(out),
            Test::Array {
                right: ArraySide::Column(column),
                ..
            } => out.push(*column),
            _ => {}
        }
    }
}

/// The outcome of a test of a value's text; `None` is either, but not null.
fn text(operand: &Operand<'_>, test: impl Fn(&[u8]) -> Option<bool>) -> Possible {
    match operand {
        Operand::Null => Possible::NULL,
        Operand::Absent => Possible::ANY,
        Operand::None(failure) => (*failure).into(),
        operand => match operand.text().and_then(test) {
            Some(holds) => Truth::from(holds).into(),
            None => Possible::KNOWN,
        },
    }
}

/// The outcome of a test of two values' texts.
fn texts(left: &Operand<'_>, right: &Operand<'_>, test: impl Fn(&[u8], &[u8]) -> Option<bool>) -> Possible {
    match (left, right) {
        (Operand::None(failure), _) | (_, Operand::None(failure)) => (*failure).into(),
        (Operand::Null, _) | (_, Operand::Null) => Possible::NULL,
        (Operand::Absent, _) | (_, Operand::Absent) => Possible::ANY,
        (left, right) => text(left, |left| test(left, right.text()?)),
    }
}

fn document(text: &[u8]) -> Document<'_> {
    Document::new(text, JsonForm::Jsonb)
}

fn any(
    left: &Operand<'_>,
    item: &Item,
    comparison: Comparison,
    elements: ElementsAs,
    row: &Look<'_>,
) -> Possible {
    let array = match left {
        // Postgres computes the item all the same.
        Operand::Null => {
            return match item {
                Item::Value(item) => match item.read(row) {
                    Operand::None(failure) => failure.into(),
                    _ => Possible::NULL,
                },
                _ => Possible::NULL,
            };
        }
        Operand::Value(Datum::Text(text)) if row.spend(elements.size(text).reading() as usize).is_ok() => {
            elements.of(text)
        }
        _ => return Possible::ANY,
    };
    let any = |item: &Datum<'_>| array.any(|element| holds(comparison, item.cmp(element)));
    let found = match item {
        Item::Constant(item) => any(item),
        Item::Null => none(array),
        Item::Value(item) => match item.read(row) {
            Operand::Value(item) => any(&item),
            Operand::Is(item) => any(item),
            Operand::None(failure) => return failure.into(),
            Operand::Null => none(array),
            _ => return Possible::ANY,
        },
    };
    match found {
        Ok(Some(found)) => Truth::from(found).into(),
        Ok(None) => Possible::NULL,
        Err(Malformed) => Possible::ANY,
    }
}

/// The outcome of ANY for a null on its left.
fn none(array: ArrayRef<'_>) -> Result<Option<bool>, Malformed> {
    Ok(array.is_empty()?.then_some(false))
}

impl ElementsAs {
    fn of(self, text: &[u8]) -> ArrayRef<'_> {
        ArrayRef::Text(ArrayText::new(text, self.delimiter), self.reading)
    }

    fn size(self, text: &[u8]) -> ArraySize {
        ArraySize::of(text, self.delimiter)
    }
}

impl ArrayOperator {
    /// True if it holds; `None` if one of the texts is no array's, which no server sends.
    fn holds(self, left: ArrayRef<'_>, right: ArrayRef<'_>) -> Option<bool> {
        let holds = match self {
            ArrayOperator::Compare(Comparison::Equal) => left.equals(right),
            ArrayOperator::Compare(Comparison::NotEqual) => left.equals(right).map(|equal| !equal),
            ArrayOperator::Compare(comparison) => left.compare(right).map(|order| holds(comparison, order)),
            ArrayOperator::Contains => left.contains(right),
            ArrayOperator::IsContained => right.contains(left),
            ArrayOperator::Overlaps => left.overlaps(right),
        };
        holds.ok()
    }

    /// The same with a set on the right, which no comparison has.
    fn holds_for(self, left: ArrayRef<'_>, right: &ArraySet) -> Option<bool> {
        let holds = match self {
            ArrayOperator::Contains => left.contains_set(right),
            ArrayOperator::IsContained => left.is_within_set(right),
            ArrayOperator::Overlaps => left.overlaps_set(right),
            ArrayOperator::Compare(_) => return None,
        };
        holds.ok()
    }
}

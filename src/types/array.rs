//! [`Array`], a constant, and [`ArrayRef`]: what arrays mean to `=`, `@>`, `<@`, `&&` and ANY (`arrayfuncs.c`).

use std::cmp::Ordering;

use super::parse::literal;
use super::{ArrayText, Datum, Dimension, Dimensions, Elements, Kind, LiteralError, Malformed, Reading};

/// An array that owns its elements.
///
/// Equal arrays are equal in Postgres; their order here is for collections and means nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Array {
    dimensions: Dimensions,
    elements: Box<[Option<Datum<'static>>]>,
}

impl Array {
    /// `ARRAY[…]`: one dimension from 1, or none without elements. `None` stands for null.
    pub fn new(elements: Vec<Option<Datum<'static>>>) -> Array {
        let length = u32::try_from(elements.len()).unwrap_or(u32::MAX);
        let dimension = Dimension { lower: 1, length };
        Array {
            dimensions: if elements.is_empty() {
                Dimensions::default()
            } else {
                Dimensions::one(dimension)
            },
            elements: elements.into(),
        }
    }

    /// The value of a quoted literal as an array of elements of that kind.
    ///
    /// Blanks may stand around elements and braces as everywhere in Postgres. A backslash outside of quotes, blanks
    /// within the bounds and nested empty arrays are refused: servers differ, or will.
    pub fn literal(element: &Kind, text: &str) -> Result<Array, LiteralError> {
        let unclear = || LiteralError::NotPlain {
            ty: "array",
            text: text.to_owned(),
            example: "{1,2,NULL}",
        };
        let plain = plain(text.as_bytes(), element.delimiter()).ok_or_else(unclear)?;
        let array = ArrayText::new(&plain, element.delimiter());
        let dimensions = array.dimensions().map_err(|Malformed| unclear())?;
        let mut elements = Vec::new();
        for item in array.elements() {
            let item = item.map_err(|Malformed| unclear())?;
            let item = item.map(|text| {
                let text = std::str::from_utf8(&text).map_err(|_| unclear())?;
                literal(element, text)
            });
            elements.push(item.transpose()?);
        }
        Ok(Array {
            dimensions,
            elements: elements.into(),
        })
    }

    /// The elements in the order of their storage; `None` is a null.
    pub fn elements(&self) -> &[Option<Datum<'static>>] {
        &self.elements
    }
}

/// A literal as the server would print it but for escapes and quotes that it would not need.
fn plain(text: &[u8], delimiter: u8) -> Option<Vec<u8>> {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let mut rest = text.trim_ascii_start();
    let mut out = Vec::with_capacity(text.len());
    if rest.first() == Some(&b'[') {
        let (bounds, after) = rest.split_at_checked(rest.iter().position(|b| *b == b'=')? + 1)?;
        if bounds.iter().any(is_blank) {
            return None;
        }
        out.extend_from_slice(bounds);
        rest = after;
    }
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            byte if is_blank(byte) => after,
            byte if matches!(byte, b'{' | b'}') || *byte == delimiter => {
                out.push(*byte);
                after
            }
            b'"' => {
                let mut end = 1;
                loop {
                    end += match rest.get(end)? {
                        b'"' => break,
                        b'\\' => 2,
                        _ => 1,
                    };
                }
                let (quoted, after) = rest.split_at_checked(end + 1)?;
                if after.first() == Some(&b'"') {
                    return None;
                }
                out.extend_from_slice(quoted);
                after
            }
            _ => {
                let is_end = |b: &u8| *b == delimiter || matches!(b, b'{' | b'}' | b'"' | b'\\');
                let (item, after) = rest.split_at_checked(rest.iter().position(is_end)?)?;
                if matches!(after.first(), Some(b'"' | b'\\')) {
                    return None;
                }
                let blanks = item.iter().rev().take_while(|b| is_blank(b)).count();
                let item = item.get(..item.len() - blanks)?;
                if item.eq_ignore_ascii_case(b"null") {
                    out.extend_from_slice(b"NULL");
                } else {
                    out.extend_from_slice(item);
                }
                after
            }
        };
    }
    Some(out)
}

/// The values of an array in their order and once each, to which `@>`, `<@` and `&&` compare another array without
/// going through all of them for each of its elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArraySet {
    values: Box<[Datum<'static>]>,
    has_null: bool,
}

impl From<Array> for ArraySet {
    fn from(array: Array) -> ArraySet {
        let has_null = array.elements.contains(&None);
        let values = sorted(array.elements.into_iter().flatten().collect());
        ArraySet {
            values: values.into(),
            has_null,
        }
    }
}

impl ArraySet {
    /// The number of values, nulls aside.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// About how much work it is to compare an array of that size to it.
    pub fn work(&self, array: ArraySize) -> u64 {
        array.reading().saturating_add(array.finding(self.len()))
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let own: usize = self.values.iter().map(Datum::bytes).sum();
        own + size_of_val(&*self.values)
    }

    /// True if there are none, nulls aside.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

/// The size of an array, as far as it decides how much work it is. In about nanoseconds; the constants are from
/// `cargo bench --bench work arrays`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArraySize {
    /// The bytes of its text.
    pub bytes: usize,
    /// The number of its elements, or more.
    pub elements: usize,
}

/// The work of reading an element, beside its text, and of comparing it to one other.
const ELEMENT: u64 = 40;
/// The work of a step of a search among sorted values, or of sorting them.
const STEP: u64 = 15;

impl ArraySize {
    /// That of an array of this text.
    pub fn of(text: &[u8], delimiter: u8) -> ArraySize {
        ArraySize {
            bytes: text.len(),
            elements: memchr::memchr_iter(delimiter, text).count() + 1,
        }
    }

    /// About how much work it is to read the elements, and to compare each to one other.
    pub fn reading(self) -> u64 {
        let elements = (self.elements as u64).saturating_mul(ELEMENT);
        elements.saturating_add(self.bytes as u64)
    }

    /// About how much work it is to find each of the elements among so many sorted ones, or to sort so many of them.
    pub fn finding(self, among: usize) -> u64 {
        let steps = 1 + u64::from(among.checked_ilog2().unwrap_or(0));
        let elements = (self.elements as u64).saturating_mul(STEP);
        // Long values may begin alike.
        elements
            .saturating_add(self.bytes as u64 / 4)
            .saturating_mul(steps)
    }

    /// About how much work it is to compare it to another one by an operator for which that is sorted.
    pub fn comparing(self, other: ArraySize) -> u64 {
        let reading = self.reading().saturating_add(other.reading());
        let sorting = other.finding(other.elements);
        reading
            .saturating_add(sorting)
            .saturating_add(self.finding(other.elements))
    }
}

fn sorted(mut values: Vec<Datum<'_>>) -> Vec<Datum<'_>> {
    values.sort_unstable();
    values.dedup();
    values
}

/// The place of a value among sorted ones.
fn place(values: &[Datum<'_>], wanted: &Datum<'_>) -> Option<usize> {
    values.binary_search_by(|value| value.cmp(wanted)).ok()
}

/// An array of either side of an operator: of a row, or a constant. Both sides' elements are read as the same type.
#[derive(Clone, Copy, Debug)]
pub enum ArrayRef<'a> {
    /// From a row, and how its elements are read.
    Text(ArrayText<'a>, Reading),
    /// A constant.
    Constant(&'a Array),
}

impl<'a> ArrayRef<'a> {
    /// `=`: the same elements in the same dimensions with the same bounds; nulls are equal to one another.
    pub fn equals(self, other: ArrayRef<'_>) -> Result<bool, Malformed> {
        // Elements tell arrays apart soonest.
        let mut left = self.data();
        let mut right = other.data();
        loop {
            match (left.next().transpose()?, right.next().transpose()?) {
                (None, None) => return Ok(self.dimensions()? == other.dimensions()?),
                (Some(left), Some(right)) if left == right => {}
                _ => return Ok(false),
            }
        }
    }

    /// The order of `<` and its kin: by elements, nulls last, then by how many there are, then by dimensions.
    pub fn compare(self, other: ArrayRef<'_>) -> Result<Ordering, Malformed> {
        let mut left = self.data();
        let mut right = other.data();
        let by_length = loop {
            let order = match (left.next().transpose()?, right.next().transpose()?) {
                (None, right) => break right.map_or(Ordering::Equal, |_| Ordering::Less),
                (Some(_), None) => break Ordering::Greater,
                (Some(None), Some(None)) => Ordering::Equal,
                (Some(None), Some(Some(_))) => Ordering::Greater,
                (Some(Some(_)), Some(None)) => Ordering::Less,
                (Some(Some(left)), Some(Some(right))) => left.cmp(&right),
            };
            if order.is_ne() {
                return Ok(order);
            }
        };
        let left = self.dimensions()?;
        let right = other.dimensions()?;
        let lengths = |of: &Dimensions| of.map(|dimension| dimension.length);
        let lowers = |of: &Dimensions| of.map(|dimension| dimension.lower);
        Ok(by_length
            .then_with(|| left.len().cmp(&right.len()))
            .then_with(|| lengths(&left).cmp(&lengths(&right)))
            .then_with(|| lowers(&left).cmp(&lowers(&right))))
    }

    /// `@>` (and `<@` from the other side): every element of the other is one of these; a null is none.
    pub fn contains(self, other: ArrayRef<'_>) -> Result<bool, Malformed> {
        let mut wanted = Vec::new();
        for item in other.data() {
            match item? {
                None => return Ok(false),
                Some(item) => wanted.push(item),
            }
        }
        self.contains_all(&sorted(wanted))
    }

    /// `@>` of a set.
    pub fn contains_set(self, set: &ArraySet) -> Result<bool, Malformed> {
        if set.has_null {
            return Ok(false);
        }
        self.contains_all(&set.values)
    }

    /// True if all of these values, which are sorted and distinct, are among the elements.
    fn contains_all(self, wanted: &[Datum<'_>]) -> Result<bool, Malformed> {
        let mut missing = wanted.len();
        if missing == 0 {
            return Ok(true);
        }
        // Most sets have few values: their marks need no memory of their own.
        let mut few = 0u64;
        let mut many = vec![0u64; missing.saturating_sub(1) / 64];
        for item in self.data() {
            let Some(at) = item?.and_then(|item| place(wanted, &item)) else {
                continue;
            };
            let mark = match at.checked_sub(64) {
                None => Some(&mut few),
                Some(beyond) => many.get_mut(beyond / 64),
            };
            if let Some(mark) = mark.filter(|mark| **mark & 1 << (at % 64) == 0) {
                *mark |= 1 << (at % 64);
                missing -= 1;
                if missing == 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// `<@` of a set: every element is one of its values.
    pub fn is_within_set(self, set: &ArraySet) -> Result<bool, Malformed> {
        for item in self.data() {
            if item?.is_none_or(|item| place(&set.values, &item).is_none()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `&&`: an element of the other is one of these; a null is none.
    pub fn overlaps(self, other: ArrayRef<'_>) -> Result<bool, Malformed> {
        let mut values = Vec::new();
        for item in other.data() {
            values.extend(item?);
        }
        self.overlaps_any(&sorted(values))
    }

    /// `&&` of a set.
    pub fn overlaps_set(self, set: &ArraySet) -> Result<bool, Malformed> {
        self.overlaps_any(&set.values)
    }

    fn overlaps_any(self, values: &[Datum<'_>]) -> Result<bool, Malformed> {
        if values.is_empty() {
            return Ok(false);
        }
        for item in self.data() {
            if item?.is_some_and(|item| place(values, &item).is_some()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// ANY: whether the condition holds for an element. `None` is SQL's null: it holds for none that is known, and
    /// there are nulls. (A null on the left of `= ANY` makes null of any array but an empty one.)
    pub fn any(self, mut holds: impl FnMut(&Datum<'_>) -> bool) -> Result<Option<bool>, Malformed> {
        let mut answer = Some(false);
        for item in self.data() {
            match item? {
                None => answer = None,
                Some(element) if holds(&element) => return Ok(Some(true)),
                Some(_) => {}
            }
        }
        Ok(answer)
    }

    /// True if it has no elements.
    pub fn is_empty(self) -> Result<bool, Malformed> {
        Ok(self.data().next().transpose()?.is_none())
    }

    fn dimensions(self) -> Result<Dimensions, Malformed> {
        match self {
            ArrayRef::Text(text, _) => text.dimensions(),
            ArrayRef::Constant(array) => Ok(array.dimensions),
        }
    }

    fn data(self) -> Data<'a> {
        match self {
            ArrayRef::Text(text, reading) => Data::Text(text.elements(), reading),
            ArrayRef::Constant(array) => Data::Constant(array.elements.iter()),
        }
    }
}

/// The elements of an [`ArrayRef`].
enum Data<'a> {
    Text(Elements<'a>, Reading),
    Constant(std::slice::Iter<'a, Option<Datum<'static>>>),
}

impl<'a> Iterator for Data<'a> {
    type Item = Result<Option<Datum<'a>>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        use std::borrow::Cow::{Borrowed, Owned};
        let (elements, reading) = match self {
            Data::Text(elements, reading) => (elements, reading),
            Data::Constant(elements) => {
                let element = elements.next()?;
                return Some(Ok(element.as_ref().map(Datum::borrowed)));
            }
        };
        Some(elements.next()?.and_then(|element| {
            let datum = match element {
                None => return Ok(None),
                Some(Borrowed(text)) => reading.read(text),
                Some(Owned(text)) => reading.read(&text).map(Datum::into_owned),
            };
            datum.ok_or(Malformed).map(Some)
        }))
    }
}

#[cfg(test)]
#[path = "array_tests.rs"]
mod tests;

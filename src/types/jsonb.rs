//! [`Document`]: what `->`, `->>`, `#>`, `#>>`, `@>`, `?` and `=` make of `json` and `jsonb`, read from their text in
//! place.
//!
//! A `jsonb` is printed in one way only: keys in one order, none twice, one spelling of each string. So strings and
//! objects are compared as they are written, and but for numbers (1.0 is 1.00) equal values have equal texts.

use std::borrow::Cow;

use super::json_error::{JsonError, MAX_DEPTH};
use super::json_read::{Children, Shape, is_text, split_value, unescape, without_blanks};
use super::jsonb_compare::{any, contains, has_scalar, is_equal, is_equal_scalar};
use super::{Malformed, Work};

/// The number of steps that a path may have.
const MAX_STEPS: usize = 100;

/// The type of a document, of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JsonForm {
    /// `json`: as it was written; a key may stand twice.
    Json,
    /// `jsonb`
    Jsonb,
}

/// A value of type `json` or `jsonb`, or what an operator took out of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Document<'a> {
    text: &'a [u8],
    form: JsonForm,
}

/// A step of a path: a key in objects, and if it is a number an index in arrays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Step<K = Box<[u8]>> {
    key: Option<K>,
    index: Option<i32>,
}

/// The right side of `#>` and `#>>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Box<[Step]>);

impl Path {
    /// A path of these texts; `None` if there are more than 100. (A path with a null leads to null.)
    pub fn new<'a>(steps: impl IntoIterator<Item = &'a str>) -> Option<Path> {
        let steps = steps.into_iter().take(MAX_STEPS + 1).map(|text| Step {
            key: Some(text.as_bytes().into()),
            index: index(text),
        });
        let steps: Box<[Step]> = steps.collect();
        (steps.len() <= MAX_STEPS).then_some(Path(steps))
    }

    /// Its steps: a key in objects each, and an index in arrays if it is a number.
    pub(super) fn steps(&self) -> impl Iterator<Item = (Option<&[u8]>, Option<i32>)> {
        self.0.iter().map(|step| (step.key.as_deref(), step.index))
    }

    /// The number of its steps that count from the end of an array.
    pub fn counts_back(&self) -> usize {
        let is_negative = |step: &&Step| step.index.is_some_and(|index| index < 0);
        self.0.iter().filter(is_negative).count()
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let keys = self.0.iter().flat_map(|step| &step.key);
        size_of_val(&*self.0) + keys.map(|key| key.len()).sum::<usize>()
    }

    /// True if the path leads to the same place here as there. Of a `json` Postgres counts a negative index of a later
    /// step from the end of the first array at that depth that is long enough, wherever that stands: such a path is
    /// best refused, and [`Document::path`] does not follow it.
    pub fn is_exact(&self, form: JsonForm) -> bool {
        let is_negative = |step: &Step| step.index.is_some_and(|index| index < 0);
        form == JsonForm::Jsonb || !self.0.iter().skip(1).any(is_negative)
    }
}

/// An index as C's `strtol` reads it.
fn index(text: &str) -> Option<i32> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    // The least number means none to Postgres.
    let index = text.parse().ok().filter(|index| *index != i32::MIN);
    is_number.then_some(index).flatten()
}

impl<'a> Document<'a> {
    /// A value as the server prints it.
    pub fn new(text: &'a [u8], form: JsonForm) -> Document<'a> {
        Document { text, form }
    }

    /// The value as it is written.
    pub fn raw(self) -> &'a [u8] {
        self.text
    }

    fn shape(self) -> Result<Shape, Malformed> {
        Shape::of(without_blanks(self.text)).ok_or(Malformed)
    }

    /// The value without blanks around it.
    fn value(self) -> Result<&'a [u8], Malformed> {
        let (value, _) = split_value(without_blanks(self.text)).ok_or(Malformed)?;
        Ok(value)
    }

    /// `-> 'key'`: an object's member; of a `json` with the key twice the last. `None` is null.
    pub fn field(self, key: &str) -> Result<Option<Document<'a>>, JsonError> {
        let key = Some(key.as_bytes());
        self.find(&[Step { key, index: None }])
    }

    /// `-> 1`: an array's element, from 0; negative ones count from the end, from -1. A `jsonb` that is a scalar is its
    /// own only element. `None` is null.
    pub fn element(self, index: i32) -> Result<Option<Document<'a>>, JsonError> {
        let is_scalar = !self.shape()?.is_container();
        if is_scalar && self.form == JsonForm::Jsonb && matches!(index, 0 | -1) {
            return Ok(Some(self));
        }
        let index = Some(index);
        self.find(&[Step::<&[u8]> { key: None, index }])
    }

    /// `#>`: what the path leads to; `None` is null.
    pub fn path(self, path: &Path) -> Result<Option<Document<'a>>, JsonError> {
        if !path.is_exact(self.form) {
            return Err(JsonError::NegativeStep);
        }
        if path.0.is_empty() {
            let value = self.value()?;
            let start = self.text.len() - without_blanks(self.text).len();
            // A scalar keeps the blanks before it.
            let text = match Shape::of(value) {
                Some(Shape::Object | Shape::Array) => value,
                _ => self.text.get(..start + value.len()).ok_or(Malformed)?,
            };
            return Ok(Some(Document { text, ..self }));
        }
        self.find(&path.0)
    }

    fn find<K: AsRef<[u8]>>(self, steps: &[Step<K>]) -> Result<Option<Document<'a>>, JsonError> {
        let text = without_blanks(self.text);
        let found = match self.form {
            JsonForm::Jsonb => find(text, steps)?,
            JsonForm::Json => find_last(text, steps)?.0,
        };
        Ok(found.map(|text| Document { text, ..self }))
    }

    /// The outcome of `->>` and `#>>` for what `->` and `#>` found: a string's text, other values as they are printed;
    /// `None` for null.
    pub fn text(self) -> Result<Option<Cow<'a, [u8]>>, JsonError> {
        let value = self.value()?;
        Ok(match Shape::of(value).ok_or(Malformed)? {
            Shape::Null => None,
            Shape::String => Some(unescape(value).ok_or(Malformed)?),
            _ => Some(Cow::Borrowed(self.text)),
        })
    }

    /// `?`: whether the text is a key of the object, a string of the array, or the string.
    pub fn has(self, text: &str) -> Result<bool, JsonError> {
        let value = without_blanks(self.text);
        let is_it = |string: &[u8]| Ok(string.first() == Some(&b'"') && is_text(string, text.as_bytes())?);
        match self.shape()? {
            Shape::Object => any(Children::of(value), |child| is_it(child.key)),
            Shape::Array => any(Children::of(value), |child| is_it(child.value)),
            _ => is_it(self.value()?),
        }
    }

    /// `=` of two `jsonb`.
    pub fn equals(self, other: Document<'_>) -> Result<bool, JsonError> {
        Ok(self.text == other.text || is_equal(self.text, other.text)?)
    }

    /// `@>` of two `jsonb`, and `<@` from the other side.
    pub fn contains(self, other: Document<'_>, work: &Work) -> Result<bool, JsonError> {
        let shape = self.shape()?;
        let other_shape = other.shape()?;
        match (shape.is_container(), other_shape.is_container()) {
            (true, true) => {
                let value = without_blanks(self.text);
                let other = without_blanks(other.text);
                contains(value, other, MAX_DEPTH, work)
            }
            // An array contains a scalar, but only here: not where they are nested.
            (true, false) if shape == Shape::Array => {
                work.spend(self.text.len())?;
                has_scalar(without_blanks(self.text), other.value()?, other_shape)
            }
            (false, false) => is_equal_scalar(self.value()?, other.value()?).map_err(JsonError::from),
            _ => Ok(false),
        }
    }
}

/// The value that the steps lead to from the `jsonb` that the text starts with. What is not on the way is skipped, and
/// what lies behind is not read.
fn find<'a, K: AsRef<[u8]>>(mut text: &'a [u8], steps: &[Step<K>]) -> Result<Option<&'a [u8]>, JsonError> {
    for step in steps {
        let mut children = Children::of(text);
        let found = match (Shape::of(text).ok_or(Malformed)?, step) {
            (Shape::Object, Step { key: Some(key), .. }) => loop {
                match children.next_start()? {
                    Some(start) if is_text(start.key, key.as_ref())? => break Some(start.text),
                    Some(_) => children.skip_value()?,
                    None => break None,
                }
            },
            (
                Shape::Array,
                Step {
                    index: Some(index), ..
                },
            ) => match place(text, *index)? {
                Some(index) => {
                    for _ in 0..index {
                        if children.next_start()?.is_none() {
                            break;
                        }
                        children.skip_value()?;
                    }
                    children.next_start()?.map(|start| start.text)
                }
                None => None,
            },
            _ => None,
        };
        match found {
            Some(found) => text = found,
            None => return Ok(None),
        }
    }
    let (value, _) = split_value(text).ok_or(Malformed)?;
    Ok(Some(value))
}

/// The value that the steps lead to from the `json` that the text starts with, and what follows that `json`. Of a key
/// that stands twice the last one counts that leads to something.
fn find_last<'a, K: AsRef<[u8]>>(
    text: &'a [u8],
    steps: &[Step<K>],
) -> Result<(Option<&'a [u8]>, &'a [u8]), JsonError> {
    let shape = Shape::of(text).ok_or(Malformed)?;
    let Some((step, steps)) = steps.split_first() else {
        let (value, rest) = split_value(text).ok_or(Malformed)?;
        return Ok((Some(value), rest));
    };
    let (key, index) = match (shape, step) {
        (Shape::Object, Step { key: Some(key), .. }) => (Some(key.as_ref()), None),
        (
            Shape::Array,
            Step {
                index: Some(index), ..
            },
        ) => (None, place(text, *index)?),
        _ => (None, None),
    };
    if let (None, None) = (key, index) {
        let (_, rest) = split_value(text).ok_or(Malformed)?;
        return Ok((None, rest));
    }
    let mut children = Children::of(text);
    let mut found = None;
    let mut at = 0;
    while let Some(start) = children.next_start()? {
        let is_it = match key {
            Some(key) => is_text(start.key, key)?,
            None => index == Some(at),
        };
        if is_it {
            let (deeper, rest) = find_last(start.text, steps)?;
            found = deeper.or(found);
            children.go_on(rest);
        } else {
            children.skip_value()?;
        }
        at += 1;
    }
    Ok((found, children.behind()?))
}

/// The place of an array's element from 0, also where it was counted from the end. (It may be none.)
fn place(array: &[u8], index: i32) -> Result<Option<usize>, Malformed> {
    if let Ok(index) = usize::try_from(index) {
        return Ok(Some(index));
    }
    let back = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
    let mut count = 0usize;
    for child in Children::of(array) {
        child?;
        count += 1;
    }
    Ok(count.checked_sub(back))
}

#[cfg(test)]
#[path = "jsonb_tests.rs"]
mod tests;

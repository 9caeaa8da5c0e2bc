//! [`Document`]: what `->`, `->>`, `#>`, `#>>`, `@>`, `?` and `=` make of `json` and `jsonb`, read from their text in
//! place.
//!
//! A `jsonb` is printed in one way only: keys in one order, none twice, one spelling of each string. So strings and
//! objects are compared as they are written, and but for numbers (1.0 is 1.00) equal values have equal texts.

use std::borrow::Cow;

use super::Malformed;
use super::json_read::{Child, Children, Shape, is_text, number, split_value, unescape, without_blanks};

/// How deep values may nest in a constant, and in containers that are compared: more than people write, and less than a
/// stack holds.
pub(super) const MAX_DEPTH: usize = 256;

/// How many steps a path may have.
const MAX_STEPS: usize = 100;

/// Why a question about a `json` or `jsonb` has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is no JSON, or a string of it has no text in Postgres (`\u0000`), where the server too fails.
    #[error("malformed json")]
    Malformed,
    /// The path counts from the end below the first level of a `json` ([`Path::is_exact`]).
    #[error(
        "a negative index below the first level of a json means different elements in different documents"
    )]
    NegativeStep,
    /// It nests deeper than is followed.
    #[error("json is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl From<Malformed> for JsonError {
    fn from(_: Malformed) -> JsonError {
        JsonError::Malformed
    }
}

/// Which of the two types a document has.
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

    /// Whether the path leads to the same place here as there. Of a `json` Postgres counts a negative index of a later
    /// step from the end of the first array at that depth that is long enough, wherever that stands: such a path is best
    /// refused, and [`Document::path`] does not follow it.
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
        let value = self.value()?;
        let is_scalar = !Shape::of(value).ok_or(Malformed)?.is_container();
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
        let found = find(self.value()?, steps, self.form)?;
        Ok(found.map(|text| Document { text, ..self }))
    }

    /// What `->>` and `#>>` make of what `->` and `#>` found: a string's text, other values as they are printed; `None`
    /// for null.
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
        let value = self.value()?;
        let is_it = |string: &[u8]| Ok(string.first() == Some(&b'"') && is_text(string, text.as_bytes())?);
        match Shape::of(value).ok_or(Malformed)? {
            Shape::Object => any(Children::of(value), |child| is_it(child.key)),
            Shape::Array => any(Children::of(value), |child| is_it(child.value)),
            _ => is_it(value),
        }
    }

    /// `=` of two `jsonb`.
    pub fn equals(self, other: Document<'_>) -> Result<bool, JsonError> {
        Ok(self.text == other.text || is_equal(self.value()?, other.value()?, MAX_DEPTH)?)
    }

    /// `@>` of two `jsonb`, and `<@` from the other side.
    pub fn contains(self, other: Document<'_>) -> Result<bool, JsonError> {
        let (value, other) = (self.value()?, other.value()?);
        let (shape, other_shape) = (
            Shape::of(value).ok_or(Malformed)?,
            Shape::of(other).ok_or(Malformed)?,
        );
        match (shape.is_container(), other_shape.is_container()) {
            (true, true) => contains(value, other, MAX_DEPTH),
            // An array contains a scalar, but only here: not where they are nested.
            (true, false) if shape == Shape::Array => has_scalar(value, other, other_shape),
            (false, false) => is_equal_scalar(value, other).map_err(JsonError::from),
            _ => Ok(false),
        }
    }
}

/// What the steps lead to. Of a key that stands twice the last one counts that leads to something.
fn find<'a, K: AsRef<[u8]>>(
    value: &'a [u8],
    steps: &[Step<K>],
    form: JsonForm,
) -> Result<Option<&'a [u8]>, JsonError> {
    let Some((step, rest)) = steps.split_first() else {
        return Ok(Some(value));
    };
    match (Shape::of(value), step) {
        (Some(Shape::Object), Step { key: Some(key), .. }) => {
            let mut found = None;
            for child in Children::of(value) {
                let child = child?;
                if is_text(child.key, key.as_ref())? {
                    found = find(child.value, rest, form)?.or(found);
                    if form == JsonForm::Jsonb {
                        break;
                    }
                }
            }
            Ok(found)
        }
        (
            Some(Shape::Array),
            Step {
                index: Some(index), ..
            },
        ) => {
            let index = match usize::try_from(*index) {
                Ok(index) => Some(index),
                Err(_) => {
                    let back = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
                    let mut count = 0usize;
                    for child in Children::of(value) {
                        child?;
                        count += 1;
                    }
                    count.checked_sub(back)
                }
            };
            match index.and_then(|index| Children::of(value).nth(index)) {
                Some(child) => find(child?.value, rest, form),
                None => Ok(None),
            }
        }
        (Some(_), _) => Ok(None),
        (None, _) => Err(JsonError::Malformed),
    }
}

fn any<'a>(
    children: Children<'a>,
    mut holds: impl FnMut(Child<'a>) -> Result<bool, JsonError>,
) -> Result<bool, JsonError> {
    for child in children {
        if holds(child?)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether two scalars are the same.
fn is_equal_scalar(left: &[u8], right: &[u8]) -> Result<bool, Malformed> {
    match (Shape::of(left), Shape::of(right)) {
        (Some(Shape::Number), Some(Shape::Number)) => {
            Ok(left == right || number(left).ok_or(Malformed)? == number(right).ok_or(Malformed)?)
        }
        (Some(_), Some(_)) => Ok(left == right),
        _ => Err(Malformed),
    }
}

fn has_scalar(array: &[u8], scalar: &[u8], shape: Shape) -> Result<bool, JsonError> {
    any(Children::of(array), |child| {
        Ok(Shape::of(child.value) == Some(shape) && is_equal_scalar(child.value, scalar)?)
    })
}

/// Whether a container contains another (`JsonbDeepContains`).
fn contains(value: &[u8], other: &[u8], depth: usize) -> Result<bool, JsonError> {
    let depth = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
    let shape = Shape::of(value);
    if shape != Shape::of(other) {
        return Ok(false);
    }
    let mut children = Children::of(value);
    for wanted in Children::of(other) {
        let wanted = wanted?;
        let wanted_shape = Shape::of(wanted.value).ok_or(Malformed)?;
        let is_found = if shape == Some(Shape::Object) {
            // Both have their keys in the same order.
            let member = loop {
                match children.next().transpose()? {
                    Some(child) if child.key == wanted.key => break child.value,
                    Some(_) => {}
                    None => return Ok(false),
                }
            };
            if wanted_shape.is_container() {
                contains(member, wanted.value, depth)?
            } else {
                is_equal_scalar(member, wanted.value)?
            }
        } else if wanted_shape.is_container() {
            any(Children::of(value), |child| {
                let is_same = Shape::of(child.value) == Some(wanted_shape);
                Ok(is_same && contains(child.value, wanted.value, depth)?)
            })?
        } else {
            has_scalar(value, wanted.value, wanted_shape)?
        };
        if !is_found {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_equal(left: &[u8], right: &[u8], depth: usize) -> Result<bool, JsonError> {
    let depth = depth.checked_sub(1).ok_or(JsonError::TooDeep)?;
    let shape = Shape::of(left).ok_or(Malformed)?;
    if !shape.is_container() || Some(shape) != Shape::of(right) {
        return Ok(is_equal_scalar(left, right)?);
    }
    let (mut left, mut right) = (Children::of(left), Children::of(right));
    loop {
        match (left.next().transpose()?, right.next().transpose()?) {
            (None, None) => return Ok(true),
            (Some(left), Some(right)) => {
                if left.key != right.key || !is_equal(left.value, right.value, depth)? {
                    return Ok(false);
                }
            }
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
#[path = "jsonb_tests.rs"]
mod tests;

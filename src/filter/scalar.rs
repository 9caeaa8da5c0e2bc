//! [`Scalar`]: a value of a row, which is a column's or a part of a document in one.

use std::borrow::Cow;
use std::sync::Arc;

use super::computed::Computed;
use super::eval::{Operand, operand};
use super::look::Look;
use super::matcher::Source;
use super::row::Cell;
use crate::types::{Datum, Document, Failure, JsonError, JsonForm, Path, Reading};

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Scalar {
    Column(Source),
    /// A part of a document, as text: its own, or the JSON of what it is.
    Part(Arc<Part>),
    Computed(Arc<Computed>),
}

/// A part of a `json` or `jsonb`, by the way to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Part {
    pub(super) column: usize,
    pub(super) form: JsonForm,
    pub(super) steps: Vec<Step>,
    /// `->>` and `#>>`: a string is its text.
    pub(super) as_text: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Step {
    /// `-> 'key'`
    Field(Box<str>),
    /// `-> 1`
    Element(i32),
    /// `#> '{…}'`
    Path(Path),
}

impl Step {
    /// The number of times that elements are counted from the end of an array.
    pub(super) fn counts_back(&self) -> usize {
        match self {
            Step::Field(_) => 0,
            Step::Element(index) => usize::from(*index < 0),
            Step::Path(path) => path.counts_back(),
        }
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Step>()
            + match self {
                Step::Field(key) => key.len(),
                Step::Element(_) => 0,
                Step::Path(path) => path.bytes(),
            }
    }
}

impl Scalar {
    /// The columns that it is made of.
    pub(super) fn columns(&self, out: &mut Vec<usize>) {
        match self {
            Scalar::Column(source) => out.push(source.column),
            Scalar::Part(part) => out.push(part.column),
            Scalar::Computed(computed) => computed.columns(out),
        }
    }

    /// Tells whether Postgres may fail to make it, or may be able to make what cannot be made here.
    pub(super) fn may_fail(&self) -> bool {
        match self {
            Scalar::Column(_) => false,
            // A string of a json may have no text; of a jsonb only a text fails that no server sends.
            Scalar::Part(_) | Scalar::Computed(_) => true,
        }
    }

    /// Everything that is known of it. A string of a document is copied if something in it is escaped.
    pub(super) fn read<'a, 'r: 'a>(&'a self, row: &Look<'r>) -> Operand<'a> {
        match self {
            Scalar::Column(source) => operand(*source, row),
            Scalar::Computed(computed) => computed.read(row),
            Scalar::Part(part) => match row.get(part.column) {
                Cell::Null => Operand::Null,
                // What is not known of the whole is not known of the part.
                Cell::Unchanged | Cell::Absent => Operand::Absent,
                Cell::Text(text) => match part.find(text, row) {
                    Ok(Some(text)) => Operand::Value(Datum::Text(text)),
                    Ok(None) => Operand::Null,
                    Err(JsonError::Malformed) => Operand::None(Failure::Fails),
                    Err(JsonError::Exhausted(_)) => Operand::Absent,
                    Err(_) => Operand::None(Failure::Unclear),
                },
            },
        }
    }
}

impl Part {
    fn find<'a>(&self, text: &'a [u8], row: &Look<'a>) -> Result<Option<Cow<'a, [u8]>>, JsonError> {
        let found = match row.part(self, text)? {
            Some(found) => {
                if let (Some(text), true) = (found, self.as_text) {
                    row.spend(text.len())?;
                }
                found.map(|text| Document::new(text, self.form))
            }
            None => {
                row.spend(text.len())?;
                self.follow(Document::new(text, self.form))?
            }
        };
        match found {
            None => Ok(None),
            Some(document) if self.as_text => document.text(),
            Some(document) => Ok(Some(Cow::Borrowed(document.raw()))),
        }
    }

    fn follow<'a>(&self, document: Document<'a>) -> Result<Option<Document<'a>>, JsonError> {
        let mut document = document;
        for step in &self.steps {
            let found = match step {
                Step::Field(key) => document.field(key)?,
                Step::Element(index) => document.element(*index)?,
                Step::Path(path) => document.path(path)?,
            };
            let Some(found) = found else {
                return Ok(None);
            };
            document = found;
        }
        Ok(Some(document))
    }
}

/// A column's text, whatever it means.
pub(super) fn text_of(column: usize) -> Source {
    let reading = Reading::Text;
    Source { column, reading }
}

//! [`Term`]: an operand on its way to a type.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Error;
use super::matcher::{Comparison, Source};
use super::open::Open;
use super::scalar::{Part, Scalar, text_of};
use super::typing::{Domain, casts_in_place};
use crate::event::{Collation, Column};
use crate::types::{Array, Ctype, Datum, Jsonb, Kind, LiteralError, cast, literal};

/// An operand whose type is known, or known to be open.
#[derive(Clone)]
pub(super) struct Term<'a> {
    pub(super) offset: usize,
    pub(super) typed: Typed<'a>,
}

#[derive(Clone)]
pub(super) enum Typed<'a> {
    /// What a row has.
    Place(Place<'a>),
    /// A quoted literal, parameter or null, which takes its type from its context.
    Open(Option<Open>),
    /// A parameter that is a list.
    OpenList(&'a [Json]),
    /// A value of a type, or a null.
    Constant {
        kind: Kind,
        value: Option<Datum<'static>>,
    },
    /// An array, or a null of its type.
    Array { kind: Kind, value: Option<Array> },
    /// A `jsonb`, or a null of that type.
    Document { value: Option<Jsonb> },
}

/// A column, as a type.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub(super) index: usize,
    pub(super) column: &'a Column,
    /// The part of the column that it is, if it is not the whole.
    pub(super) part: Option<Arc<Part>>,
    /// The type that its text is to be read as being of.
    pub(super) base: Kind,
    /// The type that it has for what stands around it: another one if it was cast.
    pub(super) kind: Kind,
    pub(super) collation: Collation,
    /// How ILIKE folds it.
    pub(super) ctype: Ctype,
}

impl<'a> Place<'a> {
    pub(super) fn new(index: usize, column: &'a Column) -> Place<'a> {
        Place {
            index,
            column,
            part: None,
            base: column.ty.kind.clone(),
            kind: column.ty.kind.clone(),
            collation: column.collation,
            ctype: match column.collation {
                Collation::Ascii => Ctype::C,
                _ => column.ctype.clone(),
            },
        }
    }

    /// Whether it is just the column.
    fn is_whole(&self) -> bool {
        self.part.is_none() && self.kind == self.column.ty.kind
    }

    fn cast(&mut self, to: &Kind, offset: usize) -> Result<(), Error> {
        if self.kind == *to {
            return Ok(());
        }
        if !casts_in_place(&self.kind, to) {
            let what = format!("a cast of {} to {}", self.type_name(), to.name());
            return Err(Error::unsupported(what, offset));
        }
        // A number is rounded when it becomes a real, and stays so.
        if *to == Kind::Float4 {
            self.base = Kind::Float4;
        }
        // What had no collation gets the database's, whatever that is.
        if *to == Kind::Text && self.collation == Collation::None {
            self.collation = Collation::Deterministic;
        }
        self.kind = to.clone();
        Ok(())
    }

    /// How it is read for a comparison.
    pub(super) fn scalar(&self, domain: Domain) -> Scalar {
        let (column, reading) = (self.index, domain.reading(&self.base));
        match &self.part {
            // A part is a text or compared as one.
            Some(part) => Scalar::Part(Arc::clone(part)),
            None => Scalar::Column(Source { column, reading }),
        }
    }

    /// Its text, whatever it means.
    pub(super) fn text(&self) -> Scalar {
        match &self.part {
            Some(part) => Scalar::Part(Arc::clone(part)),
            None => Scalar::Column(text_of(self.index)),
        }
    }

    pub(super) fn type_name(&self) -> &str {
        if self.is_whole() {
            &self.column.ty.name
        } else {
            self.kind.name()
        }
    }
}

impl Term<'_> {
    /// The type, unless it is open.
    pub(super) fn kind(&self) -> Option<&Kind> {
        match &self.typed {
            Typed::Place(place) => Some(&place.kind),
            Typed::Open(_) | Typed::OpenList(_) => None,
            Typed::Constant { kind, .. } | Typed::Array { kind, .. } => Some(kind),
            Typed::Document { .. } => Some(&Kind::Jsonb),
        }
    }

    /// The name of the type, for messages.
    pub(super) fn type_name(&self) -> &str {
        match &self.typed {
            Typed::Place(place) => place.type_name(),
            Typed::Open(_) | Typed::OpenList(_) => "unknown",
            Typed::Constant { kind, .. } | Typed::Array { kind, .. } => kind.name(),
            Typed::Document { .. } => Kind::Jsonb.name(),
        }
    }

    pub(super) fn is_place(&self) -> bool {
        matches!(self.typed, Typed::Place(_))
    }

    pub(super) fn is_open_null(&self) -> bool {
        matches!(self.typed, Typed::Open(None))
    }

    /// A value of a type, or a null of it.
    pub(super) fn constant(kind: &Kind, value: Option<Datum<'static>>, offset: usize) -> Self {
        let kind = kind.clone();
        Term {
            offset,
            typed: Typed::Constant { kind, value },
        }
    }

    /// Gives an open constant the type that its context asks for.
    pub(super) fn close(&mut self, kind: &Kind) -> Result<(), Error> {
        let Typed::Open(Some(open)) = &self.typed else {
            return self.close_anew(kind);
        };
        let open = open.clone();
        if let Some(typed) = open.closed(kind) {
            self.typed = typed;
        } else {
            self.close_anew(kind)?;
            open.keep(kind, &self.typed);
        }
        open.count(&self.typed, self.offset)
    }

    fn close_anew(&mut self, kind: &Kind) -> Result<(), Error> {
        self.typed = match (&self.typed, kind) {
            (Typed::Open(text), Kind::Array(element)) => Typed::Array {
                kind: kind.clone(),
                value: text
                    .as_deref()
                    .map(|text| self.array(element, text))
                    .transpose()?,
            },
            (Typed::OpenList(list), Kind::Array(element)) => {
                self.check_size(list.len())?;
                let items = list.iter().map(|item| {
                    let text = text_of_json(item).map_err(|what| {
                        let message = format!("an item of the parameter {what}");
                        Error::ty(message, self.offset)
                    })?;
                    self.value(element, text.as_deref())
                });
                Typed::Array {
                    kind: kind.clone(),
                    value: Some(Array::new(items.collect::<Result<_, _>>()?)),
                }
            }
            (Typed::Open(text), Kind::Jsonb) => Typed::Document {
                value: text.as_deref().map(|text| self.document(text)).transpose()?,
            },
            (Typed::OpenList(list), Kind::Jsonb) => Typed::Document {
                value: Some(self.document(&Json::from(list.to_vec()).to_string())?),
            },
            (Typed::OpenList(_), _) => {
                let message = format!(
                    "the parameter is an array where a value of type {} is needed",
                    kind.name()
                );
                return Err(Error::ty(message, self.offset));
            }
            (Typed::Open(text), kind) => Typed::Constant {
                kind: kind.clone(),
                value: self.value(kind, text.as_deref())?,
            },
            _ => return Ok(()),
        };
        Ok(())
    }

    /// Gives it another type.
    pub(super) fn cast(&mut self, to: &Kind) -> Result<(), Error> {
        self.close(to)?;
        let offset = self.offset;
        match &mut self.typed {
            Typed::Place(place) => place.cast(to, offset)?,
            Typed::Constant { kind, value } => {
                if let Some(datum) = value {
                    *datum = cast(datum, kind, to).map_err(|source| Error::Literal { source, offset })?;
                }
                *kind = to.clone();
            }
            Typed::Array { kind, .. } if kind == to => {}
            Typed::Document { .. } if *to == Kind::Jsonb => {}
            Typed::Document { .. } => return Err(Error::unsupported("a cast of a jsonb", offset)),
            Typed::Array { .. } => return Err(Error::unsupported("a cast of an array", offset)),
            Typed::Open(_) | Typed::OpenList(_) => {}
        }
        Ok(())
    }

    /// Makes a constant what its comparison compares.
    pub(super) fn cast_constant(&mut self, domain: Domain) -> Result<(), Error> {
        if let Typed::Constant { kind, .. } = &self.typed {
            let target = domain.target(kind);
            self.cast(&target)?;
        }
        if let (Typed::Constant { value, .. }, Domain::Timestamp) = (&mut self.typed, domain) {
            *value = value.take().map(Datum::at_midnight);
        }
        Ok(())
    }

    fn value(&self, kind: &Kind, text: Option<&str>) -> Result<Option<Datum<'static>>, Error> {
        let Some(text) = text else {
            return Ok(None);
        };
        let offset = self.offset;
        self.check_label(kind, text.as_bytes())?;
        let value = literal(text_of_labels(kind), text);
        Ok(Some(value.map_err(|source| Error::Literal { source, offset })?))
    }

    fn check_size(&self, values: usize) -> Result<(), Error> {
        if values <= MAX_ARRAY_VALUES {
            return Ok(());
        }
        Err(Error::TooLarge {
            of: "values in an array",
            limit: MAX_ARRAY_VALUES,
            offset: self.offset,
        })
    }

    fn document(&self, text: &str) -> Result<Jsonb, Error> {
        let offset = self.offset;
        Jsonb::literal(text).map_err(|source| Error::Literal { source, offset })
    }

    fn array(&self, element: &Kind, text: &str) -> Result<Array, Error> {
        let offset = self.offset;
        let array = Array::literal(text_of_labels(element), text);
        let array = array.map_err(|source| Error::Literal { source, offset })?;
        self.check_size(array.elements().len())?;
        for value in array.elements().iter().flatten() {
            if let Datum::Text(label) = value {
                self.check_label(element, label)?;
            }
        }
        Ok(array)
    }

    fn check_label(&self, kind: &Kind, label: &[u8]) -> Result<(), Error> {
        if !kind.lacks_label(label) {
            return Ok(());
        }
        let source = LiteralError::Invalid {
            ty: kind.name(),
            text: String::from_utf8_lossy(label).into_owned(),
        };
        let offset = self.offset;
        Err(Error::Literal { source, offset })
    }

    /// Refuses a quoted literal for this column of type `name`, or of an array of such, that Postgres would cut to fit.
    pub(super) fn check_name(&self, literal: &Term<'_>) -> Result<(), Error> {
        let is_long = |text: &str| text.len() > MAX_NAME;
        self.check_names(literal, is_long)
    }

    /// The same where the literal is an array's: it is cut element by element.
    pub(super) fn check_names_of_array(&self, literal: &Term<'_>) -> Result<(), Error> {
        let holds_long = |text: &str| {
            let is_long = |name: &Datum<'_>| matches!(name, Datum::Text(name) if name.len() > MAX_NAME);
            // What is no array is refused in other words.
            Array::literal(&Kind::Text, text)
                .is_ok_and(|names| names.elements().iter().flatten().any(is_long))
        };
        self.check_names(literal, holds_long)
    }

    fn check_names(&self, literal: &Term<'_>, is_long: impl Fn(&str) -> bool) -> Result<(), Error> {
        let Typed::Place(place) = &self.typed else {
            return Ok(());
        };
        let too_long = matches!(place.column.ty.oid, NAME | NAMES)
            && match &literal.typed {
                Typed::Open(text) => text.as_deref().is_some_and(&is_long),
                Typed::OpenList(list) => list
                    .iter()
                    .any(|item| item.as_str().is_some_and(|name| name.len() > MAX_NAME)),
                _ => false,
            };
        if too_long {
            let message = "a value of type name has at most 63 bytes";
            return Err(Error::ty(message, literal.offset));
        }
        Ok(())
    }
}

/// A label is itself, once it is known to be one.
fn text_of_labels(kind: &Kind) -> &Kind {
    match kind {
        Kind::Enum { .. } => &Kind::Text,
        kind => kind,
    }
}

/// The text of the literal that a parameter stands for, `None` for a null; or what is wrong with it.
pub(super) fn text_of_json(json: &Json) -> Result<Option<String>, &'static str> {
    match json {
        Json::Null => Ok(None),
        Json::Bool(value) => Ok(Some(value.to_string())),
        Json::Number(value) => Ok(Some(value.to_string())),
        Json::String(text) if text.contains('\0') => Err("holds the character U+0000, which no value can"),
        Json::String(text) => Ok(Some(text.clone())),
        Json::Array(_) => {
            Err("is an array of arrays, which is not supported: give the literal, such as \"{{1,2},{3,4}}\"")
        }
        Json::Object(_) => Ok(Some(json.to_string())),
    }
}

/// How many values an array of a predicate may have, as an `IN` list by default.
const MAX_ARRAY_VALUES: usize = 1_000;

/// How many bytes a `name` has at most.
const MAX_NAME: usize = 63;
/// The OID of `name`, whose values are cut at 63 bytes.
const NAME: u32 = 19;
/// The OID of `name[]`.
const NAMES: u32 = 1003;

/// Refuses comparisons of text whose outcome the bytes do not tell.
pub(super) fn check_collation(
    left: &Term<'_>,
    comparison: Comparison,
    right: &Term<'_>,
    domain: Domain,
) -> Result<(), Error> {
    if !domain.is_text() {
        return Ok(());
    }
    let places = [left, right].into_iter().filter_map(|term| match &term.typed {
        Typed::Place(place) => Some((term.offset, place)),
        _ => None,
    });
    let mut any = false;
    for (offset, place) in places {
        any = true;
        check_deterministic(place, "comparing", offset)?;
        if comparison.orders() && !place.collation.is_bytewise() {
            let what = format!("ordering {:?}, whose collation is not \"C\",", place.column.name);
            return Err(Error::unsupported(what, offset));
        }
    }
    if comparison.orders() && !any {
        return Err(Error::unsupported(
            "ordering text without a column of collation \"C\"",
            left.offset,
        ));
    }
    Ok(())
}

/// Refuses what is done to text of which the bytes do not tell what it equals.
pub(super) fn check_deterministic(place: &Place<'_>, doing: &str, offset: usize) -> Result<(), Error> {
    if place.collation == Collation::Nondeterministic {
        let name = &place.column.name;
        let what = format!("{doing} {name:?}, whose collation is nondeterministic,");
        return Err(Error::unsupported(what, offset));
    }
    Ok(())
}

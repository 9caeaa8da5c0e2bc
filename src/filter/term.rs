//! [`Term`]: an operand on its way to a type.

use std::sync::Arc;

use serde_json::Value as Json;

use super::Error;
use super::computed::{Cast, Computed};
use super::hints;
use super::matcher::Source;
use super::open::Open;
use super::scalar::{Part, Scalar, text_of};
use super::typing::Domain;
use crate::event::{Collation, Column};
use crate::types::{Array, Ctype, Datum, Jsonb, Kind, LiteralError, Simple, cast, literal};

/// An operand whose type is known, or known to be open.
#[derive(Clone)]
pub(super) struct Term<'a> {
    pub(super) offset: usize,
    pub(super) typed: Typed<'a>,
}

#[derive(Clone)]
pub(super) enum Typed<'a> {
    /// The value that a row has.
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
    Array {
        kind: Kind,
        value: Option<Array>,
        /// It is of the type itself, not only what a literal was taken for.
        declared: bool,
    },
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
    /// The computation, if it is computed: the column is then one of those that it is made of.
    pub(super) computed: Option<Arc<Computed>>,
    /// The type that its text is to be read as being of.
    pub(super) base: Kind,
    /// The type that it has for what stands around it: another one if it was cast.
    pub(super) kind: Kind,
    pub(super) collation: Collation,
    /// The way in which ILIKE folds it.
    pub(super) ctype: Ctype,
    /// It has `COLLATE "C"`, which outweighs the collation of what it is compared with.
    pub(super) is_collated: bool,
}

impl<'a> Place<'a> {
    pub(super) fn new(index: usize, column: &'a Column) -> Place<'a> {
        Place {
            index,
            column,
            part: None,
            computed: None,
            base: column.ty.kind.clone(),
            kind: column.ty.kind.clone(),
            collation: column.collation,
            ctype: match column.collation {
                Collation::Ascii => Ctype::C,
                _ => column.ctype.clone(),
            },
            is_collated: false,
        }
    }

    /// `COLLATE "C"`
    pub(super) fn collate(&mut self, offset: usize) -> Result<(), Error> {
        let element = match &self.kind {
            Kind::Array(element) => element,
            kind => kind,
        };
        if !matches!(element, Kind::Text | Kind::Bpchar | Kind::Citext(_)) {
            let message = format!("collations are not supported by type {}", self.type_name());
            return Err(Error::ty(message, offset));
        }
        self.collation = Collation::Ascii;
        self.ctype = Ctype::C;
        self.is_collated = true;
        Ok(())
    }

    /// True if it is just the column.
    pub(super) fn is_whole(&self) -> bool {
        self.part.is_none() && self.computed.is_none() && self.kind == self.column.ty.kind
    }

    /// The way in which it is read for a comparison.
    pub(super) fn scalar(&self, domain: Domain) -> Scalar {
        if let Some(cast) = self.cast_for(domain) {
            let of = match Domain::of(&self.base, &self.base) {
                Some(own) if self.computed.is_none() => self.read_as(own),
                _ => self.text(),
            };
            return Scalar::Computed(Arc::new(Computed::Cast { of, cast }));
        }
        self.read_as(domain)
    }

    fn read_as(&self, domain: Domain) -> Scalar {
        let column = self.index;
        let reading = domain.reading(&self.base);
        match (&self.computed, &self.part) {
            (Some(computed), _) => Scalar::Computed(Arc::clone(computed)),
            // A part is a text or compared as one.
            (None, Some(part)) => Scalar::Part(Arc::clone(part)),
            (None, None) => Scalar::Column(Source { column, reading }),
        }
    }

    /// The step that the comparison needs for a value that is there already, or that reading its text does not do: a
    /// `numeric` can be too large for a float.
    fn cast_for(&self, domain: Domain) -> Option<Cast> {
        let from = Simple::of(&self.base)?;
        let to = match domain {
            Domain::Numeric => Simple::Numeric,
            Domain::Float => Simple::Float8,
            Domain::Timestamp if from == Simple::Date => {
                return self.computed.is_some().then_some(Cast::Midnight);
            }
            _ => return None,
        };
        let is_float = |simple| matches!(simple, Simple::Float4 | Simple::Float8);
        let is_there = from == to || is_float(from) && is_float(to);
        let is_read = self.computed.is_none() && !(from == Simple::Numeric && is_float(to));
        (!is_there && !is_read).then_some(Cast::Convert { from, to })
    }

    /// Its text, whatever it means; what is computed itself.
    pub(super) fn text(&self) -> Scalar {
        match (&self.computed, &self.part) {
            (Some(computed), _) => Scalar::Computed(Arc::clone(computed)),
            (None, Some(part)) => Scalar::Part(Arc::clone(part)),
            (None, None) => Scalar::Column(text_of(self.index)),
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

    /// The same, where an array says of what.
    pub(super) fn array_name(&self) -> String {
        match &self.typed {
            Typed::Array {
                kind: Kind::Array(element),
                ..
            } => format!("{}[]", element.name()),
            _ => self.type_name().to_owned(),
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

    /// A text that takes its type from its context.
    pub(super) fn open(text: &str, offset: usize) -> Self {
        let open = Open::new(text.to_owned(), &Default::default());
        Term {
            offset,
            typed: Typed::Open(Some(open)),
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
                declared: false,
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
                    declared: false,
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
                    "the parameter is an array where a value of type {} is needed: one of its items is asked for by = ANY ($1)",
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
                    *datum = match (&*datum, &*kind, Simple::of(to)) {
                        // What a text is cast to is read from it as from a literal.
                        (Datum::Text(text), Kind::Text, Some(_)) => {
                            literal(to, &String::from_utf8_lossy(text))
                        }
                        _ => cast(datum, kind, to),
                    }
                    .map_err(|source| Error::Literal { source, offset })?;
                }
                *kind = to.clone();
            }
            Typed::Array { kind, declared, .. } if kind == to => *declared = true,
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
        if let Some(what) = hints::of_relative(kind, text) {
            return Err(Error::unsupported(what, offset));
        }
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

    /// Refuses an array that is too long.
    pub(super) fn check_array_size(&self) -> Result<(), Error> {
        match &self.typed {
            Typed::Array {
                value: Some(array), ..
            } => self.check_size(array.elements().len()),
            _ => Ok(()),
        }
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
        let hint = match kind {
            Kind::Enum { labels, .. } => hints::of_label(labels, &String::from_utf8_lossy(label)),
            _ => String::new(),
        };
        Err(Error::ty(format!("{source}{hint}"), self.offset))
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
        let too_long = place.is_whole()
            && matches!(place.column.ty.oid, NAME | NAMES)
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

/// The number of values that an array of a predicate may have, as an `IN` list by default.
const MAX_ARRAY_VALUES: usize = 1_000;

/// The number of bytes that a `name` has at most.
const MAX_NAME: usize = 63;
/// The OID of `name`, whose values are cut at 63 bytes.
const NAME: u32 = 19;
/// The OID of `name[]`.
pub(super) const NAMES: u32 = 1003;
/// The OID of `varchar[]`.
pub(super) const VARCHARS: u32 = 1015;

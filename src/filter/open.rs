//! [`Open`]: a text whose type is not known yet, read once for each type that its places need.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;

use super::Error;
use super::cost::MAX_BYTES;
use super::term::Typed;
use crate::types::{Datum, Kind};

/// A quoted literal or a parameter. However often a parameter is used, it is read once for each type.
#[derive(Clone)]
pub(super) struct Open(Rc<Shared>);

struct Shared {
    text: String,
    /// Its values as of some types.
    closed: RefCell<Vec<(Kind, Typed<'static>)>>,
    /// The number of bytes of parameters that there are copies of.
    copied: Copied,
}

/// The number of bytes of a predicate's parameters that were copied, once for each place where one is used.
pub(super) type Copied = Rc<Cell<usize>>;

impl Open {
    pub(super) fn new(text: String, copied: &Copied) -> Open {
        Open(Rc::new(Shared {
            text,
            closed: RefCell::default(),
            copied: Rc::clone(copied),
        }))
    }

    /// Its value as one of that type, if it was read as such before.
    pub(super) fn closed<'t>(&self, kind: &Kind) -> Option<Typed<'t>> {
        let closed = self.0.closed.borrow();
        closed
            .iter()
            .find(|(known, _)| known == kind)
            .map(|(_, typed)| typed.clone())
    }

    /// Keeps what it is as a value of that type.
    pub(super) fn keep(&self, kind: &Kind, typed: &Typed<'_>) {
        let typed = match typed {
            Typed::Constant { kind, value } => Typed::Constant {
                kind: kind.clone(),
                value: value.clone(),
            },
            Typed::Array {
                kind,
                value,
                declared,
            } => Typed::Array {
                declared: *declared,
                kind: kind.clone(),
                value: value.clone(),
            },
            Typed::Document { value } => Typed::Document { value: value.clone() },
            Typed::Place(_) | Typed::Open(_) | Typed::OpenList(_) => return,
        };
        self.0.closed.borrow_mut().push((kind.clone(), typed));
    }

    /// Counts what a value has for itself: its bytes, unless they are shared.
    ///
    /// # Errors
    /// All of them together are too many.
    pub(super) fn count(&self, typed: &Typed<'_>, offset: usize) -> Result<(), Error> {
        let bytes = match typed {
            Typed::Constant {
                value: Some(Datum::Text(_) | Datum::Bytea(_) | Datum::Bit(_) | Datum::Numeric(_)),
                ..
            } => self.0.text.len(),
            Typed::Array {
                value: Some(array), ..
            } => array.elements().len() * size_of::<Datum<'_>>() + self.0.text.len(),
            _ => 0,
        };
        let copied = self.0.copied.get().saturating_add(bytes);
        self.0.copied.set(copied);
        if copied > TRANSIENT_BYTES {
            Err(Error::too_many_bytes(offset))
        } else {
            Ok(())
        }
    }
}

/// The number of bytes of parameters that may be copied while a predicate is bound: more than what is left of them in
/// the end, since what is the same in several places is kept once.
pub(super) const TRANSIENT_BYTES: usize = 4 * MAX_BYTES;

impl Deref for Open {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.text
    }
}

//! Casts of a row's values.

use std::sync::Arc;

use super::Error;
use super::computed::{Cast, Computed};
use super::scalar::{Scalar, text_of};
use super::term::Place;
use super::typing::{Domain, casts_in_place};
use crate::event::Collation;
use crate::types::{Kind, Reading, Simple};

impl Place<'_> {
    /// Makes it a value of another type.
    ///
    /// # Errors
    /// Postgres has no such cast, or its outcome cannot be given here.
    pub(super) fn cast(&mut self, to: &Kind, offset: usize) -> Result<(), Error> {
        if self.kind == *to {
            return Ok(());
        }
        if self.kind.clone().into_base() == *to {
            self.kind = to.clone();
            return Ok(());
        }
        if self.computed.is_none() && casts_in_place(&self.kind, to) {
            // A number is rounded when it becomes a real, and stays so.
            if *to == Kind::Float4 {
                self.base = Kind::Float4;
            }
            self.become_text(to);
            self.kind = to.clone();
            return Ok(());
        }
        // A label is its text.
        if let (Kind::Enum { .. }, Kind::Text) = (&self.kind, to) {
            self.become_text(to);
            self.kind = Kind::Text;
            self.base = Kind::Text;
            return Ok(());
        }
        let Some(cast) = self.cast_to(to) else {
            let what = format!("a cast of {} to {}", self.type_name(), to.name());
            return Err(Error::unsupported(what, offset));
        };
        let of = match cast {
            Cast::Convert { .. } => match Domain::of(&self.kind, &self.kind) {
                Some(domain) => self.scalar(domain),
                None => self.text(),
            },
            _ => self.characters(),
        };
        self.compute(Computed::Cast { of, cast }, to);
        Ok(())
    }

    /// Makes it what is computed of it, a value of that type.
    pub(super) fn compute(&mut self, computed: Computed, kind: &Kind) {
        self.become_text(kind);
        if *kind != Kind::Text {
            self.collation = Collation::None;
            self.is_collated = false;
        }
        self.computed = Some(Arc::new(computed));
        self.part = None;
        self.kind = kind.clone();
        self.base = kind.clone();
    }

    /// Gives a value that had no collation the database's when it becomes a text, whatever that is.
    fn become_text(&mut self, to: &Kind) {
        if *to == Kind::Text && self.collation == Collation::None {
            self.collation = Collation::Deterministic;
        }
    }

    fn cast_to(&self, to: &Kind) -> Option<Cast> {
        let to = Simple::of(to)?;
        match &self.kind {
            Kind::Text | Kind::Citext(_) => Some(Cast::Input(to)),
            Kind::Jsonb
                if !matches!(
                    to,
                    Simple::Uuid | Simple::Date | Simple::Timestamp | Simple::TimestampTz
                ) =>
            {
                Some(Cast::OfJsonb(to))
            }
            from => {
                let from = Simple::of(from)?;
                from.converts(to).then_some(Cast::Convert { from, to })
            }
        }
    }

    /// Its text as a `text`, without the trailing blanks that a `character(n)` has before it is cast.
    pub(super) fn characters(&self) -> Scalar {
        match (self.text(), &self.base) {
            (Scalar::Column(mut source), Kind::Bpchar) => {
                source = text_of(source.column);
                source.reading = Reading::Bpchar;
                Scalar::Column(source)
            }
            (scalar, _) => scalar,
        }
    }
}

//! Comparisons of `citext` as SQL. Its operators stand in a schema in which others may make operators, too: each is named
//! with that schema, and both sides are cast to the types that the extension's own operator takes, which is the one that
//! fits exactly. So the search path stays `pg_catalog`, and nobody's operators decide anything.

use super::{Comparison, ListAs, Writer, distinct, sql_of};
use crate::filter::Error;
use crate::filter::ast::Operand;
use crate::filter::term::Typed;
use crate::types::Kind;

impl Writer<'_> {
    /// A comparison of two operands.
    pub(super) fn compared(
        &mut self,
        left: &Operand,
        comparison: Comparison,
        right: &Operand,
    ) -> Result<(), Error> {
        if !self.is_of_citext(left, right)? {
            return self.pair(left, sql_of(comparison), right);
        }
        match comparison {
            Comparison::Distinct | Comparison::NotDistinct => {
                self.word(if comparison == Comparison::Distinct {
                    "(NOT COALESCE("
                } else {
                    "(COALESCE("
                });
                self.both_citext(left, "=", right)?;
                self.word(", ");
                self.as_citext(left)?;
                self.word(" IS NULL AND ");
                self.as_citext(right)?;
                self.word(" IS NULL))");
                Ok(())
            }
            _ => self.both_citext(left, sql_of(comparison), right),
        }
    }

    /// True if a comparison of the two is one of `citext`, whose operators are to be named.
    pub(super) fn is_of_citext(&mut self, left: &Operand, right: &Operand) -> Result<bool, Error> {
        if self.pushed.citext.is_none() {
            return Ok(false);
        }
        let left = self.binder.term(left)?.kind().map(is_citext);
        let right = self.binder.term(right)?.kind().map(is_citext);
        Ok(are_citext(left, right))
    }

    /// True if an operand is a `citext`, whose operators are to be named.
    pub(super) fn is_citext(&mut self, operand: &Operand) -> Result<bool, Error> {
        Ok(self.pushed.citext.is_some() && self.binder.term(operand)?.kind().is_some_and(is_citext))
    }

    /// True if a member of a list is compared as a `citext`.
    pub(super) fn is_in_citext(&mut self, left: &Operand, list: &[Operand]) -> Result<bool, Error> {
        for member in list {
            if self.is_of_citext(left, member)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Membership in a list. Members that are no columns have one type there, which is `text` if one of them is.
    pub(super) fn in_citext(&mut self, left: &Operand, list: &[Operand], negated: bool) -> Result<(), Error> {
        let (mut are_texts, mut are_columns) = (false, false);
        for member in list {
            let term = self.binder.term(member)?;
            let is_column = matches!(term.typed, Typed::Place(_));
            are_columns |= is_column;
            are_texts |= !is_column && term.kind().is_some_and(|kind| !is_citext(kind));
        }
        self.word(if negated { "NOT (" } else { "(" });
        if are_texts || are_columns {
            for (at, member) in distinct(list).enumerate() {
                self.word(if at > 0 { " OR " } else { "" });
                let is_column = matches!(self.binder.term(member)?.typed, Typed::Place(_));
                if are_texts && !is_column {
                    self.pair(left, "=", member)?;
                } else {
                    self.compared(left, Comparison::Equal, member)?;
                }
            }
        } else {
            // One condition, for which an index is looked into once.
            self.as_citext(left)?;
            self.citext_operator("=");
            self.word("ANY (CAST(ARRAY[");
            for (at, member) in distinct(list).enumerate() {
                self.word(if at > 0 { ", " } else { "" });
                self.as_text(member)?;
            }
            let end = format!("] AS {}.citext[]))", self.schema());
            self.word(&end);
        }
        self.word(")");
        Ok(())
    }

    /// True if the elements of an array are compared as `citext`.
    pub(super) fn is_any_citext(&mut self, left: &Operand, array: &Operand) -> Result<bool, Error> {
        if self.pushed.citext.is_none() {
            return Ok(false);
        }
        let left = self.binder.term(left)?.kind().map(is_citext);
        let element = match self.binder.term(array)?.kind() {
            Some(Kind::Array(element)) => Some(is_citext(element)),
            Some(_) => Some(false),
            None => None,
        };
        Ok(are_citext(left, element))
    }

    /// A comparison with the elements of an array.
    pub(super) fn any_citext(
        &mut self,
        left: &Operand,
        comparison: Comparison,
        array: &Operand,
    ) -> Result<(), Error> {
        self.as_citext(left)?;
        self.citext_operator(sql_of(comparison));
        self.word("ANY (");
        self.cast_to_citext(array, "[]")?;
        self.word(")");
        Ok(())
    }

    /// `LIKE` and `ILIKE`, whose patterns are texts.
    pub(super) fn like_citext(
        &mut self,
        operand: &Operand,
        (folds, negated): (bool, bool),
        pattern: &Operand,
        escape: Option<&Operand>,
    ) -> Result<(), Error> {
        self.as_citext(operand)?;
        self.citext_operator(match (folds, negated) {
            (false, false) => "~~",
            (false, true) => "!~~",
            (true, false) => "~~*",
            (true, true) => "!~~*",
        });
        match escape {
            None => self.as_text(pattern),
            Some(escape) => {
                self.word("pg_catalog.like_escape(");
                self.as_text(pattern)?;
                self.word(", ");
                self.as_text(escape)?;
                self.word(")");
                Ok(())
            }
        }
    }

    fn both_citext(&mut self, left: &Operand, sign: &str, right: &Operand) -> Result<(), Error> {
        self.as_citext(left)?;
        self.citext_operator(sign);
        self.as_citext(right)
    }

    /// The schema of the extension, quoted.
    fn schema(&self) -> &str {
        self.pushed.citext.as_deref().unwrap_or_default()
    }

    fn citext_operator(&mut self, sign: &str) {
        let operator = format!(" OPERATOR({}.{sign}) ", self.schema());
        self.word(&operator);
    }

    fn as_citext(&mut self, operand: &Operand) -> Result<(), Error> {
        self.cast_to_citext(operand, "")
    }

    fn cast_to_citext(&mut self, operand: &Operand, array: &'static str) -> Result<(), Error> {
        self.word("CAST(");
        self.operand_cast_to(operand, format!("citext{array}"))?;
        let end = format!(" AS {}.citext{array})", self.schema());
        self.word(&end);
        Ok(())
    }

    fn as_text(&mut self, operand: &Operand) -> Result<(), Error> {
        self.word("CAST(");
        self.operand_cast_to(operand, "text".to_owned())?;
        self.word(" AS pg_catalog.text)");
        Ok(())
    }

    /// Writes the operand of a cast: the same value stands for a parameter wherever it is cast to that type.
    fn operand_cast_to(&mut self, operand: &Operand, to: String) -> Result<(), Error> {
        let context = super::Context {
            place: "CAST",
            beside: to,
        };
        self.operand_in(&Some(context), operand, ListAs::Array)
    }
}

/// True if two operands are compared as `citext`, of which each is one, is not, or is open: then it becomes what the other
/// one is.
fn are_citext(left: Option<bool>, right: Option<bool>) -> bool {
    matches!(
        (left, right),
        (Some(true), Some(true) | None) | (None, Some(true))
    )
}

fn is_citext(kind: &Kind) -> bool {
    matches!(kind, Kind::Citext(_))
}

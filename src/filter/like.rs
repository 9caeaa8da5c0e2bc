//! `LIKE` and `ILIKE`.

use super::Error;
use super::collations::check_deterministic;
use super::compare::leaf;
use super::leaf::Test;
use super::matcher::{Node, Source};
use super::scalar::Scalar;
use super::term::{Place, Term, Typed};
use super::truth::Truth;
use crate::types::{Case, CaseMap, Datum, Kind, Pattern, PatternError, Reading};

/// The length that a pattern may have: to match it takes its length times that of the text at worst, for each row.
const MAX_PATTERN_BYTES: usize = 1_000;

/// `term LIKE pattern [ESCAPE escape]`
pub(super) fn like(
    mut term: Term<'_>,
    pattern: Term<'_>,
    escape: Option<Term<'_>>,
    folds: bool,
) -> Result<Node, Error> {
    let offset = pattern.offset;
    let escape = match escape.map(constant).transpose()? {
        None => Some(Pattern::ESCAPE),
        Some((None, _)) => None,
        Some((Some(text), offset)) => {
            let escape = Pattern::escape(&text);
            // Postgres complains once it escapes something.
            Some(escape.map_err(|_| Error::unsupported("ESCAPE with more than one character", offset))?)
        }
    };
    let (pattern, _) = constant(pattern)?;
    term.close(&Kind::Text)?;
    let place = match &term.typed {
        Typed::Place(place) => place,
        Typed::Constant {
            kind: Kind::Text,
            value: None,
        } => return Ok(Node::Constant(Truth::Null)),
        _ => {
            return Err(Error::unsupported("LIKE without a column", term.offset));
        }
    };
    if !matches!(place.kind, Kind::Text | Kind::Bpchar | Kind::Citext(_)) {
        if matches!(place.kind, Kind::Bytea | Kind::Range(_) | Kind::Other) {
            return Err(Error::unsupported(
                format!("LIKE on {}", term.type_name()),
                term.offset,
            ));
        }
        let message = format!("LIKE needs a text, not {}", term.type_name());
        return Err(Error::ty(message, term.offset));
    }
    check_deterministic(place, "LIKE on", term.offset)?;
    let case = case(place, folds, term.offset)?;
    if pattern
        .as_ref()
        .is_some_and(|pattern| pattern.len() > MAX_PATTERN_BYTES)
    {
        return Err(Error::TooLarge {
            of: "bytes in a pattern",
            limit: MAX_PATTERN_BYTES,
            offset,
        });
    }
    let (Some(pattern), Some(escape)) = (pattern, escape) else {
        return Ok(Node::Constant(Truth::Null));
    };
    let pattern = Pattern::new(&pattern, escape, case).map_err(|error| match error {
        // Postgres complains only of rows that match up to there.
        PatternError::EndsInEscape => {
            Error::unsupported("a pattern that ends in its escape character", offset)
        }
        error @ PatternError::EscapeTooLong => Error::ty(error.to_string(), offset),
    })?;
    // The trailing blanks of a `character(n)` count, unless it was cast to text.
    let reading = match (&place.base, &place.kind) {
        (Kind::Bpchar, Kind::Text) => Reading::Bpchar,
        _ => Reading::Text,
    };
    let left = match place.text() {
        Scalar::Column(source) => Scalar::Column(Source { reading, ..source }),
        other => other,
    };
    Ok(leaf(left, Test::Like(pattern)))
}

/// True if letters match in both cases. To `citext` LIKE is ILIKE: either folds as the column's collation does, while
/// `=` folds as the database's.
fn case(place: &Place<'_>, folds: bool, offset: usize) -> Result<Case, Error> {
    if !folds && !matches!(place.kind, Kind::Citext(_)) {
        return Ok(Case::Sensitive);
    }
    CaseMap::of(&place.ctype).map(Case::Insensitive).ok_or_else(|| {
        let what = format!(
            "{} on {:?}, whose collation folds letters in a way that is known to the server alone,",
            if folds { "ILIKE" } else { "LIKE" },
            place.column.name
        );
        Error::letters(&what, Some(&place.ctype), offset)
    })
}

/// The text of a constant, `None` if it is null, and its place.
fn constant(mut term: Term<'_>) -> Result<(Option<String>, usize), Error> {
    let offset = term.offset;
    term.close(&Kind::Text)?;
    match term.typed {
        Typed::Constant {
            kind: Kind::Text,
            value,
        } => match value {
            None => Ok((None, offset)),
            Some(Datum::Text(text)) => Ok((Some(String::from_utf8_lossy(&text).into_owned()), offset)),
            Some(_) => Err(Error::unsupported("this pattern", offset)),
        },
        Typed::Constant { kind, .. } => {
            let message = format!("a pattern of LIKE is a text, not {}", kind.name());
            Err(Error::ty(message, offset))
        }
        Typed::OpenList(_) | Typed::Array { .. } | Typed::Document { .. } => {
            Err(Error::ty("a pattern of LIKE is a text", offset))
        }
        Typed::Place(_) | Typed::Open(_) => {
            Err(Error::unsupported("a pattern that is not a constant", offset))
        }
    }
}

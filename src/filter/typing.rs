//! The types of comparisons, as Postgres has them: the one that two operands are compared as, and which type a list has
//! (documentation, "Type Conversion").

use crate::types::{CaseMap, Kind, Reading};

/// The domain in which two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    Bool,
    Int,
    Numeric,
    Float,
    Text,
    Bpchar,
    Citext(CaseMap),
    Uuid,
    /// Labels of one enumeration.
    Enum,
    Bytea,
    Inet,
    MacAddr,
    MacAddr8,
    Bit,
    PgLsn,
    Interval,
    TimeTz,
    Date,
    Time,
    Timestamp,
}

impl Domain {
    /// The domain in which values of the two types are compared; `None` if Postgres has no such operator, or we don't
    /// know its meaning.
    pub(super) fn of(left: &Kind, right: &Kind) -> Option<Domain> {
        if let (Some(left), Some(right)) = (rank(left), rank(right)) {
            return Some(match left.max(right) {
                Rank::Int2 | Rank::Int4 | Rank::Int8 => Domain::Int,
                Rank::Numeric => Domain::Numeric,
                // Two `real` are widened to `double precision`, which keeps their order.
                Rank::Float4 | Rank::Float8 => Domain::Float,
            });
        }
        Some(match (left, right) {
            (Kind::Bool, Kind::Bool) => Domain::Bool,
            (Kind::Text, Kind::Text) => Domain::Text,
            (Kind::Bpchar, Kind::Bpchar) => Domain::Bpchar,
            (Kind::Citext(ctype), Kind::Citext(other)) if ctype == other => {
                Domain::Citext(CaseMap::of(ctype)?)
            }
            // `citext` becomes `text` by itself, but not the other way round: case counts.
            (Kind::Citext(_), Kind::Text) | (Kind::Text, Kind::Citext(_)) => Domain::Text,
            (Kind::Uuid, Kind::Uuid) => Domain::Uuid,
            (Kind::Bytea, Kind::Bytea) => Domain::Bytea,
            (Kind::Inet | Kind::Cidr, Kind::Inet | Kind::Cidr) => Domain::Inet,
            (Kind::MacAddr, Kind::MacAddr) => Domain::MacAddr,
            (Kind::MacAddr8, Kind::MacAddr8) => Domain::MacAddr8,
            (Kind::Bit, Kind::Bit) => Domain::Bit,
            (Kind::PgLsn, Kind::PgLsn) => Domain::PgLsn,
            (Kind::Interval, Kind::Interval) => Domain::Interval,
            (Kind::TimeTz, Kind::TimeTz) => Domain::TimeTz,
            (left @ Kind::Enum { .. }, right @ Kind::Enum { .. }) if left == right => Domain::Enum,
            (Kind::Date, Kind::Date) => Domain::Date,
            (Kind::Time, Kind::Time) => Domain::Time,
            (
                Kind::Date | Kind::Timestamp | Kind::TimestampTz,
                Kind::Date | Kind::Timestamp | Kind::TimestampTz,
            ) => Domain::Timestamp,
            _ => return None,
        })
    }

    /// The way in which a column of that type is read for the comparison.
    pub(super) fn reading(self, column: &Kind) -> Reading {
        match self {
            Domain::Bool => Reading::Bool,
            Domain::Int => Reading::Int,
            Domain::Numeric => Reading::Numeric,
            Domain::Float if *column == Kind::Float4 => Reading::Float4,
            Domain::Float => Reading::Float8,
            Domain::Text if *column == Kind::Bpchar => Reading::Bpchar,
            Domain::Text | Domain::Enum => Reading::Text,
            Domain::Bpchar => Reading::Bpchar,
            Domain::Citext(case) => Reading::Citext(case),
            Domain::Uuid => Reading::Uuid,
            Domain::Bytea => Reading::Bytea,
            Domain::Inet => Reading::Inet,
            Domain::MacAddr => Reading::MacAddr,
            Domain::MacAddr8 => Reading::MacAddr8,
            Domain::Bit => Reading::Bit,
            Domain::PgLsn => Reading::PgLsn,
            Domain::Interval => Reading::Interval,
            Domain::TimeTz => Reading::TimeTz,
            Domain::Date => Reading::Date,
            Domain::Time => Reading::Time,
            Domain::Timestamp => match column {
                Kind::Date => Reading::DateAsTimestamp,
                Kind::Timestamp => Reading::Timestamp,
                _ => Reading::TimestampTz,
            },
        }
    }

    /// The type that a constant of type `from` is cast to for the comparison. (A date is no cast: it compares even
    /// where it cannot be a timestamp.)
    pub(super) fn target(self, from: &Kind) -> Kind {
        match self {
            Domain::Int => from.clone(),
            Domain::Numeric => Kind::Numeric,
            Domain::Float if *from == Kind::Float4 => Kind::Float4,
            Domain::Float => Kind::Float8,
            _ => from.clone(),
        }
    }

    /// True if values are compared under a collation.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Domain::Text | Domain::Bpchar | Domain::Citext(_))
    }
}

/// True if a column's cast is told by its text: it fails for no value, depends on no setting, and is exact or rounds as
/// reading the text does.
pub(super) fn casts_in_place(from: &Kind, to: &Kind) -> bool {
    if let (Some(from), Some(to)) = (rank(from), rank(to)) {
        // A numeric can be too large for a float.
        return from <= to && !(from == Rank::Numeric && to > Rank::Numeric);
    }
    let is_its_text = matches!(
        from,
        Kind::Int2
            | Kind::Int4
            | Kind::Int8
            | Kind::Numeric
            | Kind::Text
            | Kind::Bpchar
            | Kind::Citext(_)
            | Kind::Uuid
            | Kind::Enum { .. }
            | Kind::Json
            | Kind::Jsonb
    );
    *to == Kind::Text && is_its_text
}

/// The number types in the order in which each casts implicitly to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Int2,
    Int4,
    Int8,
    Numeric,
    Float4,
    Float8,
}

fn rank(kind: &Kind) -> Option<Rank> {
    Some(match kind {
        Kind::Int2 => Rank::Int2,
        Kind::Int4 => Rank::Int4,
        Kind::Int8 => Rank::Int8,
        Kind::Numeric => Rank::Numeric,
        Kind::Float4 => Rank::Float4,
        Kind::Float8 => Rank::Float8,
        _ => return None,
    })
}

/// The place of a date type in the order in which each casts implicitly to the next.
fn date_rank(kind: &Kind) -> Option<u8> {
    match kind {
        Kind::Date => Some(1),
        Kind::Timestamp => Some(2),
        Kind::TimestampTz => Some(3),
        _ => None,
    }
}

/// The common type of the members of a list that have one (`select_common_type` in `parse_coerce.c`); `None` if they
/// have none in common.
pub(super) fn common_type<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Option<Kind> {
    let mut common: Option<&Kind> = None;
    for kind in kinds {
        common = Some(match common {
            None => kind,
            Some(same) if same == kind => kind,
            Some(Kind::Text) if matches!(kind, Kind::Citext(_)) => &Kind::Text,
            Some(Kind::Citext(_)) if *kind == Kind::Text => kind,
            Some(other) => match (rank(other), rank(kind), date_rank(other), date_rank(kind)) {
                (Some(a), Some(b), _, _) => {
                    if a < b {
                        kind
                    } else {
                        other
                    }
                }
                (_, _, Some(a), Some(b)) => {
                    if a < b {
                        kind
                    } else {
                        other
                    }
                }
                _ => return None,
            },
        });
    }
    // Nothing but quoted literals are text.
    Some(common.cloned().unwrap_or(Kind::Text))
}

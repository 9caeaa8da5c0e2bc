//! [`Type`]: a column's type as far as walcast needs to know it.

use serde::{Deserialize, Serialize};

use super::{Attnum, Ctype};

/// A column's type: its OID, its name, and what its text means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Type {
    /// The OID in `pg_type`; a domain's own, not its base type's.
    pub oid: u32,
    /// The name as `format_type(oid, typmod)` prints it, for example `character varying(20)`.
    pub name: String,
    /// The meaning of the type's text. A domain has its base type's kind.
    pub kind: Kind,
}

/// The families of types that differ in how their text is read, compared or printed as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// `boolean`
    Bool,
    /// `smallint`
    Int2,
    /// `integer`
    Int4,
    /// `bigint`
    Int8,
    /// `real`
    Float4,
    /// `double precision`
    Float8,
    /// `numeric`
    Numeric,
    /// `text`, `character varying` and `name`
    Text,
    /// `character(n)`, whose trailing blanks do not count in comparisons
    Bpchar,
    /// `citext`: text that compares by what `lower` makes of it under the database's own collation, which has this ctype.
    Citext(Ctype),
    /// `bytea`
    Bytea,
    /// `date`
    Date,
    /// `time without time zone`
    Time,
    /// `time with time zone`
    TimeTz,
    /// `timestamp without time zone`
    Timestamp,
    /// `timestamp with time zone`
    TimestampTz,
    /// `interval`
    Interval,
    /// `uuid`
    Uuid,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// `inet`
    Inet,
    /// `cidr`
    Cidr,
    /// `macaddr`
    MacAddr,
    /// `macaddr8`
    MacAddr8,
    /// `bit(n)` and `bit varying`
    Bit,
    /// `pg_lsn`
    PgLsn,
    /// An enumeration whose labels were not kept: journals of earlier versions have it.
    #[serde(rename = "Enum")]
    UnlabelledEnum,
    /// An enumeration.
    #[serde(rename = "EnumOf")]
    Enum {
        /// Its labels, in their declared order.
        labels: Vec<String>,
        /// The labels' OIDs, by which each is the same one under another name; none in journals of earlier versions.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        oids: Vec<u32>,
        /// True if the type is a domain over it: the operators of enumerations are of `anyenum`, which no domain is.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_domain: bool,
    },
    /// An array of elements of this kind.
    Array(Box<Kind>),
    /// `int2vector` and `oidvector`: elements of this kind, separated by blanks.
    Vector(Box<Kind>),
    /// A composite type.
    Composite {
        /// Its attributes, in order, without those that were dropped.
        attributes: Vec<Attribute>,
        /// True if none was ever dropped: a value with fewer is then older than the last ones, and has the first.
        only_grew: bool,
    },
    /// `hstore`, which the server prints by its cast to `json`.
    Hstore,
    /// A range or multirange whose bounds hold labels of an enumeration. Known by its text alone, like other ranges.
    Range(Box<Kind>),
    /// Any other type whose arrays separate their elements by this byte instead of a comma: `box`.
    Separated(u8),
    /// Any other type: known by its text alone.
    Other,
}

/// An attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// The name, unquoted.
    pub name: String,
    /// The number, by which it is the same attribute under another name.
    #[serde(default, skip_serializing_if = "Attnum::is_unknown")]
    pub attnum: Attnum,
    /// The meaning of its text.
    pub kind: Kind,
}

impl Kind {
    /// The kind of a type that is built into every server, by its fixed OID (`pg_type.dat`); `None` if the OID is not
    /// one of those whose text we know more about than that it is text.
    pub fn of_builtin(oid: u32) -> Option<Kind> {
        if let Some(element) = element_of_builtin_array(oid) {
            return Some(Kind::Array(Box::new(
                Kind::of_builtin(element).unwrap_or(Kind::Other),
            )));
        }
        Some(match oid {
            16 => Kind::Bool,
            17 => Kind::Bytea,
            19 | 25 | 1043 => Kind::Text,
            20 => Kind::Int8,
            21 => Kind::Int2,
            22 => Kind::Vector(Box::new(Kind::Int2)),
            23 => Kind::Int4,
            30 => Kind::Vector(Box::new(Kind::Other)),
            114 => Kind::Json,
            603 => Kind::Separated(b';'),
            650 => Kind::Cidr,
            700 => Kind::Float4,
            701 => Kind::Float8,
            774 => Kind::MacAddr8,
            829 => Kind::MacAddr,
            869 => Kind::Inet,
            1042 => Kind::Bpchar,
            1082 => Kind::Date,
            1083 => Kind::Time,
            1114 => Kind::Timestamp,
            1184 => Kind::TimestampTz,
            1186 => Kind::Interval,
            1266 => Kind::TimeTz,
            1560 | 1562 => Kind::Bit,
            1700 => Kind::Numeric,
            2950 => Kind::Uuid,
            3220 => Kind::PgLsn,
            3802 => Kind::Jsonb,
            _ => return None,
        })
    }

    /// The name of the type, or of the family if there is more than one, for messages.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Bool => "boolean",
            Kind::Int2 => "smallint",
            Kind::Int4 => "integer",
            Kind::Int8 => "bigint",
            Kind::Float4 => "real",
            Kind::Float8 => "double precision",
            Kind::Numeric => "numeric",
            Kind::Text => "text",
            Kind::Bpchar => "character",
            Kind::Citext(_) => "citext",
            Kind::Bytea => "bytea",
            Kind::Date => "date",
            Kind::Time => "time without time zone",
            Kind::TimeTz => "time with time zone",
            Kind::Timestamp => "timestamp without time zone",
            Kind::TimestampTz => "timestamp with time zone",
            Kind::Interval => "interval",
            Kind::Uuid => "uuid",
            Kind::Json => "json",
            Kind::Jsonb => "jsonb",
            Kind::Inet => "inet",
            Kind::Cidr => "cidr",
            Kind::MacAddr => "macaddr",
            Kind::MacAddr8 => "macaddr8",
            Kind::Bit => "bit",
            Kind::PgLsn => "pg_lsn",
            Kind::UnlabelledEnum | Kind::Enum { .. } => "enum",
            Kind::Array(_) => "array",
            Kind::Vector(_) => "vector",
            Kind::Composite { .. } => "composite",
            Kind::Hstore => "hstore",
            Kind::Range(_) | Kind::Separated(_) | Kind::Other => "other",
        }
    }

    /// The separator of the elements of an array of this kind (`typdelim`).
    pub fn delimiter(&self) -> u8 {
        match self {
            Kind::Separated(delimiter) => *delimiter,
            // An array has its element's, which matters where a domain over an array is the element of another.
            Kind::Array(element) => element.delimiter(),
            _ => b',',
        }
    }

    /// True if an enumeration can have got this label since its labels were read; there is no word of it in the stream.
    pub fn lacks_label(&self, text: &[u8]) -> bool {
        match self {
            Kind::Enum { labels, .. } => !labels.iter().any(|label| label.as_bytes() == text),
            _ => false,
        }
    }

    /// The kind of domains over a type of this kind.
    pub fn into_domain(mut self) -> Kind {
        if let Kind::Enum { is_domain, .. } = &mut self {
            *is_domain = true;
        }
        self
    }

    /// The kind of the type that a domain of this kind is over; of another type, its own.
    pub fn into_base(mut self) -> Kind {
        if let Kind::Enum { is_domain, .. } = &mut self {
            *is_domain = false;
        }
        self
    }

    /// True if values hold labels of an enumeration, which can be renamed without a word of it in the stream.
    pub fn has_labels(&self) -> bool {
        match self {
            Kind::Array(part) | Kind::Range(part) => part.has_labels(),
            Kind::Composite { attributes, .. } => {
                attributes.iter().any(|attribute| attribute.kind.has_labels())
            }
            Kind::Enum { .. } => true,
            _ => false,
        }
    }

    /// The first part of this kind that means something else in `now`, another version of it: a label that is called
    /// otherwise, or an attribute whose name another one has. What only one of the two has does not count.
    pub fn altered_in(&self, now: &Kind) -> Option<Altered> {
        match (self, now) {
            (
                Kind::Enum { labels, oids, .. },
                Kind::Enum {
                    labels: labels_now,
                    oids: oids_now,
                    ..
                },
            ) => {
                let are_numbered = oids.len() == labels.len() && oids_now.len() == labels_now.len();
                let renamed = if are_numbered {
                    renamed(labels, oids, labels_now, oids_now)
                } else {
                    out_of_order(labels, labels_now)
                };
                renamed.map(|label| Altered::Label(label.clone()))
            }
            (Kind::Array(told), Kind::Array(now)) | (Kind::Range(told), Kind::Range(now)) => {
                told.altered_in(now)
            }
            (
                Kind::Composite { attributes, .. },
                Kind::Composite {
                    attributes: attributes_now,
                    ..
                },
            ) => attributes.iter().find_map(|told| {
                let now = attributes_now.iter().find(|now| now.name == told.name)?;
                if told.attnum.may_differ(now.attnum) {
                    Some(Altered::Attribute(told.name.clone()))
                } else {
                    told.kind.altered_in(&now.kind)
                }
            }),
            _ => None,
        }
    }

    /// True if values hold composites, whose attributes can change without a word of it in the stream.
    pub fn has_composites(&self) -> bool {
        match self {
            Kind::Array(element) => element.has_composites(),
            Kind::Composite { .. } => true,
            _ => false,
        }
    }
}

/// The changes of a type under its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Altered {
    /// A label of an enumeration was renamed.
    #[error("the label {0:?} was renamed")]
    Label(String),
    /// An attribute of a composite was renamed, or dropped and added again.
    #[error("the attribute {0:?} is another one")]
    Attribute(String),
}

/// The first label that is called otherwise, or whose name another one has. Either may have labels that the other does
/// not have yet.
fn renamed<'l>(
    labels: &'l [String],
    oids: &[u32],
    labels_now: &[String],
    oids_now: &[u32],
) -> Option<&'l String> {
    let is_renamed = |(label, oid): &(&String, &u32)| {
        let is_it = |(label_now, oid_now): (&String, &u32)| (label_now == *label) != (oid_now == *oid);
        labels_now.iter().zip(oids_now).any(is_it)
    };
    labels.iter().zip(oids).find(is_renamed).map(|(label, _)| label)
}

/// The same by the labels' order alone. Where each has some that the other does not have, they may have been renamed.
fn out_of_order<'l>(labels: &'l [String], now: &[String]) -> Option<&'l String> {
    let common = || labels.iter().filter(|label| now.contains(label));
    let mut rest = now.iter();
    let moved = common().find(|label| !rest.any(|now| now == *label));
    let is_new = |label: &String| !labels.contains(label);
    moved.or_else(|| {
        let missing = labels.iter().find(|label| !now.contains(label));
        missing.filter(|_| now.iter().any(is_new))
    })
}

/// The element's OID of a built-in array type whose element kind we know.
fn element_of_builtin_array(oid: u32) -> Option<u32> {
    Some(match oid {
        1000 => 16,
        1001 => 17,
        1003 => 19,
        1009 => 25,
        1015 => 1043,
        1016 => 20,
        1005 => 21,
        1007 => 23,
        199 => 114,
        1021 => 700,
        1022 => 701,
        1014 => 1042,
        1182 => 1082,
        1183 => 1083,
        1115 => 1114,
        1185 => 1184,
        1187 => 1186,
        1270 => 1266,
        1231 => 1700,
        2951 => 2950,
        3807 => 3802,
        651 => 650,
        775 => 774,
        1040 => 829,
        1041 => 869,
        1561 => 1560,
        1563 => 1562,
        3221 => 3220,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[(&str, u32)]) -> Kind {
        Kind::Enum {
            labels: labels.iter().map(|(label, _)| (*label).to_owned()).collect(),
            oids: labels
                .iter()
                .filter(|(_, oid)| *oid > 0)
                .map(|(_, oid)| *oid)
                .collect(),
            is_domain: false,
        }
    }

    fn composite(attributes: &[(&str, i16, Kind)]) -> Kind {
        let attribute = |(name, number, kind): &(&str, i16, Kind)| Attribute {
            name: (*name).to_owned(),
            attnum: Attnum::new(*number),
            kind: kind.clone(),
        };
        Kind::Composite {
            attributes: attributes.iter().map(attribute).collect(),
            only_grew: true,
        }
    }

    #[test]
    fn a_label_that_was_renamed_means_something_else_and_one_that_was_added_changes_nothing() {
        let renamed = |label: &str| Some(Altered::Label(label.to_owned()));
        let told = labels(&[("a", 1), ("b", 2)]);
        for (now, altered) in [
            (labels(&[("a", 1), ("b", 2)]), None),
            (labels(&[("z", 9), ("a", 1), ("m", 8), ("b", 2)]), None),
            (labels(&[("b", 1), ("a", 2)]), renamed("a")),
            (labels(&[("a", 1), ("c", 2)]), renamed("b")),
            (labels(&[("b", 2)]), None),
            // Another one has its name now, in its place.
            (labels(&[("a", 3), ("x", 1), ("b", 2)]), renamed("a")),
        ] {
            assert_eq!(told.altered_in(&now), altered, "{now:?}");
            let array = |kind: &Kind| Kind::Array(Box::new(kind.clone()));
            assert_eq!(array(&told).altered_in(&array(&now)), altered);
            let within = |kind: &Kind| composite(&[("e", 1, kind.clone())]);
            assert_eq!(within(&told).altered_in(&within(&now)), altered);
        }
        // What an older journal has is told by the order.
        let told = labels(&[("a", 0), ("b", 0)]);
        for (now, altered) in [
            (labels(&[("a", 1), ("x", 3), ("b", 2)]), None),
            (labels(&[("b", 1), ("a", 2)]), renamed("b")),
            (labels(&[("a", 1), ("c", 2)]), renamed("b")),
            (labels(&[("a", 1)]), None),
        ] {
            assert_eq!(told.altered_in(&now), altered, "{now:?}");
        }
    }

    #[test]
    fn an_attribute_whose_name_another_has_means_something_else() {
        let told = composite(&[("x", 1, Kind::Int4), ("y", 2, Kind::Int4)]);
        let altered = |name: &str| Some(Altered::Attribute(name.to_owned()));
        for (now, expected) in [
            (told.clone(), None),
            (composite(&[("y", 2, Kind::Int4), ("z", 3, Kind::Int4)]), None),
            (
                composite(&[("y", 1, Kind::Int4), ("x", 2, Kind::Int4)]),
                altered("x"),
            ),
            (
                composite(&[("x", 1, Kind::Int4), ("y", 3, Kind::Int4)]),
                altered("y"),
            ),
            (Kind::Other, None),
        ] {
            assert_eq!(told.altered_in(&now), expected, "{now:?}");
        }
    }
}

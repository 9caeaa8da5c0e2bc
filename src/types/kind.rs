//! [`Type`]: a column's type as far as walcast needs to know it.

use serde::{Deserialize, Serialize};

use super::Ctype;

/// A column's type: its OID, its name, and what its text means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Type {
    /// The OID in `pg_type`; a domain's own, not its base type's.
    pub oid: u32,
    /// The name as `format_type(oid, typmod)` prints it, for example `character varying(20)`.
    pub name: String,
    /// What the type's text means. A domain has its base type's kind.
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
    },
    /// An array of elements of this kind.
    Array(Box<Kind>),
    /// `int2vector` and `oidvector`: elements of this kind, separated by blanks.
    Vector(Box<Kind>),
    /// A composite type.
    Composite {
        /// Its attributes, in order, without those that were dropped.
        attributes: Vec<Attribute>,
        /// Whether none was ever dropped: a value with fewer is then older than the last ones, and has the first.
        only_grew: bool,
    },
    /// `hstore`, which the server prints by its cast to `json`.
    Hstore,
    /// Any other type whose arrays separate their elements by this byte instead of a comma: `box`.
    Separated(u8),
    /// Any other type: known by its text alone.
    Other,
}

/// One attribute of a composite type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    /// The name, unquoted.
    pub name: String,
    /// What its text means.
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
            Kind::Separated(_) | Kind::Other => "other",
        }
    }

    /// What separates the elements of an array of this kind (`typdelim`).
    pub fn delimiter(&self) -> u8 {
        match self {
            Kind::Separated(delimiter) => *delimiter,
            // An array has its element's, which matters where a domain over an array is the element of another.
            Kind::Array(element) => element.delimiter(),
            _ => b',',
        }
    }

    /// Whether an enumeration can have got this label since its labels were read; there is no word of it in the stream.
    pub fn lacks_label(&self, text: &[u8]) -> bool {
        match self {
            Kind::Enum { labels } => !labels.iter().any(|label| label.as_bytes() == text),
            _ => false,
        }
    }

    /// Whether values hold composites, whose attributes can change without a word of it in the stream.
    pub fn has_composites(&self) -> bool {
        match self {
            Kind::Array(element) => element.has_composites(),
            Kind::Composite { .. } => true,
            _ => false,
        }
    }
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

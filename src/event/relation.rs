//! [`Relation`]: a published table as one version of its schema describes it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Logging;
use crate::types::{Attnum, CollationQuestion, Ctype, Kind, LibraryOrder, Type};

/// A table's name: a (schema, name) pair. Never joined with a dot for comparison: `"a.b"."c"` is not `"a"."b.c"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// The schema, unquoted.
    pub schema: String,
    /// The table, unquoted.
    pub name: String,
}

impl TableName {
    /// The table `name` of `schema`, both unquoted.
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> TableName {
        TableName {
            schema: schema.into(),
            name: name.into(),
        }
    }
}

impl TableName {
    /// The relation that the logical messages of a prefix go by, as if they were rows of a table. No table has a schema
    /// without a name.
    pub fn of_messages(prefix: impl Into<String>) -> TableName {
        TableName::new("", prefix)
    }

    /// The prefix, if this stands for logical messages.
    pub fn messages(&self) -> Option<&str> {
        self.schema.is_empty().then_some(&*self.name)
    }
}

impl fmt::Display for TableName {
    /// Prints the name as SQL needs it, quoted where necessary: `public.orders`, `"We""ird S"."T"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(prefix) = self.messages() {
            return write!(f, "messages of {prefix:?}");
        }
        for (part, separator) in [(&self.schema, "."), (&self.name, "")] {
            let plain = part.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if plain {
                f.write_str(part)?;
            } else {
                write!(f, "\"{}\"", part.replace('"', "\"\""))?;
            }
            f.write_str(separator)?;
        }
        Ok(())
    }
}

/// The old values of a row that the log holds for updates and deletes (`ALTER TABLE … REPLICA IDENTITY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaIdentity {
    /// The primary key's, if there is one.
    Default,
    /// None.
    Nothing,
    /// The whole old row.
    Full,
    /// A unique index's columns.
    Index,
}

impl fmt::Display for ReplicaIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReplicaIdentity::Default => "default",
            ReplicaIdentity::Nothing => "nothing",
            ReplicaIdentity::Full => "full",
            ReplicaIdentity::Index => "index",
        })
    }
}

/// The way in which a column's text compares, as far as equality and order on bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Collation {
    /// The type has no collation.
    None,
    /// `C` or `POSIX` in every respect: as `C`, and only ASCII letters have an upper and a lower case.
    Ascii,
    /// Equality and order are those of the bytes.
    C,
    /// Deterministic, and the order is that of the C library's `C.UTF-8`: that of the bytes, if the server says so.
    Library,
    /// Deterministic: equal means the same bytes; order is the server's secret.
    Deterministic,
    /// Nondeterministic: not even equality can be told from the bytes.
    Nondeterministic,
}

impl Collation {
    /// True if texts are known to be ordered as their bytes are.
    pub fn is_bytewise(self) -> bool {
        match self {
            Collation::Ascii | Collation::C => true,
            Collation::Library => LibraryOrder::known() == Some(LibraryOrder::CodePoints),
            Collation::None | Collation::Deterministic | Collation::Nondeterministic => false,
        }
    }

    /// The question that the server is to be asked before it is known whether texts are ordered as their bytes are.
    pub fn collation_question(self) -> Option<CollationQuestion> {
        let question = CollationQuestion::Order;
        (self == Collation::Library && !question.is_answered()).then_some(question)
    }
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name, unquoted.
    pub name: String,
    /// The number, by which it is the same column under another name.
    #[serde(default, skip_serializing_if = "Attnum::is_unknown")]
    pub attnum: Attnum,
    /// The type.
    #[serde(rename = "type")]
    pub ty: Type,
    /// The type modifier (`atttypmod`), -1 for none.
    pub typmod: i32,
    /// True if the column is part of the replica identity, so that old tuples hold it.
    pub identity: bool,
    /// The way in which its text compares.
    pub collation: Collation,
    /// The way in which its collation folds letters, where that is not part of `collation`. If its type has none, the
    /// database's, which the texts have that are made of it.
    #[serde(default, skip_serializing_if = "Ctype::is_unknown")]
    pub ctype: Ctype,
}

/// A published table as one version of its schema describes it. Rows refer to the version they were written under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// The table's OID.
    pub oid: u32,
    /// The table's name.
    pub table: TableName,
    /// The old values that the log holds.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the order in which tuples hold them.
    pub columns: Vec<Column>,
    /// The columns that make up the clients' `key`, as indexes into `columns`, in the order of the index that defines
    /// them: the primary key (identity default or full) or the identity index. Empty if the table has neither, or none
    /// that every update and delete tells in full.
    pub key: Vec<usize>,
    /// Everything else that the log holds.
    #[serde(default, skip_serializing_if = "Logging::is_plain")]
    pub logging: Logging,
}

/// A value of at most so many bytes is never stored out of line: the pointer to it would be as large
/// (`toast_helper.c`).
const TOAST_POINTER_BYTES: i32 = 24;

impl Column {
    /// True if a new row may lack the column's value because an update left it as it was: a value that may be stored
    /// out of line (TOAST). That depends on the type alone: with `SET STORAGE PLAIN` values that were stored before
    /// stay out of line.
    pub fn may_be_left_out(&self) -> bool {
        /// Types of a fixed length that are known here by their text alone: "char", name, the object identifiers, tid,
        /// xid, cid, xid8, point, lseg, box, line, circle, money and aclitem (`pg_type.typlen`, of 14 to 18).
        const FIXED: [u32; 25] = [
            18, 19, 24, 26, 27, 28, 29, 600, 601, 603, 628, 718, 790, 1033, 2202, 2203, 2204, 2205, 2206,
            3734, 3769, 4089, 4096, 4191, 5069,
        ];
        if FIXED.contains(&self.ty.oid) {
            return false;
        }
        match self.ty.kind {
            Kind::Bool | Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Float4 | Kind::Float8 => false,
            Kind::Date | Kind::Time | Kind::TimeTz | Kind::Timestamp | Kind::TimestampTz | Kind::Interval => {
                false
            }
            Kind::Uuid | Kind::MacAddr | Kind::MacAddr8 | Kind::PgLsn | Kind::Inet | Kind::Cidr => false,
            Kind::UnlabelledEnum | Kind::Enum { .. } | Kind::Vector(_) => false,
            Kind::Numeric => {
                // As `numeric_maximum_size` has it: a header of 8 bytes, and 2 bytes for 4 digits.
                let precision = (self.typmod - 4) >> 16;
                self.typmod < 4 || 8 + (precision + 6) / 4 * 2 > TOAST_POINTER_BYTES
            }
            _ => true,
        }
    }
}

impl Relation {
    /// True if old rows are logged whole.
    pub fn is_full(&self) -> bool {
        self.replica_identity == ReplicaIdentity::Full
    }

    /// The logical messages of a prefix: rows of one column, their content, that are only ever inserted. Postgres does
    /// not convert it: it `is_text` where the database is in UTF8, else bytes in whatever encoding.
    pub fn of_messages(prefix: &str, is_text: bool) -> Relation {
        let (oid, name, kind) = if is_text {
            (25, "text", Kind::Text)
        } else {
            (17, "bytea", Kind::Bytea)
        };
        let content = Column {
            name: "content".to_owned(),
            attnum: Attnum::UNKNOWN,
            ty: Type {
                oid,
                name: name.to_owned(),
                kind,
            },
            typmod: -1,
            identity: false,
            collation: Collation::C,
            ctype: Ctype::Unknown,
        };
        Relation {
            oid: 0,
            table: TableName::of_messages(prefix),
            replica_identity: ReplicaIdentity::Nothing,
            columns: vec![content],
            key: Vec::new(),
            logging: Logging::default(),
        }
    }

    /// The names of the key's columns, in its order.
    pub fn key_names(&self) -> Vec<&str> {
        let columns = self.key.iter().filter_map(|&index| self.columns.get(index));
        columns.map(|column| column.name.as_str()).collect()
    }

    /// True if it cannot be told of a column which one of the table it is.
    pub fn is_uncertain(&self) -> bool {
        self.columns
            .iter()
            .any(|column| column.attnum == Attnum::UNCERTAIN)
    }

    /// The highest number that one of its columns has, if they all have one.
    pub fn highest_attnum(&self) -> Option<i16> {
        let numbers = self.columns.iter().map(|column| column.attnum.number());
        let numbers: Option<Vec<i16>> = numbers.collect();
        numbers?.into_iter().max()
    }

    /// The index and the column of that (unquoted) name.
    pub fn column(&self, name: &str) -> Option<(usize, &Column)> {
        self.columns
            .iter()
            .enumerate()
            .find(|(_, column)| column.name == name)
    }
}

/// A table as the replication stream itself describes it. The catalog adds the rest to make a [`Relation`] of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamRelation {
    /// The table's OID.
    pub oid: u32,
    /// The table's name.
    pub table: TableName,
    /// The old values that the log holds.
    pub replica_identity: ReplicaIdentity,
    /// The published columns, in the order in which tuples hold them.
    pub columns: Vec<StreamColumn>,
}

/// A column as the replication stream describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamColumn {
    /// The name, unquoted.
    pub name: String,
    /// The type's OID.
    pub type_oid: u32,
    /// The type modifier (`atttypmod`), -1 for none.
    pub typmod: i32,
    /// True if the column is flagged as part of the replica identity. Under `FULL` all are.
    pub identity: bool,
}

impl From<&Relation> for StreamRelation {
    /// The relation as the stream described it.
    fn from(relation: &Relation) -> StreamRelation {
        let column = |column: &Column| StreamColumn {
            name: column.name.clone(),
            type_oid: column.ty.oid,
            typmod: column.typmod,
            identity: column.identity,
        };
        StreamRelation {
            oid: relation.oid,
            table: relation.table.clone(),
            replica_identity: relation.replica_identity,
            columns: relation.columns.iter().map(column).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_as_short_as_a_pointer_is_never_left_out() {
        let column = |kind: Kind, oid, typmod| Column {
            name: "c".to_owned(),
            ty: Type {
                oid,
                name: String::new(),
                kind,
            },
            typmod,
            identity: false,
            collation: Collation::None,
            ctype: Ctype::Unknown,
            attnum: Default::default(),
        };
        let numeric = |precision: i32| column(Kind::Numeric, 1700, ((precision << 16) | 2) + 4);
        for (column, may_be) in [
            (column(Kind::Int8, 20, -1), false),
            (column(Kind::UnlabelledEnum, 0, -1), false),
            (column(Kind::Text, 19, -1), false),
            (column(Kind::Text, 25, -1), true),
            (column(Kind::Other, 790, -1), false),
            (column(Kind::Other, 3904, -1), true),
            (column(Kind::Array(Box::new(Kind::Int4)), 1007, -1), true),
            (column(Kind::Numeric, 1700, -1), true),
            (numeric(10), false),
            (numeric(26), false),
            (numeric(1000), true),
        ] {
            assert_eq!(column.may_be_left_out(), may_be, "{column:?}");
        }
    }

    #[test]
    fn a_relation_says_ctypes_and_numbers_and_those_of_old_journals_none() {
        let mut relation = Relation::of_messages("p", true);
        let json = serde_json::to_string(&relation).unwrap();
        assert!(!json.contains("ctype") && !json.contains("attnum"), "{json}");
        assert_eq!(serde_json::from_str::<Relation>(&json).unwrap(), relation);
        let ctype = Ctype::Named("libc C.UTF-8".to_owned());
        for column in &mut relation.columns {
            column.attnum = Attnum::new(3);
            column.ty.kind = Kind::Citext(ctype.clone());
            column.ctype = ctype.clone();
        }
        let json = serde_json::to_string(&relation).unwrap();
        assert!(json.contains(r#""ctype":{"named":"libc C.UTF-8"}"#), "{json}");
        assert!(json.contains(r#""attnum":3"#), "{json}");
        assert_eq!(serde_json::from_str::<Relation>(&json).unwrap(), relation);
    }
}

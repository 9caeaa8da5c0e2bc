//! [`Logging`]: what Postgres logs of a table's old rows, beyond what its replica identity says, and what has it log
//! more.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Relation, quote_identifier};

/// The logging of a table's old rows, beyond what its replica identity says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Logging {
    /// True if updates and deletes come that do not tell which row they are of: the log holds no whole old rows, and
    /// the table has no key that it holds in full.
    pub unnamed: bool,
    /// True if the table was dropped before it could be looked at: what the stream itself does not say of it, such as
    /// its key under `REPLICA IDENTITY FULL`, is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dropped: bool,
    /// True if the table is partitioned. Each partition has a replica identity of its own and inherits none.
    pub partitioned: bool,
    /// The reason why `REPLICA IDENTITY FULL` alone would make the application's UPDATE and DELETE fail.
    pub obstacle: Option<Obstacle>,
    /// Caveats that subscribers are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caveats: Vec<Caveat>,
}

/// Something that a live query of a table cannot show, or that is wrong with it. `Display` says it in a clause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caveat {
    /// The application's UPDATE and DELETE fail, as the table is published.
    WritesFail {
        /// The first of the partitions that it is so for, as SQL has it, and how many there are; `None` if it is the
        /// table itself.
        partitions: Option<(String, u64)>,
        /// The reason.
        reason: Refusal,
    },
    /// The publications leave out these operations.
    LeftOut(Vec<String>),
    /// The publications have these operations of some partitions, and leave them out of others.
    LeftOutOfSome(Vec<String>),
    /// The publications have other row filters for one operation than for another.
    UnevenFilters,
    /// Partitions log no changes: they are foreign or unlogged.
    Silent {
        /// The first of them, as SQL has it.
        first: String,
        /// The number of them.
        count: u64,
    },
    /// The table is published by its root: the log does not hold what happens to a partition as a whole.
    WholePartitions,
}

/// The reason why the server refuses UPDATE and DELETE of a table that is published (`CheckCmdReplicaIdentity`). With
/// the name of a publication that it is so for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The table has no replica identity.
    NoIdentity,
    /// Its columns are not in the publication's list, or it is `FULL` and there is a list.
    ColumnList(String),
    /// The publication's row filter reads other columns.
    RowFilter(String),
    /// Generated columns of it are not published.
    Generated(String),
}

impl fmt::Display for Refusal {
    /// Says how the table is published.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoIdentity => f.write_str("published without a replica identity"),
            Refusal::ColumnList(publication) => write!(
                f,
                "published by {} with a column list that does not fit the replica identity",
                quote_identifier(publication)
            ),
            Refusal::RowFilter(publication) => write!(
                f,
                "published by {} with a row filter over columns outside the replica identity",
                quote_identifier(publication)
            ),
            Refusal::Generated(publication) => write!(
                f,
                "published by {} without generated columns of the replica identity",
                quote_identifier(publication)
            ),
        }
    }
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caveat::WritesFail { partitions, reason } => {
                f.write_str("UPDATE and DELETE fail")?;
                if let Some((first, count)) = partitions {
                    write!(f, " on {}", Partitions(first, *count))?;
                }
                write!(f, ": {reason}")
            }
            Caveat::LeftOut(operations) => write!(
                f,
                "the publications leave out {}: the rows grow stale",
                operations.join(", ")
            ),
            Caveat::LeftOutOfSome(operations) => write!(
                f,
                "the publications leave out {} of some partitions: their rows grow stale",
                operations.join(", ")
            ),
            Caveat::UnevenFilters => f.write_str(
                "the publications have different row filters for inserts, updates and deletes: rows that one of them \
                 leaves out grow stale",
            ),
            Caveat::Silent { first, count } => write!(
                f,
                "the rows of {} are left out: foreign and unlogged tables log no changes",
                Partitions(first, *count)
            ),
            Caveat::WholePartitions => f.write_str(
                "rows that come or go with a whole partition (ATTACH, DETACH, DROP or TRUNCATE of one) are not reported: \
                 resubscribe with a new snapshot after that",
            ),
        }
    }
}

/// Names partitions by the first of them.
struct Partitions<'a>(&'a str, u64);

impl fmt::Display for Partitions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Partitions(first, count) = self;
        match count.saturating_sub(1) {
            0 => write!(f, "the partition {first}"),
            others => write!(f, "the partition {first} and {others} more"),
        }
    }
}

/// The reason why `REPLICA IDENTITY FULL` alone makes UPDATE and DELETE of a published table fail (42P10).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// These publications, since version 18 any, leave out its stored generated columns.
    StoredGenerated(Vec<String>),
    /// It has virtual generated columns, which no publication can have.
    VirtualGenerated,
    /// These publications have a column list for it. Not even one of all columns will do.
    ColumnLists(Vec<String>),
}

impl Logging {
    /// True if the publications leave out an operation of the table: `insert`, `update`, `delete` or `truncate`.
    pub fn leaves_out(&self, operation: &str) -> bool {
        self.caveats.iter().any(|caveat| match caveat {
            Caveat::LeftOut(operations) => operations.iter().any(|left_out| left_out == operation),
            _ => false,
        })
    }

    /// True if there is nothing to say.
    pub fn is_plain(&self) -> bool {
        *self == Logging::default()
    }
}

/// The length that a name may have, in bytes (`NAMEDATALEN`).
const MAX_NAME: usize = 63;

impl Relation {
    /// The SQL that has old rows hold these columns from then on, and under which the application's INSERT, UPDATE and
    /// DELETE go on working; with the conditions in words where there are any.
    pub fn cure(&self, columns: &[&str]) -> String {
        match &self.logging.obstacle {
            None => self.full_identity(),
            Some(Obstacle::StoredGenerated(publications)) => {
                let publications = publications.iter().map(|name| quote_identifier(name));
                let mut statements: Vec<String> = publications
                    .map(|name| format!("ALTER PUBLICATION {name} SET (publish_generated_columns = stored)"))
                    .collect();
                statements.push(self.full_identity());
                statements.join("; ")
            }
            Some(Obstacle::VirtualGenerated) => format!(
                "REPLICA IDENTITY FULL would make UPDATE and DELETE fail, because {} has virtual generated columns; {}",
                self.table,
                self.index_identity(columns)
            ),
            Some(Obstacle::ColumnLists(publications)) => {
                let names: Vec<String> = publications.iter().map(|name| quote_identifier(name)).collect();
                format!(
                    "REPLICA IDENTITY FULL would make UPDATE and DELETE fail, because {} has a column list for {}; {}, or \
                     publish all of its columns and then: {}",
                    names.join(", "),
                    self.table,
                    self.index_identity(columns),
                    self.full_identity()
                )
            }
        }
    }

    /// True if the log tells all of every row that changes or leaves: under `REPLICA IDENTITY FULL`, or if rows only ever
    /// come. Without an identity Postgres lets no row be updated or deleted, or does not publish it.
    pub fn tells_all(&self) -> bool {
        let only_comes = self.columns.iter().all(|column| !column.identity) && !self.logging.unnamed;
        self.is_full() || only_comes
    }

    /// The statement that has the log hold whole old rows, unless there is an obstacle.
    /// The SQL that has old rows hold all columns.
    pub fn full_identity(&self) -> String {
        if !self.logging.partitioned {
            return format!("ALTER TABLE {} REPLICA IDENTITY FULL", self.table);
        }
        let root = super::quote_literal(&self.table.to_string());
        format!(
            "DO $cure$ DECLARE t regclass; BEGIN FOR t IN SELECT p.relid FROM pg_partition_tree({root}) p \
             JOIN pg_class c ON c.oid = p.relid AND c.relkind IN ('r', 'p') LOOP \
             EXECUTE format('ALTER TABLE %s REPLICA IDENTITY FULL', t); END LOOP; END $cure$;  -- each partition needs it, \
             and each that is made later: it is not inherited"
        )
    }

    /// The statements that put columns into the replica identity beside the key.
    fn index_identity(&self, columns: &[&str]) -> String {
        let key = self.key_names();
        if key.is_empty() || self.logging.partitioned {
            return format!(
                "put {} into a unique index of NOT NULL columns and make it the REPLICA IDENTITY{}",
                columns.join(", "),
                if self.logging.partitioned {
                    " of each partition"
                } else {
                    ""
                }
            );
        }
        let mut indexed = key;
        for column in columns {
            if !indexed.contains(column) {
                indexed.push(column);
            }
        }
        let indexed: Vec<String> = indexed.into_iter().map(quote_identifier).collect();
        let index = index_name(&self.table.name);
        format!(
            "instead, if {} NOT NULL: CREATE UNIQUE INDEX {index} ON {table} ({list}); ALTER TABLE {table} REPLICA \
             IDENTITY USING INDEX {index}",
            match columns {
                [column] => format!("{column} is"),
                columns => format!("{} are", columns.join(", ")),
            },
            table = self.table,
            list = indexed.join(", "),
        )
    }
}

/// A name for the index that identifies a table's rows, quoted.
fn index_name(table: &str) -> String {
    const SUFFIX: &str = "_replica_identity";
    let mut end = table.len().min(MAX_NAME - SUFFIX.len());
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    quote_identifier(&format!("{}{SUFFIX}", table.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(obstacle: Option<Obstacle>, partitioned: bool) -> Relation {
        let mut relation = Relation::of_messages("p", true);
        relation.table = super::super::TableName::new("public", "It's");
        relation.key = vec![0];
        relation.logging = Logging {
            dropped: false,
            unnamed: false,
            partitioned,
            obstacle,
            caveats: Vec::new(),
        };
        relation
    }

    #[test]
    fn the_cure_is_the_one_that_the_table_and_the_server_allow() {
        let cure = |obstacle, partitioned| relation(obstacle, partitioned).cure(&["state"]);
        let names = || vec!["p".to_owned()];
        assert_eq!(
            cure(None, false),
            "ALTER TABLE public.\"It's\" REPLICA IDENTITY FULL"
        );
        assert_eq!(
            cure(Some(Obstacle::StoredGenerated(names())), false),
            "ALTER PUBLICATION \"p\" SET (publish_generated_columns = stored); ALTER TABLE public.\"It's\" REPLICA IDENTITY \
             FULL"
        );
        let index = "instead, if state is NOT NULL: CREATE UNIQUE INDEX \"It's_replica_identity\" ON public.\"It's\" \
                     (\"content\", \"state\"); ALTER TABLE public.\"It's\" REPLICA IDENTITY USING INDEX \
                     \"It's_replica_identity\"";
        for obstacle in [Obstacle::VirtualGenerated, Obstacle::ColumnLists(names())] {
            let cure = cure(Some(obstacle), false);
            assert!(
                cure.contains("would make UPDATE and DELETE fail") && cure.contains(index),
                "{cure}"
            );
        }
        let partitions = cure(None, true);
        assert!(
            partitions.contains("pg_partition_tree('public.\"It''s\"')"),
            "{partitions}"
        );
    }

    #[test]
    fn what_is_plain_is_not_written_and_old_journals_have_none() {
        let plain = relation(None, false);
        let json = serde_json::to_string(&plain).unwrap();
        assert!(!json.contains("logging"), "{json}");
        assert_eq!(serde_json::from_str::<Relation>(&json).unwrap(), plain);
        let other = relation(Some(Obstacle::VirtualGenerated), true);
        let json = serde_json::to_string(&other).unwrap();
        assert_eq!(serde_json::from_str::<Relation>(&json).unwrap(), other);
    }

    #[test]
    fn the_index_s_name_fits_whatever_the_table_s() {
        let name = index_name(&"ä".repeat(31));
        assert!(
            name.len() <= MAX_NAME + 2 && name.ends_with("_replica_identity\""),
            "{name}"
        );
    }
}

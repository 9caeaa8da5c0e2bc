//! Tables whose old rows the log does not hold as live queries, or the application's own writes, need them.

use super::publications::Without;
use super::{Code, FoundTable, Inspection, Severity, listed};
use crate::event::{Caveat, Obstacle, Refusal, Relation, ReplicaIdentity, TableName, quote_identifier};
use crate::postgres::catalog::Catalog;
use crate::postgres::conninfo::ConnInfo;
use crate::postgres::error::Error;
use crate::postgres::select::PgType;

/// The same finding for several tables.
struct Group {
    code: Code,
    /// The words before the tables' names, and after them.
    words: (String, String),
    tables: Vec<Named>,
}

/// A table in a group.
struct Named {
    table: TableName,
    /// The words by which the finding names it, or a partition of it.
    shown: String,
    cure: String,
}

impl Inspection<'_> {
    /// Warnings that subscriptions to the tables will get, and why the application's writes fail.
    pub(super) fn identities(&mut self, info: &ConnInfo) -> Result<(), Error> {
        let relations = Catalog::new(info.clone()).tables(&self.wanted.publications)?;
        let mut groups: Vec<Group> = Vec::new();
        for relation in &relations {
            let mut found = Vec::new();
            for caveat in &relation.logging.caveats {
                found.extend(self.of_caveat(relation, caveat)?);
            }
            found.extend(relation.logging.unnamed.then(|| unnamed(relation)));
            for group in found {
                let is_same = |known: &&mut Group| known.code == group.code && known.words == group.words;
                match groups.iter_mut().find(is_same) {
                    Some(known) => known.tables.extend(group.tables),
                    None => groups.push(group),
                }
            }
        }
        for Group {
            code,
            words: (before, after),
            tables,
        } in groups
        {
            let shown: Vec<String> = tables.iter().map(|named| named.shown.clone()).collect();
            let what = format!("{before}{}{after}", listed(&shown));
            let first = tables.first().map(|named| named.cure.clone());
            let tables = tables.into_iter().map(|named| FoundTable {
                table: named.table,
                what: format!("{before}{}{after}", named.shown),
                cure: named.cure,
            });
            self.find(
                Severity::Warns,
                code,
                what,
                first.unwrap_or_default(),
                tables.collect(),
            );
        }
        self.partition_identities(&relations)
    }

    /// Partitions that log less than their root seems to say, or than others of its partitions.
    fn partition_identities(&mut self, relations: &[Relation]) -> Result<(), Error> {
        let is_weak = |relation: &&Relation| {
            relation.logging.partitioned && relation.replica_identity != ReplicaIdentity::Full
        };
        for relation in relations.iter().filter(is_weak) {
            let row = self.sql.select_one(
                "preflight",
                "WITH RECURSIVE tree(oid) AS (VALUES ($1) UNION ALL SELECT i.inhrelid FROM tree \
                         JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid) \
                     SELECT pg_catalog.bool_or(c.relreplident = 'f'), \
                         pg_catalog.min(c.oid::pg_catalog.regclass::text) FILTER (WHERE is_weak), \
                         pg_catalog.count(*) FILTER (WHERE is_weak) \
                     FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid \
                     CROSS JOIN LATERAL (SELECT c.relkind = 'r' AND c.relpersistence = 'p' AND c.relreplident <> 'f' \
                         AS is_weak) w",
                &[(&relation.oid, PgType::OID)],
            )?;
            let first: Option<&str> = row.get(1, "partition")?;
            let (Some(first), Some(true)) = (first, row.get(0, "replica identity")?) else {
                continue;
            };
            let count: i64 = row.get(2, "number of partitions")?;
            let others = match count {
                1 => String::new(),
                count => format!(" and {} more partitions of it", count - 1),
            };
            let what = format!(
                "{} is published by its root, and {first}{others} log less of old rows than REPLICA IDENTITY FULL, \
                 which the root or other partitions have: it is not inherited, and subscriptions that need more than \
                 all of them log are refused",
                relation.table
            );
            let cure = relation.cure(&names(relation));
            let of_table = FoundTable {
                table: relation.table.clone(),
                what: what.clone(),
                cure: cure.clone(),
            };
            self.find(
                Severity::Warns,
                Code::PartitionIdentities,
                what,
                cure,
                vec![of_table],
            );
        }
        Ok(())
    }

    fn of_caveat(&mut self, relation: &Relation, caveat: &Caveat) -> Result<Option<Group>, Error> {
        Ok(Some(match caveat {
            Caveat::WritesFail { partitions, reason } => Group {
                code: match reason {
                    Refusal::NoIdentity => Code::NoReplicaIdentity,
                    _ => Code::WritesFail,
                },
                words: ("UPDATE and DELETE fail on ".into(), format!(", {reason}")),
                tables: vec![Named {
                    table: relation.table.clone(),
                    shown: match partitions {
                        Some((first, count)) => partition_of(relation, first, *count),
                        None => relation.table.to_string(),
                    },
                    cure: self.of_refusal(relation, partitions.as_ref().map(|(first, _)| first), reason)?,
                }],
            },
            Caveat::Silent { first, count } => Group {
                code: Code::RowsLeftOut,
                words: (
                    "changes of ".into(),
                    " are not logged, being of foreign or unlogged tables: live queries leave their rows out"
                        .into(),
                ),
                tables: vec![Named {
                    table: relation.table.clone(),
                    shown: partition_of(relation, first, *count),
                    cure: format!(
                        "ALTER TABLE {first} SET LOGGED;  -- if it is unlogged; a foreign table cannot be followed"
                    ),
                }],
            },
            Caveat::UnevenFilters => Group {
                code: Code::RowFiltersDiffer,
                words: (
                    "the publications have different row filters for inserts, updates and deletes of ".into(),
                    ": rows that one of them leaves out grow stale".into(),
                ),
                tables: vec![named(relation, {
                    let publications = self.publications.clone();
                    let relisted = self.relisting(&publications, Some(relation.oid), Without::Filter)?;
                    format!(
                        "Give the table the same row filter in all of them, or none:\n{}",
                        relisted.join("\n")
                    )
                })],
            },
            Caveat::WholePartitions => Group {
                code: Code::WholePartitions,
                words: (
                    "rows that come or go with a whole partition of ".into(),
                    " are not reported: the log does not hold ATTACH, DETACH, DROP or TRUNCATE of one partition".into(),
                ),
                tables: vec![named(
                    relation,
                    "After one of these have clients resubscribe with new snapshots; or delete the rows before it."
                        .into(),
                )],
            },
            // It is said once for each publication.
            Caveat::LeftOut(_) | Caveat::LeftOutOfSome(_) => return Ok(None),
        }))
    }

    /// The cure after which UPDATE and DELETE work again.
    fn of_refusal(
        &mut self,
        relation: &Relation,
        partition: Option<&String>,
        refusal: &Refusal,
    ) -> Result<String, Error> {
        let own = relation.table.to_string();
        let table = partition.unwrap_or(&own);
        let by_default = format!("ALTER TABLE {table} REPLICA IDENTITY DEFAULT;");
        Ok(match refusal {
            Refusal::NoIdentity if partition.is_none() && !relation.key.is_empty() => by_default,
            Refusal::NoIdentity if relation.logging.obstacle.is_some() => {
                format!("ALTER TABLE {table} ADD PRIMARY KEY (…);")
            }
            Refusal::NoIdentity => {
                format!(
                    "ALTER TABLE {table} ADD PRIMARY KEY (…);  -- or: ALTER TABLE {table} REPLICA IDENTITY FULL;"
                )
            }
            Refusal::ColumnList(publication) => {
                let relisted = self.relisting(&[publication], Some(relation.oid), Without::List)?;
                let relisted = relisted.join("\n");
                let publish_all = format!(
                    "have {} publish all columns of {own}:\n{relisted}",
                    quote_identifier(publication)
                );
                let is_full = relation.replica_identity == ReplicaIdentity::Full;
                if is_full && partition.is_none() && !relation.key.is_empty() {
                    format!("{by_default}\n-- or {publish_all}")
                } else {
                    format!(
                        "Have it publish the columns of the replica identity, which must not be FULL, too, or {publish_all}"
                    )
                }
            }
            Refusal::RowFilter(publication) => format!(
                "Let the row filter of {} read columns of the replica identity alone, or: {}",
                quote_identifier(publication),
                relation.cure(&names(relation))
            ),
            Refusal::Generated(_) => match &relation.logging.obstacle {
                Some(Obstacle::StoredGenerated(publications)) => {
                    let publish = publications.iter().map(|name| {
                        format!(
                            "ALTER PUBLICATION {} SET (publish_generated_columns = stored);",
                            quote_identifier(name)
                        )
                    });
                    publish.collect::<Vec<_>>().join("\n")
                }
                _ => format!("{by_default}  -- no publication can have virtual generated columns"),
            },
        })
    }
}

fn names(relation: &Relation) -> Vec<&str> {
    relation
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect()
}

fn unnamed(relation: &Relation) -> Group {
    Group {
        code: Code::RowsUnnamed,
        words: (
            "updates and deletes of ".into(),
            " do not tell which row they are of: the log holds no key of it in full, and subscriptions that want them are \
             refused"
                .into(),
        ),
        tables: vec![named(relation, relation.cure(&names(relation)))],
    }
}

fn named(relation: &Relation, cure: String) -> Named {
    Named {
        table: relation.table.clone(),
        shown: relation.table.to_string(),
        cure,
    }
}

/// `first (and 2 more partitions of root)`, if these are `count`.
fn partition_of(relation: &Relation, first: &str, count: u64) -> String {
    match count {
        1 => first.to_owned(),
        count => format!(
            "{first} (and {} more partitions of {})",
            count - 1,
            relation.table
        ),
    }
}

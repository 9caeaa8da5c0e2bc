//! [`Denied`]: what the role lacks to read a table, and the SQL that gives it.

use std::fmt;

use super::{Error, Snapshots, statement};
use crate::event::{TableName, quote_identifier};
use crate::log::Log;
use crate::matching::Query;
use crate::postgres::{self, Connection, Row};

/// The right that the role lacks to read a table. `Display` says so in a sentence, with what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    role: String,
    table: TableName,
    lacks: Lacks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lacks {
    /// Row-level security would hide rows from it.
    RowSecurity,
    /// The right to use the schema, if that is what is missing, and to read columns: all, if none are named.
    Select { usage: bool, columns: Option<String> },
}

impl Denied {
    /// Reads the answer to [`statement::rights`].
    fn read(table: &TableName, row: &Row) -> Option<Denied> {
        let has_usage = row.get(1) == Some("t");
        let has_security = row.get(2) == Some("t");
        let columns = row.get(3);
        let none_at_all = row.get(4) == Some("t");
        let lacks = if has_security && has_usage && columns.is_none() {
            Lacks::RowSecurity
        } else {
            Lacks::Select {
                usage: !has_usage,
                columns: columns.filter(|_| !none_at_all).map(str::to_owned),
            }
        };
        Some(Denied {
            role: row.get(0)?.to_owned(),
            table: table.clone(),
            lacks,
        })
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = quote_identifier(&self.role);
        let table = statement::qualified(&self.table);
        match &self.lacks {
            Lacks::RowSecurity => write!(
                f,
                "row-level security hides rows of {} from walcast's role: ALTER ROLE {role} BYPASSRLS",
                self.table
            ),
            Lacks::Select { usage, columns } => {
                write!(f, "walcast's role may not read {}: ", self.table)?;
                if *usage {
                    let schema = quote_identifier(&self.table.schema);
                    write!(f, "GRANT USAGE ON SCHEMA {schema} TO {role}; ")?;
                }
                match columns {
                    Some(columns) => write!(f, "GRANT SELECT ({columns}) ON {table} TO {role}"),
                    None => write!(f, "GRANT SELECT ON {table} TO {role}"),
                }
            }
        }
    }
}

impl<H: Log> Snapshots<H> {
    /// Looks what the role lacks that was refused. Blocking.
    pub(super) fn denied(
        &self,
        query: &Query,
        connection: &mut Connection,
        refusal: postgres::Error,
    ) -> Error {
        let Some(relation) = query.relation() else {
            return refusal.into();
        };
        let row = connection.query_one("the role's rights", &statement::rights(query.view(relation)));
        let denied = row.ok().and_then(|row| Denied::read(&relation.table, &row));
        denied.map_or(refusal.into(), Error::Denied)
    }
}

//! [`Denied`]: the right that the role lacks to read a table, and the SQL that grants it.

use std::fmt;

use super::{Error, Snapshots, statement};
use crate::event::{TableName, quote_identifier};
use crate::log::Log;
use crate::matching::Query;
use crate::postgres::{self, Connection, PgType, TypedRow};

/// The right that the role lacks to read a table. `Display` has a sentence with the cure.
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
    /// The right to use the schema, if that is missing, and to read columns: all if `None`.
    Select { usage: bool, columns: Option<String> },
}

impl Denied {
    /// Reads the answer to [`statement::RIGHTS`].
    fn read(table: &TableName, row: &TypedRow) -> Result<Denied, postgres::Error> {
        let field = "the role's rights";
        let has_usage: bool = row.get(1, field)?;
        let has_security: bool = row.get(2, field)?;
        let columns: Option<String> = row.get(3, field)?;
        let none_at_all: bool = row.get(4, field)?;
        let lacks = if has_security && has_usage && columns.is_none() {
            Lacks::RowSecurity
        } else {
            Lacks::Select {
                usage: !has_usage,
                columns: columns.filter(|_| !none_at_all),
            }
        };
        Ok(Denied {
            role: row.get(0, field)?,
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
    /// Finds out which right the role lacks. Blocking.
    pub(super) fn denied(
        &self,
        query: &Query,
        connection: &mut Connection,
        refusal: postgres::Error,
    ) -> Error {
        let Some(relation) = query.relation() else {
            return refusal.into();
        };
        let view = query.view(relation);
        let columns: Vec<&str> = view.columns().map(|(_, column)| column.name.as_str()).collect();
        let row = connection.select_one(
            "the role's rights",
            statement::RIGHTS,
            &[(&relation.oid, PgType::OID), (&columns, PgType::TEXT_ARRAY)],
        );
        let denied = row.and_then(|row| Denied::read(&relation.table, &row));
        denied.map_or_else(|_| refusal.into(), Error::Denied)
    }
}

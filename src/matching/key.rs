//! [`QueryKey`]: decides which subscriptions share bytes.

use std::sync::Arc;

use crate::event::{Relation, TableName, Timestamp, View, Visible};
use crate::filter;
use crate::policy::Admission;
use crate::protocol::{ErrorCode, ErrorMessage, Ops, OrderBy, Undecided};
use crate::types::json::Numbers;

/// Everything that shapes the contents of a subscription, apart from its name and its place in the history.
///
/// Two subscriptions with equal keys share one match, one encoding of each change and one reading of a snapshot;
/// nothing that makes these may read any part of the query besides its key. A field that changes what a client gets or
/// may see belongs here: anywhere else, the first subscription's value would hold for all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryKey {
    /// The table.
    pub table: TableName,
    /// The text of the predicate; all rows if there is none.
    pub predicate: Option<Box<str>>,
    /// The values of its parameters, as a JSON array.
    pub params: Box<str>,
    /// The value of `now()` in the predicate, if it reads that and the value was set.
    pub now: Option<Timestamp>,
    /// The columns that the client listed, sorted; those of the table's key are always included. `None` for all that it
    /// sees.
    pub columns: Option<Vec<String>>,
    /// The columns that exist for the client. It sees no others in any row.
    pub visible: Visible,
    /// The part of the table that policies let the client see; `None` for all of it.
    pub admission: Option<Arc<Admission>>,
    /// The operations.
    pub ops: Ops,
    /// True if old rows are sent where they are known.
    pub old: bool,
    /// The treatment of changes for which the log does not decide whether they concern the result.
    pub undecided: Undecided,
    /// The form of numbers that exceed a double's precision.
    pub numbers: Numbers,
    /// The order in which its rows are read, and how many of them; only of a query that looks for the bound of another.
    pub first: Option<(Vec<OrderBy>, u32)>,
    /// The names of the key's columns as the client was told; `None` until they are known.
    pub row_key: Option<Vec<String>>,
}

impl QueryKey {
    /// A version of the table as the client sees it.
    pub fn view<'r>(&'r self, relation: &'r Relation) -> View<'r> {
        View::new(relation, &self.visible)
    }

    /// The indexes of the columns that are sent, in the relation's order: all, or those of its list and of the key.
    ///
    /// # Errors
    /// A column of its list is unknown.
    pub fn columns_of(&self, relation: &Relation) -> Result<Vec<usize>, ErrorMessage> {
        let view = self.view(relation);
        let Some(names) = &self.columns else {
            return Ok(view.columns().map(|(index, _)| index).collect());
        };
        let mut columns = relation.key.clone();
        for name in names {
            let found = view.column(name);
            let (index, _) = found.ok_or_else(|| unknown_column(view, &relation.table, name))?;
            columns.push(index);
        }
        columns.sort_unstable();
        columns.dedup();
        Ok(columns)
    }

    /// Checks that the columns of an order exist for the client.
    ///
    /// # Errors
    /// One is unknown.
    pub fn check_order(&self, order: &[OrderBy], relation: &Relation) -> Result<(), ErrorMessage> {
        let view = self.view(relation);
        let unknown = order.iter().find(|by| view.column(&by.column).is_none());
        match unknown {
            None => Ok(()),
            Some(by) => Err(unknown_column(view, &relation.table, &by.column)),
        }
    }
}

fn unknown_column(view: View<'_>, table: &TableName, name: &str) -> ErrorMessage {
    let names = view.columns().map(|(_, column)| column.name.as_str());
    let hint = filter::nearest(name, names).map(|near| format!(": did you mean {near}?"));
    let message = format!("{table} has no column {name:?}{}", hint.unwrap_or_default());
    ErrorMessage::new(ErrorCode::UnknownColumn, message)
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;

//! [`QueryKey`]: what decides whose bytes are shared.

use std::sync::Arc;

use crate::event::{Relation, TableName, Timestamp, View, Visible};
use crate::filter;
use crate::policy::Admission;
use crate::protocol::{ErrorCode, ErrorMessage, Ops, Undecided};
use crate::types::json::Numbers;

/// Everything that shapes what a subscription is sent, but for its name and its place in the history.
///
/// Two subscriptions with equal keys share one match, one encoding of each change and one reading of a snapshot;
/// whatever makes these reads nothing of the query beside its key. A field that changes what a client gets or may see
/// belongs here: outside, the first subscription's would hold for all others, too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryKey {
    /// The table.
    pub table: TableName,
    /// The text of the predicate; all rows if there is none.
    pub predicate: Option<Box<str>>,
    /// The values of its parameters, as a JSON array.
    pub params: Box<str>,
    /// The value of `now()` in it, if it asks for that and it was set.
    pub now: Option<Timestamp>,
    /// The columns that the client listed, sorted; the key's are always included. All that it sees if `None`.
    pub columns: Option<Vec<String>>,
    /// The columns that exist for the client: in no row does it see others.
    pub visible: Visible,
    /// The part of the table that policies let the client see; everything if `None`.
    pub admission: Option<Arc<Admission>>,
    /// The operations.
    pub ops: Ops,
    /// True if old rows are sent where they are known.
    pub old: bool,
    /// The way in which changes are treated of which the log does not tell whether they concern it.
    pub undecided: Undecided,
    /// The way in which numbers beyond a double's precision are sent.
    pub numbers: Numbers,
    /// The names of the columns by which the client tells rows apart, as it was told; `None` until they are known.
    pub row_key: Option<Vec<String>>,
}

impl QueryKey {
    /// A version of the table as the client sees it.
    pub fn view<'r>(&'r self, relation: &'r Relation) -> View<'r> {
        View::new(relation, &self.visible)
    }

    /// The indexes of the columns that are sent, in the relation's order: all, or those of its list and the key's.
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
            let (index, _) = found.ok_or_else(|| {
                let names = view.columns().map(|(_, column)| column.name.as_str());
                let hint = filter::nearest(name, names).map(|near| format!(": did you mean {near}?"));
                let hint = hint.unwrap_or_default();
                let message = format!("{} has no column {name:?}{hint}", relation.table);
                ErrorMessage::new(ErrorCode::UnknownColumn, message)
            })?;
            columns.push(index);
        }
        columns.sort_unstable();
        columns.dedup();
        Ok(columns)
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;

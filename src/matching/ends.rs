//! The reasons why subscriptions end, and their messages to clients.

use super::query::{ChangedColumn, Query};
use crate::event::{Column, ColumnChange, Relation, TableName};
use crate::protocol::{Detail, ErrorCode, ErrorMessage};

/// The reason why a query cannot go on after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its predicate fails for the row.
    Fails,
    /// The row is too large to be sent, and has no key to identify it.
    Unnamed,
}

/// The message about a table that no longer exists under its name, or is no longer published.
pub fn gone_message(name: &TableName) -> ErrorMessage {
    schema_changed(format!(
        "{name} was dropped, renamed or replaced, or is not published any more: resubscribe with a new snapshot"
    ))
}

/// The message to a client whose query needs a column that is another one in this version of the table; `None` if there
/// is no such column.
pub fn changed_message(query: &Query, relation: &Relation) -> Option<ErrorMessage> {
    if let Some(ChangedColumn { told, here, change }) = query.changed_in(relation) {
        return Some(message_of(relation, told, here, &change));
    }
    let (here, change) = query.shown_otherwise(relation)?;
    Some(message_of(relation, here, here, &change))
}

fn message_of(relation: &Relation, told: &Column, here: &Column, change: &ColumnChange) -> ErrorMessage {
    let name = &here.name;
    let table = &relation.table;
    schema_changed(match change {
        ColumnChange::Type => format!(
            "the column {name:?} of {table} is of type {} here, and was of type {} when it was subscribed to: \
             resubscribe with a new snapshot",
            here.ty.name, told.ty.name
        ),
        ColumnChange::Column => format!(
            "the column that is called {name:?} in {table} here is not the one that was when it was subscribed to: \
             resubscribe with a new snapshot"
        ),
        ColumnChange::Uncertain => format!(
            "{table} was changed, and it cannot be told whether its column {name:?} is the one that was subscribed to: \
             resubscribe with a new snapshot"
        ),
        ColumnChange::Parts(altered) => format!(
            "the type {} of the column {name:?} of {table} was changed, {altered}: resubscribe with a new snapshot",
            here.ty.name
        ),
        ColumnChange::Letters => format!(
            "the collation of the column {name:?} of {table} is another one than when it was subscribed to: \
             resubscribe with a new snapshot"
        ),
    })
}

/// The message to a client whose query cannot go on in a version of its table that was found in the database, since a
/// column that it needs is another one there, or is gone; `None` if it can.
pub fn unfit_message(query: &Query, relation: &Relation) -> Option<ErrorMessage> {
    changed_message(query, relation)
        .or_else(|| gone_column_message(query, relation))
        .or_else(|| unjudged_message(query, relation))
}

/// The message to a client whose policies judge rows differently in this version of the table; `None` if they do not.
/// It names no column, since the client may not know those that decide.
pub fn unjudged_message(query: &Query, relation: &Relation) -> Option<ErrorMessage> {
    let admission = query.key().admission.as_ref()?;
    (!admission.fits(relation)).then(|| {
        schema_changed(format!(
            "{} was changed, and with it which of its rows this client may see: resubscribe with a new snapshot",
            relation.table
        ))
    })
}

/// The message to a client whose query needs a column that this version of its table lacks; `None` if it has them all.
pub(super) fn gone_column_message(query: &Query, relation: &Relation) -> Option<ErrorMessage> {
    let gone = &query.gone_in(relation)?.name;
    let table = &relation.table;
    Some(schema_changed(format!(
        "{table} has no column {gone:?} any more: subscribe without it"
    )))
}

/// The message to a client whose predicate fails for a row.
pub(super) fn failed_message(table: &TableName) -> ErrorMessage {
    let message = format!(
        "the predicate fails for a row of {table} that was written now, as the SELECT does: a value cannot be cast, is \
         out of range, or is divided by zero; mend the row, or put a condition before the cast that leaves out such rows"
    );
    ErrorMessage::new(ErrorCode::BadPredicate, message)
}

/// The message to a client of a table without a key, about a row that is too large to be sent.
pub(super) fn unnamed_message(table: &TableName) -> ErrorMessage {
    let message = format!(
        "a row of {table} was written or deleted that is larger than the server sends (--max-row-bytes), and without a key \
         it cannot be told which one: give the table a primary key, and resubscribe with a new snapshot"
    );
    ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit("row_bytes"))
}

/// The error that ends a subscription whose table has changed.
pub(super) fn schema_changed(message: String) -> ErrorMessage {
    ErrorMessage::new(ErrorCode::SchemaChanged, message)
}

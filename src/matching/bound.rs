//! [`Bound`]: a query bound to one version of its table: the changes that it wants, and their encoder.

use std::collections::HashMap;
use std::sync::Arc;

use super::key::QueryKey;
use super::query::Query;
use crate::event::{Relation, View, Visible};
use crate::filter::{self, Matcher, Operation, ResultChange};
use crate::protocol::v1::{RowEncoder, RowShape};
use crate::protocol::{ErrorCode, ErrorMessage, Ops, Undecided};
use crate::types::json::Numbers;

/// A query bound to one version of its table, apart from its predicate.
#[derive(Debug)]
pub struct Bound {
    ops: Ops,
    /// True if it is not told of rows that may have left the result.
    withholds: bool,
    /// True if it wants to know of them, and the log leaves some open.
    pub watches: bool,
    /// The encoder of the rows that it wants.
    pub encoder: Arc<RowEncoder>,
}

impl Bound {
    /// Binds a query and its predicate, sharing the projections of its table's other queries.
    ///
    /// # Errors
    /// A column is unknown, or the predicate does not fit the columns' types; the key is not the one that the client
    /// goes by; the changes that it wants do not tell which rows they are of; the replica identity does not decide what
    /// the query must know.
    pub fn new(
        query: &Query,
        relation: &Arc<Relation>,
        shared: &mut ShapeCache,
    ) -> Result<(Bound, Arc<Matcher>), ErrorMessage> {
        let matcher = query.matcher(relation)?;
        let key = query.key();
        let view = key.view(relation);
        if view.hidden_key().is_some() {
            return Err(hidden_key(relation));
        }
        if let Some(row_key) = &key.row_key {
            check_key(row_key, relation)?;
        }
        if relation.logging.unnamed && (key.ops.update || key.ops.delete) {
            return Err(unnamed(view));
        }
        let undecided = key.leaves_open(&matcher, relation);
        if let (Undecided::Refuse, Some(undecided)) = (key.undecided, &undecided) {
            return Err(ErrorMessage::new(ErrorCode::ReplicaIdentity, undecided.refusal()));
        }
        let encoder = shared.get(key, relation)?;
        let withholds = key.undecided == Undecided::Withhold;
        let bound = Bound {
            ops: key.ops,
            withholds,
            watches: !withholds && key.ops.delete && !filter::decides(&matcher, relation),
            encoder,
        };
        Ok((bound, matcher))
    }

    /// True if the query wants to know of such a change of its result.
    pub fn wants(&self, result: ResultChange) -> bool {
        match result.op {
            Operation::Insert => self.ops.insert,
            Operation::Update => self.ops.update,
            Operation::Delete => self.ops.delete && !(self.withholds && result.may_have_left()),
            Operation::Truncate => self.ops.truncate,
            Operation::Failure => true,
        }
    }

    /// True if clients tell the rows by their values alone, and have to take them away again.
    pub(super) fn keeps_rows_without_key(&self) -> bool {
        let keeps = self.ops.update || self.ops.delete;
        keeps && self.encoder.has_no_key()
    }
}

/// The encoders that the queries on one version of a table want, one for each shape.
#[derive(Debug, Default)]
pub struct ShapeCache {
    shapes: HashMap<ShapeKey, Arc<RowEncoder>>,
    /// The number of encoders after unused ones were last dropped.
    swept: usize,
}

/// The part of a query's key that shapes its rows, whatever the version of its table.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ShapeKey {
    columns: Option<Vec<String>>,
    visible: Visible,
    old: bool,
    numbers: Numbers,
}

impl ShapeCache {
    fn get(&mut self, query: &QueryKey, relation: &Relation) -> Result<Arc<RowEncoder>, ErrorMessage> {
        let key = ShapeKey {
            columns: query.columns.clone(),
            visible: query.visible.clone(),
            old: query.old,
            numbers: query.numbers,
        };
        if let Some(encoder) = self.shapes.get(&key) {
            return Ok(Arc::clone(encoder));
        }
        // The columns are looked up once for all queries with the same list, not for each that is bound.
        let shape = RowShape {
            columns: query.columns_of(relation)?,
            old: query.old,
            numbers: query.numbers,
        };
        let encoder = Arc::new(RowEncoder::new(&shape, relation));
        self.forget_unused();
        self.shapes.insert(key, Arc::clone(&encoder));
        Ok(encoder)
    }

    /// Drops encoders that no query uses, once there are twice as many as the last time.
    fn forget_unused(&mut self) {
        if self.shapes.len() > 2 * self.swept {
            self.shapes.retain(|_, encoder| Arc::strong_count(encoder) > 1);
            self.swept = self.shapes.len();
        }
    }
}

/// True if the relation's key is the one that the client goes by.
fn check_key(key: &[String], relation: &Relation) -> Result<(), ErrorMessage> {
    let names = relation.key_names();
    if names == key {
        return Ok(());
    }
    let names = names.join(", ");
    let key = key.join(", ");
    let table = &relation.table;
    let message = match (relation.logging.dropped, names.as_str()) {
        (true, _) => format!("{table} was dropped: resubscribe with a new snapshot"),
        (false, "") => {
            format!("the key of {table} is gone, and was ({key}): resubscribe with a new snapshot")
        }
        (false, _) => format!("the key of {table} is ({names}), not ({key})"),
    };
    Err(ErrorMessage::new(ErrorCode::SchemaChanged, message))
}

/// The refusal of a client that may not see the key: it could not tell which row a change is of.
fn hidden_key(relation: &Relation) -> ErrorMessage {
    let message = format!("the key of {} is not visible to this client", relation.table);
    ErrorMessage::new(ErrorCode::Forbidden, message)
}

/// The refusal of a subscription to changes that do not name their row.
fn unnamed(view: View<'_>) -> ErrorMessage {
    let columns: Vec<&str> = view.columns().map(|(_, column)| column.name.as_str()).collect();
    let relation = view.relation();
    let message = format!(
        "updates and deletes of {} do not tell which row they are of: the log holds no key of it in full; subscribe to \
         \"ops\": [\"insert\", \"truncate\"], or fix: {}",
        relation.table,
        relation.cure(&columns)
    );
    ErrorMessage::new(ErrorCode::ReplicaIdentity, message)
}

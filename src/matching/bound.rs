//! [`Bound`]: a query bound to one version of its table: the changes that it wants, and their encoder.

use std::collections::HashMap;
use std::sync::Arc;

use super::admitted::Shapes;
use super::binding::Selection;
use super::key::QueryKey;
use super::query::Query;
use crate::event::{Relation, RowChange, View, Visible};
use crate::filter::{self, Matcher, Operation, ResultChange};
use crate::policy::BoundAdmission;
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
    /// The encoder of the rows that it wants, with all columns that its client sees of any.
    pub encoder: Arc<RowEncoder>,
    /// The encoders where the columns that it sees differ from row to row.
    shapes: Option<Box<Shapes>>,
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
    ) -> Result<(Bound, Arc<Selection>), ErrorMessage> {
        let selection = query.selection(relation)?;
        let (matcher, key) = (selection.predicate(), query.key());
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
        let undecided = key.leaves_open(matcher, relation);
        if let (Undecided::Refuse, Some(undecided)) = (key.undecided, &undecided) {
            return Err(ErrorMessage::new(ErrorCode::ReplicaIdentity, undecided.refusal()));
        }
        let encoder = shared.get(key, relation)?;
        let withholds = key.undecided == Undecided::Withhold;
        let mut bound = Bound {
            ops: key.ops,
            withholds,
            watches: !withholds && key.ops.delete && !filter::decides(matcher, relation),
            encoder,
            shapes: None,
        };
        if let Some(admission) = selection.admission() {
            bound.admit(key, matcher, admission, relation)?;
        }
        Ok((bound, selection))
    }

    /// Restricts it to what policies let its client see.
    fn admit(
        &mut self,
        key: &Arc<QueryKey>,
        matcher: &Matcher,
        admission: &BoundAdmission,
        relation: &Relation,
    ) -> Result<(), ErrorMessage> {
        if !admission.shows_key(relation) {
            return Err(hidden_key(relation));
        }
        if !admission.is_decided(relation) {
            return Err(undecided_policy(relation));
        }
        let allowed = admission.ops();
        self.ops = Ops {
            insert: self.ops.insert && allowed.insert,
            update: self.ops.update && allowed.update,
            delete: self.ops.delete && allowed.delete,
            truncate: self.ops.truncate && allowed.truncate,
        };
        if !admission.is_uniform() {
            let read = matcher.columns().iter();
            let read = read.filter_map(|&index| relation.columns.get(index));
            let read = read.map(|column| column.name.clone()).collect();
            self.shapes = Some(Box::new(Shapes::new(key, admission, read)));
        }
        Ok(())
    }

    /// The encoder of a change that the query [wants](Bound::wants); `None` if its client may not hear of it.
    pub(super) fn encoder_of(
        &mut self,
        change: &RowChange<'_>,
        result: ResultChange,
        cache: &mut ShapeCache,
    ) -> Option<Arc<RowEncoder>> {
        match &mut self.shapes {
            None => Some(Arc::clone(&self.encoder)),
            Some(shapes) => shapes.encoder(change, result, cache),
        }
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
    /// The columns that are visible of old rows.
    visible_old: Visible,
    old: bool,
    numbers: Numbers,
}

impl ShapeKey {
    fn of(query: &QueryKey, visible: Visible, visible_old: Visible) -> ShapeKey {
        ShapeKey {
            columns: query.columns.clone(),
            visible,
            visible_old,
            old: query.old,
            numbers: query.numbers,
        }
    }
}

impl ShapeCache {
    fn get(&mut self, query: &QueryKey, relation: &Relation) -> Result<Arc<RowEncoder>, ErrorMessage> {
        let key = ShapeKey::of(query, query.visible.clone(), query.visible.clone());
        if let Some(encoder) = self.shapes.get(&key) {
            return Ok(Arc::clone(encoder));
        }
        // The columns are looked up once for all queries with the same list, not for each that is bound.
        let columns = query.columns_of(relation)?;
        Ok(self.make(key, columns.clone(), columns, relation))
    }

    /// The encoder of a query's rows of which other columns are visible than of others; `None` if that is not even the
    /// key.
    pub(super) fn of_rows(
        &mut self,
        query: &QueryKey,
        visible: Visible,
        visible_old: Visible,
        relation: &Relation,
    ) -> Option<Arc<RowEncoder>> {
        let columns = |visible: &Visible| {
            let view = View::new(relation, visible);
            let is_sent = |index: &usize| {
                let column = relation.columns.get(*index);
                column.is_some_and(|column| view.column(&column.name).is_some())
            };
            let sent = query.columns_of(relation).ok()?;
            Some(sent.into_iter().filter(is_sent).collect::<Vec<_>>())
        };
        let (row, old) = (columns(&visible)?, columns(&visible_old)?);
        let key = ShapeKey::of(query, visible, visible_old);
        if let Some(encoder) = self.shapes.get(&key) {
            return Some(Arc::clone(encoder));
        }
        Some(self.make(key, row, old, relation))
    }

    fn make(
        &mut self,
        key: ShapeKey,
        columns: Vec<usize>,
        old_columns: Vec<usize>,
        relation: &Relation,
    ) -> Arc<RowEncoder> {
        let shape = RowShape {
            columns,
            old_columns,
            old: key.old,
            numbers: key.numbers,
        };
        let encoder = Arc::new(RowEncoder::new(&shape, relation));
        self.forget_unused();
        self.shapes.insert(key, Arc::clone(&encoder));
        encoder
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

/// The refusal of a client whose policies the log does not decide. It names no column, since the client may not know of
/// those that decide.
fn undecided_policy(relation: &Relation) -> ErrorMessage {
    let cure = match relation.logging.obstacle {
        None => format!("fix: {}", relation.full_identity()),
        Some(_) => "`walcast check --config` says how whoever runs the server can mend it".to_owned(),
    };
    let message = format!(
        "the log does not hold enough of the old rows of {} to tell which of them this client may see; {cure}",
        relation.table
    );
    ErrorMessage::new(ErrorCode::ReplicaIdentity, message)
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

//! [`Bound`]: a query bound to one version of its table, with the changes that it wants and their encoder.

use std::sync::Arc;

use super::admitted::Shapes;
use super::binding::Selection;
use super::key::QueryKey;
use super::query::Query;
use super::shapes::ShapeCache;
use crate::event::{Relation, RowChange, View};
use crate::filter::{self, Operation, ResultChange};
use crate::policy::BoundAdmission;
use crate::protocol::v1::RowEncoder;
use crate::protocol::{ErrorCode, ErrorMessage, Ops, Undecided};

/// A query bound to one version of its table, apart from its predicate.
#[derive(Debug)]
pub struct Bound {
    ops: Ops,
    /// True if rows that may have left the result are withheld.
    withholds: bool,
    /// True if it is told of such rows, and the log leaves some undecided.
    pub watches: bool,
    /// The encoder with all columns that its client sees of any row.
    pub encoder: Arc<RowEncoder>,
    /// The encoders by row, if the visible columns differ from row to row.
    shapes: Option<Box<Shapes>>,
}

impl Bound {
    /// Binds a query and its predicate, sharing the projections of its table's other queries.
    ///
    /// # Errors
    /// A column is unknown, the predicate does not fit the columns' types, the key is not the one that the client was
    /// told, the changes do not identify their rows, or the replica identity leaves the result undecided.
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
            bound.admit(key, &selection, admission, relation)?;
        }
        Ok((bound, selection))
    }

    /// Restricts it to what policies let its client see.
    fn admit(
        &mut self,
        key: &Arc<QueryKey>,
        selection: &Arc<Selection>,
        admission: &BoundAdmission,
        relation: &Relation,
    ) -> Result<(), ErrorMessage> {
        if !admission.shows_key(relation) {
            return Err(hidden_key(relation));
        }
        if !admission.is_decided(relation) {
            return Err(undecided_policy(relation));
        }
        self.ops = self.ops.and(admission.ops());
        if !admission.is_uniform() {
            self.shapes = Some(Box::new(Shapes::new(key, selection)));
        }
        Ok(())
    }

    /// The encoder of a change that the query [wants](Bound::wants); `None` if its client may not hear of it.
    pub(super) fn encoder_of(
        &mut self,
        change: &RowChange<'_>,
        result: ResultChange,
        cache: &mut ShapeCache,
    ) -> Option<&Arc<RowEncoder>> {
        match &mut self.shapes {
            None => Some(&self.encoder),
            Some(shapes) => shapes.encoder(change, result, cache),
        }
    }

    /// True if the query wants to know of such a change of its result.
    pub fn wants(&self, result: ResultChange) -> bool {
        let is_withheld = self.withholds && result.op == Operation::Delete && result.may_have_left();
        result.op.is_in(self.ops) && !is_withheld
    }

    /// True if clients identify rows by all their values, and have to remove them again.
    pub(super) fn keeps_rows_without_key(&self) -> bool {
        let keeps = self.ops.update || self.ops.delete;
        keeps && self.encoder.has_no_key()
    }
}

/// Checks that the relation's key is the one that the client was told.
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

/// The refusal for a client that may not see the key, and so could not tell which row a change is of.
fn hidden_key(relation: &Relation) -> ErrorMessage {
    let message = format!("the key of {} is not visible to this client", relation.table);
    ErrorMessage::new(ErrorCode::Forbidden, message)
}

/// The refusal for a client whose policies the log leaves undecided. It names no column, since the client may not know
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

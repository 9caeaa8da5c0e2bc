//! [`Bound`]: a query bound to one version of its table, ready to write the rows that it matches.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use super::key::QueryKey;
use super::query::Query;
use crate::event::{OldTuple, Op, Projection, Relation, RowChange, Tuple, Value, View};
use crate::filter::{self, Decision, Matcher, Operation, ResultChange};
use crate::protocol::{ErrorCode, ErrorMessage, Ops, Undecided};
use crate::types::Kind as TypeKind;
use crate::types::json::{self, Numbers};

/// A query bound to one version of its table, apart from its predicate.
#[derive(Debug)]
pub struct Bound {
    ops: Ops,
    /// It is not told of rows that may have left the result.
    withholds: bool,
    /// It wants to know of them, and the log leaves some open.
    pub watches: bool,
    /// The shape of the rows that it wants.
    pub wanted: Arc<RowShape>,
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
        let wanted = shared.get(key, relation)?;
        let withholds = key.undecided == Undecided::Withhold;
        let bound = Bound {
            ops: key.ops,
            withholds,
            watches: !withholds && key.ops.delete && !filter::decides(&matcher, relation),
            wanted,
        };
        Ok((bound, matcher))
    }

    /// True if the query wants to know of such a change of its result.
    pub fn wants(&self, membership: ResultChange) -> bool {
        match membership.op {
            Operation::Insert => self.ops.insert,
            Operation::Update => self.ops.update,
            Operation::Delete => self.ops.delete && !(self.withholds && membership.may_have_left()),
            Operation::Truncate => self.ops.truncate,
            Operation::Failure => true,
        }
    }

    /// True if clients tell the rows by their values alone, and have to take them away again.
    pub(super) fn keeps_rows_without_key(&self) -> bool {
        let keeps = self.ops.update || self.ops.delete;
        keeps && self.wanted.key_columns.is_empty() && !self.wanted.messages
    }
}

/// The shape of the rows that a query wants, bound to one version of its table.
#[derive(Debug)]
pub struct RowShape {
    /// The columns that are sent, in the relation's order.
    pub columns: Vec<usize>,
    row: Projection,
    key: Projection,
    key_columns: Vec<usize>,
    old: bool,
    /// The rows are logical messages.
    messages: bool,
}

/// The shapes that the queries on one version of a table want, one of each kind.
#[derive(Debug, Default)]
pub struct ShapeCache {
    shapes: HashMap<ShapeKey, Arc<RowShape>>,
    /// The number of those that were there when those that no query wants were last dropped.
    swept: usize,
}

/// The part of a query's key that shapes its rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ShapeKey {
    columns: Vec<usize>,
    old: bool,
    numbers: Numbers,
}

impl ShapeCache {
    fn get(&mut self, query: &QueryKey, relation: &Relation) -> Result<Arc<RowShape>, ErrorMessage> {
        let key = ShapeKey {
            columns: query.columns_of(relation)?,
            old: query.old,
            numbers: query.numbers,
        };
        if let Some(shape) = self.shapes.get(&key) {
            return Ok(Arc::clone(shape));
        }
        let shape = Arc::new(RowShape::new(&key, relation));
        self.forget_unused();
        self.shapes.insert(key, Arc::clone(&shape));
        Ok(shape)
    }

    /// Drops what no query wants any more, whenever there is twice as much as what was wanted the last time.
    fn forget_unused(&mut self) {
        if self.shapes.len() > 2 * self.swept {
            self.shapes.retain(|_, shape| Arc::strong_count(shape) > 1);
            self.swept = self.shapes.len();
        }
    }
}

impl RowShape {
    fn new(key: &ShapeKey, relation: &Relation) -> RowShape {
        RowShape {
            row: Projection::new(relation, &key.columns, key.numbers),
            key: Projection::new(relation, &relation.key, key.numbers),
            key_columns: relation.key.clone(),
            columns: key.columns.clone(),
            // Without a key only the old row says which row it was.
            old: key.old || relation.key.is_empty(),
            messages: relation.table.messages().is_some(),
        }
    }

    /// Writes a change as a subscription sees it: its JSON object without the opening brace and the `id`.
    pub fn write(&self, change: &RowChange<'_>, membership: ResultChange, out: &mut Vec<u8>) {
        if self.messages {
            return write_message(change, out);
        }
        let (old, new) = match change.op {
            Op::Insert { new } => (None, Some(new)),
            Op::Update { old, new } => (old, Some(new)),
            Op::Delete { old } => (Some(old), None),
            Op::Truncate => (None, None),
        };
        let start = write!(
            out,
            ",\"seq\":{},\"op\":\"{}\"",
            change.seq,
            membership.op.as_str()
        );
        start.expect("writing to memory does not fail");
        if membership.by_update {
            out.extend_from_slice(b",\"cause\":\"update\"");
        }
        if let Decision::MayBe { as_before } = membership.decision {
            out.extend_from_slice(b",\"undecided\":true");
            // Of a row that was too large it is not known what changed.
            if as_before && !change.oversize {
                out.extend_from_slice(b",\"as_before\":true");
            }
        }
        if change.oversize {
            self.write_oversize(old.map(|old| old.tuple()), new, membership.op, out);
            out.push(b'}');
            return;
        }
        match (membership.op, new) {
            (Operation::Insert | Operation::Update, Some(new)) => {
                self.write_row(new, old.map(|old| old.tuple()), out);
                let changed = old
                    .filter(|old| membership.op == Operation::Update && self.key_changed(old.tuple(), new));
                if let Some(old) = changed {
                    self.write_key(old.tuple(), out);
                }
            }
            (Operation::Delete, _) => {
                if let Some(tuple) = old.map(|old| old.tuple()).or(new) {
                    self.write_key(tuple, out);
                }
            }
            _ => {}
        }
        if let Some(OldTuple::Full(tuple)) = old.filter(|_| self.old && membership.op != Operation::Insert) {
            out.extend_from_slice(b",\"old\":");
            self.row.write_row(tuple, None, out);
        }
        out.push(b'}');
    }

    /// Writes what is said of a row that was too large: which one it is, under its old key and its new one.
    fn write_oversize(
        &self,
        old: Option<Tuple<'_>>,
        new: Option<Tuple<'_>>,
        operation: Operation,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(b",\"oversize\":true");
        let row = match operation {
            Operation::Insert => new,
            _ => old.or(new),
        };
        if let Some(row) = row {
            self.write_key(row, out);
        }
        if let (Operation::Update, Some(old), Some(new)) = (operation, old, new)
            && self.key_changed(old, new)
        {
            out.extend_from_slice(b",\"new_key\":");
            self.key.write_row(new, Some(old), out);
        }
    }

    fn write_row(&self, new: Tuple<'_>, fill: Option<Tuple<'_>>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"row\":");
        let unchanged = self.row.write_row(new, fill, out);
        if unchanged > 0 {
            out.extend_from_slice(b",\"unchanged\":");
            self.row.write_unchanged(new, fill, out);
        }
    }

    fn write_key(&self, tuple: Tuple<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"key\":");
        self.key.write_row(tuple, None, out);
    }

    fn key_changed(&self, old: Tuple<'_>, new: Tuple<'_>) -> bool {
        self.key_columns.iter().any(|&column| {
            let new = new.get(column);
            new != Some(Value::Unchanged) && old.get(column) != new
        })
    }
}

/// Writes a logical message. What is no text is written as `bytea` is, and says so; so does one that was too large.
fn write_message(change: &RowChange<'_>, out: &mut Vec<u8>) {
    let start = write!(out, ",\"seq\":{},\"op\":\"message\",\"content\":", change.seq);
    start.expect("writing to memory does not fail");
    let content = match change.op {
        Op::Insert { new } => new.get(0),
        _ => None,
    };
    let column = change.relation.columns.first();
    let is_text = column.is_some_and(|content| content.ty.kind == TypeKind::Text);
    match content {
        Some(Value::Text(text)) if text.is_ascii() || (is_text && std::str::from_utf8(text).is_ok()) => {
            json::write_string(text, out);
        }
        Some(Value::Text(bytes)) => {
            out.extend_from_slice(br#""\\x"#);
            for byte in bytes {
                write!(out, "{byte:02x}").expect("writing to memory does not fail");
            }
            out.extend_from_slice(br#"","encoding":"hex""#);
        }
        _ => out.extend_from_slice(br#"null,"oversize":true"#),
    }
    out.push(b'}');
}

/// True if the relation's key is the one that the client goes by.
fn check_key(key: &[String], relation: &Relation) -> Result<(), ErrorMessage> {
    let names = relation.key_names();
    if names == key {
        return Ok(());
    }
    let (names, key) = (names.join(", "), key.join(", "));
    let table = &relation.table;
    let message = match (relation.logging.dropped, names.as_str()) {
        (true, _) => format!("{table} was dropped: start anew"),
        (false, "") => format!("the key of {table} is gone, and was ({key}): start anew"),
        (false, _) => format!("the key of {table} is ({names}), not ({key})"),
    };
    Err(ErrorMessage::new(ErrorCode::SchemaChanged, message))
}

/// The refusal of a client that may not see the key: it could not tell which row a change is of.
fn hidden_key(relation: &Relation) -> ErrorMessage {
    let message = format!("the key of {} is not visible to this client", relation.table);
    ErrorMessage::new(ErrorCode::Forbidden, message)
}

/// The reason why changes cannot be told to anybody: nobody would know of which row.
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

//! [`RowEncoder`]: a change as subscribers to the same shape of rows are told it.

use std::io::Write as _;

use crate::event::{OldTuple, Op, Projection, Relation, RowChange, Tuple, Value};
use crate::filter::{Decision, Operation, ResultChange};
use crate::types::Kind as TypeKind;
use crate::types::json::{self, Numbers};

/// All that shapes the rows of a query in one version of its table.
#[derive(Clone, Debug)]
pub struct RowShape {
    /// The indexes of the columns that are sent, in the relation's order.
    pub columns: Vec<usize>,
    /// The indexes of those that are sent of old rows.
    pub old_columns: Vec<usize>,
    /// True if old rows are sent where they are known.
    pub old: bool,
    /// The way in which numbers beyond a double's precision are sent.
    pub numbers: Numbers,
}

/// Writes the changes of one version of a table for all queries that want the same shape of rows.
#[derive(Debug)]
pub struct RowEncoder {
    columns: Vec<usize>,
    row: Projection,
    /// Of old rows, where other columns are sent of them.
    old_row: Option<Projection>,
    key: Projection,
    key_columns: Vec<usize>,
    old: bool,
    /// The rows are logical messages.
    messages: bool,
}

impl RowEncoder {
    /// The encoder of rows of that shape, in one version of their table.
    pub fn new(shape: &RowShape, relation: &Relation) -> RowEncoder {
        RowEncoder {
            row: Projection::new(relation, &shape.columns, shape.numbers),
            old_row: (shape.old_columns != shape.columns)
                .then(|| Projection::new(relation, &shape.old_columns, shape.numbers)),
            key: Projection::new(relation, &relation.key, shape.numbers),
            key_columns: relation.key.clone(),
            columns: shape.columns.clone(),
            // Without a key only the old row says which row it was.
            old: shape.old || relation.key.is_empty(),
            messages: relation.table.messages().is_some(),
        }
    }

    /// The columns that are sent, in the relation's order.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// True if the rows are of a table without a key: clients tell them apart by their values alone.
    pub fn has_no_key(&self) -> bool {
        self.key_columns.is_empty() && !self.messages
    }

    /// Writes a change as a subscription sees it: its JSON object without the opening brace and the `id`.
    pub fn write(&self, change: &RowChange<'_>, result: ResultChange, out: &mut Vec<u8>) {
        if self.messages {
            return write_message(change, out);
        }
        let (old, new) = match change.op {
            Op::Insert { new } => (None, Some(new)),
            Op::Update { old, new } => (old, Some(new)),
            Op::Delete { old } => (Some(old), None),
            Op::Truncate => (None, None),
        };
        let start = write!(out, ",\"seq\":{},\"op\":\"{}\"", change.seq, result.op.as_str());
        start.expect("writing to memory does not fail");
        if result.by_update {
            out.extend_from_slice(b",\"cause\":\"update\"");
        }
        if let Decision::MayBe { as_before } = result.decision {
            out.extend_from_slice(b",\"undecided\":true");
            // Of a row that was too large it is not known what changed.
            if as_before && !change.oversize {
                out.extend_from_slice(b",\"as_before\":true");
            }
        }
        if change.oversize {
            self.write_oversize(old.map(|old| old.tuple()), new, result.op, out);
            out.push(b'}');
            return;
        }
        match (result.op, new) {
            (Operation::Insert | Operation::Update, Some(new)) => {
                self.write_row(new, old.map(|old| old.tuple()), out);
                let changed =
                    old.filter(|old| result.op == Operation::Update && self.key_changed(old.tuple(), new));
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
        if let Some(OldTuple::Full(tuple)) = old.filter(|_| self.old && result.op != Operation::Insert) {
            out.extend_from_slice(b",\"old\":");
            let row = self.old_row.as_ref().unwrap_or(&self.row);
            row.write_row(tuple, None, out);
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

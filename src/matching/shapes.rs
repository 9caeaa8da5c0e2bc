//! [`ShapeCache`]: the encoders of rows, shared by queries that need the same bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::key::QueryKey;
use crate::event::{Relation, View, Visible};
use crate::protocol::ErrorMessage;
use crate::protocol::v1::{RowEncoder, RowShape};
use crate::types::json::Numbers;

/// The encoders for the queries on one version of a table, one for each shape.
#[derive(Debug, Default)]
pub struct ShapeCache {
    shapes: HashMap<ShapeKey, Arc<RowEncoder>>,
    /// The number of encoders after the last sweep.
    swept: usize,
}

/// The part of a query's key that shapes its rows, in any version of its table.
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
    /// The encoder of a query's rows.
    ///
    /// # Errors
    /// A column of its list is unknown.
    pub(super) fn get(
        &mut self,
        query: &QueryKey,
        relation: &Relation,
    ) -> Result<Arc<RowEncoder>, ErrorMessage> {
        let key = ShapeKey::of(query, query.visible.clone(), query.visible.clone());
        if let Some(encoder) = self.shapes.get(&key) {
            return Ok(Arc::clone(encoder));
        }
        // The columns are looked up once for all queries with the same list, not for each that is bound.
        let columns = query.columns_of(relation)?;
        Ok(self.make(key, columns.clone(), columns, relation))
    }

    /// The encoder of those of a query's rows that show only these columns; `None` if a column of the query's list is
    /// not there.
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

    /// Drops encoders that no query uses, once there are twice as many as the last sweep left.
    fn forget_unused(&mut self) {
        if self.shapes.len() > 2 * self.swept {
            self.shapes.retain(|_, encoder| Arc::strong_count(encoder) > 1);
            self.swept = self.shapes.len();
        }
    }
}

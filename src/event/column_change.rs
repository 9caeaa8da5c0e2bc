//! [`ColumnChange`]: what a column's name stands for now, beside what it stood for.

use super::Column;
use crate::types::Altered;

/// In what a column differs from the one of its name that a client was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnChange {
    /// It is another column.
    Column,
    /// It cannot be told whether it is another column.
    Uncertain,
    /// Its type is another one.
    Type,
    /// A label or an attribute of its type.
    Parts(Altered),
    /// Its collation folds other letters.
    Letters,
}

impl ColumnChange {
    /// In what two columns of the same name differ.
    pub fn of(told: &Column, here: &Column) -> Option<ColumnChange> {
        if told.attnum.may_differ(here.attnum) {
            let are_known = told.attnum.number().is_some() && here.attnum.number().is_some();
            return Some(if are_known {
                ColumnChange::Column
            } else {
                ColumnChange::Uncertain
            });
        }
        if told.ty.oid != here.ty.oid {
            return Some(ColumnChange::Type);
        }
        if let Some(altered) = told.ty.kind.altered_in(&here.ty.kind) {
            return Some(ColumnChange::Parts(altered));
        }
        let are_known = !told.ctype.is_unknown() && !here.ctype.is_unknown();
        (are_known && told.ctype != here.ctype).then_some(ColumnChange::Letters)
    }
}

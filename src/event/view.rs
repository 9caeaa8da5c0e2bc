//! [`View`]: a version of a table as one caller sees it.

use super::{Column, Relation, TableName};

/// The columns of a table that exist for a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Visible {
    /// All that are published.
    #[default]
    All,
    /// These, by their names in ascending order. Others that the table has, or comes to have, do not exist.
    Only(Box<[String]>),
}

impl Visible {
    /// These columns.
    pub fn only(names: impl IntoIterator<Item = String>) -> Visible {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Visible::Only(names.into())
    }

    /// The columns that are visible by any of these.
    pub fn any_of<'v>(all: impl IntoIterator<Item = &'v Visible>) -> Visible {
        let mut names = Vec::new();
        for visible in all {
            match visible {
                Visible::All => return Visible::All,
                Visible::Only(columns) => names.extend(columns.iter().cloned()),
            }
        }
        Visible::only(names)
    }

    /// True if a column of that name exists for the caller.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Visible::All => true,
            Visible::Only(names) => names.binary_search_by(|known| (**known).cmp(name)).is_ok(),
        }
    }
}

/// A version of a table as one caller sees it. Whatever a client is told of columns is asked of its view, so that a
/// hidden column answers as one that does not exist: in predicates, column lists, rows, errors, hints and warnings.
#[derive(Clone, Copy, Debug)]
pub struct View<'r> {
    relation: &'r Relation,
    visible: &'r Visible,
}

impl<'r> View<'r> {
    /// The version as a caller sees it for whom these columns are visible.
    pub fn new(relation: &'r Relation, visible: &'r Visible) -> View<'r> {
        View { relation, visible }
    }

    /// The version with all of its columns.
    pub fn whole(relation: &'r Relation) -> View<'r> {
        View {
            relation,
            visible: &Visible::All,
        }
    }

    /// The version itself, for what does not depend on who sees it: how rows are stored and what the log holds of them.
    pub fn relation(self) -> &'r Relation {
        self.relation
    }

    /// The table's name.
    pub fn table(self) -> &'r TableName {
        &self.relation.table
    }

    /// The visible columns, with their indexes in the version's rows.
    pub fn columns(self) -> impl Iterator<Item = (usize, &'r Column)> {
        let columns = self.relation.columns.iter().enumerate();
        columns.filter(move |(_, column)| self.visible.has(&column.name))
    }

    /// The visible column of a name, with its index.
    pub fn column(self, name: &str) -> Option<(usize, &'r Column)> {
        let found = self.relation.column(name)?;
        self.visible.has(name).then_some(found)
    }

    /// The first column of the key that is hidden: such a view cannot tell its caller which row a change is of.
    pub fn hidden_key(self) -> Option<&'r Column> {
        let mut key = self.relation.key.iter();
        key.find_map(|&index| {
            let column = self.relation.columns.get(index)?;
            (!self.visible.has(&column.name)).then_some(column)
        })
    }
}

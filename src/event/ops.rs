//! [`Ops`]: a set of operations on rows.

/// A set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ops {
    /// Rows that come into the result.
    pub insert: bool,
    /// Rows that stay in it with new values.
    pub update: bool,
    /// Rows that leave it.
    pub delete: bool,
    /// The table's truncation.
    pub truncate: bool,
}

impl Ops {
    /// Every operation.
    pub const ALL: Ops = Ops {
        insert: true,
        update: true,
        delete: true,
        truncate: true,
    };
    /// No operation.
    pub const NONE: Ops = Ops {
        insert: false,
        update: false,
        delete: false,
        truncate: false,
    };

    /// The operations by their names.
    pub const NAMES: [&str; 4] = ["insert", "update", "delete", "truncate"];

    /// Adds the operation of a name; false if there is none.
    pub fn add(&mut self, name: &str) -> bool {
        match name {
            "insert" => self.insert = true,
            "update" => self.update = true,
            "delete" => self.delete = true,
            "truncate" => self.truncate = true,
            _ => return false,
        }
        true
    }

    /// Those that are in both.
    #[must_use]
    pub fn and(self, other: Ops) -> Ops {
        Ops {
            insert: self.insert && other.insert,
            update: self.update && other.update,
            delete: self.delete && other.delete,
            truncate: self.truncate && other.truncate,
        }
    }

    /// Those that are in either.
    #[must_use]
    pub fn or(self, other: Ops) -> Ops {
        Ops {
            insert: self.insert || other.insert,
            update: self.update || other.update,
            delete: self.delete || other.delete,
            truncate: self.truncate || other.truncate,
        }
    }
}

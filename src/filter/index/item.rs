//! [`Item`]: what is filed.

/// An item that is filed: a conjunction of a predicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) entry: u32,
    /// The number of the conjunction.
    pub(super) part: u32,
}

impl Item {
    pub(super) fn new(entry: u32, part: u32) -> Item {
        Item { entry, part }
    }
}

//! [`BoundAdmission`]: an admission bound to one version of its table.

use super::{Admission, Grant};
use crate::event::{Op, Relation, View, Visible};
use crate::filter::{self, Matcher, Operation, Verdict};
use crate::protocol::Ops;

/// The groups of grants that admit a row, one bit each.
pub type Mask = u64;

/// The most groups, which are different lists of columns and operations of one role for one table.
pub const MAX_GROUPS: usize = Mask::BITS as usize;

/// The groups that admit the row of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Masks {
    /// The groups that admit the old row; none if there was no row.
    pub before: Mask,
    /// The groups that admit the new row; none if the row is gone.
    pub after: Mask,
}

/// The part of the rows of one version of a table that a caller may see.
#[derive(Clone, Debug)]
pub struct BoundAdmission {
    groups: Vec<Group>,
}

/// The grants that show the same columns for the same operations, as one.
#[derive(Clone, Debug)]
struct Group {
    rows: Matcher,
    columns: Visible,
    ops: Ops,
}

impl BoundAdmission {
    /// Binds an admission to a version of its table. A condition admits nothing if it cannot be bound, such as when a
    /// claim is not a value of the type that it is cast to, or if its columns are not those by which it was judged.
    pub fn new(admission: &Admission, relation: &Relation) -> BoundAdmission {
        let mut groups: Vec<Group> = Vec::new();
        for grant in admission.grants() {
            let rows = rows(admission, grant, relation).unwrap_or_else(Matcher::none);
            let same = |group: &Group| group.columns == grant.columns && group.ops == grant.ops;
            match groups.iter().position(same) {
                Some(place) => {
                    if let Some(group) = groups.get_mut(place) {
                        group.rows = Matcher::any_of([group.rows.clone(), rows]);
                    }
                }
                // A group without a bit in the mask shows nothing.
                None if groups.len() == MAX_GROUPS => {}
                None => groups.push(Group {
                    rows,
                    columns: grant.columns.clone(),
                    ops: grant.ops,
                }),
            }
        }
        BoundAdmission { groups }
    }

    /// True if all admitted rows show the same columns for the same operations.
    pub fn is_uniform(&self) -> bool {
        self.groups.len() < 2
    }

    /// True if every admitted row shows the table's key.
    pub fn shows_key(&self, relation: &Relation) -> bool {
        let key = relation.key_names();
        let mut groups = self.groups.iter();
        groups.all(|group| key.iter().all(|name| group.columns.has(name)))
    }

    /// The operations that are visible for at least some rows.
    pub fn ops(&self) -> Ops {
        let ops = self.groups.iter().map(|group| group.ops);
        ops.fold(Ops::NONE, Ops::or)
    }

    /// The rows that are certainly admitted, and of which each of these columns is visible.
    pub fn rows_with(&self, relation: &Relation, columns: &[usize]) -> Matcher {
        let any_that = |shows: &dyn Fn(&Group) -> bool| {
            let groups = self.groups.iter().filter(|group| shows(group));
            Matcher::any_of(groups.map(|group| group.rows.clone())).certain()
        };
        let named = columns.iter().filter_map(|&index| relation.columns.get(index));
        let each = named.map(|column| any_that(&|group| group.columns.has(&column.name)));
        let all: Vec<Matcher> = each.chain([any_that(&|_| true)]).collect();
        Matcher::all_of(all)
    }

    /// The columns that the conditions read, ascending.
    pub fn columns(&self) -> Vec<usize> {
        let read = self.groups.iter().flat_map(|group| group.rows.columns());
        let mut read: Vec<usize> = read.copied().collect();
        read.sort_unstable();
        read.dedup();
        read
    }

    /// True if the log always decides whether the old and the new row of a change are admitted.
    pub fn is_decided(&self, relation: &Relation) -> bool {
        let mut groups = self.groups.iter();
        groups.all(|group| filter::decides(&group.rows, relation))
    }

    /// The groups that admit the row of a change.
    pub fn masks(&self, relation: &Relation, op: &Op<'_>) -> Masks {
        let mut masks = Masks::default();
        for (bit, group) in self.groups.iter().enumerate() {
            let (before, after) = filter::verdicts(&group.rows, relation, op);
            let admits = |verdict: Option<Verdict>| Mask::from(verdict == Some(Verdict::Matches)) << bit;
            masks.before |= admits(before);
            masks.after |= admits(after);
        }
        masks
    }

    /// The columns that the groups of a mask show together for an operation; `None` if none of them allows the
    /// operation.
    pub fn visible(&self, mask: Mask, op: Operation) -> Option<Visible> {
        let groups = self.groups.iter().enumerate();
        let tells = |(bit, group): &(usize, &Group)| mask & (1 << bit) != 0 && op.is_in(group.ops);
        let mut telling = groups.filter(tells).map(|(_, group)| &group.columns).peekable();
        telling.peek()?;
        Some(Visible::any_of(telling))
    }
}

/// The rows that a grant admits in a version of its table; `None` if its condition cannot be bound.
fn rows(admission: &Admission, grant: &Grant, relation: &Relation) -> Option<Matcher> {
    let Some(condition) = &grant.rows else {
        return Some(Matcher::all());
    };
    let bound = condition.predicate().bind(View::whole(relation), &[]).ok()?;
    let mut columns = bound.columns().iter();
    let is_as_judged = |&index: &usize| {
        let column = relation.columns.get(index);
        column.is_some_and(|column| admission.is_as_judged(column))
    };
    columns.all(is_as_judged).then(|| bound.certain())
}

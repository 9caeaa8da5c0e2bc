//! [`Layout`]: a table's columns by their numbers at a moment; [`Layouts`]: the last ones of each table.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::event::{Column, Relation, StreamColumn};
use crate::lsn::Lsn;
use crate::types::Attnum;

/// A table's columns as the catalogs had them at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// The highest number that a column ever had by then.
    pub(super) highest: i16,
    /// In the order of their numbers, without those that were dropped.
    pub(super) columns: Vec<Numbered>,
}

/// A column of a [`Layout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) number: i16,
    pub(super) name: String,
    pub(super) type_oid: u32,
}

impl Layout {
    /// The layout that a table had when a row was written, if all of its columns are known and the row has them all.
    pub(super) fn of_row(stream: &[StreamColumn], numbers: &[Attnum], before: &Layout) -> Option<Layout> {
        let column = |(column, attnum): (&StreamColumn, &Attnum)| {
            Some(Numbered {
                number: attnum.number()?,
                name: column.name.clone(),
                type_oid: column.type_oid,
            })
        };
        let columns: Vec<Numbered> = stream.iter().zip(numbers).map(column).collect::<Option<_>>()?;
        let last = columns.last().map_or(0, |column| column.number);
        Some(Layout {
            highest: before.highest.max(last),
            columns,
        })
    }

    pub(super) fn named(&self, name: &str) -> Option<&Numbered> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// The names that other columns have `now`.
    pub(super) fn names_of_others(&self, now: &Layout) -> Vec<String> {
        let is_other = |column: &&Numbered| {
            let now = now.named(&column.name);
            now.is_some_and(|now| now.number != column.number)
        };
        let columns = self.columns.iter().filter(is_other);
        columns.map(|column| column.name.clone()).collect()
    }

    pub(super) fn numbered(&self, number: i16) -> Option<&Numbered> {
        let at = self.columns.binary_search_by_key(&number, |column| column.number);
        at.ok().and_then(|at| self.columns.get(at))
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = i16> {
        self.columns.iter().map(|column| column.number)
    }
}

/// The layouts that tables were found to have, for as long as the stream may have rows from before. Cheap to clone:
/// what several connections find is shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layouts(Arc<Mutex<HashMap<u32, Vec<Found>>>>);

/// A layout, which everything that commits from `written` on came to find or changed.
#[derive(Clone, Debug)]
struct Found {
    written: Lsn,
    layout: Layout,
}

/// So many layouts of a table are kept.
const MAX_LAYOUTS: usize = 16;
/// So many tables that are not published any more are not worth looking for.
const FEW_TABLES: usize = 1024;

impl Layouts {
    /// The newest layout that was found before a transaction committed at `commit`: what is older is forgotten. If none
    /// was, the oldest.
    pub(super) fn before(&self, oid: u32, commit: Lsn) -> Option<Layout> {
        let mut tables = self.0.lock();
        let found = tables.get_mut(&oid)?;
        let newer = found.partition_point(|found| found.written <= commit);
        found.drain(..newer.saturating_sub(1));
        found.first().map(|found| found.layout.clone())
    }

    /// The newest layout of a table, and from where on at least the stream is past whatever led to it.
    pub(super) fn newest(&self, oid: u32) -> Option<(Lsn, Layout)> {
        let tables = self.0.lock();
        let newest = tables.get(&oid)?.last()?;
        Some((newest.written, newest.layout.clone()))
    }

    /// Notes what the catalogs said of a table when the server had written up to `written`.
    pub(super) fn note(&self, oid: u32, written: Lsn, layout: &Layout) {
        let mut tables = self.0.lock();
        let found = tables.entry(oid).or_default();
        let at = found.partition_point(|found| found.written <= written);
        // Whoever asked at the same time may have had the answer first.
        let before = at.checked_sub(1).and_then(|before| found.get(before));
        if before.is_some_and(|before| before.layout == *layout) {
            return;
        }
        match found.get_mut(at).filter(|after| after.layout == *layout) {
            Some(after) => after.written = written,
            None => {
                let layout = layout.clone();
                found.insert(at, Found { written, layout });
            }
        }
        // The oldest is the one that rows on their way came from.
        if found.len() > MAX_LAYOUTS {
            found.remove(1);
        }
    }

    /// Notes a version of a table that was known when the server had written up to `written`.
    pub(crate) fn remember(&self, relation: &Relation, highest: i16, written: Lsn) {
        let column = |column: &Column| {
            Some(Numbered {
                number: column.attnum.number()?,
                name: column.name.clone(),
                type_oid: column.ty.oid,
            })
        };
        let columns: Option<Vec<Numbered>> = relation.columns.iter().map(column).collect();
        if let Some(columns) = columns {
            self.note(relation.oid, written, &Layout { highest, columns });
        }
    }

    /// Forgets them all: the tables are another database's.
    pub(crate) fn forget(&self) {
        let mut tables = self.0.lock();
        tables.clear();
    }

    /// The highest number that a column of a table has had.
    pub(crate) fn highest(&self, oid: u32) -> i16 {
        self.newest(oid).map_or(0, |(_, layout)| layout.highest)
    }

    /// Forgets the tables that are not among those, once they are many.
    pub(super) fn retain(&self, published: impl ExactSizeIterator<Item = u32>) {
        let mut tables = self.0.lock();
        if tables.len() > 2 * published.len() + FEW_TABLES {
            let published: std::collections::HashSet<u32> = published.collect();
            tables.retain(|oid, _| published.contains(oid));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `id:1 a:2 b:3/25`, the type being 23 unless it is said, and `>5` for the highest number.
    pub(in super::super) fn layout(text: &str) -> Layout {
        let mut layout = Layout::default();
        for word in text.split(' ') {
            if let Some(highest) = word.strip_prefix('>') {
                layout.highest = highest.parse().unwrap();
                continue;
            }
            let (name, number) = word.split_once(':').unwrap();
            let (number, type_oid) = number.split_once('/').unwrap_or((number, "23"));
            layout.columns.push(Numbered {
                number: number.parse().unwrap(),
                name: name.to_owned(),
                type_oid: type_oid.parse().unwrap(),
            });
            layout.highest = layout.columns.last().unwrap().number;
        }
        layout
    }

    #[test]
    fn the_moment_before_a_row_is_the_last_that_was_found_before_it_committed() {
        let layouts = Layouts::default();
        let [a, b, c] = ["id:1", "id:1 b:2", "id:1 c:2"].map(layout);
        assert_eq!(layouts.before(1, Lsn(9)), None);
        for (written, layout) in [(10, &a), (20, &a), (40, &c), (30, &b), (50, &c)] {
            layouts.note(1, Lsn(written), layout);
        }
        assert_eq!(layouts.before(1, Lsn(9)).as_ref(), Some(&a));
        assert_eq!(layouts.before(1, Lsn(29)).as_ref(), Some(&a));
        assert_eq!(layouts.before(1, Lsn(30)).as_ref(), Some(&b));
        assert_eq!(layouts.before(1, Lsn(99)).as_ref(), Some(&c));
        assert_eq!(layouts.before(1, Lsn(9)).as_ref(), Some(&c));
        // The oldest of many stays.
        for highest in 3..40 {
            let layout = Layout { highest, ..c.clone() };
            layouts.note(1, Lsn(100 + u64::from(highest.unsigned_abs())), &layout);
        }
        assert_eq!(layouts.before(1, Lsn(100)).as_ref(), Some(&c));
        assert!(layouts.0.lock()[&1].len() <= MAX_LAYOUTS);
    }
}

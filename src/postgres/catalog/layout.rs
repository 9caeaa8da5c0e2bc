//! [`Layout`]: a table's columns by their numbers at a moment; [`numbers`]: which of them a row of the stream has.
//!
//! The stream describes a table by the names that its columns had when a row was written, in the order of their numbers
//! (`attnum`), which it leaves out. The catalogs know the numbers, but by the names of now. A column keeps its number
//! for as long as it lives, and no other ever gets it; so the names of a moment before the row and those of now tell
//! the numbers, except where the table changed more than once in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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

    fn numbered(&self, number: i16) -> Option<&Numbered> {
        let at = self.columns.binary_search_by_key(&number, |column| column.number);
        at.ok().and_then(|at| self.columns.get(at))
    }

    fn numbers(&self) -> impl Iterator<Item = i16> {
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
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = tables.get_mut(&oid)?;
        let newer = found.partition_point(|found| found.written <= commit);
        found.drain(..newer.saturating_sub(1));
        found.first().map(|found| found.layout.clone())
    }

    /// The newest layout of a table, and from where on at least the stream is past whatever led to it.
    pub(super) fn newest(&self, oid: u32) -> Option<(Lsn, Layout)> {
        let tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = tables.get(&oid)?.last()?;
        Some((newest.written, newest.layout.clone()))
    }

    /// Notes what the catalogs said of a table when the server had written up to `written`.
    pub(super) fn note(&self, oid: u32, written: Lsn, layout: &Layout) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.clear();
    }

    /// The highest number that a column of a table has had.
    pub(crate) fn highest(&self, oid: u32) -> i16 {
        self.newest(oid).map_or(0, |(_, layout)| layout.highest)
    }

    /// Forgets the tables that are not among those, once they are many.
    pub(super) fn retain(&self, published: impl ExactSizeIterator<Item = u32>) {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tables.len() > 2 * published.len() + FEW_TABLES {
            let published: std::collections::HashSet<u32> = published.collect();
            tables.retain(|oid, _| published.contains(oid));
        }
    }
}

/// The numbers of the columns that the stream describes: of a table that was `before` at some moment before the rows
/// were written, and is `now`. Without a moment before, it is taken to have been as it is now.
pub(super) fn numbers(stream: &[StreamColumn], before: Option<&Layout>, now: Option<&Layout>) -> Vec<Attnum> {
    let Some(now) = now.or(before) else {
        return vec![Attnum::UNKNOWN; stream.len()];
    };
    let before = before.unwrap_or(now);
    if let Some(numbers) = by_sameness(stream, before, now) {
        return numbers;
    }
    by_name(stream, before, now)
        .or_else(|| by_place(stream, before, now))
        .unwrap_or_else(|| by_unchanged_name(stream, before, now))
}

/// By the names alone, of a table that is as it was: the most common case, and the cheapest.
fn by_sameness(stream: &[StreamColumn], before: &Layout, now: &Layout) -> Option<Vec<Attnum>> {
    if before != now {
        return None;
    }
    let mut rest = now.columns.iter();
    let number = |column: &StreamColumn| {
        let is_it = |now: &&Numbered| now.name == column.name && now.type_oid == column.type_oid;
        rest.find(is_it).map(|now| Attnum::new(now.number))
    };
    stream.iter().map(number).collect()
}

/// By the names and types that the columns had at either moment, and by the order of the numbers; `None` if that does
/// not explain the description.
fn by_name(stream: &[StreamColumn], before: &Layout, now: &Layout) -> Option<Vec<Attnum>> {
    let all = Alignment::new(stream, before, now);
    // Where there is a column list, or generated columns are not published, some are missing that were there.
    all.numbers(true).or_else(|| all.numbers(false))
}

/// The columns of the stream beside all numbers that a column can have had between the two moments.
struct Alignment {
    numbers: Vec<(i16, Life)>,
    /// For each column of the stream the numbers that it can have.
    candidates: Vec<Vec<i16>>,
}

/// When the column of a number lived, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// At both moments, and so in between.
    Throughout,
    /// From some time in between on.
    SinceThen,
    /// Not any more: up to some time in between, or only between two.
    Gone,
}

impl Alignment {
    fn new(stream: &[StreamColumn], before: &Layout, now: &Layout) -> Alignment {
        // Those that came and went in between: their names are not known.
        let gone: Vec<i16> = (before.highest.saturating_add(1)..=now.highest)
            .filter(|number| now.numbered(*number).is_none())
            .collect();
        let known = before.numbers().chain(now.numbers());
        let mut numbers: Vec<i16> = known.chain(gone.iter().copied()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let life = |number: i16| match (before.numbered(number), now.numbered(number)) {
            (Some(_), Some(_)) => Life::Throughout,
            (None, Some(_)) => Life::SinceThen,
            (_, None) => Life::Gone,
        };
        Alignment {
            numbers: numbers.into_iter().map(|number| (number, life(number))).collect(),
            candidates: stream
                .iter()
                .map(|column| candidates(column, before, now, &gone))
                .collect(),
        }
    }

    /// The number of each column, if there is a way to give all of them one; uncertain where there are several. If the
    /// stream has all columns, none that lived throughout is missing, nor one that has come before another that is
    /// there.
    fn numbers(&self, has_all: bool) -> Option<Vec<Attnum>> {
        let columns = self.candidates.len();
        let width = columns + 1;
        let fits = |column: usize, number: i16| {
            let candidates = self.candidates.get(column);
            candidates.is_some_and(|candidates| candidates.contains(&number))
        };
        let can_miss = |life: Life, matched: usize| match life {
            Life::Gone => true,
            Life::SinceThen => !has_all || matched == columns,
            Life::Throughout => !has_all,
        };
        // Whether the numbers up to a place can stand for so many columns, and those from there on for the others.
        let mut until = vec![false; width * (self.numbers.len() + 1)];
        let mut from = until.clone();
        let get = |table: &[bool], place: usize, matched: usize| {
            table.get(place * width + matched).copied().unwrap_or(false)
        };
        let set = |table: &mut [bool], place: usize, matched: usize| {
            if let Some(cell) = table.get_mut(place * width + matched) {
                *cell = true;
            }
        };
        set(&mut until, 0, 0);
        for (place, &(number, life)) in self.numbers.iter().enumerate() {
            for matched in 0..=columns {
                if !get(&until, place, matched) {
                    continue;
                }
                if can_miss(life, matched) {
                    set(&mut until, place + 1, matched);
                }
                if fits(matched, number) {
                    set(&mut until, place + 1, matched + 1);
                }
            }
        }
        set(&mut from, self.numbers.len(), columns);
        for (place, &(number, life)) in self.numbers.iter().enumerate().rev() {
            for matched in 0..=columns {
                let missed = can_miss(life, matched) && get(&from, place + 1, matched);
                if missed || fits(matched, number) && get(&from, place + 1, matched + 1) {
                    set(&mut from, place, matched);
                }
            }
        }
        let number_of = |column: usize| {
            let mut possible = self.numbers.iter().enumerate().filter(|(place, (number, _))| {
                fits(column, *number) && get(&until, *place, column) && get(&from, place + 1, column + 1)
            });
            let (_, (number, _)) = possible.next()?;
            Some(match possible.next() {
                None => Attnum::new(*number),
                Some(_) => Attnum::UNCERTAIN,
            })
        };
        let whole = get(&from, 0, 0);
        (0..columns)
            .map(number_of)
            .collect::<Option<Vec<Attnum>>>()
            .filter(|_| whole)
    }
}

/// The numbers that a column of the stream can have.
fn candidates(column: &StreamColumn, before: &Layout, now: &Layout, gone: &[i16]) -> Vec<i16> {
    let then = before.named(&column.name);
    let here = now.named(&column.name);
    let is_of_type = |number: i16| {
        let types = [before.numbered(number), now.numbered(number)];
        types
            .into_iter()
            .flatten()
            .any(|numbered| numbered.type_oid == column.type_oid)
    };
    let named = [then, here].into_iter().flatten().map(|numbered| numbered.number);
    match (then, here) {
        // The same one at both moments was no other in between.
        (Some(then), Some(here)) if then.number == here.number => {
            named.take(1).filter(|number| is_of_type(*number)).collect()
        }
        _ => named
            .filter(|number| is_of_type(*number))
            .chain(gone.iter().copied())
            .collect(),
    }
}

/// By their places alone, where no column came or went.
fn by_place(stream: &[StreamColumn], before: &Layout, now: &Layout) -> Option<Vec<Attnum>> {
    let is_same = before.highest == now.highest && before.numbers().eq(now.numbers());
    (is_same && stream.len() == now.columns.len()).then(|| now.numbers().map(Attnum::new).collect())
}

/// Those that had the same name at both moments.
fn by_unchanged_name(stream: &[StreamColumn], before: &Layout, now: &Layout) -> Vec<Attnum> {
    let number = |column: &StreamColumn| {
        let then = before.named(&column.name)?;
        let here = now.named(&column.name)?;
        (then.number == here.number).then_some(Attnum::new(here.number))
    };
    let found: Vec<Option<Attnum>> = stream.iter().map(number).collect();
    if found.iter().flatten().is_sorted_by(|a, b| a < b) {
        found
            .into_iter()
            .map(|number| number.unwrap_or(Attnum::UNCERTAIN))
            .collect()
    } else {
        vec![Attnum::UNCERTAIN; stream.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `id:1 a:2 b:3/25`, the type being 23 unless it is said, and `>5` for the highest number.
    fn layout(text: &str) -> Layout {
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

    fn found(before: &str, now: &str, stream: &str) -> String {
        let columns: Vec<StreamColumn> = stream
            .split(' ')
            .map(|word| {
                let (name, type_oid) = word.split_once('/').unwrap_or((word, "23"));
                StreamColumn {
                    name: name.to_owned(),
                    type_oid: type_oid.parse().unwrap(),
                    typmod: -1,
                    identity: false,
                }
            })
            .collect();
        let before = (!before.is_empty()).then(|| layout(before));
        let numbers = numbers(&columns, before.as_ref(), Some(&layout(now)));
        let words = numbers.iter().map(|number| match number.number() {
            Some(number) => number.to_string(),
            None => "?".to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_order_tells_columns_apart_that_changed_places() {
        let before = "id:1 phone:2 new:3";
        let now = "id:1 old:2 phone:3";
        assert_eq!(found(before, now, "id phone new"), "1 2 3");
        assert_eq!(found(before, now, "id old phone"), "1 2 3");
        let before = "id:1 a:2 b:3 c:4";
        let now = "id:1 b:2 c:3 a:4";
        assert_eq!(found(before, now, "id a b c"), "1 2 3 4");
        assert_eq!(found(before, now, "id b c a"), "1 2 3 4");
        // Under a name that it had neither before nor has now.
        assert_eq!(found(before, now, "id x b c"), "1 2 3 4");
        assert_eq!(found(before, now, "id b a c"), "1 2 3 4");
    }

    #[test]
    fn a_column_that_was_added_again_is_uncertain_where_both_can_be_meant() {
        let before = "id:1 a:2 b:3";
        let now = "id:1 a:2 b:4";
        assert_eq!(found(before, now, "id a b"), "1 2 ?");
        assert_eq!(found(now, now, "id a b"), "1 2 4");
        assert_eq!(found(before, now, "id a"), "1 2");
        // The type tells, or another column's name.
        assert_eq!(found(before, "id:1 a:2 b:4/25", "id a b"), "1 2 3");
        assert_eq!(found(before, "id:1 a:2 b:4/25", "id a b/25"), "1 2 4");
        assert_eq!(found(before, "id:1 b:3 c:4", "id b c"), "1 3 4");
        assert_eq!(found(before, "id:1 b:3 c:4", "id a b"), "1 2 3");
        assert_eq!(found(before, "id:1 b:3 c:4", "id b"), "1 3");
        // One that came and went in between, or several changes after another.
        assert_eq!(found(before, "id:1 a:2 b:3 x:5", "id a b x"), "1 2 3 ?");
        assert_eq!(found(before, "id:1 a:3 b:4", "id a b"), "1 ? ?");
    }

    #[test]
    fn what_the_rows_themselves_showed_tells_what_came_later() {
        // More came and went, then at came, then mood came and went.
        let now = "id:1 who:2 at:5 >6";
        assert_eq!(found("id:1 owner:2 note:3", now, "id owner note more"), "1 2 3 4");
        assert_eq!(found("id:1 owner:2 note:3", now, "id who at"), "1 2 ?");
        let then = "id:1 owner:2 note:3 more:4";
        assert_eq!(found(then, now, "id owner at"), "1 2 5");
        assert_eq!(found(then, now, "id who at"), "1 2 5");
        assert_eq!(found(then, now, "id who at mood"), "1 2 5 6");
        let streamed = ["id", "owner", "at"].map(|name| StreamColumn {
            name: name.to_owned(),
            type_oid: 23,
            typmod: -1,
            identity: false,
        });
        let [then, later] = [then, "id:1 owner:2 at:5"].map(layout);
        let numbers = numbers(&streamed, Some(&then), Some(&layout(now)));
        assert_eq!(Layout::of_row(&streamed, &numbers, &then), Some(later));
        let numbers = [Attnum::new(1), Attnum::new(2), Attnum::UNCERTAIN];
        assert_eq!(Layout::of_row(&streamed, &numbers, &then), None);
    }

    #[test]
    fn columns_that_are_not_published_are_passed_over() {
        let before = "id:1 secret:2 phone:3 new:4";
        let now = "id:1 secret:2 old:3 phone:4";
        assert_eq!(found(before, now, "id old"), "1 3");
        assert_eq!(found(before, now, "id new"), "1 4");
        assert_eq!(found(before, now, "id phone"), "1 ?");
        assert_eq!(found(now, now, "id phone"), "1 4");
    }

    #[test]
    fn without_a_moment_before_the_table_was_as_it_is() {
        assert_eq!(found("", "id:1 b:4 >6", "id b"), "1 4");
        assert_eq!(found("", "id:1 b:4 c:5", "id b c"), "1 4 5");
        assert_eq!(found("", "id:1 b:4", "id c"), "1 4");
        assert_eq!(found("", "id:1 b:4", "id c d"), "1 ? ?");
        assert_eq!(numbers(&[], None, None), []);
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
        assert!(layouts.0.lock().unwrap()[&1].len() <= MAX_LAYOUTS);
    }
}

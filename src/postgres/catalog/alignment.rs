//! [`numbers`]: the numbers of the columns that a row of the stream has.
//!
//! The stream describes a table by the names that its columns had when a row was written, in the order of their numbers
//! (`attnum`), which it leaves out. The catalogs know the numbers, but by the names of now. A column keeps its number
//! for as long as it lives, and no other ever gets it; so the names of a moment before the row and those of now tell
//! the numbers, except where the table changed more than once in between.

use super::layout::{Layout, Numbered};
use crate::event::StreamColumn;
use crate::types::Attnum;

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
    use super::super::layout::tests::layout;
    use super::*;

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
}

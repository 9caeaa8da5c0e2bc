//! [`conjunctions`]: what a row must be like for a predicate to hold, as far as an index can use it.
//!
//! A predicate is a bounded disjunction of conjunctions of conditions on single values: columns, and what is computed
//! of them. Each condition is necessary for its conjunction, but not all of them together need be sufficient: what has
//! no form here (`<>`, `LIKE`, one column against another) is left out, and the predicate itself decides about what
//! the index finds.
//!
//! A value that cannot be made of a row, such as a cast's, is as good as any: the row is held against all that are
//! filed by it, so that the failure is noticed for each of them. Where another condition of a conjunction is false or
//! null, that decides, whatever fails; except below `IS TRUE`, where null does not.

use super::held::held_by;
use super::record::{Records, Test};
use super::source::{Key, SourceId, Sources};
use crate::filter::leaf::{self, DocumentSide, Item, Leaf};
use crate::filter::matcher::{Comparison, Node};
use crate::filter::truth::Truth;
use crate::types::Datum;

/// The number of conjunctions that a predicate may have: one of more is looked at for every change.
const MAX_CONJUNCTIONS: usize = 32;

/// Conditions that all hold where the predicate does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conjunction {
    /// It has this value.
    pub(super) equals: Vec<(SourceId, Key)>,
    /// It has one of these values.
    pub(super) lists: Vec<(SourceId, Vec<Key>)>,
    /// Its place lies between these, both included.
    pub(super) ranges: Vec<(SourceId, u64, u64)>,
    /// It is null.
    pub(super) nulls: Vec<SourceId>,
}

/// The conjunctions one of which holds where the predicate does, in an order of their own; `None` if that is nothing
/// that an index could use.
pub(super) fn conjunctions(entry: u32, records: &Records, sources: &mut Sources) -> Option<Vec<Conjunction>> {
    let parts = records.tests(entry).iter().map(|test| match *test {
        Test::Compare {
            comparison,
            source,
            place,
            ..
        } => {
            let bits = place.get();
            compare(comparison, source, bits, Key { bits, exact: true })
        }
        Test::Value {
            comparison,
            source,
            value,
            ..
        } => {
            let value = records.value(value)?;
            compare(comparison, source, value.abbreviated().place, sources.key(value))
        }
        Test::Shared(shared) => {
            let mut expression = Expression {
                sources,
                is_held: records.is_held(shared),
            };
            expression.conjunctions(records.shared(shared)?, false)
        }
    });
    let parts = parts.collect();
    all(parts, sources)
}

/// An expression whose conditions are looked for.
struct Expression<'s> {
    sources: &'s mut Sources,
    /// The values that it computes are held among the sources.
    is_held: bool,
}

impl Expression<'_> {
    /// The conjunctions of a part of it. `null_counts` says that it makes a difference whether it is null or false.
    fn conjunctions(&mut self, node: &Node, null_counts: bool) -> Option<Vec<Conjunction>> {
        match node {
            Node::Constant(truth) => (*truth != Truth::True).then(Vec::new),
            Node::Compare {
                left,
                comparison,
                right,
            } => {
                let source = self.sources.id(*left);
                let place = right.abbreviated().place;
                compare(*comparison, source, place, self.sources.key(right))
            }
            Node::In {
                left,
                values,
                negated: false,
                ..
            } => {
                let source = self.sources.id(*left);
                self.list(source, values)
            }
            Node::IsNull {
                column,
                negated: false,
            } => {
                let source = self.sources.of_null(*column);
                null(source)
            }
            Node::Leaf(leaf) if self.is_held => self.leaf(leaf),
            Node::Is {
                node,
                truth: Truth::True,
                negated: false,
            } => self.conjunctions(node, true),
            // What is null or fails is not true.
            Node::Certain { node, negated: false } => self.conjunctions(node, false),
            // Null beside a failure is a failure.
            Node::And(nodes) if null_counts && nodes.iter().any(may_fail) => None,
            Node::And(nodes) => {
                let parts = nodes.iter().map(|node| self.conjunctions(node, null_counts));
                let parts = parts.collect();
                all(parts, self.sources)
            }
            Node::Or(nodes) => {
                let mut any = Vec::new();
                for node in nodes {
                    any.extend(self.conjunctions(node, null_counts)?);
                    if any.len() > MAX_CONJUNCTIONS {
                        return None;
                    }
                }
                Some(any)
            }
            _ => None,
        }
    }

    fn leaf(&mut self, leaf: &Leaf) -> Option<Vec<Conjunction>> {
        let (scalar, _) = held_by(leaf)?;
        let source = self.sources.find(scalar)?;
        match &leaf.test {
            leaf::Test::Compare { comparison, right } => {
                let comparison = if leaf.negated {
                    comparison.negated()
                } else {
                    *comparison
                };
                compare(
                    comparison,
                    source,
                    right.abbreviated().place,
                    self.sources.key(right),
                )
            }
            leaf::Test::In { values, .. } => self.list(source, values),
            _ => null(source),
        }
    }

    fn list(&self, source: SourceId, values: &[Datum<'static>]) -> Option<Vec<Conjunction>> {
        let keys = values.iter().map(|value| self.sources.key(value)).collect();
        one(Conjunction {
            lists: vec![(source, keys)],
            ..Conjunction::default()
        })
    }
}

/// Tells whether Postgres may fail for a row.
fn may_fail(node: &Node) -> bool {
    match node {
        Node::Leaf(leaf) => {
            leaf.left.may_fail()
                || match &leaf.test {
                    leaf::Test::With { right, .. }
                    | leaf::Test::Labels { right, .. }
                    | leaf::Test::Document {
                        right: DocumentSide::Value(right),
                        ..
                    } => right.may_fail(),
                    leaf::Test::Any {
                        item: Item::Value(item),
                        ..
                    } => item.may_fail(),
                    _ => false,
                }
        }
        Node::Is { node, .. } => may_fail(node),
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(may_fail),
        _ => false,
    }
}

fn null(source: SourceId) -> Option<Vec<Conjunction>> {
    one(Conjunction {
        nulls: vec![source],
        ..Conjunction::default()
    })
}

fn one(conjunction: Conjunction) -> Option<Vec<Conjunction>> {
    Some(vec![conjunction])
}

fn compare(comparison: Comparison, source: SourceId, place: u64, key: Key) -> Option<Vec<Conjunction>> {
    let (low, high) = match comparison {
        Comparison::Equal | Comparison::NotDistinct => {
            return one(Conjunction {
                equals: vec![(source, key)],
                ..Conjunction::default()
            });
        }
        Comparison::Less | Comparison::LessOrEqual => (0, place),
        Comparison::Greater | Comparison::GreaterOrEqual => (place, u64::MAX),
        Comparison::NotEqual | Comparison::Distinct => return None,
    };
    one(Conjunction {
        ranges: vec![(source, low, high)],
        ..Conjunction::default()
    })
}

/// The conjunctions of what holds where all parts do. Of parts that are disjunctions at most one is used: the others
/// are left to the predicate itself.
fn all(parts: Vec<Option<Vec<Conjunction>>>, sources: &Sources) -> Option<Vec<Conjunction>> {
    let mut common = Conjunction::default();
    let mut alternatives: Option<Vec<Conjunction>> = None;
    for mut part in parts.into_iter().flatten() {
        if part.len() == 1 {
            part.into_iter().for_each(|conjunction| common.add(conjunction));
        } else if part.is_empty() {
            return Some(part);
        } else if alternatives.as_ref().is_none_or(|other| part.len() < other.len()) {
            part.shrink_to_fit();
            alternatives = Some(part);
        }
    }
    match alternatives {
        Some(alternatives)
            if !common.is_narrow(sources)
                && (common.is_empty() || alternatives.iter().all(|part| part.is_narrow(sources))) =>
        {
            let with_common = |mut part: Conjunction| {
                part.add(common.clone());
                part
            };
            Some(alternatives.into_iter().map(with_common).collect())
        }
        _ if common.is_empty() => None,
        _ => one(common),
    }
}

impl Conjunction {
    fn is_empty(&self) -> bool {
        self.equals.is_empty() && self.lists.is_empty() && self.ranges.is_empty() && self.nulls.is_empty()
    }

    /// True if few rows are likely to be like that.
    fn is_narrow(&self, sources: &Sources) -> bool {
        self.equals.iter().any(|(source, _)| !sources.is_bool(*source)) || !self.lists.is_empty()
    }

    fn add(&mut self, other: Conjunction) {
        self.equals.extend(other.equals);
        self.equals.sort_unstable();
        self.equals.dedup();
        self.lists.extend(other.lists);
        self.nulls.extend(other.nulls);
        for (source, low, high) in other.ranges {
            match self.ranges.iter_mut().find(|range| range.0 == source) {
                Some(range) => {
                    range.1 = range.1.max(low);
                    range.2 = range.2.min(high);
                }
                None => self.ranges.push((source, low, high)),
            }
        }
    }
}

/// A place of a level's structures: where a conjunction is filed, by those of its conditions that the levels above did
/// not use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Candidates the value of each of these sources.
    Equal(Vec<(SourceId, Key)>),
    /// Candidates each of these values.
    List(SourceId, Vec<Key>),
    /// By a range of places.
    Range(SourceId, u64, u64),
    /// Candidates null.
    Null(SourceId),
    /// Nowhere in particular.
    Scan,
}

/// Up to so many values a list is likely to be narrower than a range.
const SHORT_LIST: usize = 16;

impl Conjunction {
    /// The places to file it below levels that used the sources `used`: the narrowest first, as far as one can guess,
    /// and then what will do where there are too many different ones.
    pub(super) fn accesses(&self, used: &[SourceId], sources: &Sources) -> Vec<Access> {
        let is_free = |source: &SourceId| !used.contains(source);
        let equal = |of_bools: bool| -> Vec<(SourceId, Key)> {
            let equals = self.equals.iter().filter(|(source, _)| is_free(source));
            equals
                .filter(|(source, _)| sources.is_bool(*source) == of_bools)
                .copied()
                .collect()
        };
        let mut accesses = Vec::new();
        let mut equals = equal(false);
        // A row that has no such value is held against all that are filed by it: better by what each row has.
        if equals.iter().any(|(source, _)| !sources.may_fail(*source)) {
            equals.retain(|(source, _)| !sources.may_fail(*source));
        }
        if !equals.is_empty() {
            let each = equals.iter().map(|one| Access::Equal(vec![*one]));
            let several = equals.len() > 1;
            accesses.extend(several.then(|| Access::Equal(equals.clone())));
            accesses.extend(each);
            return accesses;
        }
        let lists = self.lists.iter().filter(|(source, _)| is_free(source));
        let list = lists.min_by_key(|(_, keys)| keys.len());
        let list = list.map(|(source, keys)| (keys.len(), Access::List(*source, keys.clone())));
        let ranges = self.ranges.iter().filter(|(source, ..)| is_free(source));
        let range = ranges.min_by_key(|(_, low, high)| (*low == 0) as u8 + (*high == u64::MAX) as u8);
        let range = range.map(|&(source, low, high)| Access::Range(source, low, high));
        let bool = equal(true).into_iter().next();
        let null = self.nulls.iter().find(|source| is_free(source));
        accesses.push(match (list, range) {
            (Some((len, list)), range) if len <= SHORT_LIST || range.is_none() => list,
            (_, Some(range)) => range,
            _ => match (bool, null) {
                (Some(bool), _) => Access::Equal(vec![bool]),
                (None, Some(source)) => Access::Null(*source),
                (None, None) => Access::Scan,
            },
        });
        accesses
    }
}

impl Access {
    /// The sources that it uses.
    pub(super) fn sources(&self) -> Vec<SourceId> {
        match self {
            Access::Equal(equals) => equals.iter().map(|(source, _)| *source).collect(),
            Access::List(source, _) | Access::Range(source, ..) | Access::Null(source) => vec![*source],
            Access::Scan => Vec::new(),
        }
    }
}

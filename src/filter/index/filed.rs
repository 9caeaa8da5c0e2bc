//! [`filed`]: the conditions under which an index files a predicate, in words. Pure.

use super::Index;
use super::plan::{Access, Conjunction, conjunctions};
use super::source::{SourceId, Sources};
use crate::event::{Relation, quote_identifier};
use crate::filter::matcher::Matcher;

/// The kind of the condition that a part of a predicate is filed under, which decides how often it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FiledKind {
    /// A value, or one of each of several columns: it is looked at for rows that have it.
    Equality,
    /// Some values of one column: it is looked at for rows that have one of them.
    List,
    /// A range of values: it is looked at for rows within it.
    Range,
    /// Null.
    Null,
    /// Nothing: it is looked at for every change of the table.
    EveryChange,
    /// No row can match: it is never looked at.
    Never,
}

impl FiledKind {
    /// Its name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            FiledKind::Equality => "equality",
            FiledKind::List => "list",
            FiledKind::Range => "range",
            FiledKind::Null => "null",
            FiledKind::EveryChange => "every_change",
            FiledKind::Never => "never",
        }
    }
}

/// The place of one of the alternatives of a predicate in an index. Of its values nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// The kind of the condition.
    pub kind: FiledKind,
    /// The columns that it is about, by their indexes in the relation.
    pub columns: Vec<usize>,
    /// The condition in words, and those under which it is filed next where many have the first: `status =, then amount >`.
    pub text: String,
}

/// The conditions under which the alternatives of a predicate are filed, in an index that holds no others: with many, some
/// are filed under a single column instead of several.
pub fn filed(matcher: &Matcher, relation: &Relation) -> Vec<Filed> {
    let mut index = Index::default();
    index.insert(0, matcher, false);
    let Index { records, sources, .. } = &mut index;
    let found = match conjunctions(0, records, sources) {
        None => vec![Conjunction::default()],
        Some(found) => found,
    };
    if found.is_empty() {
        return vec![Filed {
            kind: FiledKind::Never,
            columns: Vec::new(),
            text: "no row can match".to_owned(),
        }];
    }
    found
        .iter()
        .map(|conjunction| of_one(conjunction, sources, relation))
        .collect()
}

/// The most conditions that are named.
const MAX_NAMED: usize = 4;

fn of_one(conjunction: &Conjunction, sources: &Sources, relation: &Relation) -> Filed {
    let mut used: Vec<SourceId> = Vec::new();
    let mut filed: Option<Filed> = None;
    for _ in 0..MAX_NAMED {
        let accesses = conjunction.accesses(&used, sources);
        let Some(access) = accesses.first() else { break };
        match (&mut filed, access) {
            (None, access) => {
                let mut columns = Vec::new();
                for source in access.sources() {
                    sources.columns_of(source, &mut columns);
                }
                columns.dedup();
                filed = Some(Filed {
                    kind: kind(access),
                    columns,
                    text: words(access, sources, relation),
                });
            }
            (Some(_), Access::Scan) => break,
            (Some(filed), access) => {
                filed.text.push_str(", then ");
                filed.text.push_str(&words(access, sources, relation));
            }
        }
        if *access == Access::Scan {
            break;
        }
        used.extend(access.sources());
    }
    filed.unwrap_or(Filed {
        kind: FiledKind::EveryChange,
        columns: Vec::new(),
        text: "every change".to_owned(),
    })
}

fn kind(access: &Access) -> FiledKind {
    match access {
        Access::Equal(_) => FiledKind::Equality,
        Access::List(..) => FiledKind::List,
        Access::Range(..) => FiledKind::Range,
        Access::Null(_) => FiledKind::Null,
        Access::Scan => FiledKind::EveryChange,
    }
}

fn words(access: &Access, sources: &Sources, relation: &Relation) -> String {
    let name = |source: SourceId| name(source, sources, relation);
    match access {
        Access::Equal(equals) => {
            let names: Vec<String> = equals.iter().map(|(source, _)| name(*source)).collect();
            format!("{} =", names.join(", "))
        }
        Access::List(source, keys) => format!("{} in {} values", name(*source), keys.len()),
        Access::Range(source, low, high) => match (*low, *high) {
            (0, _) => format!("{} <", name(*source)),
            (_, u64::MAX) => format!("{} >", name(*source)),
            _ => format!("{} between", name(*source)),
        },
        Access::Null(source) => format!("{} is null", name(*source)),
        Access::Scan => "every change".to_owned(),
    }
}

/// The column that a value is, or that it is made of.
fn name(source: SourceId, sources: &Sources, relation: &Relation) -> String {
    let mut columns = Vec::new();
    let is_column = sources.columns_of(source, &mut columns);
    columns.dedup();
    let names = columns.iter().filter_map(|&column| relation.columns.get(column));
    let names: Vec<String> = names.map(|column| plain(&column.name)).collect();
    let names = names.join(", ");
    if is_column {
        names
    } else {
        format!("an expression of {names}")
    }
}

fn plain(name: &str) -> String {
    let is_plain = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if is_plain {
        name.to_owned()
    } else {
        quote_identifier(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Collation, Column, ReplicaIdentity, View};
    use crate::filter::Predicate;
    use crate::filter::testing::{column, table};
    use crate::types::{Ctype, Kind};

    fn of(predicate: &str) -> Vec<(FiledKind, Vec<usize>, String)> {
        let columns = [
            ("status", Kind::Text),
            ("amount", Kind::Int4),
            ("open", Kind::Bool),
            ("Place", Kind::Text),
        ];
        let columns = columns.map(|(name, kind)| Column {
            collation: Collation::C,
            ctype: Ctype::C,
            ..column(name, kind)
        });
        let relation = table(ReplicaIdentity::Full, columns);
        let predicate = Predicate::parse(predicate).unwrap();
        let matcher = predicate.bind(View::whole(&relation), &[]).unwrap();
        let filed = filed(&matcher, &relation).into_iter();
        filed
            .map(|filed| (filed.kind, filed.columns, filed.text))
            .collect()
    }

    #[test]
    fn a_predicate_is_filed_under_its_narrowest_condition_and_then_the_next() {
        use FiledKind::{Equality, EveryChange, List, Never, Null, Range};
        let cases: [(&str, FiledKind, &[usize], &str); 11] = [
            ("status = 'paid'", Equality, &[0], "status ="),
            (
                "status = 'paid' AND amount > 100",
                Equality,
                &[0],
                "status =, then amount >",
            ),
            (
                "status = 'a' AND amount = 1",
                Equality,
                &[0, 1],
                "status, amount =",
            ),
            ("amount < 5", Range, &[1], "amount <"),
            ("amount BETWEEN 1 AND 5", Range, &[1], "amount between"),
            ("status IN ('a', 'b', 'c')", List, &[0], "status in 3 values"),
            ("\"Place\" IS NULL", Null, &[3], "\"Place\" is null"),
            ("open", Equality, &[2], "open ="),
            ("status <> 'a'", EveryChange, &[], "every change"),
            ("status LIKE '%a'", EveryChange, &[], "every change"),
            (
                "amount = 1 AND amount = 2 AND FALSE",
                Never,
                &[],
                "no row can match",
            ),
        ];
        for (predicate, kind, columns, text) in cases {
            assert_eq!(
                of(predicate),
                [(kind, columns.to_vec(), text.to_owned())],
                "{predicate}"
            );
        }
        assert_eq!(
            of("lower(status) = 'a'"),
            [(Equality, vec![0], "an expression of status =".to_owned())]
        );
        let alternatives = of("status = 'a' OR amount > 5");
        assert_eq!(alternatives.len(), 2, "{alternatives:?}");
    }
}

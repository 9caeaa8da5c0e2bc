//! The one rule for what clients are told of a table's old rows and key, and for what arrives of them. Pure.
//!
//! The content of an old row is decided by the table that wrote it. Of a partitioned table that is published by its
//! root these are the partitions, whatever identity the root has: what is told is the weakest of theirs. A key is told
//! only if the log holds all of its columns, of every row that it has anything of.

use std::collections::HashSet;

use super::facts::{Facts, Holds, Ours, Writers};
use crate::event::{Caveat, Logging, ReplicaIdentity};

/// The answer about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) replica_identity: ReplicaIdentity,
    /// For each column, whether every old row holds it.
    pub(super) columns: Vec<bool>,
    /// The key, as indexes into the columns.
    pub(super) key: Vec<usize>,
    pub(super) logging: Logging,
}

/// The keys that a table has by its indexes; empty or none if there is no such index.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys<'a> {
    /// The identity's index.
    pub(super) index: Option<Vec<&'a str>>,
    pub(super) primary: Option<Vec<&'a str>>,
}

/// The answer about a table with that identity and these published columns.
pub(super) fn of(own: ReplicaIdentity, columns: &[&str], keys: &Keys<'_>, facts: &Facts) -> Told {
    let writers = facts.writers.as_deref().unwrap_or_default();
    // Those without an identity write no old rows.
    let mut identified: Vec<Held<'_>> = writers
        .iter()
        .filter(|writers| !fails_for_want_of_identity(writers))
        .filter_map(Held::of)
        .collect();
    if identified.is_empty() && facts.partitioned {
        // Partitions to come have the root's primary key, and its identity never.
        let primary = keys.primary.iter();
        identified.extend(primary.map(|key| Held::Columns(key.iter().copied().collect())));
    }
    told(own, columns, keys, &identified, facts)
}

/// The answer about a table that is not partitioned, as the stream describes it: it knows which of the published
/// columns old rows hold. The table may have changed since: then the keys are not those of the description.
pub(super) fn of_streamed(
    own: ReplicaIdentity,
    columns: &[&str],
    flagged: &[bool],
    keys: Option<Keys<'_>>,
    facts: &Facts,
) -> Told {
    let names = || columns.iter().zip(flagged).filter(|(_, flagged)| **flagged);
    let held: HashSet<&str> = names().map(|(name, _)| *name).collect();
    let by_catalog = facts.writers.as_deref().unwrap_or_default().first();
    let identified = match own {
        ReplicaIdentity::Full => vec![Held::Whole],
        ReplicaIdentity::Nothing => vec![],
        // An identity none of whose columns is published.
        ReplicaIdentity::Default | ReplicaIdentity::Index if held.is_empty() => {
            let known = by_catalog.filter(|writers| writers.holds == Holds::Columns);
            known.map(|_| Held::Columns(HashSet::new())).into_iter().collect()
        }
        ReplicaIdentity::Default | ReplicaIdentity::Index => vec![Held::Columns(held.clone())],
    };
    // Of the identity as the catalogs have it, what is published.
    let is_known = by_catalog
        .filter(|writers| writers.holds == Holds::Columns)
        .is_some_and(|writers| {
            let known = writers.columns.iter().flatten().map(String::as_str);
            let known: HashSet<&str> = known.filter(|name| columns.contains(name)).collect();
            known == held
        });
    let by_flags = || Keys {
        index: None,
        primary: Some(names().map(|(name, _)| *name).collect()),
    };
    let keys = match (own, keys) {
        (ReplicaIdentity::Default | ReplicaIdentity::Index, Some(keys))
            if is_known || identified.is_empty() =>
        {
            keys
        }
        (ReplicaIdentity::Default | ReplicaIdentity::Index, _) => by_flags(),
        (ReplicaIdentity::Full | ReplicaIdentity::Nothing, keys) => keys.unwrap_or_default(),
    };
    told(own, columns, &keys, &identified, facts)
}

/// The contents of some writers' old rows.
enum Held<'a> {
    Whole,
    Columns(HashSet<&'a str>),
}

impl<'a> Held<'a> {
    fn of(writers: &'a Writers) -> Option<Held<'a>> {
        match writers.holds {
            Holds::Whole => Some(Held::Whole),
            Holds::Columns => Some(Held::Columns(
                writers.columns.iter().flatten().map(String::as_str).collect(),
            )),
            Holds::Nothing | Holds::Silent => None,
        }
    }

    fn has(&self, column: &str) -> bool {
        match self {
            Held::Whole => true,
            Held::Columns(columns) => columns.contains(column),
        }
    }
}

fn fails_for_want_of_identity(writers: &Writers) -> bool {
    writers.holds == Holds::Nothing
}

fn told(
    own: ReplicaIdentity,
    columns: &[&str],
    keys: &Keys<'_>,
    identified: &[Held<'_>],
    facts: &Facts,
) -> Told {
    let always = |column: &str| identified.iter().all(|held| held.has(column));
    let whole = !identified.is_empty() && identified.iter().all(|held| matches!(held, Held::Whole));
    let places = |key: &Option<Vec<&str>>| {
        let key = key
            .as_ref()
            .filter(|key| !key.is_empty() && key.iter().all(|name| always(name)))?;
        let place = |name: &&str| columns.iter().position(|column| column == name);
        key.iter().map(place).collect::<Option<Vec<usize>>>()
    };
    // Where the log holds whole rows, an index does not identify them.
    let by_index = places(&keys.index).filter(|_| !whole);
    let has_index = by_index.is_some();
    let key = by_index.or_else(|| places(&keys.primary)).unwrap_or_default();
    let replica_identity = match own {
        _ if whole => ReplicaIdentity::Full,
        own if !facts.partitioned => own,
        ReplicaIdentity::Index if has_index => ReplicaIdentity::Index,
        _ => ReplicaIdentity::Default,
    };
    let unnamed = key.is_empty() && !whole && !identified.is_empty() && facts.has_updates_or_deletes();
    Told {
        replica_identity,
        columns: columns
            .iter()
            .map(|name| !identified.is_empty() && always(name))
            .collect(),
        key,
        logging: Logging {
            dropped: false,
            unnamed,
            partitioned: facts.partitioned,
            obstacle: facts.obstacle(),
            caveats: caveats(facts),
        },
    }
}

/// The question whether a publication has an operation.
type Has = fn(&Ours) -> bool;

/// The operations that a publication may have, or not.
const OPERATIONS: [(&str, Has); 4] = [
    ("insert", |ours| ours.insert),
    ("update", |ours| ours.update),
    ("delete", |ours| ours.delete),
    ("truncate", |ours| ours.truncate),
];

/// Caveats that subscribers are told.
fn caveats(facts: &Facts) -> Vec<Caveat> {
    let mut caveats = Vec::new();
    let writers = facts.writers.as_deref().unwrap_or_default();
    let partitions = |writers: &Writers| facts.partitioned.then(|| (writers.first.clone(), writers.count));
    for writers in writers {
        if writers.holds == Holds::Silent {
            // A table of its own that logs nothing is not published.
            caveats.extend(partitions(writers).map(|(first, count)| Caveat::Silent { first, count }));
        }
        if let Some(reason) = facts.refusal(writers) {
            let partitions = partitions(writers);
            caveats.push(Caveat::WritesFail { partitions, reason });
        }
    }
    if !facts.ours.is_empty() {
        let mut left_out = Vec::new();
        let mut of_some = Vec::new();
        for (operation, has) in OPERATIONS {
            if facts.ours.iter().any(has) {
                continue;
            }
            if facts.of_partitions.iter().any(has) {
                of_some.push(operation.to_owned())
            } else {
                left_out.push(operation.to_owned())
            }
        }
        caveats.extend((!left_out.is_empty()).then_some(Caveat::LeftOut(left_out)));
        caveats.extend((!of_some.is_empty()).then_some(Caveat::LeftOutOfSome(of_some)));
    }
    if has_uneven_filters(facts) {
        caveats.push(Caveat::UnevenFilters);
    }
    caveats.extend(facts.partitioned.then_some(Caveat::WholePartitions));
    caveats
}

/// True if different rows are published of inserts, updates and deletes.
fn has_uneven_filters(facts: &Facts) -> bool {
    let filters = |has: Has| {
        // What only publications of partitions have of a root is not filtered.
        facts.ours.iter().find(|ours| has(ours))?;
        let having = facts.ours.iter().filter(|ours| has(ours));
        let filters: Option<HashSet<&str>> = having.map(|ours| ours.filter.as_deref()).collect();
        filters
    };
    let [insert, update, delete]: [Has; 3] = [|ours| ours.insert, |ours| ours.update, |ours| ours.delete];
    let mut different: Vec<_> = [insert, update, delete]
        .into_iter()
        .filter(|has| facts.ours.iter().chain(&facts.of_partitions).any(has))
        .map(filters)
        .collect();
    different.dedup();
    different.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ReplicaIdentity::{Default as ByPrimaryKey, Full, Index, Nothing};

    const COLUMNS: [&str; 3] = ["a", "b", "c"];

    fn writers(holds: Holds, columns: &[&str]) -> Writers {
        Writers {
            holds,
            columns: (holds == Holds::Columns).then(|| columns.iter().map(|&name| name.into()).collect()),
            count: 1,
            first: "t".into(),
        }
    }

    fn facts(partitioned: bool, writers: Vec<Writers>) -> Facts {
        let ours = Ours {
            insert: true,
            update: true,
            delete: true,
            truncate: true,
            filter: None,
        };
        Facts {
            partitioned,
            ours: vec![ours],
            writers: Some(writers),
            ..Facts::default()
        }
    }

    fn keys<'a>(index: &[&'a str], primary: &[&'a str]) -> Keys<'a> {
        Keys {
            index: Some(index.to_vec()),
            primary: Some(primary.to_vec()),
        }
    }

    /// The identity, the columns that are always held, the key, and whether changes come that name no row.
    fn told(told: &Told) -> (ReplicaIdentity, String, String, bool) {
        let name = |index: usize| COLUMNS[index];
        let held = told.columns.iter().enumerate().filter(|(_, held)| **held);
        let held = held.map(|(index, _)| name(index)).collect();
        let key = told.key.iter().map(|index| name(*index)).collect();
        (told.replica_identity, held, key, told.logging.unnamed)
    }

    fn is(
        identity: ReplicaIdentity,
        held: &str,
        key: &str,
        unnamed: bool,
    ) -> (ReplicaIdentity, String, String, bool) {
        (identity, held.into(), key.into(), unnamed)
    }

    #[test]
    fn the_weakest_of_all_partitions_is_told() {
        use Holds::{Columns, Silent, Whole};
        let root = |own, index: &[&'static str], primary: &[&'static str], partitions: Vec<Writers>| {
            told(&of(
                own,
                &COLUMNS,
                &keys(index, primary),
                &facts(true, partitions),
            ))
        };
        let whole = || writers(Whole, &[]);
        let by_a = || writers(Columns, &["a"]);
        assert_eq!(
            root(ByPrimaryKey, &[], &["a"], vec![whole()]),
            is(Full, "abc", "a", false)
        );
        assert_eq!(
            root(Full, &[], &["a"], vec![whole(), by_a()]),
            is(ByPrimaryKey, "a", "a", false)
        );
        // Partitions that write nothing, or no old rows, take nothing away.
        let silent = vec![whole(), writers(Silent, &[]), writers(Holds::Nothing, &[])];
        assert_eq!(root(Full, &[], &["a"], silent), is(Full, "abc", "a", false));
        // The index is the key where all log it, else the primary key if they log that, else nothing is.
        let by_b = || writers(Columns, &["b"]);
        assert_eq!(
            root(Index, &["b"], &["a"], vec![by_b(), whole()]),
            is(Index, "b", "b", false)
        );
        assert_eq!(
            root(Index, &["b"], &["a"], vec![by_a()]),
            is(ByPrimaryKey, "a", "a", false)
        );
        assert_eq!(
            root(Index, &["b"], &["a"], vec![by_a(), by_b()]),
            is(ByPrimaryKey, "", "", true)
        );
        assert_eq!(
            root(ByPrimaryKey, &[], &[], vec![by_a()]),
            is(ByPrimaryKey, "a", "", true)
        );
        assert_eq!(root(Full, &["b"], &[], vec![whole()]), is(Full, "abc", "", false));
        // Those that there will be have the root's primary key.
        assert_eq!(root(Full, &[], &["a"], vec![]), is(ByPrimaryKey, "a", "a", false));
    }

    #[test]
    fn the_catalog_and_the_stream_tell_the_same_of_a_table() {
        use Holds::{Columns, Whole};
        let both =
            |own, flagged: &[&str], index: &[&'static str], primary: &[&'static str], holds: Writers| {
                let facts = facts(false, vec![holds]);
                // As the catalogs' keys are when a column of theirs is not published.
                let published = |key: &[&'static str]| {
                    let is = key.iter().all(|name| COLUMNS.contains(name));
                    is.then(|| key.to_vec())
                };
                let keys = Keys {
                    index: published(index),
                    primary: published(primary),
                };
                let flags: Vec<bool> = COLUMNS.iter().map(|name| flagged.contains(name)).collect();
                let by_catalog = told(&of(own, &COLUMNS, &keys, &facts));
                let by_stream = told(&of_streamed(own, &COLUMNS, &flags, Some(keys), &facts));
                assert_eq!(by_catalog, by_stream);
                by_catalog
            };
        let columns = |columns: &[&str]| writers(Columns, columns);
        let key = both(ByPrimaryKey, &["a", "b"], &[], &["b", "a"], columns(&["a", "b"]));
        assert_eq!(key, is(ByPrimaryKey, "ab", "ba", false));
        assert_eq!(
            both(Index, &["c"], &["c"], &["a"], columns(&["c"])),
            is(Index, "c", "c", false)
        );
        assert_eq!(
            both(Full, &COLUMNS, &[], &["a"], writers(Whole, &[])),
            is(Full, "abc", "a", false)
        );
        // A part of the key, or all of it, is not published.
        let part = both(
            ByPrimaryKey,
            &["a"],
            &[],
            &["a", "unpublished"],
            columns(&["a", "unpublished"]),
        );
        assert_eq!(part, is(ByPrimaryKey, "a", "", true));
        let all = both(
            ByPrimaryKey,
            &[],
            &[],
            &["unpublished"],
            columns(&["unpublished"]),
        );
        assert_eq!(all, is(ByPrimaryKey, "", "", true));
        // Without an identity there are no updates and deletes to name.
        let none = || writers(Holds::Nothing, &[]);
        assert_eq!(
            both(ByPrimaryKey, &[], &[], &[], none()),
            is(ByPrimaryKey, "", "", false)
        );
        assert_eq!(
            both(Nothing, &[], &[], &["a"], none()),
            is(Nothing, "", "a", false)
        );
        assert_eq!(both(Index, &[], &[], &["a"], none()), is(Index, "", "a", false));
    }

    #[test]
    fn a_table_that_has_changed_since_is_told_as_the_stream_describes_it() {
        let now = facts(false, vec![writers(Holds::Columns, &["b"])]);
        let flags = [true, false, false];
        let by_stream = of_streamed(ByPrimaryKey, &COLUMNS, &flags, Some(keys(&[], &["b"])), &now);
        assert_eq!(told(&by_stream), is(ByPrimaryKey, "a", "a", false));
        let gone = of_streamed(ByPrimaryKey, &COLUMNS, &flags, None, &Facts::default());
        assert_eq!(told(&gone), is(ByPrimaryKey, "a", "a", false));
    }
}

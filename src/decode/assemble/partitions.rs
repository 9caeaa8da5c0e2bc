//! [`Partitions`]: what old rows of a partitioned table hold, whose partitions wrote them.
//!
//! Published by its root, a partition's rows come as the root's: with the root's OID, and an old row is tagged by the
//! root's replica identity, but holds what the partition's own has the server log. The server describes the root, then
//! the partition, before the partition's first row and after each change to the partition; which of the partitions
//! described so far wrote a row is not said. The columns of an identity other than `FULL` are never null, which tells:
//! an old row with a value outside of any partition's identity is whole. Otherwise, if some partitions log whole rows
//! and others do not, a null may be one or may not have been logged, and counts as the latter.

use std::sync::Arc;

use crate::event::{OldTuple, Relation, ReplicaIdentity, StreamRelation, Tuple, Value, encode_values};

/// The contents of a table's old rows.
#[derive(Debug, Default)]
pub(super) enum Partitions {
    /// The tags that they carry: the table writes its own.
    #[default]
    None,
    /// All columns: all partitions are under `FULL`.
    Whole,
    /// The columns that the relation has as its identity, at least: none is under `FULL`.
    Keys,
    /// None of them was described, and wal2json describes none: what the root has as its identity, or more.
    Undescribed {
        /// The columns that the identity holds; none under `FULL`.
        identity: Vec<bool>,
    },
    /// Either of the two.
    Mixed {
        /// The root's columns that identities hold which are not `FULL`.
        identities: Vec<Vec<bool>>,
        /// True if there are others, of which nothing is known.
        others: bool,
    },
}

impl Partitions {
    /// Everything that is known of a root's rows, by how the stream described the partitions that write them.
    pub(super) fn of<'s>(
        root: &Relation,
        partitions: impl Iterator<Item = &'s StreamRelation> + Clone,
    ) -> Partitions {
        if partitions.clone().next().is_none() {
            return if root.logging.partitioned {
                let full = root.replica_identity == ReplicaIdentity::Full;
                let held = root.columns.iter().map(|column| column.identity && !full);
                Partitions::Undescribed {
                    identity: held.collect(),
                }
            } else {
                Partitions::None
            };
        }
        let is_whole = |partition: &&StreamRelation| partition.replica_identity == ReplicaIdentity::Full;
        if partitions.clone().all(|partition| is_whole(&partition)) {
            return Partitions::Whole;
        }
        let mut identities = Vec::new();
        let mut others = false;
        for partition in partitions.clone().filter(|partition| !is_whole(partition)) {
            match identity_in(root, partition) {
                Some(identity) if !identities.contains(&identity) => identities.push(identity),
                Some(_) => {}
                None => others = true,
            }
        }
        if others || partitions.clone().any(|partition| is_whole(&partition)) {
            Partitions::Mixed { identities, others }
        } else {
            Partitions::Keys
        }
    }

    /// An old row as it is to be understood: `out` holds it if it is not as it came.
    pub(super) fn old<'a>(&self, old: OldTuple<'a>, out: &'a mut Vec<u8>) -> OldTuple<'a> {
        let tuple = old.tuple();
        match self {
            Partitions::None => old,
            Partitions::Whole => OldTuple::Full(tuple),
            Partitions::Keys => OldTuple::Key(tuple),
            // No more is known of it than of a key, even if it is whole.
            Partitions::Undescribed { identity } if identity.contains(&true) && is_key(identity, tuple) => {
                OldTuple::Key(tuple)
            }
            Partitions::Undescribed { .. } => OldTuple::Full(without_nulls(tuple, out)),
            Partitions::Mixed { identities, others } => {
                if tuple.values().all(|value| value != Value::Null)
                    || !others && !identities.iter().any(|identity| is_key(identity, tuple))
                {
                    return OldTuple::Full(tuple);
                }
                OldTuple::Full(without_nulls(tuple, out))
            }
        }
    }
}

/// The relation of a root's rows: what was learned of it, but no more of old rows than these partitions hold.
pub(super) fn weakest<'s>(
    root: &Arc<Relation>,
    partitions: impl Iterator<Item = &'s StreamRelation>,
) -> Arc<Relation> {
    let mut weakest: Option<Relation> = None;
    for partition in partitions {
        if partition.replica_identity == ReplicaIdentity::Full {
            continue;
        }
        // One without an identity writes no old rows.
        let Some(identity) = identity_in(root, partition).filter(|identity| identity.contains(&true)) else {
            continue;
        };
        let so_far = weakest.as_ref().unwrap_or(root);
        let is_weaker = so_far.replica_identity == ReplicaIdentity::Full
            || so_far
                .columns
                .iter()
                .zip(&identity)
                .any(|(column, held)| column.identity && !held);
        if !is_weaker {
            continue;
        }
        let weaker = weakest.get_or_insert_with(|| Relation::clone(root));
        if weaker.replica_identity == ReplicaIdentity::Full {
            weaker.replica_identity = ReplicaIdentity::Default;
        }
        for (column, held) in weaker.columns.iter_mut().zip(&identity) {
            column.identity &= held;
        }
        let held = |index: &usize| weaker.columns.get(*index).is_some_and(|column| column.identity);
        if weaker.key.is_empty() || !weaker.key.iter().all(held) {
            weaker.key.clear();
            weaker.logging.unnamed = true;
        }
    }
    weakest.map_or_else(|| Arc::clone(root), Arc::new)
}

/// The root's columns that a partition's identity holds, as the stream described it; `None` if that cannot be told:
/// under a column list the server picks the partition's columns by the root's numbers.
fn identity_in(root: &Relation, partition: &StreamRelation) -> Option<Vec<bool>> {
    let held = root.columns.iter().map(|column| {
        let found = partition.columns.iter().find(|found| found.name == column.name);
        found.map(|found| found.identity)
    });
    held.collect()
}

/// True if the row may be the key of a row: it has values in the columns of the identity, and there alone.
fn is_key(identity: &[bool], tuple: Tuple<'_>) -> bool {
    let mut values = tuple.values().zip(identity);
    values.all(|(value, held)| *held == (value != Value::Null))
}

fn without_nulls<'a>(tuple: Tuple<'a>, out: &'a mut Vec<u8>) -> Tuple<'a> {
    out.clear();
    let values: Vec<Value<'_>> = tuple
        .values()
        .map(|value| match value {
            Value::Null => Value::Unchanged,
            value => value,
        })
        .collect();
    encode_values(values.into_iter(), out);
    Tuple::parse(out).map_or(tuple, |(tuple, _)| tuple)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Collation, Column, StreamColumn, TableName};
    use crate::types::{Kind, Type};

    fn root() -> Arc<Relation> {
        let column = |name: &str| Column {
            name: name.into(),
            attnum: Default::default(),
            ty: Type {
                oid: 25,
                name: "text".into(),
                kind: Kind::Text,
            },
            typmod: -1,
            identity: true,
            collation: Collation::None,
            ctype: Default::default(),
        };
        let mut root = Relation::of_messages("p", true);
        root.replica_identity = ReplicaIdentity::Full;
        root.columns = ["a", "b", "c"].map(column).to_vec();
        root.key = vec![0];
        root.logging.partitioned = true;
        Arc::new(root)
    }

    /// A partition whose identity has these columns; `None` under `FULL`. Its own columns are in another order.
    fn partition(identity: Option<&[&str]>, columns: &[&str]) -> StreamRelation {
        let column = |name: &&str| StreamColumn {
            name: (*name).to_owned(),
            type_oid: 25,
            typmod: -1,
            identity: identity.is_none_or(|identity| identity.contains(name)),
        };
        StreamRelation {
            oid: 1,
            table: TableName::new("public", "p"),
            replica_identity: match identity {
                None => ReplicaIdentity::Full,
                Some(_) => ReplicaIdentity::Default,
            },
            columns: columns.iter().map(column).collect(),
        }
    }

    const ALL: [&str; 3] = ["c", "a", "b"];

    /// An old row as it is understood: letters for values, `-` for null, `?` for what was not logged; with its tag.
    fn old(partitions: &[StreamRelation], row: &str) -> String {
        old_of(&root(), partitions, row)
    }

    fn old_of(root: &Relation, partitions: &[StreamRelation], row: &str) -> String {
        let text: Vec<[u8; 1]> = row.bytes().map(|byte| [byte]).collect();
        let values = text.iter().map(|text| match text {
            b"-" => Value::Null,
            text => Value::Text(text),
        });
        let mut bytes = Vec::new();
        encode_values(values, &mut bytes);
        let tuple = Tuple::parse(&bytes).unwrap().0;
        let known = Partitions::of(root, partitions.iter());
        let mut out = Vec::new();
        let (tag, tuple) = match known.old(OldTuple::Full(tuple), &mut out) {
            OldTuple::Full(tuple) => ("O ", tuple),
            OldTuple::Key(tuple) => ("K ", tuple),
        };
        let shown = tuple.values().map(|value| match value {
            Value::Null => '-',
            Value::Unchanged => '?',
            Value::Text(text) => char::from(text[0]),
        });
        tag.chars().chain(shown).collect()
    }

    #[test]
    fn an_old_row_is_read_by_the_identities_of_those_who_may_have_written_it() {
        let whole = partition(None, &ALL);
        let key = partition(Some(&["a"]), &ALL);
        assert_eq!(old(std::slice::from_ref(&whole), "x--"), "O x--");
        assert_eq!(old(std::slice::from_ref(&key), "x--"), "K x--");
        let both = [whole.clone(), key.clone()];
        assert_eq!(old(&both, "x--"), "O x??");
        assert_eq!(old(&both, "x-z"), "O x-z");
        assert_eq!(old(&both, "xyz"), "O xyz");
        // With several identities that are no FULL, the one whose columns have the values.
        let other = partition(Some(&["b"]), &ALL);
        assert_eq!(old(&[key.clone(), other.clone()], "-y-"), "K -y-");
        let three = [whole.clone(), key, other];
        assert_eq!(old(&three, "-y-"), "O ?y?");
        assert_eq!(old(&three, "xy-"), "O xy-");
        assert_eq!(old(&three, "---"), "O ---");
        // Of one that is described without all of its columns, or of none at all, nothing is known.
        let unknown = partition(Some(&["a"]), &["c", "a"]);
        assert_eq!(old(&[whole, unknown], "xy-"), "O xy?");
        assert_eq!(old(&[], "xy-"), "O xy?");
        assert_eq!(old(&[], "---"), "O ???");
    }

    #[test]
    fn an_old_row_of_partitions_that_are_not_described_is_a_key_if_it_has_no_more_than_that() {
        let mut root = Relation::clone(&root());
        root.replica_identity = ReplicaIdentity::Default;
        for (index, column) in root.columns.iter_mut().enumerate() {
            column.identity = index == 0;
        }
        assert_eq!(old_of(&root, &[], "x--"), "K x--");
        assert_eq!(old_of(&root, &[], "xy-"), "O xy?");
        assert_eq!(old_of(&root, &[], "-y-"), "O ?y?");
        assert_eq!(old_of(&root, &[], "xyz"), "O xyz");
    }

    #[test]
    fn rows_are_told_by_what_the_weakest_of_them_holds() {
        let root = root();
        let weakest = |partitions: &[StreamRelation]| weakest(&root, partitions.iter());
        let whole = partition(None, &ALL);
        assert!(Arc::ptr_eq(&weakest(std::slice::from_ref(&whole)), &root));
        let weaker = weakest(&[whole.clone(), partition(Some(&["a", "b"]), &ALL)]);
        assert_eq!(weaker.replica_identity, ReplicaIdentity::Default);
        let held = |relation: &Relation| -> Vec<bool> {
            relation.columns.iter().map(|column| column.identity).collect()
        };
        assert_eq!((held(&weaker), &weaker.key), (vec![true, true, false], &vec![0]));
        assert!(!weaker.logging.unnamed);
        let none = weakest(&[partition(Some(&["a"]), &ALL), partition(Some(&["b"]), &ALL)]);
        assert_eq!(
            (held(&none), none.key.len(), none.logging.unnamed),
            (vec![false; 3], 0, true)
        );
        // One that has no identity writes no old rows.
        assert!(Arc::ptr_eq(&weakest(&[whole, partition(Some(&[]), &ALL)]), &root));
    }
}

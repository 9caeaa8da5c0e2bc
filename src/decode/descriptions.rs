//! [`Descriptions`]: what has to stand before a transaction so that it can be decoded without those before it. Pure.

use std::collections::HashMap;

use crate::event::{ReplicaIdentity, StreamRelation};

/// The last descriptions of one connection's tables, as they came.
///
/// Rows of partitions that are published as their root's name the root alone, and their old rows are read by the replica
/// identities of all partitions that may have written them (see `assemble::partitions`). So beside a root's own
/// description its rows need one partition's for each identity that there is.
#[derive(Debug, Default)]
pub struct Descriptions {
    tables: HashMap<u32, Described>,
    /// The table that was described last, if nothing came since: the next description may be that of its partition.
    last: Option<u32>,
}

#[derive(Debug)]
struct Described {
    message: Vec<u8>,
    root: Option<u32>,
    /// One partition of each identity: the one that was described last.
    partitions: Vec<(Logged, u32)>,
    logged: Logged,
}

/// Everything about a partition's old rows by which they are read: the columns, and those that the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Logged {
    is_full: bool,
    /// Each column's name, and whether the identity has it; sorted.
    columns: Vec<(String, bool)>,
}

/// A description that a row is read by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed<'a> {
    /// The table that is described.
    pub oid: u32,
    /// The root, if rows of the table come as those of that.
    pub root: Option<u32>,
    /// The message.
    pub message: &'a [u8],
}

impl Descriptions {
    /// Takes the description of a table, as which it came in `message`. Returns the table whose rows are read by it, too:
    /// its root.
    pub fn describe(&mut self, relation: &StreamRelation, message: &[u8]) -> Option<u32> {
        let oid = relation.oid;
        let root = self.last.replace(oid).filter(|root| *root != oid);
        let before = self.tables.remove(&oid);
        let mut columns: Vec<(String, bool)> = relation
            .columns
            .iter()
            .map(|column| (column.name.clone(), column.identity))
            .collect();
        columns.sort_unstable();
        let logged = Logged {
            is_full: relation.replica_identity == ReplicaIdentity::Full,
            columns,
        };
        let root = root.filter(|root| self.tables.contains_key(root));
        let former = before.as_ref().and_then(|before| before.root);
        let partitions = before.map_or_else(Vec::new, |before| before.partitions);
        let described = Described {
            message: message.to_vec(),
            root,
            partitions,
            logged: logged.clone(),
        };
        self.tables.insert(oid, described);
        if let Some(former) = former {
            self.part(former, oid);
        }
        let held = self.tables.get_mut(&root?)?;
        held.partitions.retain(|(other, _)| *other != logged);
        held.partitions.push((logged, oid));
        root
    }

    /// A change names a table: it is no partition whose rows come as its root's.
    pub fn named(&mut self, oid: u32) {
        self.last = None;
        let root = self.tables.get_mut(&oid).and_then(|table| table.root.take());
        if let Some(root) = root {
            self.part(root, oid);
        }
    }

    /// Takes a partition from a root. Another one that logs the same stands for it from then on.
    fn part(&mut self, root: u32, partition: u32) {
        let Some(table) = self.tables.get_mut(&root) else {
            return;
        };
        let place = table.partitions.iter().position(|(_, known)| *known == partition);
        let Some((logged, _)) = place.map(|place| table.partitions.swap_remove(place)) else {
            return;
        };
        let is_same = |(oid, other): &(&u32, &Described)| {
            **oid != partition && other.root == Some(root) && other.logged == logged
        };
        let other = self.tables.iter().find(is_same).map(|(oid, _)| *oid);
        if let (Some(other), Some(table)) = (other, self.tables.get_mut(&root)) {
            table.partitions.push((logged, other));
        }
    }

    /// The descriptions by which rows that name a table are read: its own first. None if it was not described.
    pub fn needed(&self, oid: u32) -> impl Iterator<Item = Needed<'_>> {
        let own = self.tables.get(&oid);
        let partitions = own.map_or(&[][..], |own| &own.partitions);
        let needed = |oid: u32, root| {
            let message = &*self.tables.get(&oid)?.message;
            Some(Needed { oid, root, message })
        };
        let partitions = partitions
            .iter()
            .filter_map(move |(_, partition)| needed(*partition, Some(oid)));
        needed(oid, None).into_iter().chain(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{StreamColumn, TableName};

    const ROOT: u32 = 1;

    fn describe(descriptions: &mut Descriptions, oid: u32, identity: &str) {
        let column = |name: &str| StreamColumn {
            name: name.to_owned(),
            type_oid: 25,
            typmod: -1,
            identity: identity == "full" || identity.contains(name),
        };
        let relation = StreamRelation {
            oid,
            table: TableName::new("public", "t"),
            replica_identity: if identity == "full" {
                ReplicaIdentity::Full
            } else {
                ReplicaIdentity::Default
            },
            columns: ["a", "b"].map(column).to_vec(),
        };
        descriptions.describe(&relation, &[oid as u8]);
    }

    /// A partition's description comes behind its root's.
    fn partition(descriptions: &mut Descriptions, oid: u32, identity: &str) {
        describe(descriptions, ROOT, "a");
        describe(descriptions, oid, identity);
        descriptions.named(ROOT);
    }

    fn needed(descriptions: &Descriptions, oid: u32) -> Vec<u32> {
        let needed = descriptions.needed(oid).map(|needed| {
            assert_eq!(needed.message, [needed.oid as u8]);
            assert_eq!(needed.root, (needed.oid != oid).then_some(oid));
            needed.oid
        });
        let mut oids: Vec<u32> = needed.collect();
        oids.sort_unstable();
        oids
    }

    #[test]
    fn rows_of_a_root_need_a_partition_of_each_identity() {
        let mut all = Descriptions::default();
        assert_eq!(needed(&all, ROOT), [0; 0]);
        describe(&mut all, 9, "a");
        all.named(9);
        partition(&mut all, 2, "full");
        partition(&mut all, 3, "a");
        assert_eq!((needed(&all, 9), needed(&all, ROOT)), (vec![9], vec![1, 2, 3]));
        // Many of one identity take no more room than one.
        partition(&mut all, 4, "full");
        partition(&mut all, 5, "a");
        assert_eq!(needed(&all, ROOT), [1, 4, 5]);
        // Where one has another identity now, or has become a table of its own, others still have the one that it had.
        partition(&mut all, 4, "b");
        assert_eq!(needed(&all, ROOT), [1, 2, 4, 5]);
        all.named(5);
        assert_eq!(needed(&all, ROOT), [1, 2, 3, 4]);
        all.named(3);
        assert_eq!((needed(&all, ROOT), needed(&all, 3)), (vec![1, 2, 4], vec![3]));
    }

    #[test]
    fn a_table_that_is_described_behind_another_is_no_partition_once_a_row_names_it() {
        let mut all = Descriptions::default();
        describe(&mut all, ROOT, "a");
        describe(&mut all, 2, "full");
        assert_eq!(needed(&all, ROOT), [1, 2]);
        all.named(2);
        assert_eq!((needed(&all, ROOT), needed(&all, 2)), (vec![1], vec![2]));
        describe(&mut all, 3, "full");
        assert_eq!(needed(&all, 2), [2]);
    }
}

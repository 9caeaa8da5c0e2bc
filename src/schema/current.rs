//! [`Current`]: the tables as they are known now, by what the stream described and by what the database answered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::event::{Column, Relation, TableName};
use crate::lsn::Lsn;

/// The tables by their names.
#[derive(Debug, Default)]
pub(super) struct Current {
    by_name: HashMap<TableName, Known>,
    /// A position that lies behind all that the last answer shows.
    answered_at: Lsn,
    /// The number of times that the stream has described a table.
    descriptions: u64,
}

/// The outcome of an answer.
#[derive(Debug)]
pub(super) struct Replaced {
    /// The tables that were known and are not any more.
    pub(super) missed: Vec<(TableName, u32)>,
    /// Those that are now as the answer has them.
    pub(super) taken: Vec<Arc<Relation>>,
}

#[derive(Debug)]
struct Known {
    relation: Arc<Relation>,
    /// The number of the description that it came by; 0 if the database was asked for it.
    description: u64,
    /// The last answer of the database when it was asked for all tables.
    answer: Option<Arc<Relation>>,
}

impl Current {
    pub(super) fn get(&self, name: &TableName) -> Option<Arc<Relation>> {
        self.by_name.get(name).map(|known| Arc::clone(&known.relation))
    }

    /// The tables' names and OIDs.
    pub(super) fn names(&self) -> Vec<(TableName, u32)> {
        let known = self.by_name.iter();
        known
            .map(|(name, known)| (name.clone(), known.relation.oid))
            .collect()
    }

    /// The number of times that the stream has described a table.
    pub(super) fn descriptions(&self) -> u64 {
        self.descriptions
    }

    /// Takes the stream's description of a table, and returns its former name if it was known by that.
    pub(super) fn describe(
        &mut self,
        relation: &Arc<Relation>,
        former: Option<&TableName>,
    ) -> Option<(TableName, u32)> {
        let former = former.filter(|former| {
            let known = self.by_name.get(former);
            known.is_some_and(|known| known.relation.oid == relation.oid)
        });
        let missed = former.and_then(|former| self.by_name.remove_entry(former));
        self.descriptions += 1;
        let answer = self.by_name.get(&relation.table);
        let answer = answer.or(missed.as_ref().map(|(_, known)| known));
        let answer = answer.and_then(|known| known.answer.clone());
        let known = Known {
            relation: Arc::clone(relation),
            description: self.descriptions,
            answer: answer.filter(|answer| answer.oid == relation.oid),
        };
        self.by_name.insert(relation.table.clone(), known);
        missed.map(|(name, known)| (name, known.relation.oid))
    }

    /// The position behind which rows surely have the types of this version of a table: if the last answer has them
    /// too.
    pub(super) fn types_since(&self, relation: &Relation) -> Option<Lsn> {
        let answer = self.by_name.get(&relation.table)?.answer.as_ref()?;
        let is_same = |column: &Column| {
            let answered = answer.column(&column.name);
            answered.is_some_and(|(_, answered)| answered.ty == column.ty)
        };
        let are_same = answer.oid == relation.oid && relation.columns.iter().all(is_same);
        are_same.then_some(self.answered_at)
    }

    /// Takes the database's answer to a question that was asked after so many descriptions, and shows nothing from
    /// behind `seen`. What was described since may be newer than the answer: it stays.
    pub(super) fn replace(&mut self, tables: Vec<Relation>, descriptions: u64, seen: Lsn) -> Replaced {
        self.answered_at = seen;
        let before = std::mem::take(&mut self.by_name).into_iter();
        let (newer, older): (Vec<_>, Vec<_>) =
            before.partition(|(_, known)| known.description > descriptions);
        let described: HashSet<u32> = newer.iter().map(|(_, known)| known.relation.oid).collect();
        let mut taken = Vec::new();
        for relation in tables {
            if described.contains(&relation.oid) {
                continue;
            }
            let relation = Arc::new(relation);
            taken.push(Arc::clone(&relation));
            let known = Known {
                relation: Arc::clone(&relation),
                description: 0,
                answer: Some(relation),
            };
            self.by_name.insert(known.relation.table.clone(), known);
        }
        for (name, known) in newer {
            let answer = None;
            self.by_name.insert(name, Known { answer, ..known });
        }
        let older = older.into_iter().map(|(name, known)| (name, known.relation.oid));
        let is_gone = |(name, oid): &(TableName, u32)| {
            let known = self.by_name.get(name);
            known.is_none_or(|known| known.relation.oid != *oid)
        };
        let missed = older.filter(is_gone).collect();
        Replaced { missed, taken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ReplicaIdentity;

    fn relation(name: &str, oid: u32) -> Relation {
        Relation {
            oid,
            table: TableName::new("public", name),
            replica_identity: ReplicaIdentity::Default,
            columns: Vec::new(),
            key: Vec::new(),
            logging: Default::default(),
        }
    }

    fn oids(current: &Current) -> Vec<(String, u32)> {
        let known = current.by_name.iter();
        let mut oids: Vec<_> = known
            .map(|(name, known)| (name.name.clone(), known.relation.oid))
            .collect();
        oids.sort();
        oids
    }

    fn named(oids: &[(&str, u32)]) -> Vec<(String, u32)> {
        oids.iter()
            .map(|(name, oid)| ((*name).to_owned(), *oid))
            .collect()
    }

    #[test]
    fn what_is_described_while_the_database_answers_is_newer_than_the_answer() {
        let mut current = Current::default();
        let missed = current
            .replace(
                vec![relation("a", 1), relation("b", 2), relation("c", 3)],
                0,
                Lsn(1),
            )
            .missed;
        assert_eq!(missed, []);
        let asked = current.descriptions;
        // Meanwhile one table takes another's name, and one gets a name of its own.
        assert_eq!(current.describe(&Arc::new(relation("a", 9)), None), None);
        let b = TableName::new("public", "b");
        let missed = current.describe(&Arc::new(relation("bb", 2)), Some(&b));
        assert_eq!(missed, Some((b, 2)));
        let missed = current
            .replace(vec![relation("a", 1), relation("b", 2)], asked, Lsn(2))
            .missed;
        assert_eq!(missed, [(TableName::new("public", "c"), 3)]);
        assert_eq!(oids(&current), named(&[("a", 9), ("bb", 2)]));
        // The next answer knows of it.
        let missed = current
            .replace(vec![relation("a", 9)], current.descriptions, Lsn(3))
            .missed;
        assert_eq!(missed, [(TableName::new("public", "bb"), 2)]);
        assert_eq!(oids(&current), named(&[("a", 9)]));
    }
}

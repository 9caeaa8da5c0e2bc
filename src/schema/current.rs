//! [`Current`]: the tables as they are known now, from the stream's descriptions and the database's answers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::event::{Column, Relation, TableName};
use crate::lsn::Lsn;

/// The tables by their names.
#[derive(Debug, Default)]
pub(super) struct Current {
    by_name: HashMap<TableName, Known>,
    /// The number of times that the stream has described a table.
    descriptions: u64,
}

/// The outcome of an answer.
#[derive(Debug)]
pub(super) struct Replaced {
    /// The tables that are gone.
    pub(super) missed: Vec<(TableName, u32)>,
    /// The tables that were taken from the answer.
    pub(super) taken: Vec<Arc<Relation>>,
}

#[derive(Debug)]
struct Known {
    relation: Arc<Relation>,
    /// The number of the stream's description that it comes from; 0 if it is from an answer.
    description: u64,
    /// The table in the last answer about all tables.
    answer: Option<Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    relation: Arc<Relation>,
    /// A position after everything that the first answer shows since which the table has had these types in each.
    types_since: Lsn,
}

impl Answer {
    /// True if the columns of another version of the table have the types that they have in the answer.
    fn has_types_of(&self, relation: &Relation) -> bool {
        let is_same = |column: &Column| {
            let answered = self.relation.column(&column.name);
            answered.is_some_and(|(_, answered)| answered.ty == column.ty)
        };
        self.relation.oid == relation.oid && relation.columns.iter().all(is_same)
    }
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

    /// Takes the stream's description of a table, and returns the table's former name if it has changed.
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
            answer: answer.filter(|answer| answer.relation.oid == relation.oid),
        };
        self.by_name.insert(relation.table.clone(), known);
        missed.map(|(name, known)| (name, known.relation.oid))
    }

    /// The position after which rows certainly have the types of this version of a table, if the last answer has these
    /// types too.
    pub(super) fn types_since(&self, relation: &Relation) -> Option<Lsn> {
        let answer = self.by_name.get(&relation.table)?.answer.as_ref()?;
        answer.has_types_of(relation).then_some(answer.types_since)
    }

    /// Takes the database's answer to a question that was asked after so many descriptions, and that shows nothing from
    /// after `seen`. Tables that were described since may be newer than the answer, and stay.
    pub(super) fn replace(&mut self, tables: Vec<Relation>, descriptions: u64, seen: Lsn) -> Replaced {
        let before = std::mem::take(&mut self.by_name).into_iter();
        let (newer, older): (HashMap<_, _>, HashMap<_, _>) =
            before.partition(|(_, known)| known.description > descriptions);
        let described: HashSet<u32> = newer.values().map(|known| known.relation.oid).collect();
        let mut taken = Vec::new();
        for relation in tables {
            if described.contains(&relation.oid) {
                continue;
            }
            let relation = Arc::new(relation);
            taken.push(Arc::clone(&relation));
            let answered = older.get(&relation.table).and_then(|known| known.answer.as_ref());
            let answered = answered.filter(|answer| answer.has_types_of(&relation));
            let answer = Answer {
                relation: Arc::clone(&relation),
                types_since: answered.map_or(seen, |answer| answer.types_since),
            };
            let known = Known {
                relation,
                description: 0,
                answer: Some(answer),
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

    fn with_mood(oid: u32) -> Relation {
        let mut relation = relation("a", 1);
        relation.columns = Relation::of_messages("m", true).columns;
        relation.columns[0].ty.oid = oid;
        relation
    }

    #[test]
    fn types_hold_since_the_first_answer_that_has_them() {
        let mut current = Current::default();
        let mut since = |oid: u32, seen: u64| {
            let descriptions = current.descriptions();
            drop(current.replace(vec![with_mood(oid)], descriptions, Lsn(seen)));
            [7, 8].map(|oid| current.types_since(&with_mood(oid)).map(|at| at.0))
        };
        assert_eq!(since(7, 10), [Some(10), None]);
        assert_eq!(since(7, 20), [Some(10), None]);
        assert_eq!(since(8, 30), [None, Some(30)]);
        assert_eq!(since(8, 40), [None, Some(30)]);
        assert_eq!(since(7, 50), [Some(50), None]);
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

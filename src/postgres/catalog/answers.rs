//! [`Answers`]: tables that the stream is about to describe, asked for ahead.
//!
//! A question takes a millisecond or two, whether it is about one table or about a hundred, and the stream waits for
//! it. An answer is good for every transaction that could be seen when the question was asked: asking later would show
//! what the transaction did no better. So the caller names the [`Moment`] of its newest snapshot, and gets no older
//! answer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::tables::{Scope, Table};
use super::*;

/// The moment of a question: those of the same moment count as asked at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The number of the newest snapshot that was taken before.
    pub snapshot: u64,
    /// The number of times that all tables were asked for by somebody else: what they found is not to be followed by
    /// less.
    pub refreshed: u64,
}

/// The answers of one moment.
#[derive(Debug, Default)]
pub(super) struct Answers {
    moment: Option<Moment>,
    tables: HashMap<u32, Option<Arc<Table>>>,
    /// Partitioned tables whose partitions were not asked for at this moment, but a while before.
    older_writers: HashSet<u32>,
    /// The types that were read, and with them what they are made of, as long as nothing is found to have changed.
    types: HashSet<u32>,
    types_as_of: u64,
    /// The names of types with their modifiers.
    names: HashMap<(u32, i32), String>,
    /// True if there is a collation that is not deterministic, once it was asked.
    pub(super) nondeterministic: Option<bool>,
}

/// The number of tables that are remembered at most.
const MAX_TABLES: usize = 4096;

impl Answers {
    /// Forgets all answers but those of the moment.
    pub(super) fn keep(&mut self, moment: Option<Moment>) {
        if moment.is_none() || self.moment != moment || self.tables.len() > MAX_TABLES {
            *self = Answers {
                moment,
                ..Answers::default()
            };
        }
    }

    /// Has a table be asked for once more.
    pub(super) fn forget(&mut self, oid: u32) {
        self.tables.remove(&oid);
    }

    pub(super) fn has(&self, oid: u32, moment: Moment) -> bool {
        self.moment == Some(moment) && self.tables.contains_key(&oid)
    }
}

impl Catalog {
    /// Says whether [`Catalog::describe_at`] knows of a table what was asked at that moment.
    pub fn is_answered(&self, oid: u32, moment: Moment) -> bool {
        self.answers.has(oid, moment)
    }

    /// Asks for tables, and for what their columns are made of, at that moment. [`Catalog::describe_at`] has the
    /// answers at the same moment.
    pub fn look_ahead(&mut self, oids: &[u32], moment: Moment) -> Result<(), Error> {
        self.answers.keep(Some(moment));
        let is_new = |oid: &u32| !self.answers.has(*oid, moment);
        let oids: Vec<u32> = oids.iter().copied().filter(is_new).collect();
        let tables = self.read_described(&oids)?;
        let columns = tables.iter().flat_map(|table| &table.columns);
        self.load_types(columns.map(|column| column.type_oid))
    }

    /// Has a partitioned table be asked for once more, unless its partitions were asked for at that moment.
    pub fn renew_partitions(&mut self, root: u32, moment: Option<Moment>) {
        self.answers.keep(moment);
        if !self.answers.tables.contains_key(&root) || self.answers.older_writers.contains(&root) {
            self.answers.tables.remove(&root);
            self.writers.remove(&root);
        }
    }

    /// Forgets what was asked of tables before, and of their partitions.
    pub fn forget_answers(&mut self) {
        self.answers.keep(None);
        self.writers.clear();
    }

    /// The table as it is at the moment of the answers; `None` if there is none.
    pub(super) fn answer(&mut self, oid: u32) -> Result<Option<Arc<Table>>, Error> {
        if let Some(known) = self.answers.tables.get(&oid) {
            return Ok(known.clone());
        }
        Ok(self.read_described(&[oid])?.pop())
    }

    fn read_described(&mut self, oids: &[u32]) -> Result<Vec<Arc<Table>>, Error> {
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        self.writers.retain(|_, (asked, _)| asked.elapsed() < WRITERS_AGE);
        let known: Vec<u32> = oids
            .iter()
            .copied()
            .filter(|oid| self.writers.contains_key(oid))
            .collect();
        let scope = Scope::Oids(oids, &self.publications, &known);
        let mut found = Vec::new();
        for mut table in tables::read(&mut self.session, &scope)? {
            let oid = table.oid();
            if table.facts.partitioned {
                match self.writers.get(&oid) {
                    Some((_, writers)) => {
                        table.facts.writers.clone_from(writers);
                        self.answers.older_writers.insert(oid);
                    }
                    None => {
                        let writers = table.facts.writers.clone();
                        self.writers.insert(oid, (Instant::now(), writers));
                        self.answers.older_writers.remove(&oid);
                    }
                }
            }
            let names = table.columns.iter().map(TableColumn::named_type);
            self.answers.names.extend(names);
            found.push(Arc::new(table));
        }
        let tables = found.iter().map(|table| (table.oid(), Some(Arc::clone(table))));
        self.answers.tables.extend(oids.iter().map(|oid| (*oid, None)));
        self.answers.tables.extend(tables);
        Ok(found)
    }

    /// Reads types, but for those that were read at the moment of the answers.
    pub(super) fn load_types(&mut self, oids: impl Iterator<Item = u32>) -> Result<(), Error> {
        let Answers {
            types, types_as_of, ..
        } = &mut self.answers;
        if *types_as_of != self.types.last_generation() {
            types.clear();
        }
        let wanted: HashSet<u32> = oids.filter(|oid| !types.contains(oid)).collect();
        self.types.load(&mut self.session, wanted.iter().copied())?;
        self.answers.types.extend(wanted);
        self.answers.types_as_of = self.types.last_generation();
        Ok(())
    }

    /// The names of types with their modifiers.
    pub(super) fn type_names(&mut self, named: &[(u32, i32)]) -> Result<Vec<String>, Error> {
        let names = &mut self.answers.names;
        let unknown: Vec<(u32, i32)> = named
            .iter()
            .copied()
            .filter(|named| !names.contains_key(named))
            .collect();
        let found = self.types.names(&mut self.session, &unknown)?;
        names.extend(unknown.into_iter().zip(found));
        let name = |named| names.get(named).cloned().unwrap_or_default();
        Ok(named.iter().map(name).collect())
    }
}

//! [`TableHistory`]: which table had which name, and which columns, since when. Pure.
//!
//! Postgres logs nothing when a table is dropped, renamed, altered or swapped for another, and the next row of it may
//! be long in coming. A client that comes back holds what it was told of the table that had the name then, and of the
//! columns that this had. If another table or another column has come to have the name since, what the client holds is
//! not what is there, whatever rows it missed. So the one who writes the log notes what it learns of tables in the
//! log, as [`TableRecord`]s between the rows, and the history is what these records say, one after the other: whoever
//! has the log has it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::record::{self, Malformed, TABLE_NAME, TABLE_VERSION};
use crate::event::{ColumnChange, Relation, TableName};
use crate::lsn::{Done, Lsn, Position};

/// The table that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its OID.
    pub oid: u32,
    /// From where on its rows come under the name; 0/0 if no other table had it, as far as is known.
    pub since: Lsn,
}

/// A version of a table that was current at some moment before `seen`, and from there on until the next.
#[derive(Clone, Debug, PartialEq)]
pub struct TableVersion {
    /// The position behind which the table surely has these columns, unless there is a newer version.
    pub seen: Lsn,
    /// The highest number that a column had by then.
    pub highest: i16,
    /// The table, with the columns that it had.
    pub relation: Arc<Relation>,
}

/// Something that the log says of a table.
#[derive(Clone, Debug, PartialEq)]
pub enum TableRecord {
    /// A table's rows come under a name.
    Name {
        /// The name.
        table: TableName,
        /// The table and the position.
        holder: Holder,
    },
    /// A table has these columns.
    Version {
        /// The columns, and since when.
        version: TableVersion,
        /// True if versions from before this one were forgotten.
        is_cut: bool,
    },
}

impl From<TableVersion> for TableRecord {
    fn from(version: TableVersion) -> TableRecord {
        let is_cut = false;
        TableRecord::Version { version, is_cut }
    }
}

impl TableRecord {
    /// The OID of the table that it is of.
    pub fn oid(&self) -> u32 {
        match self {
            TableRecord::Name { holder, .. } => holder.oid,
            TableRecord::Version { version, .. } => version.relation.oid,
        }
    }

    /// Appends it as a record of the log.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let json = "names and relations are plain JSON";
        match self {
            TableRecord::Name { table, holder } => {
                let name = serde_json::to_vec(table).expect(json);
                let payload = [
                    &holder.oid.to_le_bytes()[..],
                    &holder.since.0.to_le_bytes(),
                    &name,
                ];
                record::put(out, TABLE_NAME, &payload);
            }
            TableRecord::Version { version, is_cut } => {
                let relation = serde_json::to_vec(&*version.relation).expect(json);
                let payload = [
                    &version.seen.0.to_le_bytes()[..],
                    &version.highest.to_le_bytes(),
                    &[u8::from(*is_cut)],
                    &relation,
                ];
                record::put(out, TABLE_VERSION, &payload);
            }
        }
    }

    /// The content of a record of that kind.
    ///
    /// # Errors
    /// It is no record about a table.
    pub fn parse(kind: u8, mut payload: &[u8]) -> Result<TableRecord, Malformed> {
        match kind {
            TABLE_NAME => {
                let oid = record::take_u32(&mut payload)?;
                let since = Lsn(record::take_u64(&mut payload)?);
                let table =
                    serde_json::from_slice(payload).map_err(|_| Malformed("a table's name is unreadable"))?;
                let holder = Holder { oid, since };
                Ok(TableRecord::Name { table, holder })
            }
            TABLE_VERSION => {
                const UNREADABLE: Malformed = Malformed("a table's version is unreadable");
                let seen = Lsn(record::take_u64(&mut payload)?);
                let (highest, payload) = payload.split_first_chunk().ok_or(UNREADABLE)?;
                let (is_cut, payload) = match payload {
                    [0, rest @ ..] => (false, rest),
                    [1, rest @ ..] => (true, rest),
                    _ => return Err(UNREADABLE),
                };
                let relation: Relation = serde_json::from_slice(payload).map_err(|_| UNREADABLE)?;
                let version = TableVersion {
                    seen,
                    highest: i16::from_le_bytes(*highest),
                    relation: Arc::new(relation),
                };
                Ok(TableRecord::Version { version, is_cut })
            }
            _ => Err(Malformed("it is no record about a table")),
        }
    }
}

/// The names and the versions of the tables of one epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableHistory {
    holders: HashMap<TableName, Holder>,
    /// The name that each table had last.
    names: HashMap<u32, TableName>,
    versions: HashMap<u32, Versions>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Versions {
    /// In the order of the log; each was found from another source than the one before, or with other columns.
    found: Vec<TableVersion>,
    /// Some were forgotten that were before the first.
    is_cut: bool,
}

/// The news in a version of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// It was not known that the table had these columns then.
    pub is_new: bool,
    /// It is the newest version, and there were others.
    pub is_change: bool,
}

/// So many versions of a table are kept.
pub const MAX_VERSIONS: usize = 64;
/// No commit record is longer, in bytes.
const MAX_COMMIT_RECORD: u64 = 1024 * 1024;

impl TableHistory {
    /// The table that the stream last showed under a name.
    pub fn holder(&self, table: &TableName) -> Option<Holder> {
        self.holders.get(table).copied()
    }

    /// The name that the stream last showed a table under.
    pub fn name(&self, oid: u32) -> Option<&TableName> {
        self.names.get(&oid)
    }

    /// The record that says that the stream shows a table under a name, after the history's `head`; `None` if it did so
    /// before.
    pub fn showing(&self, table: &TableName, oid: u32, head: Lsn) -> Option<TableRecord> {
        let before = self.holder(table);
        let name_before = self.name(oid);
        if before.is_some_and(|before| before.oid == oid) && name_before == Some(table) {
            return None;
        }
        let has_moved = before.is_some() || name_before.is_some();
        let holder = Holder {
            oid,
            // What ends at the head was not yet of this table.
            since: if has_moved { Lsn(head.0 + 1) } else { Lsn::ZERO },
        };
        let table = table.clone();
        Some(TableRecord::Name { table, holder })
    }

    /// The news in a version that was found.
    pub fn news(&self, version: &TableVersion) -> News {
        let known = self.versions.get(&version.relation.oid);
        known.map_or(
            News {
                is_new: true,
                is_change: false,
            },
            |known| known.news(version),
        )
    }

    /// All versions of all tables.
    pub fn versions(&self) -> impl Iterator<Item = &TableVersion> {
        self.versions.values().flat_map(|versions| &versions.found)
    }

    /// The version of a table that is known to be the last.
    pub fn newest_version(&self, oid: u32) -> Option<&Arc<Relation>> {
        let newest = self.versions.get(&oid)?.found.last()?;
        Some(&newest.relation)
    }

    /// The versions that a client may have been told of whose state is the one at `from`, or that came since; `None` if
    /// that is not known any more.
    pub fn versions_since(&self, oid: u32, from: Position) -> Option<Vec<Arc<Relation>>> {
        let Some(versions) = self.versions.get(&oid) else {
            return Some(Vec::new());
        };
        // Whoever has come to the middle of a transaction may have been told before what it showed.
        let from = match from.done {
            Done::Commit => from.end,
            Done::Change(_) => Lsn(from.end.0.saturating_sub(MAX_COMMIT_RECORD)),
        };
        let newer = versions.found.partition_point(|version| version.seen <= from);
        if newer == 0 && versions.is_cut {
            return None;
        }
        let since = versions.found.get(newer.saturating_sub(1)..).unwrap_or_default();
        let relations = since.iter().map(|version| Arc::clone(&version.relation));
        Some(relations.collect())
    }

    /// Takes what the log says next. The same record once more changes nothing.
    pub fn apply(&mut self, record: &TableRecord) {
        match record {
            TableRecord::Name { table, holder } => {
                self.names.insert(holder.oid, table.clone());
                self.holders.insert(table.clone(), *holder);
            }
            TableRecord::Version { version, is_cut } => {
                let versions = self.versions.entry(version.relation.oid).or_default();
                versions.apply(version, *is_cut);
            }
        }
    }

    /// Everything as records, which make the same history again.
    pub fn records(&self) -> impl Iterator<Item = TableRecord> {
        let names = self
            .names_in_order()
            .into_iter()
            .map(|(table, holder)| TableRecord::Name {
                table: table.clone(),
                holder,
            });
        let mut tables: Vec<(&u32, &Versions)> = self.versions.iter().collect();
        tables.sort_unstable_by_key(|(oid, _)| **oid);
        let versions = tables.into_iter().flat_map(|(_, versions)| versions.records());
        names.chain(versions)
    }

    /// The names that tables have or had, in an order in which they may have come to have them: of the tables that a name
    /// is of, the one that holds it comes last, and of the names of a table the one that it has.
    fn names_in_order(&self) -> Vec<(&TableName, Holder)> {
        let is_held =
            |oid: u32, table: &TableName| self.holder(table).is_some_and(|holder| holder.oid == oid);
        let held = self.holders.iter().map(|(table, holder)| (table, *holder));
        // Tables whose last name another one has by now.
        let lost = self.names.iter().filter(|(oid, table)| !is_held(**oid, table));
        let lost = lost.map(|(oid, table)| {
            let since = Lsn::ZERO;
            (table, Holder { oid: *oid, since })
        });
        let mut all: Vec<(&TableName, Holder)> = held.chain(lost).collect();
        all.sort_unstable_by_key(|(table, holder)| (*table, holder.oid));
        let mut of_name: HashMap<&TableName, Vec<usize>> = HashMap::new();
        let mut of_table: HashMap<u32, Vec<usize>> = HashMap::new();
        for (place, (table, holder)) in all.iter().enumerate() {
            of_name.entry(table).or_default().push(place);
            of_table.entry(holder.oid).or_default().push(place);
        }
        let before = |place: usize| {
            let (table, holder) = all.get(place).copied()?;
            let is_held = is_held(holder.oid, table);
            let is_last = self.name(holder.oid) == Some(table);
            let others = is_held.then(|| of_name.get(table)).flatten();
            let formers = is_last.then(|| of_table.get(&holder.oid)).flatten();
            let before = others.into_iter().chain(formers).flatten().copied();
            Some(before.filter(move |other| *other != place))
        };
        // Each after those that come before it, which has no circle: all of them did come after each other.
        let mut ordered = Vec::with_capacity(all.len());
        let mut reached = vec![false; all.len()];
        let mut open: Vec<(usize, bool)> = (0..all.len()).rev().map(|place| (place, false)).collect();
        while let Some((place, is_after)) = open.pop() {
            if is_after {
                ordered.extend(all.get(place).copied());
                continue;
            }
            if reached
                .get_mut(place)
                .is_none_or(|reached| std::mem::replace(reached, true))
            {
                continue;
            }
            open.push((place, true));
            open.extend(before(place).into_iter().flatten().map(|other| (other, false)));
        }
        ordered
    }

    /// The history that a new epoch begins with at `start`: the tables are in it from the beginning as they were there,
    /// and nothing is known of their names.
    pub fn next_epoch(&self, start: Lsn) -> TableHistory {
        let tables = self.versions.iter();
        TableHistory {
            versions: tables
                .map(|(oid, versions)| (*oid, versions.since(start)))
                .collect(),
            ..TableHistory::default()
        }
    }

    /// The part of it that is about names.
    pub fn of_names(&self) -> TableHistory {
        TableHistory {
            holders: self.holders.clone(),
            names: self.names.clone(),
            ..TableHistory::default()
        }
    }

    /// The part of it that is about one table's columns.
    pub fn of_table(&self, oid: u32) -> TableHistory {
        let versions = self.versions.get(&oid).map(|versions| (oid, versions.clone()));
        TableHistory {
            versions: versions.into_iter().collect(),
            ..TableHistory::default()
        }
    }

    /// Forgets the columns of tables that are not among those, once there is much to forget. Returns whether it did.
    pub fn retain(&mut self, published: &HashSet<u32>) -> bool {
        let is_much = self.versions.len() > 2 * published.len() + FEW_TABLES;
        if is_much {
            self.versions.retain(|oid, _| published.contains(oid));
        }
        is_much
    }
}

/// So many tables that are not published any more are not worth forgetting.
const FEW_TABLES: usize = 1024;

impl Versions {
    /// The place of a version, and whether it is known by the one before.
    fn place(&self, version: &TableVersion) -> (usize, bool) {
        let at = self.found.partition_point(|found| found.seen <= version.seen);
        let before = at.checked_sub(1).and_then(|before| self.found.get(before));
        (
            at,
            before.is_some_and(|before| is_same(&before.relation, &version.relation)),
        )
    }

    fn news(&self, version: &TableVersion) -> News {
        let (at, is_known) = self.place(version);
        News {
            is_new: !is_known,
            is_change: !is_known && at > 0 && at == self.found.len(),
        }
    }

    fn apply(&mut self, version: &TableVersion, is_cut: bool) {
        if is_cut {
            self.found.retain(|found| found.seen >= version.seen);
            self.is_cut = true;
        }
        let (at, is_known) = self.place(version);
        match self.found.get_mut(at) {
            _ if is_known => {}
            // It was so already.
            Some(after) if is_same(&after.relation, &version.relation) => after.seen = version.seen,
            _ => self.found.insert(at, version.clone()),
        }
        if self.found.len() > MAX_VERSIONS {
            self.found.remove(0);
            self.is_cut = true;
        }
    }

    /// The versions from the one at `start` on, which is taken to have been there always.
    fn since(&self, start: Lsn) -> Versions {
        let mut since = self.clone();
        let later = since.found.partition_point(|found| found.seen <= start);
        if let Some(at_start) = later.checked_sub(1) {
            since.found.drain(..at_start);
            since.is_cut = false;
            if let Some(first) = since.found.first_mut() {
                first.seen = Lsn::ZERO;
            }
        }
        since
    }

    fn records(&self) -> impl Iterator<Item = TableRecord> {
        let cut = self.is_cut;
        let found = self.found.iter().enumerate();
        found.map(move |(number, version)| TableRecord::Version {
            version: version.clone(),
            is_cut: cut && number == 0,
        })
    }
}

/// True if two versions of a table have the same columns, which mean the same.
fn is_same(a: &Relation, b: &Relation) -> bool {
    a.columns.len() == b.columns.len()
        && a.columns.iter().zip(&b.columns).all(|(a, b)| {
            let is_other = || ColumnChange::of(a, b).is_some();
            a == b || ((&a.name, a.attnum, a.ty.oid) == (&b.name, b.attnum, b.ty.oid) && !is_other())
        })
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;

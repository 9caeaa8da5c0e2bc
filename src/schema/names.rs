//! [`Names`]: which table the stream last showed under which name, and since when.
//!
//! Postgres logs nothing when a table is dropped, renamed or swapped for another. The first row after it shows it: by
//! another OID under the name, or another name for the OID. What a client held of the name before that is not the
//! table's, so a new history of the name begins there. This has to outlive a restart: it is in a file of one JSON
//! object a line, the last one for a name counts, and a line that was cut short by a crash does not.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::event::TableName;
use crate::lsn::{Epoch, Lsn};
use crate::private_files;

/// The table that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its OID.
    pub oid: u32,
    /// From where on its rows come under the name; 0/0 if no other table had it, as far as is known.
    pub since: Lsn,
}

/// The names of one epoch.
#[derive(Debug)]
pub(super) struct Names {
    file: File,
    epoch: Epoch,
    holders: HashMap<TableName, Holder>,
    /// The name that each table had last.
    names: HashMap<u32, TableName>,
}

#[derive(Deserialize, Serialize)]
struct Line {
    epoch: Epoch,
    table: TableName,
    oid: u32,
    since: Lsn,
}

impl Names {
    /// Reads the file, if there is one, and what it says of `epoch`.
    pub(super) fn open(path: &Path, epoch: Epoch) -> io::Result<Names> {
        let mut text = String::new();
        match private_files::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => drop(file?.read_to_string(&mut text)?),
        }
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let lines: Vec<Line> = lines.filter(|line| line.epoch == epoch).collect();
        // Rewritten without what does not count any more.
        let draft = path.with_extension("new");
        let mut file = private_files::create(&draft)?;
        let mut names = HashMap::new();
        let mut holders = HashMap::new();
        for Line {
            table, oid, since, ..
        } in lines
        {
            names.insert(oid, table.clone());
            holders.insert(table, Holder { oid, since });
        }
        // The name that a table has now comes after those that it had.
        let mut ordered: Vec<(&TableName, &Holder)> = holders.iter().collect();
        ordered.sort_by_key(|(table, holder)| names.get(&holder.oid) == Some(*table));
        for (table, holder) in ordered {
            write(&mut file, &epoch, table, *holder)?;
        }
        file.sync_all()?;
        fs::rename(&draft, path)?;
        Ok(Names {
            file: private_files::append(path)?,
            epoch,
            holders,
            names,
        })
    }

    /// The stream shows a table under a name, after the history's `head`. Returns the name that it had before, if that
    /// was another.
    pub(super) fn note(
        &mut self,
        epoch: &Epoch,
        table: &TableName,
        oid: u32,
        head: Lsn,
    ) -> io::Result<Option<TableName>> {
        if self.epoch != *epoch {
            self.epoch = epoch.clone();
            self.holders.clear();
            self.names.clear();
        }
        let before = self.holders.get(table);
        let name_before = self.names.get(&oid);
        if before.is_some_and(|before| before.oid == oid) && name_before == Some(table) {
            return Ok(None);
        }
        let moved = before.is_some() || name_before.is_some();
        let holder = Holder {
            oid,
            // What ends at the head was not yet of this table.
            since: if moved { Lsn(head.0 + 1) } else { Lsn::ZERO },
        };
        write(&mut self.file, epoch, table, holder)?;
        if moved {
            self.file.sync_data()?;
        }
        self.holders.insert(table.clone(), holder);
        Ok(self.names.insert(oid, table.clone()).filter(|name| name != table))
    }

    /// The table that the stream last showed under a name.
    pub(super) fn holder(&self, epoch: &Epoch, table: &TableName) -> Option<Holder> {
        self.holders.get(table).copied().filter(|_| self.epoch == *epoch)
    }
}

fn write(file: &mut File, epoch: &Epoch, table: &TableName, holder: Holder) -> io::Result<()> {
    let line = Line {
        epoch: epoch.clone(),
        table: table.clone(),
        oid: holder.oid,
        since: holder.since,
    };
    let mut text = serde_json::to_vec(&line)?;
    text.push(b'\n');
    file.write_all(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_begins_anew_when_another_table_takes_it_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tables.jsonl");
        let epoch = Epoch("a".into());
        let (t, u) = (TableName::new("public", "t"), TableName::new("a.b", "u"));
        let holder = |oid, since| {
            Some(Holder {
                oid,
                since: Lsn(since),
            })
        };
        let mut names = Names::open(&path, epoch.clone()).unwrap();
        names.note(&epoch, &t, 1, Lsn(10)).unwrap();
        names.note(&epoch, &t, 1, Lsn(20)).unwrap();
        assert_eq!(
            (names.holder(&epoch, &t), names.holder(&epoch, &u)),
            (holder(1, 0), None)
        );
        // Renamed, and its old name taken by another.
        names.note(&epoch, &u, 1, Lsn(30)).unwrap();
        assert_eq!(names.holder(&epoch, &u), holder(1, 31));
        drop(names);
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"epoch\":\"a\",\"ta")
            .unwrap();
        let mut names = Names::open(&path, epoch.clone()).unwrap();
        names.note(&epoch, &u, 1, Lsn(40)).unwrap();
        assert_eq!(names.holder(&epoch, &u), holder(1, 31));
        names.note(&epoch, &t, 2, Lsn(50)).unwrap();
        assert_eq!(names.holder(&epoch, &t), holder(2, 51));
        // And back to its old name, from the other one.
        names.note(&epoch, &t, 1, Lsn(60)).unwrap();
        assert_eq!(names.holder(&epoch, &t), holder(1, 61));
        let other = Epoch("b".into());
        assert_eq!(names.holder(&other, &t), None);
        names.note(&other, &t, 7, Lsn(5)).unwrap();
        assert_eq!(names.holder(&other, &t), holder(7, 0));
        drop(names);
        assert_eq!(
            Names::open(&path, other.clone()).unwrap().holder(&other, &t),
            holder(7, 0)
        );
    }
}

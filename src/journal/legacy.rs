//! Files of earlier versions: which table had which name, and which columns, were lines of JSON beside the segments.
//!
//! They are read once, when the newest segment is one of an earlier version, and what they say opens the next one. The
//! last line for a name counts, and one that was cut short by a crash does not.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::Error;
use super::files::Files;
use crate::event::{Relation, TableName};
use crate::log::{Holder, TableHistory, TableRecord, TableVersion};
use crate::lsn::{Epoch, Lsn};
use crate::private_files;

/// The file of names, and that of columns.
const NAMES: &str = "tables.jsonl";
const COLUMNS: &str = "columns.jsonl";
/// All that there may be, drafts included.
pub(super) const FILES: [&str; 4] = [NAMES, "tables.new", COLUMNS, "columns.new"];

#[derive(Deserialize)]
struct Name {
    epoch: Epoch,
    table: TableName,
    oid: u32,
    since: Lsn,
}

#[derive(Deserialize)]
struct Columns {
    epoch: Epoch,
    seen: Lsn,
    highest: i16,
    relation: Relation,
}

/// The history of an epoch's tables by the files of a directory; empty if there are none.
pub(super) fn tables(dir: &Path, epoch: &Epoch) -> Result<TableHistory, Error> {
    let mut tables = TableHistory::default();
    for line in lines::<Name>(&dir.join(NAMES))? {
        if line.epoch == *epoch {
            let Name {
                table, oid, since, ..
            } = line;
            let holder = Holder { oid, since };
            tables.apply(&TableRecord::Name { table, holder });
        }
    }
    for line in lines::<Columns>(&dir.join(COLUMNS))? {
        if line.epoch == *epoch {
            let version = TableVersion {
                seen: line.seen,
                highest: line.highest,
                relation: Arc::new(line.relation),
            };
            tables.apply(&version.into());
        }
    }
    Ok(tables)
}

/// Removes them: the log has what they said.
pub(super) fn remove(files: &dyn Files, dir: &Path) -> Result<(), Error> {
    let mut any = false;
    for name in FILES {
        let path = dir.join(name);
        match files.remove(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            removed => {
                removed.map_err(Error::io("remove", &path))?;
                any = true;
            }
        }
    }
    if any {
        files.sync_dir(dir).map_err(Error::io("sync", dir))?;
    }
    Ok(())
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, Error> {
    let mut bytes = Vec::new();
    match private_files::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.and_then(|mut file| file.read_to_end(&mut bytes)),
    }
    .map_err(Error::io("read", path))?;
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

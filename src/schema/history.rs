//! [`History`]: which columns the tables had, and from where on.
//!
//! Postgres logs nothing when a table is altered, and the next row may be long in coming. A client that comes back
//! holds what it was told of the columns that the table had then; if another one has come to have a name since, what
//! the client holds of it is not what the table has, whatever rows it missed. This has to outlive a restart: it is in
//! a file of one JSON object a line, and a line that was cut short by a crash does not count.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::Relation;
use crate::lsn::{Done, Epoch, Lsn, Position};
use crate::matching::Change;
use crate::private_files;

/// The versions of the tables of one epoch.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    file: File,
    epoch: Epoch,
    tables: HashMap<u32, Versions>,
    /// The file's lines, and how many of them there were when it was last rewritten.
    lines: usize,
    written: usize,
    /// True while the file has lines that may not survive a crash.
    is_unsynced: bool,
}

#[derive(Debug, Default)]
struct Versions {
    /// In the order of the log; each was found from another source than the one before, or with other columns.
    found: Vec<Version>,
    /// Some were forgotten that were before the first.
    is_cut: bool,
}

/// A version of a table that was current at some moment before `seen`, and from there on until the next.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) seen: Lsn,
    /// The highest number that a column had by then.
    pub(super) highest: i16,
    pub(super) relation: Arc<Relation>,
}

#[derive(Deserialize, Serialize)]
struct Line<'l> {
    epoch: Epoch,
    seen: Lsn,
    highest: i16,
    relation: std::borrow::Cow<'l, Relation>,
}

/// So many versions of a table are kept.
const MAX_VERSIONS: usize = 64;
/// No commit record is longer, in bytes.
const MAX_COMMIT_RECORD: u64 = 1024 * 1024;
/// The number of lines below which the file is not rewritten.
const FEW_LINES: usize = 4096;

impl History {
    /// Reads the file, if there is one, and what it says of `epoch`.
    pub(super) fn open(path: &Path, epoch: Epoch) -> io::Result<History> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line<'_>>(line).ok());
        let mut tables: HashMap<u32, Versions> = HashMap::new();
        for line in lines.filter(|line| line.epoch == epoch) {
            let version = Version {
                seen: line.seen,
                highest: line.highest,
                relation: Arc::new(line.relation.into_owned()),
            };
            tables.entry(version.relation.oid).or_default().note(version);
        }
        let mut history = History {
            path: path.to_owned(),
            // Replaced at once.
            file: File::options().append(true).create(true).open(path)?,
            epoch,
            tables,
            lines: 0,
            written: 0,
            is_unsynced: false,
        };
        history.write_anew()?;
        Ok(history)
    }

    /// All versions of all tables.
    pub(super) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.tables.values().flat_map(|versions| &versions.found)
    }

    /// Another history begins: the tables are in it from the start as they were last.
    pub(super) fn enter(&mut self, epoch: &Epoch) -> io::Result<()> {
        if self.epoch == *epoch {
            return Ok(());
        }
        self.epoch = epoch.clone();
        for versions in self.tables.values_mut() {
            let last = versions.found.pop().map(|last| Version {
                seen: Lsn::ZERO,
                ..last
            });
            *versions = Versions {
                found: last.into_iter().collect(),
                is_cut: false,
            };
        }
        let mut text = Vec::new();
        for version in self.versions() {
            write(&mut text, &self.epoch, version)?;
        }
        self.lines += self.tables.len();
        self.append(&text)?;
        self.sync()
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if !text.is_empty() {
            self.is_unsynced = true;
            self.file.write_all(text)?;
        }
        Ok(())
    }

    /// Has everything that was noted survive a crash.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.is_unsynced {
            self.file.sync_data()?;
            self.is_unsynced = false;
        }
        Ok(())
    }

    /// Notes versions, and returns those that are news: the newest of their tables, and not as the ones before. They
    /// survive a crash once they are [synced](History::sync).
    pub(super) fn note(&mut self, versions: Vec<Version>) -> io::Result<Vec<Arc<Relation>>> {
        let (mut text, mut news) = (Vec::new(), Vec::new());
        for version in versions {
            let known = self.tables.entry(version.relation.oid).or_default();
            let Noted { is_new, is_news } = known.note(version.clone());
            if is_new {
                write(&mut text, &self.epoch, &version)?;
                self.lines += 1;
            }
            if is_news {
                news.push(version.relation);
            }
        }
        self.append(&text)?;
        Ok(news)
    }

    /// Forgets the tables that are not among those, once there is much to forget.
    pub(super) fn retain(&mut self, published: &HashSet<u32>) -> io::Result<()> {
        if self.lines <= 2 * self.written + FEW_LINES {
            return Ok(());
        }
        self.tables.retain(|oid, _| published.contains(oid));
        self.write_anew()
    }

    /// The version of a table that is known to be the last.
    pub(super) fn last(&self, oid: u32) -> Option<&Arc<Relation>> {
        let last = self.tables.get(&oid)?.found.last()?;
        Some(&last.relation)
    }

    /// The versions that a client may have been told of whose state is the one at `from`, or that came since; `None` if
    /// that is not known any more.
    pub(super) fn since(&self, oid: u32, from: Position) -> Option<Vec<Arc<Relation>>> {
        let Some(versions) = self.tables.get(&oid) else {
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
        Some(
            since
                .iter()
                .map(|version| Arc::clone(&version.relation))
                .collect(),
        )
    }

    fn write_anew(&mut self) -> io::Result<()> {
        let draft = self.path.with_extension("new");
        let (mut text, mut lines) = (Vec::new(), 0);
        for version in self.versions() {
            write(&mut text, &self.epoch, version)?;
            lines += 1;
        }
        let mut file = private_files::create(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        (self.file, self.lines, self.written) = (file, lines, lines);
        self.is_unsynced = false;
        Ok(())
    }
}

/// The outcome of a version.
struct Noted {
    /// It was not known.
    is_new: bool,
    /// It is the newest, and there were others.
    is_news: bool,
}

impl Versions {
    fn note(&mut self, version: Version) -> Noted {
        let at = self.found.partition_point(|found| found.seen <= version.seen);
        let is_same = |found: &Version| is_same(&found.relation, &version.relation);
        let is_before = at
            .checked_sub(1)
            .and_then(|before| self.found.get(before))
            .is_some_and(is_same);
        let is_after = self.found.get(at).is_some_and(is_same);
        let is_news = !is_before && at > 0 && at == self.found.len();
        match self.found.get_mut(at) {
            _ if is_before => {}
            // It was so already.
            Some(after) if is_after => after.seen = version.seen,
            _ => self.found.insert(at, version),
        }
        if self.found.len() > MAX_VERSIONS {
            self.found.remove(0);
            self.is_cut = true;
        }
        Noted {
            is_new: !is_before,
            is_news,
        }
    }
}

/// True if two versions of a table have the same columns, which mean the same.
fn is_same(a: &Relation, b: &Relation) -> bool {
    a.columns.len() == b.columns.len()
        && a.columns.iter().zip(&b.columns).all(|(a, b)| {
            (&a.name, a.attnum, a.ty.oid) == (&b.name, b.attnum, b.ty.oid) && Change::of(a, b).is_none()
        })
}

fn write(out: &mut Vec<u8>, epoch: &Epoch, version: &Version) -> io::Result<()> {
    let line = Line {
        epoch: epoch.clone(),
        seen: version.seen,
        highest: version.highest,
        relation: std::borrow::Cow::Borrowed(&version.relation),
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TableName;
    use crate::types::Attnum;

    fn version(seen: u64, oid: u32, columns: &[(&str, i16)]) -> Version {
        let mut relation = Relation::of_messages("t", true);
        let column = relation.columns[0].clone();
        relation.oid = oid;
        relation.table = TableName::new("public", "t");
        relation.columns = columns
            .iter()
            .map(|(name, number)| crate::event::Column {
                name: (*name).to_owned(),
                attnum: Attnum::new(*number),
                ..column.clone()
            })
            .collect();
        Version {
            seen: Lsn(seen),
            highest: 9,
            relation: Arc::new(relation),
        }
    }

    fn since(history: &History, from: u64) -> Option<Vec<String>> {
        let columns = |relation: &Arc<Relation>| {
            let names = relation.columns.iter().map(|column| column.name.as_str());
            names.collect::<Vec<_>>().join(" ")
        };
        let since = history.since(1, Position::after(Lsn(from)))?;
        Some(since.iter().map(columns).collect())
    }

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn a_client_is_compared_with_what_it_may_have_been_told_of_and_all_since_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("columns.jsonl");
        let epoch = Epoch("a".into());
        let [ab, ba, swapped] = [
            &[("a", 1), ("b", 2)][..],
            &[("b", 1), ("a", 2)],
            &[("b", 1), ("a", 2), ("c", 3)],
        ];
        let mut history = History::open(&path, epoch.clone()).unwrap();
        let news = history
            .note(vec![version(10, 1, ab), version(10, 2, ab)])
            .unwrap();
        assert!(news.is_empty(), "there was nothing to be told of");
        assert!(history.note(vec![version(20, 1, ab)]).unwrap().is_empty());
        assert_eq!(history.note(vec![version(30, 1, ba)]).unwrap().len(), 1);
        assert_eq!(history.note(vec![version(40, 1, swapped)]).unwrap().len(), 1);
        // The stream shows that it was so earlier.
        assert!(history.note(vec![version(25, 1, ba)]).unwrap().is_empty());
        let check = |history: &History| {
            assert_eq!(since(history, 5), words(&["a b", "b a", "b a c"]));
            assert_eq!(since(history, 24), words(&["a b", "b a", "b a c"]));
            assert_eq!(since(history, 25), words(&["b a", "b a c"]));
            assert_eq!(since(history, 99), words(&["b a c"]));
            let inside = Position {
                end: Lsn(99),
                done: Done::Change(3),
            };
            assert_eq!(history.since(1, inside).unwrap().len(), 3);
            assert_eq!(history.last(1).unwrap().columns.len(), 3);
            assert_eq!(history.since(7, Position::after(Lsn(5))), Some(Vec::new()));
        };
        check(&history);
        drop(history);
        let mut cut = File::options().append(true).open(&path).unwrap();
        cut.write_all(b"{\"epoch\":\"a\",\"se").unwrap();
        check(&History::open(&path, epoch.clone()).unwrap());
        let mut history = History::open(&path, epoch).unwrap();
        check(&history);
        // Another history begins with what the tables were last.
        let other = Epoch("b".into());
        history.enter(&other).unwrap();
        assert_eq!(since(&history, 1), words(&["b a c"]));
        assert_eq!(since(&History::open(&path, other).unwrap(), 1), words(&["b a c"]));
    }

    #[test]
    fn of_too_many_versions_the_first_are_forgotten_and_that_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("columns.jsonl");
        let mut history = History::open(&path, Epoch("a".into())).unwrap();
        for number in 1..100_i16 {
            let seen = 10 * u64::from(number.unsigned_abs());
            history.note(vec![version(seen, 1, &[("a", number)])]).unwrap();
        }
        assert_eq!(since(&history, 10), None);
        assert_eq!(since(&history, 985), words(&["a", "a"]));
        history.lines = 2 * FEW_LINES;
        history.retain(&HashSet::from([1])).unwrap();
        assert_eq!(history.lines, MAX_VERSIONS);
        assert_eq!(
            History::open(&path, Epoch("a".into()))
                .unwrap()
                .versions()
                .count(),
            MAX_VERSIONS
        );
    }
}

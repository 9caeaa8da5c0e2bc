//! Support for the journal's tests: files that fail on demand, and histories to write and compare.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::super::files::{Disk, Entry as FileEntry, Files, LogFile};
use super::super::{InProgressTransactions, Journal, Options, Reader, Writer};
use crate::event::{
    Collation, Column, OldTuple, Op, Relation, ReplicaIdentity, TableName, Timestamp, Transaction, Tuple,
    Value, encode_values,
};
use crate::journal;
use crate::log::{Entry, Error, Identity, Log, LogReader, LogWriter};
use crate::lsn::{Lsn, Start};
use crate::types::{Kind, Type};

pub(super) fn identity() -> Identity {
    Identity {
        system_id: 7_412_345_678_901_234_567,
        database_oid: 16_384,
        database: "app".to_owned(),
        slot: "walcast".to_owned(),
        timeline: 1,
    }
}

/// Small sizes, so that few transactions make many segments, blocks and chunks.
pub(super) fn small() -> Options {
    Options {
        segment_bytes: 4096,
        record_bytes: 512,
        block_bytes: 1024,
        window_bytes: 2048,
        sync_interval: Duration::ZERO,
        ..Options::default()
    }
}

/// Segments of two small transactions each, and now and then a large one, that are not read back from memory.
pub(super) fn tiny() -> Options {
    Options {
        segment_bytes: 900,
        record_bytes: 150,
        block_bytes: 300,
        window_bytes: 0,
        ..small()
    }
}

pub(super) fn relation(oid: u32, columns: &[&str]) -> Arc<Relation> {
    let column = |name: &&str| Column {
        name: (*name).to_owned(),
        ty: Type {
            oid: 25,
            name: "text".to_owned(),
            kind: Kind::Text,
        },
        typmod: -1,
        identity: true,
        collation: Collation::C,
        ctype: Default::default(),
        attnum: Default::default(),
    };
    Arc::new(Relation {
        oid,
        table: TableName::new("public", format!("t{oid}")),
        replica_identity: ReplicaIdentity::Full,
        columns: columns.iter().map(column).collect(),
        key: vec![0],
        logging: Default::default(),
    })
}

/// A value that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owned {
    Null,
    Unchanged,
    Text(Vec<u8>),
}

/// A change that is kept: its kind (0 to 6), its relation's number, and its tuples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) kind: u8,
    pub(super) relation: u32,
    pub(super) old: Vec<Owned>,
    pub(super) new: Vec<Owned>,
}

impl Change {
    pub(super) fn insert(relation: u32, text: &str) -> Change {
        Change {
            kind: 0,
            relation,
            old: vec![],
            new: vec![Owned::Text(text.as_bytes().to_vec())],
        }
    }
}

/// A transaction that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tx {
    pub(super) end: u64,
    pub(super) changes: Vec<Change>,
}

impl Tx {
    pub(super) fn transaction(&self) -> Transaction {
        Transaction {
            xid: self.end as u32 ^ 7,
            commit: Lsn(self.end - 1),
            end: Lsn(self.end),
            committed_at: Timestamp(-(self.end as i64)),
        }
    }
}

/// `count` transactions of `rows` inserts each, ending at 100, 200, …
pub(super) fn txs(count: u64, rows: u64) -> Vec<Tx> {
    txs_from(1, count, rows)
}

/// As [`txs`], from the `first` on.
pub(super) fn txs_from(first: u64, count: u64, rows: u64) -> Vec<Tx> {
    let row = |tx: u64| move |i| Change::insert((i % 3) as u32, &format!("row {i} of transaction {tx}"));
    let tx = |tx: u64| Tx {
        end: tx * 100,
        changes: (0..rows).map(row(tx)).collect(),
    };
    (first..first + count).map(tx).collect()
}

fn encoded(values: &[Owned]) -> Vec<u8> {
    let mut out = Vec::new();
    let values = values.iter().map(|value| match value {
        Owned::Null => Value::Null,
        Owned::Unchanged => Value::Unchanged,
        Owned::Text(text) => Value::Text(text),
    });
    encode_values(values.collect::<Vec<_>>().into_iter(), &mut out);
    out
}

fn owned(tuple: Tuple<'_>) -> Vec<Owned> {
    let value = |value| match value {
        Value::Null => Owned::Null,
        Value::Unchanged => Owned::Unchanged,
        Value::Text(text) => Owned::Text(text.to_vec()),
    };
    tuple.values().map(value).collect()
}

pub(super) fn write_change(
    writer: &mut Writer,
    relations: &[Arc<Relation>],
    change: &Change,
) -> Result<(), Error> {
    let old = encoded(&change.old);
    let new = encoded(&change.new);
    let old = Tuple::parse(&old).unwrap().0;
    let new = Tuple::parse(&new).unwrap().0;
    let op = match change.kind {
        0 => Op::Insert { new },
        1 => Op::Update { old: None, new },
        2 => Op::Update {
            old: Some(OldTuple::Key(old)),
            new,
        },
        3 => Op::Update {
            old: Some(OldTuple::Full(old)),
            new,
        },
        4 => Op::Delete {
            old: OldTuple::Key(old),
        },
        5 => Op::Delete {
            old: OldTuple::Full(old),
        },
        _ => Op::Truncate,
    };
    writer.change(&relations[change.relation as usize % relations.len()], &op)
}

pub(super) fn relations() -> Vec<Arc<Relation>> {
    vec![
        relation(0, &["a"]),
        relation(1, &["a", "b"]),
        relation(2, &["a\"é"]),
    ]
}

pub(super) fn write_tx(writer: &mut Writer, tx: &Tx) -> Result<(), Error> {
    let relations = relations();
    for change in &tx.changes {
        write_change(writer, &relations, change)?;
    }
    writer.commit(&tx.transaction())
}

pub(super) fn write_all(writer: &mut Writer, txs: &[Tx]) {
    for tx in txs {
        write_tx(writer, tx).unwrap();
    }
    writer.flush().unwrap();
}

/// Everything from there to the head, put together again; positions are left out.
pub(super) fn read(journal: &Journal, start: Start) -> Result<Vec<Tx>, Error> {
    read_on(&mut journal.reader(start)?, 700)
}

/// Everything up to the head. A transaction must come whole, in parts that follow each other.
pub(super) fn read_on(reader: &mut Reader, max_bytes: usize) -> Result<Vec<Tx>, Error> {
    let mut txs = Vec::<Tx>::new();
    let mut open: Option<Tx> = None;
    while let Some(batch) = reader.next_blocking(max_bytes)? {
        for entry in batch.entries() {
            let Entry::Piece(piece) = entry.unwrap() else {
                assert!(open.is_none(), "a position inside a transaction");
                continue;
            };
            let end = piece.transaction.end.0;
            let tx = open.get_or_insert(Tx { end, changes: vec![] });
            assert_eq!(piece.transaction, tx.transaction());
            assert_eq!(piece.first_seq as usize, tx.changes.len());
            let count = piece.count as usize;
            for change in piece.changes {
                let change = change.unwrap();
                assert_eq!(change.seq as usize, tx.changes.len());
                tx.changes.push(kept(&change.op, change.relation));
            }
            assert_eq!(tx.changes.len(), piece.first_seq as usize + count);
            if piece.last {
                txs.extend(open.take());
            }
        }
    }
    assert!(open.is_none(), "half a transaction");
    Ok(txs)
}

fn kept(op: &Op<'_>, relation: &Arc<Relation>) -> Change {
    let relation = {
        let oid = relation.oid;
        assert!(relations().contains(relation));
        oid
    };
    let (kind, old, new) = match op {
        Op::Insert { new } => (0, None, Some(new)),
        Op::Update { old: None, new } => (1, None, Some(new)),
        Op::Update {
            old: Some(OldTuple::Key(old)),
            new,
        } => (2, Some(old), Some(new)),
        Op::Update {
            old: Some(OldTuple::Full(old)),
            new,
        } => (3, Some(old), Some(new)),
        Op::Delete {
            old: OldTuple::Key(old),
        } => (4, Some(old), None),
        Op::Delete {
            old: OldTuple::Full(old),
        } => (5, Some(old), None),
        Op::Truncate => (6, None, None),
    };
    let tuple = |tuple: Option<&Tuple<'_>>| tuple.map(|tuple| owned(*tuple)).unwrap_or_default();
    Change {
        kind,
        relation,
        old: tuple(old),
        new: tuple(new),
    }
}

/// A journal in a directory of its own, on files that can fail.
pub(super) struct Bed {
    pub(super) dir: TempDir,
    pub(super) faults: Arc<Faults>,
    pub(super) options: Options,
}

impl Bed {
    pub(super) fn new(options: Options) -> Bed {
        Bed {
            dir: tempfile::tempdir().unwrap(),
            faults: Arc::default(),
            options,
        }
    }

    pub(super) fn open(&self) -> Result<(Writer, Journal), journal::Error> {
        self.open_as(&identity())
    }

    pub(super) fn open_as(&self, identity: &Identity) -> Result<(Writer, Journal), journal::Error> {
        Journal::open_on(self.files(), self.dir.path(), self.options.clone(), identity)
    }

    /// Room for transactions that still run.
    pub(super) fn in_progress(&self) -> InProgressTransactions {
        InProgressTransactions::on(self.files(), self.dir.path().join("spool"))
    }

    fn files(&self) -> Arc<dyn Files> {
        Arc::new(Faulty {
            faults: self.faults.clone(),
        })
    }

    /// The segment files, oldest first.
    pub(super) fn segments(&self) -> Vec<std::path::PathBuf> {
        let dir = std::fs::read_dir(self.dir.path().join("segments")).unwrap();
        let mut paths: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
        paths.sort();
        paths
    }
}

/// The error.
pub(super) struct Faults {
    /// The number of bytes that can still be written.
    pub(super) space: AtomicU64,
    /// The most that one write takes.
    pub(super) longest_write: AtomicU64,
    pub(super) writes_fail: AtomicBool,
    pub(super) syncs_fail: AtomicBool,
    /// There is no file descriptor left.
    pub(super) descriptors_end: AtomicBool,
    /// Nothing that was written is in memory.
    pub(super) disk_is_slow: AtomicBool,
    /// The reads of what may not have been in memory.
    pub(super) slow_reads: AtomicU64,
    /// Told before the next of them goes on.
    pub(super) read_gate: Mutex<Option<mpsc::Receiver<()>>>,
    pub(super) syncs: AtomicU64,
    /// Held by a sync while it runs, to be held by a test that wants syncs to wait.
    pub(super) sync_gate: Mutex<()>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            space: AtomicU64::new(u64::MAX / 2),
            longest_write: AtomicU64::new(u64::MAX),
            writes_fail: AtomicBool::new(false),
            syncs_fail: AtomicBool::new(false),
            descriptors_end: AtomicBool::new(false),
            disk_is_slow: AtomicBool::new(false),
            slow_reads: AtomicU64::new(0),
            read_gate: Mutex::new(None),
            syncs: AtomicU64::new(0),
            sync_gate: Mutex::new(()),
        }
    }
}

impl Faults {
    pub(super) fn set_space(&self, bytes: u64) {
        self.space.store(bytes, Ordering::SeqCst);
    }
}

impl Faults {
    fn descriptor(&self) -> io::Result<()> {
        if self.descriptors_end.load(Ordering::SeqCst) {
            Err(io::Error::from_raw_os_error(
                rustix::io::Errno::MFILE.raw_os_error(),
            ))
        } else {
            Ok(())
        }
    }
}

struct Faulty {
    faults: Arc<Faults>,
}

impl Faulty {
    fn wrap(&self, file: Arc<dyn LogFile>) -> Arc<dyn LogFile> {
        Arc::new(FaultyFile {
            file,
            faults: self.faults.clone(),
        })
    }
}

impl Files for Faulty {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.faults.descriptor()?;
        Disk.create(path).map(|file| self.wrap(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        self.faults.descriptor()?;
        Disk.open(path).map(|file| self.wrap(file))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<FileEntry>> {
        Disk.list(dir)
    }
}

struct FaultyFile {
    file: Arc<dyn LogFile>,
    faults: Arc<Faults>,
}

impl LogFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.faults.slow_reads.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = self.faults.read_gate.lock().take() {
            gate.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        self.file.read_at(buffer, offset)
    }

    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.faults.disk_is_slow.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        if self.faults.writes_fail.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let space = self.faults.space.load(Ordering::SeqCst);
        if space == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let longest = self.faults.longest_write.load(Ordering::SeqCst).min(space) as usize;
        let written = self.file.write_at(&bytes[..bytes.len().min(longest)], offset)?;
        self.faults.space.fetch_sub(written as u64, Ordering::SeqCst);
        Ok(written)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        let _gate = self.faults.sync_gate.lock();
        if self.faults.syncs_fail.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        // What a sync really does only a power failure can show; without it thousands of journals open quickly.
        self.faults.syncs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

//! [`InProgressTransactions`]: transactions that are put aside while they run, until it is known whether they commit.
//!
//! One file each, without a name in any directory: whatever ends the process, nothing of them is left. They are not
//! part of the history; the server sends again what was not confirmed. Blocking.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::Error;
use super::files::{Disk, Files, LogFile, read_up_to, write_all_at};
use crate::log;
use crate::private_files;

/// The amount that gathers before it is written.
const BUFFER_BYTES: usize = 256 * 1024;
/// The amount that is read at once.
pub(super) const READ_BYTES: usize = 1024 * 1024;
/// The bytes of a message's length.
pub(super) const LENGTH: usize = 4;

/// The running transactions of one connection, by the number that the caller knows them by.
pub struct InProgressTransactions {
    files: Arc<dyn Files>,
    dir: PathBuf,
    by_xid: HashMap<u32, Spool>,
    /// The amount of all of them.
    bytes: u64,
}

/// One transaction's messages so far.
pub(super) struct Spool {
    pub(super) file: Arc<dyn LogFile>,
    path: PathBuf,
    /// The amount that is in the file.
    written: u64,
    gathered: Vec<u8>,
    /// The parts that can be rolled back by themselves, in the order of their starts and of their numbers: 16 bytes
    /// for each, where the server keeps some hundreds.
    parts: Vec<Start>,
    /// The place where the first message is of which it is not known which part it is of: since then nothing came of
    /// the transaction itself.
    unattributed: Option<u64>,
    /// True if a part was rolled back that such a message may be of.
    is_doubtful: bool,
}

/// The place where the first message of a part is.
#[derive(Clone, Copy)]
struct Start {
    part: u32,
    at: u64,
}

impl InProgressTransactions {
    /// Room for running transactions in a directory, which is made when it is needed.
    pub fn new(dir: PathBuf) -> InProgressTransactions {
        InProgressTransactions::on(Arc::new(Disk), dir)
    }

    pub(super) fn on(files: Arc<dyn Files>, dir: PathBuf) -> InProgressTransactions {
        InProgressTransactions {
            files,
            dir,
            by_xid: HashMap::new(),
            bytes: 0,
        }
    }

    /// Adds a message to the transaction `xid`, which begins with its first one. `part` names what can be rolled back
    /// by itself: a subtransaction, by its ID. It takes constant time, and 16 bytes of memory for each part.
    ///
    /// # Errors
    /// [`log::Error::Full`]: the message was taken all the same, call [`flush`](InProgressTransactions::flush) when
    /// there may be space. [`log::Error::TooLarge`] for a message beyond 4 GiB, another one if there can be no file:
    /// it was not taken.
    pub fn append(&mut self, xid: u32, part: u32, message: &[&[u8]]) -> Result<(), log::Error> {
        self.add(xid, Some(part), message)
    }

    /// Adds a message of which it is not known which part of the transaction it is of. If one is rolled back that it
    /// may be of, the transaction [is doubtful](InProgressTransactions::is_doubtful).
    ///
    /// # Errors
    /// Those of [`InProgressTransactions::append`].
    pub fn append_unattributed(&mut self, xid: u32, message: &[&[u8]]) -> Result<(), log::Error> {
        self.add(xid, None, message)
    }

    fn add(&mut self, xid: u32, part: Option<u32>, message: &[&[u8]]) -> Result<(), log::Error> {
        if !self.by_xid.contains_key(&xid) {
            let spool = self.create(xid)?;
            self.by_xid.insert(xid, spool);
        }
        let Some(spool) = self.by_xid.get_mut(&xid) else {
            return Ok(());
        };
        let length: usize = message.iter().map(|bytes| bytes.len()).sum();
        let length = u32::try_from(length).map_err(|_| log::Error::TooLarge("change"))?;
        // IDs are given in the order of first writes, a parent's before its children's. So one that is older than the
        // newest is known, or is that one's parent and is rolled back only with it, after it.
        let at = spool.end();
        match part {
            None => drop(spool.unattributed.get_or_insert(at)),
            // Nothing comes of the transaction itself while a part of it is open: what came before is its own by now,
            // or of parts that were kept.
            Some(part) if part == xid => spool.unattributed = None,
            Some(part) if spool.parts.last().is_none_or(|last| precedes(last.part, part)) => {
                spool.parts.push(Start { part, at });
            }
            Some(_) => {}
        }
        self.bytes += LENGTH as u64 + u64::from(length);
        spool.gathered.extend_from_slice(&length.to_le_bytes());
        message
            .iter()
            .for_each(|bytes| spool.gathered.extend_from_slice(bytes));
        if spool.gathered.len() >= BUFFER_BYTES {
            spool.flush()?;
        }
        Ok(())
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// [`log::Error::Full`]: nothing was lost, try again.
    pub fn flush(&mut self) -> Result<(), log::Error> {
        self.by_xid.values_mut().try_for_each(Spool::flush)
    }

    /// Forgets everything from the first message of `part` on, if there is one. It takes logarithmic time. What is not
    /// attributed to any part and came before that may be of this one: the transaction is doubtful from then on.
    ///
    /// # Errors
    /// The file cannot be shortened.
    pub fn roll_back(&mut self, xid: u32, part: u32) -> Result<(), log::Error> {
        let Some(spool) = self.by_xid.get_mut(&xid) else {
            return Ok(());
        };
        let place = spool.parts.partition_point(|known| precedes(known.part, part));
        let start = match spool.parts.get(place) {
            Some(known) if known.part == part => Some(known.at),
            _ => None,
        };
        match (spool.unattributed, start) {
            (Some(at), Some(start)) if at >= start => spool.unattributed = None,
            (Some(_), _) => spool.is_doubtful = true,
            (None, _) => {}
        }
        let Some(start) = start else { return Ok(()) };
        spool.parts.truncate(place);
        self.bytes -= spool.end() - start;
        if start >= spool.written {
            spool.gathered.truncate((start - spool.written) as usize);
            return Ok(());
        }
        spool.gathered.clear();
        spool.written = start;
        spool
            .file
            .truncate(start)
            .map_err(|e| Error::io("truncate", &spool.path)(e).into())
    }

    /// Forgets a transaction.
    pub fn forget(&mut self, xid: u32) {
        if let Some(spool) = self.by_xid.remove(&xid) {
            self.bytes -= spool.end();
        }
    }

    /// Hands over what came of a transaction, to be read from its start. There may be nothing.
    pub fn take(&mut self, xid: u32) -> Option<Spooled> {
        let spool = self.by_xid.remove(&xid)?;
        self.bytes -= spool.end();
        Some(Spooled {
            spool,
            read: 0,
            buffer: Vec::new(),
            at: 0,
        })
    }

    /// True if there is something in the transaction of which it is not known whether it was rolled back.
    pub fn is_doubtful(&self, xid: u32) -> bool {
        self.by_xid.get(&xid).is_some_and(|spool| spool.is_doubtful)
    }

    /// The number of transactions that there are.
    pub fn len(&self) -> usize {
        self.by_xid.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.by_xid.is_empty()
    }

    /// The amount of them, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn create(&self, xid: u32) -> Result<Spool, Error> {
        private_files::claim_directory(&self.dir).map_err(Error::io("use", &self.dir))?;
        let path = self.dir.join(format!("{xid}"));
        let file = self.files.create(&path).map_err(Error::io("create", &path))?;
        // The open file lives on without its name.
        self.files.remove(&path).map_err(Error::io("remove", &path))?;
        Ok(Spool {
            file,
            path,
            written: 0,
            gathered: Vec::new(),
            parts: Vec::new(),
            unattributed: None,
            is_doubtful: false,
        })
    }
}

/// True if the subtransaction `a` is older than `b`. Their IDs start again at the end of 32 bits.
fn precedes(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).cast_signed() > 0
}

impl Spool {
    /// The place where the next message comes.
    fn end(&self) -> u64 {
        self.written + self.gathered.len() as u64
    }

    fn flush(&mut self) -> Result<(), log::Error> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        write_all_at(&*self.file, &self.gathered, self.written).map_err(|e| Error::write(&self.path, e))?;
        self.written += self.gathered.len() as u64;
        // What one large row needed is not kept; between its blocks a transaction keeps nothing.
        self.gathered = Vec::new();
        Ok(())
    }
}

/// The messages of a transaction that has committed, in order. Its file goes when this is dropped.
pub struct Spooled {
    pub(super) spool: Spool,
    /// The amount of the file that has been read.
    read: u64,
    buffer: Vec<u8>,
    /// The place in the buffer where the next message starts.
    at: usize,
}

impl Spooled {
    /// The next message; `None` after the last.
    ///
    /// # Errors
    /// The file cannot be read, or is not as it was written.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, log::Error> {
        if !self.fill(LENGTH)? {
            return Ok(None);
        }
        let length = self
            .buffer
            .get(self.at..)
            .and_then(<[u8]>::first_chunk)
            .map_or(0, |length| u32::from_le_bytes(*length) as usize);
        if !self.fill(LENGTH + length)? {
            let cut = std::io::ErrorKind::UnexpectedEof.into();
            return Err(Error::io("read", &self.spool.path)(cut).into());
        }
        let start = self.at + LENGTH;
        self.at = start + length;
        Ok(self.buffer.get(start..self.at))
    }

    /// The messages that come next, in order, as far as they have been read of the file.
    pub fn ahead(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.buffer.get(self.at..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk()?;
            let (message, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some(message)
        })
    }

    /// Makes sure that there are so many bytes in the buffer, unless all of them have been read.
    fn fill(&mut self, wanted: usize) -> Result<bool, log::Error> {
        if self.buffer.len() - self.at >= wanted {
            return Ok(true);
        }
        self.spool.flush()?;
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.buffer.capacity() > 2 * READ_BYTES {
            self.buffer.shrink_to(READ_BYTES);
        }
        let left = self.spool.written - self.read;
        let more = (wanted - self.buffer.len()).max(READ_BYTES).min(left as usize);
        let bytes =
            read_up_to(&*self.spool.file, self.read, more).map_err(Error::io("read", &self.spool.path))?;
        self.read += bytes.len() as u64;
        if self.buffer.is_empty() {
            self.buffer = bytes;
        } else {
            self.buffer.extend_from_slice(&bytes);
        }
        Ok(self.buffer.len() >= wanted)
    }
}

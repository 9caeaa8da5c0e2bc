//! [`Files`] and [`LogFile`]: the few things the journal asks of a file system, so that tests can make them fail.
//!
//! They are called once per block, not per row: a virtual call is nothing beside the system call behind it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

#[cfg(target_os = "linux")]
use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};

use crate::exhaustion::is_exhaustion;
use crate::private_files;

/// A directory's files.
pub(super) trait Files: Send + Sync {
    /// Makes an empty file, in place of any of that name.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    /// Opens an existing file, for writing too.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
}

/// A file in a directory.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

/// A file that is written at its end and read anywhere.
pub(super) trait LogFile: Send + Sync {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// The same without waiting for the disk: [`io::ErrorKind::WouldBlock`] if the system does not have it in memory,
    /// or cannot tell.
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes the file's bytes, and its length, durable.
    fn sync(&self) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
}

/// Writes all of `bytes`; after an error an unknown part of them is in the file.
pub(super) fn write_all_at(file: &dyn LogFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = bytes.get(n..).unwrap_or_default();
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The part of a file that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// Only what the system has in memory: for the rest the answer is [`io::ErrorKind::WouldBlock`].
    Cached,
    /// Everything, however long the disk takes.
    All,
}

impl Reads {
    /// Reads `len` bytes, or fewer where the file ends.
    pub(super) fn up_to(self, file: &dyn LogFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; len];
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset + filled as u64;
            let read = match self {
                Reads::Cached => file.read_cached_at(rest, at),
                Reads::All => file.read_at(rest, at),
            };
            match read {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }
}

/// Reads `len` bytes, or fewer where the file ends, however long the disk takes.
pub(super) fn read_up_to(file: &dyn LogFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    Reads::All.up_to(file, offset, len)
}

/// The real file system.
pub(super) struct Disk;

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(private_files::create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn LogFile>> {
        Ok(Arc::new(private_files::open(path)?))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        open_patiently(dir)?.sync_all()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        fs::read_dir(dir)?
            .map(|entry| {
                let entry = entry?;
                let metadata = entry.metadata()?;
                Ok(Entry {
                    name: entry.file_name().to_string_lossy().into_owned(),
                    bytes: metadata.len(),
                    modified: metadata.modified()?,
                })
            })
            .collect()
    }
}

/// Opens a directory. What is done before it cannot be taken back, so it waits for a file descriptor if there is none.
fn open_patiently(dir: &Path) -> io::Result<File> {
    let until = Instant::now() + DESCRIPTOR_TIMEOUT;
    loop {
        match File::open(dir) {
            Err(error) if is_exhaustion(&error) && Instant::now() < until => {
                std::thread::sleep(DESCRIPTOR_PAUSE);
            }
            opened => return opened,
        }
    }
}

/// The time to wait for a file descriptor.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(30);
/// The time to wait before it is tried again.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(20);

impl LogFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    #[cfg(target_os = "linux")]
    fn read_cached_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match preadv2(
            self,
            &mut [IoSliceMut::new(buffer)],
            offset,
            ReadWriteFlags::NOWAIT,
        ) {
            // Not every file system can tell.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read?),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn read_cached_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

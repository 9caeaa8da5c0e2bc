//! [`Directory`]: a temporary directory that says whether its process still lives, so that a later one can remove what
//! a killed one left behind.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::process::{Pid, Signal, geteuid, kill_process};

/// The file that the directory's process holds locked for as long as it lives.
const LOCK: &str = "LOCK";
/// The name of that file until it is locked.
const UNNAMED: &str = "LOCK.new";
/// A directory without [`LOCK`] may be one that is just being made, unless it is older than this.
const MAKING: Duration = Duration::from_secs(60 * 60);

/// A temporary directory of this process. It is removed when it is dropped, and if the process is killed before, by the
/// next one that calls [`remove_dead`].
#[derive(Debug)]
pub struct Directory {
    // Dropped in this order: unlocked only once it is gone.
    directory: tempfile::TempDir,
    _lock: File,
}

impl Directory {
    /// Makes a directory in `parent` whose name begins with `prefix`, for this user only.
    ///
    /// # Errors
    /// It cannot be made there.
    pub fn new(parent: &Path, prefix: &str) -> io::Result<Directory> {
        let directory = tempfile::Builder::new().prefix(prefix).tempdir_in(parent)?;
        // It gets its name once it is locked: an unlocked one would be taken for a dead process'.
        let unnamed = directory.path().join(UNNAMED);
        let lock = File::create_new(&unnamed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        fs::rename(unnamed, directory.path().join(LOCK))?;
        Ok(Directory {
            directory,
            _lock: lock,
        })
    }

    /// The path.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes the directories in `parent` whose names begin with `prefix` and whose processes are gone, and returns their
/// paths. Leaves alone what belongs to another user, and what cannot be removed.
///
/// # Errors
/// `parent` cannot be read.
pub fn remove_dead(parent: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    let named = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(prefix);
    let entries = fs::read_dir(parent)?.flatten().filter(named);
    let removed = entries.filter_map(|entry| {
        let path = entry.path();
        let is_removed = is_dead(&path) && !has_server(&path) && fs::remove_dir_all(&path).is_ok();
        is_removed.then_some(path)
    });
    Ok(removed.collect())
}

/// Tells if the directory is ours to remove, and nobody holds its lock.
fn is_dead(directory: &Path) -> bool {
    let Ok(found) = fs::symlink_metadata(directory) else {
        return false;
    };
    let us = geteuid();
    if !found.is_dir() || !(us.is_root() || found.uid() == us.as_raw()) {
        return false;
    }
    // Somebody else may have put anything there: it is neither followed nor waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match open(directory.join(LOCK), flags, Mode::empty()) {
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(_) => {
            let age = found.modified().ok().and_then(|at| at.elapsed().ok());
            age.is_some_and(|age| age > MAKING)
        }
    }
}

/// Tells if a Postgres server still runs on `data` in the directory, and if so asks it to end: it has outlived its
/// process and that process' guard.
fn has_server(directory: &Path) -> bool {
    let data = directory.join("data");
    let Ok(file) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let pid: Option<i32> = file.lines().next().and_then(|line| line.trim().parse().ok());
    // That of a server without a postmaster, as initdb runs one, is negative.
    let Some(pid) = pid.and_then(i32::checked_abs).and_then(Pid::from_raw) else {
        return false;
    };
    // The number may be another process' by now.
    let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let runs = String::from_utf8_lossy(&command).contains(&*data.to_string_lossy());
    runs && kill_process(pid, Signal::QUIT).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let living = Directory::new(parent.path(), "walcast-x-").unwrap();
        // As after a kill: the file is there, and nobody holds it.
        let dead = parent.path().join("walcast-x-dead");
        fs::create_dir_all(dead.join("journal")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        // Killed during initdb. No process has a number as great.
        fs::create_dir(dead.join("data")).unwrap();
        fs::write(dead.join("data/postmaster.pid"), "-4194304\n").unwrap();
        // Being made just now, of another name, and no directory.
        fs::create_dir(parent.path().join("walcast-x-young")).unwrap();
        fs::create_dir(parent.path().join("other")).unwrap();
        fs::write(parent.path().join("other").join(LOCK), "").unwrap();
        fs::write(parent.path().join("walcast-x-file"), "").unwrap();
        std::os::unix::fs::symlink(parent.path().join("other"), parent.path().join("walcast-x-link"))
            .unwrap();

        assert_eq!(remove_dead(parent.path(), "walcast-x-").unwrap(), [dead]);
        assert!(living.path().exists());
        let left = fs::read_dir(parent.path()).unwrap().count();
        assert_eq!(left, 5);
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_is_never_taken_for_a_dead_process_while_it_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let made = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !made.load(Ordering::Relaxed) {
                    assert_eq!(remove_dead(parent.path(), "x").unwrap(), [] as [PathBuf; 0]);
                }
            });
            for _ in 0..2000 {
                let directory = Directory::new(parent.path(), "x");
                assert!(directory.is_ok_and(|directory| directory.path().join(LOCK).exists()));
            }
            made.store(true, Ordering::Relaxed);
        });
    }
}

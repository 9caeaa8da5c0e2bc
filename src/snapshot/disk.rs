//! [`Disk`]: the space that a disk has left, and how much of it the rows of snapshots leave to the journal.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// The most that is left to the journal, in bytes.
const MOST: u64 = 1024 * 1024 * 1024;
/// One in this many bytes of a smaller disk.
const PART: u64 = 20;

/// The bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) available: u64,
    pub(super) size: u64,
}

impl Disk {
    /// The disk that a directory is on, or will be on once it is made; `None` if it cannot be measured.
    pub(super) fn of(directory: &Path) -> Option<Disk> {
        // The last ancestor of a relative path is empty, which no system call takes for the current directory.
        let current = Path::new(".");
        let ancestors = directory.ancestors();
        let disk = ancestors
            .map(|path| if path == Path::new("") { current } else { path })
            .find_map(|path| statvfs(path).ok())?;
        Some(Disk {
            available: disk.f_bavail.saturating_mul(disk.f_frsize),
            size: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }

    /// The bytes that are left to the journal.
    fn reserve(self) -> u64 {
        MOST.min(self.size / PART)
    }

    /// True if no more rows may be kept on it.
    pub(super) fn is_low(self) -> bool {
        self.available < self.reserve()
    }

    /// The bytes that have to become free, if half of what is left to the journal is gone.
    pub(super) fn lacking(self) -> Option<u64> {
        let reserve = self.reserve();
        (self.available < reserve / 2).then(|| reserve - self.available)
    }
}

/// The error for rows that the disk has no room for.
pub(super) fn no_room() -> io::Error {
    io::Error::new(
        io::ErrorKind::StorageFull,
        "the disk of --data-dir is nearly full, and what is left of it is for the journal",
    )
}

/// The places of those that give way, the largest first, until so many bytes are free.
pub(super) fn giving_way(kept: &[u64], lacking: u64) -> Vec<usize> {
    let mut by_size: Vec<usize> = (0..kept.len()).collect();
    let of = |place: usize| kept.get(place).copied().unwrap_or_default();
    by_size.sort_by_key(|&place| std::cmp::Reverse(of(place)));
    let mut freed = 0;
    by_size.retain(|&place| {
        let is_needed = freed < lacking && of(place) > 0;
        freed += of(place);
        is_needed
    });
    by_size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_each_disk_is_left_to_the_journal() {
        let gib = 1 << 30;
        let disk = |available, size| Disk { available, size };
        for (disk, is_low, lacking) in [
            (disk(500 * gib, 1000 * gib), false, None),
            (disk(gib, 1000 * gib), false, None),
            (disk(gib - 1, 1000 * gib), true, None),
            (disk(gib / 2 - 1, 1000 * gib), true, Some(gib / 2 + 1)),
            (disk(2 * gib, 20 * gib), false, None),
            (disk(0, 10 * gib), true, Some(gib / 2)),
            (disk(0, 0), false, None),
        ] {
            assert_eq!((disk.is_low(), disk.lacking()), (is_low, lacking), "{disk:?}");
        }
        assert!(Disk::of(&std::env::temp_dir()).is_some_and(|disk| disk.size >= disk.available));
    }

    #[test]
    fn a_directory_that_is_not_made_yet_is_on_the_disk_of_the_one_that_will_have_it() {
        let size = |path: &str| Disk::of(Path::new(path)).map(|disk| disk.size);
        assert!(size("/").is_some_and(|size| size > 0));
        assert_eq!(size("/nowhere/at/all"), size("/"));
        assert_eq!(size("nowhere/at/all"), size("."));
    }

    #[test]
    fn those_that_keep_the_most_give_way_and_no_more_than_needed() {
        assert_eq!(giving_way(&[5, 0, 9, 3], 10), [2, 0]);
        assert_eq!(giving_way(&[5, 0, 9, 3], 9), [2]);
        assert_eq!(giving_way(&[5, 0, 9, 3], 100), [2, 0, 3]);
        assert_eq!(giving_way(&[], 1), [0; 0]);
    }
}

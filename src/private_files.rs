//! Directories and files that are ours alone, whatever the umask is: they hold every row that is published.
//!
//! A directory that others own or may write is not used: they could put links in the place of files, or read along.
//! Nothing is followed that somebody else may have put there. Secrets that operators keep in files of their own are
//! read here too. Blocking.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::process::geteuid;

/// Read, written and entered by us alone.
const DIRECTORY: u32 = 0o700;
/// Read and written by us alone.
const FILE: u32 = 0o600;
/// The right that others must not have: to write.
const WRITTEN_BY_OTHERS: u32 = 0o022;
/// The right to a secret that others must not have: to read it, or to replace it.
const READ_OR_WRITTEN_BY_OTHERS: u32 = 0o026;
/// The bits of a mode that say who may do what.
const MODE: u32 = 0o7777;
/// The largest file that an operator names, in bytes.
const MAX_GIVEN_BYTES: u64 = 1024 * 1024;

/// The reason why a directory or a file is not used.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("it is not a directory")]
    NoDirectory,
    #[error("it is not a plain file")]
    NoFile,
    #[error("it is a symbolic link, which is not followed: put the file itself there, or remove it")]
    Link,
    #[error("it belongs to the user {owner}, and this is the user {}: give it to that one (chown), or use a directory below it, \
             which is made", geteuid().as_raw())]
    OfOthers { owner: u32 },
    #[error(
        "others may write it (mode {mode:03o}): chmod 700, if you know what is in it, or use a directory below it, which is made"
    )]
    WrittenByOthers { mode: u32 },
    #[error(
        "every user of this machine may read it, or a group may write it (mode {mode:03o}): chmod 600, or 640 for a group that may read it"
    )]
    Exposed { mode: u32 },
    #[error("it is larger than {} KiB", MAX_GIVEN_BYTES / 1024)]
    TooLarge,
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        io::Error::new(ErrorKind::PermissionDenied, refusal)
    }
}

/// True if others than its owner can read or write a file with a key or a password. Root's own may be readable for a
/// group, as libpq has it (libpq, "Protecting the client's key"): a credential that systemd gives to a service belongs to
/// root, and the bits of its group are the mask of the list that lets the service alone read it.
pub fn is_exposed(metadata: &fs::Metadata) -> bool {
    exposes(metadata.mode(), metadata.uid())
}

fn exposes(mode: u32, owner: u32) -> bool {
    let forbidden = if owner == 0 { 0o037 } else { 0o077 };
    mode & forbidden != 0
}

/// True if there is a directory; a link to one is good if we put it there, or root did.
///
/// # Errors
/// It is something else, or others own it or may write it.
pub fn check_directory(path: &Path) -> io::Result<bool> {
    let here = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        here => here?,
    };
    let us = geteuid().as_raw();
    if here.is_symlink() && ![us, 0].contains(&here.uid()) {
        return Err(Refusal::OfOthers { owner: here.uid() }.into());
    }
    let metadata = fs::metadata(path)?;
    let mode = metadata.mode() & MODE;
    Err(match () {
        () if !metadata.is_dir() => Refusal::NoDirectory.into(),
        () if metadata.uid() != us => Refusal::OfOthers {
            owner: metadata.uid(),
        }
        .into(),
        () if mode & WRITTEN_BY_OTHERS != 0 => Refusal::WrittenByOthers { mode }.into(),
        () => return Ok(true),
    })
}

/// Makes a directory, with those above it, or makes one that is there ours alone.
///
/// # Errors
/// Those of [`check_directory`], and whatever goes wrong.
pub fn claim_directory(path: &Path) -> io::Result<()> {
    if !check_directory(path)? {
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        if let Some(above) = above.filter(|above| !above.exists()) {
            claim_directory(above)?;
        }
        match DirBuilder::new().mode(DIRECTORY).create(path) {
            // Somebody was faster: it is to be looked at.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && check_directory(path)? => {}
            made => made?,
        }
    }
    let mode = fs::metadata(path)?.mode() & MODE;
    if mode & 0o777 != DIRECTORY {
        if mode & 0o077 != 0 {
            tracing::info!(
                event = "directory_made_private", path = %path.display(), mode = format!("{mode:03o}"),
                "others could read the directory: it is ours alone now"
            );
        }
        fs::set_permissions(path, Permissions::from_mode(mode & !0o777 | DIRECTORY))?;
    }
    Ok(())
}

/// Makes an empty file, in place of whatever had the name.
///
/// # Errors
/// Whatever goes wrong.
pub fn create(path: &Path) -> io::Result<File> {
    let new = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(FILE);
        options.open(path)
    };
    let file = match new() {
        // Removed, not emptied: it may be a link, or have another name elsewhere.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            new()?
        }
        file => file?,
    };
    make_ours(file)
}

/// Makes a file without a name in a directory, which is gone when it is closed.
///
/// # Errors
/// Whatever goes wrong.
pub fn unnamed(directory: &Path) -> io::Result<File> {
    make_ours(tempfile::tempfile_in(directory)?)
}

/// Opens a file that is there, to read and to write.
///
/// # Errors
/// It is a link or no file, belongs to others, or whatever goes wrong.
pub fn open(path: &Path) -> io::Result<File> {
    open_by(OpenOptions::new().read(true).write(true), path)
}

/// Opens a file that is there, to write at its end.
///
/// # Errors
/// Those of [`open`].
pub fn append(path: &Path) -> io::Result<File> {
    open_by(OpenOptions::new().append(true), path)
}

/// Opens a file as it is, or makes an empty one.
///
/// # Errors
/// Those of [`open`].
pub fn open_or_create(path: &Path) -> io::Result<File> {
    open_by(OpenOptions::new().read(true).write(true).create(true), path)
}

/// Reads a file that an operator names. Symbolic links are followed: programs that renew certificates put some there.
///
/// # Errors
/// It is no plain file, is larger than 1 MiB, or whatever goes wrong.
pub fn read_given(path: &Path) -> io::Result<Vec<u8>> {
    read(path, 0)
}

/// Reads a secret from a file that an operator names. A group may read it, not everybody.
///
/// # Errors
/// Those of [`read_given`], and others have rights that expose it.
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    read(path, READ_OR_WRITTEN_BY_OTHERS)
}

fn read(path: &Path, forbidden: u32) -> io::Result<Vec<u8>> {
    // A pipe is not waited for.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.mode() & MODE;
    if !metadata.is_file() {
        return Err(Refusal::NoFile.into());
    }
    if mode & forbidden != 0 {
        return Err(Refusal::Exposed { mode }.into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_GIVEN_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 <= MAX_GIVEN_BYTES {
        Ok(bytes)
    } else {
        Err(Refusal::TooLarge.into())
    }
}

fn open_by(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // A pipe is not waited for.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = options.custom_flags(flags).mode(FILE).open(path);
    make_ours(
        opened.map_err(|error| match rustix::io::Errno::from_io_error(&error) {
            Some(rustix::io::Errno::LOOP) => Refusal::Link.into(),
            _ => error,
        })?,
    )
}

fn make_ours(file: File) -> io::Result<File> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Refusal::NoFile.into());
    }
    if metadata.uid() != geteuid().as_raw() {
        return Err(Refusal::OfOthers {
            owner: metadata.uid(),
        }
        .into());
    }
    if metadata.mode() & 0o777 != FILE {
        file.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_of_root_s_may_be_read_by_a_group() {
        for (mode, owner, exposed) in [
            (0o100_600, 1000, false),
            (0o100_640, 1000, true),
            (0o100_604, 1000, true),
            (0o100_600, 0, false),
            // A credential of systemd's.
            (0o100_440, 0, false),
            (0o100_444, 0, true),
            (0o100_460, 0, true),
        ] {
            assert_eq!(exposes(mode, owner), exposed, "{mode:o} {owner}");
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_made_is_ours_alone_and_what_was_made_otherwise_becomes_so() {
        let place = tempfile::tempdir().unwrap();
        let above = place.path().join("a");
        let dir = place.path().join("a/b");
        claim_directory(&dir).unwrap();
        assert_eq!((mode(&above), mode(&dir)), (0o700, 0o700));
        // As a version before left it.
        set_mode(&dir, 0o755);
        let file = dir.join("f");
        fs::write(&file, "rows").unwrap();
        set_mode(&file, 0o644);
        claim_directory(&dir).unwrap();
        open(&file).unwrap();
        assert_eq!((mode(&dir), mode(&file)), (0o700, 0o600));
        assert_eq!(fs::read(&file).unwrap(), b"rows");
        for made in [create(&dir.join("g")), open_or_create(&dir.join("h"))] {
            assert_eq!(made.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_not_used() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("d");
        fs::create_dir(&dir).unwrap();
        for bad in [0o777, 0o770, 0o702, 0o1777] {
            set_mode(&dir, bad);
            let refused = claim_directory(&dir).unwrap_err().to_string();
            assert!(refused.contains("others may write it"), "{bad:o}: {refused}");
            assert_eq!(mode(&dir), bad & 0o777, "nothing is changed");
        }
        let file = place.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(claim_directory(&file).is_err());
        // A link that we put there is as good as the directory.
        set_mode(&dir, 0o700);
        let link = place.path().join("link");
        symlink(&dir, &link).unwrap();
        claim_directory(&link).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_a_file_leads_nowhere() {
        let place = tempfile::tempdir().unwrap();
        let victim = place.path().join("victim");
        let link = place.path().join("link");
        fs::write(&victim, "precious").unwrap();
        set_mode(&victim, 0o644);
        let plant = || symlink(&victim, &link).unwrap();
        plant();
        for opened in [open(&link), append(&link), open_or_create(&link)] {
            assert!(opened.unwrap_err().to_string().contains("symbolic link"));
        }
        io::Write::write_all(&mut create(&link).unwrap(), b"ours").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        // Another name of the same file.
        fs::remove_file(&link).unwrap();
        fs::hard_link(&victim, &link).unwrap();
        io::Write::write_all(&mut create(&link).unwrap(), b"ours").unwrap();
        // One that leads to nothing is not followed to make something there.
        fs::remove_file(&link).unwrap();
        symlink(place.path().join("nothing"), &link).unwrap();
        assert!(open_or_create(&link).is_err());
        create(&link).unwrap();
        assert!(!place.path().join("nothing").exists());
        assert_eq!(
            (fs::read(&victim).unwrap(), mode(&victim)),
            (b"precious".to_vec(), 0o644)
        );
    }

    #[test]
    fn a_secret_that_everybody_may_read_is_refused_and_one_of_a_group_is_not() {
        let place = tempfile::tempdir().unwrap();
        let (file, link) = (place.path().join("key"), place.path().join("link"));
        fs::write(&file, "secret").unwrap();
        symlink(&file, &link).unwrap();
        for (given, is_secret) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o644, false),
            (0o660, false),
        ] {
            set_mode(&file, given);
            assert_eq!(read_given(&link).unwrap(), b"secret");
            match read_secret(&link) {
                Ok(secret) => assert!(is_secret && secret == b"secret", "{given:o}"),
                Err(error) => assert!(!is_secret && error.to_string().contains("chmod 600"), "{given:o}"),
            }
        }
        fs::write(&file, vec![0; 1024 * 1024 + 1]).unwrap();
        assert!(read_given(&file).unwrap_err().to_string().contains("larger"));
        assert!(
            read_given(place.path())
                .unwrap_err()
                .to_string()
                .contains("not a plain file")
        );
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_refused_at_once() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        assert!(open(&pipe).unwrap_err().to_string().contains("not a plain file"));
    }
}

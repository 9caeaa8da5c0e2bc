//! [`is_exhaustion`]: errors of a system that has run out of file descriptors. Pure.

use std::io;

use rustix::io::Errno;

/// True if the process (EMFILE) or the system (ENFILE) has run out of file descriptors, or of memory for sockets.
/// Nothing is broken: it passes once others have closed some, so callers wait and try again.
pub fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error
        .raw_os_error()
        .is_some_and(|raw| exhausted.iter().any(|errno| errno.raw_os_error() == raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_exhaustion() {
        let of = |errno: Errno| is_exhaustion(&io::Error::from_raw_os_error(errno.raw_os_error()));
        assert!(of(Errno::MFILE) && of(Errno::NFILE));
        assert!(!of(Errno::IO) && !of(Errno::NOSPC) && !of(Errno::NOENT));
        assert!(!is_exhaustion(&io::ErrorKind::OutOfMemory.into()));
    }
}

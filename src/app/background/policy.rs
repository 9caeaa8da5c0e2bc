//! The scheduling policy of a thread: a system call without a safe wrapper.
#![allow(unsafe_code, reason = "no crate that is used here has sched_setscheduler(2)")]

use std::io;

use rustix::thread::Pid;

/// A scheduling policy (`sched(7)`).
#[derive(Clone, Copy, Debug)]
pub(super) enum Policy {
    /// `SCHED_OTHER`: a share of the processors by the nice value.
    Other,
    /// `SCHED_IDLE`: hardly more than what others leave, and a thread of another policy that wakes up goes first at once.
    Idle,
}

/// Sets the policy of a thread of this process. Any user may do that.
///
/// # Errors
/// There is no such thread, or a filter of system calls forbids it.
pub(super) fn set(thread: Pid, policy: Policy) -> io::Result<()> {
    let policy = match policy {
        Policy::Other => libc::SCHED_OTHER,
        Policy::Idle => libc::SCHED_IDLE,
    };
    // Neither of them has priorities.
    let no_priority: libc::c_int = 0;
    // The system call itself, since that is what takes the number of a thread: musl refuses in the function's place.
    // SAFETY: the third argument points to a `struct sched_param`, which is one `int`, and is read before the call returns;
    // the others are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_setscheduler,
            thread.as_raw_nonzero().get(),
            policy,
            &raw const no_priority,
        )
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

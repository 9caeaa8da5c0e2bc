//! [`Yielding`]: the threads that yield to all others, unless these leave them too little.
//!
//! A lower nice value alone is not enough: where all processors are busy, a thread that wakes up waits for the time slice of
//! one that runs, however low its priority, and a change comes through eight threads until it is with its client. Under
//! `SCHED_IDLE` it goes first at once. But threads of that policy come to a standstill where others use all processors for
//! long, as a database on the same machine may, so they are lifted for a while if they had too little.
//!
//! Linux alone has priorities of threads; elsewhere nothing of this happens.

use std::time::Duration;

#[cfg(target_os = "linux")]
use parking_lot::Mutex;
#[cfg(target_os = "linux")]
use rustix::thread::Pid;
#[cfg(target_os = "linux")]
use std::collections::HashMap;

#[cfg(target_os = "linux")]
use super::policy::{self, Policy};

/// The priority of the threads while they are lifted, and where they cannot yield altogether: with as much to do they get a
/// third of what others get (`nice(2)`).
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// The threads that yield, each with the times of the last look.
#[derive(Debug, Default)]
pub(super) struct Yielding {
    #[cfg(target_os = "linux")]
    threads: Mutex<HashMap<Pid, Times>>,
}

/// The time for which a thread ran, and for which it was kept from it by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    ran: Duration,
    waited: Duration,
}

impl Times {
    /// The times of a thread as its `schedstat` has them: nanoseconds that it ran, nanoseconds that it waited, and turns.
    fn parse(text: &str) -> Option<Times> {
        let mut fields = text.split_ascii_whitespace();
        let mut next = || Some(Duration::from_nanos(fields.next()?.parse().ok()?));
        Some(Times {
            ran: next()?,
            waited: next()?,
        })
    }

    fn since(self, before: Times) -> Times {
        Times {
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }

    /// True if they wanted a processor for long and ran for less than a quarter of the time that they waited.
    fn is_starved(self) -> bool {
        self.waited >= Duration::from_millis(500) && self.ran * 4 < self.waited
    }
}

#[cfg(target_os = "linux")]
impl Yielding {
    /// Has the current thread yield.
    pub(super) fn join(&self) {
        let thread = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "the priority of a thread cannot be lowered");
        }
        // Without its times nobody would see that it is starved.
        let Some(times) = times(thread) else { return };
        match policy::set(thread, Policy::Idle) {
            Ok(()) => drop(self.threads.lock().insert(thread, times)),
            Err(error) => tracing::debug!(%error, "a thread cannot be run under SCHED_IDLE"),
        }
    }

    /// Forgets the current thread, which ends.
    pub(super) fn leave(&self) {
        self.threads.lock().remove(&rustix::thread::gettid());
    }

    /// True if the threads together ran too little since the last look.
    pub(super) fn are_starved(&self) -> bool {
        let mut threads = self.threads.lock();
        let together = threads.iter_mut().filter_map(|(thread, before)| {
            let times = times(*thread)?;
            Some(times.since(std::mem::replace(before, times)))
        });
        let together = together.fold(Times::default(), |sum, times| Times {
            ran: sum.ran + times.ran,
            // They wait for the same processors.
            waited: sum.waited.max(times.waited),
        });
        together.is_starved()
    }

    /// Has them not yield until they are lowered again.
    pub(super) fn lift(&self) {
        self.set(Policy::Other);
    }

    /// Has them yield again.
    pub(super) fn lower(&self) {
        self.set(Policy::Idle);
    }

    fn set(&self, policy: Policy) {
        // A thread leaves before it ends, under the same lock: its number is not another's yet.
        for thread in self.threads.lock().keys() {
            if let Err(error) = policy::set(*thread, policy) {
                tracing::debug!(%error, ?policy, "the scheduling policy of a thread cannot be changed");
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn times(thread: Pid) -> Option<Times> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"));
    Times::parse(&text.ok()?)
}

#[cfg(not(target_os = "linux"))]
impl Yielding {
    pub(super) fn join(&self) {}

    pub(super) fn leave(&self) {}

    pub(super) fn are_starved(&self) -> bool {
        false
    }

    pub(super) fn lift(&self) {}

    pub(super) fn lower(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_ran_for_less_than_a_quarter_of_what_they_waited_are_starved() {
        let times = |ran, waited| Times {
            ran: Duration::from_millis(ran),
            waited: Duration::from_millis(waited),
        };
        for (ran, waited, starved) in [
            (0, 0, false),
            (0, 499, false),
            (124, 500, true),
            (125, 500, false),
            (200, 900, true),
        ] {
            assert_eq!(times(ran, waited).is_starved(), starved, "{ran} of {waited} ms");
        }
        assert_eq!(Times::parse("1000000 2000000 7\n"), Some(times(1, 2)));
        assert_eq!(Times::parse("1000000"), None);
        assert_eq!(times(5, 7).since(times(3, 3)), times(2, 4));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_yields_is_lifted_and_lowered_and_is_forgotten() {
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            // Field 41 of proc_pid_stat(5); the second may have spaces in it.
            let after_name = stat.rsplit(')').next().unwrap();
            after_name.split_whitespace().nth(38).map(str::to_owned)
        };
        std::thread::spawn(move || {
            let threads = Yielding::default();
            let (other, idle) = (Some("0".to_owned()), Some("5".to_owned()));
            assert_eq!(policy(), other);
            threads.join();
            assert_eq!(policy(), idle);
            assert!(!threads.are_starved());
            threads.lift();
            assert_eq!(policy(), other);
            threads.lower();
            assert_eq!(policy(), idle);
            threads.leave();
            threads.lift();
            assert_eq!(policy(), idle, "it has left");
        })
        .join()
        .unwrap();
    }
}

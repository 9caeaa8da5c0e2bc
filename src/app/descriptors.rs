//! File descriptors: raises their limit, and divides them between clients and the parts that serve them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept from clients, besides two for each snapshot that is read: for the journal, the router and
/// ingest, for questions to the database, for the admin listener, and for connections that are being refused.
const RESERVED: usize = 192;
/// One in this many of the rest is kept for the journal files that replays read.
const READING: usize = 10;

/// Raises the limit on open files (RLIMIT_NOFILE) as far as this process may, and returns it; `None` without one.
///
/// Shells and systemd start programs with 1,024, for the sake of `select(2)`, which nothing here uses.
pub(super) fn raise() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return count(limit);
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(event = "descriptor_limit_not_raised", %error, "the limit on open files cannot be raised");
    }
    count(getrlimit(Resource::Nofile))
}

fn count(limit: Rlimit) -> Option<usize> {
    limit
        .current
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

/// The number of connections, of those `wanted`, that are possible with `limit` open files besides `snapshots` that are
/// read at the same time.
pub(super) fn connections(wanted: usize, limit: Option<usize>, sources: usize, snapshots: usize) -> usize {
    let Some(limit) = limit else { return wanted };
    let reserved = RESERVED
        .saturating_mul(sources)
        .saturating_add(snapshots.saturating_mul(2));
    let free = limit.saturating_sub(reserved);
    // With a very low limit it serves a few, and waits for descriptors now and then.
    wanted.min((free - free / READING).max(limit / 4)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serves_the_clients_keeps_its_descriptors() {
        assert_eq!(connections(10_000, None, 1, 4), 10_000);
        assert_eq!(connections(10_000, Some(1_048_576), 1, 4), 10_000);
        assert_eq!(connections(10_000, Some(1024), 1, 4), 742);
        assert_eq!(connections(100, Some(1024), 1, 4), 100);
        assert_eq!(connections(10_000, Some(256), 1, 4), 64);
        assert_eq!(connections(10_000, Some(256), 1, usize::MAX), 64);
    }
}

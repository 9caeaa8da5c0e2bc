//! [`Status`]: the state of a running server in short, for `walcast status`.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::admin::SourceState;
use crate::health::Readiness;
use crate::lsn::Lsn;
use crate::telemetry::Metrics;

/// The state of a server. Fields may be added; none changes its meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The time that it has run, in seconds.
    pub uptime_seconds: u64,
    /// True if it can do its work. With several sources, one that can is enough.
    pub ready: bool,
    /// The time at which the certificate expires, in seconds since 1970; `None` without TLS.
    pub tls_certificate_expires: Option<i64>,
    /// The only source; absent if there are several.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Each of several sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<NamedSource>,
}

/// The state of one of several sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NamedSource {
    /// Its name.
    pub name: String,
    /// True if clients are served from it.
    pub ready: bool,
    /// Everything else.
    #[serde(flatten)]
    pub source: Source,
}

/// The state of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// The reason why it is not ready, or what else there is to know.
    pub remark: Option<String>,
    /// True if another walcast reads the slot.
    pub standby: bool,
    /// True if the replication stream is connected.
    pub replication_up: bool,
    /// The positions that it has reached.
    pub positions: Positions,
    /// The replication slot; `None` if Postgres has not been asked about it yet.
    pub slot: Option<Slot>,
    /// The size of the journal on disk, in bytes.
    pub journal_bytes: u64,
    /// The clients.
    pub clients: Clients,
    /// Snapshots.
    pub snapshots: Snapshots,
}

/// Positions in the server's log, as Postgres prints them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Positions {
    /// The newest that was received.
    pub received: String,
    /// The end of the last transaction in the journal.
    pub journaled: String,
    /// The one that was confirmed to Postgres.
    pub confirmed: String,
}

/// The replication slot, as Postgres reported it last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// WAL between its confirmed position and the end of WAL, in bytes.
    pub lag_bytes: u64,
    /// WAL that is retained for it, in bytes.
    pub retained_wal_bytes: u64,
    /// WAL that can be written before it may be invalidated, in bytes; `None` without a limit.
    pub safe_wal_bytes: Option<u64>,
    /// True if it is invalidated or missing.
    pub lost: bool,
}

/// Numbers of clients and what they asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clients {
    /// Open connections.
    pub connections: i64,
    /// Active subscriptions.
    pub subscriptions: i64,
    /// Distinct queries among them.
    pub queries: i64,
    /// Connections and subscriptions that are replaying the journal.
    pub catching_up: i64,
    /// Connections whose clients read nothing.
    pub stalled: i64,
}

/// Numbers of snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshots {
    /// Those being read.
    pub reading: i64,
    /// Those waiting for a connection.
    pub waiting: i64,
}

impl Slot {
    fn now(metrics: &Metrics) -> Option<Slot> {
        let slot = Slot {
            lag_bytes: metrics.slot_lag_bytes.get(),
            retained_wal_bytes: metrics.slot_retained_bytes.get(),
            safe_wal_bytes: u64::try_from(metrics.slot_safe_bytes.get()).ok(),
            lost: metrics.slot_lost.get() > 0,
        };
        // A slot that was read has WAL, or no limit, or is lost.
        let is_read = slot.lost || slot.retained_wal_bytes > 0 || slot.safe_wal_bytes != Some(0);
        is_read.then_some(slot)
    }
}

impl Status {
    /// The state now of a server that was started at `started`.
    pub(super) fn now(metrics: &Metrics, sources: &[SourceState], started: Instant) -> Status {
        let expires = metrics.tls_certificate_end.get();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: started.elapsed().as_secs(),
            ready: sources.iter().any(|source| source.readiness.get().is_ok()),
            tls_certificate_expires: (expires > 0).then_some(expires),
            source: None,
            sources: Vec::new(),
        };
        for state in sources {
            let source = Source::now(&state.metrics, &state.readiness);
            match &state.name {
                None => status.source = Some(source),
                Some(name) => status.sources.push(NamedSource {
                    name: name.to_string(),
                    ready: state.readiness.get().is_ok(),
                    source,
                }),
            }
        }
        status
    }
}

impl Source {
    fn now(metrics: &Metrics, readiness: &Readiness) -> Source {
        Source {
            remark: readiness.get().err().or_else(|| readiness.remarks()),
            standby: metrics.standby.get() > 0,
            replication_up: metrics.replication_up.get() > 0,
            positions: Positions {
                received: Lsn(metrics.received_lsn.get()).to_string(),
                journaled: Lsn(metrics.journaled_lsn.get()).to_string(),
                confirmed: Lsn(metrics.confirmed_lsn.get()).to_string(),
            },
            slot: Slot::now(metrics),
            journal_bytes: metrics.journal_bytes.get(),
            clients: Clients {
                connections: metrics.connections.get(),
                subscriptions: metrics.subscriptions.get(),
                queries: metrics.queries.get(),
                catching_up: metrics.catching_up.get(),
                stalled: metrics.stalled.get(),
            },
            snapshots: Snapshots {
                reading: metrics.snapshots_reading.get(),
                waiting: metrics.snapshots_waiting.get(),
            },
        }
    }
}

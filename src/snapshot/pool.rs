//! The connections that snapshots are read on.

use std::time::Duration;

use deadpool::managed::{self, Manager, Metrics, RecycleError, RecycleResult};

use super::Options;
use crate::postgres::{ConnInfo, Connection, Error, Purpose};
use crate::telemetry::in_this_span;

/// The time after which an idle connection is closed.
pub(super) const IDLE: Duration = Duration::from_secs(60);
/// The most bytes of a message besides its row.
const MESSAGE_OVERHEAD: usize = 64 * 1024;
/// The least limit of a message's bytes, however small rows have to be, since answers about the table come on the same
/// connection.
const ANSWER: usize = 1024 * 1024;

pub(super) type Pool = managed::Pool<Connections>;

/// Opens connections.
#[derive(Debug)]
pub(super) struct Connections {
    conninfo: ConnInfo,
    max_row_bytes: usize,
}

/// A pool of connections. A request that finds all of them in use waits for its turn.
pub(super) fn new(options: &Options) -> Pool {
    let manager = Connections {
        conninfo: options.conninfo.clone(),
        max_row_bytes: options.max_row_bytes,
    };
    let built = Pool::builder(manager).max_size(options.max_connections).build();
    built.expect("without timeouts a pool needs no runtime")
}

impl Manager for Connections {
    type Type = Connection;
    type Error = Error;

    async fn create(&self) -> Result<Connection, Error> {
        let conninfo = self.conninfo.clone();
        let max_row_bytes = self.max_row_bytes;
        let connecting = tokio::task::spawn_blocking(in_this_span(move || {
            let mut connection = Connection::connect(&conninfo, Purpose::Snapshot)?;
            connection.allow_rows_of(max_row_bytes.max(ANSWER).saturating_add(MESSAGE_OVERHEAD));
            Ok(connection)
        }));
        match connecting.await {
            Ok(connected) => connected,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is shutting down.
            Err(_) => Err(Error::Closed),
        }
    }

    async fn recycle(&self, connection: &mut Connection, metrics: &Metrics) -> RecycleResult<Error> {
        if metrics.last_used() >= IDLE || !connection.is_idle() {
            return Err(RecycleError::message(
                "it was idle for long, or the server has closed it",
            ));
        }
        Ok(())
    }
}

//! [`End`]: how a session runs, and why it ends.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Session;
use super::wire::Lost;
use crate::delivery;
use crate::log::Log;
use crate::protocol::{Caller, CloseCode};

/// The reason why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client has gone without a word.
    Lost,
    /// The client closed, by this code.
    Left(u16),
    /// We close.
    Close(CloseCode),
}

impl From<Lost> for End {
    fn from(lost: Lost) -> End {
        match lost {
            Lost::Gone => End::Lost,
            Lost::Stalled => End::Close(CloseCode::TooSlow),
        }
    }
}

impl From<delivery::Stopped> for End {
    fn from(_: delivery::Stopped) -> End {
        End::Close(CloseCode::GoingAway {
            spread: Duration::ZERO,
        })
    }
}

/// The time that a client gets to take our close frame and answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A client's close code as a metric's label: a closed set.
fn client_code(code: u16) -> &'static str {
    match code {
        1000 => "1000",
        1001 => "1001",
        // Also where the client's own code was none that there is, and was answered by this one.
        1002 => "1002",
        1005 => "1005",
        _ => "other",
    }
}

impl<H: Log> Session<H> {
    /// Serves the client until it goes, breaks the rules, or `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let metrics = Arc::clone(&self.shared.metrics);
        metrics.connections.inc();
        metrics.connections_opened.inc();
        let Caller { connection, peer, .. } = self.caller;
        tracing::debug!(connection, %peer, "a client connected");
        let end = match self.serve(&stop).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        self.leave();
        match end {
            End::Lost => {
                tracing::debug!(connection, "a client is gone");
                metrics.closed("lost");
            }
            End::Left(code) => {
                tracing::debug!(connection, code, "a client closed its connection");
                metrics.closed(client_code(code));
                let _late = tokio::time::timeout(CLOSE_TIMEOUT, self.wire.socket.get_mut().drain()).await;
            }
            End::Close(code) => {
                let number = code.code();
                let reason = code.reason();
                match code {
                    // Of all at once, which is logged once.
                    CloseCode::GoingAway { .. } => {
                        tracing::debug!(connection, code = number, "closing a connection")
                    }
                    _ => tracing::info!(connection, %peer, code = number, %reason, "closing a connection"),
                }
                metrics.closed(&number.to_string());
                self.close(code).await;
            }
        }
        metrics.connections.dec();
    }

    /// Closes, and gives the client a moment to take the close frame and to answer.
    async fn close(&mut self, code: CloseCode) {
        let closing = async {
            self.wire.close(code).await;
            self.wire.socket.get_mut().drain().await
        };
        // A client that takes no close frame loses its connection without one.
        let _late = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
    }

    fn leave(&mut self) {
        self.registration = None;
        let metrics = &self.shared.metrics;
        metrics.subscriptions.sub(self.counted.live as i64);
        metrics.catching_up.sub(self.counted.replays as i64);
    }
}

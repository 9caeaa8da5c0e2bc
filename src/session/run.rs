//! A client's connection from its handshake to its close.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::OptionFuture;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use super::end::End;
use super::wire::Wire;
use super::{Services, Session, Socket, entry};
use crate::log::Log;
use crate::protocol::{Caller, CloseCode, ErrorCode, ErrorMessage};

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

/// Serves a client whose handshake is done until it goes, breaks the rules, or `stop`. It connected at `began`; if it
/// is not known yet who it is, its token is waited for.
pub async fn serve<H: Log>(
    socket: WebSocketStream<Socket>,
    shared: Arc<Services<H>>,
    caller: Caller,
    began: Instant,
    stop: CancellationToken,
) {
    let metrics = Arc::clone(&shared.metrics);
    metrics.connections.inc();
    metrics.connections_opened.inc();
    let (connection, peer) = (caller.connection, caller.peer);
    tracing::debug!(connection, %peer, "a client connected");
    let wire = Wire::new(socket, Arc::clone(&metrics), shared.options.stall_timeout);
    let (mut wire, end) = served(wire, shared, caller, began, &stop).await;
    match end {
        End::Lost => {
            tracing::debug!(connection, "a client is gone");
            metrics.closed("lost");
        }
        End::Left(code) => {
            tracing::debug!(connection, code, "a client closed its connection");
            metrics.closed(client_code(code));
            let _late = tokio::time::timeout(CLOSE_TIMEOUT, wire.socket.get_mut().drain()).await;
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
            close(&mut wire, None, code).await;
        }
        End::Expired => {
            tracing::debug!(connection, "a token has expired");
            metrics.closed(&CloseCode::TokenExpired.code().to_string());
            let message = "the token has expired: reconnect with a new one and your positions";
            let error = ErrorMessage::new(ErrorCode::TokenExpired, message);
            close(&mut wire, Some(error), CloseCode::TokenExpired).await;
        }
    }
    metrics.connections.dec();
}

async fn served<H: Log>(
    mut wire: Wire,
    shared: Arc<Services<H>>,
    mut caller: Caller,
    began: Instant,
    stop: &CancellationToken,
) -> (Wire, End) {
    if let Some(auth) = &shared.auth
        && caller.subject.is_none()
    {
        let spread = shared.options.spread;
        match entry::token(&mut wire, auth, began + auth.timeout(), stop, spread).await {
            Ok(subject) => caller.subject = Some(subject),
            Err(end) => return (wire, end),
        }
    }
    if let Some(subject) = &caller.subject {
        let connection = caller.connection;
        tracing::debug!(connection, subject = %subject.fingerprint(), "a client is known");
    }
    // In a box: what waits for a token is to be small.
    let session = Box::pin(Session::new(wire, shared, caller).run(stop));
    session.await
}

/// Closes, and gives the client a moment to take the close frame, an error before it, and to answer.
async fn close(wire: &mut Wire, error: Option<ErrorMessage>, code: CloseCode) {
    let closing = async {
        if let Some(error) = error.filter(|_| !wire.is_amid()) {
            let _lost = wire.error(&error).await;
        }
        wire.close(code).await;
        wire.socket.get_mut().drain().await
    };
    // A client that takes no close frame loses its connection without one.
    let _late = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}

impl<H: Log> Session<H> {
    /// Serves the client. What waits for it when its token's time is over is dropped.
    async fn run(mut self, stop: &CancellationToken) -> (Wire, End) {
        let expired = self
            .identity
            .as_ref()
            .map(|identity| Box::pin(identity.expired()));
        let end = tokio::select! {
            biased;
            Some(()) = OptionFuture::from(expired) => End::Expired,
            served = self.serve(stop) => match served {
                Ok(never) => match never {},
                Err(end) => end,
            },
        };
        self.leave();
        (self.wire, end)
    }

    fn leave(&mut self) {
        self.registration = None;
        let metrics = &self.shared.metrics;
        metrics.subscriptions.sub(self.counted.live as i64);
        metrics.catching_up.sub(self.counted.replays as i64);
    }
}

//! A client's connection from its handshake to its close.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::OptionFuture;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;

use super::end::End;
use super::entry::{Doorkeeper, OperatorCheck};
use super::seen::Seen;
use super::send_rate::SendRate;
use super::wire::Wire;
use super::{Effort, Services, Session, Socket, entry};
use crate::limit::Limit;
use crate::log::Log;
use crate::protocol::{Caller, CloseCode, Detail, ErrorCode, ErrorMessage};
use crate::telemetry::{Failures, traces};

/// The time that a client has to take our close frame and to answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections that were closed lately, by code and address, as far as the log was told.
static CLOSED: Mutex<Failures> = Mutex::new(Failures::new());

/// A client's close code as a metric's label: a closed set.
fn client_code(code: u16) -> &'static str {
    match code {
        1000 => "1000",
        1001 => "1001",
        // Also for a client that closed by an invalid code, which the websocket library answers by this one.
        1002 => "1002",
        1005 => "1005",
        _ => "other",
    }
}

/// The limit that a close code reports, unless it was counted elsewhere.
fn limit_of(code: CloseCode) -> Option<Limit> {
    match code {
        CloseCode::TooBig => Some(Limit::MessageBytes),
        CloseCode::Fragmented => Some(Limit::MessageFragments),
        CloseCode::TooSlow => Some(Limit::StallTimeout),
        CloseCode::Unfinished => Some(Limit::MessageTimeout),
        CloseCode::NoPong => Some(Limit::PongTimeout),
        CloseCode::BadRequests => Some(Limit::BadRequests),
        CloseCode::OverLimit => Some(Limit::SubjectConnections),
        _ => None,
    }
}

/// The place of a client that has not sent its token yet.
pub struct Waiting {
    /// The time at which it connected.
    pub since: Instant,
    /// Its place among the clients without a token.
    pub place: OwnedSemaphorePermit,
    /// Knows the operators' token, if the client has to be an operator.
    pub operators: Option<OperatorCheck>,
}

/// A client whose handshake is done.
pub struct Client {
    /// The facts that its handshake and its token told.
    pub caller: Caller,
    /// The web page that it is of, as its browser named it.
    pub origin: Option<Box<str>>,
    /// True if it is an operator.
    pub is_operator: bool,
    /// Its place while it still has to send its token.
    pub waiting: Option<Waiting>,
    /// The session's part of a trace.
    pub span: traces::Span,
}

/// Serves a client whose handshake is done until it goes, breaks the rules, or `stop`. One that is waiting has to send
/// its token first. `effort` is told whether it asks for much.
pub async fn serve<H: Log>(
    mut socket: Box<WebSocketStream<Socket>>,
    services: Arc<Services<H>>,
    client: Client,
    effort: Effort,
    stop: CancellationToken,
) {
    let Client {
        caller,
        origin,
        is_operator,
        waiting,
        span,
    } = client;
    let metrics = Arc::clone(&services.metrics);
    metrics.connections.inc();
    metrics.connections_opened.inc();
    let Caller {
        connection,
        peer,
        client,
        ..
    } = caller;
    tracing::debug!(connection, %peer, %client, "a client connected");
    if let Some(per_second) = services.options.send_rate {
        let rate = SendRate::new(per_second, Arc::clone(&metrics));
        socket.get_mut().limit_rate(rate);
    }
    let stall_timeout = services.options.stall_timeout;
    let seen = Seen::new(connection, client, origin, is_operator, caller.subject.clone());
    let entered = services.sessions.enter(seen);
    let seen = Arc::clone(&entered.seen);
    let wire = Wire::new(socket, Arc::clone(&metrics), seen, stall_timeout, stop.clone());
    let (mut wire, end) = served(wire, services, caller, waiting, effort, span, &stop).await;
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
                // All clients get this at once, and it is logged once elsewhere.
                CloseCode::GoingAway { .. } => {
                    tracing::debug!(connection, code = number, "closing a connection")
                }
                _ => {
                    // A client must not fill the log, however often it comes back.
                    let words = format!("{number} {client}");
                    match CLOSED.lock().note(&words, 0, Instant::now()).now {
                        Some(again) => {
                            tracing::info!(
                                event = "client_closed",
                                connection, %peer, %client, code = number, %reason, again,
                                "closing a connection"
                            )
                        }
                        None => {
                            tracing::debug!(connection, %peer, %client, code = number, %reason, "closing a connection")
                        }
                    }
                }
            }
            metrics.closed(&number.to_string());
            if let Some(limit) = limit_of(code) {
                metrics.limit(limit);
            }
            Box::pin(close(&mut wire, None, code)).await;
        }
        End::Expired => {
            tracing::debug!(connection, "a token has expired");
            metrics.closed(&CloseCode::TokenExpired.code().to_string());
            let message = "the token has expired: reconnect with a new one and your positions";
            let error = ErrorMessage::new(ErrorCode::TokenExpired, message);
            Box::pin(close(&mut wire, Some(error), CloseCode::TokenExpired)).await;
        }
        End::GivesWay => {
            let limit = Limit::TotalPredicateBytes;
            let words = format!("predicates {client}");
            if let Some(again) = CLOSED.lock().note(&words, 0, Instant::now()).now {
                tracing::info!(
                    event = "client_closed", connection, %peer, %client, again,
                    "closing a connection: its subject's predicates take the most memory"
                );
            }
            metrics.closed(&CloseCode::OverLimit.code().to_string());
            let message = "all predicates take as much memory as they may, and those of this connection's subject the most: \
                           subscribe to less (--max-total-predicate-bytes)";
            let error =
                ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit(limit.as_str()));
            Box::pin(close(&mut wire, Some(error), CloseCode::OverLimit)).await;
        }
    }
    metrics.connections.dec();
    drop(entered);
}

async fn served<H: Log>(
    mut wire: Wire,
    services: Arc<Services<H>>,
    mut caller: Caller,
    waiting: Option<Waiting>,
    effort: Effort,
    span: traces::Span,
    stop: &CancellationToken,
) -> (Wire, End) {
    if let Some(waiting) = waiting {
        let operators = waiting.operators.as_ref().map(Doorkeeper::Operators);
        let clients = services.auth.as_deref().map(Doorkeeper::Clients);
        if let Some(doorkeeper) = operators.or(clients) {
            let spread = services.options.spread;
            let deadline = waiting.since + doorkeeper.timeout();
            let awaiting = span.part("session token");
            match Box::pin(entry::token(&mut wire, doorkeeper, deadline, stop, spread)).await {
                Ok(subject) => {
                    wire.seen.is_of(subject.clone());
                    caller.subject = subject;
                }
                Err(end) => {
                    span.failed("no_token");
                    return (wire, end);
                }
            }
            drop(awaiting);
        }
        drop(waiting.place);
    }
    if let Some(subject) = &caller.subject {
        let connection = caller.connection;
        tracing::debug!(connection, subject = %subject.fingerprint(), "a client is known");
    }
    let subject = caller.subject.as_deref();
    let Ok(member) = services
        .shared
        .subjects
        .enter(subject, caller.client, caller.connection)
    else {
        return (wire, End::Close(CloseCode::OverLimit));
    };
    let current = Box::pin(services.router.current_epoch(&services.history));
    let epoch = tokio::select! {
        epoch = current => epoch,
        () = stop.cancelled() => {
            let spread = services.options.spread;
            return (wire, End::Close(CloseCode::GoingAway { spread }));
        }
    };
    // Boxed, so that the future of a client that waits for its token stays small.
    let mut session = Box::new(Session::new(wire, services, caller, member, epoch, effort, span));
    let end = Box::pin(session.run(stop)).await;
    session.leave();
    session.traced.ends(&end);
    (session.wire, end)
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
    /// Serves the client until its token expires; what has not been sent by then is dropped.
    async fn run(&mut self, stop: &CancellationToken) -> End {
        let expired = self
            .identity
            .as_ref()
            .map(|identity| Box::pin(identity.expired()));
        tokio::select! {
            biased;
            Some(()) = OptionFuture::from(expired) => End::Expired,
            served = self.serve(stop) => match served {
                Ok(never) => match never {},
                Err(end) => end,
            },
        }
    }

    fn leave(&mut self) {
        self.registration = None;
        let metrics = &self.services.metrics;
        metrics.subscriptions.sub(self.counted.live as i64);
        metrics.catching_up.sub(self.counted.replays as i64);
    }
}

//! [`take_frames`]: the loop over one connection's frames, whose messages go to a handler.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::drain::Drain;
use super::incoming::Passed;
use super::progress::Progress;
use super::verifier::PositionVerifier;
use super::{Error, pause};
use crate::event::Timestamp;
use crate::lsn::Lsn;
use crate::postgres::{Ahead, ConnInfo, Connection, Filled, Frame, Purpose, Receiver, ServerError};
use crate::telemetry::Metrics;

/// The time that one read waits for data. A stop is noticed within it.
const FILL_TIMEOUT: Duration = Duration::from_millis(50);
/// The pause before the handler is asked again for room.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// The handler of one connection's messages, which reads them into the journal, or keeps them as they came.
pub(super) trait FrameHandler {
    /// True if there is room for more; asked before each read. While there is none, the server waits, and is sent
    /// status updates.
    ///
    /// # Errors
    /// The stream is to end.
    fn has_room(&mut self) -> Result<bool, Error>;

    /// Notes that bytes were received.
    fn received(&mut self) {}

    /// Takes a message of the output plugin.
    ///
    /// # Errors
    /// It cannot be taken.
    fn take(&mut self, data: Data<'_>, stop: &CancellationToken) -> Result<(), Error>;

    /// True while a transaction, or a block of one, is incomplete, so that the server's position says nothing about
    /// complete ones.
    fn is_open(&self) -> bool;

    /// The newest position that was passed without a transaction.
    fn passed(&mut self) -> &mut Passed;

    /// Notes that the stream has reached a position without a transaction, unless one is open.
    ///
    /// # Errors
    /// It cannot be noted.
    fn note_position(&mut self, lsn: Lsn, stop: &CancellationToken) -> Result<(), Error>;

    /// Makes what was taken visible, and returns the position up to which everything is.
    ///
    /// # Errors
    /// It cannot be written.
    fn flush(&mut self, stop: &CancellationToken) -> Result<Lsn, Error>;

    /// The position up to which everything taken survives a crash.
    fn durable(&self) -> Lsn;

    /// Notes that everything received, up to the newest position, was flushed.
    ///
    /// # Errors
    /// The stream is to end.
    fn caught_up(&mut self, newest: Lsn) -> Result<(), Error>;
}

/// A message of the output plugin.
#[derive(Clone, Copy)]
pub(super) struct Data<'a> {
    /// The message.
    pub(super) body: &'a [u8],
    /// The time at which it was sent, by the server's clock.
    pub(super) sent_at: Timestamp,
    /// The position at which it ends, as its frame says.
    pub(super) wal_end: Lsn,
    /// The bytes that were received after it.
    pub(super) ahead: Ahead<'a>,
}

/// The parts of walcast that follow the stream's progress.
#[derive(Clone, Copy)]
pub(super) struct StreamContext<'a> {
    pub(super) progress: &'a Progress,
    pub(super) verifier: &'a PositionVerifier,
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) conninfo: &'a ConnInfo,
}

/// Takes one connection's frames until `stop`, or until the stream ends.
///
/// # Errors
/// The connection breaks, the server ends the stream or sends something invalid, or the handler fails.
pub(super) fn take_frames(
    receiver: &mut Receiver,
    handler: &mut impl FrameHandler,
    context: StreamContext<'_>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let StreamContext {
        progress,
        verifier,
        metrics,
        conninfo,
    } = context;
    // Tracks how long the server has waited for us, perhaps to shut down.
    let mut drain = Drain::default();
    while !stop.is_cancelled() {
        if !handler.has_room()? {
            pause(ROOM_PAUSE, stop);
            continue;
        }
        if let Filled::Bytes(bytes) = receiver.fill(FILL_TIMEOUT)? {
            metrics.replication_received_bytes.inc_by(bytes as u64);
            handler.received();
        }
        let mut asked = false;
        while let Some(frame) = receiver.next()? {
            match frame {
                Frame::Data {
                    wal_end,
                    sent_at,
                    body,
                    ahead,
                    ..
                } => {
                    progress.received(wal_end);
                    drain.goes_on();
                    let data = Data {
                        body,
                        sent_at,
                        wal_end,
                        ahead,
                    };
                    handler.take(data, stop)?;
                }
                Frame::Keepalive {
                    wal_end,
                    reply_requested,
                    ..
                } => {
                    progress.received(wal_end);
                    verifier.said(wal_end);
                    asked |= reply_requested;
                    if handler.durable() >= wal_end {
                        drain.goes_on();
                    } else if reply_requested {
                        unless_draining(conninfo, &mut drain)?;
                    }
                    if !handler.is_open() {
                        handler.passed().note(wal_end, reply_requested);
                    }
                }
                Frame::Notice(notice) if is_passing_over(&notice) => {
                    return Err(Error::PassedOver(notice));
                }
                Frame::Notice(notice) => {
                    tracing::warn!(event = "server_notice", %notice, "notice from the server")
                }
                Frame::End => return Err(Error::ServerShutdown),
            }
        }
        verifier.check()?;
        if let Some(lsn) = handler.passed().due(verifier.shown()) {
            handler.note_position(lsn, stop)?;
        }
        let head = handler.flush(stop)?;
        verifier.holds(head);
        verifier.wake(progress);
        metrics.received_lsn.set(progress.newest().0);
        if asked {
            progress.request_reply();
        }
        handler.caught_up(progress.newest())?;
    }
    Ok(())
}

/// True for the warning that the server skips a missing publication, so that changes are missing from here on (before
/// version 18 it failed). Recognized by its code, since the message is in the server's language.
fn is_passing_over(notice: &ServerError) -> bool {
    (notice.severity.as_str(), notice.code.as_str()) == ("WARNING", "55000")
}

/// Gives up the stream of a server that is shutting down and has waited for the journal for long enough. A connection
/// attempt shows that it shuts down.
///
/// # Errors
/// It shuts down.
pub(super) fn unless_draining(conninfo: &ConnInfo, drain: &mut Drain) -> Result<(), Error> {
    if !drain.is_due(Instant::now()) {
        return Ok(());
    }
    match Connection::connect(conninfo, Purpose::Query) {
        Err(error) if error.cannot_connect_now() => Err(Error::Undrained),
        _ => Ok(()),
    }
}

//! [`take_frames`]: one connection's frames, one after another, for whoever takes their messages.

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

/// The time that one read waits for something to come, and in which a stop is noticed.
const FILL_TIMEOUT: Duration = Duration::from_millis(50);
/// The pause before it is asked again whether there is room for more.
const ROOM_PAUSE: Duration = Duration::from_millis(20);

/// The use that one connection's messages are put to: they are read into the journal, or kept as they came.
pub(super) trait FrameHandler {
    /// Says, before each read, whether there is room for more. While there is none the server waits, and hears from us.
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

    /// Says whether a transaction, or a block of one, is not yet complete: then the server's position says nothing of
    /// what came whole.
    fn is_open(&self) -> bool;

    /// The newest position that was passed without a transaction.
    fn passed(&mut self) -> &mut Passed;

    /// Notes, unless a transaction is open, that the stream has come to that position without one.
    ///
    /// # Errors
    /// It cannot be noted.
    fn note_position(&mut self, lsn: Lsn, stop: &CancellationToken) -> Result<(), Error>;

    /// Makes visible what was taken, and returns the position up to which that is.
    ///
    /// # Errors
    /// It cannot be written.
    fn flush(&mut self, stop: &CancellationToken) -> Result<Lsn, Error>;

    /// The position up to which everything taken survives a crash.
    fn durable(&self) -> Lsn;

    /// Notes that everything that was received is flushed, up to the newest position that came.
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
    /// The bytes that have come behind it.
    pub(super) ahead: Ahead<'a>,
}

/// The parts of walcast that follow how far the stream has come, whatever it is used for.
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
/// The connection breaks, the server ends the stream or says what cannot be, or the handler cannot go on.
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
    // The time that the server has waited for us, perhaps to shut down.
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
                Frame::Notice(notice) => tracing::warn!(%notice, "the server says"),
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

/// Tells the warning that the server leaves out a publication which is not there, so that changes are missing from
/// here on (before version 18 it failed). It goes by the code, since the words are in the server's language.
fn is_passing_over(notice: &ServerError) -> bool {
    (notice.severity.as_str(), notice.code.as_str()) == ("WARNING", "55000")
}

/// Gives up the stream of a server that shuts down and has waited for the journal for long enough. That it shuts down
/// shows when somebody connects.
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

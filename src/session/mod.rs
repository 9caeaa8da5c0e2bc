//! A session: one websocket client, from hello to close.
//!
//! A connection is a cursor over the journal. While the client keeps up, frames come from the router's outbox; when
//! the outbox overflows, the session reads on from the journal at the client's pace, and joins again at the head. A
//! subscription that starts in the past reads the journal alone, until it moves with the connection.

mod cursor;
mod end;
mod entry;
mod identity;
mod machine;
mod outcome;
mod perform;
mod receive;
mod refusal;
mod replay;
mod resume;
mod run;
mod snapshot;
mod snapshot_rows;
mod socket;
mod subscribe;
mod wire;
mod work;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tungstenite::Message;

pub use machine::Limits;
pub use run::serve;
pub use socket::Socket;

use crate::delivery::{self, Delivery, Received, Registration, ReplayCursor, ReplayPool};
use crate::keys::Authenticator;
use crate::log::Log;
use crate::lsn::Epoch;
use crate::protocol::{Caller, CloseCode, ErrorCode, ErrorMessage, Hello, ServerMessage};
use crate::schema::Tables;
use crate::snapshot::Snapshots;
use crate::telemetry::{self, CLIENT_CHARS, Excerpt, Metrics};
use cursor::{Cursor, Input, ReplayId};
use end::End;
use identity::{Identity, Known};
use machine::{Due, Machine};
use outcome::Outcome;
use snapshot_rows::Snapshot;
use wire::Wire;
use work::Work;

/// The largest message that a client may send, in bytes.
pub const MAX_CLIENT_MESSAGE_BYTES: usize = 64 * 1024;

/// Limits and intervals of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bounds on what a connection may say.
    pub limits: Limits,
    /// The bytes that may wait for a client before it reads on from the journal, about.
    pub outbox_bytes: usize,
    /// The size of a frame, in bytes, about.
    pub max_frame_bytes: usize,
    /// The interval at which a quiet client hears how far the history has come.
    pub progress_interval: Duration,
    /// The time that a client may read nothing of what is sent to it, and that a message of its may take to come.
    pub stall_timeout: Duration,
    /// The time over which clients are told to spread their reconnects when walcast goes away.
    pub spread: Duration,
}

/// The state that all sessions share.
#[derive(Debug)]
pub struct Services<H: Log> {
    /// The journal.
    pub history: H,
    /// The rows that are there now.
    pub snapshots: Arc<Snapshots<H>>,
    /// The way to the router.
    pub router: delivery::Handle,
    /// The published tables.
    pub tables: Arc<Tables>,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
    /// Says who clients are; `None`: everybody may see everything.
    pub auth: Option<Arc<Authenticator>>,
    /// The database's name.
    pub database: String,
    /// Limits and intervals.
    pub options: Options,
    /// Reads the past.
    pub replays: Arc<ReplayPool<H>>,
    /// The number of sessions that may read what is kept of snapshots at the same moment: the others wait their turn.
    pub spool_readers: Semaphore,
}

impl<H: Log> Services<H> {
    /// An error of ours: logged whole under a number that the client is told.
    fn internal(&self, error: &(dyn std::error::Error + 'static)) -> ErrorMessage {
        let id = logged(error);
        ErrorMessage::new(
            ErrorCode::Internal,
            format!("this is our fault; it is logged under {id}"),
        )
    }

    /// A question that the database did not answer.
    fn unanswered(&self, error: &(dyn std::error::Error + 'static)) -> ErrorMessage {
        let id = logged(error);
        ErrorMessage::new(
            ErrorCode::Internal,
            format!("{error} now, so this cannot be decided: try again later; it is logged under {id}"),
        )
    }
}

/// Logs an error whole, and returns the number under which it did.
fn logged(error: &(dyn std::error::Error + 'static)) -> String {
    let id = format!("{:08x}", fastrand::u32(..));
    // The database's words repeat the client's.
    let error = telemetry::chain(error);
    tracing::error!(id, error = %Excerpt::of(&error, 5 * CLIENT_CHARS), "a request failed");
    id
}

/// The next thing that a session does.
enum Event<H: Log> {
    Received(Received),
    Message(Option<tungstenite::Result<Message>>),
    /// A message has more fragments than it may have.
    TooBig,
    Done(Outcome<H>),
    Known(Known),
    Tick,
    Stop,
}

/// A client's connection.
pub struct Session<H: Log> {
    shared: Arc<Services<H>>,
    caller: Caller,
    /// The state of its token; `None` where none is asked for.
    identity: Option<Box<Identity>>,
    wire: Wire,
    /// A ping of the client's may not have been answered yet.
    owes_pong: bool,
    /// The history that the client was told of. Positions of another mean nothing to it.
    epoch: Epoch,
    machine: Machine,
    /// Decides what is to be done, and when.
    cursor: Cursor,
    /// The place at the router, with the outbox.
    registration: Option<Arc<Registration>>,
    /// Space for what the outbox has.
    items: Vec<Delivery>,
    /// Cursors of the replays that go on from where they are.
    replays: Vec<(ReplayId, ReplayCursor<H>)>,
    /// Rows that subscriptions begin with, unless one of them is at work.
    rows: Vec<Snapshot>,
    work: Option<Work<H>>,
    counted: Counted,
}

/// The numbers by which a session counts in the metrics.
#[derive(Debug, Default)]
struct Counted {
    live: usize,
    replays: usize,
}

impl<H: Log> Session<H> {
    /// A session of a client that is known as far as it needs to be.
    fn new(wire: Wire, shared: Arc<Services<H>>, caller: Caller) -> Session<H> {
        Session {
            identity: caller.subject.as_deref().map(Identity::of),
            caller,
            owes_pong: false,
            wire,
            machine: Machine::new(shared.options.limits, shared.auth.is_some(), Instant::now()),
            epoch: shared.history.epoch(),
            cursor: Cursor::new(shared.options.progress_interval),
            shared,
            registration: None,
            items: Vec::new(),
            replays: Vec::new(),
            rows: Vec::new(),
            work: None,
            counted: Counted::default(),
        }
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<std::convert::Infallible, End> {
        self.hello().await?;
        let mut ticks = tokio::time::interval(self.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut stopped = pin!(stop.cancelled());
        let mut took = false;
        loop {
            let event = poll_fn(|cx| {
                // What the router has comes first, since most wake-ups are for it; but not twice in a row.
                let first = !std::mem::take(&mut took);
                if first && let Poll::Ready(taken) = self.poll_take(cx) {
                    took = true;
                    return Poll::Ready(Event::Received(taken));
                }
                if let Poll::Ready(event) = self.poll_rest(cx, &mut ticks, stopped.as_mut()) {
                    return Poll::Ready(event);
                }
                if first {
                    return Poll::Pending;
                }
                self.poll_take(cx).map(Event::Received)
            });
            match event.await {
                Event::Received(received) => {
                    let items = std::mem::take(&mut self.items);
                    self.feed(Input::Outbox(received, items)).await?;
                }
                Event::Message(message) => self.received(message).await?,
                Event::TooBig => return Err(End::Close(CloseCode::TooBig)),
                // In a box: it is large, and seldom.
                Event::Done(done) => Box::pin(self.done(done)).await?,
                Event::Known(known) => Box::pin(self.known(known)).await?,
                Event::Tick => self.ticked().await?,
                Event::Stop => {
                    let spread = self.shared.options.spread;
                    return Err(End::Close(CloseCode::GoingAway { spread }));
                }
            }
            self.start_work().await?;
        }
    }

    /// The contents of the outbox, once it has some.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        match &self.registration {
            Some(registration) if self.cursor.is_registered() => {
                registration.outbox.poll_take(cx, &mut self.items)
            }
            _ => Poll::Pending,
        }
    }

    /// Everything else that can happen.
    fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
        ticks: &mut Interval,
        stopped: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Poll<Event<H>> {
        if stopped.poll(cx).is_ready() {
            return Poll::Ready(Event::Stop);
        }
        if let Some(work) = &mut self.work
            && let Poll::Ready(done) = work.as_mut().poll(cx)
        {
            self.work = None;
            return Poll::Ready(Event::Done(done));
        }
        if ticks.poll_tick(cx).is_ready() {
            return Poll::Ready(Event::Tick);
        }
        if let Some(identity) = &mut self.identity
            && let Poll::Ready(known) = identity.poll(cx)
        {
            return Poll::Ready(Event::Known(known));
        }
        self.poll_message(cx)
    }

    async fn hello(&mut self) -> Result<(), End> {
        let history = &self.shared.history;
        let hello = Hello {
            protocol: Hello::PROTOCOL,
            server: concat!("walcast/", env!("CARGO_PKG_VERSION")),
            database: &self.shared.database,
            epoch: &self.epoch,
            position: history.head(),
            earliest: history.earliest(),
        };
        let hello = ServerMessage::Hello(hello).to_json();
        Ok(self.wire.send(hello).await?)
    }

    /// The interval at which to look at the clock.
    fn tick(&self) -> Duration {
        let limits = self.shared.options.limits;
        self.shared
            .options
            .progress_interval
            .min(limits.ping_interval / 2)
            .max(Duration::from_millis(10))
    }

    async fn ticked(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let stall_timeout = self.shared.options.stall_timeout;
        if self.unfinished().is_older_than(stall_timeout, now) {
            return Err(End::Close(CloseCode::TooSlow));
        }
        match self.machine.due(now) {
            Due::Nothing => {}
            Due::Ping => self.wire.ping().await?,
            // Its answer may have come while we were writing to it.
            Due::Silence => match tokio::task::unconstrained(self.wire.socket.next()).now_or_never() {
                Some(message) => self.received(message).await?,
                None => return Err(End::Close(CloseCode::NoPong)),
            },
        }
        // The position first: whatever it covers is in the outbox by then.
        let reached = self.shared.router.position();
        self.feed(Input::Tick { reached }).await
    }
}

//! A session: one websocket client, from hello to close.
//!
//! A connection is a cursor over the journal. While the client keeps up, frames come from the router's outbox; when the
//! outbox overflows, the session reads on from the journal at the client's pace, and joins again at the head. A
//! subscription that starts in the past reads the journal on its own until it has caught up with the connection.

mod cursor;
mod end;
mod entry;
mod explain;
mod frames;
mod guard;
mod host;
mod identity;
mod ids;
mod judge;
mod outcome;
mod pace;
mod perform;
mod predicate_costs;
mod rates;
mod reach;
mod receive;
mod refusal;
mod replay;
mod resume;
mod run;
mod seen;
mod send_rate;
mod since;
mod snapshot;
mod snapshot_rows;
mod socket;
mod subscribe;
mod traced;
mod transport;
mod wire;
mod work;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tungstenite::Message;

pub use entry::OperatorCheck;
pub use explain::{Explained, explain};
pub use guard::Limits;
pub use host::{Effort, Host};
pub use judge::Notes;
pub use pace::Pace;
pub use run::{Client, Waiting, serve};
pub use seen::{Seen, SessionState, Sessions};
pub use socket::Socket;
pub use transport::Transport;

use crate::delivery::{self, Delivery, Received, Registration, ReplayCursor, ReplayPool};
use crate::filter;
use crate::keys::Authenticator;
use crate::limit::{Member, Rate, SharedBucket, SubjectLimits, Subjects};
use crate::log::Log;
use crate::lsn::Epoch;
use crate::policy::Policies;
use crate::postgres::{self, ServerError};
use crate::protocol::{Caller, CloseCode, ErrorCode, ErrorMessage, Hello, HelloLimits, ServerMessage};
use crate::schema::Tables;
use crate::snapshot::Snapshots;
use crate::telemetry::{CLIENT_CHARS, Excerpt, Failures, Logged, Metrics, traces};
use cursor::{Cursor, Input, ReplayId};
use end::End;
use guard::{Due, Guard};
use identity::{Identity, Known};
use outcome::Outcome;
use reach::{Arrival, Awaited};
use snapshot_rows::Snapshot;
use traced::Traced;
use wire::Wire;
use work::Work;

/// The largest message that a client may send, in bytes.
pub const MAX_CLIENT_MESSAGE_BYTES: usize = 64 * 1024;

/// Limits and intervals of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Limits of a connection.
    pub limits: Limits,
    /// Limits of a subject, on all its connections.
    pub subjects: SubjectLimits,
    /// The most replays of a subject that are read at the same moment.
    pub max_replays_of_subject: usize,
    /// `subscribe` messages of all clients together.
    pub total_subscribes: Rate,
    /// Messages of all clients together.
    pub total_messages: Rate,
    /// The bytes that a client is sent in a second; `None` for as many as it takes.
    pub send_rate: Option<u32>,
    /// About how many bytes may wait for a client before it reads on from the journal.
    pub outbox_bytes: usize,
    /// About how large a frame may be, in bytes.
    pub max_frame_bytes: usize,
    /// The interval at which a quiet client hears how far the history has come.
    pub progress_interval: Duration,
    /// The time that a client may go without reading what is sent to it.
    pub stall_timeout: Duration,
    /// The time that a message of a client may take to arrive, not counting pauses in which nothing is read from it.
    pub message_timeout: Duration,
    /// The time over which clients are told to spread their reconnects when walcast goes away.
    pub spread: Duration,
}

/// The part of clients' limits that all sources have in common.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The subjects that are connected, and how much of their limits they use.
    pub subjects: Arc<Subjects>,
    /// The messages that all clients together may send.
    pub messages: Arc<SharedBucket>,
    /// The pace at which subscriptions of all clients are checked.
    pub pace: Arc<Pace>,
}

impl Shared {
    /// With nothing used.
    pub fn new(options: &Options) -> Shared {
        Shared {
            subjects: Subjects::new(options.subjects),
            messages: Arc::new(SharedBucket::full(options.total_messages, Instant::now())),
            pace: Pace::new(options.total_subscribes),
        }
    }
}

/// The state that all sessions of a source share.
#[derive(Debug)]
pub struct Services<H: Log> {
    /// The journal.
    pub history: H,
    /// Reads the rows that match now.
    pub snapshots: Arc<Snapshots<H>>,
    /// The way to the router.
    pub router: delivery::Handle,
    /// The published tables.
    pub tables: Arc<Tables>,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
    /// Verifies tokens. `None` if none are asked for, and everybody may see everything.
    pub auth: Option<Arc<Authenticator>>,
    /// The policies, which apply only with [`auth`](Services::auth).
    pub policies: watch::Receiver<Arc<Policies>>,
    /// The policies that were logged because they admit nothing.
    pub notes: Notes,
    /// The database's name.
    pub database: String,
    /// Limits and intervals.
    pub options: Options,
    /// The limits that all sources have in common.
    pub shared: Shared,
    /// Reads the past.
    pub replays: Arc<ReplayPool<H>>,
    /// The threads of lower priority, for work that one client asks for.
    pub background: Handle,
    /// Permits to read spooled snapshots; sessions without one wait their turn.
    pub spool_readers: Semaphore,
    /// The open connections.
    pub sessions: Arc<Sessions>,
}

impl<H: Log> Services<H> {
    /// The services for an operator, who needs no token of a client, and sees everything that is published: policies do
    /// not apply.
    pub fn for_operator(&self) -> Services<H> {
        Services {
            history: self.history.clone(),
            snapshots: Arc::clone(&self.snapshots),
            router: self.router.clone(),
            tables: Arc::clone(&self.tables),
            metrics: Arc::clone(&self.metrics),
            auth: None,
            policies: self.policies.clone(),
            notes: Notes::default(),
            database: self.database.clone(),
            options: self.options,
            shared: self.shared.clone(),
            replays: Arc::clone(&self.replays),
            background: self.background.clone(),
            spool_readers: Semaphore::new(1),
            sessions: Arc::clone(&self.sessions),
        }
    }

    /// The message for an internal error, which is logged in full under a number that the client is told.
    fn internal(&self, error: &(dyn std::error::Error + 'static)) -> ErrorMessage {
        let id = logged(error);
        ErrorMessage::new(
            ErrorCode::Internal,
            format!("this is our fault; it is logged under {id}"),
        )
    }

    /// The message for a question that the database did not answer. Its reasons are logged only, since they may name
    /// servers and files.
    fn unanswered(&self, error: &(dyn std::error::Error + 'static)) -> ErrorMessage {
        let id = logged(error);
        ErrorMessage::new(
            ErrorCode::Internal,
            format!("this cannot be answered now: try again later; it is logged under {id}"),
        )
    }
}

/// The failures that were logged recently.
static FAILURES: Mutex<Failures> = Mutex::new(Failures::new());

/// Logs an error with its causes, without values of rows, and returns the number that it is logged under. An error that
/// keeps coming is logged now and then.
fn logged(error: &(dyn std::error::Error + 'static)) -> String {
    let words = without_values(error);
    let Logged { id, now } = FAILURES.lock().note(&words, fastrand::u32(..), Instant::now());
    let id = format!("{id:08x}");
    // The database's words repeat the client's.
    let error = Excerpt::of(&words, 5 * CLIENT_CHARS);
    match now {
        Some(again) => tracing::error!(event = "request_failed", id, %error, again, "a request failed"),
        None => tracing::debug!(id, %error, "a request failed"),
    }
    id
}

/// An error with its causes in one line, like [`crate::telemetry::chain`], but without the parts of the database's
/// message that may hold values of rows.
fn without_values(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let server = match error.downcast_ref() {
            Some(postgres::Error::Server(server)) => Some(&**server),
            _ => error.downcast_ref::<ServerError>(),
        };
        words.push(server.map_or_else(|| error.to_string(), ServerError::without_values));
        next = error.source();
    }
    words.join(": ")
}

/// An event that a session handles.
enum Event<H: Log> {
    Received(Received),
    Message(Option<tungstenite::Result<Message>>),
    /// A message has more fragments than it may have.
    Fragmented,
    Done(Outcome<H>),
    Known(Known),
    Arrived(Arrival),
    Tick,
    GivesWay,
    Stop,
}

/// A client's connection.
pub struct Session<H: Log> {
    services: Arc<Services<H>>,
    caller: Caller,
    /// Its place among those of its subject.
    member: Member,
    /// The state of its token; `None` if no tokens are asked for.
    identity: Option<Box<Identity>>,
    wire: Wire,
    /// True if a ping of the client may not have been answered yet.
    owes_pong: bool,
    /// The history that the client was told of. Positions of another mean nothing to it.
    epoch: Epoch,
    guard: Guard,
    /// Decides what is to be done, and when.
    cursor: Cursor,
    /// The registration at the router, with its outbox.
    registration: Option<Arc<Registration>>,
    /// A buffer for the contents of the outbox.
    items: Vec<Delivery>,
    /// The replays that continue with their own cursor.
    replays: Vec<(ReplayId, ReplayCursor<H>)>,
    /// The number of changes of tables' columns that had been found when something was read last.
    found_changes: u64,
    /// The snapshots that are being sent, but for one that the work at hand holds.
    rows: Vec<Snapshot>,
    work: Option<Work<H>>,
    /// The place that the router has to come to for the next ping that waits.
    awaited: Option<Box<Awaited>>,
    effort: Effort,
    /// True once a subscription has been live.
    has_been_live: bool,
    counted: Counted,
    traced: Traced,
}

/// The amounts that a session has added to the gauges.
#[derive(Debug, Default)]
struct Counted {
    live: usize,
    replays: usize,
}

impl<H: Log> Session<H> {
    /// A session of a client that has been authenticated, if the server asks for that.
    fn new(
        wire: Wire,
        services: Arc<Services<H>>,
        caller: Caller,
        member: Member,
        epoch: Epoch,
        effort: Effort,
        traced: traces::Span,
    ) -> Session<H> {
        Session {
            member,
            identity: caller
                .subject
                .as_deref()
                .map(|subject| Identity::of(subject, &services.policies, services.tables.security_changes())),
            caller,
            owes_pong: false,
            wire,
            guard: Guard::new(services.options.limits, services.auth.is_some(), Instant::now()),
            epoch,
            cursor: Cursor::new(services.options.progress_interval),
            found_changes: services.tables.changes_found(),
            services,
            registration: None,
            items: Vec::new(),
            replays: Vec::new(),
            rows: Vec::new(),
            work: None,
            awaited: None,
            effort,
            has_been_live: false,
            counted: Counted::default(),
            traced: Traced::new(traced),
        }
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<std::convert::Infallible, End> {
        Box::pin(self.hello()).await?;
        let mut ticks = tokio::time::interval(self.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut stopped = pin!(stop.cancelled());
        let mut took = false;
        loop {
            let event = poll_fn(|cx| {
                // The outbox comes first, since most wake-ups are for it; but not twice in a row.
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
            let event = event.await;
            // Nothing is read while the event is handled.
            self.frames().pause();
            let is_revoked = self.judge_again().await?;
            match event {
                Event::Received(_) if is_revoked => {
                    self.items.clear();
                    self.feed(Input::Outbox(Received::Behind, Vec::new())).await?;
                }
                Event::Received(received) => {
                    let items = std::mem::take(&mut self.items);
                    self.feed(Input::Outbox(received, items)).await?;
                }
                Event::Fragmented => return Err(End::Close(CloseCode::Fragmented)),
                // Boxed, since they are large, and rare beside what the router has.
                Event::Message(message) => Box::pin(self.received(message)).await?,
                Event::Done(done) => Box::pin(self.done(done)).await?,
                Event::Known(known) => Box::pin(self.known(known)).await?,
                Event::Arrived(arrival) => Box::pin(self.arrived(arrival)).await?,
                Event::Tick => self.ticked().await?,
                Event::GivesWay => return Err(End::GivesWay),
                Event::Stop => {
                    let spread = self.services.options.spread;
                    return Err(End::Close(CloseCode::GoingAway { spread }));
                }
            }
            if self.cursor.reaches() > 0 || self.awaited.is_some() {
                Box::pin(self.see_to_reaches()).await?;
            }
            self.start_work().await?;
            self.has_been_live |= self.cursor.live() > 0;
            self.effort
                .is_much(!self.has_been_live || self.guard.is_busy(Instant::now()));
        }
    }

    /// Takes the contents of the outbox, once there are some.
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
        if let Some(awaited) = &mut self.awaited
            && let Poll::Ready(arrival) = awaited.poll(cx)
        {
            self.awaited = None;
            return Poll::Ready(Event::Arrived(arrival));
        }
        if self.member.poll_gives_way(cx).is_ready() {
            return Poll::Ready(Event::GivesWay);
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
        let Services { history, options, .. } = &*self.services;
        let Options { limits, subjects, .. } = options;
        let hello = Hello {
            protocol: Hello::PROTOCOL,
            server: concat!("walcast/", env!("CARGO_PKG_VERSION")),
            database: &self.services.database,
            epoch: &self.epoch,
            position: history.head(),
            earliest: history.earliest(),
            features: Hello::FEATURES,
            limits: HelloLimits {
                subscriptions: limits.max_subscriptions,
                subject_subscriptions: subjects.max_subscriptions,
                subject_snapshots: subjects.max_snapshots,
                message_bytes: MAX_CLIENT_MESSAGE_BYTES,
                predicate_text_bytes: filter::Limits::default().max_text_bytes,
            },
        };
        let hello = ServerMessage::Hello(hello).to_json();
        Ok(self.wire.send(hello).await?)
    }

    /// The interval between ticks.
    fn tick(&self) -> Duration {
        let limits = self.services.options.limits;
        self.services
            .options
            .progress_interval
            .min(limits.ping_interval / 2)
            .min(self.services.options.message_timeout / 2)
            .max(Duration::from_millis(10))
    }

    async fn ticked(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let message_timeout = self.services.options.message_timeout;
        if self.frames().is_older_than(message_timeout, now) {
            return Err(End::Close(CloseCode::Unfinished));
        }
        match self.guard.due(now) {
            Due::Nothing => {}
            Due::Ping => self.wire.ping().await?,
            // The answer may have arrived while we were writing.
            Due::Silence => match tokio::task::unconstrained(self.wire.socket.next()).now_or_never() {
                Some(message) => Box::pin(self.received(message)).await?,
                None => return Err(End::Close(CloseCode::NoPong)),
            },
        }
        // The position first: whatever it covers is in the outbox by then.
        let reached = self.services.router.position();
        self.feed(Input::Tick { reached }).await
    }
}

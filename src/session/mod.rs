//! A session: one websocket client, from hello to close.
//!
//! A connection is a cursor over the journal. While the client keeps up, frames come from the router's outbox; when
//! the outbox overflows, the session reads on from the journal at the client's pace, and joins again at the head. A
//! subscription that starts in the past reads the journal alone, until it moves with the connection.

mod deliver;
mod end;
mod hand_over;
mod job;
mod machine;
mod receive;
mod refusal;
mod replay;
mod replay_pool;
mod snapshot;
mod socket;
mod subscribe;
mod wire;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use tungstenite::Message;

pub use machine::Limits;
pub use replay_pool::ReplayPool;
pub use socket::Socket;

use crate::delivery::{self, ActiveSubscription, Delivery, Received, Registration};
use crate::journal::History;
use crate::lsn::{self, Epoch, Lsn, Position};
use crate::protocol::{Caller, CloseCode, ErrorCode, ErrorMessage, Hello, ServerMessage};
use crate::schema::Tables;
use crate::snapshot::Snapshots;
use crate::telemetry::{self, CLIENT_CHARS, Excerpt, Metrics};
use end::End;
use job::{Job, JobOutcome, Turns};
use machine::{Due, Machine};
use wire::Wire;

/// The largest message that a client may send, in bytes.
pub const MAX_CLIENT_MESSAGE_BYTES: usize = 64 * 1024;

/// Bounds and habits of sessions.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bounds on what a connection may say.
    pub limits: Limits,
    /// About how many bytes may wait for a client before it reads on from the journal.
    pub outbox_bytes: usize,
    /// About how large a frame may grow, in bytes.
    pub max_frame_bytes: usize,
    /// The interval at which a quiet client hears how far the history has come.
    pub progress_interval: Duration,
    /// The time that a client may read nothing of what is sent to it, and how long a message of its may take to come.
    pub stall_timeout: Duration,
    /// Over how long clients are told to spread their reconnects when walcast goes away.
    pub spread: Duration,
}

/// The state that all sessions share.
#[derive(Debug)]
pub struct Services<H: History> {
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
    /// The database's name.
    pub database: String,
    /// Bounds and habits.
    pub options: Options,
    /// The one who catches up.
    pub readers: ReplayPool<H>,
    /// The number of sessions that may read what is kept of snapshots at the same moment: the others wait their turn.
    pub spool_readers: Semaphore,
}

impl<H: History> Services<H> {
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
enum Event<H: History> {
    Received(Received),
    Message(Option<tungstenite::Result<Message>>),
    /// A message has more fragments than it may have.
    TooBig,
    Done(JobOutcome<H>),
    Tick,
    Stop,
}

type Work<H> = Pin<Box<dyn Future<Output = JobOutcome<H>> + Send>>;

/// One client.
pub struct Session<H: History> {
    shared: Arc<Services<H>>,
    caller: Caller,
    wire: Wire<WebSocketStream<Socket>>,
    /// A ping of the client's may not have been answered yet.
    owes_pong: bool,
    /// The history that the client was told of. Positions of another mean nothing to it.
    epoch: Epoch,
    machine: Machine,
    /// The place at the router, with the outbox. None before the first subscription, while the whole connection reads
    /// the journal, and while what is handed over has it: what the outbox holds is sent after that.
    registration: Option<Registration>,
    /// It fell behind and gave up its registration. It rejoins before anything else is done at the router: a
    /// registration without all of the live subscriptions would tell of a progress that they have not made.
    behind: bool,
    /// It reads the journal as a whole, to rejoin.
    rejoining: bool,
    /// When it last heard how far it is while it was served apart.
    progressed: Option<Instant>,
    /// Whose turn it is meanwhile.
    turns: Turns,
    /// The subscriptions that move with the connection.
    live: Vec<ActiveSubscription>,
    /// They are complete up to here.
    at: Position,
    jobs: VecDeque<Job<H>>,
    work: Option<Work<H>>,
}

impl<H: History> Session<H> {
    /// A session on a websocket whose handshake is done.
    pub fn new(socket: WebSocketStream<Socket>, shared: Arc<Services<H>>, caller: Caller) -> Session<H> {
        Session {
            caller,
            owes_pong: false,
            wire: Wire::new(socket, Arc::clone(&shared.metrics), shared.options.stall_timeout),
            machine: Machine::new(shared.options.limits, Instant::now()),
            epoch: shared.history.epoch(),
            shared,
            registration: None,
            behind: false,
            rejoining: false,
            progressed: None,
            turns: Turns::default(),
            live: Vec::new(),
            at: Position::after(Lsn::ZERO),
            jobs: VecDeque::new(),
            work: None,
        }
    }

    async fn serve(&mut self, stop: &CancellationToken) -> Result<std::convert::Infallible, End> {
        self.hello().await?;
        let mut ticks = tokio::time::interval(self.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut stopped = pin!(stop.cancelled());
        let mut items = Vec::new();
        let mut took = false;
        loop {
            let event = poll_fn(|cx| {
                // What the router has comes first, since most wake-ups are for it; but not twice in a row.
                let first = !std::mem::take(&mut took);
                if first && let Poll::Ready(taken) = self.poll_take(cx, &mut items) {
                    took = true;
                    return Poll::Ready(Event::Received(taken));
                }
                if let Poll::Ready(event) = self.poll_rest(cx, &mut ticks, stopped.as_mut()) {
                    return Poll::Ready(event);
                }
                if first {
                    return Poll::Pending;
                }
                self.poll_take(cx, &mut items).map(Event::Received)
            });
            match event.await {
                Event::Received(taken) => self.taken(taken, &mut items).await?,
                Event::Message(message) => self.received(message).await?,
                Event::TooBig => return Err(End::Close(CloseCode::TooBig)),
                // In a box: it is large, and seldom.
                Event::Done(done) => Box::pin(self.done(done)).await?,
                Event::Tick => self.ticked(&mut items).await?,
                Event::Stop => {
                    let spread = self.shared.options.spread;
                    return Err(End::Close(CloseCode::GoingAway { spread }));
                }
            }
            self.start_work();
        }
    }

    /// The contents of the outbox, once it has some.
    fn poll_take(&self, cx: &mut Context<'_>, items: &mut Vec<Delivery>) -> Poll<Received> {
        match &self.registration {
            Some(registration) => registration.outbox.poll_take(cx, items),
            None => Poll::Pending,
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

    async fn taken(&mut self, taken: Received, items: &mut Vec<Delivery>) -> Result<(), End> {
        match taken {
            Received::Items => {
                let delivered = self.send_items(items).await?;
                if delivered.stalled {
                    // Whatever was not sent is read again. Until then its place must not seem to be past.
                    self.fall_behind();
                    self.wire.flush().await?;
                }
                Ok(())
            }
            Received::Behind => {
                self.fall_behind();
                Ok(())
            }
            Received::EpochChanged => Err(self.epoch_changed().await?),
        }
    }

    /// Gives up the place at the router, to rejoin from where the client is.
    fn fall_behind(&mut self) {
        self.registration = None;
        self.behind = true;
    }

    /// Takes a registration at the router, or the one back that the work at hand had.
    fn attach(&mut self, registration: Registration) {
        self.wire.patience.outbox = Arc::downgrade(&registration.outbox);
        self.registration = Some(registration);
    }

    async fn ticked(&mut self, items: &mut Vec<Delivery>) -> Result<(), End> {
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
        let Some(registration) = self.registration.as_ref().filter(|_| !self.live.is_empty()) else {
            return Ok(());
        };
        // The position first: whatever it covers is in the outbox by now.
        let reached = self.shared.router.position();
        if let Some(taken) = registration.outbox.try_take(items) {
            self.taken(taken, items).await?;
        }
        match self.registration {
            Some(_) => self.progress(Position::after(reached)).await,
            None => Ok(()),
        }
    }

    /// The live subscriptions are complete up to a place: the client hears of it if it lies beyond what it was sent,
    /// and not inside a transaction.
    async fn progress(&mut self, to: Position) -> Result<(), End> {
        if to <= self.at {
            return Ok(());
        }
        self.at = to;
        if to.done == lsn::Done::Commit && !self.live.is_empty() {
            let progress = ServerMessage::Progress { position: to.end };
            self.wire.send(progress.to_json()).await?;
        }
        Ok(())
    }

    /// Makes sure that the history is still the one that the client was told of.
    async fn same_epoch(&mut self) -> Result<(), End> {
        if self.shared.history.epoch() == self.epoch {
            return Ok(());
        }
        Err(self.epoch_changed().await?)
    }

    /// Tells every subscription that its history is over.
    async fn epoch_changed(&mut self) -> Result<End, End> {
        let message = "the history broke and a new epoch has begun: reconnect, and read the rows anew";
        for id in self.machine.ids().to_vec() {
            self.wire
                .error(&ErrorMessage::new(ErrorCode::ResumeInvalid, message).about(&*id))
                .await?;
        }
        Ok(End::Close(CloseCode::GoingAway {
            spread: Duration::ZERO,
        }))
    }
}

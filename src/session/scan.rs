//! [`Scan`]: reads the journal for one connection, or for one subscription that catches up alone.
//!
//! It is the same matching and framing as at the head, over another reader: what a client gets does not depend on
//! how it gets it.

use std::sync::Arc;

use crate::fanout::{ConnectionId, Fanout, Sink, Subscription};
use crate::journal::{self, Batch, Entry, History, Read};
use crate::lsn::{Done, Position, Start};
use crate::protocol::{ErrorMessage, Frame};
use crate::router::{Item, Placed};
use crate::snapshot::Seam;

/// A place in the journal, and the subscriptions that are read for.
pub(super) struct Scan<H: History> {
    reader: H::Reader,
    fanout: Fanout,
    connection: ConnectionId,
    collected: Collected,
    /// What the one subscription has by its snapshot.
    seam: Option<Arc<Seam>>,
    /// Everything up to here has been read.
    at: Position,
    /// What was read from the journal but is not yet taken, and how many of its entries are.
    rest: Option<(Batch, usize)>,
}

/// What one step found.
#[derive(Debug)]
pub(super) struct Step {
    /// What the client gets, in order.
    pub(super) items: Vec<Item>,
    /// Whether there is nothing more to read now, or not up to where it was to read.
    pub(super) done: bool,
}

#[derive(Debug, Default)]
struct Collected {
    items: Vec<Item>,
    bytes: usize,
}

/// How much of the journal is read at a time, in bytes.
const BATCH_BYTES: usize = 64 * 1024;
/// How much of the journal one step reads at most, in bytes, however little of it matches: others want their turn.
const STEP_BYTES: usize = 4 * 1024 * 1024;

impl<H: History> Scan<H> {
    /// Reads from `start` on for `subscriptions`; `only` if it is one that catches up alone.
    pub(super) fn new(
        history: &H,
        start: Position,
        subscriptions: &[Placed],
        only: Option<&Subscription>,
        seam: Option<Arc<Seam>>,
        max_frame_bytes: usize,
    ) -> Result<Scan<H>, journal::Error> {
        let reader = history.reader(Start::After(start))?;
        let mut fanout = Fanout::for_one(max_frame_bytes, only.map(|subscription| &*subscription.id));
        let connection = fanout.connect();
        fanout.open(connection, start);
        for Placed { subscription, after } in subscriptions {
            fanout.subscribe(connection, subscription, (*after).max(start));
        }
        Ok(Scan {
            reader,
            fanout,
            connection,
            collected: Collected::default(),
            seam,
            at: start,
            rest: None,
        })
    }

    /// Everything up to here has been read.
    pub(super) fn at(&self) -> Position {
        self.at
    }

    /// Reads no more for a subscription.
    pub(super) fn leave_out(&mut self, subscription: &Arc<Subscription>) {
        self.fanout.unsubscribe(self.connection, subscription);
    }

    /// Reads on, up to `until` if it is given, for about `max_bytes` of messages.
    pub(super) fn step(&mut self, until: Option<Position>, max_bytes: usize) -> Result<Step, journal::Error> {
        let reached = |at: Position| until.is_some_and(|until| at >= until);
        let mut read = 0;
        while !reached(self.at) {
            let (batch, taken) = match self.rest.take() {
                Some(rest) => rest,
                None => match self.reader.next(BATCH_BYTES)? {
                    Some(batch) => {
                        read += batch.len();
                        (batch, 0)
                    }
                    None => break,
                },
            };
            for (index, entry) in batch.entries().enumerate().skip(taken) {
                let done = self.read(entry?, max_bytes)?;
                if reached(self.at) {
                    break;
                }
                if self.collected.bytes >= max_bytes {
                    self.rest = Some((batch.clone(), index + usize::from(done)));
                    return Ok(self.found(false));
                }
            }
            if read >= STEP_BYTES {
                return Ok(self.found(reached(self.at)));
            }
        }
        Ok(self.found(true))
    }

    /// Reads an entry, or so much of it as is enough; whether all of it.
    fn read(&mut self, entry: Entry<'_>, max_bytes: usize) -> Result<bool, journal::Error> {
        let mut piece = match entry {
            Entry::Position(lsn) => {
                self.at = self.at.max(Position::after(lsn));
                return Ok(true);
            }
            Entry::Piece(piece) => piece,
        };
        if self
            .seam
            .as_ref()
            .is_some_and(|seam| seam.saw(&piece.transaction))
        {
            self.at = self.at.max(piece.end_position());
            return Ok(true);
        }
        if self.at.end == piece.transaction.end
            && let Done::Change(seq) = self.at.done
        {
            piece.changes = piece.changes.from_seq(seq.saturating_add(1))?;
        }
        loop {
            let done = self.fanout.deliver(&mut piece, &mut self.collected)?;
            self.at = self.at.max(piece.position());
            if done || self.collected.bytes >= max_bytes {
                return Ok(done);
            }
        }
    }

    fn found(&mut self, done: bool) -> Step {
        self.collected.bytes = 0;
        Step {
            items: std::mem::take(&mut self.collected.items),
            done,
        }
    }
}

impl Sink for Collected {
    fn frame(&mut self, _: ConnectionId, frame: &Frame) {
        self.bytes += frame.text.len();
        self.items.push(Item::Frame(frame.clone()));
    }

    fn ended(&mut self, _: ConnectionId, subscription: &Arc<Subscription>, error: ErrorMessage) {
        self.items.push(Item::Ended {
            subscription: Arc::clone(subscription),
            error: Box::new(error),
        });
    }
}

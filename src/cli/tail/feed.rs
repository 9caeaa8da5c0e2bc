//! [`Feed`]: one or several subscriptions of a connection as their client sees them. Messages in, lines out; no I/O.
//!
//! The one thing to know: each subscription holds the position after the last line that was given out of it, so that
//! subscribing again neither misses nor repeats one.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::line::{self, Format, Line};
use super::object::Object;
use crate::lsn::{Epoch, Position, Start};

/// The subscription to make.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    /// The tables, as SQL writes them. Everything else holds for each of them.
    pub(super) tables: Vec<String>,
    /// The predicate.
    pub(super) predicate: Option<String>,
    /// Its parameters.
    pub(super) params: Vec<serde_json::Value>,
    /// The columns wanted; all if it is empty.
    pub(super) columns: Vec<String>,
    /// The operations wanted; all if it is empty.
    pub(super) ops: Vec<String>,
    /// Asks for old rows too.
    pub(super) old: bool,
    /// The treatment of changes whose membership the log cannot decide; the server's default if `None`.
    pub(super) undecided: Option<&'static str>,
    /// Begins with the rows that are there.
    pub(super) snapshot: bool,
    /// The value of `now()` in the predicate; the time when the server is asked if `None`.
    pub(super) now: Option<String>,
}

/// The output for a message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// A change, or a row that was there, as a line of text.
    Change(String),
    /// The rows that were printed are void, since they come once more: as a line of text.
    Reset(String),
    /// Something for people.
    Note(String),
}

/// Why the server's messages cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The server refused a subscription, or ended it.
    #[error("{0}")]
    Refused(String),
    /// The server could not answer just now: asking again later may help.
    #[error("{0}")]
    Unavailable(String),
    /// A message that this version of the protocol does not have.
    #[error("the server's message cannot be read: {0}")]
    Unreadable(String),
}

/// The subscriptions, across any number of connections.
#[derive(Debug)]
pub(super) struct Feed {
    query: Query,
    format: Format,
    subscriptions: Vec<Subscription>,
    /// The epoch of the connection.
    current: Option<Epoch>,
}

/// The subscription to one table.
#[derive(Debug)]
struct Subscription {
    /// The subscription's name on the connection.
    id: String,
    table: String,
    start: Start,
    /// The rows that were there are still coming: if they are cut short, they come again.
    begins: bool,
    /// Some of it was given out since it last began.
    given: bool,
    /// Moves with the connection: frames without an `id` concern it.
    live: bool,
    /// The server has accepted it on this connection.
    accepted: bool,
    /// The epoch that `start` is of, if that is known.
    epoch: Option<Epoch>,
    /// The value of `now()` in what was given out.
    now: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message {
    Hello {
        server: String,
        database: String,
        epoch: Epoch,
    },
    Subscribed {
        id: String,
        position: Position,
        now: Option<String>,
        warnings: Vec<String>,
    },
    Live {
        id: String,
        position: Position,
    },
    Progress {
        position: Position,
    },
    Error(Problem),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    message: String,
    id: Option<String>,
    offset: Option<usize>,
}

#[derive(Deserialize)]
struct Transaction<'a> {
    /// After this frame: inside the transaction if there is more of it.
    position: Position,
    id: Option<String>,
    xid: u32,
    ts: String,
    #[serde(borrow)]
    changes: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    id: String,
    #[serde(borrow)]
    rows: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    name: String,
}

impl Feed {
    /// Subscriptions that begin at `start`, which is of `epoch` if that is given.
    pub(super) fn new(query: Query, format: Format, start: Start, epoch: Option<&Epoch>) -> Feed {
        let subscription = |(index, table): (usize, &String)| Subscription {
            id: format!("tail-{}", index + 1),
            table: table.clone(),
            start,
            begins: query.snapshot,
            given: false,
            live: false,
            accepted: false,
            epoch: epoch.cloned(),
            now: query.now.clone(),
        };
        Feed {
            subscriptions: query.tables.iter().enumerate().map(subscription).collect(),
            query,
            format,
            current: None,
        }
    }

    /// The messages that subscribe on a new connection, from where the feed stands.
    pub(super) fn subscribe(&mut self) -> Vec<String> {
        for subscription in &mut self.subscriptions {
            subscription.live = false;
            subscription.accepted = false;
        }
        let subscriptions = self.subscriptions.iter();
        subscriptions
            .map(|subscription| subscription.message(&self.query))
            .collect()
    }

    /// Tells that the server has accepted all subscriptions on this connection.
    pub(super) fn is_accepted(&self) -> bool {
        self.subscriptions
            .iter()
            .all(|subscription| subscription.accepted)
    }

    /// Reads a message; what it means goes to `out`, in order.
    ///
    /// # Errors
    /// The subscriptions cannot go on.
    pub(super) fn receive(&mut self, text: &str, out: &mut Vec<Output>) -> Result<(), Error> {
        let kind: Kind = read(text)?;
        match kind.name.as_str() {
            "tx" => return self.transaction(&read(text)?, out),
            "snapshot" => return self.snapshot(&read(text)?, out),
            _ => {}
        }
        let format = self.format;
        let several = self.subscriptions.len() > 1;
        let mut note = |text: String| out.push(Output::Note(text));
        match read(text)? {
            Message::Hello {
                server,
                database,
                epoch,
            } => {
                note(format!(
                    "connected to {server}, database {database}, epoch {epoch}"
                ));
                self.current = Some(epoch);
            }
            Message::Subscribed {
                id,
                position,
                now,
                warnings,
            } => {
                let current = self.current.clone();
                let subscription = self.subscription(&id)?;
                subscription.accepted = true;
                subscription.now = now;
                subscription.advance(position, current.as_ref());
                note(format!("subscribed to {} after {position}", subscription.table));
                warnings.iter().for_each(|w| note(format!("warning: {w}")));
                if subscription.begins && std::mem::take(&mut subscription.given) {
                    let table = several.then_some(&*subscription.table);
                    out.push(Output::Reset(line::reset(table, format)));
                }
            }
            Message::Live { id, position } => {
                let current = self.current.clone();
                let subscription = self.subscription(&id)?;
                subscription.begins = false;
                subscription.live = true;
                subscription.advance(position, current.as_ref());
            }
            Message::Progress { position } => self.advance(None, position),
            Message::Error(problem) => match &problem.id {
                Some(id) => return Err(self.refusal(&problem, id)),
                None => note(format!("{}: {}", problem.code, problem.message)),
            },
            Message::Other => {}
        }
        Ok(())
    }

    fn snapshot(&mut self, snapshot: &Snapshot<'_>, out: &mut Vec<Output>) -> Result<(), Error> {
        self.subscription(&snapshot.id)?.given = true;
        let table = self.table_of(&snapshot.id)?;
        for row in &snapshot.rows {
            let line = line::of_row(row, table, self.format);
            out.push(Output::Change(line.map_err(unreadable)?));
        }
        Ok(())
    }

    fn transaction(&mut self, tx: &Transaction<'_>, out: &mut Vec<Output>) -> Result<(), Error> {
        for (index, change) in tx.changes.iter().enumerate() {
            let change: Object = read(change.get())?;
            let seq = change.get("seq").and_then(|seq| seq.get().parse().ok());
            let seq: u32 = seq.ok_or_else(|| Error::Unreadable("a change has no seq".into()))?;
            let id = change.get("id").map_or(Ok(None), |id| read(id.get()).map(Some))?;
            let id: String = id.ok_or_else(|| Error::Unreadable("a change has no id".into()))?;
            let is_last = index + 1 == tx.changes.len();
            let after = if is_last {
                tx.position
            } else {
                Position::after_change(tx.position.end, seq)
            };
            self.advance(tx.id.as_deref(), after);
            self.subscription(&id)?.given = true;
            let line = Line {
                position: self.position(),
                seq,
                xid: tx.xid,
                ts: &tx.ts,
                table: self.table_of(&id)?,
                change: &change,
            };
            out.push(Output::Change(line.write(self.format).map_err(unreadable)?));
        }
        self.advance(tx.id.as_deref(), tx.position);
        Ok(())
    }

    /// Notes that everything up to `position` was given out: of one subscription that catches up, or of all live ones.
    fn advance(&mut self, id: Option<&str>, position: Position) {
        for subscription in &mut self.subscriptions {
            let concerned = id.map_or(subscription.live, |id| id == subscription.id);
            if concerned {
                subscription.advance(position, self.current.as_ref());
            }
        }
    }

    /// The position from which all subscriptions miss nothing: the earliest of theirs. `None` until all rows that were
    /// there have come.
    fn position(&self) -> Option<Position> {
        let positions = self.subscriptions.iter();
        let positions = positions.map(|subscription| match subscription.start {
            Start::After(position) if !subscription.begins => Some(position),
            _ => None,
        });
        positions.min()?
    }

    /// The table of a subscription, to be printed where there are several.
    fn table_of(&self, id: &str) -> Result<Option<&str>, Error> {
        let found = self.subscriptions.iter().find(|known| known.id == id);
        let found = found.ok_or_else(|| Error::Unreadable(format!("unknown id {id:?}")))?;
        Ok((self.subscriptions.len() > 1).then_some(&*found.table))
    }

    fn subscription(&mut self, id: &str) -> Result<&mut Subscription, Error> {
        let mut known = self.subscriptions.iter_mut();
        let found = known.find(|known| known.id == id);
        found.ok_or_else(|| Error::Unreadable(format!("unknown id {id:?}")))
    }

    /// The server's words, under the predicate where they are about a place in it, with what to do next.
    fn refusal(&self, problem: &Problem, id: &str) -> Error {
        let Problem {
            code,
            message,
            offset,
            ..
        } = problem;
        let table = match self.table_of(id) {
            Ok(Some(table)) => format!("{table}: "),
            _ => String::new(),
        };
        let mut text = format!("{table}{code}: {message}");
        if let (Some(predicate), Some(offset)) = (&self.query.predicate, *offset) {
            let before = predicate.get(..offset).unwrap_or(predicate);
            let (line, column) = before
                .rsplit_once('\n')
                .map_or((before, 0), |(head, tail)| (tail, head.len() + 1));
            let whole = predicate
                .get(column..)
                .unwrap_or_default()
                .lines()
                .next()
                .unwrap_or_default();
            text.push_str(&format!("\n  {whole}\n  {}^", " ".repeat(line.chars().count())));
        }
        if code == "internal" {
            return Error::Unavailable(text);
        }
        if let Some(hint) = hint(code) {
            text.push_str(&format!("\nhint: {hint}"));
        }
        Error::Refused(text)
    }
}

impl Subscription {
    /// The message that subscribes, from where the subscription stands.
    fn message(&self, query: &Query) -> String {
        let mut message = json!({"type": "subscribe", "id": self.id, "table": self.table});
        let mut set = |name: &str, value: serde_json::Value| {
            if let Some(fields) = message.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
        };
        if let Some(predicate) = &query.predicate {
            set("where", json!(predicate));
        }
        for (name, list) in [
            ("params", json!(query.params)),
            ("columns", json!(query.columns)),
            ("ops", json!(query.ops)),
        ] {
            if list != json!([]) {
                set(name, list);
            }
        }
        if query.old {
            set("old", json!(true));
        }
        if let Some(undecided) = query.undecided {
            set("undecided", json!(undecided));
        }
        match self.start {
            _ if self.begins => set("snapshot", json!(true)),
            Start::Now => {}
            Start::Earliest => set("from", json!("earliest")),
            Start::After(position) => set("from", json!(position)),
        }
        // Rows that come anew may come as of a later time.
        let now = if self.begins { &query.now } else { &self.now };
        if let Some(now) = now {
            set("now", json!(now));
        }
        if let (Start::After(_) | Start::Earliest, Some(epoch), false) =
            (self.start, &self.epoch, self.begins)
        {
            set("epoch", json!(epoch));
        }
        message.to_string()
    }

    fn advance(&mut self, position: Position, epoch: Option<&Epoch>) {
        self.start = Start::After(position);
        if let Some(epoch) = epoch {
            self.epoch = Some(epoch.clone());
        }
    }
}

/// The advice for somebody at a terminal about a refusal, beyond the server's words.
fn hint(code: &str) -> Option<&'static str> {
    match code {
        "unknown_table" => Some(
            "`walcast tables` lists the tables that can be followed, and `walcast tables NAME` says why NAME is not one",
        ),
        "resume_expired" | "resume_invalid" => {
            Some("begin again, with --snapshot for the rows that are there, or without --from")
        }
        "schema_changed" => Some("begin again, with --snapshot"),
        "replica_identity" => Some(
            "run the statement above, or choose --undecided send (rows that leave come as deletes of their key) or \
             --undecided withhold",
        ),
        _ => None,
    }
}

fn unreadable(error: serde_json::Error) -> Error {
    Error::Unreadable(error.to_string())
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(unreadable)
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;

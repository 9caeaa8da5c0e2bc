//! [`View`]: what a client holds of one subscription, folded from the messages strictly as the protocol says, and every
//! promise of the protocol checked on the way.

mod fold;
mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value, json};

/// A position: the end LSN of a transaction, and the last change of it that is covered, if not all of it is. Read here
/// from the protocol's page, not by walcast's own types.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub end: u64,
    /// `u64::MAX` after the whole transaction.
    seq: u64,
}

impl At {
    /// Reads a position, which has to be of the one form that Postgres prints.
    pub fn read(value: &Value) -> At {
        let text = value.as_str().unwrap_or_else(|| panic!("no position: {value}"));
        let (lsn, seq) = match text.split_once(':') {
            Some((lsn, seq)) => (lsn, seq.parse().unwrap()),
            None => (text, u64::MAX),
        };
        let (high, low) = lsn.split_once('/').unwrap();
        let half = |digits| u64::from_str_radix(digits, 16).unwrap();
        let at = At {
            end: half(high) << 32 | half(low),
            seq,
        };
        assert_eq!(at.to_string(), text, "a position of another form");
        at
    }

    /// After everything that ends at or before an LSN.
    pub fn after(lsn: walcast::lsn::Lsn) -> At {
        At {
            end: lsn.0,
            seq: u64::MAX,
        }
    }

    pub fn is_whole(self) -> bool {
        self.seq == u64::MAX
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.end >> 32, self.end as u32)?;
        if self.is_whole() {
            return Ok(());
        }
        write!(f, ":{}", self.seq)
    }
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One change as it came: the transaction's end, the seq, and what it says but for the subscription's id.
#[derive(Clone, PartialEq, Debug)]
pub struct Came {
    pub end: u64,
    pub seq: u64,
    pub change: Value,
}

/// True if a subscribe message names a column.
pub fn names(query: &Value, column: &str) -> bool {
    let condition = query["where"].as_str().unwrap_or_default();
    let mut words = condition.split(|c: char| !c.is_alphanumeric());
    let columns = query["columns"].as_array();
    words.any(|word| word == column)
        || columns.is_some_and(|columns| columns.iter().any(|name| name == column))
}

/// Stands for a value that the client was not told, since the log did not have it and it did not hold the row.
const UNKNOWN: &str = "(unknown)";

/// The place of a row of a table without a key beside others: after those that are equal to it.
fn place_in(rows: &BTreeMap<String, Map<String, Value>>, row: &Map<String, Value>) -> String {
    let values = serde_json::to_string(row).unwrap();
    let equal = rows.range(values.clone()..format!("{values}~"));
    format!("{values}#{:09}", equal.count())
}

/// The rows of a subscription that a client holds.
#[derive(Clone, Debug)]
pub struct View {
    pub id: String,
    /// The subscribe message, without `from` and `epoch`. Once it was told what now() is, it says so too.
    query: Value,
    /// The place to begin, until it has begun: a position, `earliest`, or null for now.
    from: Value,
    epoch: Value,
    key: Vec<String>,
    columns: Vec<String>,
    /// Those of which every row tells: the ones of when it began.
    known: Vec<String>,
    pub rows: BTreeMap<String, Map<String, Value>>,
    pub at: Option<At>,
    pub start: Option<At>,
    /// The place where its snapshot begins.
    begun: Option<At>,
    pub live: bool,
    /// The transaction of which more is to come.
    open: Option<u64>,
    /// True if it holds every row of the result: it began on an empty table.
    complete: bool,
    /// It began with a snapshot, once that was over: from then on it resumes.
    established: bool,
    /// True if every row that comes to it is one that it does not hold, and every row that leaves it one that it does:
    /// where it asked to be told of what the log leaves open, rows that it does not hold leave it, too.
    decided: bool,
    /// The source that Postgres is asked for in the table's place, if the publication leaves something of it out.
    source: Option<String>,
    /// True if it may hold more than the result: rows that left it without a word, as it asked for, or that the
    /// publication tells nothing more of.
    may_keep: bool,
    /// True if it may lack what was there and left before it began: of such rows nothing tells any more.
    may_lack: bool,
    /// True if changes may be read before it is found that their table was changed, and what they mean: labels change
    /// places without a word. Then it ends.
    may_end_late: bool,
    /// True if the same transaction, read from the server again, may say more or less of old rows.
    may_know_less: bool,
    /// Rows of which the log does not tell whether they are in the result.
    open_rows: BTreeSet<String>,
    /// A check of what has to hold after each whole transaction.
    invariant: Option<fn(&View)>,
    /// Every change that came, in order.
    pub came: Vec<Came>,
}

impl View {
    /// A view that begins with the next transaction; `query` is a subscribe message. If it is `complete`, the result is
    /// empty where it begins, and it has to be the result ever after.
    pub fn new(query: Value, from: Value, complete: bool) -> View {
        let decided = query["undecided"] != "send";
        View {
            id: query["id"].as_str().unwrap().to_owned(),
            query,
            from,
            epoch: Value::Null,
            key: Vec::new(),
            columns: Vec::new(),
            known: Vec::new(),
            rows: BTreeMap::new(),
            at: None,
            start: None,
            begun: None,
            live: false,
            open: None,
            complete,
            established: false,
            decided,
            source: None,
            may_keep: false,
            may_lack: false,
            may_end_late: false,
            may_know_less: false,
            open_rows: BTreeSet::new(),
            invariant: None,
            came: Vec::new(),
        }
    }

    /// The same, with what has to hold after each whole transaction.
    pub fn invariant(mut self, holds: fn(&View)) -> View {
        self.invariant = Some(holds);
        self
    }

    /// The same, of a table that the publication carries only as much of as this selects.
    pub fn judged_by(mut self, source: &str) -> View {
        self.source = Some(source.to_owned());
        self
    }

    /// The same, on a table whose log may leave open which rows were in the result.
    pub fn undecided(mut self) -> View {
        self.decided = false;
        self
    }

    /// The same, but it may hold rows that are not in the result any more.
    pub fn may_keep(mut self) -> View {
        self.may_keep = true;
        self
    }

    /// The same, but it may lack rows that are not in the table any more: its source has all that ever were.
    pub fn may_lack(mut self) -> View {
        self.may_lack = true;
        self
    }

    /// The same, but changes may come before it is found that they are of a table that was changed. Then it ends.
    pub fn may_end_late(mut self) -> View {
        self.may_end_late = true;
        self
    }

    /// The same, of a table whose partitions have replica identities of their own: what old rows hold is judged by those
    /// that the server has described so far, which are others when it sends a transaction again.
    pub fn may_know_less(mut self) -> View {
        self.may_know_less = true;
        self
    }

    /// True if no row comes that it holds.
    fn is_told_once(&self) -> bool {
        self.complete && !self.may_keep && !self.may_end_late
    }

    /// True if no row leaves or changes that it does not hold.
    fn is_told_of_its_own(&self) -> bool {
        self.complete && self.decided && !self.may_end_late
    }

    /// It was refused what has to be decided: it asks for what can be had.
    pub fn relents(&mut self) {
        self.query["undecided"] = json!("send");
        self.may_keep = false;
    }

    /// The table, unless it is of messages.
    pub fn table(&self) -> Option<&str> {
        self.query["table"].as_str()
    }

    /// True if it was to be refused where the log does not decide.
    pub fn must_know(&self) -> bool {
        matches!(self.query["undecided"].as_str(), None | Some("refuse"))
    }

    /// The same, beginning in the history of that name alone: where it has broken by then, it is told to start again.
    pub fn in_epoch(mut self, epoch: &Value) -> View {
        self.query["epoch"] = epoch.clone();
        self
    }

    /// A second one of the same query, under another id, that goes on where this one is.
    pub fn fork(&self, id: &str) -> View {
        let mut fork = self.clone();
        fork.id = id.to_owned();
        fork.query["id"] = json!(id);
        fork.live = false;
        fork
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// It is told to start again: it does so with the rows that are there.
    pub fn restart(&mut self) {
        if self.table().is_some() {
            self.query["snapshot"] = json!(true);
        } else {
            // Of messages nothing is kept but the history: they go on from now.
            self.from = Value::Null;
            self.complete = false;
        }
        self.open_rows.clear();
        // What now() is belongs to the rows that it held.
        for field in ["epoch", "now"] {
            self.query.as_object_mut().unwrap().remove(field);
        }
        self.established = false;
        self.live = false;
        self.open = None;
        self.at = None;
        self.begun = None;
        self.start = None;
        self.rows.clear();
        self.came.clear();
    }

    /// True if it has rows that it could go on from.
    pub fn is_established(&self) -> bool {
        self.at.is_some() && (!self.is_snapshot() || self.established)
    }

    /// A view of the same query that reads all from where this one began.
    pub fn whole(&self) -> View {
        let mut query = self.query.clone();
        for field in ["snapshot", "epoch"] {
            query.as_object_mut().unwrap().remove(field);
        }
        let mut whole = View::new(query, json!(self.start.unwrap().to_string()), false);
        whole.decided = self.decided;
        whole
    }

    /// Its condition, as Postgres is asked for it.
    fn condition(&self) -> String {
        let condition = self.query["where"].as_str().unwrap_or("true");
        match self.query["now"].as_str() {
            Some(now) => condition.replace("now()", &format!("timestamptz '{now}'")),
            None => condition.to_owned(),
        }
    }

    /// True if its query names a column.
    pub fn names(&self, column: &str) -> bool {
        names(&self.query, column)
    }

    /// True if it goes by a column: its query names it, or all of them.
    pub fn needs(&self, column: &str) -> bool {
        self.query["columns"].is_null() || self.names(column) || self.key.iter().any(|name| name == column)
    }

    /// The message that subscribes it, or resumes it where it is.
    pub fn subscribe(&self) -> Value {
        let mut message = self.query.clone();
        message["type"] = json!("subscribe");
        if self.is_snapshot() {
            if !self.established {
                return message;
            }
            message.as_object_mut().unwrap().remove("snapshot");
        }
        match self.at {
            Some(at) => {
                message["from"] = json!(at.to_string());
                message["epoch"] = self.epoch.clone();
            }
            None if !self.from.is_null() => message["from"] = self.from.clone(),
            None => {}
        }
        message
    }

    /// True if it begins with the rows that are there.
    pub fn is_snapshot(&self) -> bool {
        self.query["snapshot"] == true
    }

    /// Rows that were there.
    pub fn snapshot(&mut self, rows: &[Value]) {
        assert!(self.is_snapshot() && !self.established && !self.live);
        assert_eq!(self.at, self.begun, "rows after changes");
        assert!(!rows.is_empty());
        for row in rows {
            let row = row.as_object().unwrap();
            let has_all = self.columns.iter().all(|name| row.contains_key(name));
            assert!(has_all && row.len() == self.columns.len(), "{row:?}");
            let was = self.rows.insert(self.place_of(row), row.clone());
            assert!(was.is_none(), "{}: a row twice: {row:?}", self.id);
        }
    }

    /// It is active.
    pub fn subscribed(&mut self, message: &Value, hello: &Value) {
        let names = |list: &Value, name: fn(&Value) -> &Value| -> Vec<String> {
            let names = list.as_array().unwrap().iter().map(name);
            names.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let position = At::read(&message["position"]);
        if let Some(now) = self.query.get("now") {
            assert_eq!(message["now"], *now, "{}: another time", self.id);
        } else if let Some(now) = message.get("now") {
            self.query["now"] = now.clone();
        }
        self.key = names(&message["key"], |name| name);
        self.columns = names(&message["columns"], |column| &column["name"]);
        self.live = false;
        if !self.is_established() {
            self.known.clone_from(&self.columns);
        }
        if self.is_snapshot() && !self.established {
            assert!(position >= At::read(&hello["earliest"]));
            self.at = Some(position);
            self.begun = Some(position);
            self.open = None;
            self.epoch = hello["epoch"].clone();
            self.rows.clear();
            return;
        }
        match self.at {
            Some(at) => assert_eq!(position, at, "resumed elsewhere than asked"),
            None if self.from == "earliest" => assert_eq!(position, At::read(&hello["earliest"])),
            // Now is where the stream is, a moment before or after hello.
            None if self.from.is_null() => assert!(position >= At::read(&hello["earliest"])),
            None => assert_eq!(position, At::read(&self.from)),
        }
        self.at = Some(position);
        self.start = self.start.or(self.at);
        self.epoch = hello["epoch"].clone();
    }

    /// It moves with the connection from here on.
    pub fn goes_live(&mut self, position: At) {
        assert!(!self.live, "{}: live twice", self.id);
        assert!(
            position >= self.at.unwrap(),
            "{}: live before its position",
            self.id
        );
        self.live = true;
        self.moves_to(position);
        if self.is_snapshot() && !self.established {
            // What it got before are the changes that its rows did not hold, and not all of them.
            self.established = true;
            self.start = self.at;
            self.came.clear();
        }
    }

    /// Nothing matched up to here.
    pub fn progress(&mut self, position: At) {
        if Some(position) > self.at {
            assert_eq!(self.open, None, "{}: progress inside a transaction", self.id);
            self.moves_to(position);
        }
    }

    fn moves_to(&mut self, position: At) {
        if position.is_whole() && self.open == Some(position.end) {
            // Live where its transaction ends.
            self.open = None;
        }
        self.at = self.at.max(Some(position));
    }

    /// A frame that concerns it, with those of its changes that are this view's.
    pub fn tx(&mut self, position: At, more: bool, changes: &[&Value]) {
        let before = self.at.unwrap();
        if position <= before {
            assert!(
                changes.is_empty(),
                "{}: {position} came again, at {before}",
                self.id
            );
            return;
        }
        if let Some(open) = self.open {
            assert_eq!(position.end, open, "{}: a transaction did not end", self.id);
        }
        let mut last = (before.end == position.end).then_some(before.seq);
        for change in changes {
            let seq = change["seq"].as_u64().unwrap();
            assert!(
                Some(seq) > last,
                "{}: seq {seq} after {last:?} at {position}",
                self.id
            );
            last = Some(seq);
            self.fold(change);
            let mut change = (*change).clone();
            change.as_object_mut().unwrap().remove("id");
            self.came.push(Came {
                end: position.end,
                seq,
                change,
            });
        }
        self.at = Some(position);
        self.open = more.then_some(position.end);
        if let (Some(holds), false) = (self.invariant, more) {
            holds(self);
        }
    }
}

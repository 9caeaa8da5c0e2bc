//! [`View`]: what a client holds of one subscription, folded from the messages strictly as the protocol says, and every
//! promise of the protocol checked on the way.

use std::collections::BTreeMap;
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

/// Whether a subscribe message names a column.
pub fn names(query: &Value, column: &str) -> bool {
    let condition = query["where"].as_str().unwrap_or_default();
    let mut words = condition.split(|c: char| !c.is_alphanumeric());
    let columns = query["columns"].as_array();
    words.any(|word| word == column)
        || columns.is_some_and(|columns| columns.iter().any(|name| name == column))
}

/// What a client holds of a subscription.
#[derive(Clone, Debug)]
pub struct View {
    pub id: String,
    /// The subscribe message, without `from` and `epoch`.
    query: Value,
    /// Where to begin, until it has begun: a position, `earliest`, or null for now.
    from: Value,
    epoch: Value,
    key: Vec<String>,
    columns: Vec<String>,
    /// Those of which every row tells: the ones of when it began.
    known: Vec<String>,
    pub rows: BTreeMap<String, Map<String, Value>>,
    pub at: Option<At>,
    pub start: Option<At>,
    /// Where its snapshot begins.
    begun: Option<At>,
    pub live: bool,
    /// The transaction of which more is to come.
    open: Option<u64>,
    /// Whether it holds every row of the result: it began on an empty table.
    complete: bool,
    /// It began with a snapshot, once that was over: from then on it resumes.
    established: bool,
    /// Whether every row that comes to it is one that it does not hold, and every row that leaves it one that it does: where
    /// it asked to be told of what the log leaves open, rows that it does not hold leave it, too.
    decided: bool,
    /// What has to hold after each whole transaction.
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
            invariant: None,
            came: Vec::new(),
        }
    }

    /// The same, with what has to hold after each whole transaction.
    pub fn invariant(mut self, holds: fn(&View)) -> View {
        self.invariant = Some(holds);
        self
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
        self.query["snapshot"] = json!(true);
        self.query.as_object_mut().unwrap().remove("epoch");
        (self.established, self.live, self.open) = (false, false, None);
        (self.at, self.begun, self.start) = (None, None, None);
        self.rows.clear();
        self.came.clear();
    }

    /// Whether it has rows that it could go on from.
    pub fn is_established(&self) -> bool {
        self.at.is_some() && (!self.is_snapshot() || self.established)
    }

    /// A view of the same query that reads all from where this one began.
    pub fn whole(&self) -> View {
        let mut query = self.query.clone();
        for field in ["snapshot", "epoch"] {
            query.as_object_mut().unwrap().remove(field);
        }
        View::new(query, json!(self.start.unwrap().to_string()), false)
    }

    /// Whether its query names a column.
    pub fn names(&self, column: &str) -> bool {
        names(&self.query, column)
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

    /// Whether it begins with the rows that are there.
    fn is_snapshot(&self) -> bool {
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
            let was = self.rows.insert(self.key_of(row), row.clone());
            assert!(was.is_none(), "{}: a row twice: {row:?}", self.id);
        }
    }

    /// It is in force.
    pub fn subscribed(&mut self, message: &Value, hello: &Value) {
        let names = |list: &Value, name: fn(&Value) -> &Value| -> Vec<String> {
            let names = list.as_array().unwrap().iter().map(name);
            names.map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        let position = At::read(&message["position"]);
        self.key = names(&message["key"], |name| name);
        self.columns = names(&message["columns"], |column| &column["name"]);
        self.live = false;
        if !self.is_established() {
            self.known.clone_from(&self.columns);
        }
        if self.is_snapshot() && !self.established {
            assert!(position >= At::read(&hello["earliest"]));
            (self.at, self.begun, self.open) = (Some(position), Some(position), None);
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

    fn fold(&mut self, change: &Value) {
        let row = change["row"].as_object();
        match change["op"].as_str().unwrap() {
            "insert" => {
                let row = row.unwrap();
                assert!(
                    change.get("unchanged").is_none() || change["cause"] == "update",
                    "{change}"
                );
                assert!(change.get("undecided").is_none(), "{change}");
                let was = self.rows.insert(self.key_of(row), row.clone());
                assert!(
                    !self.complete || was.is_none(),
                    "{}: inserted twice: {change}",
                    self.id
                );
            }
            "update" => {
                let row = row.unwrap();
                let new_key = self.key_of(row);
                let old_key = change["key"].as_object().map(|key| self.key_of(key));
                assert_ne!(
                    old_key.as_ref(),
                    Some(&new_key),
                    "a key that did not change: {change}"
                );
                let undecided = change.get("undecided").is_some();
                assert_eq!(undecided, change.get("as_before").is_some(), "{change}");
                assert!(!(self.decided && undecided), "{change}");
                let old = self.rows.remove(old_key.as_ref().unwrap_or(&new_key));
                if undecided && old.is_none() {
                    return;
                }
                assert!(
                    !(self.complete && self.decided) || old.is_some(),
                    "{}: not held: {change}",
                    self.id
                );
                if let (Some(said), Some(held), true) = (change.get("old"), &old, self.complete) {
                    // Columns may have come and gone since.
                    let said = said.as_object().unwrap();
                    let known = said.iter().filter(|(name, _)| held.contains_key(*name));
                    let known: Vec<_> = known.collect();
                    assert!(!known.is_empty() && said.keys().eq(row.keys()), "{change}");
                    for (name, value) in known {
                        assert_eq!(
                            Some(value),
                            held.get(name),
                            "{}: another old row: {change}",
                            self.id
                        );
                    }
                }
                let mut row = row.clone();
                for column in change["unchanged"].as_array().into_iter().flatten() {
                    let name = column.as_str().unwrap();
                    let held = old.as_ref().map(|old| old[name].clone());
                    row.insert(name.to_owned(), held.unwrap_or_default());
                }
                let there = self.rows.insert(new_key, row);
                assert!(
                    !self.complete || there.is_none(),
                    "{}: two rows of a key: {change}",
                    self.id
                );
            }
            "delete" => {
                assert!(row.is_none(), "{change}");
                let key = self.key_of(change["key"].as_object().unwrap());
                let was = self.rows.remove(&key);
                assert!(
                    !(self.complete && self.decided) || was.is_some(),
                    "{}: not held: {change}",
                    self.id
                );
            }
            "truncate" => {
                let fields: Vec<&String> = change.as_object().unwrap().keys().collect();
                assert_eq!(fields, ["id", "op", "seq"], "{change}");
                self.rows.clear();
            }
            other => panic!("{other}: {change}"),
        }
    }

    fn key_of(&self, row: &Map<String, Value>) -> String {
        let key: Vec<&Value> = self.key.iter().map(|name| &row[name]).collect();
        serde_json::to_string(&key).unwrap()
    }

    /// Whether a change is about the row of a key.
    fn concerns(&self, change: &Value, key: &str) -> bool {
        let rows = ["key", "row", "new_key"].map(|field| change[field].as_object());
        let has_key = |row: &&Map<String, Value>| self.key.iter().all(|name| row.contains_key(name));
        let mut rows = rows.into_iter().flatten().filter(has_key);
        rows.any(|row| self.key_of(row) == key)
    }

    /// Checks that it is the query's result now.
    pub fn assert_is_result(&self, database: &super::Database) {
        assert_eq!(self.open, None, "{}: a transaction did not end", self.id);
        assert!(self.complete);
        let table = self.query["table"].as_str().unwrap();
        let there = database.sql(&format!(
            "SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND NOT attisdropped"
        ));
        let is_there = |name: &&String| there.iter().any(|row| row.get(0) == Some(name));
        let names: Vec<&String> = self.known.iter().filter(is_there).collect();
        let columns = names.iter().map(|name| format!("\"{name}\""));
        let condition = self.query["where"].as_str().unwrap_or("true");
        let sql = format!(
            "SELECT {} FROM {table} WHERE {condition}",
            columns.collect::<Vec<_>>().join(", ")
        );
        let expected: BTreeMap<String, Map<String, Value>> = database
            .rows(&sql)
            .into_iter()
            .map(|row| row.as_object().unwrap().clone())
            .map(|row| (self.key_of(&row), row))
            .collect();
        let held: BTreeMap<&String, Map<String, Value>> = self
            .rows
            .iter()
            .map(|(key, row)| {
                let known = row.iter().filter(|(name, _)| names.contains(name));
                (
                    key,
                    known.map(|(name, value)| (name.clone(), value.clone())).collect(),
                )
            })
            .collect();
        let differs = |key: &&String| match (held.get(*key), expected.get(*key)) {
            // Who reads the past is told of columns that its oldest rows did not have.
            (Some(held), Some(expected)) if !self.is_snapshot() => {
                held.is_empty() || held.iter().any(|(name, value)| expected.get(name) != Some(value))
            }
            (held, expected) => held != expected,
        };
        let wrong: Vec<&String> = self.rows.keys().chain(expected.keys()).filter(differs).collect();
        for key in wrong.iter().take(3) {
            eprintln!(
                "{key}: {:?} instead of {:?}, after",
                self.rows.get(*key),
                expected.get(*key)
            );
            for came in self.came.iter().filter(|came| self.concerns(&came.change, key)) {
                eprintln!("    {:X}/{:X} {}", came.end >> 32, came.end as u32, came.change);
            }
        }
        assert!(
            wrong.is_empty(),
            "{} from {:?} (began at {:?}, {} changes since) to {:?}: {} rows differ from {sql}",
            self.query,
            self.start,
            self.begun,
            self.came.len(),
            self.at,
            wrong.len()
        );
    }

    /// Checks that it got exactly what `whole`, of the same query from an earlier start, got after its own start.
    pub fn assert_is_tail_of(&self, whole: &View) {
        let start = self.start.unwrap();
        let after_start = |came: &&Came| {
            let at = At {
                end: came.end,
                seq: came.seq,
            };
            at > start
        };
        let until = self.at.unwrap();
        let expected: Vec<&Came> = whole
            .came
            .iter()
            .filter(after_start)
            .filter(|came| came.end <= until.end)
            .collect();
        let id = &self.id;
        for (index, (came, expected)) in self.came.iter().zip(&expected).enumerate() {
            assert_eq!(
                (came.end, came.seq),
                (expected.end, expected.seq),
                "{id}: change {index} since {start}: {} instead of {}",
                came.change,
                expected.change
            );
            assert_eq!(came.change, expected.change, "{id}: change {index} since {start}");
        }
        assert_eq!(self.came.len(), expected.len(), "{id}: changes since {start}");
    }
}

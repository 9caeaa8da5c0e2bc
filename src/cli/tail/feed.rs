//! [`Feed`]: one subscription as its client sees it. Messages in, lines out; no I/O.
//!
//! The one thing to know: it always holds the position after the last line it gave out, so that subscribing again
//! neither misses nor repeats one.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::object::Object;
use crate::lsn::{Epoch, Position, Start};

/// What to subscribe to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Query {
    /// The table, as SQL writes it.
    pub(super) table: String,
    /// The predicate.
    pub(super) predicate: Option<String>,
    /// Its parameters.
    pub(super) params: Vec<serde_json::Value>,
    /// The columns wanted; all if it is empty.
    pub(super) columns: Vec<String>,
    /// The operations wanted; all if it is empty.
    pub(super) ops: Vec<String>,
    /// Whether to have old rows too.
    pub(super) old: bool,
    /// Whether to be refused where the log cannot decide membership.
    pub(super) strict: bool,
    /// Whether to begin with the rows that are there.
    pub(super) snapshot: bool,
}

/// What a message means to whoever reads along.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// A change, or a row that was there, as a line of JSON.
    Change(String),
    /// Something for people.
    Note(String),
}

/// Why the server's messages cannot be followed any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The server refused the subscription, or ended it.
    #[error("{0}")]
    Refused(String),
    /// A message that this version of the protocol does not have.
    #[error("the server's message cannot be read: {0}")]
    Unreadable(String),
}

/// One subscription, across any number of connections.
#[derive(Debug)]
pub(super) struct Feed {
    query: Query,
    start: Start,
    /// The rows that were there are still coming: if they are cut short, they come anew.
    begins: bool,
    /// The epoch that `start` is of, if that is known.
    epoch: Option<Epoch>,
    /// The epoch of the connection.
    current: Option<Epoch>,
}

/// The subscription's name: it is alone on its connection.
const ID: &str = "tail";

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Message {
    Hello {
        server: String,
        database: String,
        epoch: Epoch,
    },
    Subscribed {
        position: Position,
        warnings: Vec<String>,
    },
    Live {
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
    xid: u32,
    ts: String,
    #[serde(borrow)]
    changes: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    #[serde(borrow)]
    rows: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    name: String,
}

impl Feed {
    /// A subscription that begins at `start`, which is of `epoch` if that is given.
    pub(super) fn new(query: Query, start: Start, epoch: Option<Epoch>) -> Feed {
        Feed {
            begins: query.snapshot,
            query,
            start,
            epoch,
            current: None,
        }
    }

    /// The message that subscribes, from where the feed stands.
    pub(super) fn subscribe(&self) -> String {
        let mut message = json!({"type": "subscribe", "id": ID, "table": self.query.table});
        let mut set = |name: &str, value: serde_json::Value| {
            if let Some(fields) = message.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
        };
        let Query {
            predicate,
            params,
            columns,
            ops,
            old,
            strict,
            ..
        } = &self.query;
        if let Some(predicate) = predicate {
            set("where", json!(predicate));
        }
        for (name, list) in [
            ("params", json!(params)),
            ("columns", json!(columns)),
            ("ops", json!(ops)),
        ] {
            if list != json!([]) {
                set(name, list);
            }
        }
        for (name, flag) in [("old", *old), ("strict", *strict)] {
            if flag {
                set(name, json!(true));
            }
        }
        match self.start {
            _ if self.begins => set("snapshot", json!(true)),
            Start::Now => {}
            Start::Earliest => set("from", json!("earliest")),
            Start::After(position) => set("from", json!(position)),
        }
        if let (Start::After(_) | Start::Earliest, Some(epoch), false) =
            (self.start, &self.epoch, self.begins)
        {
            set("epoch", json!(epoch));
        }
        message.to_string()
    }

    /// Reads a message; what it means goes to `out`, in order.
    ///
    /// # Errors
    /// The subscription is over.
    pub(super) fn receive(&mut self, text: &str, out: &mut Vec<Output>) -> Result<(), Error> {
        let kind: Kind = read(text)?;
        match kind.name.as_str() {
            "tx" => return self.transaction(&read(text)?, out),
            "snapshot" => {
                let Snapshot { rows } = read(text)?;
                let line = |row: &&RawValue| Output::Change(format!(r#"{{"op":"snapshot","row":{row}}}"#));
                out.extend(rows.iter().map(line));
                return Ok(());
            }
            _ => {}
        }
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
            Message::Subscribed { position, warnings } => {
                note(format!("subscribed to {} after {position}", self.query.table));
                warnings.iter().for_each(|w| note(format!("warning: {w}")));
                self.advance(position);
            }
            Message::Live { position } => {
                self.begins = false;
                self.advance(position);
            }
            Message::Progress { position } => self.advance(position),
            Message::Error(problem) if problem.id.is_some() => return Err(self.refusal(&problem)),
            Message::Error(Problem { code, message, .. }) => note(format!("{code}: {message}")),
            Message::Other => {}
        }
        Ok(())
    }

    fn transaction(&mut self, tx: &Transaction<'_>, out: &mut Vec<Output>) -> Result<(), Error> {
        for (index, change) in tx.changes.iter().enumerate() {
            let change: Object = read(change.get())?;
            let seq = change.get("seq").and_then(|seq| seq.get().parse().ok());
            let seq: u32 = seq.ok_or_else(|| Error::Unreadable("a change has no seq".into()))?;
            let is_last = index + 1 == tx.changes.len();
            let after = match is_last {
                true => tx.position,
                false => Position::after_change(tx.position.end, seq),
            };
            let (xid, ts) = (tx.xid, json!(tx.ts));
            let mut line = format!(r#"{{"position":"{after}","seq":{seq},"xid":{xid},"ts":{ts}"#);
            for (name, value) in change.fields() {
                if !matches!(name, "id" | "seq") {
                    line.push_str(&format!(",{}:{value}", json!(name)));
                }
            }
            line.push('}');
            out.push(Output::Change(line));
        }
        self.advance(tx.position);
        Ok(())
    }

    /// Notes that everything up to `position` was given out.
    pub(super) fn advance(&mut self, position: Position) {
        self.start = Start::After(position);
        if self.current.is_some() {
            self.epoch.clone_from(&self.current);
        }
    }

    /// The server's words, under the predicate where they are about a place in it.
    fn refusal(&self, problem: &Problem) -> Error {
        let Problem {
            code,
            message,
            offset,
            ..
        } = problem;
        let mut text = format!("{code}: {message}");
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
        Error::Refused(text)
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;

    const HELLO: &str = r#"{"type":"hello","protocol":1,"server":"walcast/0.1.0","database":"shop","epoch":"e1","position":"0/9","earliest":"0/1"}"#;

    fn query() -> Query {
        Query {
            table: "orders".into(),
            predicate: Some("größe = 1 AND\n amount > x".into()),
            params: vec![],
            columns: vec![],
            ops: vec![],
            old: false,
            strict: false,
            snapshot: false,
        }
    }

    fn receive(feed: &mut Feed, text: &str) -> Vec<Output> {
        let mut out = Vec::new();
        feed.receive(text, &mut out).unwrap();
        out
    }

    fn subscribe(feed: &Feed) -> serde_json::Value {
        serde_json::from_str(&feed.subscribe()).unwrap()
    }

    #[test]
    fn a_subscription_says_what_was_asked_for_and_nothing_else() {
        let bare = Query {
            predicate: None,
            ..query()
        };
        let feed = Feed::new(bare, Start::Now, None);
        assert_eq!(
            subscribe(&feed),
            json!({"type": "subscribe", "id": "tail", "table": "orders"})
        );
        let full = Query {
            predicate: Some("id = $1".into()),
            params: vec![json!("7")],
            columns: vec!["id".into()],
            ops: vec!["insert".into()],
            old: true,
            strict: true,
            ..query()
        };
        let feed = Feed::new(
            full,
            Start::After(Position::after_change(Lsn(255), 3)),
            Some(Epoch("e0".into())),
        );
        let expected = json!({
            "type": "subscribe", "id": "tail", "table": "orders", "where": "id = $1", "params": ["7"],
            "columns": ["id"], "ops": ["insert"], "old": true, "strict": true, "from": "0/FF:3", "epoch": "e0"
        });
        assert_eq!(subscribe(&feed), expected);
    }

    #[test]
    fn the_epoch_goes_with_earliest_as_with_a_position() {
        let feed = Feed::new(query(), Start::Earliest, Some(Epoch("e0".into())));
        assert_eq!(
            (&subscribe(&feed)["from"], &subscribe(&feed)["epoch"]),
            (&json!("earliest"), &json!("e0"))
        );
    }

    #[test]
    fn what_it_subscribes_with_is_what_the_server_reads() {
        let feed = Feed::new(query(), Start::Earliest, None);
        let message = crate::protocol::ClientMessage::parse(&feed.subscribe());
        assert!(
            matches!(message, Ok(crate::protocol::ClientMessage::Subscribe(_))),
            "{message:?}"
        );
    }

    #[test]
    fn a_line_holds_the_position_after_its_change_and_its_row_as_the_server_wrote_it() {
        let mut feed = Feed::new(query(), Start::Now, None);
        receive(&mut feed, HELLO);
        let tx = r#"{"type":"tx","position":"END","xid":7,"ts":"2026-01-01T00:00:00.000001Z","changes":[{"id":"tail","seq":2,"op":"insert","row":{"b":1.50,"a":12345678901234567890.10}},{"id":"tail","seq":4,"op":"delete","cause":"update","key":{"b":1}}]}"#;
        let lines = receive(&mut feed, &tx.replace("END", "0/FF"));
        let expected = [
            r#"{"position":"0/FF:2","seq":2,"xid":7,"ts":"2026-01-01T00:00:00.000001Z","op":"insert","row":{"b":1.50,"a":12345678901234567890.10}}"#,
            r#"{"position":"0/FF","seq":4,"xid":7,"ts":"2026-01-01T00:00:00.000001Z","op":"delete","cause":"update","key":{"b":1}}"#,
        ];
        assert_eq!(lines, expected.map(|line| Output::Change(line.into())));
        assert_eq!(subscribe(&feed)["from"], "0/FF");
        assert_eq!(subscribe(&feed)["epoch"], "e1");
        receive(&mut feed, &tx.replace("END", "0/FF:4"));
        assert_eq!(subscribe(&feed)["from"], "0/FF:4");
    }

    #[test]
    fn it_resumes_from_the_last_position_it_was_told() {
        let mut feed = Feed::new(query(), Start::Earliest, None);
        receive(&mut feed, HELLO);
        assert_eq!(subscribe(&feed)["from"], "earliest");
        let subscribed = r#"{"type":"subscribed","id":"tail","position":"0/1","key":[],"columns":[],"replica_identity":"full","warnings":["careful"]}"#;
        let notes = receive(&mut feed, subscribed);
        assert_eq!(notes.last(), Some(&Output::Note("warning: careful".into())));
        for (message, from) in [
            (r#"{"type":"live","id":"tail","position":"0/5"}"#, "0/5"),
            (r#"{"type":"progress","position":"0/6"}"#, "0/6"),
            (
                r#"{"type":"tx","position":"0/7","xid":1,"ts":"","changes":[]}"#,
                "0/7",
            ),
            (r#"{"type":"invented_later","position":"0/8"}"#, "0/7"),
        ] {
            assert!(receive(&mut feed, message).is_empty());
            assert_eq!(subscribe(&feed)["from"], from);
        }
    }

    #[test]
    fn rows_that_were_there_come_first_and_anew_if_they_are_cut_short() {
        let with_snapshot = Query {
            snapshot: true,
            ..query()
        };
        let mut feed = Feed::new(with_snapshot, Start::Now, None);
        receive(&mut feed, HELLO);
        let subscribed = r#"{"type":"subscribed","id":"tail","position":"0/1","key":[],"columns":[],"replica_identity":"full","warnings":[]}"#;
        receive(&mut feed, subscribed);
        let rows = receive(
            &mut feed,
            r#"{"type":"snapshot","id":"tail","rows":[{"b":1.50},{"b":2}]}"#,
        );
        let expected = [
            r#"{"op":"snapshot","row":{"b":1.50}}"#,
            r#"{"op":"snapshot","row":{"b":2}}"#,
        ];
        assert_eq!(rows, expected.map(|line| Output::Change(line.into())));
        receive(
            &mut feed,
            r#"{"type":"tx","position":"0/3","id":"tail","xid":1,"ts":"","changes":[]}"#,
        );
        let anew = subscribe(&feed);
        assert_eq!((&anew["snapshot"], anew.get("from")), (&json!(true), None));
        receive(&mut feed, r#"{"type":"live","id":"tail","position":"0/5"}"#);
        let resumed = subscribe(&feed);
        assert_eq!((resumed.get("snapshot"), &resumed["from"]), (None, &json!("0/5")));
    }

    #[test]
    fn a_refusal_points_at_the_place_in_the_predicate() {
        let mut feed = Feed::new(query(), Start::Now, None);
        let mut refuse = |offset: &str| {
            let text =
                format!(r#"{{"type":"error","code":"bad_predicate","message":"no","id":"tail"{offset}}}"#);
            feed.receive(&text, &mut Vec::new()).unwrap_err().to_string()
        };
        assert_eq!(refuse(""), "bad_predicate: no");
        assert_eq!(
            refuse(r#","offset":10"#),
            "bad_predicate: no\n  größe = 1 AND\n          ^"
        );
        assert_eq!(
            refuse(r#","offset":26"#),
            "bad_predicate: no\n   amount > x\n            ^"
        );
        // Beyond the text or inside a character: at its end.
        assert!(refuse(r#","offset":3"#).ends_with('^'));
        assert!(refuse(r#","offset":999"#).ends_with('^'));
    }

    #[test]
    fn errors_that_are_not_about_the_subscription_are_told_and_survived() {
        let mut feed = Feed::new(query(), Start::Now, None);
        let text = r#"{"type":"error","code":"rate_limited","message":"slower","retry_after_ms":5}"#;
        assert_eq!(
            receive(&mut feed, text),
            [Output::Note("rate_limited: slower".into())]
        );
    }

    #[test]
    fn messages_that_cannot_be_read_are_errors() {
        let mut feed = Feed::new(query(), Start::Now, None);
        for text in [
            "",
            "[]",
            r#"{"type":"tx"}"#,
            r#"{"type":"live","position":"x"}"#,
            r#"{"type":"tx","position":"0/1","xid":1,"ts":"","changes":[{"op":"insert"}]}"#,
        ] {
            let error = feed.receive(text, &mut Vec::new());
            assert!(matches!(error, Err(Error::Unreadable(_))), "{text}");
        }
    }
}

//! [`ClientMessage`]: what clients send.

use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{Fields, bad, quoted};
use super::{ErrorCode, ErrorMessage};
use crate::event::{TableName, Timestamp};
use crate::lsn::{Epoch, Start};
use crate::types::{Datum, Kind, literal};

/// The longest `id` of a subscription, in characters.
const MAX_ID_CHARS: usize = 128;

/// A message from a client.
#[derive(Clone, Debug)]
pub enum ClientMessage {
    /// Who is asking, or a fresh token for the same subject.
    Auth {
        /// The token, as yet unverified.
        token: Token,
    },
    /// A new subscription.
    Subscribe(Box<Subscribe>),
    /// The end of a subscription.
    Unsubscribe {
        /// The subscription.
        id: String,
    },
    /// Asks for a pong.
    Ping {
        /// Any JSON, for the pong to repeat as it was written.
        reference: Option<Box<RawValue>>,
    },
}

/// A live query, as asked for: not yet checked against the database.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// The client's own name for it, of 1 to 128 characters.
    pub id: String,
    /// The table, or what stands for the logical messages of a prefix.
    pub table: TableName,
    /// The `where` predicate's text.
    pub predicate: Option<String>,
    /// The predicate's parameters, `$1` first. Their numbers hold every digit that was written.
    pub params: Vec<Value>,
    /// The names of the columns wanted, unquoted and as written; all if it is `None`.
    pub columns: Option<Vec<String>>,
    /// The operations wanted.
    pub ops: Ops,
    /// True if to send old rows where they are known.
    pub old: bool,
    /// The opening of it.
    pub opening: Opening,
    /// The epoch that the client's position is of.
    pub epoch: Option<Epoch>,
    /// The way to treat changes of which the log does not tell whether they concern it.
    pub undecided: Undecided,
    /// The value of `now()` in the predicate.
    pub now: Option<Timestamp>,
}

/// The way in which a subscription treats changes of which the log does not tell whether they concern its result: the
/// old row's membership is unknown, or the new row's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Undecided {
    /// It is refused, or ends, where the table's replica identity leaves anything open.
    #[default]
    Refuse,
    /// It gets them: a row that may have left the result by an update is a delete of its key.
    Send,
    /// It does not get updates of rows that are not in the result now and may have been.
    Withhold,
}

/// The opening of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The rows as they are now, then their changes.
    Snapshot,
    /// Changes only, from there on.
    Changes(Start),
}

/// A set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ops {
    /// Rows that come into the result.
    pub insert: bool,
    /// Rows that stay in it with new values.
    pub update: bool,
    /// Rows that leave it.
    pub delete: bool,
    /// The table's truncation.
    pub truncate: bool,
}

impl Ops {
    /// Every operation.
    pub const ALL: Ops = Ops {
        insert: true,
        update: true,
        delete: true,
        truncate: true,
    };
    const NONE: Ops = Ops {
        insert: false,
        update: false,
        delete: false,
        truncate: false,
    };
}

/// A bearer token. Printing it for debugging shows that there is one, not which.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Guards a token.
    pub fn new(token: impl Into<String>) -> Token {
        Token(token.into())
    }

    /// The token's text, for its verification.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl ClientMessage {
    /// Reads the text of one frame.
    ///
    /// The error is for the client, ready to be sent. It names the subscription only if it refuses a `subscribe` whose
    /// `id` could be read: an error with an `id` says that the subscription does not exist, which a malformed
    /// `unsubscribe` does not bring about.
    pub fn parse(text: &str) -> Result<ClientMessage, ErrorMessage> {
        let fields = Fields::parse(text)?;
        let Some(kind) = fields.text("type")? else {
            return Err(bad(format!("the message has no type; {TYPES}")));
        };
        match kind.as_str() {
            "auth" => auth(&fields),
            "subscribe" => subscribe(&fields),
            "unsubscribe" => unsubscribe(&fields),
            "ping" => ping(&fields),
            other => Err(bad(format!(
                "there is no message type {}; {TYPES}",
                quoted(other)
            ))),
        }
    }
}

const TYPES: &str = "it must be one of: auth, subscribe, unsubscribe, ping";

fn auth(fields: &Fields<'_>) -> Result<ClientMessage, ErrorMessage> {
    fields.check("auth", &["token"])?;
    let token = Token(fields.required_text("token")?);
    Ok(ClientMessage::Auth { token })
}

fn unsubscribe(fields: &Fields<'_>) -> Result<ClientMessage, ErrorMessage> {
    fields.check("unsubscribe", &["id"])?;
    let id = id(fields)?;
    Ok(ClientMessage::Unsubscribe { id })
}

fn ping(fields: &Fields<'_>) -> Result<ClientMessage, ErrorMessage> {
    fields.check("ping", &["ref"])?;
    let reference = fields.get("ref")?.map(ToOwned::to_owned);
    Ok(ClientMessage::Ping { reference })
}

fn subscribe(fields: &Fields<'_>) -> Result<ClientMessage, ErrorMessage> {
    let id = id(fields);
    let known = id.clone().ok();
    let asked = id.and_then(|id| subscription(id, fields));
    match (asked, known) {
        (Ok(asked), _) => Ok(ClientMessage::Subscribe(Box::new(asked))),
        (Err(error), Some(id)) => Err(error.about(id)),
        (Err(error), None) => Err(error),
    }
}

/// The fields that `subscribe` may have, but for `type`.
const SUBSCRIBE_FIELDS: [&str; 14] = [
    "id",
    "table",
    "messages",
    "where",
    "params",
    "columns",
    "ops",
    "old",
    "snapshot",
    "from",
    "epoch",
    "undecided",
    "strict",
    "now",
];

/// Those of them that it may have if it is about messages; `table` is null then.
const MESSAGES_FIELDS: [&str; 5] = ["id", "table", "messages", "from", "epoch"];

fn subscription(id: String, fields: &Fields<'_>) -> Result<Subscribe, ErrorMessage> {
    fields.check("subscribe", &SUBSCRIBE_FIELDS)?;
    if let Some(prefix) = fields.text("messages")? {
        return messages(id, prefix, fields);
    }
    let subscribe = Subscribe {
        id,
        table: table(&fields.required_text("table")?)?,
        predicate: fields.text("where")?,
        params: params(fields)?,
        columns: fields.texts("columns")?,
        ops: ops(fields)?,
        old: fields.flag("old")?,
        opening: opening(fields)?,
        epoch: fields.text("epoch")?.map(Epoch),
        undecided: undecided(fields)?,
        now: now(fields)?,
    };
    if subscribe.predicate.is_none() && !subscribe.params.is_empty() {
        return Err(bad("there are params, but no where that uses them"));
    }
    Ok(subscribe)
}

/// A subscription to the logical messages of a prefix: all of them, from some place on.
fn messages(id: String, prefix: String, fields: &Fields<'_>) -> Result<Subscribe, ErrorMessage> {
    if fields.get("table")?.is_some_and(|table| table.get() != "null") {
        return Err(bad("\"messages\" are of no table: leave \"table\" out, or null"));
    }
    let of_tables = SUBSCRIBE_FIELDS
        .iter()
        .filter(|name| !MESSAGES_FIELDS.contains(name));
    for name in of_tables {
        if fields.get(name)?.is_some() {
            return Err(bad(format!("a subscription to messages has no \"{name}\"")));
        }
    }
    Ok(Subscribe {
        id,
        table: TableName::of_messages(prefix),
        predicate: None,
        params: Vec::new(),
        columns: None,
        ops: Ops::ALL,
        old: false,
        opening: opening(fields)?,
        epoch: fields.text("epoch")?.map(Epoch),
        undecided: Undecided::default(),
        now: None,
    })
}

fn id(fields: &Fields<'_>) -> Result<String, ErrorMessage> {
    let id = fields.required_text("id")?;
    match id.chars().take(MAX_ID_CHARS + 1).count() {
        1..=MAX_ID_CHARS => Ok(id),
        _ => Err(bad(format!("\"id\" must be of 1 to {MAX_ID_CHARS} characters"))),
    }
}

fn table(text: &str) -> Result<TableName, ErrorMessage> {
    text.parse().map_err(|error| {
        bad(format!(
            "\"table\" cannot be {}: {error}; write it as in SQL, \"orders\" or \"shop.orders\"",
            quoted(text)
        ))
    })
}

fn params(fields: &Fields<'_>) -> Result<Vec<Value>, ErrorMessage> {
    let params = fields.array("params")?.unwrap_or_default();
    let param = |(i, json): (usize, &RawValue)| {
        exact(json.get()).ok_or_else(|| {
            let message = format!(
                "parameter ${} holds a number or text that cannot be kept as it is written; send the number as text",
                i + 1
            );
            ErrorMessage::new(ErrorCode::BadPredicate, message)
        })
    };
    params.into_iter().enumerate().map(param).collect()
}

fn ops(fields: &Fields<'_>) -> Result<Ops, ErrorMessage> {
    let Some(names) = fields.texts("ops")? else {
        return Ok(Ops::ALL);
    };
    let mut ops = Ops::NONE;
    for name in &names {
        *match name.as_str() {
            "insert" => &mut ops.insert,
            "update" => &mut ops.update,
            "delete" => &mut ops.delete,
            "truncate" => &mut ops.truncate,
            other => {
                return Err(bad(format!(
                    "\"ops\" cannot have {}; it may have: insert, update, delete, truncate",
                    quoted(other)
                )));
            }
        } = true;
    }
    if ops == Ops::NONE {
        return Err(bad(
            "\"ops\" is empty: nothing would ever be sent; leave it out for all",
        ));
    }
    Ok(ops)
}

/// The treatment of undecided changes; `strict` is an older word for two of the ways.
fn undecided(fields: &Fields<'_>) -> Result<Undecided, ErrorMessage> {
    let strict = match fields.get("strict")? {
        None => None,
        Some(_) => Some(fields.flag("strict")?),
    };
    match (fields.text("undecided")?.as_deref(), strict) {
        (None, None) => Ok(Undecided::default()),
        (None, Some(true)) => Ok(Undecided::Refuse),
        (None, Some(false)) => Ok(Undecided::Withhold),
        (Some(_), Some(_)) => Err(bad(
            "\"undecided\" and \"strict\" exclude each other: leave \"strict\" out, which is the older one",
        )),
        (Some("refuse"), None) => Ok(Undecided::Refuse),
        (Some("send"), None) => Ok(Undecided::Send),
        (Some("withhold"), None) => Ok(Undecided::Withhold),
        (Some(other), None) => Err(bad(format!(
            "\"undecided\" cannot be {}; it may be: refuse, send, withhold",
            quoted(other)
        ))),
    }
}

/// A time that the clock can tell, of the years 1970 to 9999.
fn now(fields: &Fields<'_>) -> Result<Option<Timestamp>, ErrorMessage> {
    let Some(text) = fields.text("now")? else {
        return Ok(None);
    };
    match literal(&Kind::TimestampTz, &text) {
        Ok(Datum::Timestamp(micros)) if Timestamp::CAN_BE_WRITTEN.contains(&Timestamp(micros)) => {
            Ok(Some(Timestamp(micros)))
        }
        _ => Err(bad(format!(
            "\"now\" cannot be {}: it is a time such as \"2024-01-31T10:00:00.123456Z\"",
            quoted(&text)
        ))),
    }
}

fn opening(fields: &Fields<'_>) -> Result<Opening, ErrorMessage> {
    match (fields.flag("snapshot")?, fields.text("from")?.as_deref()) {
        (true, None) => Ok(Opening::Snapshot),
        (true, Some(_)) => Err(bad(
            "\"snapshot\" and \"from\" exclude each other: a snapshot says itself where it stands",
        )),
        (false, None) => Ok(Opening::Changes(Start::Now)),
        (false, Some("earliest")) => Ok(Opening::Changes(Start::Earliest)),
        (false, Some(from)) => match from.parse() {
            Ok(position) => Ok(Opening::Changes(Start::After(position))),
            Err(_) => Err(ErrorMessage::new(
                ErrorCode::ResumeInvalid,
                format!(
                    "\"from\" cannot be {}: it is a position such as \"16/B374D848\" or \"16/B374D848:17\", or \
                     \"earliest\"",
                    quoted(from)
                ),
            )),
        },
    }
}

/// The value, if it can hold what is written: a number with more digits than we can hold would match other rows than
/// those asked for.
fn exact(json: &str) -> Option<Value> {
    let value = serde_json::from_str(json).ok()?;
    numbers(json)
        .all(|number| {
            let held: Result<serde_json::Number, _> = number.parse();
            held.is_ok_and(|held| Decimal::read(&held.to_string()) == Decimal::read(number))
        })
        .then_some(value)
}

/// The numbers in a JSON text, as written.
fn numbers(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit())?;
            let (_, found) = rest.split_at(start);
            if let Some(text) = found.strip_prefix('"') {
                rest = after_text(text);
                continue;
            }
            let end = found
                .find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
                .unwrap_or(found.len());
            let (number, after) = found.split_at(end);
            rest = after;
            return Some(number);
        }
    })
}

/// The rest behind the text whose opening quote has been read.
fn after_text(mut text: &str) -> &str {
    while let Some(at) = text.find(['"', '\\']) {
        let (_, found) = text.split_at(at);
        let mut after = found.chars();
        if after.next() == Some('"') {
            return after.as_str();
        }
        after.next();
        text = after.as_str();
    }
    ""
}

/// A JSON number as the digits that count and the power of ten of the last of them; zero has no digits.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Reads a number's text; `None` if its exponent is beyond all bounds.
    fn read(number: &str) -> Option<Decimal> {
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(mantissa) => (true, mantissa),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let digits = all.trim_end_matches('0');
        let dropped = all.len() - digits.len();
        let exponent = exponent.parse::<i32>().ok()?;
        let digits = digits.trim_start_matches('0').to_owned();
        let is_zero = digits.is_empty();
        Some(Decimal {
            negative: negative && !is_zero,
            digits,
            exponent: if is_zero {
                0
            } else {
                i64::from(exponent) - fraction.len() as i64 + dropped as i64
            },
        })
    }
}

#[cfg(test)]
mod tests;

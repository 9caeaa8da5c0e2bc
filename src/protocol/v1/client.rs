//! [`ClientMessage::parse`]: the messages that clients send.

mod order;

use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::{Fields, bad, quoted};
use crate::event::{TableName, Timestamp};
use crate::lsn::{Epoch, Start};
use crate::protocol::{
    ClientMessage, ErrorCode, ErrorMessage, Opening, Ops, Ordered, Reference, Subscribe, Token, Undecided,
    Wanted,
};
use crate::types::{Datum, Kind, literal};

/// The longest `id` of a subscription, in characters.
const MAX_ID_CHARS: usize = 128;

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
    let token = Token::new(fields.required_text("token")?);
    Ok(ClientMessage::Auth { token })
}

fn unsubscribe(fields: &Fields<'_>) -> Result<ClientMessage, ErrorMessage> {
    fields.check("unsubscribe", &["id"])?;
    let id = id(fields)?;
    Ok(ClientMessage::Unsubscribe { id })
}

fn ping(fields: &Fields<'_>) -> Result<ClientMessage, ErrorMessage> {
    let reference = fields.get("ref")?.map(Reference::new);
    let known = reference.clone().filter(Reference::is_short);
    read_ping(reference, fields).map_err(|error| error.answering(known))
}

fn read_ping(reference: Option<Reference>, fields: &Fields<'_>) -> Result<ClientMessage, ErrorMessage> {
    fields.check("ping", &["ref", "reach"])?;
    let reach = match fields.text("reach")? {
        None => None,
        Some(text) => match text.parse() {
            Ok(place) => Some(place),
            Err(_) => {
                let message = format!(
                    "\"reach\" cannot be {}: it is a position such as \"16/B374D848\" or \"16/B374D848:17\"",
                    quoted(&text)
                );
                return Err(bad(message));
            }
        },
    };
    if reach.is_some() && reference.as_ref().is_some_and(|reference| !reference.is_short()) {
        let most = Reference::MAX_KEPT_BYTES;
        return Err(bad(format!(
            "\"ref\" may have {most} bytes of JSON beside a \"reach\""
        )));
    }
    Ok(ClientMessage::Ping { reference, reach })
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
const SUBSCRIBE_FIELDS: [&str; 18] = [
    "id",
    "table",
    "messages",
    "content",
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
    "order_by",
    "limit",
    "bound",
];

/// Those of them that it may have if it is about messages; `table` is null then.
const MESSAGES_FIELDS: [&str; 6] = ["id", "table", "messages", "content", "from", "epoch"];

/// The predicate of those whose content is the parameter.
const CONTENT_IS: &str = "content = $1";

fn subscription(id: String, fields: &Fields<'_>) -> Result<Subscribe, ErrorMessage> {
    fields.check("subscribe", &SUBSCRIBE_FIELDS)?;
    if let Some(prefix) = fields.text("messages")? {
        return messages(id, prefix, fields);
    }
    if fields.get("content")?.is_some() {
        return Err(bad(
            "\"content\" is that of messages: a subscription to rows has \"where\"",
        ));
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
        now: time(fields, "now")?,
        order: order::read(fields)?,
    };
    if let Some(Ordered {
        wanted: Wanted::First(_),
        ..
    }) = subscribe.order
        && subscribe.opening != Opening::Snapshot
    {
        return Err(bad(
            "\"limit\" is that of a snapshot: set \"snapshot\", or send the \"bound\" that it told",
        ));
    }
    if subscribe.predicate.is_none() && !subscribe.params.is_empty() {
        return Err(bad("there are params, but no where that uses them"));
    }
    Ok(subscribe)
}

/// A subscription to the logical messages of a prefix, from some place on: to all of them, or to those of one content.
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
    let content = fields.text("content")?;
    Ok(Subscribe {
        id,
        table: TableName::of_messages(prefix),
        predicate: content.as_ref().map(|_| CONTENT_IS.to_owned()),
        params: content.into_iter().map(Value::String).collect(),
        columns: None,
        // Each is one.
        ops: Ops {
            insert: true,
            ..Ops::NONE
        },
        old: false,
        opening: opening(fields)?,
        epoch: fields.text("epoch")?.map(Epoch),
        undecided: Undecided::default(),
        now: None,
        order: None,
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
        if !ops.add(name) {
            return Err(bad(format!(
                "\"ops\" cannot have {}; it may have: {}",
                quoted(name),
                Ops::NAMES.join(", ")
            )));
        }
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

/// The time in a field: one that the clock can tell, of the years 1970 to 9999.
fn time(fields: &Fields<'_>, name: &str) -> Result<Option<Timestamp>, ErrorMessage> {
    let Some(text) = fields.text(name)? else {
        return Ok(None);
    };
    match literal(&Kind::TimestampTz, &text) {
        Ok(Datum::Timestamp(micros)) if Timestamp::CAN_BE_WRITTEN.contains(&Timestamp(micros)) => {
            Ok(Some(Timestamp(micros)))
        }
        _ => Err(bad(format!(
            "\"{name}\" cannot be {}: it is a time such as \"2024-01-31T10:00:00.123456Z\"",
            quoted(&text)
        ))),
    }
}

fn opening(fields: &Fields<'_>) -> Result<Opening, ErrorMessage> {
    if let Some(from) = fields.get("from")?.filter(|from| from.get().starts_with('{')) {
        return since(from, fields);
    }
    match (fields.flag("snapshot")?, fields.text("from")?.as_deref()) {
        (true, None) => Ok(Opening::Snapshot),
        (true, Some(_)) => Err(bad(EXCLUDED)),
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

const EXCLUDED: &str = "\"snapshot\" and \"from\" exclude each other: a snapshot says itself where it stands";

/// The opening from a time on.
fn since(from: &RawValue, fields: &Fields<'_>) -> Result<Opening, ErrorMessage> {
    if fields.flag("snapshot")? {
        return Err(bad(EXCLUDED));
    }
    let from = Fields::parse(from.get())?;
    from.check_all("\"from\"", &["time"])?;
    match time(&from, "time")? {
        Some(time) => Ok(Opening::Since(time)),
        None => Err(bad("\"from\" is a position, \"earliest\", or {\"time\": \"…\"}")),
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

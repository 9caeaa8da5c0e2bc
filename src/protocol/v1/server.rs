//! [`ServerMessage`]: what the server sends, but for the messages that hold rows.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::event::ReplicaIdentity;
use crate::lsn::{Epoch, Lsn, Position};
use crate::protocol::{Detail, ErrorMessage, Reference};

/// A message to a client.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerMessage<'a> {
    /// The first message of a connection; with auth required, only after a good token.
    Hello(Hello<'a>),
    /// The subscription is active.
    Subscribed(Subscribed<'a>),
    /// Snapshot or catch-up is over: the subscription moves with the connection from here on.
    Live {
        /// The subscription.
        id: &'a str,
        /// Up to where it is complete.
        position: Position,
    },
    /// All live subscriptions are complete up to here, although nothing matched.
    Progress {
        /// The end of the last transaction that was looked at.
        position: Lsn,
    },
    /// The subscription is over, as asked.
    Unsubscribed {
        /// The subscription.
        id: &'a str,
    },
    /// The answer to a ping.
    Pong {
        /// The ping's `ref`, as it was written; left out if it had none.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        reference: Option<&'a Reference>,
        /// The place up to which the connection is complete, if the ping asked for one to be reached.
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<Position>,
    },
    /// The token's time is over soon: another one is to be sent.
    TokenExpiring {
        /// The time from which on the token is not good any more, in RFC 3339.
        expires: String,
    },
    /// Something went wrong.
    Error(ErrorMessage),
}

impl ServerMessage<'_> {
    /// The message as the text of a frame.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and lists of them have a JSON form")
    }
}

impl Serialize for ErrorMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("code", self.code.as_str())?;
        fields.serialize_entry("message", &self.message)?;
        if let Some(id) = &self.id {
            fields.serialize_entry("id", id)?;
        }
        if let Some(reference) = &self.reference {
            fields.serialize_entry("ref", reference)?;
        }
        match &self.detail {
            Some(Detail::Offset(offset)) => fields.serialize_entry("offset", offset)?,
            Some(Detail::Earliest(position)) => fields.serialize_entry("earliest", position)?,
            Some(Detail::OffsetOfLimit(offset, _)) => fields.serialize_entry("offset", offset)?,
            Some(Detail::RetryAfter { ms, .. }) => fields.serialize_entry("retry_after_ms", ms)?,
            Some(Detail::Limit(_)) | None => {}
        }
        if let Some(limit) = self.limit() {
            fields.serialize_entry("limit", limit)?;
        }
        fields.end()
    }
}

/// The server's greeting: who it is, and what can be asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hello<'a> {
    /// The protocol's version, [`Hello::PROTOCOL`].
    pub protocol: u32,
    /// The server's name and version.
    pub server: &'a str,
    /// The database's name.
    pub database: &'a str,
    /// The history that positions belong to.
    pub epoch: &'a Epoch,
    /// The newest position.
    pub position: Lsn,
    /// The oldest position that can be resumed from.
    pub earliest: Lsn,
    /// The optional parts of the protocol that can be used here, [`Hello::FEATURES`].
    pub features: &'a [&'a str],
    /// The limits of this connection.
    pub limits: HelloLimits,
}

/// The limits that a client may want to know before it reaches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct HelloLimits {
    /// The most subscriptions that the connection may have at the same time.
    pub subscriptions: usize,
    /// The most subscriptions of the client's subject, on all its connections.
    pub subject_subscriptions: usize,
    /// The most snapshots of the client's subject that wait or are being sent at the same moment.
    pub subject_snapshots: usize,
    /// The largest message that the client may send, in bytes.
    pub message_bytes: usize,
    /// The longest text of a predicate, in bytes.
    pub predicate_text_bytes: usize,
}

impl Hello<'_> {
    /// The protocol's version that this module speaks.
    pub const PROTOCOL: u32 = 1;

    /// The names of the optional parts of the protocol that this module speaks. A server refuses fields that it does
    /// not know, so clients look here before they send one of a later version than the first.
    pub const FEATURES: &'static [&'static str] = &["reach", "content", "time", "range"];
}

/// The description of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subscribed<'a> {
    /// The subscription.
    pub id: &'a str,
    /// It starts after this.
    pub position: Position,
    /// The names of the columns that identify a row, in the order of the identity's index.
    pub key: Vec<&'a str>,
    /// The columns of its rows.
    pub columns: Vec<ColumnInfo<'a>>,
    /// The part of old rows that the log holds.
    pub replica_identity: ReplicaIdentity,
    /// The value of `now()` in its predicate, if that asks for it, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
    /// The values of the order's columns up to which its rows are those of the subscription, if it has an order; `null`
    /// if they are all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<serde_json::Value>,
    /// Warnings of what this subscription cannot know, with the cure.
    pub warnings: Vec<String>,
}

/// A column of a subscription's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnInfo<'a> {
    /// The name, unquoted.
    pub name: &'a str,
    /// The type as `format_type` prints it.
    #[serde(rename = "type")]
    pub ty: &'a str,
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::protocol::ErrorCode;

    #[test]
    fn messages_are_written_in_the_order_of_the_documentation() {
        let epoch = Epoch("7300-1".into());
        let hello = Hello {
            protocol: Hello::PROTOCOL,
            server: "walcast/0.1.0",
            database: "shop",
            epoch: &epoch,
            position: Lsn(0x16_B374_D848),
            earliest: Lsn(0x16_0000_0000),
            features: &["reach"],
            limits: HelloLimits {
                subscriptions: 1000,
                subject_subscriptions: 2000,
                subject_snapshots: 100,
                message_bytes: 65_536,
                predicate_text_bytes: 16_384,
            },
        };
        let subscribed = Subscribed {
            id: "open \"orders\"",
            position: Position::after_change(Lsn(0x16_B374_D848), 17),
            key: vec!["id"],
            columns: vec![ColumnInfo {
                name: "id",
                ty: "bigint",
            }],
            replica_identity: ReplicaIdentity::Full,
            now: None,
            bound: None,
            warnings: vec!["careful".into()],
        };
        let at_a_time = Subscribed {
            now: Some("2024-01-31T10:00:00.000000Z".into()),
            key: Vec::new(),
            columns: Vec::new(),
            ..subscribed.clone()
        };
        let reference = RawValue::from_string(r#"{"a": [1.50, "x"]}"#.into()).unwrap();
        let reference = Reference::new(&reference);
        let position = Lsn(255);
        let pong = |reference, position| ServerMessage::Pong { reference, position };
        for (message, json) in [
            (
                ServerMessage::Hello(hello),
                r#"{"type":"hello","protocol":1,"server":"walcast/0.1.0","database":"shop","epoch":"7300-1","position":"16/B374D848","earliest":"16/0","features":["reach"],"limits":{"subscriptions":1000,"subject_subscriptions":2000,"subject_snapshots":100,"message_bytes":65536,"predicate_text_bytes":16384}}"#,
            ),
            (
                ServerMessage::Subscribed(subscribed),
                r#"{"type":"subscribed","id":"open \"orders\"","position":"16/B374D848:17","key":["id"],"columns":[{"name":"id","type":"bigint"}],"replica_identity":"full","warnings":["careful"]}"#,
            ),
            (
                ServerMessage::Subscribed(at_a_time),
                r#"{"type":"subscribed","id":"open \"orders\"","position":"16/B374D848:17","key":[],"columns":[],"replica_identity":"full","now":"2024-01-31T10:00:00.000000Z","warnings":["careful"]}"#,
            ),
            (
                ServerMessage::Live {
                    id: "a",
                    position: Position::after(position),
                },
                r#"{"type":"live","id":"a","position":"0/FF"}"#,
            ),
            (
                ServerMessage::Progress { position },
                r#"{"type":"progress","position":"0/FF"}"#,
            ),
            (
                ServerMessage::Unsubscribed { id: "a" },
                r#"{"type":"unsubscribed","id":"a"}"#,
            ),
            (
                pong(Some(&reference), None),
                r#"{"type":"pong","ref":{"a": [1.50, "x"]}}"#,
            ),
            (pong(None, None), r#"{"type":"pong"}"#),
            (
                pong(Some(&reference), Some(Position::after_change(position, 3))),
                r#"{"type":"pong","ref":{"a": [1.50, "x"]},"position":"0/FF:3"}"#,
            ),
        ] {
            assert_eq!(message.to_json(), json);
        }
    }

    #[test]
    fn an_error_carries_its_details_by_their_names() {
        let json = |error: ErrorMessage| ServerMessage::Error(error).to_json();
        assert_eq!(
            json(ErrorMessage::new(ErrorCode::BadRequest, "say \"what\"")),
            r#"{"type":"error","code":"bad_request","message":"say \"what\""}"#
        );
        let about = |code| ErrorMessage::new(code, "m").about("a");
        for (error, rest) in [
            (
                about(ErrorCode::BadPredicate).with(Detail::Offset(7)),
                r#""offset":7"#,
            ),
            (
                about(ErrorCode::ResumeExpired).with(Detail::Earliest(Lsn(0x16_0000_00FF))),
                r#""earliest":"16/FF""#,
            ),
            (
                about(ErrorCode::LimitExceeded).with(Detail::Limit("subscriptions")),
                r#""limit":"subscriptions""#,
            ),
            (
                about(ErrorCode::BadPredicate).with(Detail::OffsetOfLimit(7, "predicate_size")),
                r#""offset":7,"limit":"predicate_size""#,
            ),
            (
                about(ErrorCode::LimitExceeded)
                    .answering(Some(Reference::new(
                        &RawValue::from_string("[1]".into()).unwrap(),
                    )))
                    .with(Detail::Limit("reaches")),
                r#""ref":[1],"limit":"reaches""#,
            ),
            (
                about(ErrorCode::RateLimited).with(Detail::RetryAfter {
                    limit: "messages",
                    ms: 250,
                }),
                r#""retry_after_ms":250,"limit":"messages""#,
            ),
        ] {
            let code = error.code;
            assert_eq!(
                json(error),
                format!(r#"{{"type":"error","code":"{code}","message":"m","id":"a",{rest}}}"#)
            );
        }
    }
}

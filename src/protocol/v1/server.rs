//! [`ServerMessage`]: what the server sends, but for the messages that hold rows.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::event::ReplicaIdentity;
use crate::lsn::{Epoch, Lsn, Position};
use crate::protocol::{Detail, ErrorMessage};

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
        reference: Option<&'a RawValue>,
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
        match &self.detail {
            Some(Detail::Offset(offset)) => fields.serialize_entry("offset", offset)?,
            Some(Detail::Earliest(position)) => fields.serialize_entry("earliest", position)?,
            Some(Detail::Limit(name)) => fields.serialize_entry("limit", name)?,
            Some(Detail::RetryAfterMs(time)) => fields.serialize_entry("retry_after_ms", time)?,
            None => {}
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
}

impl Hello<'_> {
    /// The protocol's version that this module speaks.
    pub const PROTOCOL: u32 = 1;
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
            warnings: vec!["careful".into()],
        };
        let at_a_time = Subscribed {
            now: Some("2024-01-31T10:00:00.000000Z".into()),
            key: Vec::new(),
            columns: Vec::new(),
            ..subscribed.clone()
        };
        let reference = RawValue::from_string(r#"{"a": [1.50, "x"]}"#.into()).unwrap();
        let position = Lsn(255);
        let pong = |reference| ServerMessage::Pong { reference };
        for (message, json) in [
            (
                ServerMessage::Hello(hello),
                r#"{"type":"hello","protocol":1,"server":"walcast/0.1.0","database":"shop","epoch":"7300-1","position":"16/B374D848","earliest":"16/0"}"#,
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
                pong(Some(&reference)),
                r#"{"type":"pong","ref":{"a": [1.50, "x"]}}"#,
            ),
            (pong(None), r#"{"type":"pong"}"#),
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
                about(ErrorCode::RateLimited).with(Detail::RetryAfterMs(250)),
                r#""retry_after_ms":250"#,
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

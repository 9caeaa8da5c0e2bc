//! `/api/parse`: what would become of a subscription, as a session would say it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::event::Relation;
use crate::filter::Filed;
use crate::log::Log;
use crate::protocol::{Caller, ClientMessage, Detail, ErrorCode, ErrorMessage};
use crate::session::{Explained, Services, explain};
use crate::types::json::Numbers;

/// The caller's address, on which no answer depends.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The answer to a body of `/api/parse`: the fields of a `subscribe` without `type` and `id`.
pub(super) async fn parse<H: Log>(services: &Services<H>, body: &str) -> Value {
    match explained(services, body).await {
        Ok(explained) => accepted(&explained),
        Err(error) => refused(&error),
    }
}

async fn explained<H: Log>(services: &Services<H>, body: &str) -> Result<Explained, ErrorMessage> {
    let bad = |message: String| ErrorMessage::new(ErrorCode::BadRequest, message);
    let fields: Map<String, Value> =
        serde_json::from_str(body).map_err(|error| bad(format!("the body is no JSON object: {error}")))?;
    if fields.contains_key("type") || fields.contains_key("id") {
        return Err(bad("leave \"type\" and \"id\" out".to_owned()));
    }
    let mut message = fields;
    message.insert("type".to_owned(), json!("subscribe"));
    message.insert("id".to_owned(), json!("console"));
    let subscribe = match ClientMessage::parse(&Value::from(message).to_string())? {
        ClientMessage::Subscribe(subscribe) => subscribe,
        _ => return Err(bad("this is no subscription".to_owned())),
    };
    let caller = Caller {
        connection: 0,
        peer: NOBODY,
        client: NOBODY.ip(),
        numbers: Numbers::Strings,
        subject: None,
    };
    explain(services, &subscribe, &caller).await
}

fn accepted(explained: &Explained) -> Value {
    let relation = &explained.relation;
    let columns = explained.columns.iter();
    let columns = columns.filter_map(|&index| relation.columns.get(index));
    let columns: Vec<Value> = columns
        .map(|column| json!({"name": column.name, "type": column.ty.name}))
        .collect();
    let filed: Vec<Value> = explained
        .filed
        .iter()
        .map(|filed| filing(filed, relation))
        .collect();
    json!({
        "ok": true,
        "filed": filed,
        "warnings": explained.warnings,
        "columns": columns,
        "key": relation.key_names(),
        "replica_identity": relation.replica_identity.to_string(),
    })
}

fn filing(filed: &Filed, relation: &Relation) -> Value {
    let columns = filed.columns.iter();
    let names: Vec<&str> = columns
        .filter_map(|&index| Some(&*relation.columns.get(index)?.name))
        .collect();
    json!({
        "kind": filed.kind.as_str(),
        "column": names.first(),
        "columns": names,
        "text": filed.text,
    })
}

fn refused(error: &ErrorMessage) -> Value {
    let offset = match error.detail {
        Some(Detail::Offset(offset) | Detail::OffsetOfLimit(offset, _)) => Some(offset),
        _ => None,
    };
    json!({
        "ok": false,
        "error": {
            "code": error.code.as_str(),
            "message": error.message,
            "offset": offset,
            "limit": error.limit(),
        },
    })
}

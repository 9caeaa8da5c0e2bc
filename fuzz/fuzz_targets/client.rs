//! Text as a client's message: an error that can be sent, or a message whose parts hold what they promise.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walcast::protocol::{ClientMessage, Reference, ServerMessage};

/// Only its syntax: a `ref` is repeated as it is, escapes that stand for no character included.
fn is_json(text: &str) -> bool {
    let read: Result<&serde_json::value::RawValue, _> = serde_json::from_str(text);
    read.is_ok()
}

fuzz_target!(|text: &str| {
    match ClientMessage::parse(text) {
        Ok(ClientMessage::Subscribe(subscribe)) => {
            assert!((1..=128).contains(&subscribe.id.chars().count()));
            assert_eq!(subscribe.table.to_string().parse(), Ok(subscribe.table));
        }
        Ok(ClientMessage::Ping { reference, reach }) => {
            assert!(reach.is_none() || reference.as_ref().is_none_or(Reference::is_short));
            let pong = ServerMessage::Pong {
                reference: reference.as_ref(),
                position: reach,
            };
            assert!(is_json(&pong.to_json()));
        }
        Ok(_) => {}
        Err(error) => {
            let json = ServerMessage::Error(error).to_json();
            assert!(is_json(&json));
            assert!(json.len() < 2_000);
        }
    }
});

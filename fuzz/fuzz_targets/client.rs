//! Text as a client's message: an error that can be sent, or a message whose parts hold what they promise.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walcast::protocol::{ClientMessage, ServerMessage};

fuzz_target!(|text: &str| {
    match ClientMessage::parse(text) {
        Ok(ClientMessage::Subscribe(subscribe)) => {
            assert!((1..=128).contains(&subscribe.id.chars().count()));
            assert_eq!(subscribe.table.to_string().parse(), Ok(subscribe.table));
        }
        Ok(ClientMessage::Ping { reference }) => {
            let pong = ServerMessage::Pong {
                reference: reference.as_deref(),
            };
            // Only its syntax: a `ref` is repeated as it is, escapes that stand for no character included.
            let json = pong.to_json();
            let echo: Result<&serde_json::value::RawValue, _> = serde_json::from_str(&json);
            assert!(echo.is_ok());
        }
        Ok(_) => {}
        Err(error) => {
            let json = ServerMessage::Error(error).to_json();
            assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
            assert!(json.len() < 2_000);
        }
    }
});

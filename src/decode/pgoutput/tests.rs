//! Tests of the parent module.

use super::*;
use crate::event::Truncated;

fn refused(message: &[u8]) -> Error {
    Message::parse(message).unwrap_err()
}

#[test]
fn what_is_no_message_is_refused_by_name() {
    assert_eq!(
        refused(b""),
        Error::Truncated {
            field: "message type"
        }
    );
    assert_eq!(refused(b"Z"), Error::UnknownMessage(b'Z'));
    for (tag, name) in [(b'b', "Begin Prepare"), (b'p', "Stream Prepare")] {
        assert_eq!(refused(&[tag, 0, 0, 0, 1]), Error::Unexpected(name));
    }
}

#[test]
fn bytes_without_a_meaning_are_refused() {
    let bad = |field, value| Error::BadByte { field, value };
    assert_eq!(refused(b"C\x01"), bad("flags of a commit", 1));
    assert_eq!(refused(b"R\0\0\0\x01s\0t\0x\0\0"), bad("replica identity", b'x'));
    assert_eq!(refused(b"I\0\0\0\x01O\0\0"), bad("kind of row", b'O'));
    assert_eq!(refused(b"D\0\0\0\x01N\0\0"), bad("kind of row", b'N'));
    assert_eq!(refused(b"U\0\0\0\x01K\0\0O\0\0"), bad("kind of row", b'O'));
    let binary = Error::Tuple {
        row: "new row",
        cause: Truncated::Tag(b'b'),
    };
    assert_eq!(refused(b"I\0\0\0\x01N\0\x01b\0\0\0\0"), binary);
}

#[test]
fn names_that_are_not_utf8_are_refused() {
    let field = "relation's name";
    assert_eq!(refused(b"R\0\0\0\x01s\0\xff\0d\0\0"), Error::NotUtf8 { field });
}

#[test]
fn counts_that_promise_too_much_are_refused_without_making_room_for_it() {
    assert_eq!(
        refused(b"T\xff\xff\xff\xff\0\0\0\0\x01"),
        Error::Truncated {
            field: "relation ids"
        }
    );
    assert_eq!(
        refused(b"R\0\0\0\x01s\0t\0d\xff\xff"),
        Error::Truncated {
            field: "column's flags"
        }
    );
}

#[test]
fn the_stray_stream_abort_of_version_18_is_read() {
    assert_eq!(
        Message::parse(b"A\0\0\x02\xe7\0\0\x02\xe8"),
        Ok(Message::StreamAbort {
            xid: 0x2e7,
            subxid: 0x2e8
        })
    );
    assert_eq!(
        refused(b"A\0\0\x02\xe7"),
        Error::Truncated {
            field: "subtransaction's xid"
        }
    );
}

#[test]
fn the_schema_of_built_in_types_has_its_name() {
    let message = Message::parse(b"Y\0\0\0\x19\0text\0");
    assert_eq!(
        message,
        Ok(Message::Type {
            oid: 25,
            schema: "pg_catalog",
            name: "text"
        })
    );
}

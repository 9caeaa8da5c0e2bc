//! Tests of the parent module.

use super::*;
use crate::event::Timestamp;
use crate::lsn::Lsn;

const FIRST: &[u8] = b"S\0\0\0\x07\x01";
const AGAIN: &[u8] = b"S\0\0\0\x07\0";
const STOP: &[u8] = b"E";

fn commit(xid: u8) -> Vec<u8> {
    let mut message = vec![b'c', 0, 0, 0, xid, 0];
    for number in [10_u64, 20, 30] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message
}

fn abort(xid: u8, subxid: u8) -> [u8; 9] {
    [b'A', 0, 0, 0, xid, 0, 0, 0, subxid]
}

/// The last of some messages, whose predecessors are all in order, as it was routed.
fn last(messages: &[&[u8]]) -> Result<String, Error> {
    let mut streams = Streams::default();
    let (last, before) = messages.split_last().unwrap();
    for message in before {
        let _in_order = streams.route(message).unwrap();
    }
    streams.route(last).map(|routed| format!("{routed:?}"))
}

#[test]
fn a_transaction_is_put_aside_part_by_part_and_read_when_it_commits() {
    let mut streams = Streams::default();
    assert!(matches!(streams.route(FIRST), Ok(Routed::Nothing)));
    assert!(streams.is_open());
    let part = Part {
        xid: 7,
        subxid: 9,
        tag: b'I',
        rest: b"\0\0\0\x01N\0\0",
    };
    match streams.route(b"I\0\0\0\x09\0\0\0\x01N\0\0") {
        Ok(Routed::Part(found)) => assert_eq!(found, part),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        streams.route(b"O\0\0\0\0\0\0\0\x01x\0"),
        Ok(Routed::Nothing)
    ));
    assert!(matches!(streams.route(STOP), Ok(Routed::Nothing)));
    assert!(!streams.is_open());
    // Others come between the blocks.
    let mut other = commit(1);
    other.drain(1..5);
    *other.first_mut().unwrap() = b'C';
    match streams.route(&other) {
        Ok(Routed::Message(Message::Commit { .. })) => {}
        other => panic!("{other:?}"),
    }
    assert!(matches!(streams.route(AGAIN), Ok(Routed::Nothing)));
    assert!(matches!(streams.route(STOP), Ok(Routed::Nothing)));
    match streams.route(&commit(7)) {
        Ok(Routed::Commit {
            xid: 7,
            begin,
            commit,
        }) => {
            let at = Lsn(10);
            let committed_at = Timestamp(30);
            assert_eq!(
                begin,
                Message::Begin {
                    commit: at,
                    committed_at,
                    xid: 7
                }
            );
            let end = Lsn(20);
            assert_eq!(
                commit,
                Message::Commit {
                    commit: at,
                    end,
                    committed_at
                }
            );
        }
        other => panic!("{other:?}"),
    }
    // The number can come again.
    assert!(matches!(streams.route(FIRST), Ok(Routed::Nothing)));
}

#[test]
fn a_rollback_concerns_the_whole_or_a_part_and_may_be_of_what_never_came() {
    assert_eq!(last(&[&abort(7, 7)]).unwrap(), "Abort { xid: 7 }");
    assert_eq!(
        last(&[FIRST, STOP, &abort(7, 9)]).unwrap(),
        "AbortSub { xid: 7, subxid: 9 }"
    );
    assert_eq!(last(&[FIRST, STOP, &abort(7, 9), AGAIN]).unwrap(), "Nothing");
    assert_eq!(last(&[FIRST, STOP, &abort(7, 7), FIRST]).unwrap(), "Nothing");
}

#[test]
fn blocks_out_of_order_are_refused() {
    let misplaced = |message, place| Err(Error::Misplaced { message, place });
    assert_eq!(last(&[STOP]), misplaced("Stream Stop", "outside"));
    assert_eq!(last(&[FIRST, FIRST]), misplaced("Stream Start", "inside"));
    assert_eq!(last(&[FIRST, &commit(7)]), misplaced("Stream Commit", "inside"));
    let unknown = |how| Err(Error::Unknown { xid: 7, how });
    assert_eq!(last(&[AGAIN]), unknown("goes on without having begun"));
    assert_eq!(last(&[FIRST, STOP, FIRST]), unknown("begins twice"));
    assert_eq!(last(&[&commit(7)]), unknown("commits without having begun"));
    assert_eq!(
        last(&[FIRST, STOP, &commit(7), &commit(7)]),
        unknown("commits without having begun")
    );
    assert_eq!(
        last(&[FIRST, STOP, &abort(7, 7), AGAIN]),
        unknown("goes on without having begun")
    );
}

#[test]
fn what_is_cut_short_is_refused() {
    for message in [FIRST, &commit(7), &abort(7, 9)] {
        for cut in 0..message.len() {
            assert!(matches!(
                last(&[&message[..cut]]),
                Err(Error::Message(pgoutput::Error::Truncated { .. }))
            ));
        }
    }
    let cut = pgoutput::Error::Truncated { field: "xid" };
    assert_eq!(last(&[FIRST, b"I\0\0\0"]), Err(Error::Message(cut)));
    assert!(last(&[FIRST, b"E\0"]).is_err());
    assert!(last(&[FIRST, b"Z"]).is_err());
}

#[test]
fn a_logical_message_is_told_by_its_prefix() {
    let part = |tag, rest| Part {
        xid: 7,
        subxid: 7,
        tag,
        rest,
    };
    let rest = b"\x01\0\0\0\0\0\0\0\x09app\0\0\0\0\x01x";
    assert_eq!(part(b'M', rest).logical_prefix(), Ok(Some("app")));
    assert_eq!(part(b'I', rest).logical_prefix(), Ok(None));
    for cut in 0..13 {
        assert!(part(b'M', &rest[..cut]).logical_prefix().is_err(), "{cut}");
    }
}

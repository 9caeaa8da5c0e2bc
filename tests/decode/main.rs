//! Messages of real servers, decoded: the captures in `tests/data/pgoutput`, and the same workloads on a live server.
//!
//! Each capture is three files. `x.sql` is the workload. `x.messages` is what a server sent for it: one message a line,
//! as the position and the transaction ID that the server gives it, and its bytes in hex. `x.events` is what it means.
//! After a change of a workload, `CAPTURE=1 cargo test --test decode` writes the other two files anew.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod capture;
mod show;

use std::fs;

use proptest::prelude::*;
use walcast::cluster::{Cluster, Options};
use walcast::decode::{Message, pgoutput};
use walcast::event::{Timestamp, Tuple};
use walcast::lsn::Lsn;

use capture::{Outcome, Sent, captured, parse, path, perform, read, replay, transactions};
use show::events;

const WORKLOADS: [&str; 11] = [
    "columns",
    "ddl",
    "identities",
    "messages",
    "names",
    "origin",
    "partitions",
    "toast",
    "transactions",
    "truncate",
    "types",
];

/// 2024-02-29 12:00 UTC, the time that `origin.sql` gives its transaction.
const COMMITTED_ELSEWHERE: Timestamp = Timestamp(762_523_200_000_000);

#[test]
fn captured_messages_mean_what_was_written_beside_them() {
    for name in WORKLOADS {
        assert_eq!(events(&captured(name)), read(name, "events"), "{name}");
    }
}

#[test]
fn a_live_server_sends_what_was_captured() {
    let cluster = Cluster::start(&Options {
        settings: vec!["max_prepared_transactions = 4".into()],
        ..Options::default()
    })
    .unwrap();
    for name in WORKLOADS {
        let began = Timestamp::now();
        let messages = perform(&cluster, name);
        let sent = parse(&messages);
        for transaction in transactions(&sent, Lsn::ZERO) {
            // The server's clock is ours, but a transaction replayed from elsewhere keeps the time it had there.
            let at = transaction.committed_at;
            assert!(
                (began <= at && at <= Timestamp::now()) || at == COMMITTED_ELSEWHERE,
                "{at:?}"
            );
        }
        if std::env::var_os("CAPTURE").is_some() {
            fs::write(path(name, "messages"), &messages).unwrap();
            fs::write(path(name, "events"), events(&sent)).unwrap();
        }
        assert_eq!(events(&sent), read(name, "events"), "{name}");
    }
}

#[test]
fn positions_and_transaction_ids_are_those_that_the_server_gives_itself() {
    for name in WORKLOADS {
        for Sent { at, xid, body } in captured(name) {
            match Message::parse(&body).unwrap() {
                Message::Begin { xid: own, .. } => assert_eq!(own, xid),
                Message::Commit { commit, end, .. } => assert!(commit < end && end == at),
                Message::Logical { at: own, .. } => assert!(own <= at),
                _ => {}
            }
        }
    }
}

#[test]
fn a_reconnect_at_any_position_brings_exactly_the_transactions_after_it() {
    let mut side_by_side = 0;
    for name in WORKLOADS {
        let sent = captured(name);
        let all = transactions(&sent, Lsn::ZERO);
        side_by_side += all
            .windows(2)
            .filter(|pair| pair[0].end == pair[1].commit)
            .count();
        for head in all.iter().map(|transaction| transaction.end) {
            let after: Vec<_> = all.iter().filter(|t| t.end > head).copied().collect();
            assert_eq!(transactions(&sent, head), after, "{name} from {head}");
        }
    }
    assert!(side_by_side > 0, "no capture has one commit where the other ends");
}

#[test]
fn a_message_cut_anywhere_is_refused() {
    for name in WORKLOADS {
        for Sent { body, .. } in captured(name) {
            for cut in 0..body.len() {
                let cut = Message::parse(&body[..cut]);
                assert!(cut.is_err(), "{name}: {cut:?}");
            }
        }
    }
}

#[test]
fn a_message_with_bytes_after_its_end_is_refused() {
    for name in WORKLOADS {
        for Sent { mut body, .. } in captured(name) {
            body.push(0);
            let longer = Message::parse(&body);
            assert!(
                matches!(longer, Err(pgoutput::Error::Leftover { bytes: 1, .. })),
                "{name}: {longer:?}"
            );
        }
    }
}

#[test]
fn a_message_with_any_byte_wrong_is_refused_or_read_to_its_end() {
    for name in WORKLOADS {
        for Sent { mut body, .. } in captured(name) {
            for i in 0..body.len() {
                let right = body[i];
                for wrong in [
                    0,
                    1,
                    right ^ 1,
                    right.wrapping_add(1),
                    right ^ 0x80,
                    b'n',
                    b'N',
                    0xff,
                ] {
                    body[i] = wrong;
                    if let Ok(message) = Message::parse(&body) {
                        read_to_the_end(&message);
                    }
                }
                body[i] = right;
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200), tag in 0..11_usize) {
        let tagged = [&b"BCORYIUDTMA"[tag..=tag], &body].concat();
        for bytes in [&body, &tagged] {
            if let Ok(message) = Message::parse(bytes) {
                read_to_the_end(&message);
            }
        }
    }

    /// Whatever is lost, doubled or moved on the way: an error, or changes numbered without a gap in transactions that
    /// stand in order.
    #[test]
    fn messages_in_any_order_are_refused_or_make_whole_transactions(
        name in prop::sample::select(&WORKLOADS[..]),
        edits in prop::collection::vec((0..60_usize, 0..60_usize, 0..3_u8), 0..4),
        head in 0..60_usize,
    ) {
        let mut sent = captured(name);
        let ends: Vec<_> = transactions(&sent, Lsn::ZERO).iter().map(|t| t.end).collect();
        for (from, to, edit) in edits {
            let from = from % sent.len(); let to = to % sent.len();
            match edit {
                0 => drop(sent.remove(from)),
                1 => sent.swap(from, to),
                _ => sent.insert(to, Sent { body: sent[from].body.clone(), ..sent[from] }),
            }
            prop_assume!(!sent.is_empty());
        }
        let head = ends.get(head).copied().unwrap_or(Lsn::ZERO);
        let mut last_end = head; let mut next_seq = 0;
        let outcome = replay(&sent, head, |_, outcome| match outcome {
            Outcome::Change(change) => {
                assert_eq!(change.seq, next_seq);
                next_seq += 1;
            }
            Outcome::Commit(transaction, changes) => {
                assert!(last_end <= transaction.commit && transaction.commit < transaction.end);
                assert_eq!(changes, next_seq);
                last_end = transaction.end; next_seq = 0;
            }
            Outcome::Other => {}
        });
        if let Err(error) = outcome {
            assert!(!error.to_string().is_empty());
        }
    }
}

/// Touches everything that a message gives access to.
fn read_to_the_end(message: &Message<'_>) {
    let read = |tuple: &Tuple<'_>| assert_eq!(tuple.values().count(), tuple.len());
    match message {
        Message::Insert { new, .. } => read(new),
        Message::Update { old, new, .. } => {
            old.iter().for_each(|old| read(&old.tuple()));
            read(new);
        }
        Message::Delete { old, .. } => read(&old.tuple()),
        Message::Truncate { relations, .. } => assert_eq!(relations.count(), relations.len()),
        _ => {}
    }
    assert!(!message.name().is_empty());
}

//! Bytes as messages of pgoutput's: an error, or rows and transactions that hold what they promise.
//!
//! The input is read twice: as one message, and as a stream of them, each after its length in two bytes. What is sent
//! of running transactions is read when they commit.

#![no_main]

use std::collections::HashMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use walcast::decode::{Assembler, Message, Routed, Step, Streams};
use walcast::event::{Collation, Column, Op, Relation, StreamRelation, Tuple};
use walcast::lsn::Lsn;
use walcast::types::{Kind, Type};

fuzz_target!(|bytes: &[u8]| {
    drop(Message::parse(bytes));
    let mut rest = bytes;
    let mut assembler = Assembler::new(Lsn::ZERO).with_messages(&[String::new(), "p".into()], true);
    let mut end = Lsn::ZERO;
    let mut next_seq = 0;
    let mut streams = Streams::default();
    let mut aside: HashMap<u32, Vec<Vec<u8>>> = HashMap::new();
    while let Some((len, after)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (message, after) = after.split_at(len);
        rest = after;
        let mut take = |assembler: &mut Assembler, message| push(assembler, message, &mut end, &mut next_seq);
        let taken = match streams.route(message) {
            Ok(Routed::Message(message)) => take(&mut assembler, message),
            Ok(Routed::Part(part)) => {
                let message = [&[part.tag], part.rest].concat();
                aside.entry(part.xid).or_default().push(message);
                Some(())
            }
            Ok(Routed::Nothing | Routed::AbortSub { .. }) => Some(()),
            Ok(Routed::Abort { xid }) => {
                aside.remove(&xid);
                Some(())
            }
            Ok(Routed::Commit { xid, begin, commit }) => {
                let parts = aside.remove(&xid).unwrap_or_default();
                let replay = || {
                    take(&mut assembler, begin)?;
                    assembler.enter_stream();
                    for part in &parts {
                        take(&mut assembler, Message::parse(part).ok()?)?;
                    }
                    assembler.leave_stream();
                    take(&mut assembler, commit)
                };
                replay()
            }
            Err(_) => None,
        };
        if taken.is_none() {
            return;
        }
    }
});

/// Takes a message; `None` if it is refused.
fn push(assembler: &mut Assembler, message: Message<'_>, end: &mut Lsn, next_seq: &mut u32) -> Option<()> {
    match assembler.push(message).ok()? {
        Step::Nothing | Step::Skipped(_) => {}
        Step::Relation(described) => {
            assembler
                .learn_relation(Arc::new(relation(described)))
                .expect("it is as described");
        }
        Step::Changes(changes) => {
            for change in changes {
                assert_eq!(change.seq, *next_seq);
                *next_seq += 1;
                check(&change.op, change.relation);
            }
        }
        Step::Alone { changes, .. } => {
            assert_eq!((changes.len(), *next_seq), (1, 0));
            changes.for_each(|change| check(&change.op, change.relation));
        }
        Step::Commit { transaction, changes } => {
            assert_eq!(changes, *next_seq);
            assert!(*end <= transaction.commit && transaction.commit < transaction.end);
            *end = transaction.end;
            *next_seq = 0;
        }
    }
    Some(())
}

/// Every row has a value for each of its table's columns.
fn check(op: &Op<'_>, relation: &Relation) {
    let whole = |tuple: &Tuple<'_>| assert_eq!(tuple.values().count(), relation.columns.len());
    match op {
        Op::Insert { new } => whole(new),
        Op::Update { old, new } => {
            old.iter().for_each(|old| whole(&old.tuple()));
            whole(new);
        }
        Op::Delete { old } => whole(&old.tuple()),
        Op::Truncate => {}
    }
}

fn relation(described: StreamRelation) -> Relation {
    let columns = described.columns.into_iter().map(|column| Column {
        name: column.name,
        ty: Type {
            oid: column.type_oid,
            name: String::new(),
            kind: Kind::Other,
        },
        typmod: column.typmod,
        identity: column.identity,
        collation: Collation::None,
        ctype: Default::default(),
        attnum: Default::default(),
    });
    Relation {
        oid: described.oid,
        table: described.table,
        replica_identity: described.replica_identity,
        columns: columns.collect(),
        key: Vec::new(),
        logging: Default::default(),
    }
}

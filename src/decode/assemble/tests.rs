//! Tests of the parent module.

use std::slice::from_ref;

use super::*;
use crate::event::{
    Collation, Column, OldTuple, ReplicaIdentity, StreamColumn, TableName, Timestamp, Value, encode_values,
};
use crate::types::{Kind, Type};

const AT: Timestamp = Timestamp(0);

fn begin(commit: u64) -> Message<'static> {
    Message::Begin {
        commit: Lsn(commit),
        committed_at: AT,
        xid: 7,
    }
}

fn commit(commit: u64, end: u64) -> Message<'static> {
    Message::Commit {
        commit: Lsn(commit),
        end: Lsn(end),
        committed_at: AT,
    }
}

fn transaction(commit: u64, end: u64) -> Transaction {
    Transaction {
        xid: 7,
        commit: Lsn(commit),
        end: Lsn(end),
        committed_at: AT,
    }
}

fn described(oid: u32) -> StreamRelation {
    let column = StreamColumn {
        name: "id".into(),
        type_oid: 23,
        typmod: -1,
        identity: true,
    };
    StreamRelation {
        oid,
        table: TableName::new("public", format!("t{oid}")),
        replica_identity: ReplicaIdentity::Default,
        columns: vec![column],
    }
}

fn relation(oid: u32) -> Relation {
    let ty = Type {
        oid: 23,
        name: "integer".into(),
        kind: Kind::Int4,
    };
    let StreamRelation {
        table,
        replica_identity,
        ..
    } = described(oid);
    let column = Column {
        name: "id".into(),
        ty,
        typmod: -1,
        identity: true,
        collation: Collation::None,
        ctype: Default::default(),
        attnum: Default::default(),
    };
    Relation {
        oid,
        table,
        replica_identity,
        columns: vec![column],
        key: vec![0],
        logging: Default::default(),
    }
}

fn encoded(values: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_values(
        values.iter().map(|value| Value::Text(value.as_bytes())),
        &mut bytes,
    );
    bytes
}

fn tuple(bytes: &[u8]) -> Tuple<'_> {
    Tuple::parse(bytes).unwrap().0
}

/// An assembler after the relations of these OIDs.
fn assembler(head: u64, oids: &[u32]) -> Assembler {
    let mut assembler = Assembler::new(Lsn(head));
    for &oid in oids {
        assert!(matches!(
            assembler.push(Message::Relation(described(oid))),
            Ok(Step::Relation(_))
        ));
        assembler.learn_relation(Arc::new(relation(oid))).unwrap();
    }
    assembler
}

/// The numbers and tables of the changes that a message stands for.
fn changes(assembler: &mut Assembler, message: Message<'_>) -> Vec<(u32, u32)> {
    match assembler.push(message).unwrap() {
        Step::Changes(changes) => {
            let count = changes.len();
            let changes: Vec<_> = changes.map(|change| (change.seq, change.relation.oid)).collect();
            assert_eq!(changes.len(), count);
            changes
        }
        other => panic!("no changes: {other:?}"),
    }
}

#[test]
fn changes_are_numbered_from_zero_in_each_transaction() {
    let mut assembler = assembler(0, &[1, 2]);
    let row = encoded(&["5"]);
    let insert = |relation| Message::Insert {
        relation,
        new: tuple(&row),
    };
    let truncate = [&b"T\0\0\0\x03\0"[..], &[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]].concat();
    for at in [10, 20] {
        assert!(matches!(assembler.push(begin(at)), Ok(Step::Nothing)));
        assert!(assembler.is_open());
        assert_eq!(changes(&mut assembler, insert(1)), [(0, 1)]);
        let truncate = Message::parse(&truncate).unwrap();
        assert_eq!(changes(&mut assembler, truncate), [(1, 2), (2, 1), (3, 2)]);
        assert_eq!(changes(&mut assembler, insert(2)), [(4, 2)]);
        match assembler.push(commit(at, at + 5)) {
            Ok(Step::Commit {
                transaction: t,
                changes: 5,
            }) => assert_eq!(t, transaction(at, at + 5)),
            other => panic!("no commit: {other:?}"),
        }
        assert!(!assembler.is_open());
    }
}

#[test]
fn what_the_journal_has_is_skipped_and_what_starts_at_its_head_is_not() {
    let mut assembler = assembler(20, &[]);
    let row = encoded(&["5"]);
    assert!(assembler.push(begin(10)).is_ok());
    // Not even a row of a table that we know nothing of matters here; what is described still does.
    let insert = Message::Insert {
        relation: 9,
        new: tuple(&row),
    };
    assert!(matches!(assembler.push(insert), Ok(Step::Nothing)));
    assert!(matches!(
        assembler.push(Message::Relation(described(1))),
        Ok(Step::Relation(_))
    ));
    assembler.learn_relation(Arc::new(relation(1))).unwrap();
    match assembler.push(commit(10, 20)) {
        Ok(Step::Skipped(skipped)) => assert_eq!(skipped, transaction(10, 20)),
        other => panic!("not skipped: {other:?}"),
    }
    assert!(assembler.push(begin(20)).is_ok());
    assert_eq!(
        changes(
            &mut assembler,
            Message::Insert {
                relation: 1,
                new: tuple(&row)
            }
        ),
        [(0, 1)]
    );
    assert!(matches!(
        assembler.push(commit(20, 30)),
        Ok(Step::Commit { changes: 1, .. })
    ));
}

/// A table of two columns, the first of which is its key.
fn pair(oid: u32, replica_identity: ReplicaIdentity) -> (StreamRelation, Arc<Relation>) {
    let is_full = replica_identity == ReplicaIdentity::Full;
    let mut stream = StreamRelation {
        replica_identity,
        ..described(oid)
    };
    stream.columns.push(StreamColumn {
        name: "note".into(),
        identity: is_full,
        ..stream.columns[0].clone()
    });
    let mut learned = Relation {
        replica_identity,
        ..relation(oid)
    };
    learned.columns.push(Column {
        name: "note".into(),
        identity: is_full,
        ..learned.columns[0].clone()
    });
    (stream, Arc::new(learned))
}

#[test]
fn tables_whose_rows_the_journal_has_are_no_partitions_of_those_described_before_them() {
    let mut row = Vec::new();
    encode_values([Value::Text(b"5"), Value::Null].into_iter(), &mut row);
    let full = pair(1, ReplicaIdentity::Full);
    let key = pair(2, ReplicaIdentity::Default);
    let truncate = |oid: u8| [&b"T\0\0\0\x01\0"[..], &[0, 0, 0, oid]].concat();
    for order in [[&full, &key], [&key, &full]] {
        for truncates in [false, true] {
            let mut assembler = assembler(20, &[]);
            assert!(assembler.push(begin(10)).is_ok());
            for (described, learned) in order {
                assert!(assembler.push(Message::Relation(described.clone())).is_ok());
                assembler.learn_relation(Arc::clone(learned)).unwrap();
                let truncated = truncate(described.oid as u8);
                let skipped = if truncates {
                    Message::parse(&truncated).unwrap()
                } else {
                    Message::Insert {
                        relation: described.oid,
                        new: tuple(&row),
                    }
                };
                assert!(matches!(assembler.push(skipped), Ok(Step::Nothing)));
            }
            assert!(matches!(assembler.push(commit(10, 20)), Ok(Step::Skipped(_))));
            assert!(assembler.push(begin(20)).is_ok());
            // The first of them to have a row is the one that another could count as a partition of.
            for (described, learned) in order {
                let old = match described.replica_identity {
                    ReplicaIdentity::Full => OldTuple::Full(tuple(&row)),
                    _ => OldTuple::Key(tuple(&row)),
                };
                let delete = Message::Delete {
                    relation: described.oid,
                    old,
                };
                match assembler.push(delete) {
                    Ok(Step::Changes(mut changes)) => {
                        let change = changes.next().unwrap();
                        assert_eq!(change.op, Op::Delete { old }, "{truncates}");
                        assert_eq!(change.relation, learned);
                    }
                    other => panic!("no change: {other:?}"),
                }
            }
        }
    }
}

/// The error of the last of some messages, whose predecessors are all in order.
fn refused(mut assembler: Assembler, messages: &[Message<'_>]) -> Error {
    let (last, before) = messages.split_last().unwrap();
    for message in before {
        assert!(assembler.push(message.clone()).is_ok(), "{message:?}");
    }
    assembler.push(last.clone()).unwrap_err()
}

#[test]
fn messages_out_of_order_are_refused() {
    let bytes = encoded(&["5"]);
    let none = || assembler(0, &[]);
    let known = || assembler(0, &[1]);
    let insert = Message::Insert {
        relation: 1,
        new: tuple(&bytes),
    };
    assert_eq!(
        refused(known(), from_ref(&insert)),
        Error::OutsideTransaction("Insert")
    );
    assert_eq!(
        refused(none(), &[commit(1, 2)]),
        Error::OutsideTransaction("Commit")
    );
    let truncate = Message::parse(b"T\0\0\0\x02\0\0\0\0\x01\0\0\0\x02").unwrap();
    assert_eq!(
        refused(known(), from_ref(&truncate)),
        Error::OutsideTransaction("Truncate")
    );
    let undescribed = Error::Undescribed {
        message: "Truncate",
        oid: 2,
    };
    assert_eq!(refused(known(), &[begin(1), truncate]), undescribed);
    let undescribed = Error::Undescribed {
        message: "Insert",
        oid: 1,
    };
    assert_eq!(refused(none(), &[begin(1), insert.clone()]), undescribed);
    let again = [begin(1), insert.clone(), Message::Relation(described(1)), insert];
    let not_learned = Error::NotLearned {
        message: "Insert",
        table: described(1).table,
    };
    assert_eq!(refused(known(), &again), not_learned);
}

#[test]
fn positions_out_of_order_are_refused() {
    let none = |head| assembler(head, &[]);
    let nested = Error::Nested {
        open: Lsn(1),
        new: Lsn(3),
    };
    assert_eq!(refused(none(0), &[begin(1), begin(3)]), nested);
    let other = Error::OtherCommit {
        begun: Lsn(1),
        committed: Lsn(2),
    };
    assert_eq!(refused(none(0), &[begin(1), commit(2, 3)]), other);
    let empty = Error::EmptyCommit {
        commit: Lsn(1),
        end: Lsn(1),
    };
    assert_eq!(refused(none(0), &[begin(1), commit(1, 1)]), empty);
    let backwards = Error::Backwards {
        commit: Lsn(8),
        previous_end: Lsn(9),
    };
    assert_eq!(refused(none(0), &[begin(5), commit(5, 9), begin(8)]), backwards);
    let inside = Error::HeadInsideCommit {
        head: Lsn(7),
        commit: Lsn(5),
        end: Lsn(9),
    };
    assert_eq!(refused(none(7), &[begin(5), commit(5, 9)]), inside);
}

#[test]
fn rows_of_another_width_are_refused() {
    let one = encoded(&["5"]);
    let two = encoded(&["5", "x"]);
    let one = tuple(&one);
    let two = tuple(&two);
    let wrong = [
        Message::Insert {
            relation: 1,
            new: two,
        },
        Message::Update {
            relation: 1,
            old: None,
            new: two,
        },
        Message::Update {
            relation: 1,
            old: Some(OldTuple::Full(one)),
            new: two,
        },
        Message::Update {
            relation: 1,
            old: Some(OldTuple::Key(two)),
            new: one,
        },
        Message::Delete {
            relation: 1,
            old: OldTuple::Full(two),
        },
    ];
    for message in wrong {
        let columns = Error::Columns {
            table: described(1).table,
            expected: 1,
            found: 2,
        };
        assert_eq!(refused(assembler(0, &[1]), &[begin(1), message]), columns);
    }
}

#[test]
fn a_relation_other_than_the_one_described_is_not_learned() {
    let mut assembler = assembler(0, &[1]);
    let changed: [fn(&mut Relation); 5] = [
        |relation| relation.oid = 2,
        |relation| relation.table.name.push('x'),
        |relation| relation.replica_identity = ReplicaIdentity::Full,
        |relation| relation.columns[0].ty.oid = 20,
        |relation| relation.columns.clear(),
    ];
    for change in changed {
        let mut other = relation(1);
        change(&mut other);
        let mislearned = Error::Mislearned {
            oid: other.oid,
            table: other.table.clone(),
        };
        assert_eq!(assembler.learn_relation(Arc::new(other)), Err(mislearned));
    }
}

#[test]
fn more_changes_than_seq_counts_are_refused() {
    let mut assembler = assembler(0, &[1]);
    let bytes = encoded(&["5"]);
    let insert = Message::Insert {
        relation: 1,
        new: tuple(&bytes),
    };
    assert!(assembler.push(begin(1)).is_ok());
    assembler.open.as_mut().unwrap().next_seq = u32::MAX - 1;
    assert_eq!(changes(&mut assembler, insert.clone()), [(u32::MAX - 1, 1)]);
    assert_eq!(
        assembler.push(insert).unwrap_err(),
        Error::TooManyChanges { commit: Lsn(1) }
    );
}

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value as Json, json};

use super::*;
use crate::event::{
    Collation, Column, Op, Relation, ReplicaIdentity, Timestamp, Transaction, Tuple, Value, encode_values,
};
use crate::journal::{Journal, Options, Writer};
use crate::log::{Entry, Identity, Log, LogReader, LogWriter, Piece};
use crate::lsn::{Lsn, Start};
use crate::protocol::{Caller, ClientMessage, ErrorCode};
use crate::types::json::Numbers;
use crate::types::{Kind, Type};

/// A client that reads numbers as they are.
pub(crate) const CALLER: Caller = Caller {
    connection: 1,
    peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1),
    client: IpAddr::V4(Ipv4Addr::LOCALHOST),
    numbers: Numbers::Native,
    subject: None,
};

/// A journal in a directory of its own, whose reader returns the pieces.
pub(crate) struct TestLog {
    pub(crate) writer: Writer,
    pub(crate) journal: Journal,
    pub(crate) end: u64,
    _directory: tempfile::TempDir,
}

impl TestLog {
    pub(crate) fn new() -> TestLog {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity {
            system_id: 1,
            database_oid: 1,
            database: "d".into(),
            slot: "s".into(),
            timeline: 1,
        };
        let options = Options {
            record_bytes: 1024,
            ..Options::default()
        };
        let (writer, journal) = Journal::open(directory.path(), options, &identity).unwrap();
        TestLog {
            writer,
            journal,
            end: 0,
            _directory: directory,
        }
    }

    /// Commits inserts of one relation, and hands each piece of the transaction to `each`.
    pub(crate) fn commit(
        &mut self,
        relation: &Arc<Relation>,
        rows: &[Vec<String>],
        each: impl FnMut(&Piece<'_>),
    ) -> Lsn {
        let rows: Vec<Vec<u8>> = rows.iter().map(|row| encoded(row)).collect();
        let inserts = rows.iter().map(|bytes| Op::Insert {
            new: Tuple::parse(bytes).unwrap().0,
        });
        self.commit_ops(relation, inserts, each)
    }

    /// Commits operations on one relation, and hands each piece of the transaction to `each`.
    pub(crate) fn commit_ops<'o>(
        &mut self,
        relation: &Arc<Relation>,
        ops: impl Iterator<Item = Op<'o>>,
        mut each: impl FnMut(&Piece<'_>),
    ) -> Lsn {
        let mut reader = self
            .journal
            .reader(Start::After(Position::after(Lsn(self.end))))
            .unwrap();
        for op in ops {
            self.writer.change(relation, &op).unwrap();
        }
        self.end += 10;
        let end = Lsn(self.end);
        let transaction = Transaction {
            xid: 1,
            commit: Lsn(self.end - 5),
            end,
            committed_at: Timestamp(0),
        };
        self.writer.commit(&transaction).unwrap();
        self.writer.flush().unwrap();
        while let Some(batch) = reader.next_blocking(1 << 20).unwrap() {
            for entry in batch.entries() {
                if let Entry::Piece(piece) = entry.unwrap() {
                    each(&piece);
                }
            }
        }
        end
    }
}

/// A row of these texts.
pub(crate) fn encoded(row: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_values(row.iter().map(|text| Value::Text(text.as_bytes())), &mut bytes);
    bytes
}

pub(crate) fn relation(columns: &[&str]) -> Arc<Relation> {
    let columns = columns.iter().map(|name| Column {
        name: (*name).into(),
        ty: Type {
            oid: 23,
            name: "integer".into(),
            kind: Kind::Int4,
        },
        typmod: -1,
        identity: true,
        collation: Collation::None,
        ctype: Default::default(),
        attnum: Default::default(),
    });
    Arc::new(Relation {
        oid: 1,
        table: TableName::new("public", "t"),
        replica_identity: ReplicaIdentity::Full,
        columns: columns.collect(),
        key: vec![0],
        logging: Default::default(),
    })
}

pub(crate) fn subscription(id: &str, predicate: Option<&str>) -> Arc<Subscription> {
    let mut message = json!({"type": "subscribe", "id": id, "table": "t"});
    if let Some(predicate) = predicate {
        message["where"] = predicate.into();
    }
    let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(&message.to_string()) else {
        panic!("not a subscribe: {message}");
    };
    let query = Query::new(&subscribe, &CALLER).unwrap();
    Arc::new(Subscription {
        id: id.into(),
        query: Arc::new(query),
        oid: 1,
    })
}

pub(super) fn rows(range: std::ops::Range<u32>) -> Vec<Vec<String>> {
    range.map(|i| vec![i.to_string(), (i % 4).to_string()]).collect()
}

/// The frames and ends that connections got.
#[derive(Default)]
pub(super) struct Got {
    pub(super) frames: Vec<(ConnectionId, Frame)>,
    pub(super) ended: Vec<(ConnectionId, Arc<str>, ErrorCode)>,
    pub(super) apart: Vec<ConnectionId>,
}

impl Sink for Got {
    fn put_apart(&mut self, connection: ConnectionId) {
        self.apart.push(connection);
    }

    fn frame(&mut self, connection: ConnectionId, frame: &Frame) {
        self.frames.push((connection, frame.clone()));
    }

    fn ended(&mut self, connection: ConnectionId, subscription: &Arc<Subscription>, error: ErrorMessage) {
        assert_eq!(error.id.as_deref(), Some(&*subscription.id));
        self.ended
            .push((connection, Arc::clone(&subscription.id), error.code));
    }
}

impl Got {
    /// The rows that each subscription got.
    pub(super) fn changes(&self) -> BTreeSet<(ConnectionId, String, u64)> {
        let mut changes = BTreeSet::new();
        for (connection, frame) in &self.frames {
            let message: Json = serde_json::from_str(&frame.text).unwrap();
            for change in message["changes"].as_array().unwrap() {
                let id = change["id"].as_str().unwrap().to_owned();
                let fresh = changes.insert((*connection, id, change["seq"].as_u64().unwrap()));
                assert!(fresh, "twice: {message}");
            }
        }
        changes
    }
}

pub(super) const START: Position = Position {
    end: Lsn(0),
    done: Done::Commit,
};

/// Delivers all of a piece.
pub(super) fn deliver(registry: &mut SubscriptionRegistry, piece: &Piece<'_>, got: &mut Got) {
    let mut piece = piece.clone();
    while !registry.deliver(&mut piece, got).unwrap() {}
}

#[test]
fn connections_with_the_same_subscriptions_share_every_byte() {
    let mut log = TestLog::new();
    let mut registry = SubscriptionRegistry::new(65_536);
    let mut got = Got::default();
    for _ in 0..3 {
        let connection = registry.connect();
        registry.subscribe(connection, &subscription("s", Some("b = 1")), START);
        registry.subscribe(connection, &subscription("all", None), START);
    }
    assert_eq!(registry.queries(), 2);
    log.commit(&relation(&["a", "b"]), &rows(0..3), |piece| {
        deliver(&mut registry, piece, &mut got)
    });
    let [first, rest @ ..] = got.frames.as_slice() else {
        panic!("no frames")
    };
    assert_eq!(rest.len(), 2);
    assert!(
        rest.iter()
            .all(|(_, frame)| frame.text.as_ptr() == first.1.text.as_ptr())
    );
    let message: Json = serde_json::from_str(&first.1.text).unwrap();
    let ids: Vec<_> = message["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| &change["id"])
        .collect();
    // Rows 0, 1 and 2; the second one also matches the other subscription.
    assert_eq!(ids.iter().filter(|id| **id == "all").count(), 3);
    assert_eq!(ids.iter().filter(|id| **id == "s").count(), 1);
}

#[test]
fn a_large_transaction_comes_in_frames_that_say_more_and_then_ends_for_those_who_were_told_so() {
    let mut log = TestLog::new();
    let mut registry = SubscriptionRegistry::new(65_536);
    let mut got = Got::default();
    let early = registry.connect();
    // Only the first rows match, and nothing of the last piece.
    registry.subscribe(early, &subscription("s", Some("a < 3")), START);
    let never = registry.connect();
    registry.subscribe(never, &subscription("s", Some("a < 0")), START);
    let end = log.commit(&relation(&["a", "b"]), &rows(0..500), |piece| {
        deliver(&mut registry, piece, &mut got)
    });
    let messages: Vec<Json> = got
        .frames
        .iter()
        .map(|(_, f)| serde_json::from_str(&f.text).unwrap())
        .collect();
    assert!(got.frames.iter().all(|(connection, _)| *connection == early));
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert_eq!(
        (&messages[0]["more"], &messages[0]["position"]),
        (&json!(true), &json!(format!("{end}:2")))
    );
    assert_eq!(
        (&messages[1]["more"], &messages[1]["changes"]),
        (&Json::Null, &json!([]))
    );
    assert_eq!(messages[1]["position"], json!(end));
}

#[test]
fn who_resumes_inside_a_transaction_gets_the_rest_of_it() {
    let mut log = TestLog::new();
    let mut registry = SubscriptionRegistry::new(65_536);
    let mut got = Got::default();
    let whole = registry.connect();
    let resumed = registry.connect();
    let subscription = subscription("s", None);
    registry.subscribe(whole, &subscription, START);
    registry.subscribe(resumed, &subscription, Position::after_change(Lsn(10), 6));
    log.commit(&relation(&["a", "b"]), &rows(0..9), |piece| {
        deliver(&mut registry, piece, &mut got)
    });
    let seqs = |connection| {
        got.changes()
            .into_iter()
            .filter(move |c| c.0 == connection)
            .map(|c| c.2)
            .collect::<Vec<_>>()
    };
    assert_eq!(seqs(whole), (0..9).collect::<Vec<_>>());
    assert_eq!(seqs(resumed), [7, 8]);
}

#[test]
fn a_column_that_goes_ends_the_subscriptions_that_need_it_and_no_others() {
    let mut log = TestLog::new();
    let mut registry = SubscriptionRegistry::new(65_536);
    let mut got = Got::default();
    let connection = registry.connect();
    registry.subscribe(connection, &subscription("needs b", Some("b = 1")), START);
    registry.subscribe(connection, &subscription("does not", Some("a > 0")), START);
    log.commit(&relation(&["a", "b"]), &rows(1..2), |piece| {
        deliver(&mut registry, piece, &mut got)
    });
    assert_eq!(got.changes().len(), 2);
    let row = vec![vec!["7".to_owned()]];
    log.commit(&relation(&["a"]), &row, |piece| {
        deliver(&mut registry, piece, &mut got)
    });
    assert_eq!(
        got.ended,
        [(connection, "needs b".into(), ErrorCode::SchemaChanged)]
    );
    assert_eq!((registry.subscriptions(connection), registry.queries()), (1, 1));
    assert!(got.frames.last().unwrap().1.text.contains(r#""row":{"a":7}"#));
}

/// A subscription whose client was told of the table as in `relation`.
fn told(subscribed: Arc<Subscription>, relation: &Arc<Relation>) -> Arc<Subscription> {
    let mut query = (*subscribed.query).clone();
    query.hold_to_key(relation);
    Arc::new(Subscription {
        id: Arc::clone(&subscribed.id),
        query: Arc::new(query),
        oid: subscribed.oid,
    })
}

#[test]
fn a_subscription_gets_rows_of_the_types_that_it_was_told_or_ends() {
    let before = relation(&["a", "b"]);
    let mut now = (*before).clone();
    now.columns[1].ty = Type {
        oid: 20,
        name: "bigint".into(),
        kind: Kind::Int8,
    };
    let now = Arc::new(now);
    let at = |end: u64| Position::after(Lsn(end));
    let ends = |told_of: &Arc<Relation>, after: Position, rows_of: &[&Arc<Relation>]| {
        let mut log = TestLog::new();
        let mut registry = SubscriptionRegistry::new(65_536);
        let mut got = Got::default();
        let other = registry.connect();
        registry.subscribe(other, &told(subscription("s", Some("a >= 0")), told_of), START);
        for relation in rows_of {
            log.commit(relation, &rows(1..2), |piece| {
                if piece.transaction.end == Lsn(10) {
                    let connection = registry.connect();
                    registry.subscribe(
                        connection,
                        &told(subscription("s", Some("b >= 0")), told_of),
                        after,
                    );
                }
                deliver(&mut registry, piece, &mut got);
            });
        }
        got.ended
    };
    let ended = [(1, "s".into(), ErrorCode::SchemaChanged)];
    // This holds with and without a row of the other version before, and for both versions that it may have been told.
    assert_eq!(ends(&before, START, &[&before]), []);
    assert_eq!(ends(&before, START, &[&now]), ended);
    assert_eq!(ends(&now, START, &[&before]), ended);
    // A row that it already has is not news to it.
    assert_eq!(ends(&now, at(10), &[&before, &now]), []);
    assert_eq!(ends(&now, at(10), &[&before, &before]), ended);
}

#[test]
fn nothing_more_is_said_of_a_subscription_that_ended_inside_a_transaction() {
    let mut log = TestLog::new();
    let mut registry = SubscriptionRegistry::for_each(65_536);
    let mut got = Got::default();
    let alone = registry.connect_only("alone");
    let whole = registry.connect();
    let inside = Position::after_change(Lsn(10), 0);
    for (connection, id) in [(alone, "alone"), (whole, "whole")] {
        registry.open(connection, inside);
        registry.subscribe(connection, &subscription(id, Some("missing = 1")), inside);
    }
    log.commit(&relation(&["a", "b"]), &rows(1..3), |piece| {
        deliver(&mut registry, piece, &mut got);
    });
    let ended = got.ended.iter().map(|(connection, ..)| *connection);
    assert!(ended.eq([alone, whole]), "{:?}", got.ended);
    // A connection that was told that more follows hears of the transaction's end.
    let told = got.frames.iter().map(|(connection, _)| *connection);
    assert!(told.eq([whole]));
}

#[test]
fn relations_that_come_and_go_are_forgotten() {
    let mut log = TestLog::new();
    let mut registry = SubscriptionRegistry::new(65_536);
    let mut got = Got::default();
    let connection = registry.connect();
    registry.subscribe(connection, &subscription("s", None), START);
    for number in 0..300 {
        let mut partition = (*relation(&["a", "b"])).clone();
        partition.oid = 100 + number;
        partition.table = TableName::new("public", format!("t_{number}"));
        let known = relation(&["a", "b"]);
        for relation in [Arc::new(partition), known] {
            log.commit(&relation, &rows(0..1), |piece| {
                deliver(&mut registry, piece, &mut got)
            });
        }
    }
    assert_eq!(got.frames.len(), 300);
    assert!(registry.relations.len() < 100, "{}", registry.relations.len());
}

#[test]
fn a_table_that_everybody_left_is_found_again() {
    let mut log = TestLog::new();
    let mut registry = SubscriptionRegistry::new(65_536);
    let mut got = Got::default();
    let connection = registry.connect();
    let relation = relation(&["a", "b"]);
    let subscription = subscription("s", Some("a = 1"));
    for round in 1..4 {
        registry.subscribe(connection, &subscription, START);
        log.commit(&relation, &rows(0..3), |piece| {
            deliver(&mut registry, piece, &mut got)
        });
        assert_eq!(got.frames.len(), round);
        registry.unsubscribe(connection, &subscription);
        assert!(registry.tables.is_empty());
        log.commit(&relation, &rows(0..3), |piece| {
            deliver(&mut registry, piece, &mut got)
        });
        assert_eq!(got.frames.len(), round);
    }
}

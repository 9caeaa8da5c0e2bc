//! Matching of changes to the orders, in process: subscriptions, a sink that counts frames, and a journal of inserts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use walcast::event::{Op, Relation, Timestamp, Transaction, Tuple};
use walcast::journal::{Journal, Options};
use walcast::log::{Identity, LogWriter};
use walcast::lsn::{Done, Lsn, Position};
use walcast::matching::{ConnectionId, Query, Sink, Subscription};
use walcast::protocol::{Caller, ClientMessage, ErrorMessage, Frame};
use walcast::types::json::Numbers;

/// A client that reads numbers as they are.
const CALLER: Caller = Caller {
    connection: 1,
    peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1),
    client: IpAddr::V4(Ipv4Addr::LOCALHOST),
    numbers: Numbers::Native,
    subject: None,
};

/// The place where all subscriptions start.
pub(crate) const START: Position = Position {
    end: Lsn(0),
    done: Done::Commit,
};

/// Counts frames.
pub(crate) struct Count(pub(crate) usize);

impl Sink for Count {
    fn put_apart(&mut self, _: usize) {}

    fn frame(&mut self, _: ConnectionId, _: &Frame) {
        self.0 += 1;
    }

    fn ended(&mut self, _: ConnectionId, _: &Arc<Subscription>, error: ErrorMessage) {
        panic!("{error:?}");
    }
}

/// The query of a `subscribe` message.
pub(crate) fn query(message: &serde_json::Value) -> Query {
    let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(&message.to_string()) else {
        panic!("not a subscribe: {message}");
    };
    Query::new(&subscribe, &CALLER).unwrap()
}

/// A subscription to the orders.
pub(crate) fn subscription(query: Query) -> Arc<Subscription> {
    Arc::new(Subscription {
        id: "orders".into(),
        query: Arc::new(query),
        oid: 1,
    })
}

/// A journal with a transaction for each of these encoded rows, which inserts it.
pub(crate) fn journal(
    directory: &Path,
    relation: &Arc<Relation>,
    rows: impl IntoIterator<Item = Vec<u8>>,
) -> Journal {
    let identity = Identity {
        system_id: 1,
        database_oid: 1,
        database: "bench".into(),
        slot: "bench".into(),
        timeline: 1,
    };
    let (mut writer, journal) = Journal::open(directory, Options::default(), &identity).unwrap();
    for (number, row) in rows.into_iter().enumerate() {
        let new = Tuple::parse(&row).unwrap().0;
        writer.change(relation, &Op::Insert { new }).unwrap();
        let end = Lsn(10 + 10 * number as u64);
        let transaction = Transaction {
            xid: 1,
            commit: Lsn(end.0 - 1),
            end,
            committed_at: Timestamp(0),
        };
        writer.commit(&transaction).unwrap();
    }
    writer.flush().unwrap();
    journal
}

//! [`Limit`]: names the limits that a client can meet.

/// A limit that a client can meet. Its name stands in the field `limit` of the `error`, if the client gets one, and in
/// the metric that counts how often it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// All connections (503).
    Connections,
    /// Connections in their handshake (503).
    Handshakes,
    /// Connections of an address (429).
    AddressConnections,
    /// New connections of an address (429).
    AddressConnectionRate,
    /// Connections of a subject (429, or 4502).
    SubjectConnections,
    /// Connections that have not sent their token yet (503).
    UnauthenticatedConnections,
    /// The time from a connection to its websocket.
    HandshakeTimeout,
    /// The time from a connection to its token (4500).
    AuthTimeout,
    /// The time that a client may go without reading (4001).
    StallTimeout,
    /// The time that a message may take to arrive (4001).
    MessageTimeout,
    /// The time that a client may be silent (4002).
    PongTimeout,
    /// The size of a message (1009).
    MessageBytes,
    /// The frames of a message (1009).
    MessageFragments,
    /// Invalid requests in a row (4501).
    BadRequests,
    /// Pings and pongs (4004).
    ControlFrames,
    /// Messages of a connection (`rate_limited`, then 4004).
    Messages,
    /// Messages of all connections.
    TotalMessages,
    /// `subscribe` messages of a connection.
    Subscribes,
    /// `subscribe` messages of all connections, which wait.
    TotalSubscribes,
    /// Pings of a connection that wait for a place to be reached (`limit_exceeded`).
    Reaches,
    /// Subscriptions of a connection (`limit_exceeded`).
    Subscriptions,
    /// Subscriptions of a subject.
    SubjectSubscriptions,
    /// The text of a predicate, its parameters, conditions, nesting and lists (`bad_predicate`).
    PredicateSize,
    /// The memory of a predicate.
    PredicateBytes,
    /// The estimated work of a predicate.
    PredicateCost,
    /// The memory of all predicates of a connection.
    ConnectionPredicateBytes,
    /// The estimated work of all predicates of a connection.
    ConnectionPredicateCost,
    /// The memory of all predicates of a subject.
    SubjectPredicateBytes,
    /// The memory of all predicates.
    TotalPredicateBytes,
    /// The work that a predicate took.
    PredicateWork,
    /// The size of a row.
    RowBytes,
    /// Waiting snapshots of all clients.
    Snapshots,
    /// Snapshots of a subject.
    SubjectSnapshots,
    /// The time that a snapshot may take at the server.
    SnapshotTimeout,
    /// Bytes that a connection is sent; further ones wait.
    SendRate,
    /// Replays of a subject that are read at the same moment; further ones wait.
    SubjectReplays,
}

impl Limit {
    /// All limits.
    pub const ALL: [Limit; 36] = [
        Limit::Connections,
        Limit::Handshakes,
        Limit::AddressConnections,
        Limit::AddressConnectionRate,
        Limit::SubjectConnections,
        Limit::UnauthenticatedConnections,
        Limit::HandshakeTimeout,
        Limit::AuthTimeout,
        Limit::StallTimeout,
        Limit::MessageTimeout,
        Limit::PongTimeout,
        Limit::MessageBytes,
        Limit::MessageFragments,
        Limit::BadRequests,
        Limit::ControlFrames,
        Limit::Messages,
        Limit::TotalMessages,
        Limit::Subscribes,
        Limit::TotalSubscribes,
        Limit::Reaches,
        Limit::Subscriptions,
        Limit::SubjectSubscriptions,
        Limit::PredicateSize,
        Limit::PredicateBytes,
        Limit::PredicateCost,
        Limit::ConnectionPredicateBytes,
        Limit::ConnectionPredicateCost,
        Limit::SubjectPredicateBytes,
        Limit::TotalPredicateBytes,
        Limit::PredicateWork,
        Limit::RowBytes,
        Limit::Snapshots,
        Limit::SubjectSnapshots,
        Limit::SnapshotTimeout,
        Limit::SendRate,
        Limit::SubjectReplays,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::Handshakes => "handshakes",
            Limit::AddressConnections => "address_connections",
            Limit::AddressConnectionRate => "address_connection_rate",
            Limit::SubjectConnections => "subject_connections",
            Limit::UnauthenticatedConnections => "unauthenticated_connections",
            Limit::HandshakeTimeout => "handshake_timeout",
            Limit::AuthTimeout => "auth_timeout",
            Limit::StallTimeout => "stall_timeout",
            Limit::MessageTimeout => "message_timeout",
            Limit::PongTimeout => "pong_timeout",
            Limit::MessageBytes => "message_bytes",
            Limit::MessageFragments => "message_fragments",
            Limit::BadRequests => "bad_requests",
            Limit::ControlFrames => "control_frames",
            Limit::Messages => "messages",
            Limit::TotalMessages => "total_messages",
            Limit::Subscribes => "subscribes",
            Limit::TotalSubscribes => "total_subscribes",
            Limit::Reaches => "reaches",
            Limit::Subscriptions => "subscriptions",
            Limit::SubjectSubscriptions => "subject_subscriptions",
            Limit::PredicateSize => "predicate_size",
            Limit::PredicateBytes => "predicate_bytes",
            Limit::PredicateCost => "predicate_cost",
            Limit::ConnectionPredicateBytes => "connection_predicate_bytes",
            Limit::ConnectionPredicateCost => "connection_predicate_cost",
            Limit::SubjectPredicateBytes => "subject_predicate_bytes",
            Limit::TotalPredicateBytes => "total_predicate_bytes",
            Limit::PredicateWork => "predicate_work",
            Limit::RowBytes => "row_bytes",
            Limit::Snapshots => "snapshots",
            Limit::SubjectSnapshots => "subject_snapshots",
            Limit::SnapshotTimeout => "snapshot_timeout",
            Limit::SendRate => "send_rate",
            Limit::SubjectReplays => "subject_replays",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_name_of_its_own() {
        let mut names = Limit::ALL.map(Limit::as_str).to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Limit::ALL.len());
    }
}

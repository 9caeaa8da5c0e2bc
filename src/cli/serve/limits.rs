//! [`Limits`]: the flags that bound what clients may ask for.

use bytesize::ByteSize;

use crate::cli::values;
use crate::limit::{Rate, SubjectLimits};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(super) struct Limits {
    /// Subscriptions on one connection.
    #[arg(
        long,
        env = "WALCAST_MAX_SUBSCRIPTIONS",
        value_name = "N",
        default_value_t = 1_000,
        value_parser = values::count
    )]
    pub(super) max_subscriptions: usize,
    /// Messages a second that a connection may send, and at once those of ten seconds, and three times
    /// --max-subscriptions at least. Each 4 KiB of a message count as
    /// one more, a message that is refused as four more, and a token as twenty more. Further ones are refused
    /// (rate_limited); a client that goes on is closed (4004).
    #[arg(
        long,
        env = "WALCAST_MAX_MESSAGE_RATE",
        value_name = "N",
        default_value_t = 100,
        value_parser = values::rate
    )]
    max_message_rate: u32,
    /// Subscriptions a second that a connection may ask for, and at once those of ten seconds, and twice
    /// --max-subscriptions at least. Further ones are refused in the same way.
    #[arg(
        long,
        env = "WALCAST_MAX_SUBSCRIBE_RATE",
        value_name = "N",
        default_value_t = 10,
        value_parser = values::rate
    )]
    max_subscribe_rate: u32,
    /// Bytes a second that a connection is sent, after a burst of as many; 16 KiB at least. Whatever exceeds the rate
    /// waits, first in memory as for any slow client, then in the journal. [default: none]
    #[arg(long, env = "WALCAST_MAX_SEND_RATE", value_name = "SIZE", value_parser = values::send_rate)]
    max_send_rate: Option<ByteSize>,
    /// Messages a second of all clients together. Beyond it each connection may send a tenth of what it may else, so
    /// that those who sent the most are refused, and nobody else.
    #[arg(
        long,
        env = "WALCAST_MAX_TOTAL_MESSAGE_RATE",
        value_name = "N",
        default_value_t = 20_000,
        value_parser = values::rate
    )]
    max_total_message_rate: u32,
    /// Subscriptions a second that all clients together get, and at once those of ten seconds. Further ones wait, and
    /// subjects have turns.
    #[arg(
        long,
        env = "WALCAST_MAX_TOTAL_SUBSCRIBE_RATE",
        value_name = "N",
        default_value_t = 5_000,
        value_parser = values::rate
    )]
    max_total_subscribe_rate: u32,
    /// Connections of one subject: of tokens with the same sub and iss. Further ones are answered 429, or closed (4502)
    /// where the token comes later.
    #[arg(
        long,
        env = "WALCAST_MAX_CONNECTIONS_PER_SUBJECT",
        value_name = "N",
        default_value_t = 100,
        value_parser = values::count
    )]
    max_connections_per_subject: usize,
    /// Subscriptions on all connections of one subject. Clients whose token names none are one subject with all others
    /// of their address, but for those of a loopback address.
    #[arg(
        long,
        env = "WALCAST_MAX_SUBSCRIPTIONS_PER_SUBJECT",
        value_name = "N",
        default_value_t = 2_000,
        value_parser = values::count
    )]
    max_subscriptions_per_subject: usize,
    /// Snapshots of one subject that wait, are read or are being sent.
    #[arg(
        long,
        env = "WALCAST_MAX_SNAPSHOTS_PER_SUBJECT",
        value_name = "N",
        default_value_t = 100,
        value_parser = values::count
    )]
    max_snapshots_per_subject: usize,
    /// Memory of the predicates on all connections of one subject.
    #[arg(
        long,
        env = "WALCAST_MAX_PREDICATE_BYTES_PER_SUBJECT",
        value_name = "SIZE",
        default_value = "64MiB",
        value_parser = values::size
    )]
    max_predicate_bytes_per_subject: ByteSize,
    /// Memory of all predicates. When it is used up, a subject that would have at most half as much as the largest one is
    /// given room: a connection of the largest is closed (4502).
    #[arg(
        long,
        env = "WALCAST_MAX_TOTAL_PREDICATE_BYTES",
        value_name = "SIZE",
        default_value = "1GiB",
        value_parser = values::size
    )]
    max_total_predicate_bytes: ByteSize,
    /// Clients of one subject that the journal is read for at the same moment. Further ones wait, and subjects have
    /// turns.
    #[arg(
        long,
        env = "WALCAST_MAX_REPLAYS_PER_SUBJECT",
        value_name = "N",
        default_value_t = 32,
        value_parser = values::count
    )]
    pub(super) max_replays_per_subject: usize,
}

impl Limits {
    pub(super) fn subjects(&self) -> SubjectLimits {
        SubjectLimits {
            max_connections: self.max_connections_per_subject,
            max_subscriptions: self.max_subscriptions_per_subject,
            max_snapshots: self.max_snapshots_per_subject,
            max_predicate_bytes: self.max_predicate_bytes_per_subject.as_u64() as usize,
            max_total_predicate_bytes: self.max_total_predicate_bytes.as_u64() as usize,
        }
    }

    pub(super) fn messages(&self) -> Rate {
        // A client that comes back asks for all that it may have, with predicates of more than one unit's size.
        Rate::of(self.max_message_rate).at_once(self.times_subscriptions(3))
    }

    pub(super) fn subscribes(&self) -> Rate {
        // All that a client may have, and the same once more where it changes its mind.
        Rate::of(self.max_subscribe_rate).at_once(self.times_subscriptions(2))
    }

    fn times_subscriptions(&self, times: usize) -> u32 {
        let product = self.max_subscriptions.saturating_mul(times);
        u32::try_from(product).unwrap_or(u32::MAX)
    }

    /// The bytes that a connection is sent in a second.
    pub(super) fn send_rate(&self) -> Option<u32> {
        let rate = self.max_send_rate?.as_u64();
        Some(u32::try_from(rate).unwrap_or(u32::MAX))
    }

    pub(super) fn total_subscribes(&self) -> Rate {
        Rate::of(self.max_total_subscribe_rate)
    }

    pub(super) fn total_messages(&self) -> Rate {
        Rate::of(self.max_total_message_rate)
    }
}

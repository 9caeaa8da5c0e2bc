//! [`Strain`]: queries that take too much work, which are put apart or ended.

use super::meter::Lane;
use super::{ConnectionId, Sink, SubscriptionRegistry};
use crate::filter::{Allowance, Failure};
use crate::protocol::{Detail, ErrorCode, ErrorMessage};

/// The reason why a query cannot be served as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strain {
    /// It takes too long for a change in this lane.
    Apart,
    /// It takes too long for a change anywhere.
    TooLong,
    /// It took too much work over time.
    TooMuch,
    /// Matching it panicked.
    Panicked,
}

impl Strain {
    pub(super) fn of(failure: Failure, lane: Lane) -> Strain {
        match failure {
            Failure::Panicked => Strain::Panicked,
            Failure::Exhausted if lane.puts_apart => Strain::Apart,
            Failure::Exhausted => Strain::TooLong,
        }
    }

    fn error(self) -> ErrorMessage {
        let limit = |message| {
            ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit("predicate_work"))
        };
        match self {
            Strain::Panicked => {
                let message = "matching a row failed; this is our fault, and it is logged";
                ErrorMessage::new(ErrorCode::Internal, message)
            }
            Strain::TooMuch => limit(
                "recent rows took the predicate more work than it may take over time: use fewer conditions on long \
                 texts, documents and arrays",
            ),
            Strain::Apart | Strain::TooLong => limit(
                "a row takes the predicate more work than it may: use fewer conditions on long texts, documents and arrays",
            ),
        }
    }
}

impl SubscriptionRegistry {
    /// The work that the next change may take.
    pub(super) fn allowance(&mut self) -> Allowance {
        let Lane {
            query,
            all,
            puts_apart,
        } = self.lane;
        if !puts_apart {
            return Allowance {
                each: query,
                all,
                ..Allowance::default()
            };
        }
        Allowance {
            each: query,
            all: all.min(self.spare.left(self.now)),
            little: self.spare.little(),
        }
    }

    /// Puts apart, or ends, the members of groups whose query takes too much work.
    pub(super) fn relieve(&mut self, groups: &[usize], strain: Strain, sink: &mut impl Sink) {
        if strain == Strain::Panicked {
            tracing::error!(
                event = "matching_panicked",
                "matching a row panicked: the query's subscriptions end"
            );
        }
        for &group in groups {
            match strain {
                Strain::Apart => self.put_apart(group, sink),
                strain => self.end_members(group, |_, _| Some(strain.error()), sink),
            }
        }
    }

    fn put_apart(&mut self, group: usize, sink: &mut impl Sink) {
        let held = self.groups.get(group);
        let members = held.into_iter().flat_map(|group| &group.members);
        let connections: Vec<ConnectionId> = members.map(|member| member.connection as usize).collect();
        for connection in connections {
            let held = self.connections.get(connection);
            let members = held.into_iter().flat_map(|held| held.members.iter());
            for member in members.filter(|member| member.group as usize == group) {
                member.subscription.query.meter.put_apart(self.now);
            }
            self.unsubscribe_all(connection);
            self.put_apart += 1;
            sink.put_apart(connection);
        }
    }
}

#[cfg(test)]
#[path = "strain_tests.rs"]
mod tests;

//! [`PredicateCosts`]: the cost of the predicates of a connection, and its bounds. Pure.

use std::sync::Arc;

use super::ids::Ids;
use crate::filter::{self, Cost};
use crate::protocol::{Detail, ErrorCode, ErrorMessage};

/// The most work that the predicates of a connection may take for a row of ordinary values.
const MAX_WORK: u64 = 5 * filter::MAX_COST;
/// The most bytes that the predicates of a connection may take.
const MAX_BYTES: usize = 8 * filter::MAX_BYTES;

/// The cost of subscriptions by their ids, which may include some that have ended.
#[derive(Debug, Default)]
pub(super) struct PredicateCosts(Vec<(Arc<str>, Cost)>);

impl PredicateCosts {
    /// The bytes that the predicates take.
    pub(super) fn bytes(&mut self, ids: &Ids) -> usize {
        self.0.retain(|(id, _)| ids.holds(id));
        self.0.iter().map(|(_, cost)| cost.bytes).sum()
    }

    /// Adds the cost of a subscription.
    ///
    /// # Errors
    /// All predicates of the connection together would take too much.
    pub(super) fn add(&mut self, id: &Arc<str>, cost: Cost, ids: &Ids) -> Result<(), ErrorMessage> {
        self.0
            .retain(|(held, _)| ids.holds(held) && !Arc::ptr_eq(held, id));
        let total = self.0.iter().map(|(_, cost)| *cost).sum::<Cost>() + cost;
        let (limit, message) = if total.work > MAX_WORK {
            let message = format!(
                "the predicates of this connection would take about {} units of work for each row, and \
                 {MAX_WORK} are allowed",
                total.work
            );
            ("connection_predicate_cost", message)
        } else if total.bytes > MAX_BYTES {
            let message = format!(
                "the predicates of this connection would take {} bytes, and {MAX_BYTES} are allowed",
                total.bytes
            );
            ("connection_predicate_bytes", message)
        } else {
            self.0.push((Arc::clone(id), cost));
            return Ok(());
        };
        Err(ErrorMessage::new(ErrorCode::LimitExceeded, message).with(Detail::Limit(limit)))
    }
}

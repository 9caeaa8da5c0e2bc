//! [`explain`]: what would become of a subscription, without making it.

use std::sync::Arc;

use super::Services;
use super::subscribe::Prepared;
use crate::event::Relation;
use crate::filter::{self, Filed};
use crate::log::Log;
use crate::protocol::{Caller, ErrorMessage, Subscribe};

/// A subscription that would be accepted.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The table, as it is now.
    pub relation: Arc<Relation>,
    /// The columns that would be sent, by their indexes.
    pub columns: Vec<usize>,
    /// The conditions that it would be filed under.
    pub filed: Vec<Filed>,
    /// The warnings that would come with the answer.
    pub warnings: Vec<String>,
}

/// Checks a subscription exactly as a session does.
///
/// # Errors
/// The error by which it would be refused.
pub async fn explain<H: Log>(
    services: &Services<H>,
    subscribe: &Subscribe,
    caller: &Caller,
) -> Result<Explained, ErrorMessage> {
    let id: Arc<str> = subscribe.id.as_str().into();
    let prepared = Prepared::new(services, id, subscribe, caller).await?;
    prepared.explained()
}

impl Prepared {
    fn explained(self) -> Result<Explained, ErrorMessage> {
        let selection = self.subscription.query.selection(&self.relation)?;
        Ok(Explained {
            filed: filter::filed(selection.rows(), &self.relation),
            relation: self.relation,
            columns: self.columns,
            warnings: self.warnings,
        })
    }
}

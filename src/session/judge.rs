//! [`Judgement`]: the part of a table that a caller may see, by the policies of this moment.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Services;
use crate::event::{TableName, quote_identifier};
use crate::filter::DatabaseSession;
use crate::log::Log;
use crate::matching::Query;
use crate::policy::{Admission, RowSecurity};
use crate::protocol::{Caller, ErrorCode, ErrorMessage};
use crate::schema::RoleAnswer;

/// The part of a table that a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Everything that is published: this server has no policies.
    Open,
    /// The part that policies admit.
    Admitted(Admission),
    /// Nothing: for the caller the table does not exist.
    Hidden,
}

/// The policies that were logged because they admit nothing.
#[derive(Debug, Default)]
pub struct Notes(Mutex<HashSet<(TableName, Arc<str>)>>);

/// The most that are remembered. Beyond that nothing more is logged.
const MAX_NOTES: usize = 256;

impl Notes {
    /// Logs once that a policy's condition admits nothing of a table. The caller's claims are not logged.
    pub(super) fn unbound(&self, table: &TableName, condition: &Arc<str>) {
        let mut notes = self.0.lock();
        if notes.len() < MAX_NOTES && notes.insert((table.clone(), Arc::clone(condition))) {
            tracing::warn!(
                event = "policy_admits_nothing",
                %table, %condition,
                "a policy admits nothing of the table to some callers: a claim has no value of the type that it is cast to, \
                 or the condition does not fit the columns (walcast check --config)"
            );
        }
    }
}

impl<H: Log> Services<H> {
    /// Judges a table by its name and, where the database's own policies decide, by those of this moment, for which the
    /// database may be asked. Judged by name alone, a hidden table and one that does not exist get the same answer in
    /// the same time.
    ///
    /// # Errors
    /// The database does not answer, or has a policy that cannot be evaluated here.
    pub(super) async fn judge(&self, table: &TableName, caller: &Caller) -> Result<Judgement, ErrorMessage> {
        if self.auth.is_none() {
            return Ok(Judgement::Open);
        }
        let Some(subject) = &caller.subject else {
            return Ok(Judgement::Hidden);
        };
        let policies = Arc::clone(&self.policies.borrow());
        let role = subject.role.as_deref();
        let security = match role {
            Some(role) if policies.ask_the_database(table, Some(role)) => self.security(table, role).await?,
            _ => None,
        };
        let session = role.filter(|_| security.is_some());
        let session = session.map(|role| DatabaseSession::new(role, subject.claims.all().clone()));
        let security = security.as_deref().zip(session.as_ref());
        let admission = policies.admission(table, role, &subject.claims, security);
        Ok(admission.map_or(Judgement::Hidden, Judgement::Admitted))
    }

    /// The part of a table that the database lets a role see; `None` if that is nothing.
    async fn security(
        &self,
        table: &TableName,
        role: &str,
    ) -> Result<Option<Arc<RowSecurity>>, ErrorMessage> {
        let found = self.tables.find(table).await;
        let Some(relation) = found.map_err(|error| self.unanswered(&error))? else {
            return Ok(None);
        };
        let answer = self.tables.role_answer(&relation, role).await;
        match answer.map_err(|error| self.unanswered(&error))? {
            RoleAnswer::Nothing => Ok(None),
            RoleAnswer::Some(security) => Ok(Some(security)),
            RoleAnswer::Refused(refusal) => {
                let message = format!(
                    "the policy {} of {table} in the database cannot be evaluated here: {}",
                    quote_identifier(&refusal.policy),
                    refusal.part
                );
                Err(ErrorMessage::new(ErrorCode::Forbidden, message))
            }
        }
    }

    /// True if the database's own policies may decide what a caller may see of a table.
    pub(super) fn asks_the_database(&self, table: &TableName, caller: &Caller) -> bool {
        let role = caller
            .subject
            .as_ref()
            .and_then(|subject| subject.role.as_deref());
        self.auth.is_some() && self.policies.borrow().ask_the_database(table, role)
    }

    /// True if a table exists for a caller, whatever the database says.
    pub(super) fn shows(&self, table: &TableName, caller: &Caller) -> bool {
        let Some(subject) = &caller.subject else {
            return self.auth.is_none();
        };
        self.policies.borrow().know(table, subject.role.as_deref())
    }

    /// True if a query shows what its caller may see now, no more and no less.
    pub(super) async fn is_judged_alike(&self, query: &Query, caller: &Caller) -> bool {
        let held = query.key().admission.as_ref();
        match self.judge(query.table(), caller).await {
            Ok(Judgement::Open) => held.is_none(),
            Ok(Judgement::Admitted(admission)) => held.is_some_and(|held| held.admits_as(&admission)),
            Ok(Judgement::Hidden) | Err(_) => false,
        }
    }
}

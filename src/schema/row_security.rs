//! The part of the tables that Postgres' own policies currently let roles see.
//!
//! The answers of the catalogs are kept until something that they depend on has changed. That is looked for every
//! second, and before the first row that ingest journals after the stream has described a table again: Postgres sends a
//! description before the next row of a table whose policies, owner or privileges were altered, not where roles, their
//! memberships, schemas' privileges or functions were.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{AskError, Tables};
use crate::event::Relation;
use crate::policy::{Refusal, RoleAccess, RowSecurity};
use crate::postgres::{Catalog, Error};
use crate::telemetry::{chain, in_this_span};
use crate::types::CollationQuestion;
use tracing::Instrument as _;

/// The interval at which changes of policies and privileges are looked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// The most tables and roles that are remembered.
const MAX_REMEMBERED: usize = 4096;

/// Everything that is known of row security.
#[derive(Debug)]
pub(super) struct Secured {
    /// The catalog for clients' questions, and for the checks for changes.
    catalog: Mutex<Catalog>,
    known: Mutex<Known>,
    /// The number of changes that were found.
    changes: watch::Sender<u64>,
    /// One asks, the others wait.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    /// The state of the catalogs, which the answers are not older than; `None` until somebody asks.
    state: Option<String>,
    answers: HashMap<(u32, Box<str>), Remembered>,
    is_watched: bool,
}

/// The policies as one, or the reason why they cannot be evaluated.
type Judged = Result<Arc<RowSecurity>, Arc<Refusal>>;

#[derive(Clone, Debug)]
struct Remembered {
    access: Option<Arc<RoleAccess>>,
    /// The combined policies, for a version of the table.
    security: Option<(Arc<Relation>, Judged)>,
}

/// The part of a table that a role may see.
#[derive(Clone, Debug)]
pub enum RoleAnswer {
    /// Nothing, or there is no such role.
    Nothing,
    /// This part.
    Some(Arc<RowSecurity>),
    /// Policies that cannot be evaluated here.
    Refused(Arc<Refusal>),
}

impl Secured {
    pub(super) fn new(catalog: Catalog) -> Secured {
        Secured {
            catalog: Mutex::new(catalog),
            known: Mutex::default(),
            changes: watch::Sender::new(0),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Checks whether something has changed since the answers were given. Blocking.
    pub(super) fn look(&self, catalog: &Mutex<Catalog>) -> Result<(), Error> {
        loop {
            let before = *self.changes.borrow();
            if self.known.lock().state.is_none() {
                return Ok(());
            }
            let state = catalog.lock().security_state()?;
            let mut known = self.known.lock();
            // The answer may be older than what was found meanwhile.
            if *self.changes.borrow() != before {
                continue;
            }
            if known.state.as_ref() != Some(&state) {
                known.state = Some(state);
                known.answers.clear();
                // Under the lock, so that no older answer is kept after this.
                self.changes.send_modify(|changes| *changes += 1);
                tracing::info!(
                    event = "database_policies_changed",
                    "policies or privileges in the database have changed: live subscriptions are judged again"
                );
            }
            return Ok(());
        }
    }

    /// Forgets everything, since another database has taken the place of the old one.
    pub(super) fn forget(&self, catalog: Catalog) {
        *self.catalog.lock() = catalog;
        let mut known = self.known.lock();
        known.state = None;
        known.answers.clear();
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn remembered(&self, table: u32, role: &str) -> Option<Remembered> {
        self.known.lock().answers.get(&(table, role.into())).cloned()
    }

    /// Asks the database, if the answer is not known. Blocking.
    fn ask(&self, table: u32, role: &str) -> Result<Option<Arc<RoleAccess>>, Error> {
        loop {
            let before = *self.changes.borrow();
            let mut catalog = self.catalog.lock();
            if self.known.lock().state.is_none() {
                // Asked before the answers, which are at least as new then.
                let state = catalog.security_state()?;
                self.known.lock().state = Some(state);
            }
            let access = catalog.role_access(table, role)?.map(Arc::new);
            drop(catalog);
            let mut known = self.known.lock();
            // The answer may be older than what was found meanwhile.
            if *self.changes.borrow() != before {
                continue;
            }
            if known.answers.len() >= MAX_REMEMBERED {
                known.answers.clear();
            }
            let remembered = Remembered {
                access: access.clone(),
                security: None,
            };
            known.answers.insert((table, role.into()), remembered);
            return Ok(access);
        }
    }

    fn keep(&self, role: &str, access: &Arc<RoleAccess>, relation: &Arc<Relation>, security: &Judged) {
        let mut known = self.known.lock();
        let remembered = known.answers.get_mut(&(relation.oid, role.into()));
        let is_same = |held: &&mut Remembered| {
            let held = held.access.as_ref();
            held.is_some_and(|held| Arc::ptr_eq(held, access))
        };
        if let Some(remembered) = remembered.filter(is_same) {
            remembered.security = Some((Arc::clone(relation), security.clone()));
        }
    }
}

impl Tables {
    /// Changes whenever policies, privileges or roles do. Callers of [`Tables::role_answer`] subscribe to this first,
    /// and judge again once it has changed, before they send anything else.
    pub fn security_changes(&self) -> watch::Receiver<u64> {
        self.secured.changes.subscribe()
    }

    /// The part of a table that a role may see by the database's own policies and privileges, for which the database is
    /// asked if it is not known.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn role_answer(
        self: &Arc<Self>,
        relation: &Arc<Relation>,
        role: &str,
    ) -> Result<RoleAnswer, AskError> {
        self.watch_security();
        let remembered = match self.secured.remembered(relation.oid, role) {
            Some(remembered) => remembered,
            None => self.asked_of_role(relation.oid, role).await?,
        };
        let Some(access) = remembered.access else {
            return Ok(RoleAnswer::Nothing);
        };
        let security = match remembered.security {
            Some((of, security)) if Arc::ptr_eq(&of, relation) => security,
            _ => {
                let security = self.secured_by(relation, &access).await?;
                self.secured.keep(role, &access, relation, &security);
                security
            }
        };
        Ok(match security {
            Ok(security) => RoleAnswer::Some(security),
            Err(refusal) => RoleAnswer::Refused(refusal),
        })
    }

    async fn asked_of_role(self: &Arc<Self>, table: u32, role: &str) -> Result<Remembered, AskError> {
        let _turn = self.secured.asking.lock().await;
        if let Some(remembered) = self.secured.remembered(table, role) {
            return Ok(remembered);
        }
        let tables = Arc::clone(self);
        let role = role.to_owned();
        let access = self.ask(move || tables.secured.ask(table, &role)).await?;
        Ok(Remembered {
            access,
            security: None,
        })
    }

    async fn secured_by(&self, relation: &Arc<Relation>, access: &RoleAccess) -> Result<Judged, AskError> {
        let mut learnt: Option<CollationQuestion> = None;
        loop {
            let security = RowSecurity::new(access, relation);
            let question = security
                .as_ref()
                .err()
                .and_then(|refusal| refusal.question.clone());
            // A question without an answer is not asked again.
            let Some(question) = question.filter(|question| learnt.as_ref() != Some(question)) else {
                if let Err(refusal) = &security {
                    tracing::warn!(
                        event = "database_policy_unusable",
                        table = %relation.table, policy = %refusal.policy, reason = %refusal.detail,
                        "a policy of the database cannot be evaluated here: subscriptions that it applies to are refused"
                    );
                }
                return Ok(security.map(Arc::new).map_err(Arc::new));
            };
            self.learn(&question).await?;
            learnt = Some(question);
        }
    }

    /// Looks for changes now and then, from the first question on.
    fn watch_security(self: &Arc<Self>) {
        let mut known = self.secured.known.lock();
        if std::mem::replace(&mut known.is_watched, true) {
            return;
        }
        drop(known);
        tokio::spawn(watch_security(Arc::downgrade(self)).in_current_span());
    }
}

/// Looks for changes for as long as there is anybody to ask.
async fn watch_security(tables: Weak<Tables>) {
    let mut said: Option<String> = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(tables) = tables.upgrade() else {
            return;
        };
        let looking = Arc::clone(&tables);
        let looked = tokio::task::spawn_blocking(in_this_span(move || {
            looking.secured.look(&looking.secured.catalog)
        }))
        .await;
        match looked {
            Ok(Ok(())) => said = None,
            Ok(Err(error)) => {
                let error = chain(&error);
                if said.as_ref() != Some(&error) {
                    tracing::warn!(
                        event = "database_policies_check_failed",
                        error,
                        "cannot check whether policies or privileges in the database have changed"
                    );
                }
                said = Some(error);
            }
            // The runtime is shutting down.
            Err(_) => return,
        }
    }
}

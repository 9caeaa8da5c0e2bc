//! From a `subscribe` message to a subscription that can be activated, or to the words that refuse it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinError;

use super::Services;
use super::resume::{check_versions, resumed};
use crate::event::{Relation, TableName, Timestamp};
use crate::filter::{self, Cost, Predicate};
use crate::log::Log;
use crate::lsn::{Lsn, Position, Start};
use crate::matching::{Bound, Query, Subscription};
use crate::protocol::{
    Caller, ColumnInfo, Detail, ErrorCode, ErrorMessage, Opening, ServerMessage, Subscribe, Subscribed,
};
use crate::schema::RENAME_POLL;
use crate::types::{Kind, moments};

/// A subscription that fits its table, and where it starts.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) subscription: Arc<Subscription>,
    pub(super) start: Beginning,
    /// The message, if the subscription may have to be checked again, and how often it was.
    pub(super) message: Option<(Box<Subscribe>, usize)>,
    relation: Arc<Relation>,
    columns: Vec<usize>,
    warnings: Vec<String>,
    /// The cost of its predicate.
    pub(super) cost: Cost,
}

/// The start of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// The next transaction.
    Now,
    /// The one after a place in the history.
    After(Position),
    /// The rows that are there.
    Snapshot,
}

impl Prepared {
    /// Checks a subscription against its table and the history.
    pub(super) async fn new<H: Log>(
        shared: &Services<H>,
        id: Arc<str>,
        subscribe: &Subscribe,
        caller: &Caller,
    ) -> Result<Prepared, ErrorMessage> {
        let moment = Instant::now();
        let mut prepared = Prepared::check(shared, &id, subscribe, caller).await;
        // Postgres sends no word of a cure before the table's next row: the database may be ahead of what is known.
        if matches!(&prepared, Err(error) if error.code == ErrorCode::ReplicaIdentity) {
            match shared.tables.renew_since(moment).await {
                Ok(()) => prepared = Prepared::check(shared, &id, subscribe, caller).await,
                Err(error) => {
                    tracing::debug!(%error, "the replica identity of a refused table was not looked at again")
                }
            }
        }
        prepared.map_err(|error| error.about(&*id))
    }

    async fn check<H: Log>(
        shared: &Services<H>,
        id: &Arc<str>,
        subscribe: &Subscribe,
        caller: &Caller,
    ) -> Result<Prepared, ErrorMessage> {
        let long = is_long(subscribe);
        let mut query = match long {
            true => {
                let (subscribe, caller) = (subscribe.clone(), caller.clone());
                let parsed = apart(move || Query::new(&subscribe, &caller)).await;
                parsed.map_err(|error| shared.internal(&error))??
            }
            false => Query::new(subscribe, caller)?,
        };
        if query.asks_the_clock() {
            query.set_now(time_of(subscribe)?);
        }
        let mut start = start(shared, subscribe).await?;
        let unknown = || {
            let message = match subscribe.table.messages() {
                None => {
                    let hint = hint(&subscribe.table, &shared.tables.names());
                    format!(
                        "{} is not a table of this server's publications{hint}",
                        subscribe.table
                    )
                }
                Some(prefix) => {
                    format!("messages of {prefix:?} are not among those that this server reads (--messages)")
                }
            };
            ErrorMessage::new(ErrorCode::UnknownTable, message)
        };
        let found = shared
            .tables
            .find(query.table())
            .await
            .map_err(|error| shared.unanswered(&error))?;
        let relation = found.ok_or_else(unknown)?;
        let settled = shared.tables.settled(relation.oid).await;
        if settled.map_err(|error| shared.unanswered(&error))? {
            let (epoch, head) = (shared.history.epoch(), shared.history.head());
            while shared.router.position() < head && shared.history.epoch() == epoch {
                tokio::time::sleep(RENAME_POLL).await;
            }
        }
        if !shared
            .tables
            .can_hold(&texts(subscribe))
            .await
            .map_err(|error| shared.unanswered(&error))?
        {
            let message = "where or params have a character that the database's encoding does not have";
            return Err(ErrorMessage::new(ErrorCode::BadPredicate, message));
        }
        if query.predicate().is_some_and(Predicate::collates) {
            let ordered = shared.tables.orders_bytes_as_utf8().await;
            if let Err(encoding) = ordered.map_err(|error| shared.unanswered(&error))? {
                let message = format!(
                    "COLLATE \"C\" orders by the bytes of the database's encoding, {encoding}, which is not the order of \
                     UTF-8's: it is not supported there"
                );
                return Err(ErrorMessage::new(ErrorCode::BadPredicate, message));
            }
        }
        let mut oid = relation.oid;
        // Its past is that of the table that the stream has under the name: the database may be ahead of it.
        if let Beginning::After(from) = &mut start
            && let Some(resumed) = resumed(&shared.history.tables().borrow(), subscribe, *from)?
        {
            *from = resumed.from;
            oid = resumed.oid;
        }
        query.hold_to_key(&relation);
        let mut learnt = None;
        loop {
            // Other errors are found again below.
            let question = match long {
                true => {
                    let table = Arc::clone(&relation);
                    let bound = apart(move || {
                        let question = query.collation_question(&table);
                        (query, question)
                    });
                    let question;
                    (query, question) = bound.await.map_err(|error| shared.internal(&error))?;
                    question
                }
                false => query.collation_question(&relation),
            };
            // What has no answer is not asked again.
            let Some(question) = question.filter(|question| learnt.as_ref() != Some(question)) else {
                break;
            };
            let answered = shared.tables.learn(&question).await;
            answered.map_err(|error| shared.unlearnt(&error))?;
            learnt = Some(question);
        }
        if let (Opening::Changes(Start::After(_)), Beginning::After(from)) = (&subscribe.opening, start) {
            check_versions(&query, shared.tables.versions_since(oid, from))?;
        }
        let (bound, selection) = Bound::new(&query, &relation, &mut Default::default())?;
        let mut warnings = query.key().warnings(selection.predicate(), &relation);
        warnings.extend(query.now().map(time_warning));
        warnings.extend(relation.logging.caveats.iter().map(ToString::to_string));
        let subscription = Subscription {
            id: Arc::clone(id),
            query: Arc::new(query),
            oid,
        };
        Ok(Prepared {
            cost: selection.rows().cost(),
            subscription: Arc::new(subscription),
            start,
            message: None,
            columns: bound.encoder.columns().to_vec(),
            relation,
            warnings,
        })
    }

    /// The answer, once the subscription is active after `position`.
    pub(super) fn subscribed(&self, position: Position) -> String {
        let columns = self
            .columns
            .iter()
            .filter_map(|&index| self.relation.columns.get(index));
        let key = self
            .relation
            .key
            .iter()
            .filter_map(|&index| self.relation.columns.get(index));
        let subscribed = Subscribed {
            id: &self.subscription.id,
            position,
            key: key.map(|column| column.name.as_str()).collect(),
            columns: columns
                .map(|c| ColumnInfo {
                    name: &c.name,
                    ty: &c.ty.name,
                })
                .collect(),
            replica_identity: self.relation.replica_identity,
            now: self.subscription.query.now().map(|now| {
                let now = now.to_system_time();
                humantime::format_rfc3339_micros(now).to_string()
            }),
            warnings: self.warnings.clone(),
        };
        ServerMessage::Subscribed(subscribed).to_json()
    }
}

/// The value of `now()` in a predicate that asks for it: the client's, else that of this server's clock.
///
/// A client holds the result of the time that it was told, so it can go on at that time only.
fn time_of(subscribe: &Subscribe) -> Result<Timestamp, ErrorMessage> {
    match (subscribe.now, subscribe.opening) {
        (Some(now), _) => Ok(now),
        (None, Opening::Changes(Start::After(_))) => {
            let message = "the predicate asks for the time, and \"from\" goes on with the result of an earlier one, which \
                           \"subscribed\" told: send that as \"now\", or subscribe again without \"from\"";
            Err(ErrorMessage::new(ErrorCode::BadPredicate, message))
        }
        (None, _) => Ok(Timestamp::now()),
    }
}

/// The warning that tells the client of it.
fn time_warning(now: Timestamp) -> String {
    let now = moments::text(&Kind::TimestampTz, now.0);
    format!(
        "now() is {now} in this predicate for as long as the subscription lasts: no row comes or leaves because time passes. \
         To resume from a position, send \"now\" with the value told here; for a later time, subscribe again"
    )
}

/// The number of predicates that are parsed or bound at the same moment, of those that take long.
static BINDING: Semaphore = Semaphore::const_new(2);

/// Does something that takes long away from the threads that serve sockets, a few at a time: the others wait their
/// turn.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    let turn = BINDING.acquire().await;
    let work = move || {
        // Also of a client that has gone meanwhile.
        let _turn = turn;
        work()
    };
    tokio::task::spawn_blocking(work).await
}

/// So many bytes of predicate and parameters take about as long as it takes to hand them over.
const SHORT_BYTES: usize = 1024;

fn is_long(subscribe: &Subscribe) -> bool {
    let text = subscribe.predicate.as_deref().unwrap_or_default();
    text.len() + filter::parameters_size(&subscribe.params) > SHORT_BYTES
}

/// The texts that the database would be asked for: the texts of the predicate, as far as they are not ASCII.
fn texts(subscribe: &Subscribe) -> String {
    let params = subscribe.params.iter().map(ToString::to_string);
    let texts = subscribe.predicate.clone().into_iter().chain(params);
    texts.filter(|text| !text.is_ascii()).collect()
}

/// The hint beside the name of a table that is not there: the one that was meant, or those that there are.
fn hint(wanted: &TableName, names: &[TableName]) -> String {
    const SHOWN: usize = 10;
    if let Some(meant) = filter::nearest_table(wanted, &names.iter().collect::<Vec<_>>()) {
        return format!(": did you mean {meant}?");
    }
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    if names.len() > SHOWN {
        shown.push("…".to_owned());
    }
    match shown.is_empty() {
        true => ": they have none".to_owned(),
        false => format!(": they have {}", shown.join(", ")),
    }
}

/// The place where a subscription from now on starts, with the router at that place: as far as the history that holds
/// `earliest` to `head` has it. Where it began or was replaced just now, the router has not noticed yet.
pub(super) fn now(router: Lsn, earliest: Lsn, head: Lsn) -> Position {
    Position::after(router.min(head).max(earliest))
}

/// The place where a subscription starts: after a place that the history holds, or will reach.
async fn start<H: Log>(shared: &Services<H>, subscribe: &Subscribe) -> Result<Beginning, ErrorMessage> {
    let epoch = shared.history.epoch();
    if subscribe.epoch.as_ref().is_some_and(|theirs| *theirs != epoch) {
        let message = format!(
            "the epoch is {epoch} now: earlier positions mean nothing any more: resubscribe with a new snapshot"
        );
        return Err(ErrorMessage::new(ErrorCode::ResumeInvalid, message));
    }
    let earliest = shared.history.earliest();
    let from = match subscribe.opening {
        Opening::Snapshot => return Ok(Beginning::Snapshot),
        Opening::Changes(Start::Now) => return Ok(Beginning::Now),
        Opening::Changes(Start::Earliest) => return Ok(Beginning::After(Position::after(earliest))),
        Opening::Changes(Start::After(from)) => from,
    };
    if from < Position::after(earliest) {
        let message =
            format!("the journal holds nothing before {earliest} any more: resubscribe with a new snapshot");
        return Err(ErrorMessage::new(ErrorCode::ResumeExpired, message).with(Detail::Earliest(earliest)));
    }
    if from.end > shared.history.head() {
        let reached = shared.tables.has_inserted(from.end).await;
        if let Err(written) = reached.map_err(|error| shared.unanswered(&error))? {
            let message = format!("{from} lies beyond what the database has written, {written}");
            return Err(ErrorMessage::new(ErrorCode::ResumeInvalid, message));
        }
    }
    Ok(Beginning::After(from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_a_place_of_the_history() {
        let now = |router, earliest, head| now(Lsn(router), Lsn(earliest), Lsn(head)).end.0;
        assert_eq!(now(15, 10, 20), 15);
        // A history that began behind the router, or before it came to it at all.
        assert_eq!(now(0, 10, 20), 10);
        assert_eq!(now(0, 10, 10), 10);
        assert_eq!(now(30, 10, 20), 20);
    }
}

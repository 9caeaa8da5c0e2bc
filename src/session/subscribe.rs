//! From a `subscribe` message to a subscription that can be activated, or to the error that refuses it.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinError;

use super::judge::Judgement;
use super::resume::{check_versions, resumed};
use super::{Services, since};
use crate::event::{Relation, TableName, Timestamp};
use crate::filter::{self, Cost, Matcher, Predicate};
use crate::log::Log;
use crate::lsn::{Lsn, Position, Start};
use crate::matching::{Bound, Query, Subscription, place_in_own};
use crate::policy::Admission;
use crate::protocol::{
    Caller, ColumnInfo, Detail, ErrorCode, ErrorMessage, Opening, ServerMessage, Subscribe, Subscribed,
    Wanted,
};
use crate::schema::RENAME_POLL;
use crate::telemetry::in_this_span;
use crate::types::{Kind, moments};

/// A subscription that fits its table, and where it starts.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) subscription: Arc<Subscription>,
    pub(super) start: Beginning,
    /// The message, and how often it was checked, if it may have to be checked again.
    pub(super) message: Option<(Box<Subscribe>, usize)>,
    pub(super) relation: Arc<Relation>,
    pub(super) columns: Vec<usize>,
    /// The bound of its order, or null; `None` without an order.
    bound: Option<serde_json::Value>,
    pub(super) warnings: Vec<String>,
    /// The cost of its predicate.
    pub(super) cost: Cost,
}

/// The start of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// The next transaction.
    Now,
    /// The first change after a place in the history.
    After(Position),
    /// The rows that match now.
    Snapshot,
}

impl Prepared {
    /// Checks a subscription against its table and the history.
    pub(super) async fn new<H: Log>(
        services: &Services<H>,
        id: Arc<str>,
        subscribe: &Subscribe,
        caller: &Caller,
    ) -> Result<Prepared, ErrorMessage> {
        let moment = Instant::now();
        let mut prepared = Prepared::check(services, &id, subscribe, caller).await;
        // Postgres says nothing of a new replica identity before the table's next row, so the database may be ahead of
        // what is known here.
        if matches!(&prepared, Err(error) if error.code == ErrorCode::ReplicaIdentity) {
            match services.tables.renew_since(moment).await {
                Ok(()) => prepared = Prepared::check(services, &id, subscribe, caller).await,
                Err(error) => {
                    tracing::debug!(%error, "the replica identity of a refused table was not looked at again")
                }
            }
        }
        prepared.map_err(|error| in_own_words(error, subscribe).about(&*id))
    }

    async fn check<H: Log>(
        services: &Services<H>,
        id: &Arc<str>,
        subscribe: &Subscribe,
        caller: &Caller,
    ) -> Result<Prepared, ErrorMessage> {
        let mut query = parsed(services, subscribe, caller).await?;
        let mut start = start(services, subscribe).await?;
        let relation = admitted(services, &mut query, caller).await?;
        if let Some(order) = &subscribe.order {
            query.key().check_order(&order.by, &relation)?;
        }
        settle(services, relation.oid).await?;
        check_encoding(services, &query, subscribe).await?;
        let mut oid = relation.oid;
        // The database may be ahead of the stream, so the past is that of the table which the stream has under this
        // name.
        if let Beginning::After(from) = &mut start
            && let Some(resumed) = resumed(&services.history.tables().borrow(), subscribe, *from)?
        {
            *from = resumed.from;
            oid = resumed.oid;
        }
        query.hold_to_key(&relation);
        let query = bindable(services, query, &relation, is_long(subscribe)).await?;
        if let (Opening::Changes(Start::After(_)), Beginning::After(from)) = (&subscribe.opening, start) {
            check_versions(&query, services.tables.versions_since(oid, from))?;
        }
        let (bound, selection) = Bound::new(&query, &relation, &mut Default::default())?;
        let warnings = warnings(&query, selection.predicate(), &relation);
        let query_bytes = query.bytes(&selection);
        let subscription = Subscription {
            id: Arc::clone(id),
            query: Arc::new(query),
            oid,
        };
        Ok(Prepared {
            cost: Cost {
                bytes: query_bytes,
                ..selection.rows().cost()
            },
            subscription: Arc::new(subscription),
            start,
            message: None,
            bound: bound_of(subscribe),
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
            bound: self.bound.clone(),
            warnings: self.warnings.clone(),
        };
        ServerMessage::Subscribed(subscribed).to_json()
    }
}

/// The bound of the subscription's order as the client is told it.
fn bound_of(subscribe: &Subscribe) -> Option<serde_json::Value> {
    match &subscribe.order.as_ref()?.wanted {
        Wanted::First(_) => None,
        Wanted::Within(values) => Some(values.clone().into()),
        Wanted::All => Some(serde_json::Value::Null),
    }
}

/// An error of the whole predicate as one of the client's own, whose places it names.
fn in_own_words(mut error: ErrorMessage, subscribe: &Subscribe) -> ErrorMessage {
    let offset = match &mut error.detail {
        Some(Detail::Offset(offset) | Detail::OffsetOfLimit(offset, _)) => offset,
        _ => return error,
    };
    match place_in_own(subscribe, *offset) {
        Some(own) => *offset = own,
        None => {
            error.detail = match error.detail {
                Some(Detail::OffsetOfLimit(_, limit)) => Some(Detail::Limit(limit)),
                _ => None,
            };
            error.message = format!(
                "the rows cannot be kept in the order of \"order_by\": {}",
                error.message
            );
        }
    }
    error
}

/// The query that a message asks for.
async fn parsed<H: Log>(
    services: &Services<H>,
    subscribe: &Subscribe,
    caller: &Caller,
) -> Result<Query, ErrorMessage> {
    let mut query = if is_long(subscribe) {
        let (subscribe, caller) = (subscribe.clone(), caller.clone());
        let parsed = apart(services, move || Query::new(&subscribe, &caller)).await;
        parsed.map_err(|error| services.internal(&error))??
    } else {
        Query::new(subscribe, caller)?
    };
    if query.asks_the_clock() {
        query.set_now(time_of(subscribe)?);
    }
    Ok(query)
}

/// The table of a query, which is restricted to what its caller may see of it.
async fn admitted<H: Log>(
    services: &Services<H>,
    query: &mut Query,
    caller: &Caller,
) -> Result<Arc<Relation>, ErrorMessage> {
    let moment = Instant::now();
    let judgement = services.judge(query.table(), caller).await?;
    // A hidden table is not looked up: it gets the answer of one that does not exist, and a look-up would show in the
    // time that takes.
    let relation = match judgement {
        Judgement::Hidden => {
            // Where the database is asked, a table that exists must not be answered sooner than one that does not.
            if services.asks_the_database(query.table(), caller) {
                let renewed = services.tables.renew_since(moment).await;
                renewed.map_err(|error| services.unanswered(&error))?;
            }
            None
        }
        Judgement::Open | Judgement::Admitted(_) => {
            let found = services.tables.find(query.table()).await;
            found.map_err(|error| services.unanswered(&error))?
        }
    };
    let relation = relation.ok_or_else(|| unknown_table(services, query.table(), caller))?;
    if let Judgement::Admitted(admission) = judgement {
        // Asked before the policies are bound to the table: a condition that cannot be bound yet would admit nothing.
        let mut learnt = None;
        let mut judged = admission.judged_by(&relation);
        while let Some(question) = judged
            .question
            .take()
            .filter(|question| learnt.as_ref() != Some(question))
        {
            let answered = services.tables.learn(&question).await;
            answered.map_err(|error| services.unlearnt(&error))?;
            learnt = Some(question);
            judged = admission.judged_by(&relation);
        }
        for condition in &judged.unbound {
            services.notes.unbound(query.table(), condition);
        }
        query.admit(judged.admission);
    }
    Ok(relation)
}

/// The answer to a subscription to a table that does not exist for its caller.
fn unknown_table<H: Log>(services: &Services<H>, table: &TableName, caller: &Caller) -> ErrorMessage {
    let message = match table.messages() {
        None => {
            let mut names = services.tables.names();
            names.retain(|name| services.shows(name, caller));
            format!(
                "{table} is not a table of this server's publications{}",
                hint(table, &names)
            )
        }
        Some(prefix) => {
            format!("messages of {prefix:?} are not among those that this server reads (--messages)")
        }
    };
    ErrorMessage::new(ErrorCode::UnknownTable, message)
}

/// Waits until the router has reached a change of the table that the database showed just now.
async fn settle<H: Log>(services: &Services<H>, oid: u32) -> Result<(), ErrorMessage> {
    let settled = services.tables.settled(oid).await;
    if settled.map_err(|error| services.unanswered(&error))? {
        let (epoch, head) = (services.history.epoch(), services.history.head());
        while services.router.position() < head && services.history.epoch() == epoch {
            tokio::time::sleep(RENAME_POLL).await;
        }
    }
    Ok(())
}

/// Refuses texts and comparisons that mean something else in the database's encoding.
async fn check_encoding<H: Log>(
    services: &Services<H>,
    query: &Query,
    subscribe: &Subscribe,
) -> Result<(), ErrorMessage> {
    let can_hold = async |text: &str| {
        let can_hold = services.tables.can_hold(text).await;
        can_hold.map_err(|error| services.unanswered(&error))
    };
    let texts = texts(subscribe);
    if subscribe.table.messages().is_some() && !texts.is_empty() {
        // Messages come as the bytes that they are in the database.
        let is_utf8 = services.tables.is_in_utf8().await;
        if let Err(encoding) = is_utf8.map_err(|error| services.unanswered(&error))? {
            let message = format!("\"content\" has to be ASCII where the database's encoding is {encoding}");
            return Err(ErrorMessage::new(ErrorCode::BadRequest, message));
        }
    }
    if !can_hold(&texts).await? {
        let message = "where or params have a character that the database's encoding does not have";
        return Err(ErrorMessage::new(ErrorCode::BadPredicate, message));
    }
    let admission = query.key().admission.as_deref();
    if let Some(admission) = admission
        && !can_hold(&admission.texts()).await?
    {
        let message = "a claim of the token has a character that the database's encoding does not have";
        return Err(ErrorMessage::new(ErrorCode::Forbidden, message));
    }
    let by_client = query.predicate().is_some_and(Predicate::collates);
    if by_client || admission.is_some_and(Admission::collates) {
        let ordered = services.tables.orders_bytes_as_utf8().await;
        if let Err(encoding) = ordered.map_err(|error| services.unanswered(&error))? {
            let message = format!(
                "COLLATE \"C\" orders by the bytes of the database's encoding, {encoding}, which is not the order of UTF-8's: \
                 it is not supported there"
            );
            let code = if by_client {
                ErrorCode::BadPredicate
            } else {
                ErrorCode::Forbidden
            };
            return Err(ErrorMessage::new(code, message));
        }
    }
    Ok(())
}

/// The query, once the database has answered all that binding it needs to know of collations. Other errors are found
/// when it is bound.
async fn bindable<H: Log>(
    services: &Services<H>,
    mut query: Query,
    relation: &Arc<Relation>,
    is_long: bool,
) -> Result<Query, ErrorMessage> {
    let mut learnt = None;
    loop {
        let question;
        if is_long {
            let table = Arc::clone(relation);
            let bound = apart(services, move || {
                let question = query.collation_question(&table);
                (query, question)
            });
            (query, question) = bound.await.map_err(|error| services.internal(&error))?;
        } else {
            question = query.collation_question(relation);
        }
        // A question without an answer is not asked again.
        let Some(question) = question.filter(|question| learnt.as_ref() != Some(question)) else {
            return Ok(query);
        };
        let answered = services.tables.learn(&question).await;
        answered.map_err(|error| services.unlearnt(&error))?;
        learnt = Some(question);
    }
}

/// The warnings that come with the answer.
fn warnings(query: &Query, predicate: &Matcher, relation: &Relation) -> Vec<String> {
    let mut warnings = query.key().warnings(predicate, relation);
    warnings.extend(query.now().map(time_warning));
    let caveats = &relation.logging.caveats;
    match query.key().admission {
        None => warnings.extend(caveats.iter().map(ToString::to_string)),
        // They name partitions and publications, which the policies may hide from this client.
        Some(_) if caveats.is_empty() => {}
        Some(_) => warnings.push(format!(
            "not every change of {} is told, as it is published: `walcast tables` says which to whoever runs the server",
            relation.table
        )),
    }
    warnings
}

/// The value of `now()` in a predicate that asks for it: the client's, else that of this server's clock.
///
/// A client that resumes holds the result as of the time that it was told, so it has to name that time.
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

/// The warning that tells the client this time.
fn time_warning(now: Timestamp) -> String {
    let now = moments::text(&Kind::TimestampTz, now.0);
    format!(
        "now() is {now} in this predicate for as long as the subscription lasts: no row comes or leaves because time passes. \
         To resume from a position, send \"now\" with the value told here; for a later time, subscribe again"
    )
}

/// The permits to parse and bind long predicates, so many at the same moment.
static BINDING: Semaphore = Semaphore::const_new(2);

/// Runs long work away from the threads that serve sockets, a few at a time; the rest waits its turn.
async fn apart<T: Send + 'static, H: Log>(
    services: &Services<H>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let turn = BINDING.acquire().await;
    let work = move || {
        // Held to the end of the work, even if the client is gone by then.
        let _turn = turn;
        work()
    };
    services.background.spawn_blocking(in_this_span(work)).await
}

/// Predicates and parameters of up to this size, in bytes, are handled in place, which takes about as long as handing
/// them over.
const SHORT_BYTES: usize = 1024;

fn is_long(subscribe: &Subscribe) -> bool {
    let text = subscribe.predicate.as_deref().unwrap_or_default();
    text.len() + filter::parameters_size(&subscribe.params) > SHORT_BYTES
}

/// The texts that have to be checked against the database's encoding: those of the predicate that are not ASCII.
fn texts(subscribe: &Subscribe) -> String {
    let params = subscribe.params.iter().map(ToString::to_string);
    let texts = subscribe.predicate.clone().into_iter().chain(params);
    texts.filter(|text| !text.is_ascii()).collect()
}

/// The hint for an unknown table: the name that was probably meant, or a list of those that exist.
fn hint(wanted: &TableName, names: &[TableName]) -> String {
    const SHOWN: usize = 10;
    if let Some(meant) = filter::nearest_table(wanted, &names.iter().collect::<Vec<_>>()) {
        return format!(": did you mean {meant}?");
    }
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    if names.len() > SHOWN {
        shown.push("…".to_owned());
    }
    if shown.is_empty() {
        ": they have none".to_owned()
    } else {
        format!(": they have {}", shown.join(", "))
    }
}

/// The place where a subscription from now on starts: that of the router, within the history from `earliest` to `head`.
/// If that began or was replaced a moment ago, the router has not noticed yet.
pub(super) fn now(router: Lsn, earliest: Lsn, head: Lsn) -> Position {
    Position::after(router.min(head).max(earliest))
}

/// The place where a subscription starts: after a place that the history holds, or will reach.
async fn start<H: Log>(services: &Services<H>, subscribe: &Subscribe) -> Result<Beginning, ErrorMessage> {
    let epoch = services.history.epoch();
    if subscribe.epoch.as_ref().is_some_and(|theirs| *theirs != epoch) {
        let message = format!(
            "the epoch is {epoch} now: earlier positions mean nothing any more: resubscribe with a new snapshot"
        );
        return Err(ErrorMessage::new(ErrorCode::ResumeInvalid, message));
    }
    let earliest = services.history.earliest();
    let from = match subscribe.opening {
        Opening::Snapshot => return Ok(Beginning::Snapshot),
        Opening::Changes(Start::Now) => return Ok(Beginning::Now),
        Opening::Changes(Start::Earliest) => return Ok(Beginning::After(Position::after(earliest))),
        Opening::Changes(Start::After(from)) => from,
        Opening::Since(time) => return since::place(services, time).await.map(Beginning::After),
    };
    if from < Position::after(earliest) {
        let message =
            format!("the journal holds nothing before {earliest} any more: resubscribe with a new snapshot");
        return Err(ErrorMessage::new(ErrorCode::ResumeExpired, message).with(Detail::Earliest(earliest)));
    }
    if from.end > services.history.head() {
        let reached = services.tables.has_inserted(from.end).await;
        if let Err(written) = reached.map_err(|error| services.unanswered(&error))? {
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
        // A history that begins after the router's place, or that the router has not seen yet.
        assert_eq!(now(0, 10, 20), 10);
        assert_eq!(now(0, 10, 10), 10);
        assert_eq!(now(30, 10, 20), 20);
    }
}

//! The open connections of a source.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::rates::Rates;
use crate::log::Log;
use crate::lsn::Lsn;
use crate::session::{Seen, Services, SessionState};

/// The most connections that are told of.
const MAX_TOLD: usize = 500;
/// The longest name of a subject that is told, in characters.
const SUBJECT_CHARS: usize = 200;

/// The connections as they were found last, and how much they had been sent by then.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sent: Rates,
    total: usize,
    told: Vec<Told>,
}

#[derive(Debug)]
struct Told {
    seen: Arc<Seen>,
    behind: u64,
    sent: u64,
    rate: Option<f64>,
}

impl Connections {
    /// The answer of `/api/connections`. Subjects and origins are told only if `shows`. `None` if walcast stops.
    pub(super) async fn answer<H: Log>(
        self: &Arc<Self>,
        services: Services<H>,
        shows: bool,
    ) -> Option<Value> {
        let connections = Arc::clone(self);
        // Away from the threads that serve clients, since there may be very many.
        let background = services.background.clone();
        let found = background.spawn_blocking(move || connections.found(&services, shows));
        found.await.ok()
    }

    fn found<H: Log>(&self, services: &Services<H>, shows: bool) -> Value {
        let now = Instant::now();
        let mut state = self.0.lock();
        if !state.sent.is_recent(now) {
            let head = services.history.head();
            let all = services.sessions.all();
            let sent: Vec<(u64, u64)> = all
                .iter()
                .map(|seen| (seen.connection, seen.sent_bytes()))
                .collect();
            let rates = state.sent.look(&sent, now);
            state.total = all.len();
            let found = all.into_iter().zip(sent).zip(rates);
            let mut told: Vec<Told> = found
                .map(|((seen, (_, sent)), rate)| Told {
                    behind: behind(&seen, head),
                    seen,
                    sent,
                    rate,
                })
                .collect();
            told.sort_by_key(|told| (Reverse(told.behind), told.seen.connection));
            told.truncate(MAX_TOLD);
            state.told = told;
        }
        let told: Vec<Value> = state.told.iter().map(|told| in_json(told, shows)).collect();
        json!({"total": state.total, "connections": told})
    }
}

/// The WAL that a connection has yet to be sent, in bytes: that of its subscription which is furthest behind. One that is
/// live has all of it, but for what is on its way.
fn behind(seen: &Seen, head: Lsn) -> u64 {
    let position = match seen.state() {
        SessionState::CatchingUp | SessionState::Stalled => seen.position(),
        SessionState::Opening | SessionState::Live => None,
    };
    position.map_or(0, |position| head.0.saturating_sub(position.0))
}

fn in_json(told: &Told, shows: bool) -> Value {
    let seen = &told.seen;
    let opened = seen.opened.duration_since(SystemTime::UNIX_EPOCH);
    let subject = seen.subject().and_then(|subject| subject.subject.clone());
    let subject: Option<String> = subject.map(|subject| subject.chars().take(SUBJECT_CHARS).collect());
    json!({
        "id": seen.connection,
        "address": seen.client.to_string(),
        "origin": seen.origin.as_deref().filter(|_| shows),
        "operator": seen.is_operator,
        "subject": subject.filter(|_| shows),
        "opened": opened.unwrap_or_default().as_secs(),
        "state": seen.state().as_str(),
        "subscriptions": seen.subscriptions(),
        "behind_bytes": told.behind,
        "sent_bytes": told.sent,
        "bytes_per_second": told.rate,
    })
}

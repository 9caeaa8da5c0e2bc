//! [`Readiness`]: whether walcast can do its work now, and if not, why.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

/// The readiness of walcast: that it can do its work now, or the reason why not. Clones share the state.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Debug)]
struct State {
    now: Result<(), String>,
    /// Everything there is to know while it works.
    remark: Option<String>,
    /// Closes the clients of the time since this walcast has something to serve; `None` while it has nothing.
    term: Option<CancellationToken>,
    clients: CancellationToken,
}

impl Readiness {
    /// Not ready, for `reason`. `clients` closes all clients for good.
    pub fn not_yet(reason: &str, clients: &CancellationToken) -> Readiness {
        Readiness(Arc::new(RwLock::new(State {
            now: Err(reason.to_owned()),
            remark: None,
            term: None,
            clients: clients.clone(),
        })))
    }

    /// Says that everything works.
    pub fn ready(&self) {
        let mut state = self.0.write();
        state.now = Ok(());
        if state.term.is_none() {
            state.term = Some(state.clients.child_token());
        }
    }

    /// Says what keeps it from working.
    pub fn unready(&self, reason: impl Into<String>) {
        self.0.write().now = Err(reason.into());
    }

    /// Says what there is to know while everything works, or that there is nothing any more.
    pub fn remark(&self, remark: Option<String>) {
        self.0.write().remark = remark;
    }

    /// Everything there is to know while everything works.
    pub fn remarks(&self) -> Option<String> {
        self.0.read().remark.clone()
    }

    /// Says that another walcast does the work: clients are to go there.
    pub fn standby(&self, reason: impl Into<String>) {
        self.closed(reason);
    }

    /// Says that there is nothing to serve until it is ready again: clients are closed.
    pub fn closed(&self, reason: impl Into<String>) {
        let mut state = self.0.write();
        state.now = Err(reason.into());
        if let Some(term) = state.term.take() {
            term.cancel();
        }
    }

    /// The state, with the reason while it is not ready.
    ///
    /// # Errors
    /// The reason.
    pub fn get(&self) -> Result<(), String> {
        self.0.read().now.clone()
    }

    /// The close of a client that comes now. Once there is a history to serve, clients are served from it also while
    /// Postgres is away.
    ///
    /// # Errors
    /// Why there is nothing to serve.
    pub fn serves(&self) -> Result<CancellationToken, String> {
        let state = self.0.read();
        match (&state.term, &state.now) {
            (Some(term), _) => Ok(term.clone()),
            (None, Err(reason)) => Err(reason.clone()),
            (None, Ok(())) => Err("starting".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starting() -> (Readiness, CancellationToken) {
        let clients = CancellationToken::new();
        (Readiness::not_yet("starting", &clients), clients)
    }

    #[test]
    fn what_was_ready_once_still_serves_while_it_is_not() {
        let (readiness, clients) = starting();
        assert_eq!(readiness.serves().unwrap_err(), "starting");
        readiness.ready();
        readiness.unready("postgres is away");
        assert_eq!(readiness.get(), Err("postgres is away".into()));
        let term = readiness.serves().unwrap();
        assert!(!term.is_cancelled());
        clients.cancel();
        assert!(term.is_cancelled());
    }

    #[test]
    fn a_standby_sends_its_clients_away_until_it_takes_over() {
        let (readiness, _clients) = starting();
        readiness.ready();
        let before = readiness.serves().unwrap();
        readiness.standby("another one reads the slot");
        assert!(before.is_cancelled());
        assert_eq!(readiness.serves().unwrap_err(), "another one reads the slot");
        readiness.ready();
        assert!(!readiness.serves().unwrap().is_cancelled());
    }
}

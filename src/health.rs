//! [`Readiness`]: whether walcast can do its work now, and if not, why.

use std::sync::{Arc, PoisonError, RwLock};

/// Whether walcast can do its work now, and if not, why. Clones share the state.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<RwLock<State>>);

#[derive(Debug)]
struct State {
    now: Result<(), String>,
    ever: bool,
}

impl Readiness {
    /// Not ready, for `reason`.
    pub fn not_yet(reason: &str) -> Readiness {
        Readiness(Arc::new(RwLock::new(State {
            now: Err(reason.to_owned()),
            ever: false,
        })))
    }

    /// Says that everything works.
    pub fn ready(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = State {
            now: Ok(()),
            ever: true,
        };
    }

    /// Says what keeps it from working.
    pub fn unready(&self, reason: impl Into<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).now = Err(reason.into());
    }

    /// The state, with the reason while it is not ready.
    ///
    /// # Errors
    /// The reason.
    pub fn get(&self) -> Result<(), String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).now.clone()
    }

    /// Whether there is a history to serve. Once there is, clients are served from it also while Postgres is away.
    ///
    /// # Errors
    /// Why there is none yet.
    pub fn serves(&self) -> Result<(), String> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if state.ever { Ok(()) } else { state.now.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_ready_once_still_serves_while_it_is_not() {
        let readiness = Readiness::not_yet("starting");
        assert_eq!(readiness.serves(), Err("starting".into()));
        readiness.ready();
        readiness.unready("postgres is away");
        assert_eq!(readiness.get(), Err("postgres is away".into()));
        assert_eq!(readiness.serves(), Ok(()));
    }
}

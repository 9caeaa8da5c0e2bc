//! [`Refresh`]: the loop that fetches keys, and [`Cache`], which holds them.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fetch::{Client, FetchError};
use crate::auth::{Algorithm, KeySet};
use crate::telemetry::Metrics;

/// The least time between two fetches because of tokens with unknown keys.
const COOLDOWN: Duration = Duration::from_secs(30);
/// The longest time that a token waits for a fetch.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after the first failed fetch, which doubles up to a limit.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The keys that were fetched last.
#[derive(Debug)]
pub(super) struct Cache {
    keys: Mutex<Option<Arc<KeySet>>>,
    fetching: Mutex<Fetching>,
    /// Wakes the loop early.
    wanted: Notify,
    /// The number of fetches that have ended.
    done: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Fetching {
    is_under_way: bool,
    began: Option<Instant>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache {
            keys: Mutex::default(),
            fetching: Mutex::default(),
            wanted: Notify::new(),
            done: watch::Sender::new(0),
        }
    }
}

impl Cache {
    /// The keys; `None` before the first.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.keys.lock().clone()
    }

    /// Has the keys fetched, unless that was done recently, and waits for it. True if a fetch ended meanwhile.
    pub(super) async fn newer(&self) -> bool {
        let mut done = self.done.subscribe();
        done.mark_unchanged();
        if !self.ask(Instant::now()) {
            return false;
        }
        matches!(tokio::time::timeout(PATIENCE, done.changed()).await, Ok(Ok(())))
    }

    /// Asks the loop for a fetch. False if the last one ended recently.
    fn ask(&self, now: Instant) -> bool {
        let mut fetching = self.fetching.lock();
        if fetching.is_under_way {
            return true;
        }
        if fetching
            .began
            .is_some_and(|began| now.saturating_duration_since(began) < COOLDOWN)
        {
            return false;
        }
        // Later callers wait for the same fetch.
        fetching.is_under_way = true;
        fetching.began = Some(now);
        self.wanted.notify_one();
        true
    }

    fn begin(&self, now: Instant) {
        *self.fetching.lock() = Fetching {
            is_under_way: true,
            began: Some(now),
        };
    }

    fn end(&self) {
        self.fetching.lock().is_under_way = false;
        self.done.send_modify(|done| *done += 1);
    }
}

/// The loop that fetches keys until it is stopped.
#[derive(Debug)]
pub struct Refresh {
    pub(super) client: Client,
    pub(super) every: Duration,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) cache: Arc<Cache>,
    pub(super) metrics: Arc<Metrics>,
}

impl Refresh {
    /// Fetches the keys now, and then periodically, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures: u32 = 0;
        loop {
            self.cache.begin(Instant::now());
            let fetched = tokio::select! {
                () = stop.cancelled() => return,
                fetched = self.fetch() => fetched,
            };
            let rest = match fetched {
                Ok(keys) => {
                    let keys = self.keep(keys);
                    if failures > 0 {
                        tracing::info!(
                            event = "token_keys_fetch_resumed",
                            keys,
                            "the keys for tokens are fetched again"
                        );
                    }
                    failures = 0;
                    self.every
                }
                Err(error) => {
                    self.metrics.jwks_fetch_failed(error.label());
                    if failures == 0 {
                        let url = self.client.address();
                        match self.cache.current() {
                            Some(_) => {
                                tracing::warn!(
                                    event = "token_keys_fetch_failed", %url, %error,
                                    "the keys for tokens were not fetched: the old ones stay"
                                )
                            }
                            None => {
                                tracing::warn!(
                                    event = "token_keys_fetch_failed", %url, %error,
                                    "the keys for tokens were not fetched: no token is accepted"
                                )
                            }
                        }
                    }
                    let rest = FIRST_RETRY * 2u32.saturating_pow(failures.min(6));
                    failures = failures.saturating_add(1);
                    rest.min(LAST_RETRY).min(self.every)
                }
            };
            self.cache.end();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
                () = self.cache.wanted.notified() => {}
            }
        }
    }

    async fn fetch(&self) -> Result<(KeySet, Vec<String>), FetchError> {
        let json = self.client.get().await?;
        Ok(KeySet::jwks(&json, &self.algorithms)?)
    }

    /// Keeps the fetched keys, logs them if they have changed, and returns their number.
    fn keep(&self, (keys, left_out): (KeySet, Vec<String>)) -> usize {
        let count = keys.len();
        self.metrics.jwks_fetched(count);
        let mut held = self.cache.keys.lock();
        let before = held.as_ref().map(|held| held.ids());
        let is_new = before != Some(keys.ids());
        *held = Some(Arc::new(keys));
        drop(held);
        if is_new {
            tracing::info!(
                event = "token_keys_changed",
                keys = count,
                left_out = left_out.len(),
                "new keys for tokens"
            );
            for why in left_out {
                tracing::debug!(%why, "a key of the set is not used");
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_with_unknown_keys_ask_at_most_every_thirty_seconds() {
        let cache = Cache::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(cache.ask(at(0)));
        // A fetch is under way, and later callers wait for it.
        assert!(cache.ask(at(1)));
        cache.end();
        assert!(!cache.ask(at(2)) && !cache.ask(at(29)));
        assert!(cache.ask(at(30)));
        cache.end();
        // A scheduled fetch counts as well.
        cache.begin(at(50));
        cache.end();
        assert!(!cache.ask(at(79)) && cache.ask(at(80)));
    }
}

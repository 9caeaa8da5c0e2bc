//! [`Cached`]: an answer of the database that is kept for a moment. One asks, and the others wait for the same answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::record::seconds_since_1970;
use crate::telemetry::{chain, in_this_span};

/// An answer, or the reason why there is none.
#[derive(Debug)]
pub(super) struct Cached<T>(Mutex<Option<Answer<T>>>);

#[derive(Debug)]
pub(super) struct Answer<T> {
    asked: Instant,
    /// The time at which it was asked, in seconds since 1970.
    pub(super) at: f64,
    pub(super) found: Result<Arc<T>, Arc<str>>,
}

// Not derived, since that would need `T: Clone`.
impl<T> Clone for Answer<T> {
    fn clone(&self) -> Answer<T> {
        Answer {
            asked: self.asked,
            at: self.at,
            found: self.found.clone(),
        }
    }
}

impl<T> Default for Cached<T> {
    fn default() -> Cached<T> {
        Cached(Mutex::new(None))
    }
}

impl<T: Send + Sync + 'static> Cached<T> {
    /// The answer, if it is not older than `age`; otherwise what `ask` says, which may block.
    pub(super) async fn get<E: std::error::Error + Send + 'static>(
        self: &Arc<Self>,
        age: Duration,
        ask: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Answer<T> {
        let cached = Arc::clone(self);
        // A task of its own, so that a requester who leaves does not have the question asked again.
        let asking = tokio::spawn(async move {
            let mut held = cached.0.lock().await;
            if let Some(answer) = held.as_ref().filter(|answer| answer.asked.elapsed() < age) {
                return answer.clone();
            }
            let (asked, at) = (Instant::now(), seconds_since_1970());
            let found = match spawn_blocking(in_this_span(ask)).await {
                Ok(Ok(found)) => Ok(Arc::new(found)),
                Ok(Err(error)) => Err(chain(&error).into()),
                Err(error) => Err(error.to_string().into()),
            };
            let answer = Answer { asked, at, found };
            *held = Some(answer.clone());
            answer
        });
        match asking.await {
            Ok(answer) => answer,
            Err(error) => Answer {
                asked: Instant::now(),
                at: seconds_since_1970(),
                found: Err(error.to_string().into()),
            },
        }
    }
}

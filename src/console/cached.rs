//! [`Cached`]: an answer of the database that is kept for a moment. One asks, and the others wait for the same answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::record::seconds_since_1970;
use crate::telemetry::{chain, in_this_span};

/// The last answer.
#[derive(Debug)]
pub(super) struct Cached<T>(Arc<Mutex<Option<Answer<T>>>>);

/// An answer, or the reason why there is none.
#[derive(Debug)]
pub(super) struct Answer<T> {
    answered: Instant,
    /// The time at which it was asked, in seconds since 1970.
    pub(super) at: f64,
    pub(super) found: Result<Arc<T>, Arc<str>>,
}

// Not derived, since that would need `T: Clone`.
impl<T> Clone for Answer<T> {
    fn clone(&self) -> Answer<T> {
        Answer {
            answered: self.answered,
            at: self.at,
            found: self.found.clone(),
        }
    }
}

impl<T> Default for Cached<T> {
    fn default() -> Cached<T> {
        Cached(Arc::new(Mutex::new(None)))
    }
}

impl<T: Send + Sync + 'static> Cached<T> {
    /// The answer, if it is not older than `age`; otherwise what `ask` says, which may block.
    pub(super) async fn get<E: std::error::Error + Send + 'static>(
        &self,
        age: Duration,
        ask: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Answer<T> {
        let mut held = Arc::clone(&self.0).lock_owned().await;
        if let Some(answer) = held.as_ref().filter(|answer| answer.answered.elapsed() < age) {
            return answer.clone();
        }
        // A task of its own, so that nobody asks again before there is an answer, even if the requester leaves.
        let asking = tokio::spawn(async move {
            let at = seconds_since_1970();
            let found = match spawn_blocking(in_this_span(ask)).await {
                Ok(Ok(found)) => Ok(Arc::new(found)),
                Ok(Err(error)) => Err(chain(&error).into()),
                Err(error) => Err(error.to_string().into()),
            };
            let answer = Answer {
                answered: Instant::now(),
                at,
                found,
            };
            *held = Some(answer.clone());
            answer
        });
        asking.await.unwrap_or_else(|error| Answer {
            answered: Instant::now(),
            at: seconds_since_1970(),
            found: Err(error.to_string().into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[tokio::test]
    async fn one_asks_and_the_answer_is_told_again_for_a_moment() {
        let cached = Cached::default();
        let long = Duration::from_secs(3600);
        let ask = |answer: u32| move || Ok::<u32, io::Error>(answer);
        let both = tokio::join!(cached.get(long, ask(1)), cached.get(long, ask(2)));
        assert_eq!(
            (both.0.found.unwrap(), both.1.found.unwrap()),
            (Arc::new(1), Arc::new(1))
        );
        assert_eq!(
            cached.get(Duration::ZERO, ask(3)).await.found.unwrap(),
            Arc::new(3)
        );
        let failed = || Err::<u32, io::Error>(io::Error::other("no"));
        assert_eq!(
            &*cached.get(Duration::ZERO, failed).await.found.unwrap_err(),
            "no"
        );
    }

    #[tokio::test]
    async fn a_question_whose_requester_has_left_is_not_asked_again() {
        let cached = Cached::default();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let slow = move || {
            wait.recv().ok();
            Ok::<u32, io::Error>(1)
        };
        let left = tokio::time::timeout(Duration::ZERO, cached.get(Duration::ZERO, slow)).await;
        assert!(left.is_err());
        go.send(()).unwrap();
        let ask = || Ok::<u32, io::Error>(2);
        assert_eq!(
            cached.get(Duration::from_secs(3600), ask).await.found.unwrap(),
            Arc::new(1)
        );
    }
}

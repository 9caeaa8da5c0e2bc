//! [`Failures`]: failures that clients are told the number of, each of which is logged once in a while. Pure.

use std::time::{Duration, Instant};

/// The time for which a failure is not logged again.
const WHILE: Duration = Duration::from_secs(60);
/// The number of failures of different words that are logged in that time. Whatever else fails is told by the number of
/// the last one of them: a client must not fill the log.
const MOST: usize = 20;

/// Failures that were logged lately.
#[derive(Debug, Default)]
pub struct Failures {
    known: Vec<Failure>,
}

#[derive(Debug)]
struct Failure {
    words: String,
    id: u32,
    since: Instant,
    again: u64,
}

/// The number under which a failure is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// The number.
    pub id: u32,
    /// It is to be logged now; and how often it came since it was logged last.
    pub now: Option<u64>,
}

impl Failures {
    /// No failure yet.
    pub const fn new() -> Failures {
        Failures { known: Vec::new() }
    }

    /// Notes a failure by its words; if it is to be logged, under the number `id`.
    pub fn note(&mut self, words: &str, id: u32, now: Instant) -> Logged {
        let is_late = |failure: &Failure| now.saturating_duration_since(failure.since) >= WHILE;
        // What did not come again is forgotten.
        self.known
            .retain(|failure| !is_late(failure) || failure.again > 0 || failure.words == words);
        if let Some(known) = self.known.iter_mut().find(|failure| failure.words == words) {
            if !is_late(known) {
                known.again += 1;
                return Logged {
                    id: known.id,
                    now: None,
                };
            }
            let again = std::mem::take(&mut known.again);
            (known.id, known.since) = (id, now);
            return Logged { id, now: Some(again) };
        }
        if self.known.len() >= MOST {
            self.known.retain(|failure| !is_late(failure));
        }
        let is_full = self.known.len() >= MOST;
        match self.known.last_mut() {
            Some(last) if is_full => {
                last.again += 1;
                Logged {
                    id: last.id,
                    now: None,
                }
            }
            _ => {
                self.known.push(Failure {
                    words: words.to_owned(),
                    id,
                    since: now,
                    again: 0,
                });
                Logged { id, now: Some(0) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_once_in_a_while_with_how_often_it_came() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut failures = Failures::new();
        let log = |id, again| Logged { id, now: Some(again) };
        assert_eq!(failures.note("a", 1, at(0)), log(1, 0));
        for id in 2..100 {
            assert_eq!(failures.note("a", id, at(1)), Logged { id: 1, now: None });
        }
        assert_eq!(failures.note("b", 100, at(2)), log(100, 0));
        assert_eq!(failures.note("a", 101, at(60)), log(101, 98));
        assert_eq!(failures.note("a", 102, at(61)), Logged { id: 101, now: None });
        // What came once is logged as if it were new.
        assert_eq!(failures.note("b", 103, at(500)), log(103, 0));
    }

    #[test]
    fn a_client_that_fails_in_ever_new_words_fills_no_log() {
        let mut failures = Failures::new();
        let start = Instant::now();
        let logged = |failures: &mut Failures, now| {
            let noted = (0..1000).map(|number| failures.note(&format!("{number}"), number, now));
            noted.filter(|noted| noted.now.is_some()).count()
        };
        assert_eq!(logged(&mut failures, start), MOST);
        assert_eq!(logged(&mut failures, start + WHILE), MOST);
        assert!(failures.known.len() <= MOST);
    }
}

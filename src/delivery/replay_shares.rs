//! [`Shares`]: counts the sessions with unread results of the replay pool, by owner. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// The most sessions with unread replay results. The others wait, since results take memory, and live sessions would
/// have to wait among thousands that are ready to run.
pub(super) const MAX_SENDING: usize = 128;
/// Time after which a session with an unread result is taken to wait for its client, and no longer counts.
pub(super) const AWAY_AFTER: Duration = Duration::from_secs(1);

/// The shares of [`MAX_SENDING`].
#[derive(Default)]
pub(super) struct Shares {
    /// In the order of their numbers.
    taken: VecDeque<Taken>,
    next: u64,
}

/// A share that was taken.
struct Taken {
    number: u64,
    since: Instant,
    owner: u64,
}

impl Shares {
    /// The number of further ones.
    pub(super) fn room(&mut self, now: Instant) -> usize {
        let is_away = |taken: &Taken| now.duration_since(taken.since) >= AWAY_AFTER;
        while self.taken.front().is_some_and(is_away) {
            self.taken.pop_front();
        }
        MAX_SENDING.saturating_sub(self.taken.len())
    }

    pub(super) fn take(&mut self, owner: u64, now: Instant) -> u64 {
        self.next += 1;
        self.taken.push_back(Taken {
            number: self.next,
            since: now,
            owner,
        });
        self.next
    }

    /// The number that each owner has.
    pub(super) fn of_owners(&self) -> HashMap<u64, usize> {
        let mut of_owners = HashMap::new();
        for taken in &self.taken {
            *of_owners.entry(taken.owner).or_default() += 1;
        }
        of_owners
    }

    pub(super) fn give_back(&mut self, number: u64) {
        if let Ok(place) = self.taken.binary_search_by_key(&number, |taken| taken.number) {
            self.taken.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_until_they_are_given_back_or_nobody_comes_to_them() {
        let mut shares = Shares::default();
        let began = Instant::now();
        let first: Vec<u64> = (0..MAX_SENDING - 1).map(|_| shares.take(7, began)).collect();
        assert_eq!(shares.room(began), 1);
        let later = began + AWAY_AFTER / 2;
        let last = shares.take(8, later);
        assert_eq!(shares.of_owners(), HashMap::from([(7, MAX_SENDING - 1), (8, 1)]));
        assert_eq!(shares.room(later), 0);
        shares.give_back(first[5]);
        assert_eq!(shares.room(later), 1);
        // The sessions that took the first ones no longer count; the last one still does.
        assert_eq!(shares.room(began + AWAY_AFTER), MAX_SENDING - 1);
        shares.give_back(first[6]);
        shares.give_back(last);
        shares.give_back(last);
        assert_eq!(shares.room(began + AWAY_AFTER), MAX_SENDING);
    }
}

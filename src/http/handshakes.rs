//! [`Handshakes`]: the connections that are still in their handshake, and which of them gives way to a new one.
//!
//! Whoever opens sockets and says nothing takes places among these alone, and not among those of clients. When all are
//! taken, one that came from the address with the most of them makes room for one from an address with fewer; so an
//! attacker needs about as many addresses as there are places to keep others out for long.
//!
//! When thousands of clients reconnect at once, handshakes end one after the other, and a new one waits for the next
//! place: a client that is refused would only come again.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::addresses::network;

/// The time that a handshake has in any case, unless its address has many of them.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time that it has while others come to their end: then the server may be what is slow.
const PATIENCE_AMID_OTHERS: Duration = Duration::from_secs(3);
/// The time for which a new one waits after the last one that came to its end.
const WAIT: Duration = Duration::from_secs(1);

/// The connections in their handshake, so many at most.
#[derive(Debug)]
pub(super) struct Handshakes {
    most: usize,
    open: Mutex<Open>,
    /// Told of each place that becomes free.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Open {
    /// By the numbers of the connections, so that the oldest comes first.
    handshakes: BTreeMap<u64, Begun>,
    /// The number of them by address, without those that are not counted for one.
    of_address: HashMap<IpAddr, usize>,
    /// The time at which the last one came to its end with an answer or a websocket.
    done: Option<Instant>,
}

#[derive(Debug)]
struct Begun {
    address: Option<IpAddr>,
    at: Instant,
    gives_way: CancellationToken,
}

/// A handshake's place. It has it until this is dropped, or it has to give way.
#[derive(Debug)]
pub(super) struct Handshake {
    handshakes: Arc<Handshakes>,
    number: u64,
    gives_way: CancellationToken,
}

impl Handshake {
    /// Waits until the handshake has to end, since another one has got its place.
    pub(super) async fn gives_way(&self) {
        self.gives_way.cancelled().await;
    }

    /// Notes that the handshake has come to its end, not just to that of its time.
    pub(super) fn is_done(&self, now: Instant) {
        self.handshakes.open.lock().done = Some(now);
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.handshakes.open.lock().remove(self.number);
        self.handshakes.freed.notify_one();
    }
}

impl Handshakes {
    pub(super) fn new(most: usize) -> Arc<Handshakes> {
        Arc::new(Handshakes {
            most,
            open: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Gives a connection a place for its handshake, and waits for one as long as others come to their end. `None` if
    /// none is to be had. `None` for an address counts it for nobody: a proxy's connections are those of its clients.
    pub(super) async fn begin(
        self: &Arc<Handshakes>,
        number: u64,
        address: Option<IpAddr>,
    ) -> Option<Handshake> {
        loop {
            let mut freed = pin!(self.freed.notified());
            // From here on: a place that becomes free behind the look is noticed.
            freed.as_mut().enable();
            let now = Instant::now();
            if let Some(handshake) = self.try_begin(number, address, now) {
                return Some(handshake);
            }
            let until = self
                .open
                .lock()
                .waits_until(address)
                .filter(|until| now < *until)?;
            // Looked again in either case.
            let _late = tokio::time::timeout_at(until.into(), freed).await;
        }
    }

    /// Gives a connection a place, if there is one, or another one makes room.
    fn try_begin(
        self: &Arc<Handshakes>,
        number: u64,
        address: Option<IpAddr>,
        now: Instant,
    ) -> Option<Handshake> {
        let address = address.map(network);
        let mut open = self.open.lock();
        if open.handshakes.len() >= self.most {
            let last = open.one_to_end(address, now)?;
            if let Some(ended) = open.remove(last) {
                ended.gives_way.cancel();
            }
        }
        if let Some(address) = address {
            *open.of_address.entry(address).or_default() += 1;
        }
        let gives_way = CancellationToken::new();
        let begun = Begun {
            address,
            at: now,
            gives_way: gives_way.clone(),
        };
        open.handshakes.insert(number, begun);
        drop(open);
        Some(Handshake {
            handshakes: Arc::clone(self),
            number,
            gives_way,
        })
    }
}

impl Open {
    fn remove(&mut self, number: u64) -> Option<Begun> {
        let begun = self.handshakes.remove(&number)?;
        if let Some(address) = begun.address
            && let Some(count) = self.of_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
        Some(begun)
    }

    fn count(&self, address: Option<IpAddr>) -> usize {
        address
            .and_then(|address| self.of_address.get(&address))
            .map_or(0, |count| *count)
    }

    /// The handshake that makes room for one from an address: the oldest of the address with the most, if that has more
    /// than this one would; else the oldest of all, if it has had its time.
    fn one_to_end(&self, address: Option<IpAddr>, now: Instant) -> Option<u64> {
        let most = self.of_address.values().copied().max().unwrap_or_default();
        if most > self.count(address) + 1 {
            let of_most = |(_, begun): &(&u64, &Begun)| self.count(begun.address) == most;
            return self.handshakes.iter().find(of_most).map(|(number, _)| *number);
        }
        let (number, oldest) = self.handshakes.first_key_value()?;
        let is_recent = |done| now.saturating_duration_since(done) < PATIENCE;
        let patience = if self.done.is_some_and(is_recent) {
            PATIENCE_AMID_OTHERS
        } else {
            PATIENCE
        };
        (now.saturating_duration_since(oldest.at) >= patience).then_some(*number)
    }

    /// The time until which a new one waits for a place. Those of an address that has some keep nobody else waiting
    /// behind them; those of this machine do, as a proxy's.
    fn waits_until(&self, address: Option<IpAddr>) -> Option<Instant> {
        let waits =
            address.is_none_or(|address| address.is_loopback() || self.count(Some(network(address))) == 0);
        self.done.filter(|_| waits).map(|done| done + WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, host]))
    }

    fn ended(handshakes: &[Handshake]) -> Vec<u64> {
        let ended = handshakes.iter().filter(|held| held.gives_way.is_cancelled());
        ended.map(|held| held.number).collect()
    }

    #[test]
    fn the_address_with_the_most_handshakes_makes_room_for_those_with_fewer() {
        let handshakes = Handshakes::new(6);
        let now = Instant::now();
        let begin = |number, host| handshakes.try_begin(number, address(host), now);
        let mut held: Vec<Handshake> = [1, 1, 1, 2, 3, 1]
            .into_iter()
            .enumerate()
            .map(|(number, host)| begin(number as u64, host).unwrap())
            .collect();
        assert!(begin(6, 1).is_none(), "it has the most itself");
        held.push(begin(7, 4).unwrap());
        assert_eq!(ended(&held), [0]);
        held.push(begin(8, 2).unwrap());
        assert_eq!(ended(&held), [0, 1]);
        // Two of one, two of another, and two with one each: nobody has more than one that comes would have.
        assert!(begin(9, 2).is_none());
        assert!(begin(9, 3).is_none());
        held.push(begin(9, 5).unwrap());
        assert_eq!(ended(&held), [0, 1, 2]);
        held.retain(|held| held.number != 8);
        held.push(begin(10, 6).unwrap());
        assert_eq!(ended(&held), [0, 1, 2]);
        assert!(begin(11, 7).is_none(), "each has one");
        drop(held);
        let open = handshakes.open.lock();
        assert!(open.handshakes.is_empty() && open.of_address.is_empty());
    }

    #[test]
    fn one_that_has_had_its_time_makes_room_for_any() {
        let handshakes = Handshakes::new(2);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut held = vec![
            handshakes.try_begin(0, address(1), at(0)).unwrap(),
            handshakes.try_begin(1, None, at(500)).unwrap(),
        ];
        assert!(handshakes.try_begin(2, address(2), at(999)).is_none());
        held.push(handshakes.try_begin(3, address(2), at(1000)).unwrap());
        assert_eq!(ended(&held), [0]);
        // One that gave way takes nobody's place with it.
        held.remove(0);
        assert!(handshakes.try_begin(4, address(3), at(1499)).is_none());
        held.push(handshakes.try_begin(5, address(3), at(1500)).unwrap());
        assert_eq!(ended(&held), [1]);
    }

    #[test]
    fn networks_of_ipv6_are_one_address() {
        let handshakes = Handshakes::new(2);
        let now = Instant::now();
        let begin = |number, text: &str| handshakes.try_begin(number, Some(text.parse().unwrap()), now);
        let held = [begin(0, "2001:db8::1").unwrap(), begin(1, "2001:db8::2").unwrap()];
        assert!(begin(2, "2001:db8::3").is_none());
        assert!(begin(3, "2001:db8:0:1::1").is_some());
        assert_eq!(ended(&held), [0]);
    }

    #[test]
    fn one_amid_others_that_come_to_their_end_has_longer() {
        let handshakes = Handshakes::new(1);
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let held = handshakes.try_begin(0, address(1), at(0)).unwrap();
        held.is_done(at(900));
        assert!(handshakes.try_begin(1, address(2), at(1000)).is_none());
        held.is_done(at(2900));
        assert!(handshakes.try_begin(1, address(2), at(2999)).is_none());
        assert!(handshakes.try_begin(1, address(2), at(3000)).is_some());
    }

    #[tokio::test]
    async fn thousands_that_come_at_once_wait_for_those_before_them() {
        let handshakes = Handshakes::new(2);
        let first = handshakes.begin(0, address(1)).await.unwrap();
        let second = handshakes.begin(1, address(2)).await.unwrap();
        assert!(
            handshakes.begin(2, address(3)).await.is_none(),
            "nobody comes to an end"
        );
        // Long enough for any machine.
        first.is_done(Instant::now() + Duration::from_secs(60));
        let third = tokio::spawn({
            let handshakes = Arc::clone(&handshakes);
            async move { handshakes.begin(3, address(3)).await }
        });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        assert!(
            handshakes.begin(4, address(2)).await.is_none(),
            "its address has one"
        );
        drop(first);
        assert!(third.await.unwrap().is_some());
        drop(second);
    }
}

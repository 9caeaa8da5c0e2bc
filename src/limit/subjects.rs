//! [`Subjects`]: counts what the connections of each subject use together.
//!
//! A subject is that of a token, by its `sub` and `iss`. Clients without a token, or whose token names no subject, form
//! one subject with all others of their address. Those of a loopback address, behind which there may be a proxy or this
//! machine's own programs, are each a subject of their own. What is counted of a subject ends with its last connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use parking_lot::Mutex;

use super::room::{Place, Room};
use crate::auth::Subject;
use crate::limit::Limit;

/// Bounds on what a subject may use at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectLimits {
    /// Connections of a subject that a token names.
    pub max_connections: usize,
    /// Subscriptions on all its connections.
    pub max_subscriptions: usize,
    /// Snapshots that wait, are read or are being sent.
    pub max_snapshots: usize,
    /// Bytes of predicates.
    pub max_predicate_bytes: usize,
    /// Bytes of predicates of all subjects together. Where there is no more, the subject with the most gives way to those
    /// with little.
    pub max_total_predicate_bytes: usize,
}

/// The name of a subject, whose connections share limits and turns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    /// A token's issuer and subject.
    Token(Option<String>, String),
    /// The address of a client without a subject; of IPv6, the first 64 bits.
    Address(IpAddr),
}

impl Name {
    fn of(subject: Option<&Subject>, address: IpAddr) -> Option<Name> {
        if let Some(subject) = subject
            && let Some(name) = &subject.subject
        {
            let issuer = subject.claims.get("iss").and_then(|issuer| issuer.as_str());
            return Some(Name::Token(issuer.map(str::to_owned), name.clone()));
        }
        match address.to_canonical() {
            address if address.is_loopback() => None,
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                Some(Name::Address(IpAddr::V6(network.into())))
            }
            address => Some(Name::Address(address)),
        }
    }
}

/// All connected subjects.
#[derive(Debug)]
pub struct Subjects {
    limits: SubjectLimits,
    known: Mutex<Known>,
    room: Arc<Room>,
}

#[derive(Debug, Default)]
struct Known {
    subjects: HashMap<Name, Weak<Shared>>,
    /// The number of subjects so far.
    came: u64,
}

/// The counts of a subject.
#[derive(Debug)]
struct Shared {
    subjects: Arc<Subjects>,
    name: Name,
    owner: u64,
    connections: AtomicUsize,
    subscriptions: AtomicUsize,
    snapshots: AtomicUsize,
    predicate_bytes: AtomicUsize,
}

/// The bit that marks owners that are subjects, not connections.
const OF_SUBJECTS: u64 = 1 << 63;

impl Subjects {
    /// An empty set of subjects.
    pub fn new(limits: SubjectLimits) -> Arc<Subjects> {
        Arc::new(Subjects {
            limits,
            known: Mutex::default(),
            room: Room::new(limits.max_total_predicate_bytes),
        })
    }

    /// The bounds.
    pub fn limits(&self) -> SubjectLimits {
        self.limits
    }

    /// True if a subject may have one more connection.
    pub fn has_room(&self, subject: Option<&Subject>, address: IpAddr) -> bool {
        let Some(name) = Name::of(subject, address) else {
            return true;
        };
        let known = self.known.lock();
        let shared = known.subjects.get(&name).and_then(Weak::upgrade);
        // Dropping the last reference takes the lock, which is held until here.
        drop(known);
        let most = self.max_connections(&name);
        shared.is_none_or(|shared| shared.connections.load(Ordering::Relaxed) < most)
    }

    /// The connections of an address are limited when they are accepted.
    fn max_connections(&self, name: &Name) -> usize {
        match name {
            Name::Token(..) => self.limits.max_connections,
            Name::Address(_) => usize::MAX,
        }
    }

    /// Counts a connection until the member that is returned is dropped.
    ///
    /// # Errors
    /// The subject has as many as it may have.
    pub fn enter(
        self: &Arc<Self>,
        subject: Option<&Subject>,
        address: IpAddr,
        connection: u64,
    ) -> Result<Member, Limit> {
        let shared = Name::of(subject, address).map(|name| self.shared(name));
        if let Some(shared) = &shared {
            let most = self.max_connections(&shared.name);
            take(&shared.connections, 1, most, Limit::SubjectConnections)?;
        }
        let owner = shared.as_ref().map_or(connection, |shared| shared.owner);
        Ok(Member {
            place: self.room.place(owner),
            connection,
            subjects: Arc::clone(self),
            shared,
            subscriptions: 0,
            predicate_bytes: 0,
        })
    }

    /// Counts a connection under the subject of its new token, unless it is already.
    ///
    /// # Errors
    /// The subject has as many as it may have.
    pub fn change(
        self: &Arc<Self>,
        member: &Member,
        subject: &Subject,
        address: IpAddr,
        connection: u64,
    ) -> Option<Result<Member, Limit>> {
        let name = Name::of(Some(subject), address);
        if name.as_ref() == member.shared.as_ref().map(|shared| &shared.name) {
            return None;
        }
        Some(self.enter(Some(subject), address, connection))
    }

    fn shared(self: &Arc<Self>, name: Name) -> Arc<Shared> {
        let mut known = self.known.lock();
        if let Some(shared) = known.subjects.get(&name).and_then(Weak::upgrade) {
            return shared;
        }
        known.came += 1;
        let shared = Arc::new(Shared {
            subjects: Arc::clone(self),
            name: name.clone(),
            owner: known.came | OF_SUBJECTS,
            connections: AtomicUsize::new(0),
            subscriptions: AtomicUsize::new(0),
            snapshots: AtomicUsize::new(0),
            predicate_bytes: AtomicUsize::new(0),
        });
        known.subjects.insert(name, Arc::downgrade(&shared));
        shared
    }

    /// The number of subjects that are kept.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.known.lock().subjects.len()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut known = self.subjects.known.lock();
        // Another connection may have come under the name meanwhile.
        if known
            .subjects
            .get(&self.name)
            .is_some_and(|shared| shared.strong_count() == 0)
        {
            known.subjects.remove(&self.name);
        }
    }
}

fn take(taken: &AtomicUsize, amount: usize, most: usize, limit: Limit) -> Result<(), Limit> {
    let more = |taken: usize| taken.checked_add(amount).filter(|after| *after <= most);
    let took = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    took.map(drop).map_err(|_| limit)
}

/// A connection of a subject, with its subscriptions. What it counts is given back on drop.
#[derive(Debug)]
pub struct Member {
    connection: u64,
    subjects: Arc<Subjects>,
    place: Place,
    /// `None` if the connection is a subject of its own, which has the limits of a connection.
    shared: Option<Arc<Shared>>,
    subscriptions: usize,
    predicate_bytes: usize,
}

impl Member {
    /// The owner by which this connection takes its turns; those of a subject share it.
    pub fn owner(&self) -> u64 {
        self.shared
            .as_ref()
            .map_or(self.connection, |shared| shared.owner)
    }

    /// Counts one more subscription.
    ///
    /// # Errors
    /// The subject has as many as it may have.
    pub fn subscribe(&mut self) -> Result<(), Limit> {
        if let Some(shared) = &self.shared {
            let most = shared.subjects.limits.max_subscriptions;
            take(&shared.subscriptions, 1, most, Limit::SubjectSubscriptions)?;
        }
        self.subscriptions += 1;
        Ok(())
    }

    /// Notes the number of the connection's subscriptions, where there were more before.
    pub fn has_subscriptions(&mut self, number: usize) {
        let over = self.subscriptions.saturating_sub(number);
        self.subscriptions -= over;
        if let Some(shared) = &self.shared
            && over > 0
        {
            shared.subscriptions.fetch_sub(over, Ordering::Relaxed);
        }
    }

    /// Counts the bytes that all predicates of the connection take.
    ///
    /// # Errors
    /// The subject, or all subjects together, would take more than they may.
    pub fn keep_predicates(&mut self, bytes: usize) -> Result<(), Limit> {
        let limits = self.subjects.limits;
        let own = self.shared.as_ref().map(|shared| &shared.predicate_bytes);
        match bytes.checked_sub(self.predicate_bytes) {
            Some(more) => {
                if let Some(own) = own {
                    let most = limits.max_predicate_bytes;
                    take(own, more, most, Limit::SubjectPredicateBytes)?;
                }
                if let Err(limit) = self.place.take(bytes) {
                    if let Some(own) = own {
                        own.fetch_sub(more, Ordering::Relaxed);
                    }
                    return Err(limit);
                }
            }
            None => {
                if let Some(own) = own {
                    own.fetch_sub(self.predicate_bytes - bytes, Ordering::Relaxed);
                }
                self.place.take(bytes)?;
            }
        }
        self.predicate_bytes = bytes;
        Ok(())
    }

    /// Waits until the connection has to end, since its subject takes the most memory, and others need some.
    pub fn poll_gives_way(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.place.poll_gives_way(cx)
    }

    /// Counts a snapshot until the place that is returned is dropped.
    ///
    /// # Errors
    /// The subject has as many as it may have.
    pub fn snapshot(&self) -> Result<SnapshotPlace, Limit> {
        if let Some(shared) = &self.shared {
            let most = shared.subjects.limits.max_snapshots;
            take(&shared.snapshots, 1, most, Limit::SubjectSnapshots)?;
        }
        Ok(SnapshotPlace(self.shared.clone()))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.has_subscriptions(0);
        // Fewer bytes are never refused.
        let _fewer = self.keep_predicates(0);
        if let Some(shared) = &self.shared {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A snapshot's place among the snapshots of its subject.
#[derive(Debug)]
pub struct SnapshotPlace(Option<Arc<Shared>>);

impl Drop for SnapshotPlace {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.snapshots.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::Claims;

    const LIMITS: SubjectLimits = SubjectLimits {
        max_connections: 2,
        max_subscriptions: 3,
        max_snapshots: 1,
        max_predicate_bytes: 100,
        max_total_predicate_bytes: 150,
    };

    fn token(issuer: &str, name: &str) -> Subject {
        let serde_json::Value::Object(claims) = json!({ "iss": issuer }) else {
            panic!("no object")
        };
        Subject {
            subject: Some(name.to_owned()),
            role: None,
            expires: Some(std::time::SystemTime::now()),
            claims: Claims::new(claims),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_limit_that_one_subject_reaches_leaves_others_untouched() {
        let subjects = Subjects::new(LIMITS);
        let (ann, ben) = (token("a", "ann"), token("a", "ben"));
        let here = address("192.0.2.1");
        let enter = |subject, connection| subjects.enter(Some(subject), here, connection);
        let mut first = enter(&ann, 1).unwrap();
        let mut second = enter(&ann, 2).unwrap();
        assert_eq!(first.owner(), second.owner());
        assert_eq!(enter(&ann, 3).unwrap_err(), Limit::SubjectConnections);
        assert!(!subjects.has_room(Some(&ann), here) && subjects.has_room(Some(&ben), here));
        let mut other = enter(&ben, 4).unwrap();
        // The ann of another issuer is another subject.
        let ann_of_b = token("b", "ann");
        let namesake = enter(&ann_of_b, 5).unwrap();
        assert!(namesake.owner() != first.owner() && other.owner() != first.owner());
        assert_eq!((first.subscribe(), first.subscribe()), (Ok(()), Ok(())));
        assert_eq!(second.subscribe(), Ok(()));
        assert_eq!(second.subscribe(), Err(Limit::SubjectSubscriptions));
        assert_eq!(other.subscribe(), Ok(()));
        first.has_subscriptions(1);
        assert_eq!(second.subscribe(), Ok(()));
        // Another token of the same subject changes nothing.
        assert!(subjects.change(&first, &ann, here, 1).is_none());
        let place = first.snapshot().unwrap();
        assert_eq!(second.snapshot().unwrap_err(), Limit::SubjectSnapshots);
        let _others = other.snapshot().unwrap();
        drop(place);
        assert!(second.snapshot().is_ok());
        drop(first);
        let mut third = enter(&ann, 6).unwrap();
        assert_eq!(third.subscribe(), Ok(()));
        assert_eq!(third.subscribe(), Err(Limit::SubjectSubscriptions));
    }

    #[test]
    fn predicates_take_so_much_of_a_subject_and_of_all() {
        let subjects = Subjects::new(LIMITS);
        let (ann, here) = (token("a", "ann"), address("192.0.2.1"));
        let mut first = subjects.enter(Some(&ann), here, 1).unwrap();
        let mut second = subjects.enter(Some(&ann), here, 2).unwrap();
        let mut alone = subjects.enter(None, address("127.0.0.1"), 3).unwrap();
        assert_eq!(first.keep_predicates(60), Ok(()));
        assert_eq!(second.keep_predicates(41), Err(Limit::SubjectPredicateBytes));
        assert_eq!(second.keep_predicates(40), Ok(()));
        assert_eq!(alone.keep_predicates(51), Err(Limit::TotalPredicateBytes));
        assert_eq!(alone.keep_predicates(50), Ok(()));
        assert_eq!(first.keep_predicates(30), Ok(()));
        assert_eq!(alone.keep_predicates(80), Ok(()));
        drop((first, second));
        assert_eq!(alone.keep_predicates(150), Ok(()));
        drop(alone);
        assert_eq!(subjects.room.total(), 0);
    }

    #[test]
    fn nothing_is_kept_of_a_subject_that_is_gone() {
        let subjects = Subjects::new(LIMITS);
        let ann = token("a", "ann");
        let here = address("192.0.2.1");
        let member = subjects.enter(Some(&ann), here, 1).unwrap();
        let anonymous = subjects.enter(None, here, 2).unwrap();
        let place = anonymous.snapshot().unwrap();
        assert_eq!(subjects.len(), 2);
        drop((member, anonymous));
        assert_eq!(subjects.len(), 1, "its snapshot goes on");
        drop(place);
        assert_eq!(subjects.len(), 0);
    }

    #[test]
    fn callers_without_a_subject_share_their_address_unless_it_is_a_loopback_one() {
        let subjects = Subjects::new(LIMITS);
        let owner = |at: &str, connection| {
            let member = subjects.enter(None, address(at), connection).unwrap();
            (member.owner(), member)
        };
        let (one, _kept) = owner("2001:db8:1:2::1", 1);
        assert_eq!(owner("2001:db8:1:2:ffff::9", 2).0, one);
        assert_ne!(owner("2001:db8:1:3::1", 3).0, one);
        let (four, _kept) = owner("192.0.2.1", 4);
        assert_eq!(owner("::ffff:192.0.2.1", 5).0, four);
        assert_eq!(owner("127.0.0.1", 6).0, 6);
        assert_eq!(owner("::1", 7).0, 7);
        assert!((0..9).all(|_| subjects.has_room(None, address("127.0.0.1"))));
        // A token without a subject changes nothing.
        let mut nameless = token("a", "");
        nameless.subject = None;
        let member = subjects.enter(Some(&nameless), address("192.0.2.1"), 8).unwrap();
        assert_eq!(member.owner(), four);
        // A later one with a subject does.
        let known = subjects.change(&member, &token("a", "ann"), address("192.0.2.1"), 8);
        assert!(known.is_some_and(|known| known.unwrap().owner() != four));
    }
}

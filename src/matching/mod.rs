//! From a transaction's changes to the frames of the connections that they concern. Pure.
//!
//! Subscriptions to the same query share one entry, which is matched and encoded once per change; within it, those with
//! the same id share their frames. The cost of a change is that of its matches: an index finds these
//! ([`crate::filter::Index`]), and a table without subscriptions is skipped by one look-up of its relation.

mod admitted;
#[cfg(test)]
mod admitted_tests;
mod binding;
mod bound;
mod deliver;
mod encode;
mod ends;
mod key;
mod listing;
#[cfg(test)]
mod log_tests;
mod meter;
mod query;
#[cfg(test)]
mod random_tests;
mod range;
mod route;
mod shapes;
mod shown;
mod strain;
mod table;
#[cfg(test)]
pub(crate) mod tests;
mod undecided;

pub use binding::Selection;
pub use bound::Bound;
pub use ends::{changed_message, gone_message, unfit_message, unjudged_message};
pub use key::QueryKey;
pub use listing::{ListedQuery, QueryListing, QueryPlace};
pub use meter::{Lane, Meter};
pub use query::{Query, Subscription};
pub use range::place_in_own;
pub use undecided::Undecided;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use hashbrown::HashTable;
use slab::Slab;

use crate::event::{Relation, TableName};
use crate::lsn::{Done, Position};
use crate::protocol::v1::quoted_id;
use crate::protocol::{ErrorMessage, Frame};
use encode::Encoder;
use meter::Spare;
use table::Table;
use undecided::UndecidedCounts;

/// A connection's number in a [`SubscriptionRegistry`], which is reused after it has left.
pub type ConnectionId = usize;

/// The receiver of frames.
pub trait Sink {
    /// Takes a frame for a connection. Frames come in order.
    fn frame(&mut self, connection: ConnectionId, frame: &Frame);

    /// Notes that a subscription of a connection has ended and was removed, with the error for its client.
    fn ended(&mut self, connection: ConnectionId, subscription: &Arc<Subscription>, error: ErrorMessage);

    /// Notes that a connection gets nothing more, from the current changes on: one of its queries holds up others, and
    /// is to be served apart.
    fn put_apart(&mut self, connection: ConnectionId);
}

/// The connections, their subscriptions, and the index of what these match.
#[derive(Debug)]
pub struct SubscriptionRegistry {
    connections: Slab<Connection>,
    /// The tables with subscriptions.
    tables: Slab<Table>,
    by_name: HashMap<TableName, usize>,
    /// The table of each version of a relation that has come by, by the address of the version: equal versions have the
    /// same one ([`crate::log::Interner`]). They are held so that no address is reused.
    relations: HashMap<usize, (Arc<Relation>, Option<usize>)>,
    /// The number of versions after the last sweep.
    relations_swept: usize,
    groups: Slab<Group>,
    /// The place where each group stands, by its query and id.
    by_id: HashTable<u32>,
    hasher: RandomState,
    /// The connections whose last frame said that more of the current transaction would follow.
    open: Vec<ConnectionId>,
    max_frame_bytes: usize,
    /// About how many bytes are made for one connection at a time, which bounds the excess for one that cannot take
    /// them.
    delivery_bytes: usize,
    scratch: Scratch,
    /// Counts of undecided changes that were sent.
    undecided: UndecidedCounts,
    /// The most subscriptions that a connection has had.
    widest: usize,
    lane: Lane,
    spare: Spare,
    now: Instant,
    /// The work done so far.
    worked: u64,
    /// The number of times that a query was put apart.
    put_apart: u64,
}

#[derive(Debug, Default)]
struct Connection {
    /// Its memberships, by the numbers of the groups.
    members: HashTable<GroupMember>,
    /// The groups with hits in the current piece.
    touched: Vec<usize>,
    /// True if it is among [`SubscriptionRegistry::open`].
    open: bool,
    /// The id, as a JSON string, of the only subscription that its frames are for, if they say so.
    only: Option<Box<str>>,
}

/// A connection's place in a group.
#[derive(Clone, Debug)]
struct GroupMember {
    group: u32,
    slot: u32,
    subscription: Arc<Subscription>,
}

impl GroupMember {
    /// Group numbers are ours, so nobody can make them collide.
    fn hash(group: u32) -> u64 {
        u64::from(group).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The subscriptions that share a query and an id, and so every byte of their frames.
#[derive(Debug)]
struct Group {
    table: usize,
    entry: usize,
    /// Its index among the groups of the query.
    place: u32,
    /// The size of the hits, in bytes.
    bytes: u32,
    /// The id as a JSON string.
    id_json: Box<str>,
    members: Vec<Member>,
    hits: Vec<Encoded>,
    /// Counts of the hits that the log leaves undecided.
    undecided: Undecided,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    connection: u32,
    /// The OID of the table that it was made for.
    oid: u32,
    /// The place up to which the subscription already has everything.
    after: Position,
}

/// A change for a group: its seq, and the place of its encoding.
#[derive(Clone, Debug)]
struct Encoded {
    seq: u32,
    place: Range<usize>,
}

/// Buffers that are reused for each piece.
#[derive(Debug, Default)]
struct Scratch {
    encoder: Encoder,
    groups: Vec<usize>,
    connections: Vec<ConnectionId>,
    /// True if some connections already have a part of the transaction.
    resuming: bool,
}

/// The amount that is encoded in one go, in bytes.
const ENCODED_BYTES: usize = 1024 * 1024;
impl SubscriptionRegistry {
    /// An empty registry that makes frames of up to about `max_frame_bytes`.
    pub fn new(max_frame_bytes: usize) -> SubscriptionRegistry {
        let now = Instant::now();
        SubscriptionRegistry {
            connections: Slab::new(),
            tables: Slab::new(),
            by_name: HashMap::new(),
            relations: HashMap::new(),
            relations_swept: route::FEW_RELATIONS,
            groups: Slab::new(),
            by_id: HashTable::new(),
            hasher: RandomState::new(),
            open: Vec::new(),
            max_frame_bytes,
            delivery_bytes: ENCODED_BYTES,
            scratch: Scratch::default(),
            undecided: UndecidedCounts::default(),
            widest: 1,
            lane: Lane::UNBOUNDED,
            spare: Spare::new(now),
            now,
            worked: 0,
            put_apart: 0,
        }
    }

    /// An empty registry for connections that take a frame or two at a time.
    pub fn for_each(max_frame_bytes: usize) -> SubscriptionRegistry {
        SubscriptionRegistry {
            delivery_bytes: max_frame_bytes,
            ..SubscriptionRegistry::new(max_frame_bytes)
        }
    }

    /// Bounds the work for each change from `now` on.
    pub fn bound(&mut self, lane: Lane, now: Instant) {
        self.lane = lane;
        self.now = now;
    }

    /// The work that was done to match changes.
    pub fn worked(&self) -> u64 {
        self.worked
    }

    /// The number of times that a query was put apart.
    pub fn times_put_apart(&self) -> u64 {
        self.put_apart
    }

    /// Hands out the work for each table's changes since the last call.
    pub fn take_work(&mut self, mut each: impl FnMut(&TableName, u64)) {
        for (name, &table) in &self.by_name {
            if let Some(table) = self.tables.get_mut(table)
                && table.work > 0
            {
                each(name, std::mem::take(&mut table.work));
            }
        }
    }

    /// Removes all subscriptions, also after a panic; connections keep their numbers.
    pub fn forget_all(&mut self) {
        let connections = std::mem::take(&mut self.connections);
        let numbers = connections
            .iter()
            .map(|(number, _)| (number, Connection::default()));
        let connections = numbers.collect();
        *self = SubscriptionRegistry {
            connections,
            lane: self.lane,
            now: self.now,
            delivery_bytes: self.delivery_bytes,
            worked: self.worked,
            put_apart: self.put_apart,
            ..SubscriptionRegistry::new(self.max_frame_bytes)
        };
    }

    /// A new connection, without subscriptions.
    pub fn connect(&mut self) -> ConnectionId {
        self.connections.insert(Connection::default())
    }

    /// A new connection for the subscription of that id alone, while it catches up: its frames say so.
    pub fn connect_only(&mut self, id: &str) -> ConnectionId {
        self.connections.insert(Connection {
            only: Some(quoted_id(id)),
            ..Connection::default()
        })
    }

    /// Notes that a connection was told that more of a transaction follows, if `at`, up to which it has everything,
    /// lies inside one. It will be told of the transaction's end.
    pub fn open(&mut self, connection: ConnectionId, at: Position) {
        if at.done == Done::Commit {
            return;
        }
        if let Some(held) = self.connections.get_mut(connection).filter(|held| !held.open) {
            held.open = true;
            self.open.push(connection);
        }
    }

    /// Removes all of a connection's subscriptions.
    pub fn unsubscribe_all(&mut self, connection: ConnectionId) {
        let held = self.connections.get(connection);
        let members = held.into_iter().flat_map(|held| held.members.iter());
        let groups: Vec<u32> = members.map(|member| member.group).collect();
        for group in groups {
            self.take(connection, group, |_| true);
        }
    }

    /// Removes a connection and its subscriptions.
    pub fn disconnect(&mut self, connection: ConnectionId) {
        self.unsubscribe_all(connection);
        self.connections.try_remove(connection);
        self.open.retain(|&open| open != connection);
    }

    /// Activates a subscription: its changes after `after` go to `connection` from now on.
    ///
    /// If the query does not fit the version of the table that its last row had, it stays all the same, since the table
    /// may have changed. It ends if another row of that version comes.
    pub fn subscribe(&mut self, connection: ConnectionId, subscription: &Arc<Subscription>, after: Position) {
        let table = self.table_of(subscription.query.table());
        let Some(routes) = self.tables.get_mut(table) else {
            return;
        };
        let entry = routes.enter(&subscription.query);
        let group = self.group_of(table, entry, &subscription.id);
        let (Some(held), Some(group_held)) =
            (self.connections.get_mut(connection), self.groups.get_mut(group))
        else {
            return;
        };
        let member = GroupMember {
            group: group as u32,
            slot: group_held.members.len() as u32,
            subscription: Arc::clone(subscription),
        };
        if group_held.members.is_empty() {
            // Most have just one.
            group_held.members.reserve_exact(1);
        }
        group_held.members.push(Member {
            connection: connection as u32,
            oid: subscription.oid,
            after,
        });
        let hash = GroupMember::hash(member.group);
        held.members
            .insert_unique(hash, member, |held| GroupMember::hash(held.group));
        self.widest = self.widest.max(held.members.len());
    }

    /// Removes a subscription. Does nothing if it is not active.
    pub fn unsubscribe(&mut self, connection: ConnectionId, subscription: &Arc<Subscription>) {
        let query = &subscription.query;
        let table = self.by_name.get(query.table()).copied();
        let place = table.and_then(|table| Some((table, self.tables.get(table)?.entry(query)?)));
        let Some((table, entry)) = place else { return };
        if let Some(group) = self.find_group(table, entry, &quoted_id(&subscription.id)) {
            self.take(connection, group, |held| {
                Arc::ptr_eq(&held.subscription, subscription)
            });
        }
    }

    /// Takes a connection out of a group, and returns its subscription.
    fn take(
        &mut self,
        connection: ConnectionId,
        group: u32,
        is_it: impl Fn(&GroupMember) -> bool,
    ) -> Option<Arc<Subscription>> {
        let held = self.connections.get_mut(connection)?;
        let is_it = |member: &GroupMember| member.group == group && is_it(member);
        let found = held.members.find_entry(GroupMember::hash(group), is_it).ok()?;
        let (member, _) = found.remove();
        if held.members.len() < held.members.capacity() / 8 {
            held.members.shrink_to_fit(|held| GroupMember::hash(held.group));
        }
        self.leave(&member);
        Some(member.subscription)
    }

    /// The number of subscriptions of a connection.
    pub fn subscriptions(&self, connection: ConnectionId) -> usize {
        self.connections
            .get(connection)
            .map_or(0, |held| held.members.len())
    }

    /// Takes the counts of undecided changes that were sent since the last call, by table.
    pub fn take_undecided(&mut self) -> impl Iterator<Item = (TableName, Undecided)> {
        self.undecided.take()
    }

    /// The number of distinct queries.
    pub fn queries(&self) -> usize {
        self.tables.iter().map(|(_, table)| table.len()).sum()
    }

    fn table_of(&mut self, name: &TableName) -> usize {
        if let Some(&table) = self.by_name.get(name) {
            return table;
        }
        let table = self.tables.insert(Table::default());
        self.by_name.insert(name.clone(), table);
        // Relations of this name were skipped so far, and now belong to a table.
        self.relations.retain(|_, (known, _)| known.table != *name);
        table
    }

    fn group_of(&mut self, table: usize, entry: usize, id: &str) -> usize {
        let id_json = quoted_id(id);
        if let Some(group) = self.find_group(table, entry, &id_json) {
            return group as usize;
        }
        let Some(routes) = self.tables.get_mut(table) else {
            return usize::MAX;
        };
        let hash = self.hasher.hash_one((table, entry, &id_json));
        let vacant = self.groups.vacant_entry();
        let group = vacant.key();
        vacant.insert(Group {
            table,
            entry,
            place: routes.add_group(entry, group) as u32,
            bytes: 0,
            id_json,
            members: Vec::new(),
            hits: Vec::new(),
            undecided: Undecided::default(),
        });
        let groups = &self.groups;
        let hasher = &self.hasher;
        let hash_of = |group: &u32| {
            let group = groups.get(*group as usize);
            group.map_or(0, |group| {
                hasher.hash_one((group.table, group.entry, &group.id_json))
            })
        };
        self.by_id.insert_unique(hash, group as u32, hash_of);
        group
    }

    fn find_group(&self, table: usize, entry: usize, id_json: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((table, entry, id_json));
        let is_it = |group: &u32| {
            let group = self.groups.get(*group as usize);
            group.is_some_and(|group| (group.table, group.entry, &*group.id_json) == (table, entry, id_json))
        };
        self.by_id.find(hash, is_it).copied()
    }

    /// Removes a member from its group, and whatever is empty then.
    fn leave(&mut self, member: &GroupMember) {
        let index = member.group as usize;
        let slot = member.slot as usize;
        let Some(group) = self
            .groups
            .get_mut(index)
            .filter(|group| slot < group.members.len())
        else {
            return;
        };
        group.members.swap_remove(slot);
        if let Some(moved) = group.members.get(slot) {
            let last = group.members.len() as u32;
            let is_it = |m: &GroupMember| m.group == member.group && m.slot == last;
            let held = self.connections.get_mut(moved.connection as usize);
            let hash = GroupMember::hash(member.group);
            if let Some(place) = held.and_then(|held| held.members.find_mut(hash, is_it)) {
                place.slot = member.slot;
            }
        }
        if group.members.is_empty() {
            self.remove_group(index);
        }
    }

    fn remove_group(&mut self, index: usize) {
        let Some(group) = self.groups.try_remove(index) else {
            return;
        };
        let hash = self.hasher.hash_one((group.table, group.entry, &group.id_json));
        if let Ok(found) = self.by_id.find_entry(hash, |held| *held as usize == index) {
            found.remove();
        }
        let Some(table) = self.tables.get_mut(group.table) else {
            return;
        };
        let moved = table.remove_group(group.entry, group.place as usize);
        if let Some(moved) = moved.and_then(|moved| self.groups.get_mut(moved)) {
            moved.place = group.place;
        }
        if table.len() == 0 {
            self.tables.remove(group.table);
            self.by_name.retain(|_, table| *table != group.table);
            self.relations.retain(|_, (_, table)| *table != Some(group.table));
        }
    }
}

//! From a relation to the queries on its table, and the ends of subscriptions whose table has changed.

use std::cell::Cell;
use std::sync::Arc;

use super::ends::{
    End, changed_message, failed_message, gone_message, schema_changed, unfit_message, unnamed_message,
};
use super::strain::Strain;
use super::{GroupMember, Member, Sink, Subscription, SubscriptionRegistry};
use crate::event::{Relation, TableName};
use crate::lsn::{Lsn, Position};
use crate::protocol::ErrorMessage;

/// The number of relations below which a sweep is not worth it.
pub(super) const FEW_RELATIONS: usize = if cfg!(test) { 16 } else { 2048 };

impl SubscriptionRegistry {
    /// The table of a relation, if it has subscriptions. The first row of a new version of the relation binds the
    /// table's queries again.
    pub(super) fn route(&mut self, relation: &Arc<Relation>, sink: &mut impl Sink) -> Option<usize> {
        if let Some((_, table)) = self.relations.get(&Arc::as_ptr(relation).addr()) {
            return *table;
        }
        let table = self.by_name.get(&relation.table).copied();
        self.end_renamed(table, relation, sink);
        if let Some(index) = table {
            self.end_replaced(index, relation, sink);
        }
        // The table is gone if all of its subscriptions have ended.
        let table = self.by_name.get(&relation.table).copied();
        let puts_apart = self.lane.puts_apart;
        let rebound = table.and_then(|index| Some(self.tables.get_mut(index)?.rebind(relation, puts_apart)));
        let long = rebound.unwrap_or_default();
        self.relieve(&long, Strain::Apart, sink);
        let table = self.by_name.get(&relation.table).copied();
        // The version that was bound before is forgotten: should its rows come again, they bind it again.
        self.relations
            .retain(|_, (known, _)| known.table != relation.table);
        self.forget_relations();
        self.relations
            .insert(Arc::as_ptr(relation).addr(), (Arc::clone(relation), table));
        table
    }

    /// Drops the relations without subscriptions, and those that only the registry still holds, such as dropped
    /// partitions, whenever there are twice as many as the last sweep left. If more rows of one come, it is looked up
    /// by its name again.
    fn forget_relations(&mut self) {
        if self.relations.len() > 2 * self.relations_swept {
            self.relations
                .retain(|_, (relation, table)| table.is_some() && Arc::strong_count(relation) > 1);
            self.relations_swept = self.relations.len().max(FEW_RELATIONS);
        }
    }

    /// Ends the subscriptions to the table of this name and OID, which no longer exists or is no longer published.
    pub fn end_table(&mut self, name: &TableName, oid: u32, sink: &mut impl Sink) {
        let Some(&table) = self.by_name.get(name) else {
            return;
        };
        self.end_subscriptions(table, &gone_message(name), |member| member.oid == oid, sink);
    }

    /// Ends the subscriptions that need a column which this version of their table, found in the database, lacks, or
    /// which differs from the one that they were told.
    pub fn end_changed(&mut self, relation: &Relation, sink: &mut impl Sink) {
        let Some(&table) = self.by_name.get(&relation.table) else {
            return;
        };
        let changed = |member: &Member, subscription: &Subscription| {
            let message = unfit_message(&subscription.query, relation)?;
            (member.oid == relation.oid).then_some(message)
        };
        let groups = self.tables.get(table).map(super::table::Table::groups);
        for group in groups.into_iter().flatten() {
            self.end_members(group, changed, sink);
        }
    }

    /// Ends the subscriptions to which a transaction that ends at `end` is news, and which do not fit its version of
    /// the table: their query cannot be bound to it, or a column that it needs differs from the one that they were
    /// told.
    pub(super) fn end_unfit(&mut self, index: usize, end: Lsn, sink: &mut impl Sink) {
        let end = Position::after(end);
        let Some(table) = self.tables.get_mut(index) else {
            return;
        };
        let Some(relation) = table.relation().cloned() else {
            return;
        };
        table.has_unfit = false;
        let has_later = Cell::new(false);
        let is_news = |member: &Member| {
            has_later.set(has_later.get() || member.after >= end);
            member.after < end
        };
        let changed = |member: &Member, subscription: &Subscription| {
            if !is_news(member) {
                return None;
            }
            let message = changed_message(&subscription.query, &relation);
            if message.is_none() {
                subscription.query.note_shown(&relation);
            }
            message
        };
        for group in table.groups() {
            self.end_members(group, changed, sink);
        }
        let unfit = self.tables.get(index).map(super::table::Table::unfit);
        for (groups, error) in unfit.into_iter().flatten() {
            for group in groups {
                self.end_members(group, |member, _| is_news(member).then(|| error.clone()), sink);
            }
        }
        if let Some(table) = self.tables.get_mut(index) {
            table.has_unfit = has_later.get();
        }
    }

    /// Ends the subscriptions that cannot go on after a row of a transaction that ends at `end` and is news to them.
    pub(super) fn end_failed(&mut self, index: usize, end: Lsn, sink: &mut impl Sink) {
        let groups = self.tables.get(index).map(super::table::Table::failed);
        let end = Position::after(end);
        for (group, because) in groups.into_iter().flatten() {
            let why = |member: &Member, subscription: &Subscription| {
                let message = match because {
                    End::Fails => failed_message,
                    End::Unnamed => unnamed_message,
                };
                (member.after < end).then(|| message(subscription.query.table()))
            };
            self.end_members(group, why, sink);
        }
    }

    /// Ends the subscriptions to former names of the table.
    fn end_renamed(&mut self, table: Option<usize>, relation: &Relation, sink: &mut impl Sink) {
        if relation.table.messages().is_some() {
            return;
        }
        let tables = self.tables.iter();
        let others =
            tables.filter(|(index, other)| Some(*index) != table && other.oid() == Some(relation.oid));
        let renamed: Vec<usize> = others.map(|(index, _)| index).collect();
        for index in renamed {
            let renamed = schema_changed(format!(
                "the table is called {} now: resubscribe with a new snapshot",
                relation.table
            ));
            let why = |member: &Member, subscription: &Subscription| {
                let query = &subscription.query;
                (member.oid == relation.oid).then(|| match query.key().admission {
                    None => renamed.clone(),
                    // Policies may hide the new name.
                    Some(_) => gone_message(query.table()),
                })
            };
            let groups = self.tables.get(index).map(super::table::Table::groups);
            for group in groups.into_iter().flatten() {
                self.end_members(group, why, sink);
            }
        }
    }

    /// Ends the subscriptions to another table that had the name. A subscription that was made for this table stays,
    /// unless rows of the other one came since.
    fn end_replaced(&mut self, index: usize, relation: &Relation, sink: &mut impl Sink) {
        let Some(table) = self.tables.get(index) else {
            return;
        };
        let before = table.oid();
        let touched = table.touched;
        if before == Some(relation.oid) {
            return;
        }
        let is_of_other =
            |member: &Member| member.oid != relation.oid || before.is_some() && member.after.end < touched;
        let message = format!(
            "another table is called {} now: resubscribe with a new snapshot",
            relation.table
        );
        self.end_subscriptions(index, &schema_changed(message), is_of_other, sink);
    }

    fn end_subscriptions(
        &mut self,
        table: usize,
        error: &ErrorMessage,
        ends: impl Fn(&Member) -> bool + Copy,
        sink: &mut impl Sink,
    ) {
        let groups = self.tables.get(table).map(super::table::Table::groups);
        for group in groups.into_iter().flatten() {
            self.end_members(group, |member, _| ends(member).then(|| error.clone()), sink);
        }
    }

    /// Ends the members of a group for which there is a reason.
    pub(super) fn end_members(
        &mut self,
        group: usize,
        why: impl Fn(&Member, &Subscription) -> Option<ErrorMessage>,
        sink: &mut impl Sink,
    ) {
        let mut slot = 0;
        while let Some(member) = self.groups.get(group).and_then(|held| held.members.get(slot)) {
            let connection = member.connection as usize;
            let is_it = |member: &GroupMember| (member.group as usize, member.slot as usize) == (group, slot);
            let held = self.connections.get(connection);
            let held = held.and_then(|held| held.members.find(GroupMember::hash(group as u32), is_it));
            let Some(error) = held.and_then(|held| why(member, &held.subscription)) else {
                slot += 1;
                continue;
            };
            // The last member moves to its place.
            let Some(subscription) = self.take(connection, group as u32, is_it) else {
                return;
            };
            let error = error.about(&*subscription.id);
            sink.ended(connection, &subscription, error);
        }
    }
}

//! From a relation to the queries on its table; and the ends of subscriptions whose table is not what it was.

use std::sync::Arc;

use super::table::has_another_type;
use super::{Fanout, Member, Membership, Sink, Subscription};
use crate::event::{Relation, TableName};
use crate::protocol::{ErrorCode, ErrorMessage};

/// What is said of a table that is not there any more under its name, or not published.
pub fn gone_message(name: &TableName) -> ErrorMessage {
    schema_changed(format!(
        "{name} was dropped, renamed or replaced, or is not published any more: start anew"
    ))
}

/// So many relations are not worth sweeping.
pub(super) const FEW_RELATIONS: usize = if cfg!(test) { 16 } else { 2048 };

fn schema_changed(message: String) -> ErrorMessage {
    ErrorMessage::new(ErrorCode::SchemaChanged, message)
}

impl Fanout {
    /// The table that a relation belongs to, if anybody subscribed to it. The first row of a new version of the
    /// relation binds the table's queries anew.
    pub(super) fn route(&mut self, relation: &Arc<Relation>, sink: &mut impl Sink) -> Option<usize> {
        if let Some((_, table)) = self.relations.get(&Arc::as_ptr(relation).addr()) {
            return *table;
        }
        let table = self.by_name.get(&relation.table).copied();
        self.end_renamed(table, relation, sink);
        if let Some(index) = table {
            self.end_replaced(index, relation, sink);
            self.end_retyped(index, relation, sink);
        }
        // The table is gone if all of its subscriptions have ended.
        let table = self.by_name.get(&relation.table).copied();
        if let Some(table) = table.and_then(|index| self.tables.get_mut(index)) {
            table.rebind(relation);
        }
        // Whatever version was bound before is not any more: should its rows come again, they bind it again.
        self.relations
            .retain(|_, (known, _)| known.table != relation.table);
        self.forget_relations();
        self.relations
            .insert(Arc::as_ptr(relation).addr(), (Arc::clone(relation), table));
        table
    }

    /// Drops the relations that nobody subscribed to, or that only we still know, such as dropped partitions', whenever
    /// there are twice as many as were left the last time. One whose rows go on coming is looked up by its name again.
    fn forget_relations(&mut self) {
        if self.relations.len() > 2 * self.relations_swept {
            self.relations
                .retain(|_, (relation, table)| table.is_some() && Arc::strong_count(relation) > 1);
            self.relations_swept = self.relations.len().max(FEW_RELATIONS);
        }
    }

    /// Ends the subscriptions to a table by its name, as far as they are to the one of that OID: there is no such table
    /// any more, or it is not published.
    pub fn end_table(&mut self, name: &TableName, oid: u32, sink: &mut impl Sink) {
        let Some(&table) = self.by_name.get(name) else {
            return;
        };
        self.end_subscriptions(table, &gone_message(name), |member| member.oid == oid, sink);
    }

    /// Ends the queries that do not fit the table's rows as they come.
    pub(super) fn end_unfit(&mut self, table: usize, sink: &mut impl Sink) {
        let Some(table) = self.tables.get_mut(table) else {
            return;
        };
        table.has_unfit = false;
        for (groups, error) in table.unfit() {
            for group in groups {
                self.end_members(group, &error, |_, _| true, sink);
            }
        }
    }

    /// Ends the subscriptions to other names that the table had.
    fn end_renamed(&mut self, table: Option<usize>, relation: &Relation, sink: &mut impl Sink) {
        if relation.table.messages().is_some() {
            return;
        }
        let tables = self.tables.iter();
        let others =
            tables.filter(|(index, other)| Some(*index) != table && other.oid() == Some(relation.oid));
        let renamed: Vec<usize> = others.map(|(index, _)| index).collect();
        for index in renamed {
            let message = format!("the table is called {} now: start anew", relation.table);
            self.end_subscriptions(
                index,
                &schema_changed(message),
                |member| member.oid == relation.oid,
                sink,
            );
        }
    }

    /// Ends the subscriptions to another table that had the name. One that was made to this table stays, unless rows
    /// of the other one came since.
    fn end_replaced(&mut self, index: usize, relation: &Relation, sink: &mut impl Sink) {
        let Some(table) = self.tables.get(index) else {
            return;
        };
        let (before, touched) = (table.oid(), table.touched);
        if before == Some(relation.oid) {
            return;
        }
        let is_of_other =
            |member: &Member| member.oid != relation.oid || before.is_some() && member.after.end < touched;
        let message = format!("another table is called {} now: start anew", relation.table);
        self.end_subscriptions(index, &schema_changed(message), is_of_other, sink);
    }

    /// Ends the subscriptions that name a column which has another type now. One that was made to the table as it is now
    /// stays, unless rows of the other type came since.
    fn end_retyped(&mut self, index: usize, relation: &Relation, sink: &mut impl Sink) {
        let Some(table) = self.tables.get(index) else {
            return;
        };
        let touched = table.touched;
        for (groups, columns) in table.retyped(relation) {
            for column in columns {
                let error = has_another_type(column, relation);
                let has_other = |member: &Member, subscription: &Subscription| {
                    let told = subscription.query.relation();
                    let told = told.and_then(|told| told.column(&column.name));
                    member.after.end < touched || told.is_none_or(|(_, told)| told.ty.oid != column.ty.oid)
                };
                for &group in &groups {
                    self.end_members(group, &error, has_other, sink);
                }
            }
        }
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
            self.end_members(group, error, |member, _| ends(member), sink);
        }
    }

    fn end_members(
        &mut self,
        group: usize,
        error: &ErrorMessage,
        ends: impl Fn(&Member, &Subscription) -> bool,
        sink: &mut impl Sink,
    ) {
        let mut slot = 0;
        while let Some(member) = self.groups.get(group).and_then(|held| held.members.get(slot)) {
            let connection = member.connection as usize;
            let is_it = |membership: &Membership| {
                (membership.group as usize, membership.slot as usize) == (group, slot)
            };
            let held = self.connections.get(connection);
            let held = held.and_then(|held| held.memberships.find(Membership::hash(group as u32), is_it));
            if !held.is_some_and(|held| ends(member, &held.subscription)) {
                slot += 1;
                continue;
            }
            // The last member comes to stand in its place.
            let Some(subscription) = self.take(connection, group as u32, is_it) else {
                return;
            };
            let error = error.clone().about(&*subscription.id);
            sink.ended(connection, &subscription, error);
        }
    }
}

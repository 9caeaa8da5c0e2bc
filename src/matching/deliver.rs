//! Delivery of a piece of a transaction: match, encode, group by connection, frame.

use std::sync::Arc;

use hashbrown::HashTable;

use super::encode::Encoder;
use super::table::{AHEAD, Table};
use super::undecided::Undecided;
use super::{ENCODED_BYTES, Encoded, Group, GroupMember, Scratch, Sink, SubscriptionRegistry};
use crate::event::Transaction;
use crate::log::{Malformed, Piece};
use crate::lsn::{Done, Position};
use crate::protocol::{Frame, Framing, Part};

/// The work that is done in one go, before others have their turn.
const PIECE_WORK: u64 = 2_000_000;

impl SubscriptionRegistry {
    /// Hands each connection the frames of its matches in a piece of a transaction. If that would be too much at once,
    /// it takes only the first changes from the piece, and is to be called again for the rest. Returns true once all of
    /// the piece is delivered.
    ///
    /// # Errors
    /// The piece is malformed, although the journal's checksum holds. Nothing more of it was delivered.
    pub fn deliver(&mut self, piece: &mut Piece<'_>, sink: &mut impl Sink) -> Result<bool, Malformed> {
        self.match_changes(piece, sink)?;
        let done = piece.changes.is_empty();
        self.gather(&piece.transaction);
        let framing = Framing {
            transaction: &piece.transaction,
            only: None,
            last: piece.last && done,
            max_bytes: self.max_frame_bytes,
        };
        self.send(&framing, sink);
        if framing.last {
            self.close(&framing, sink);
        }
        self.scratch.encoder.clear();
        Ok(done)
    }

    fn match_changes(&mut self, piece: &mut Piece<'_>, sink: &mut impl Sink) -> Result<(), Malformed> {
        self.scratch.encoder.clear();
        let mut last: Option<(usize, Option<usize>)> = None;
        let mut ahead = 0;
        let mut most = 0;
        let mut strained = Vec::new();
        let enough = self.worked.saturating_add(PIECE_WORK);
        // A connection gets a change once for each of its subscriptions that it concerns.
        while self.scratch.encoder.len() < ENCODED_BYTES
            && self.worked < enough
            && (most as usize).saturating_mul(self.widest) < self.delivery_bytes
        {
            let Some(change) = piece.changes.next() else { break };
            let change = change?;
            let address = Arc::as_ptr(change.relation).addr();
            let table = match last {
                Some((known, table)) if known == address => table,
                _ => self.route(change.relation, sink),
            };
            last = Some((address, table));
            let Some(index) = table else { continue };
            if self.tables.get(index).is_some_and(|table| table.has_unfit) {
                self.end_unfit(index, piece.transaction.end, sink);
            }
            let allowance = self.allowance();
            let Some(table) = self.tables.get_mut(index) else {
                continue;
            };
            table.allow(allowance);
            table.touched = piece.transaction.end;
            if ahead == 0 {
                table.warm(&change, piece.changes.clone());
                ahead = AHEAD;
            }
            ahead -= 1;
            let Scratch {
                encoder,
                groups: touched,
                ..
            } = &mut self.scratch;
            let groups = &mut self.groups;
            encoder.begin_change();
            table.matches(&change, |hit| {
                let place = encoder.encode(&change, &hit);
                for &index in hit.groups {
                    let Some(group) = groups.get_mut(index) else {
                        continue;
                    };
                    if group.hits.is_empty() {
                        touched.push(index);
                    }
                    group.bytes = group.bytes.saturating_add(place.len() as u32);
                    group.undecided.add(hit.result);
                    most = most.max(group.bytes);
                    group.hits.push(Encoded {
                        seq: change.seq,
                        place: place.clone(),
                    });
                }
            });
            let units = table.count(self.lane, self.now, |groups, strain| {
                strained.push((groups, strain))
            });
            self.worked = self.worked.saturating_add(units);
            self.spare.take(units);
            if table.has_failed() {
                self.end_failed(index, piece.transaction.end, sink);
            }
            for (groups, strain) in strained.drain(..) {
                self.relieve(&groups, strain, sink);
                // The table may be gone with the last of them.
                last = None;
            }
        }
        Ok(())
    }

    /// Notes for each connection which of its groups have hits.
    fn gather(&mut self, transaction: &Transaction) {
        let whole = Position::after(transaction.end);
        self.scratch.resuming = false;
        for &index in &self.scratch.groups {
            let Some(group) = self.groups.get(index) else {
                continue;
            };
            let mut receivers = 0;
            for member in group.members.iter().filter(|member| member.after < whole) {
                receivers += 1;
                let id = member.connection as usize;
                let Some(connection) = self.connections.get_mut(id) else {
                    continue;
                };
                self.scratch.resuming |= member.after.end == transaction.end;
                if connection.touched.is_empty() {
                    self.scratch.connections.push(id);
                }
                connection.touched.push(index);
            }
            if group.undecided != Undecided::default()
                && let Some(relation) = self.tables.get(group.table).and_then(Table::relation)
            {
                self.undecided.count(&relation.table, group.undecided, receivers);
            }
        }
    }

    fn send(&mut self, framing: &Framing<'_>, sink: &mut impl Sink) {
        let mut made = Made::default();
        for id in self.scratch.connections.drain(..) {
            let Some(connection) = self.connections.get_mut(id) else {
                continue;
            };
            let framing = Framing {
                only: connection.only.as_deref(),
                ..*framing
            };
            let resuming = self.scratch.resuming;
            let members = &connection.members;
            let after = |index: usize, group: &Group| {
                resuming
                    .then(|| resumes_inside(members, index, group, framing.transaction))
                    .flatten()
            };
            let groups = connection
                .touched
                .iter()
                .filter_map(|&index| Some((index, self.groups.get(index)?)));
            if groups.clone().any(|(index, group)| after(index, group).is_some()) {
                made.forget();
                made.make(
                    &framing,
                    groups.flat_map(|(index, group)| group.parts(&self.scratch.encoder, after(index, group))),
                );
            } else if made.groups != connection.touched || made.only != connection.only {
                made.make(
                    &framing,
                    groups.flat_map(|(_, group)| group.parts(&self.scratch.encoder, None)),
                );
                made.groups.clone_from(&connection.touched);
                made.only.clone_from(&connection.only);
            }
            connection.touched.clear();
            for frame in &made.frames {
                sink.frame(id, frame);
            }
            let open = !framing.last && !made.frames.is_empty();
            if open && !connection.open {
                self.open.push(id);
            }
            // On the last piece the frames themselves said that nothing follows.
            connection.open = if framing.last {
                connection.open && made.frames.is_empty()
            } else {
                connection.open || open
            };
        }
        for group in self.scratch.groups.drain(..) {
            if let Some(group) = self.groups.get_mut(group) {
                group.hits.clear();
                group.bytes = 0;
                group.undecided = Undecided::default();
            }
        }
    }

    /// Ends the transaction for connections whose last frame said that more would follow.
    fn close(&mut self, framing: &Framing<'_>, sink: &mut impl Sink) {
        let mut closing = None;
        for id in self.open.drain(..) {
            let Some(held) = self.connections.get_mut(id).filter(|held| held.open) else {
                continue;
            };
            held.open = false;
            // A subscription that has ended gets nothing more.
            if held.only.is_some() && held.members.is_empty() {
                continue;
            }
            match held.only.as_deref() {
                None => sink.frame(id, closing.get_or_insert_with(|| framing.closing())),
                only => sink.frame(id, &Framing { only, ..*framing }.closing()),
            }
        }
    }
}

/// The frame made last, and the groups that it was made for: the next connection mostly has the same.
#[derive(Default)]
struct Made {
    groups: Vec<usize>,
    only: Option<Box<str>>,
    frames: Vec<Frame>,
}

impl Made {
    fn forget(&mut self) {
        self.groups.clear();
    }

    fn make<'p>(&mut self, framing: &Framing<'_>, parts: impl Iterator<Item = Part<'p>>) {
        let mut parts: Vec<Part<'p>> = parts.collect();
        // A stable sort: several subscriptions that matched the same change keep their order.
        parts.sort_by_key(|part| part.seq);
        self.frames.clear();
        framing.frames(&parts, |frame| self.frames.push(frame));
    }
}

/// The last change of this transaction that a connection already has, by its place in the group of that index, if it
/// resumes inside the transaction.
fn resumes_inside(
    members: &HashTable<GroupMember>,
    index: usize,
    group: &Group,
    transaction: &Transaction,
) -> Option<u32> {
    let index = index as u32;
    let is_it = |member: &GroupMember| member.group == index;
    let member = members.find(GroupMember::hash(index), is_it)?;
    let inside = group.members.get(member.slot as usize)?.after;
    match inside.done {
        Done::Change(seq) if inside.end == transaction.end => Some(seq),
        _ => None,
    }
}

impl Group {
    fn parts<'p>(&'p self, encoder: &'p Encoder, after: Option<u32>) -> impl Iterator<Item = Part<'p>> {
        let later = self
            .hits
            .iter()
            .filter(move |hit| after.is_none_or(|seq| hit.seq > seq));
        later.filter_map(move |hit| {
            let rest = encoder.get(hit.place.clone())?;
            Some(Part {
                seq: hit.seq,
                id: &self.id_json,
                rest,
            })
        })
    }
}

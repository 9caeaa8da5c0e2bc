//! The answers that the database, the journal and its readers give to a session.

use std::sync::Arc;
use std::time::Duration;

use super::log::{Matching, Reader};
use super::world::{Opening, ReadFailure, RowsOnTheirWay, World};
use crate::delivery::ReplayOutput;
use crate::log::SnapshotBoundary;
use crate::lsn::{Lsn, Position};
use crate::protocol::{ErrorCode, ErrorMessage};
use crate::session::cursor::{Preparation, ReadRequest, Rows, Wait};

impl World {
    pub(super) fn refusal(&self) -> Box<ErrorMessage> {
        Box::new(ErrorMessage::new(ErrorCode::Internal, "no"))
    }

    pub(super) fn prepare(&mut self, id: &Arc<str>) -> Preparation {
        if !self.cursor.awaits(id) {
            return Preparation::Unneeded;
        }
        let (_, opening) = self
            .opening
            .iter()
            .find(|(other, _)| Arc::ptr_eq(other, id))
            .unwrap();
        let opening = *opening;
        let subscribed = self.client.find(id);
        let subscription = Arc::clone(&subscribed.subscription);
        if self.log.is_gone(&subscription) {
            return Preparation::Refused(self.refusal());
        }
        let start = match opening {
            Opening::Rows => {
                self.rows.push(RowsOnTheirWay {
                    subscription,
                    boundary: None,
                    seen: Arc::default(),
                });
                return Preparation::Rows;
            }
            Opening::After(start) => start,
            Opening::Now => Position::after(self.router.position.min(self.log.head())),
        };
        subscribed.starts(start, Arc::default());
        Preparation::From {
            subscription,
            start,
            subscribed: "subscribed".to_owned(),
            at_head: matches!(opening, Opening::Now) && self.log.head() <= start.end,
        }
    }

    pub(super) fn read_rows(&mut self, id: &Arc<str>) -> Rows {
        if !self.cursor.awaits(id) {
            return Rows::Nothing;
        }
        if self.chance(20) {
            return Rows::Refused(self.refusal());
        }
        let place = self
            .rows
            .iter()
            .position(|rows| Arc::ptr_eq(&rows.subscription.id, id));
        let place = place.unwrap();
        let rows = &mut self.rows[place];
        match (&rows.boundary, self.rng.u32(0..3)) {
            (_, 0) => Rows::Nothing,
            (None, _) => {
                // The snapshot saw everything up to a place, nothing after another, and some of what lies between them.
                let head = self.log.head();
                let after = Lsn(head.0.saturating_sub(10 * self.rng.u64(0..4)).max(100));
                let until = Lsn(head.0 + 10 * self.rng.u64(0..3));
                let rng = &mut self.rng;
                let ends = after.0 / 10 + 1..=until.0 / 10;
                let between: Vec<Lsn> = ends.filter(|_| rng.bool()).map(|end| Lsn(end * 10)).collect();
                rows.seen = between.into();
                let boundary = Arc::new(SnapshotBoundary::between(after, until));
                rows.boundary = Some(Arc::clone(&boundary));
                let seen = Arc::clone(&rows.seen);
                self.boundaries.push((boundary, Arc::clone(&seen)));
                self.client.find(id).starts(Position::after(after), seen);
                Rows::Message("subscribed".to_owned())
            }
            (Some(_), 1) => Rows::Message("rows".to_owned()),
            (Some(boundary), _) => Rows::End(Arc::clone(&rows.subscription), Arc::clone(boundary)),
        }
    }

    /// Reads a step, with the reader of the previous step if there is one.
    pub(super) fn read(&mut self, request: &ReadRequest) -> Result<(ReplayOutput, Reader), ReadFailure> {
        if self.epoch_changed {
            return Err(ReadFailure::EpochChanged);
        }
        if matches!(request.wait, Wait::Start(_)) && request.from.position.end > self.router.position {
            self.now += Duration::from_millis(200);
            if request.from.position.end > self.log.head() {
                return Err(ReadFailure::NotYet);
            }
        }
        if self.chance(20) {
            return Err(ReadFailure::Exhausted);
        }
        if self.chance(150) {
            self.has_failed = true;
            return Err(if self.rng.bool() {
                ReadFailure::Expired
            } else {
                ReadFailure::Failed
            });
        }
        let place = self.readers.iter().position(|(id, _)| *id == request.replay);
        let mut reader = match place {
            // It may have been read for by a shared reader.
            Some(place) => self.readers.swap_remove(place).1,
            None => {
                let mut subscriptions = request.subscriptions.to_vec();
                for placed in &mut subscriptions {
                    placed.after = placed.after.max(request.from.position);
                }
                Reader {
                    matching: Matching {
                        subscriptions,
                        only: request.only.is_some(),
                        open: request.from.open,
                    },
                    at: request.from.position,
                    seen: self.seen_by(request.boundary.as_ref()),
                }
            }
        };
        let parts = self.rng.usize(1..6);
        let found = reader.step(&self.log, request.until, parts, &mut self.rng, &mut self.frames);
        Ok((found, reader))
    }

    fn seen_by(&self, boundary: Option<&Arc<SnapshotBoundary>>) -> Arc<[Lsn]> {
        let mut boundaries = self.boundaries.iter();
        let is_it = |(other, _): &&(Arc<SnapshotBoundary>, Arc<[Lsn]>)| {
            boundary.is_some_and(|boundary| Arc::ptr_eq(other, boundary))
        };
        boundaries
            .find(is_it)
            .map_or_else(Arc::default, |(_, seen)| Arc::clone(seen))
    }
}

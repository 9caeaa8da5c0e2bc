//! One step of a replay that is read for alone.

use super::replay_cursor::Found;
use super::replay_pool::ReplayPool;
use super::replay_request::ReplayRequest;
use crate::log::{self, Log};
use crate::matching::Lane;

/// The least work that a step counts for: it reads of the journal.
const STEP: u64 = 1_000_000;

impl<H: Log> ReplayPool<H> {
    /// Reads one step for a request alone.
    pub(super) fn read_alone(&self, request: &mut ReplayRequest<H>, lane: Lane) -> Result<Found, log::Error> {
        let mut cursor = match request.cursor.take() {
            Some(mut cursor) => {
                cursor.go_on(0, request.until);
                cursor
            }
            None => {
                let mut cursor = self.cursor(request.at(), request.boundary.clone())?;
                cursor.join(&request.filter());
                cursor
            }
        };
        let before = cursor.registry().worked();
        let found = cursor.step_alone(lane);
        let worked = cursor.registry().worked() - before;
        let taken = request.standing.taken.saturating_add(worked);
        request.standing.taken = taken.saturating_add(STEP);
        self.count(&mut cursor);
        let found = found?.unwrap_or_else(|| Found::nothing(request.from));
        if !found.is_cut {
            request.cursor = Some(cursor);
        }
        Ok(found)
    }
}

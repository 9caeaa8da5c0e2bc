//! One step of a replay that is read for alone.

use super::replay_cursor::ReplayOutput;
use super::replay_pool::ReplayPool;
use super::replay_request::ReplayRequest;
use crate::log::{self, Log};
use crate::matching::Lane;

impl<H: Log> ReplayPool<H> {
    /// Reads one step for a request alone.
    pub(super) fn read_alone(
        &self,
        request: &mut ReplayRequest<H>,
        lane: Lane,
    ) -> Result<ReplayOutput, log::Error> {
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
        self.took(request.owner, lane, cursor.registry().worked() - before);
        self.count(&mut cursor);
        let found = found?.unwrap_or_else(|| ReplayOutput::nothing(request.from));
        if !found.is_cut {
            request.cursor = Some(cursor);
        }
        Ok(found)
    }
}

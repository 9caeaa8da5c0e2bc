//! The place where a subscription from a time on starts.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::Services;
use crate::event::Timestamp;
use crate::log::{self, Log, place_of_time};
use crate::lsn::Position;
use crate::protocol::{Detail, ErrorCode, ErrorMessage};
use crate::types::{Kind, moments};

/// The time by which a client's clock may be ahead of this server's.
const AHEAD: Duration = Duration::from_secs(60);
/// The permits to look for the place of a time, which may read some of the journal.
static SEARCHES: Semaphore = Semaphore::const_new(1);

/// The place where a subscription from a time on starts.
pub(super) async fn place<H: Log>(services: &Services<H>, time: Timestamp) -> Result<Position, ErrorMessage> {
    if time.0 > Timestamp::now().0.saturating_add(AHEAD.as_micros() as i64) {
        let time = moments::text(&Kind::TimestampTz, time.0);
        let message = format!("{time} lies in the future: leave \"from\" out for what comes from now on");
        return Err(ErrorMessage::new(ErrorCode::ResumeInvalid, message));
    }
    let turn = SEARCHES.acquire().await;
    let history = services.history.clone();
    let search = move || {
        // Held to the end of the search, even if the client is gone by then.
        let _turn = turn;
        place_of_time(&history, time)
    };
    let found = services.background.spawn_blocking(search).await;
    let found = found.map_err(|error| services.internal(&error))?;
    match found {
        Ok(Some(place)) => Ok(Position::after(place)),
        Ok(None) | Err(log::Error::Expired { .. }) => {
            let earliest = services.history.earliest();
            let message = "the journal may hold not all that was committed since then: resubscribe with a snapshot, or from \
                           \"earliest\"";
            Err(ErrorMessage::new(ErrorCode::ResumeExpired, message).with(Detail::Earliest(earliest)))
        }
        Err(log::Error::EpochChanged) => {
            let message = "a new epoch has begun: earlier positions mean nothing any more";
            Err(ErrorMessage::new(ErrorCode::ResumeInvalid, message))
        }
        Err(error) => Err(services.unanswered(&error)),
    }
}

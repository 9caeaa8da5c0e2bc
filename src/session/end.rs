//! [`End`]: the reason why a session ends.

use std::time::Duration;

use super::wire::Lost;
use crate::delivery;
use crate::protocol::CloseCode;

/// The reason why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client has gone without a word.
    Lost,
    /// The client closed, by this code.
    Left(u16),
    /// We close.
    Close(CloseCode),
    /// Its token's time is over.
    Expired,
}

impl From<Lost> for End {
    fn from(lost: Lost) -> End {
        match lost {
            Lost::Gone => End::Lost,
            Lost::Stalled => End::Close(CloseCode::TooSlow),
        }
    }
}

impl From<delivery::Stopped> for End {
    fn from(_: delivery::Stopped) -> End {
        End::Close(CloseCode::GoingAway {
            spread: Duration::ZERO,
        })
    }
}

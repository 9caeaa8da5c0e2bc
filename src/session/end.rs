//! [`End`]: the reason why a session ends.

use std::time::Duration;

use super::wire::Lost;
use crate::delivery;
use crate::protocol::CloseCode;

/// The reason why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The connection was lost without a close frame.
    Lost,
    /// The client closed, by this code.
    Left(u16),
    /// We close, by this code.
    Close(CloseCode),
    /// Its token has expired.
    Expired,
    /// Its subject takes the most memory, and others need some.
    GivesWay,
}

impl From<Lost> for End {
    fn from(lost: Lost) -> End {
        match lost {
            Lost::Gone => End::Lost,
            Lost::Stalled => End::Close(CloseCode::TooSlow),
            Lost::Stopped => End::Close(CloseCode::GoingAway {
                spread: Duration::ZERO,
            }),
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

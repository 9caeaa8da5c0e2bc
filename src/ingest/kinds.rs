//! The kinds of errors as traces have them: without the words of a server, which may repeat values of rows.

use super::Error;

impl Error {
    /// The kind of error.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Error::Postgres(_) => "postgres",
            Error::Decode(_) | Error::Streams(_) | Error::Translate(_) | Error::Order(_) => "decode",
            Error::Journal(_) => "journal",
            Error::Spool(_) | Error::SpaceTaken(_) | Error::SpoolBound(_) => "spool",
            Error::Doubtful { .. } | Error::Streamable | Error::Renamed | Error::Nudged => "restart",
            Error::Slot(_) => "slot",
            Error::SlotGone(_) => "slot_gone",
            Error::PassedOver(_) => "publication_missing",
            Error::Stopped => "stopped",
            Error::OtherServer { .. } => "other_server",
            Error::Invisible(_) | Error::Unconfirmed(_) => "not_visible",
            Error::End { .. } | Error::Unwritten { .. } => "garbled",
            Error::Unreadable(_) | Error::Malformed(_) => "received_unreadable",
            Error::ServerShutdown | Error::Undrained => "server_shutdown",
        }
    }
}

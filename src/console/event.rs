//! [`EventKind`]: what happens to a source, as the console tells it. An event holds nothing of rows, hosts or clients.

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    /// walcast was started.
    Restart,
    /// A new epoch began.
    Epoch,
    /// One of several sources failed.
    SourceFailed,
    /// The slot was dropped because of `--max-slot-lag`.
    SlotGivenUp,
    /// The slot is gone, or useless.
    SlotLost,
    /// Another walcast does the work.
    Standby,
    /// This one does it again.
    Takeover,
    /// The replication stream ended.
    Disconnect,
    /// It is there again.
    Reconnect,
    /// walcast cannot do its work.
    NotReady,
    /// It can again.
    Ready,
}

impl EventKind {
    /// All of them.
    #[cfg(test)]
    const ALL: [EventKind; 11] = [
        EventKind::Restart,
        EventKind::Epoch,
        EventKind::SourceFailed,
        EventKind::SlotGivenUp,
        EventKind::SlotLost,
        EventKind::Standby,
        EventKind::Takeover,
        EventKind::Disconnect,
        EventKind::Reconnect,
        EventKind::NotReady,
        EventKind::Ready,
    ];

    /// Its name for programs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            EventKind::Restart => "restart",
            EventKind::Epoch => "epoch",
            EventKind::SourceFailed => "source_failed",
            EventKind::SlotGivenUp => "slot_given_up",
            EventKind::SlotLost => "slot_lost",
            EventKind::Standby => "standby",
            EventKind::Takeover => "takeover",
            EventKind::Disconnect => "disconnect",
            EventKind::Reconnect => "reconnect",
            EventKind::NotReady => "not_ready",
            EventKind::Ready => "ready",
        }
    }

    /// The sentence for people.
    pub(super) fn text(self) -> &'static str {
        match self {
            EventKind::Restart => "walcast started",
            EventKind::Epoch => "a new epoch began: clients start again from a snapshot",
            EventKind::SourceFailed => "the source failed, and is opened again",
            EventKind::SlotGivenUp => "the slot exceeded --max-slot-lag and was dropped",
            EventKind::SlotLost => "the slot is invalidated or missing",
            EventKind::Standby => "another walcast reads the slot: this one waits",
            EventKind::Takeover => "this walcast took over from another one",
            EventKind::Disconnect => "the replication stream is down",
            EventKind::Reconnect => "the replication stream is up",
            EventKind::NotReady => "walcast is not ready: /health/ready says why",
            EventKind::Ready => "walcast is ready",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::series::FIELDS;

    const PAGE: &str = include_str!("../../docs/console.md");

    #[test]
    fn every_path_series_and_kind_of_event_is_documented() {
        for kind in EventKind::ALL.map(EventKind::as_str) {
            assert!(PAGE.contains(&format!("`{kind}`")), "{kind}");
        }
        for (name, _) in FIELDS {
            assert!(PAGE.contains(&format!("`{name}`")), "{name}");
        }
        let routes = include_str!("mod.rs").split(".route(\"").skip(1);
        let paths = routes.filter_map(|rest| rest.split_once("\", ")?.0.strip_prefix("/api/"));
        let paths: Vec<&str> = paths.filter(|path| !path.starts_with('{')).collect();
        assert!(paths.len() == 8, "{paths:?}");
        for path in paths {
            let is_told = ["GET", "POST"]
                .iter()
                .any(|method| PAGE.contains(&format!("`{method} /api/{path}")));
            assert!(is_told, "{path}");
        }
    }
}

//! [`Purpose`] of a session, and [`Settings`], by which it keeps to it.

/// The purpose of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Our own questions. Whatever the role's settings are, they depend on none: names have to be qualified.
    Query,
    /// Reading rows for clients, as in [`Purpose::Query`], but for the role's own `statement_timeout`: how long a
    /// table may be read is the administrator's to bound.
    Snapshot,
    /// Logical replication: replication commands, and SQL as in [`Purpose::Query`].
    Replication,
    /// SQL as an application has it, of the demo or a test: of the role's settings only those are ours that the text of
    /// values depends on ([`PINNED`](super::PINNED)).
    Application,
}

/// The state by which a session keeps its settings.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// The settings, by name.
    pub(super) wanted: Vec<(&'static str, String)>,
    /// The server process that answered first; 0 before that.
    pub(super) backend_pid: u32,
    /// The SQL that goes before every statement outside a transaction: through a pooler the next one may be answered by
    /// another process, which others have had before, and will have.
    pub(super) each_time: Option<String>,
}

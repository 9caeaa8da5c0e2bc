//! walcast: live queries over websockets from Postgres' logical replication.
//!
//! ```text
//!  Postgres ─▶ postgres ─▶ decode ─▶ journal ─▶ filter ─▶ matching ─▶ session ─▶ http ─▶ browser
//!              ▲────────ingest────────┘ └────────router───────┘  └─ one per client ─┘
//!              └─ confirmed LSN, once the journal holding it is on disk
//! ```
//!
//! Data flows one way, and a module imports only from the rows above its own, and within its row what stands before it:
//!
//! | row | modules | they are |
//! |---|---|---|
//! | words | [`lsn`], [`types`], [`event`], [`exhaustion`], `der` | values: no clock, no I/O |
//! | logic | [`log`], [`decode`], [`filter`], [`auth`], [`limit`], [`config`], [`protocol`], [`policy`], [`matching`] | functions from bytes and values to values |
//! | edges | [`private_files`], [`tls`], [`fetch`], [`postgres`], [`journal`], [`telemetry`], [`keys`], [`health`], [`schema`], [`snapshot`] | sockets, files, counters |
//! | loops | [`ingest`], [`delivery`], [`session`], [`maintenance`] | one thread or task each |
//! | front, house | [`cluster`] for throwaway servers; [`http`], [`bridge`], [`console`], [`app`], [`cli`] | they know everybody, nobody knows them |
//!
//! ([`log`] holds the traits behind which a log does its I/O; the only one that implements them here is [`journal`].)

// In the order of the flow, which rustfmt keeps within blank lines.
pub mod lsn;

pub mod types;

pub mod event;

pub mod exhaustion;

mod der;

pub mod private_files;

pub mod tls;

pub mod fetch;

pub mod postgres;

pub mod log;

pub mod decode;

pub mod journal;

pub mod filter;

pub mod auth;

pub mod limit;

pub mod config;

pub mod protocol;

pub mod policy;

pub mod matching;

pub mod telemetry;

pub mod keys;

pub mod health;

pub mod schema;

pub mod snapshot;

pub mod ingest;

pub mod delivery;

pub mod session;

pub mod maintenance;

pub mod http;

pub mod bridge;

pub mod console;

pub mod app;

pub mod cli;

pub mod cluster;

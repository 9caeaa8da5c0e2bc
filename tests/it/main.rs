//! The main promises, proved against real throwaway servers: the program itself, killed, cut off and starved, and
//! clients that check every message against the protocol's page.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
#![allow(unreachable_pub, reason = "`pub` means for the tests' other modules")]

mod advice;
mod ahead;
mod changes;
mod clock;
mod columns;
mod connections;
mod consistency;
mod continuity;
mod convergence;
mod crash;
mod ddl;
mod directory;
mod failing;
mod failover;
mod faults;
mod identities;
mod labels;
mod messages;
mod operations;
mod pooler;
mod protocol;
mod publications;
mod refusals;
mod rights;
mod schema;
mod settings;
mod slot;
mod slow;
mod snapshot;
mod sources;
mod standby;
mod streaming;
mod support;
mod synchronous;
mod tail;
mod transcripts;
mod undecided;
mod upstream;
mod values;
mod versions;
mod visibility;
mod wal2json;
mod work;

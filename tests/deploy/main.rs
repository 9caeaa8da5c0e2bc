//! `deploy/` is true: each part is read by its own linter or parser, and runs where this machine can run it.
//!
//! The programs for it are Debian's (`scripts/install.sh deploy`), and for the chart some of PyPI's (`scripts/install.sh
//! chart`). A test whose program is missing says that it is left out.

// Clippy allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod chart;
mod image;
mod monitoring;
mod notify;
mod package;
mod proxies;
mod release;
mod root;
mod sql;
mod tools;
mod unit;
// What the integration tests stand on.
#[allow(unreachable_pub)]
#[path = "../it/support/mod.rs"]
mod support;

//! The journal as its users see it, on files that may fail.

mod damage;
mod faults;
mod history;
mod retention;
mod spool;
mod support;
mod tables;

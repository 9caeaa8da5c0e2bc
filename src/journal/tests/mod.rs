//! The journal as its users see it, on files that may fail.

mod damage;
mod faults;
mod history;
mod in_progress;
mod retention;
mod support;
mod tables;
mod times;

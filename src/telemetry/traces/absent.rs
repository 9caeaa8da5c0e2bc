//! A build without the feature `otlp`: nothing is recorded, and nothing is kept.

use std::fmt::Display;
use std::time::Instant;

use super::TracesError;
use super::environment::wanted;
use crate::event::Transaction;
use crate::lsn::Lsn;
use crate::telemetry::Metrics;

/// A part of a trace, of which nothing is recorded in this build.
#[derive(Debug)]
pub struct Span;

impl Span {
    /// No part.
    pub fn none() -> Span {
        Span
    }

    /// No part of whatever the current thread or task does.
    pub fn here(_: &'static str) -> Span {
        Span
    }

    /// No part.
    pub fn part(&self, _: &'static str) -> Span {
        Span
    }

    /// No part.
    pub fn part_since(&self, _: &'static str, _: Instant) -> Span {
        Span
    }

    /// False.
    pub fn is_recorded(&self) -> bool {
        false
    }

    /// Does nothing.
    pub fn note<V>(&self, _: &'static str, _: V) {}

    /// Does nothing.
    pub fn say(&self, _: &'static str, _: &dyn Display) {}

    /// Does nothing.
    pub fn failed(&self, _: &'static str) {}

    /// Does the work.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        work()
    }

    /// The work as it is.
    pub fn during<F: Future>(&self, work: F) -> F {
        work
    }
}

// A span ends when it is dropped, in both builds by the same code.
impl Drop for Span {
    fn drop(&mut self) {}
}

/// The work as it is.
pub(in crate::telemetry) fn in_current<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    work
}

/// The traces of one source, of which there are none in this build.
#[derive(Debug)]
pub struct SourceTraces;

impl SourceTraces {
    /// Nothing.
    pub(in crate::telemetry) fn new(_: Option<&str>) -> SourceTraces {
        SourceTraces
    }

    /// No trace.
    pub fn root(&self, _: &'static str) -> Span {
        Span
    }

    /// No trace.
    pub fn root_since(&self, _: &'static str, _: Instant) -> Span {
        Span
    }

    /// No trace.
    pub fn following(&self, _: &'static str, _: &Span) -> Span {
        Span
    }

    /// Does nothing.
    pub fn committed(&self, _: &Transaction) {}

    /// Does nothing.
    pub fn journaled(&self, _: Lsn) {}

    /// False.
    pub fn has(&self, _: Lsn) -> bool {
        false
    }

    /// Does nothing.
    pub fn routed(&self, _: Lsn, _: u64) {}

    /// Does nothing.
    pub fn sent(&self, _: Lsn, _: u64) {}

    /// Does nothing.
    pub fn tidy(&self) {}
}

/// Counts nothing.
#[derive(Debug, Default)]
pub struct Tally;

impl Tally {
    /// Does nothing.
    pub fn add(&mut self) {}

    /// 0.
    pub fn take(&mut self) -> u64 {
        0
    }
}

/// The sending of traces, which this build cannot do.
#[derive(Debug)]
pub struct Traces;

impl Traces {
    /// Makes sure that nobody expects traces.
    ///
    /// # Errors
    /// The environment names a collector.
    pub fn start(_: &Metrics) -> Result<Traces, TracesError> {
        let variable = |name: &str| std::env::var(name).ok();
        match wanted(&variable)? {
            Some(name) => Err(TracesError::NotBuilt(name)),
            None => Ok(Traces),
        }
    }

    /// Does nothing.
    pub async fn stop(self) {}
}

//! [`Span`]: a part of a trace.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use futures_util::future::Either;
use opentelemetry::trace::{FutureExt as _, Link, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::SdkTracer;

/// The maker of spans, once traces are sent.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Has spans be recorded from now on. Does nothing the second time.
pub(super) fn record_by(tracer: SdkTracer) {
    // One process has one collector.
    let _first = TRACER.set(tracer);
}

/// True if spans are recorded at all.
pub(super) fn is_on() -> bool {
    TRACER.get().is_some()
}

/// The time of the system's clock that an instant was at.
pub(super) fn time_of(instant: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(instant.elapsed()).unwrap_or(now)
}

/// A part of a trace, which ends when this is dropped. It is nothing if the trace is not sampled.
#[derive(Debug)]
pub struct Span(Option<Context>);

impl Span {
    /// Nothing that is recorded.
    pub fn none() -> Span {
        Span(None)
    }

    /// A part of whatever the current thread or task does ([`Span::enter`], [`Span::during`]); nothing if that is not
    /// recorded.
    pub fn here(name: &'static str) -> Span {
        if is_on() {
            Span::begin(name, &Context::current(), None)
        } else {
            Span(None)
        }
    }

    /// The first span of a trace, which began at `since`, or now.
    pub(super) fn root(name: &'static str, since: Option<SystemTime>) -> Span {
        Span::begun(name, &Context::new(), since, Vec::new())
    }

    /// The first span of a trace of its own that names another one as what led to it.
    pub(super) fn following(name: &'static str, other: &Span) -> Span {
        let link = |context: &Context| Link::with_context(context.span().span_context().clone());
        let links = other.0.iter().map(link).collect();
        Span::begun(name, &Context::new(), None, links)
    }

    /// A part of this one.
    pub fn part(&self, name: &'static str) -> Span {
        self.part_from(name, None)
    }

    /// A part of this one that began at `since`.
    pub fn part_since(&self, name: &'static str, since: Instant) -> Span {
        match self.0 {
            Some(_) => self.part_from(name, Some(time_of(since))),
            None => Span(None),
        }
    }

    pub(super) fn part_from(&self, name: &'static str, since: Option<SystemTime>) -> Span {
        match &self.0 {
            Some(context) => Span::begin(name, context, since),
            None => Span(None),
        }
    }

    fn begin(name: &'static str, parent: &Context, since: Option<SystemTime>) -> Span {
        if !parent.span().is_recording() {
            return Span(None);
        }
        Span::begun(name, parent, since, Vec::new())
    }

    fn begun(name: &'static str, parent: &Context, since: Option<SystemTime>, links: Vec<Link>) -> Span {
        use opentelemetry::trace::Span as _;
        let Some(tracer) = TRACER.get() else {
            return Span(None);
        };
        let mut builder = tracer.span_builder(name).with_links(links);
        builder.start_time = since;
        let span = builder.start_with_context(tracer, parent);
        let is_sampled = span.is_recording();
        Span(is_sampled.then(|| parent.with_span(span)))
    }

    /// True if it is sampled.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Notes an attribute: a number, or a word of ours.
    pub fn note<V: Into<Value>>(&self, key: &'static str, value: V) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(key, value));
        }
    }

    /// Notes a name or a position.
    pub fn say(&self, key: &'static str, value: &dyn Display) {
        if self.0.is_some() {
            self.note(key, value.to_string());
        }
    }

    /// Notes that it failed, by a word of ours: the words of an error are for the log, which leaves values out of them.
    pub fn failed(&self, kind: &'static str) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new("error.type", kind));
            context.span().set_status(Status::error(kind));
        }
    }

    /// Does work within it.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let _within = self.0.clone().map(Context::attach);
        work()
    }

    /// The same work, done within it.
    pub fn during<F: Future>(&self, work: F) -> impl Future<Output = F::Output> + use<F> {
        match self.0.clone() {
            Some(context) => Either::Left(work.with_context(context)),
            None => Either::Right(work),
        }
    }

    pub(super) fn end_at(self, time: SystemTime) {
        if let Some(context) = &self.0 {
            context.span().end_with_timestamp(time);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            // Work that is still done within it must not keep it open.
            context.span().end();
        }
    }
}

/// The same work within the current span, on whatever thread it is done.
pub(in crate::telemetry) fn in_current<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let current = is_on().then(Context::current);
    move || {
        let _within = current
            .filter(|context| context.has_active_span())
            .map(Context::attach);
        work()
    }
}

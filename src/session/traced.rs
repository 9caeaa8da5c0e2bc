//! [`Traced`]: a session and the starts of its subscriptions as spans. Nothing is kept of what is not sampled.
//!
//! A session may last for days, so the start of each subscription is a trace of its own, which names the session's.

use std::sync::Arc;

use futures_util::future::Either;

use super::end::End;
use crate::lsn::Start;
use crate::protocol::{Opening, Subscribe};
use crate::telemetry::traces::{SourceTraces, Span};

/// The spans of a session that have not ended.
#[derive(Debug)]
pub(super) struct Traced {
    session: Span,
    starting: Vec<Starting>,
}

/// A subscription on its way to be live.
#[derive(Debug)]
struct Starting {
    id: Arc<str>,
    span: Span,
    /// The part of it that is under way.
    step: Span,
}

impl Traced {
    pub(super) fn new(session: Span) -> Traced {
        Traced {
            session,
            starting: Vec::new(),
        }
    }

    /// Notes the end of the session.
    pub(super) fn ends(&self, end: &End) {
        match end {
            End::Lost => self.session.failed("lost"),
            End::Left(code) => self.session.note("walcast.close_code", i64::from(*code)),
            End::Close(code) => self.session.note("walcast.close_code", i64::from(code.code())),
            End::Expired => self.session.failed("token_expired"),
            End::GivesWay => self.session.failed("gives_way"),
        }
    }

    /// Begins the trace of a subscription, which waits for its turn at first.
    pub(super) fn subscribes(
        &mut self,
        traces: &SourceTraces,
        connection: u64,
        (id, subscribe): (&Arc<str>, &Subscribe),
    ) {
        let span = traces.following("subscribe", &self.session);
        if !span.is_recorded() {
            return;
        }
        span.note(
            "walcast.connection",
            i64::try_from(connection).unwrap_or(i64::MAX),
        );
        let opening = match subscribe.opening {
            Opening::Snapshot => "snapshot",
            Opening::Changes(Start::Now) => "now",
            Opening::Changes(Start::Earliest) => "earliest",
            Opening::Changes(Start::After(_)) => "from",
            Opening::Since(_) => "since",
        };
        span.note("walcast.opening", opening);
        self.starting.push(Starting {
            id: Arc::clone(id),
            step: span.part("subscribe wait"),
            span,
        });
    }

    fn of(&self, id: &str) -> Option<&Starting> {
        self.starting.iter().find(|starting| *starting.id == *id)
    }

    /// Begins the next step of a subscription.
    pub(super) fn step(&mut self, id: &str, name: &'static str) {
        if let Some(starting) = self.starting.iter_mut().find(|starting| *starting.id == *id) {
            // The last one ends first.
            starting.step = Span::none();
            starting.step = starting.span.part(name);
        }
    }

    /// The span of a subscription that is starting; nothing if there is none.
    pub(super) fn note(&self, id: &str, note: impl FnOnce(&Span)) {
        if let Some(starting) = self.of(id) {
            note(&starting.span);
        }
    }

    /// Does work within the step of a subscription.
    pub(super) fn enter<T>(&self, id: &str, work: impl FnOnce() -> T) -> T {
        match self.of(id) {
            Some(starting) => starting.step.enter(work),
            None => work(),
        }
    }

    /// The same work within the step of a subscription.
    pub(super) fn during<F: Future>(&self, id: &str, work: F) -> impl Future<Output = F::Output> + use<F> {
        match self.of(id) {
            Some(starting) => Either::Left(starting.step.during(work)),
            None => Either::Right(work),
        }
    }

    /// Ends the trace of a subscription that is live, or over because of a `failure`.
    pub(super) fn over(&mut self, id: &str, failure: Option<&'static str>) {
        if let Some(place) = self.starting.iter().position(|starting| *starting.id == *id) {
            let starting = self.starting.swap_remove(place);
            if let Some(failure) = failure {
                starting.span.failed(failure);
            }
        }
        if self.starting.is_empty() {
            // Free the space: of many connections, few have a subscription on its way.
            self.starting = Vec::new();
        }
    }
}

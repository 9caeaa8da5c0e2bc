//! [`in_this_span`]: work on another thread that is logged as a part of what it is done for.

use tracing::Span;

use super::traces;

/// The same work, logged within the span of whoever calls this, on whatever thread it is done: lines of the log then say
/// which source they are about. It is a part of the same trace.
pub fn in_this_span<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = Span::current();
    let work = traces::in_current(work);
    move || span.in_scope(work)
}

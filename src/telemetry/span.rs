//! [`in_this_span`]: work on another thread that is logged as a part of what it is done for.

use tracing::Span;

/// The same work, logged within the span of whoever calls this, on whatever thread it is done: lines of the log then say
/// which source they are about.
pub fn in_this_span<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let span = Span::current();
    move || span.in_scope(work)
}

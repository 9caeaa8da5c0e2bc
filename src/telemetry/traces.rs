//! Traces for OpenTelemetry: what is done for a source, a client or a transaction, as spans that are sent to a collector
//! by OTLP, with the standard variables `OTEL_*`.
//!
//! All of it is behind the cargo feature `otlp`. Without it a [`Span`] is nothing, and the calls that make one compile to
//! nothing. A span that is not sampled is nothing either, nor are its parts, so that these cost one comparison.
//!
//! An attribute is a name, a position, a number or a word of ours: never a value of a row, a text of a client or a token.

#[cfg(not(feature = "otlp"))]
mod absent;
mod environment;
#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod span;
#[cfg(feature = "otlp")]
mod ways;

#[cfg(not(feature = "otlp"))]
pub use absent::{SourceTraces, Span, Tally, Traces};
pub use environment::TracesError;
#[cfg(feature = "otlp")]
pub use export::Traces;
#[cfg(feature = "otlp")]
pub use span::Span;
#[cfg(feature = "otlp")]
pub use ways::{SourceTraces, Tally};

#[cfg(not(feature = "otlp"))]
pub(super) use absent::in_current;
#[cfg(feature = "otlp")]
pub(super) use span::in_current;

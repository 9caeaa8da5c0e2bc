//! Logs, [`Metrics`] and [`traces`].

mod excerpt;
mod failures;
mod metrics;
mod span;
pub mod traces;
mod words;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

pub use excerpt::{CLIENT_CHARS, Excerpt};
pub use failures::{Failures, Logged};
pub use metrics::{Metrics, TableCounters, UintGauge};
pub use span::in_this_span;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging to standard error, filtered by `filter` (`info`, `walcast=debug`, …).
///
/// # Errors
/// The filter does not parse.
pub fn start_logging(format: LogFormat, filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => subscriber.with_target(false).fmt_fields(words::Words).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// An error with its causes, in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

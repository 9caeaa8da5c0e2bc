//! [`Words`]: the fields of a line of the log that people read.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// The fields as they are by default, without `event`: the sentence says the same, and programs read JSON.
#[derive(Debug)]
pub(super) struct Words;

impl<'a> FormatFields<'a> for Words {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut visitor = WithoutEvent(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct WithoutEvent<'a>(DefaultVisitor<'a>);

impl Visit for WithoutEvent<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.record_debug(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != "event" {
            self.0.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.record_error(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_name_of_an_event_is_left_out_of_lines_for_people() {
        let lines = Lines::default();
        let to = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(Words)
            .without_time()
            .with_ansi(false)
            .with_target(false)
            .with_writer(move || to.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let _source = tracing::info_span!("serving", source = "orders").entered();
            let error = io::Error::other("no");
            tracing::warn!(
                event = "slot_lost", slot = %"s", plugin = "p", %error,
                "the slot \u{1b}[31m is lost"
            );
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(
            text,
            " WARN serving{source=\"orders\"}: the slot \\x1b[31m is lost slot=s plugin=\"p\" error=no\n"
        );
    }
}

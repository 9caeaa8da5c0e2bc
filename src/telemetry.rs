//! Logs and [`Metrics`]: everything that is counted, registered once, named after Prometheus' conventions.
//!
//! Labels are closed sets: error codes, operations and published tables; never a client's words, a value or a token.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Arc;

use prometheus::core::{AtomicU64, GenericGauge};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};
use tracing_subscriber::EnvFilter;

use crate::event::TableName;
use crate::matching::Undecided;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
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
        LogFormat::Text => subscriber.with_target(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

/// A position or a number of bytes: any number of 64 bits without a sign.
pub type UintGauge = GenericGauge<AtomicU64>;

/// Everything that walcast counts and measures.
///
/// Cheap to update from any thread. Hot loops keep the counter of a label set (see [`Metrics::table`]) instead of
/// looking it up per change.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Newest position received from Postgres.
    pub received_lsn: UintGauge,
    /// The journal's head: newest whole transaction written.
    pub journaled_lsn: UintGauge,
    /// Position that Postgres was told is safe here.
    pub confirmed_lsn: UintGauge,
    /// Bytes of WAL between the server's end and the slot's confirmed position.
    pub slot_lag_bytes: UintGauge,
    /// Bytes of WAL that the server keeps for the slot.
    pub slot_retained_bytes: UintGauge,
    /// Bytes of WAL that may still be written before the server may give the slot up; -1 without such a bound.
    pub slot_safe_bytes: IntGauge,
    /// The WAL that the server keeps for the slot, as a share of the least bound on it.
    pub slot_budget_used: Gauge,
    /// 1 while the slot is lost or gone.
    pub slot_lost: IntGauge,
    /// Slots dropped because the server kept too much for them.
    pub slots_given_up: IntCounter,
    /// Age of the oldest transaction that has written and is open or prepared, in seconds.
    pub oldest_transaction_seconds: IntGauge,
    /// 1 while another walcast reads the slot.
    pub standby: IntGauge,
    /// The number of others that wait to take the slot over.
    pub standbys: IntGauge,
    /// 1 while the server fails at the same change again and again.
    pub replication_stuck: IntGauge,
    /// Publications that are not there.
    pub publications_missing: IntGauge,
    /// 1 while the replication stream is up.
    pub replication_up: IntGauge,
    /// Times the replication connection was made.
    pub replication_connects: IntCounter,
    /// Bytes of replication messages received.
    pub replication_received_bytes: IntCounter,
    /// Transactions received and journaled.
    pub transactions: IntCounter,
    /// Transactions received again and dropped, because the journal had them.
    pub transactions_deduplicated: IntCounter,
    /// Of the transactions journaled, those of which parts came while they still ran.
    pub transactions_streamed: IntCounter,
    /// Transactions that still run, of which parts have come.
    pub spooled_transactions: IntGauge,
    /// Bytes that have come of them.
    pub spooled_bytes: UintGauge,
    /// Times that there was no room for them.
    pub spool_overflows: IntCounter,
    /// 1 if commits wait for what is confirmed here.
    pub synchronous: IntGauge,
    /// Questions to the catalogs that the stream waited for.
    pub catalog_questions: IntCounter,
    /// Streamed transactions that were read again, whole.
    pub transactions_reread: IntCounter,
    changes: IntCounterVec,
    /// Changes whose rows were too large to be kept whole.
    pub oversize_changes: IntCounter,
    /// Histories begun because continuity with the one before was lost.
    pub epoch_changes: IntCounter,
    /// Size of the journal's files.
    pub journal_bytes: UintGauge,
    /// Time of one fsync of the journal.
    pub journal_fsync_seconds: Histogram,
    /// From the commit (server's clock) to handing the frame to the client's socket (our clock).
    pub commit_to_send_seconds: Histogram,
    /// Open websocket connections.
    pub connections: IntGauge,
    /// Websocket connections accepted.
    pub connections_opened: IntCounter,
    closed: IntCounterVec,
    refused: IntCounterVec,
    /// Subscriptions in force.
    pub subscriptions: IntGauge,
    /// Distinct queries among them.
    pub queries: IntGauge,
    match_work: IntCounterVec,
    /// Times that a query was put apart from others, because a row took it too long.
    pub put_apart: IntCounter,
    /// Connections and subscriptions that read from the journal now.
    pub catching_up: IntGauge,
    /// Connections whose clients take nothing of what they were sent.
    pub stalled: IntGauge,
    /// Snapshots read.
    pub snapshots: IntCounter,
    /// Snapshots that were had from a reading that others had asked for.
    pub snapshots_shared: IntCounter,
    /// Snapshots that are being read.
    pub snapshots_reading: IntGauge,
    /// Snapshots that wait for a connection.
    pub snapshots_waiting: IntGauge,
    /// Rows read for snapshots.
    pub snapshot_rows: IntCounter,
    /// Bytes of snapshots' rows that clients have not taken yet.
    pub snapshot_bytes: UintGauge,
    /// Times a connection fell behind its outbox.
    pub fell_behind: IntCounter,
    /// Bytes of messages sent to clients.
    pub sent_bytes: IntCounter,
    /// Messages sent to clients.
    pub sent_messages: IntCounter,
    undecided_deletes: IntCounterVec,
    undecided_changes: IntCounterVec,
    errors: IntCounterVec,
}

/// The counters of one table's changes, by operation.
#[derive(Clone, Debug)]
pub struct TableCounters {
    /// Inserted rows.
    pub insert: IntCounter,
    /// Updated rows.
    pub update: IntCounter,
    /// Deleted rows.
    pub delete: IntCounter,
    /// Truncates.
    pub truncate: IntCounter,
}

impl Metrics {
    /// All metrics at zero, in a registry of their own.
    pub fn new() -> Arc<Metrics> {
        let r = Registry::new_custom(Some("walcast".into()), None).expect("the prefix is a valid name");
        let seconds = |name, help, buckets: &[f64]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(&r, Histogram::with_opts(opts))
        };
        const FSYNC: &[f64] = &[0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
        const SEND: &[f64] = &[
            0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
        ];
        Arc::new(Metrics {
            received_lsn: unsigned(&r, "received_lsn", "Newest position received from Postgres"),
            journaled_lsn: unsigned(&r, "journaled_lsn", "The journal's head"),
            confirmed_lsn: unsigned(&r, "confirmed_lsn", "Position confirmed to Postgres"),
            slot_lag_bytes: unsigned(
                &r,
                "slot_lag_bytes",
                "WAL written by the server but not confirmed on the slot",
            ),
            slot_retained_bytes: unsigned(
                &r,
                "slot_retained_wal_bytes",
                "WAL that the server keeps for the slot",
            ),
            slot_safe_bytes: gauge(
                &r,
                "slot_safe_wal_bytes",
                "WAL that may be written before the slot may be lost; -1 without such a bound",
            ),
            slot_budget_used: register(
                &r,
                Gauge::new(
                    "slot_budget_used_ratio",
                    "WAL that the server keeps for the slot, as a share of --max-slot-lag or max_slot_wal_keep_size",
                ),
            ),
            slot_lost: gauge(&r, "slot_lost", "1 while the slot is lost or gone"),
            slots_given_up: counter(
                &r,
                "slots_given_up_total",
                "Slots dropped because of --max-slot-lag",
            ),
            oldest_transaction_seconds: gauge(
                &r,
                "oldest_transaction_age_seconds",
                "Age of the server's oldest open or prepared transaction that has written",
            ),
            standby: gauge(&r, "standby", "1 while another walcast reads the slot"),
            standbys: gauge(&r, "standbys", "Others that wait to take the slot over"),
            replication_stuck: gauge(
                &r,
                "replication_stuck",
                "1 while the server fails at the same change again and again",
            ),
            publications_missing: gauge(&r, "publications_missing", "Publications that are not there"),
            replication_up: gauge(&r, "replication_up", "1 while the replication stream is up"),
            replication_connects: counter(&r, "replication_connects_total", "Replication connections made"),
            replication_received_bytes: counter(
                &r,
                "replication_received_bytes_total",
                "Bytes of replication messages received",
            ),
            transactions: counter(&r, "transactions_total", "Transactions journaled"),
            transactions_deduplicated: counter(
                &r,
                "transactions_deduplicated_total",
                "Transactions received again and dropped",
            ),
            transactions_streamed: counter(
                &r,
                "transactions_streamed_total",
                "Transactions journaled of which parts came while they still ran",
            ),
            spooled_transactions: gauge(
                &r,
                "spooled_transactions",
                "Transactions that still run, of which parts have come",
            ),
            spooled_bytes: unsigned(&r, "spooled_bytes", "Bytes kept of transactions that still run"),
            spool_overflows: counter(
                &r,
                "spool_overflows_total",
                "Times that there was no room for transactions that still run",
            ),
            synchronous: gauge(
                &r,
                "synchronous",
                "1 if the server's synchronous_standby_names names walcast: commits wait for it",
            ),
            catalog_questions: counter(
                &r,
                "catalog_questions_total",
                "Questions to the catalogs that the stream waited for",
            ),
            transactions_reread: counter(
                &r,
                "transactions_reread_total",
                "Large transactions that were read again after their commit, to tell which messages were rolled back",
            ),
            changes: counters(
                &r,
                "changes_total",
                "Row changes journaled",
                &["schema", "table", "op"],
            ),
            oversize_changes: counter(
                &r,
                "oversize_changes_total",
                "Changes whose rows were larger than --max-row-bytes",
            ),
            epoch_changes: counter(
                &r,
                "epoch_changes_total",
                "Histories begun because continuity was lost",
            ),
            journal_bytes: unsigned(&r, "journal_size_bytes", "Size of the journal's files"),
            journal_fsync_seconds: seconds("journal_fsync_duration_seconds", "Time of one fsync", FSYNC),
            commit_to_send_seconds: seconds(
                "commit_to_send_duration_seconds",
                "From the commit, by the server's clock, to the client's socket, by ours",
                SEND,
            ),
            connections: gauge(&r, "connections", "Open websocket connections"),
            connections_opened: counter(&r, "connections_opened_total", "Websocket connections accepted"),
            closed: counters(
                &r,
                "connections_closed_total",
                "Websocket connections ended, by close code",
                &["code"],
            ),
            refused: counters(
                &r,
                "connections_refused_total",
                "Connections that got no websocket, by reason",
                &["reason"],
            ),
            subscriptions: gauge(&r, "subscriptions", "Subscriptions in force"),
            queries: gauge(&r, "queries", "Distinct queries among the subscriptions"),
            match_work: counters(
                &r,
                "match_work_total",
                "Work done to find the queries that changes concern, in about nanoseconds",
                &["schema", "table"],
            ),
            put_apart: counter(
                &r,
                "queries_put_apart_total",
                "Times that a query was put apart from others, because a row took it too long",
            ),
            catching_up: gauge(
                &r,
                "catching_up",
                "Connections and subscriptions that read from the journal",
            ),
            stalled: gauge(
                &r,
                "stalled",
                "Connections whose clients take nothing of what they were sent",
            ),
            snapshots: counter(&r, "snapshots_total", "Snapshots read from the database"),
            snapshots_shared: counter(
                &r,
                "snapshots_shared_total",
                "Snapshots had from a reading that another subscription had asked for",
            ),
            snapshots_reading: gauge(&r, "snapshots_reading", "Snapshots that are being read"),
            snapshots_waiting: gauge(&r, "snapshots_waiting", "Snapshots that wait for a connection"),
            snapshot_rows: counter(&r, "snapshot_rows_total", "Rows read for snapshots"),
            snapshot_bytes: unsigned(
                &r,
                "snapshot_bytes",
                "Bytes of snapshots that clients have not taken yet, on disk",
            ),
            fell_behind: counter(
                &r,
                "fell_behind_total",
                "Times a connection fell behind its send buffer",
            ),
            sent_bytes: counter(&r, "sent_bytes_total", "Bytes of messages sent to clients"),
            sent_messages: counter(&r, "sent_messages_total", "Messages sent to clients"),
            undecided_deletes: counters(
                &r,
                "undecided_deletes_total",
                "Deletes sent of rows that may have left a result by an update",
                &["schema", "table"],
            ),
            undecided_changes: counters(
                &r,
                "undecided_changes_total",
                "Changes sent of rows that may be in a result",
                &["schema", "table"],
            ),
            errors: counters(&r, "errors_total", "Errors sent to clients, by code", &["code"]),
            registry: r,
        })
    }

    /// The counters of a published table.
    pub fn table(&self, schema: &str, table: &str) -> TableCounters {
        let of = |op| self.changes.with_label_values(&[schema, table, op]);
        TableCounters {
            insert: of("insert"),
            update: of("update"),
            delete: of("delete"),
            truncate: of("truncate"),
        }
    }

    /// Counts what subscriptions to tables were told although the log does not decide it.
    pub fn undecided(&self, told: impl Iterator<Item = (TableName, Undecided)>) {
        for (TableName { schema, name }, Undecided { deletes, changes }) in told {
            for (counter, told) in [
                (&self.undecided_deletes, deletes),
                (&self.undecided_changes, changes),
            ] {
                if told > 0 {
                    counter.with_label_values(&[&schema, &name]).inc_by(told);
                }
            }
        }
    }

    /// Counts the work that a table's changes took.
    pub fn match_work(&self, schema: &str, table: &str, units: u64) {
        self.match_work.with_label_values(&[schema, table]).inc_by(units);
    }

    /// Counts an error told to a client.
    pub fn error(&self, code: &str) {
        self.errors.with_label_values(&[code]).inc();
    }

    /// Shows an error code's counter from the start, at zero: a rate needs the value before the first one.
    pub fn know_error(&self, code: &str) {
        drop(self.errors.with_label_values(&[code]));
    }

    /// Counts the end of a connection: the close code, ours or the client's, or `lost` where the client just went away.
    pub fn closed(&self, code: &str) {
        self.closed.with_label_values(&[code]).inc();
    }

    /// Counts a connection that got no websocket: `limit`, `origin` or `unready`.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// All of it in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::error!(%error, "metrics could not be encoded");
        }
        String::from_utf8_lossy(&out).into_owned()
    }
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

fn register<T: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<T>,
) -> T {
    let metric = metric.expect("names and labels are literals of this file");
    registry
        .register(Box::new(metric.clone()))
        .expect("each name is registered once");
    metric
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn unsigned(registry: &Registry, name: &str, help: &str) -> UintGauge {
    register(registry, UintGauge::new(name, help))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(
        registry,
        IntCounterVec::new(Opts::new(name, help).const_labels(HashMap::new()), labels),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_render_with_prefix_labels_and_help() {
        let metrics = Metrics::new();
        metrics.table("public", "orders").insert.inc_by(3);
        metrics.error("bad_request");
        metrics.closed("1001");
        let text = metrics.render();
        assert!(
            text.contains(r#"walcast_changes_total{op="insert",schema="public",table="orders"} 3"#),
            "{text}"
        );
        assert!(
            text.contains(r#"walcast_errors_total{code="bad_request"} 1"#),
            "{text}"
        );
        assert!(text.contains("# HELP walcast_slot_lag_bytes "), "{text}");
    }

    #[test]
    fn a_position_beyond_half_of_all_is_shown_as_one() {
        let metrics = Metrics::new();
        metrics.received_lsn.set(0xF000_0000_0000_0000);
        let text = metrics.render();
        assert!(
            text.contains("\nwalcast_received_lsn 17293822569102705000\n"),
            "{text}"
        );
    }
}

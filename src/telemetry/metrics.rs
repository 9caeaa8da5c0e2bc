//! [`Metrics`]: everything that is counted and measured, registered once, named after Prometheus' conventions.
//!
//! Labels are closed sets: error codes, operations, published tables and configured sources; never a client's words, a
//! value or a token.

use std::collections::HashMap;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus::core::{AtomicU64, Collector, GenericGauge};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::traces::SourceTraces;
use crate::event::TableName;
use crate::limit::Limit;
use crate::matching::Undecided;

/// A position or a number of bytes: any number of 64 bits without a sign.
pub type UintGauge = GenericGauge<AtomicU64>;

/// The upper bounds of the buckets of [`Metrics::journal_fsync_seconds`].
const FSYNC_SECONDS: [f64; 10] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
/// The upper bounds of the buckets of [`Metrics::commit_to_send_seconds`].
const SEND_SECONDS: [f64; 13] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
];
/// The label of a source's name.
const SOURCE: &str = "source";
const BY_TABLE: [&str; 2] = ["schema", "table"];
const BY_TABLE_AND_OPERATION: [&str; 3] = ["schema", "table", "op"];

/// The part of the program that a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// The program as a whole.
    Program,
    /// One source: a database, and everything that is done with it.
    Source,
    /// Both, each with values of its own: those of the program have no label of a source.
    Both,
}

/// Declares [`Metrics`] and how they are made from one table. A line is a field, its kind, its name without the prefix
/// `walcast_`, its labels or buckets if it has some, and its help, which is also the field's documentation and how its
/// line in docs/operations.md begins. Lines stand under their [`Scope`].
macro_rules! metrics {
    ($($scope:ident { $($visibility:vis $field:ident: $kind:ident($name:literal $(, $extra:expr)?) = $help:literal;)+ })+) => {
        /// Everything that walcast counts and measures.
        ///
        /// Cheap to update from any thread. Hot loops keep the counter of a label set (see [`Metrics::table`]) instead
        /// of looking it up per change.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            /// The traces of the same source.
            pub traces: SourceTraces,
            /// The counters of each table, for those who add them up.
            tables: Mutex<HashMap<TableName, TableCounters>>,
            $($(#[doc = concat!($help, ".")] $visibility $field: $kind,)+)+
        }

        impl Metrics {
            /// Metrics at zero, of which those are shown that `shows` is true for, with these labels.
            fn with(shows: impl Fn(Scope) -> bool, labels: Option<HashMap<String, String>>) -> Arc<Metrics> {
                let traces = SourceTraces::new(labels.as_ref().and_then(|labels| Some(&**labels.get(SOURCE)?)));
                let registry = Registry::new_custom(Some("walcast".into()), labels);
                let registry = registry.expect("the prefix is a valid name");
                let metrics = Metrics {
                    $($($field: made(
                        &registry,
                        metrics!(@new $kind $name, $help $(, $extra)?),
                        shows(Scope::$scope),
                    ),)+)+
                    registry,
                    traces,
                    tables: Mutex::default(),
                };
                metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
                metrics.start_seconds.set(seconds_since_1970(SystemTime::now()));
                // At zero from the start: a rate needs the value before the first one.
                for limit in Limit::ALL {
                    drop(metrics.limits_reached.with_label_values(&[limit.as_str()]));
                }
                Arc::new(metrics)
            }

            /// Each metric's name, kind and help.
            #[cfg(test)]
            pub(crate) const DESCRIBED: &[[&str; 3]] =
                &[$($([concat!("walcast_", $name), stringify!($kind), $help]),+),+];
        }
    };
    (@new Histogram $name:literal, $help:literal, $buckets:expr) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
    };
    (@new IntCounterVec $name:literal, $help:literal, $labels:expr) => {
        IntCounterVec::new(Opts::new($name, $help), &$labels)
    };
    (@new IntGaugeVec $name:literal, $help:literal, $labels:expr) => {
        IntGaugeVec::new(Opts::new($name, $help), &$labels)
    };
    (@new $kind:ident $name:literal, $help:literal) => {
        $kind::new($name, $help)
    };
}

metrics! {
    Program {
        build: IntGaugeVec("build_info", ["version"]) = "Always 1, with the version of the program";
        pub start_seconds: IntGauge("start_time_seconds") = "Time at which the program started, in seconds since 1970";
        admin_refused: IntCounterVec("admin_requests_refused_total", ["reason"]) =
            "Requests to the admin listener refused, by reason";
        tokens_refused: IntCounterVec("tokens_refused_total", ["reason"]) = "Tokens that were not accepted, by reason";
        jwks_keys: IntGauge("jwks_keys") = "Keys for tokens of the set that was fetched last";
        jwks_fetches: IntCounter("jwks_fetches_total") = "Times that the set of keys for tokens was fetched";
        jwks_failures: IntCounterVec("jwks_failures_total", ["reason"]) =
            "Times that the set of keys for tokens was not fetched, by reason";
        pub connections_limit: IntGauge("connections_limit") =
            "Most open connections: --max-connections, or fewer if the limit on open files is too low for them";
        pub handshakes: IntGauge("handshakes") =
            "Connections that are in their handshake, or being answered in HTTP, on either listener";
        pub tls_certificate_end: IntGauge("tls_certificate_expiration_timestamp_seconds") =
            "Time at which the first certificate of --tls-cert expires, in seconds since 1970; 0 without TLS";
        pub tls_reloads: IntCounter("tls_reloads_total") =
            "Times that the files of --tls-cert and --tls-key were read again and used";
        pub tls_reload_failures: IntCounter("tls_reload_failures_total") =
            "Times that the files of --tls-cert and --tls-key were read again and could not be used";
        pub trace_spans_sent: IntCounter("trace_spans_sent_total") = "Spans of traces that a collector took";
        spans_dropped: IntCounterVec("trace_spans_dropped_total", ["reason"]) = "Spans of traces that were dropped, by reason";
    }

    Source {
        pub source_failures: IntCounter("source_failures_total") =
            "Times that one of several sources failed and was opened again; the failure of a single one ends the program";

        // The slot and the replication stream.
        pub received_lsn: UintGauge("received_lsn") = "Newest position received from Postgres";
        pub journaled_lsn: UintGauge("journaled_lsn") = "End of the last transaction in the journal";
        pub confirmed_lsn: UintGauge("confirmed_lsn") = "Position confirmed to Postgres";
        pub slot_lag_bytes: UintGauge("slot_lag_bytes") =
            "WAL between the slot's confirmed position and the server's end of WAL, in bytes";
        pub slot_retained_bytes: UintGauge("slot_retained_wal_bytes") = "WAL that the server retains for the slot, in bytes";
        pub slot_safe_bytes: IntGauge("slot_safe_wal_bytes") =
            "WAL that can be written before the server may invalidate the slot, in bytes; -1 without a limit";
        pub slot_budget_used: Gauge("slot_budget_used_ratio") =
            "WAL retained for the slot as a fraction of --max-slot-lag or max_slot_wal_keep_size, whichever is nearer; \
             0 without either";
        pub slot_lost: IntGauge("slot_lost") = "1 while the slot is invalidated or missing";
        pub slots_given_up: IntCounter("slots_given_up_total") = "Slots dropped because they exceeded --max-slot-lag";
        pub oldest_transaction_seconds: IntGauge("oldest_transaction_age_seconds") =
            "Age of the oldest open or prepared transaction on the server that has written";
        pub standby: IntGauge("standby") = "1 while this instance is a standby: another walcast reads the slot";
        pub standbys: IntGauge("standbys") = "Standby instances that wait for the slot";
        pub replication_stuck: IntGauge("replication_stuck") = "1 while the server repeatedly fails to decode the same change";
        pub publications_missing: IntGauge("publications_missing") = "Configured publications that do not exist";
        pub replication_up: IntGauge("replication_up") = "1 while the replication stream is connected";
        pub replication_connects: IntCounter("replication_connects_total") = "Replication connections established";
        pub replication_received_bytes: IntCounter("replication_received_bytes_total") =
            "Bytes received on the replication stream";
        pub synchronous: IntGauge("synchronous") =
            "1 if synchronous_standby_names includes walcast, so that commits wait for it";
        pub catalog_questions: IntCounter("catalog_questions_total") = "Catalog queries that the replication stream waited for";

        // Transactions and the journal.
        pub transactions: IntCounter("transactions_total") = "Transactions journaled";
        pub transactions_deduplicated: IntCounter("transactions_deduplicated_total") =
            "Transactions received again and discarded";
        pub transactions_streamed: IntCounter("transactions_streamed_total") =
            "Transactions journaled that were partly received before their commit";
        pub transactions_reread: IntCounter("transactions_reread_total") =
            "Streamed transactions read a second time after their commit, to tell which messages were rolled back";
        pub spooled_transactions: IntGauge("spooled_transactions") = "Transactions in progress that are partly received";
        pub spooled_bytes: UintGauge("spooled_bytes") = "Disk space used by transactions in progress, in bytes";
        pub spool_overflows: IntCounter("spool_overflows_total") =
            "Times that transactions in progress did not fit on disk or exceeded --max-spool-bytes";
        changes: IntCounterVec("changes_total", BY_TABLE_AND_OPERATION) = "Row changes journaled, by table and operation";
        pub oversize_changes: IntCounter("oversize_changes_total") = "Changes with a row larger than --max-row-bytes";
        pub epoch_changes: IntCounter("epoch_changes_total") = "New epochs begun because the history was not continuous";
        pub journal_bytes: UintGauge("journal_size_bytes") = "Size of the journal on disk";
        pub journal_earliest_lsn: UintGauge("journal_earliest_lsn") = "Oldest position that clients can resume from";
        pub journal_retention_used: Gauge("journal_retention_used_ratio") =
            "Size or age of the journal as a fraction of --retention-bytes or --retention-age, whichever is nearer";
        pub replay_oldest_lsn: UintGauge("replay_oldest_lsn") =
            "Oldest position that the journal was replayed from in the last five seconds; its end if none was";
        pub disk_available_bytes: UintGauge("disk_available_bytes") = "Disk space left for --data-dir, in bytes";
        pub disk_size_bytes: UintGauge("disk_size_bytes") = "Size of the file system of --data-dir, in bytes";
        pub journal_fsync_seconds: Histogram("journal_fsync_duration_seconds", FSYNC_SECONDS) =
            "Duration of one fsync of the journal";

        // Clients and their subscriptions.
        pub commit_to_send_seconds: Histogram("commit_to_send_duration_seconds", SEND_SECONDS) =
            "Time from the commit (the server's clock) until the change is written to the client's socket (walcast's clock), \
             on connections that are not replaying the journal";
        pub connections: IntGauge("connections") = "Open websocket connections";
        pub connections_opened: IntCounter("connections_opened_total") = "Websocket connections accepted";
        closed: IntCounterVec("connections_closed_total", ["code"]) = "Websocket connections ended, by close code";
        pub subscriptions: IntGauge("subscriptions") = "Active subscriptions";
        pub queries: IntGauge("queries") = "Distinct queries among the active subscriptions";
        match_work: IntCounterVec("match_work_total", BY_TABLE) =
            "Work spent on finding the queries that match changes, by table, in units of about a nanosecond";
        pub put_apart: IntCounter("queries_put_apart_total") =
            "Times that a query was separated from the others because matching a row took it too long";
        pub catching_up: IntGauge("catching_up") = "Connections and subscriptions that are replaying the journal";
        pub stalled: IntGauge("stalled") = "Connections whose clients read nothing of what was sent to them";
        pub fell_behind: IntCounter("fell_behind_total") = "Times that a connection exceeded --send-buffer-bytes";
        pub sent_bytes: IntCounter("sent_bytes_total") = "Bytes of messages sent to clients";
        pub sent_messages: IntCounter("sent_messages_total") = "Messages sent to clients";
        undecided_deletes: IntCounterVec("undecided_deletes_total", BY_TABLE) =
            "Deletes sent for rows that an update may have removed from a result, by table, once per subscription";
        undecided_changes: IntCounterVec("undecided_changes_total", BY_TABLE) =
            "Changes sent for rows that may be in a result, by table, once per subscription";
        errors: IntCounterVec("errors_total", ["code"]) = "Errors sent to clients, by code";

        // Snapshots.
        pub snapshots: IntCounter("snapshots_total") = "Snapshots read from the database";
        pub snapshots_shared: IntCounter("snapshots_shared_total") =
            "Snapshots served from a read that another subscription had requested";
        pub snapshots_reading: IntGauge("snapshots_reading") = "Snapshots being read";
        pub snapshots_waiting: IntGauge("snapshots_waiting") = "Snapshots waiting for a connection";
        pub snapshot_rows: IntCounter("snapshot_rows_total") = "Rows read for snapshots";
        pub snapshot_bytes: UintGauge("snapshot_bytes") =
            "Disk space used by snapshots that clients have not yet received, in bytes";
    }

    Both {
        refused: IntCounterVec("connections_refused_total", ["reason"]) =
            "Connections refused before the websocket upgrade, by reason";
        limits_reached: IntCounterVec("limits_reached_total", ["limit"]) = "Times that a client met a limit, by limit";
    }
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

impl TableCounters {
    fn total(&self) -> u64 {
        self.insert.get() + self.update.get() + self.delete.get() + self.truncate.get()
    }
}

impl Metrics {
    /// The metrics of a program with one source without a name.
    pub fn new() -> Arc<Metrics> {
        Metrics::with(|_| true, None)
    }

    /// Those of a program whose sources have metrics of their own.
    pub fn of_program() -> Arc<Metrics> {
        Metrics::with(|scope| scope != Scope::Source, None)
    }

    /// Those of one of several sources, with its name as the label `source`.
    pub fn of_source(name: &str) -> Arc<Metrics> {
        let label = HashMap::from([(SOURCE.to_owned(), name.to_owned())]);
        Metrics::with(|scope| scope != Scope::Program, Some(label))
    }

    /// Forgets what was known of a slot and a stream that nobody looks at any more.
    pub fn source_closed(&self, is_slot_gone: bool) {
        for gauge in [
            &self.replication_up,
            &self.standby,
            &self.standbys,
            &self.replication_stuck,
            &self.publications_missing,
            &self.synchronous,
            &self.oldest_transaction_seconds,
            &self.slot_safe_bytes,
        ] {
            gauge.set(0);
        }
        self.slot_lag_bytes.set(0);
        self.slot_retained_bytes.set(0);
        self.slot_budget_used.set(0.0);
        self.slot_lost.set(i64::from(is_slot_gone));
    }

    /// The counters of a published table.
    pub fn table(&self, schema: &str, table: &str) -> TableCounters {
        let of = |op| self.changes.with_label_values(&[schema, table, op]);
        let counters = TableCounters {
            insert: of("insert"),
            update: of("update"),
            delete: of("delete"),
            truncate: of("truncate"),
        };
        let name = TableName::new(schema, table);
        self.tables.lock().insert(name, counters.clone());
        counters
    }

    /// The number of changes of each table that had some.
    pub fn changes_by_table(&self) -> HashMap<TableName, u64> {
        let tables = self.tables.lock();
        let counted = tables.iter();
        counted
            .map(|(name, counters)| (name.clone(), counters.total()))
            .collect()
    }

    /// The number of changes of all tables.
    pub fn changes(&self) -> u64 {
        self.tables.lock().values().map(TableCounters::total).sum()
    }

    /// The observations of [`Metrics::commit_to_send_seconds`] so far: the upper bound of each bucket, and how many were at
    /// most as long; last the number of all, without a bound.
    pub fn commit_to_send_buckets(&self) -> Vec<(f64, u64)> {
        let families = self.commit_to_send_seconds.collect();
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        let mut buckets = Vec::new();
        for metric in metrics {
            let histogram = metric.get_histogram();
            let bounded = histogram.get_bucket().iter();
            buckets.extend(bounded.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())));
            buckets.push((f64::INFINITY, histogram.get_sample_count()));
        }
        buckets
    }

    /// Counts messages sent to subscriptions although the log does not decide whether their rows match.
    pub fn undecided(&self, sent: impl Iterator<Item = (TableName, Undecided)>) {
        let add = |counter: &IntCounterVec, table: &TableName, count| {
            if count > 0 {
                let labels: [&str; 2] = [&table.schema, &table.name];
                counter.with_label_values(&labels).inc_by(count);
            }
        };
        for (table, Undecided { deletes, changes }) in sent {
            add(&self.undecided_deletes, &table, deletes);
            add(&self.undecided_changes, &table, changes);
        }
    }

    /// Counts the work that a table's changes took.
    pub fn match_work(&self, schema: &str, table: &str, units: u64) {
        self.match_work.with_label_values(&[schema, table]).inc_by(units);
    }

    /// Counts an error sent to a client.
    pub fn error(&self, code: &str) {
        self.errors.with_label_values(&[code]).inc();
    }

    /// Shows an error code's counter from the start, at zero: a rate needs the value before the first one.
    pub fn know_error(&self, code: &str) {
        drop(self.errors.with_label_values(&[code]));
    }

    /// The counter of spans that were dropped for a reason that docs/operations.md lists.
    pub fn spans_dropped(&self, reason: &str) -> IntCounter {
        self.spans_dropped.with_label_values(&[reason])
    }

    /// Counts the end of a connection: the close code, ours or the client's, or `lost` where the client just went away.
    pub fn closed(&self, code: &str) {
        self.closed.with_label_values(&[code]).inc();
    }

    /// Counts a connection that got no websocket, for a reason that docs/operations.md lists.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
        match reason {
            "limit" => self.limit(Limit::Connections),
            "handshakes" => self.limit(Limit::Handshakes),
            "address" => self.limit(Limit::AddressConnections),
            "address_connection_rate" => self.limit(Limit::AddressConnectionRate),
            "subject" => self.limit(Limit::SubjectConnections),
            "unauthenticated" => self.limit(Limit::UnauthenticatedConnections),
            "timeout" => self.limit(Limit::HandshakeTimeout),
            _ => {}
        }
    }

    /// Counts that a client met a limit.
    pub fn limit(&self, limit: Limit) {
        self.limit_of_name(limit.as_str());
    }

    /// Counts that a client met the limit of this name.
    pub fn limit_of_name(&self, limit: &'static str) {
        debug_assert!(Limit::ALL.iter().any(|known| known.as_str() == limit), "{limit}");
        self.limits_reached.with_label_values(&[limit]).inc();
    }

    /// Counts a request to the admin listener that was refused: `host`, `origin` or `token`.
    pub fn admin_refused(&self, reason: &str) {
        self.admin_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a token that was not accepted.
    pub fn token_refused(&self, reason: &str) {
        self.tokens_refused.with_label_values(&[reason]).inc();
    }

    /// Counts a fetch of keys for tokens, so many of which can be used.
    pub fn jwks_fetched(&self, keys: usize) {
        self.jwks_fetches.inc();
        self.jwks_keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }

    /// Counts a fetch of keys for tokens that failed.
    pub fn jwks_fetch_failed(&self, reason: &str) {
        self.jwks_failures.with_label_values(&[reason]).inc();
    }

    /// All of it in Prometheus' text format, with what these sources count.
    pub fn render<'a>(&self, sources: impl IntoIterator<Item = &'a Metrics>) -> String {
        let families = sources.into_iter().map(|source| &source.registry);
        let mut by_name: BTreeMap<String, MetricFamily> = BTreeMap::new();
        for mut family in [&self.registry]
            .into_iter()
            .chain(families)
            .flat_map(Registry::gather)
        {
            match by_name.entry(family.name().to_owned()) {
                Entry::Vacant(entry) => {
                    entry.insert(family);
                }
                Entry::Occupied(mut entry) => {
                    let mut of_all = entry.get_mut().take_metric();
                    of_all.extend(family.take_metric());
                    entry.get_mut().set_metric(of_all);
                }
            }
        }
        let families: Vec<MetricFamily> = by_name.into_values().collect();
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&families, &mut out) {
            tracing::error!(event = "metrics_encoding_failed", %error, "metrics could not be encoded");
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

fn seconds_since_1970(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn made<T: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<T>,
    is_shown: bool,
) -> T {
    let metric = metric.expect("names and labels are literals of this file");
    if is_shown {
        registry
            .register(Box::new(metric.clone()))
            .expect("each name is registered once");
    }
    metric
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

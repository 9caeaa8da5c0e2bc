//! [`Record`]: what has happened to a source in the last hour, by samples of what is counted of it anyway.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::event::EventKind;
use super::series::{Sample, Series};
use crate::event::{TableName, Timestamp};
use crate::health::Readiness;
use crate::http::ServingPlace;
use crate::log::{self, Log};
use crate::lsn::Lsn;
use crate::telemetry::Metrics;

/// The interval between samples.
const STEP: Duration = Duration::from_secs(1);
/// The samples between two looks at what changes slowly: the age of the journal, and the changes of each table.
const SLOW_STEPS: u64 = 10;
/// The most events that are kept.
const MAX_EVENTS: usize = 500;

/// The history of a source for the console.
#[derive(Debug, Default)]
pub(super) struct Record {
    series: Mutex<Series>,
    events: Mutex<VecDeque<Event>>,
    tables: Mutex<TableRates>,
}

/// Something that happened at a moment.
#[derive(Clone, Debug, Serialize)]
struct Event {
    /// Seconds since 1970.
    at: f64,
    kind: &'static str,
    text: &'static str,
}

/// The changes of each table, then and a while before.
#[derive(Debug, Default)]
struct TableRates {
    before: Option<(Instant, HashMap<TableName, u64>)>,
    last: Option<(Instant, HashMap<TableName, u64>)>,
}

impl TableRates {
    fn look(&mut self, now: HashMap<TableName, u64>) {
        self.before = self.last.replace((Instant::now(), now));
    }
}

/// Everything that is counted, at a moment.
struct Reading {
    at: Instant,
    changes: u64,
    transactions: u64,
    sent_messages: u64,
    sent_bytes: u64,
    sent_in: Vec<(f64, u64)>,
    epochs: u64,
    failures: u64,
    slots_given_up: u64,
    is_connected: bool,
    is_standby: bool,
    is_lost: bool,
    is_ready: bool,
}

impl Reading {
    fn now(metrics: &Metrics, readiness: &Readiness) -> Reading {
        Reading {
            at: Instant::now(),
            changes: metrics.changes(),
            transactions: metrics.transactions.get(),
            sent_messages: metrics.sent_messages.get(),
            sent_bytes: metrics.sent_bytes.get(),
            sent_in: metrics.commit_to_send_buckets(),
            epochs: metrics.epoch_changes.get(),
            failures: metrics.source_failures.get(),
            slots_given_up: metrics.slots_given_up.get(),
            is_connected: metrics.replication_up.get() > 0,
            is_standby: metrics.standby.get() > 0,
            is_lost: metrics.slot_lost.get() > 0,
            is_ready: readiness.get().is_ok(),
        }
    }

    /// The sample of the time since another reading.
    fn since(&self, before: &Reading, metrics: &Metrics, journal_age: Option<f64>) -> Sample {
        let seconds = (self.at - before.at).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let sent_in = since(&self.sent_in, &before.sent_in);
        // Until the server was asked about the slot, nothing is known of it.
        let safe = metrics.slot_safe_bytes.get();
        let retained = metrics.slot_retained_bytes.get();
        let is_slot_read = self.is_lost || retained > 0 || safe != 0;
        let of_slot = |bytes: f64| if is_slot_read { bytes } else { f64::NAN };
        [
            rate(self.changes, before.changes),
            rate(self.transactions, before.transactions),
            rate(self.sent_messages, before.sent_messages),
            rate(self.sent_bytes, before.sent_bytes),
            quantile(&sent_in, 0.5),
            quantile(&sent_in, 0.99),
            of_slot(metrics.slot_lag_bytes.get() as f64),
            of_slot(retained as f64),
            of_slot(if safe < 0 { f64::NAN } else { safe as f64 }),
            metrics.connections.get() as f64,
            metrics.subscriptions.get() as f64,
            metrics.catching_up.get() as f64,
            metrics.stalled.get() as f64,
            metrics.journal_bytes.get() as f64,
            journal_age.unwrap_or(f64::NAN),
        ]
        .map(|value| value as f32)
    }

    /// The events between another reading and this one.
    fn events(&self, before: &Reading) -> Vec<EventKind> {
        use EventKind::{
            Disconnect, Epoch, NotReady, Ready, Reconnect, SlotGivenUp, SlotLost, SourceFailed, Standby,
            Takeover,
        };
        let events = [
            (self.epochs > before.epochs, Epoch),
            (self.failures > before.failures, SourceFailed),
            (self.slots_given_up > before.slots_given_up, SlotGivenUp),
            (self.is_lost && !before.is_lost, SlotLost),
            (self.is_standby && !before.is_standby, Standby),
            (!self.is_standby && before.is_standby, Takeover),
            (!self.is_connected && before.is_connected, Disconnect),
            (self.is_connected && !before.is_connected, Reconnect),
            (!self.is_ready && before.is_ready, NotReady),
            (self.is_ready && !before.is_ready, Ready),
        ];
        let events = events.into_iter().filter(|(is_so, _)| *is_so);
        events.map(|(_, kind)| kind).collect()
    }
}

/// The observations since an earlier reading of the same histogram.
fn since(now: &[(f64, u64)], before: &[(f64, u64)]) -> Vec<(f64, u64)> {
    let before = before.iter().map(|(_, count)| *count);
    let before = before.chain(std::iter::repeat(0));
    now.iter()
        .zip(before)
        .map(|((bound, count), before)| (*bound, count.saturating_sub(before)))
        .collect()
}

/// A quantile of observations that are counted in buckets, as if they were spread evenly in each; not a number if there
/// are none. Beyond the last bound it is that.
fn quantile(buckets: &[(f64, u64)], part: f64) -> f64 {
    let Some(&(_, all)) = buckets.last().filter(|(_, all)| *all > 0) else {
        return f64::NAN;
    };
    let wanted = part * all as f64;
    let (mut low, mut below) = (0.0, 0);
    for &(bound, count) in buckets {
        if count as f64 >= wanted && count > below {
            if bound.is_infinite() {
                return low;
            }
            let within = (wanted - below as f64) / (count - below) as f64;
            return low + (bound - low) * within;
        }
        (low, below) = (bound, count);
    }
    low
}

impl Record {
    /// Takes samples of a source until `stop`.
    pub(super) async fn keep<H: Log>(
        &self,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        place: Arc<ServingPlace<H>>,
        stop: CancellationToken,
    ) {
        self.note(EventKind::Restart);
        let mut ticks = tokio::time::interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut before = Reading::now(&metrics, &readiness);
        let mut oldest: Option<(Lsn, Option<Timestamp>)> = None;
        let mut steps = 0_u64;
        ticks.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if steps.is_multiple_of(SLOW_STEPS) {
                self.tables.lock().look(metrics.changes_by_table());
                if let Some(serving) = place.get() {
                    oldest = oldest_commit(serving.services.history.clone(), oldest).await;
                }
            }
            steps += 1;
            let now = Reading::now(&metrics, &readiness);
            let age = oldest.and_then(|(_, commit)| commit);
            let age = age.map(|commit| Timestamp::now().seconds_since(commit).max(0.0));
            let sample = now.since(&before, &metrics, age);
            self.series.lock().add_at(seconds_since_1970(), sample);
            for kind in now.events(&before) {
                self.note(kind);
            }
            before = now;
        }
    }

    fn note(&self, kind: EventKind) {
        let mut events = self.events.lock();
        if events.len() == MAX_EVENTS {
            events.pop_front();
        }
        events.push_back(Event {
            at: seconds_since_1970(),
            kind: kind.as_str(),
            text: kind.text(),
        });
    }

    /// The answer of `/api/series`: the samples and events after a second.
    pub(super) fn after(&self, since: u64) -> Value {
        // Copied under the locks, which the next sample waits for, and written as JSON outside them.
        let samples = self.series.lock().after(since);
        let is_later = |event: &&Event| event.at >= since as f64;
        let events: Vec<Event> = self.events.lock().iter().filter(is_later).cloned().collect();
        let mut all = samples.in_json();
        all.insert("events".to_owned(), json!(events));
        all.into()
    }

    /// The changes per second of each table, in the last ten to twenty seconds.
    pub(super) fn table_rates(&self) -> HashMap<TableName, f64> {
        let tables = self.tables.lock();
        let (Some((then, before)), Some((at, last))) = (&tables.before, &tables.last) else {
            return HashMap::new();
        };
        let seconds = (*at - *then).as_secs_f64().max(0.001);
        let rate = |(name, count): (&TableName, &u64)| {
            let before = before.get(name).copied().unwrap_or(0);
            (name.clone(), count.saturating_sub(before) as f64 / seconds)
        };
        last.iter().map(rate).collect()
    }
}

/// The time of the oldest commit that the log holds, which is looked for again only if the log has lost its beginning since.
async fn oldest_commit<H: Log>(
    history: H,
    known: Option<(Lsn, Option<Timestamp>)>,
) -> Option<(Lsn, Option<Timestamp>)> {
    let earliest = history.earliest();
    if let Some((at, Some(_))) = known
        && at == earliest
    {
        return known;
    }
    let found = tokio::task::spawn_blocking(move || log::oldest_commit(&history)).await;
    Some((earliest, found.ok().and_then(Result::ok).flatten()))
}

pub(super) fn seconds_since_1970() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_spread_evenly_in_their_buckets() {
        let buckets = [(0.1, 0), (0.2, 10), (0.5, 10), (1.0, 20), (f64::INFINITY, 20)];
        assert!((quantile(&buckets, 0.25) - 0.15).abs() < 1e-9);
        assert!((quantile(&buckets, 0.5) - 0.2).abs() < 1e-9);
        assert!((quantile(&buckets, 0.75) - 0.75).abs() < 1e-9);
        assert!(quantile(&[(0.1, 0), (f64::INFINITY, 0)], 0.5).is_nan());
        assert!(quantile(&[], 0.5).is_nan());
        // All were slower than the last bound.
        assert!((quantile(&[(0.1, 0), (f64::INFINITY, 3)], 0.5) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn what_was_observed_before_does_not_count() {
        let before = [(0.1, 5), (f64::INFINITY, 5)];
        let now = [(0.1, 5), (f64::INFINITY, 8)];
        assert_eq!(since(&now, &before), [(0.1, 0), (f64::INFINITY, 3)]);
        assert_eq!(since(&now, &[]), now);
    }
}

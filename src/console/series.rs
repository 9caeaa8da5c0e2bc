//! [`Series`]: one sample a second for an hour, in memory of a fixed size. Pure.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

/// The samples that are kept: an hour.
pub(super) const KEPT: usize = 3_600;

/// The names of the series, each with the metric that it is made of, if it is one.
pub(super) const FIELDS: [(&str, Option<&str>); 15] = [
    ("changes_per_second", Some("walcast_changes_total")),
    ("transactions_per_second", Some("walcast_transactions_total")),
    ("deliveries_per_second", Some("walcast_sent_messages_total")),
    ("sent_bytes_per_second", Some("walcast_sent_bytes_total")),
    (
        "latency_p50_seconds",
        Some("walcast_commit_to_send_duration_seconds"),
    ),
    (
        "latency_p99_seconds",
        Some("walcast_commit_to_send_duration_seconds"),
    ),
    ("slot_lag_bytes", Some("walcast_slot_lag_bytes")),
    ("retained_wal_bytes", Some("walcast_slot_retained_wal_bytes")),
    ("safe_wal_bytes", Some("walcast_slot_safe_wal_bytes")),
    ("connections", Some("walcast_connections")),
    ("subscriptions", Some("walcast_subscriptions")),
    ("catching_up", Some("walcast_catching_up")),
    ("stalled", Some("walcast_stalled")),
    ("journal_bytes", Some("walcast_journal_size_bytes")),
    ("journal_age_seconds", None),
];

/// The values of one second, in the order of [`FIELDS`]. An unknown one is not a number.
pub(super) type Sample = [f32; FIELDS.len()];

/// A second of which nothing is known.
const UNKNOWN: Sample = [f32::NAN; FIELDS.len()];

/// The samples of the last hour.
#[derive(Debug, Default)]
pub(super) struct Series {
    samples: VecDeque<Sample>,
    /// The second after that of the last sample, since 1970.
    next: u64,
}

impl Series {
    /// Adds the sample of a moment, in seconds since 1970. Samples come once a second, but not to the point: one that is
    /// half a second late, or early, is that of the second which was due.
    pub(super) fn add_at(&mut self, moment: f64, sample: Sample) {
        let late = moment - self.next as f64;
        let is_due = !self.samples.is_empty() && (-0.5..1.5).contains(&late);
        let second = if is_due { self.next } else { moment as u64 };
        self.add(second, sample);
    }

    /// Adds the sample of a second. Seconds that were left out are unknown. If the clock was set back, samples are left
    /// out until it has come to where it was; if that is more than an hour away, all begins anew.
    fn add(&mut self, second: u64, sample: Sample) {
        if self.samples.is_empty() || self.next > second + KEPT as u64 {
            self.samples.clear();
            self.samples.reserve_exact(KEPT);
            self.next = second;
        }
        if second < self.next {
            return;
        }
        let missed = (second - self.next).min(KEPT as u64);
        for _ in 0..missed {
            self.push(UNKNOWN);
        }
        self.push(sample);
        self.next = second + 1;
    }

    fn push(&mut self, sample: Sample) {
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// A copy of the samples of seconds after `since`.
    pub(super) fn after(&self, since: u64) -> Samples {
        let first = self.next - self.samples.len() as u64;
        let start = first.max(since.saturating_add(1)).min(self.next);
        let skipped = usize::try_from(start - first).unwrap_or(usize::MAX);
        Samples {
            start,
            next: self.next,
            samples: self.samples.iter().skip(skipped).copied().collect(),
        }
    }
}

/// Samples from a second on.
#[derive(Debug)]
pub(super) struct Samples {
    start: u64,
    /// The second after that of the last sample of all.
    next: u64,
    samples: Vec<Sample>,
}

impl Samples {
    /// They as `/api/series` has them, without its events.
    pub(super) fn in_json(&self) -> Map<String, Value> {
        let mut series = Map::new();
        let mut metrics = Map::new();
        for (index, (name, metric)) in FIELDS.iter().enumerate() {
            let values = self.samples.iter();
            let values = values.map(|sample| number(sample.get(index).copied()));
            series.insert((*name).to_owned(), values.collect());
            metrics.insert((*name).to_owned(), json!(metric));
        }
        let mut all = Map::new();
        all.insert("step".to_owned(), json!(1));
        all.insert("start".to_owned(), json!(self.start));
        all.insert("end".to_owned(), json!(self.next.saturating_sub(1)));
        all.insert("series".to_owned(), series.into());
        all.insert("metric".to_owned(), metrics.into());
        all
    }
}

/// A value with the digits that it has: more than a `f32` holds are made up.
fn number(value: Option<f32>) -> Value {
    let Some(value) = value.filter(|value| value.is_finite()) else {
        return Value::Null;
    };
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return json!(value as i64);
    }
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn sample(value: f32) -> Sample {
        [value; FIELDS.len()]
    }

    fn values(series: &Series, since: u64) -> (u64, u64, Vec<Option<f64>>) {
        let all = series.after(since).in_json();
        let values = all["series"]["connections"].as_array().unwrap();
        let values = values.iter().map(Value::as_f64).collect();
        (
            all["start"].as_u64().unwrap(),
            all["end"].as_u64().unwrap(),
            values,
        )
    }

    #[test]
    fn every_series_is_made_of_a_metric_that_there_is() {
        for (name, metric) in FIELDS {
            let is_there = |metric| Metrics::DESCRIBED.iter().any(|[known, ..]| *known == metric);
            assert!(metric.is_none_or(is_there), "{name}: {metric:?}");
        }
    }

    #[test]
    fn samples_are_told_from_a_second_on_and_gaps_are_null() {
        let mut series = Series::default();
        assert_eq!(values(&series, 0).2, []);
        series.add(100, sample(1.0));
        series.add(101, sample(0.1));
        series.add(104, sample(f32::NAN));
        series.add(105, sample(3e9));
        let all = [Some(1.0), Some(0.1), None, None, None, Some(3e9)];
        assert_eq!(values(&series, 0), (100, 105, all.to_vec()));
        assert_eq!(values(&series, 101), (102, 105, all[2..].to_vec()));
        assert_eq!(values(&series, 105), (106, 105, Vec::new()));
        assert_eq!(values(&series, u64::MAX), (106, 105, Vec::new()));
        // A clock that was set back a little, and one that was set back by far.
        series.add(103, sample(9.0));
        assert_eq!(values(&series, 0), (100, 105, all.to_vec()));
        series.add(106 + KEPT as u64, sample(7.0));
        series.add(5, sample(8.0));
        assert_eq!(values(&series, 0), (5, 5, vec![Some(8.0)]));
    }

    #[test]
    fn samples_that_come_a_little_late_or_early_leave_no_gap() {
        let mut series = Series::default();
        for (moment, value) in [
            (9.999, 1.0),
            (11.001, 2.0),
            (11.99, 3.0),
            (13.2, 4.0),
            (17.0, 5.0),
        ] {
            series.add_at(moment, sample(value));
        }
        let gap = [None; 4];
        let all = [
            &[Some(1.0), Some(2.0), Some(3.0), Some(4.0)][..],
            &gap,
            &[Some(5.0)][..],
        ]
        .concat();
        assert_eq!(values(&series, 0), (9, 17, all));
    }

    #[test]
    fn an_hour_is_kept() {
        let mut series = Series::default();
        for second in 0..5_000 {
            series.add(second, sample(second as f32));
        }
        let (start, end, values) = values(&series, 0);
        assert_eq!((start, end, values.len()), (5_000 - 3_600, 4_999, 3_600));
        series.add(100_000, sample(1.0));
        assert_eq!(series.samples.len(), KEPT);
    }
}

//! Subscriptions and rows.

use serde_json::{Value as Json, json};
use walcast::event::{Relation, Tuple, Value, View, encode_values};
use walcast::filter::{Index, Matcher, Predicate};

pub(crate) const SEED: u64 = 4;

/// The kind of the subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// `tenant_id = k`, and every row has a tenant that somebody asked for.
    OneHit,
    /// The same, and no row has.
    NoHit,
    /// The tenant and two conditions more, each of which half of the rows meet.
    Three,
    /// `amount BETWEEN a AND b`, ten of which hold for each row.
    Ranges,
}

impl Workload {
    pub(crate) const ALL: [Workload; 4] = [
        Workload::OneHit,
        Workload::NoHit,
        Workload::Three,
        Workload::Ranges,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Workload::OneHit => "a: tenant_id = k, one hit",
            Workload::NoHit => "b: tenant_id = k, no hit",
            Workload::Three => "c: tenant_id = k AND status IN (..) AND amount > x",
            Workload::Ranges => "d: amount BETWEEN a AND b, ten hits",
        }
    }

    /// The predicates of `count` subscriptions, in a random order.
    pub(crate) fn matchers(self, count: usize, relation: &Relation) -> impl Iterator<Item = Matcher> {
        let text = match self {
            Workload::OneHit | Workload::NoHit => "tenant_id = $1",
            Workload::Three => "tenant_id = $1 AND status IN ('new', 'paid') AND amount > $2",
            Workload::Ranges => "amount BETWEEN $1 AND $2",
        };
        let predicate = Predicate::parse(text).expect("a predicate");
        let mut rng = fastrand::Rng::with_seed(SEED);
        let mut keys: Vec<usize> = (0..count).collect();
        rng.shuffle(&mut keys);
        keys.into_iter().map(move |key| {
            let params: Vec<Json> = match self {
                Workload::OneHit | Workload::NoHit => vec![json!(key)],
                Workload::Three => vec![json!(key), json!(format!("{}.5", 400 + rng.u32(..200)))],
                Workload::Ranges => vec![
                    json!(format!("{}.25", key * 100)),
                    json!(format!("{}.24", key * 100 + 1000)),
                ],
            };
            predicate.bind(View::whole(relation), &params).expect("it fits")
        })
    }

    pub(crate) fn index(self, count: usize, relation: &Relation) -> Index {
        let mut index = Index::default();
        for (entry, matcher) in self.matchers(count, relation).enumerate() {
            index.insert(entry as u32, &matcher, false);
        }
        index
    }
}

/// Rows, encoded one after the other as the journal holds them: more than a processor's caches hold.
pub(crate) struct Rows {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

pub(crate) const STATUSES: [&str; 4] = ["new", "paid", "packed", "shipped"];

/// A row's values that matter.
pub(crate) struct Row {
    pub(crate) tenant: usize,
    pub(crate) status: &'static str,
    /// With two decimals.
    pub(crate) cents: usize,
}

impl Row {
    pub(crate) fn random(workload: Workload, subscriptions: usize, rng: &mut fastrand::Rng) -> Row {
        let tenant = rng.usize(..subscriptions);
        Row {
            tenant: if workload == Workload::NoHit {
                tenant + subscriptions
            } else {
                tenant
            },
            status: STATUSES[rng.usize(..4)],
            cents: match workload {
                Workload::Ranges => rng.usize(100_000..subscriptions.max(11) * 10_000),
                _ => rng.usize(..100_000),
            },
        }
    }
}

impl Rows {
    pub(crate) fn new(workload: Workload, subscriptions: usize) -> Rows {
        let mut rng = fastrand::Rng::with_seed(SEED + 1);
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for id in 0..1_000_000 {
            let row = Row::random(workload, subscriptions, &mut rng);
            starts.push(bytes.len());
            bytes.extend(Rows::encoded(id, &row));
        }
        Rows { bytes, starts }
    }

    pub(crate) fn encoded(id: usize, row: &Row) -> Vec<u8> {
        let texts = [
            id.to_string(),
            row.tenant.to_string(),
            row.status.to_owned(),
            format!("{}.{:02}", row.cents / 100, row.cents % 100),
            "t".to_owned(),
            "2026-11-22 12:00:00.123456+00".to_owned(),
        ];
        let mut bytes = Vec::new();
        encode_values(texts.iter().map(|text| Value::Text(text.as_bytes())), &mut bytes);
        bytes
    }

    /// The rows again and again.
    pub(crate) fn cycle(&self) -> impl Iterator<Item = Tuple<'_>> {
        let tuples: Vec<Tuple<'_>> = self
            .starts
            .iter()
            .map(|start| Tuple::parse(&self.bytes[*start..]).expect("a tuple").0)
            .collect();
        let mut next = 0;
        std::iter::from_fn(move || {
            next = (next + 1) % tuples.len();
            Some(tuples[next])
        })
    }
}

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::event::Relation;
use crate::lsn::{Done, Lsn, Position};
use crate::matching::Subscription;
use crate::matching::tests::{Got, TestLog, relation, subscription};
use crate::protocol::ErrorCode;
use crate::types::{Ctype, Kind, Type};

const START: Position = Position {
    end: Lsn(0),
    done: Done::Commit,
};

/// A table of texts `t` by id.
fn texts() -> Arc<Relation> {
    let mut relation = (*relation(&["id", "t"])).clone();
    relation.columns[1].ty = Type {
        oid: 25,
        name: "text".into(),
        kind: Kind::Text,
    };
    relation.columns[1].ctype = Ctype::C;
    Arc::new(relation)
}

/// A row with a text that looks like the pattern of [`long`] at each place. If it ends in `b`, it matches.
fn row(id: usize, bytes: usize, end: &str) -> Vec<String> {
    vec![id.to_string(), "a".repeat(bytes) + end]
}

/// A predicate that takes ten units of work for each byte of the text.
fn long() -> String {
    format!("t LIKE '%{}b%'", "a_".repeat(240))
}

struct Bed {
    log: TestLog,
    registry: SubscriptionRegistry,
    got: Got,
    relation: Arc<Relation>,
    now: Instant,
}

impl Bed {
    fn new(lane: Lane) -> Bed {
        let mut registry = SubscriptionRegistry::new(65_536);
        let now = Instant::now();
        registry.bound(lane, now);
        Bed {
            log: TestLog::new(),
            registry,
            got: Got::default(),
            relation: texts(),
            now,
        }
    }

    fn subscribe(&mut self, id: &str, predicate: &str) -> (ConnectionId, Arc<Subscription>) {
        let connection = self.registry.connect();
        let subscription = subscription(id, Some(predicate));
        self.registry.subscribe(connection, &subscription, START);
        (connection, subscription)
    }

    /// Binds the queries to the current table, as is done before subscriptions are active.
    fn bind(&self) {
        for (_, connection) in &self.registry.connections {
            for member in &connection.members {
                member.subscription.query.selection(&self.relation).unwrap();
            }
        }
    }

    /// Commits the rows, and returns how often it was delivered.
    fn commit(&mut self, rows: &[Vec<String>]) -> usize {
        let Bed {
            log,
            registry,
            got,
            relation,
            ..
        } = self;
        let mut times = 0;
        got.frames.clear();
        log.commit(relation, rows, |piece| {
            let mut piece = piece.clone();
            loop {
                times += 1;
                if registry.deliver(&mut piece, got).unwrap() {
                    break;
                }
            }
        });
        times
    }

    /// The changes that a connection got, by their seqs.
    fn seqs(&self, connection: ConnectionId) -> Vec<u64> {
        let changes = self.got.changes();
        changes
            .into_iter()
            .filter(|(to, ..)| *to == connection)
            .map(|(_, _, seq)| seq)
            .collect()
    }
}

#[test]
fn a_query_that_a_row_takes_too_long_is_put_apart_and_nobody_else() {
    let mut bed = Bed::new(Lane::SHARED);
    let (heavy, subscribed) = bed.subscribe("heavy", &long());
    let (also, _) = bed.subscribe("also heavy", &long());
    let (light, _) = bed.subscribe("light", "t LIKE 'a%' AND t <> ''");
    bed.commit(&[row(0, 1_000, "b"), row(1, 2_000_000, "b"), row(2, 1_000, "b")]);
    assert_eq!(bed.got.apart, [heavy, also]);
    assert!(bed.got.ended.is_empty());
    assert_eq!(bed.seqs(light), [0, 1, 2]);
    assert_eq!(
        (
            bed.registry.subscriptions(heavy),
            bed.registry.subscriptions(light)
        ),
        (0, 1)
    );
    assert!(subscribed.query.meter.is_apart(bed.now));
    assert!(!subscribed.query.meter.is_apart(bed.now + Duration::from_secs(60)));
    // The work that it would take was never done.
    assert!(
        bed.registry.worked() < Lane::SHARED.query,
        "{}",
        bed.registry.worked()
    );
    assert_eq!(bed.registry.times_put_apart(), 2);
}

#[test]
fn what_was_put_apart_gets_exactly_its_rows_where_it_is_read_for() {
    let mut bed = Bed::new(Lane::APART);
    let (heavy, subscribed) = bed.subscribe("heavy", &long());
    bed.commit(&[
        row(0, 1_000, "b"),
        row(1, 2_000_000, "b"),
        row(2, 2_000_000, "c"),
        row(3, 10, "b"),
    ]);
    assert_eq!(bed.seqs(heavy), [0, 1]);
    assert!(bed.got.apart.is_empty() && bed.got.ended.is_empty());
    // It stays there as long as rows take long.
    assert!(subscribed.query.meter.is_apart(bed.now));
}

#[test]
fn what_a_row_takes_too_long_even_apart_ends_by_the_limit_of_that_name() {
    let lane = Lane {
        query: 1_000_000,
        ..Lane::APART
    };
    let mut bed = Bed::new(lane);
    let (heavy, _) = bed.subscribe("heavy", &long());
    let (light, _) = bed.subscribe("light", "id >= 0 AND t <> ''");
    bed.commit(&[row(0, 1_000, "b"), row(1, 1_000_000, "b"), row(2, 1_000, "b")]);
    assert_eq!(bed.got.ended, [(heavy, "heavy".into(), ErrorCode::LimitExceeded)]);
    assert_eq!(bed.seqs(light), [0, 1, 2]);
}

#[test]
fn a_query_that_takes_too_much_over_time_ends_with_all_who_have_it() {
    let mut bed = Bed::new(Lane::SHARED);
    let (first, subscribed) = bed.subscribe("s", &long());
    let (second, _) = bed.subscribe("s", &long());
    let (light, _) = bed.subscribe("light", "t <> ''");
    while subscribed.query.meter.take(1_000_000_000, bed.now) {}
    // A row that takes next to no work is not counted.
    bed.commit(&[row(0, 10, "b")]);
    assert!(bed.got.ended.is_empty());
    bed.commit(&[row(1, 1_000, "b")]);
    let limit = ErrorCode::LimitExceeded;
    assert_eq!(
        bed.got.ended,
        [(first, "s".into(), limit), (second, "s".into(), limit)]
    );
    assert_eq!(bed.seqs(light), [0]);
    assert_eq!(bed.registry.subscriptions(light), 1);
}

#[test]
fn a_row_takes_no_longer_than_the_bound_however_many_queries_there_are() {
    let mut bed = Bed::new(Lane::SHARED);
    let heavy: Vec<_> = (0..100)
        .map(|number| {
            bed.subscribe(
                "heavy",
                &format!("{} AND id >= 0 OR id < -{}", long(), 1 + number),
            )
            .0
        })
        .collect();
    let (light, _) = bed.subscribe("light", "t LIKE 'a%' AND t <> ''");
    bed.commit(&[row(1, 25_000, "b")]);
    let bound = Lane::SHARED.all + Lane::SHARED.query + 1_000 * Allowance::LITTLE;
    assert!(
        bed.registry.worked() <= bound,
        "{} of {bound}",
        bed.registry.worked()
    );
    assert_eq!(bed.seqs(light), [0]);
    // Some were served, and the rest is put apart.
    let served = heavy
        .iter()
        .filter(|connection| bed.seqs(**connection) == [0])
        .count();
    assert!(
        served > 10 && served + bed.got.apart.len() == heavy.len(),
        "{served}"
    );
    // Soon after, there is a little for each, and later there is enough again.
    bed.registry.bound(Lane::SHARED, bed.now + Duration::from_secs(1));
    bed.commit(&[row(2, 25_000, "b")]);
    let served_again = heavy
        .iter()
        .filter(|connection| bed.seqs(**connection) == [0])
        .count();
    assert_eq!(served_again, served);
}

#[test]
fn many_queries_that_take_little_each_are_put_apart_once_they_have_taken_much_together() {
    let mut bed = Bed::new(Lane::SHARED);
    let long = format!("t LIKE '%{}b%'", "a_".repeat(60));
    let heavy = (0..1_000).map(|number| {
        let predicate = format!("{long} AND id >= 0 OR id < -{}", 1 + number);
        bed.subscribe("heavy", &predicate).0
    });
    let heavy: Vec<ConnectionId> = heavy.collect();
    let (light, _) = bed.subscribe("light", "t LIKE 'a%' AND t <> ''");
    let mut rows = 0;
    // None of them takes as much for a row as would have it put apart alone.
    for number in 0..1_000 {
        bed.registry
            .bound(Lane::SHARED, bed.now + Duration::from_millis(10 * number));
        bed.commit(&[row(1 + number as usize, 600, "b")]);
        assert_eq!(bed.seqs(light), [0]);
        rows += bed.seqs(heavy[0]).len();
        if bed.got.apart.len() == heavy.len() {
            break;
        }
    }
    assert!(rows > 1, "{rows}");
    assert_eq!(bed.got.apart.len(), heavy.len());
}

#[test]
fn long_work_is_done_a_little_at_a_time() {
    let mut bed = Bed::new(Lane::APART);
    let (heavy, _) = bed.subscribe("heavy", &long());
    let rows: Vec<_> = (0..10).map(|id| row(id, 100_000, "b")).collect();
    // Each row takes about half of the work that is done in one go.
    assert!(bed.commit(&rows) >= 4);
    assert_eq!(bed.seqs(heavy), (0..10).collect::<Vec<_>>());
    let mut light = Bed::new(Lane::SHARED);
    light.subscribe("light", "t <> ''");
    let pieces = light.commit(&rows);
    let mut pieces_alone = 0;
    light.log.commit(&texts(), &rows, |_| pieces_alone += 1);
    assert_eq!(pieces, pieces_alone);
}

#[test]
fn connections_keep_their_numbers_when_all_is_forgotten() {
    let mut bed = Bed::new(Lane::SHARED);
    let (first, subscribed) = bed.subscribe("s", "t <> ''");
    let (second, _) = bed.subscribe("s", "t <> ''");
    bed.registry.disconnect(first);
    bed.registry.forget_all();
    assert_eq!(
        (bed.registry.queries(), bed.registry.subscriptions(second)),
        (0, 0)
    );
    bed.commit(&[row(0, 10, "b")]);
    assert!(bed.got.frames.is_empty());
    assert_eq!(bed.registry.connect(), first);
    bed.registry.subscribe(second, &subscribed, START);
    bed.commit(&[row(0, 10, "b")]);
    assert_eq!(bed.seqs(second), [0]);
}

#[test]
fn a_query_that_another_version_of_its_table_takes_long_to_bind_is_put_apart_to_be_bound_there() {
    let names: Vec<_> = (0..600).map(|name| format!("'name{name}'")).collect();
    let long = format!("t IN ({})", names.join(", "));
    for (lane, is_put_apart) in [(Lane::SHARED, true), (Lane::APART, false)] {
        let mut bed = Bed::new(lane);
        let (heavy, _) = bed.subscribe("long", &long);
        let (light, _) = bed.subscribe("light", "t <> ''");
        let named = |id: usize| vec![id.to_string(), "name7".to_owned()];
        // The first version is bound again too, unless that was done when the client subscribed.
        bed.bind();
        bed.commit(&[named(0)]);
        assert_eq!((bed.seqs(heavy), bed.seqs(light)), (vec![0], vec![0]));
        let mut altered = (*bed.relation).clone();
        altered.columns[1].typmod = 100;
        bed.relation = Arc::new(altered);
        bed.commit(&[named(1)]);
        assert_eq!(bed.seqs(light), [0]);
        assert_eq!(bed.seqs(heavy).is_empty(), is_put_apart);
        assert_eq!(bed.got.apart, if is_put_apart { vec![heavy] } else { vec![] });
        assert!(bed.got.ended.is_empty());
        assert_eq!(bed.registry.subscriptions(heavy), usize::from(!is_put_apart));
    }
}

#[test]
fn a_computed_value_that_takes_too_long_puts_apart_who_is_found_by_it_and_nobody_else() {
    let mut bed = Bed::new(Lane::SHARED);
    let (heavy, _) = bed.subscribe("heavy", "lower(t) = 'x'");
    let (also, _) = bed.subscribe("also heavy", "lower(t) = 'y' AND id >= 0");
    let (light, _) = bed.subscribe("light", "id = 1");
    let (all, _) = bed.subscribe("all", "t <> 'x'");
    bed.commit(&[row(0, 10, "b"), row(1, 2_000_000, "b"), row(2, 10, "b")]);
    assert_eq!(bed.got.apart, [heavy, also]);
    assert_eq!((bed.seqs(light), bed.seqs(all)), (vec![1], vec![0, 1, 2]));
    assert!(bed.got.ended.is_empty());
}

#[test]
fn what_it_takes_to_look_for_a_query_counts_for_it_though_no_row_matches() {
    let mut bed = Bed::new(Lane::APART);
    let (heavy, subscribed) = bed.subscribe("heavy", "lower(t) = 'x'");
    bed.commit(&[row(0, 10, "b")]);
    assert!(!subscribed.query.meter.is_apart(bed.now));
    bed.commit(&[row(1, 100_000, "b")]);
    assert!(bed.seqs(heavy).is_empty());
    assert!(bed.registry.worked() > 1_000_000, "{}", bed.registry.worked());
    assert!(subscribed.query.meter.is_apart(bed.now));
}

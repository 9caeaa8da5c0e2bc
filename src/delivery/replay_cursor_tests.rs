//! Each session gets the changes that it asked for, however many share a cursor, and wherever each of them stops, goes
//! back and goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use proptest::prelude::*;
use serde_json::Value as Json;

use super::replay_cursor::{ReplayCursor, ReplayFilter, ReplayOutput, ReplaySink, ResumePoint};
use crate::delivery::{ActiveSubscription, Delivery};
use crate::journal::Journal;
use crate::log::LogWriter;
use crate::lsn::{Done, Lsn, Position};
use crate::matching::tests::{TestLog, relation, subscription};
use crate::matching::{Lane, Subscription};

const MAX_FRAME_BYTES: usize = 400;

/// A transaction: its end, and the bucket of each of its rows. Without rows, it is a place that the stream reached
/// without a transaction.
type Transaction = (Lsn, Vec<u32>);

/// A change that a client got: the transaction's end, the seq, and the id of the subscription.
type Change = (Lsn, u32, String);

/// A client that catches up.
struct Client {
    subscriptions: Vec<ActiveSubscription>,
    /// The bucket of each, or all of them.
    buckets: Vec<Option<u32>>,
    only: bool,
    from: ResumePoint,
    until: Option<Position>,
    /// The place where it began.
    start: Position,
    came: Vec<Change>,
    done: bool,
    steps: usize,
}

impl Client {
    fn new(rng: &mut Rng, history: &[Transaction]) -> Client {
        let end = |rng: &mut Rng| history[rng.usize(..history.len())].0;
        let start = match rng.u32(0..6) {
            0 => Position::after(Lsn(0)),
            1 => Position::after(Lsn(rng.u64(0..=history[history.len() - 1].0.0))),
            2 => Position::after(history[history.len() - 1].0),
            3 => {
                let (end, rows) = &history[rng.usize(..history.len())];
                match rows.len() {
                    0 | 1 => Position::after(*end),
                    several => Position::after_change(*end, rng.u32(0..several as u32 - 1)),
                }
            }
            _ => Position::after(end(rng)),
        };
        let count = rng.usize(1..4);
        let buckets: Vec<Option<u32>> = (0..count)
            .map(|_| (rng.u32(0..6) > 0).then(|| rng.u32(0..8)))
            .collect();
        let subscriptions = buckets
            .iter()
            .enumerate()
            .map(|(number, bucket)| ActiveSubscription {
                subscription: subscription(
                    &format!("s{number}"),
                    bucket.map(|bucket| format!("b = {bucket}")).as_deref(),
                ),
                after: start,
            });
        let next = history.iter().find(|(end, _)| *end > start.end);
        Client {
            subscriptions: subscriptions.collect(),
            buckets,
            only: count == 1 && rng.bool(),
            from: ResumePoint::told(start),
            // The router never takes over before the place where a client is.
            until: match rng.u32(0..5) {
                0 => Some(Position::after(end(rng).max(start.end))),
                // Mostly it is near that place.
                1 => Some(Position::after(next.map_or(start.end, |(end, _)| *end))),
                // The router may be in the middle of a transaction.
                2 => next
                    .filter(|(_, rows)| rows.len() > 1)
                    .map(|(end, rows)| Position::after_change(*end, rng.u32(0..rows.len() as u32 - 1))),
                _ => None,
            },
            start,
            came: Vec::new(),
            done: false,
            steps: 0,
        }
    }

    fn only(&self) -> Option<&Subscription> {
        self.only.then(|| &*self.subscriptions[0].subscription)
    }

    /// Takes what was found, or only a part of it, as a client does that stalls.
    fn take(&mut self, mut found: ReplayOutput, rng: &mut Rng) {
        self.steps += 1;
        let next = self.from.position;
        assert!(found.next.position >= next, "{:?} after {next:?}", found.next);
        let kept = match rng.u32(0..4) {
            0 if !found.items.is_empty() => rng.usize(..found.items.len()),
            _ => found.items.len(),
        };
        let is_cut = kept < found.items.len();
        found.items.truncate(kept);
        let mut last = None;
        for item in found.items {
            let Delivery::Frame(frame) = item else {
                panic!("{item:?}")
            };
            let message: Json = serde_json::from_str(&frame.text).unwrap();
            assert_eq!(
                message["id"].as_str(),
                self.only().map(|only| &*only.id),
                "{message}"
            );
            let changes = message["changes"].as_array().unwrap();
            let was_told_more = last.unwrap_or(self.from).open;
            assert!(!changes.is_empty() || was_told_more, "nobody waits for {message}");
            self.came.extend(changes.iter().map(|change| {
                let id = change["id"].as_str().unwrap().to_owned();
                (frame.position.end, change["seq"].as_u64().unwrap() as u32, id)
            }));
            let more = message["more"] == true;
            assert_eq!(more, frame.position.done != Done::Commit, "{message}");
            last = Some(ResumePoint::told(frame.position));
        }
        match (is_cut, last) {
            (true, Some(last)) => self.from = last,
            (true, None) => {}
            (false, last) => {
                let open = last.map_or(self.from.open, |last| last.open);
                assert_eq!(found.next.open, open, "{:?}", found.next);
                self.from = found.next;
                self.done = found.done;
            }
        }
    }

    /// Checks that the client got everything that it should have.
    fn assert_is_complete(&self, history: &[Transaction]) {
        let mut expected = Vec::new();
        for (end, rows) in history {
            for (seq, bucket) in rows.iter().enumerate() {
                let position = Position::after_change(*end, seq as u32);
                if position <= self.start || self.until.is_some_and(|until| position > until) {
                    continue;
                }
                for (number, wanted) in self.buckets.iter().enumerate() {
                    if wanted.is_none_or(|wanted| wanted == *bucket) {
                        expected.push((*end, seq as u32, format!("s{number}")));
                    }
                }
            }
        }
        let mut came = self.came.clone();
        assert!(came.is_sorted_by_key(|change| (change.0, change.1)), "{came:?}");
        came.sort();
        assert_eq!(came, expected, "from {} to {:?}", self.start, self.until);
        let ends_inside = self.until.is_some_and(|until| until.done != Done::Commit);
        assert!(!self.from.open || ends_inside, "it was told of more than came");
    }
}

/// Requests that one cursor serves.
struct Together<'c> {
    clients: &'c mut [Client],
    ahead: VecDeque<usize>,
    joined: Vec<usize>,
    rng: &'c mut Rng,
}

impl ReplaySink for Together<'_> {
    fn next(&self) -> Option<Position> {
        self.ahead
            .front()
            .map(|client| self.clients[*client].from.position)
    }

    fn join(&mut self, joins: impl FnOnce(&ReplayFilter<'_>)) {
        let client = self.ahead.pop_front().unwrap();
        self.joined.push(client);
        joins(&wanted(&self.clients[client]));
    }

    fn found(&mut self, number: usize, found: ReplayOutput) -> bool {
        self.clients[self.joined[number]].take(found, self.rng);
        true
    }
}

fn wanted(client: &Client) -> ReplayFilter<'_> {
    ReplayFilter {
        subscriptions: &client.subscriptions,
        only: client.only(),
        from: client.from,
        until: client.until,
    }
}

/// A history with transactions of one piece and of many, and places without any.
fn history(log: &mut TestLog, rng: &mut Rng) -> Vec<Transaction> {
    let relation = relation(&["a", "b"]);
    let mut history = Vec::new();
    for _ in 0..rng.usize(5..40) {
        if rng.u32(0..5) == 0 {
            log.end += 10;
            log.writer.position(Lsn(log.end)).unwrap();
            history.push((Lsn(log.end), Vec::new()));
        }
        let rows = if rng.u32(0..8) == 0 { 300 } else { rng.usize(1..6) };
        let buckets: Vec<u32> = (0..rows).map(|_| rng.u32(0..8)).collect();
        let rows: Vec<Vec<String>> = buckets
            .iter()
            .enumerate()
            .map(|(number, bucket)| vec![number.to_string(), bucket.to_string()])
            .collect();
        let end = log.commit(&relation, &rows, |_| {});
        history.push((end, buckets));
    }
    history
}

/// Reads one step for the first client and for those ahead of it that the cursor reaches.
fn read_together(journal: &Journal, clients: &mut [Client], rng: &mut Rng) {
    let mut waiting: Vec<usize> = (0..clients.len())
        .filter(|client| !clients[*client].done)
        .collect();
    rng.shuffle(&mut waiting);
    let first = waiting.pop().unwrap();
    let place = clients[first].from.position;
    waiting.retain(|client| {
        let at = clients[*client].from.position;
        at == place || at > place && at.done == Done::Commit
    });
    waiting.sort_by_key(|client| clients[*client].from.position);
    let mut scan = ReplayCursor::new(journal, place, None, MAX_FRAME_BYTES).unwrap();
    scan.join(&wanted(&clients[first]));
    let mut together = Together {
        clients,
        ahead: waiting.into(),
        joined: vec![first],
        rng,
    };
    scan.step(&mut together, Lane::SHARED).unwrap();
    let came = clients[first].steps;
    assert!(came > 0, "nobody said a word to the first");
}

/// Reads for one client alone, with the same cursor until it goes back.
fn read_alone(journal: &Journal, client: &mut Client, rng: &mut Rng) {
    let mut scan = None::<ReplayCursor<Journal>>;
    for _ in 0..rng.usize(1..5) {
        let reading = match &mut scan {
            Some(scan) => {
                scan.go_on(0, client.until);
                scan
            }
            none => {
                let new = ReplayCursor::new(journal, client.from.position, None, MAX_FRAME_BYTES).unwrap();
                let new = none.insert(new);
                new.join(&wanted(client));
                new
            }
        };
        let found = reading.step_alone(Lane::SHARED).unwrap().unwrap();
        let next = found.next.position;
        client.take(found, rng);
        if client.done {
            return;
        }
        if client.from.position != next {
            scan = None;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn everybody_gets_what_it_asked_for_change_for_change(seed in any::<u64>()) {
        let mut rng = Rng::with_seed(seed);
        let mut log = TestLog::new();
        let history = history(&mut log, &mut rng);
        let count = rng.usize(1..30);
        let mut clients: Vec<Client> = (0..count).map(|_| Client::new(&mut rng, &history)).collect();
        let mut readings = 0;
        while let Some(left) = clients.iter().position(|client| !client.done) {
            match rng.u32(0..4) {
                0 => read_alone(&log.journal, &mut clients[left], &mut rng),
                _ => read_together(&log.journal, &mut clients, &mut rng),
            }
            readings += 1;
            prop_assert!(readings < 100_000, "they get nowhere");
        }
        for client in &clients {
            client.assert_is_complete(&history);
        }
    }
}

#[test]
fn clients_with_the_same_query_at_the_same_place_share_what_is_found() {
    let mut log = TestLog::new();
    log.commit(&relation(&["a", "b"]), &[vec!["1".into(), "1".into()]], |_| {});
    let query: Arc<Subscription> = subscription("s", Some("b = 1"));
    let client = |only| Client {
        subscriptions: vec![ActiveSubscription {
            subscription: Arc::clone(&query),
            after: Position::after(Lsn(0)),
        }],
        buckets: vec![Some(1)],
        only,
        from: ResumePoint::told(Position::after(Lsn(0))),
        until: None,
        start: Position::after(Lsn(0)),
        came: Vec::new(),
        done: false,
        steps: 0,
    };
    struct Texts(Vec<Client>, usize, Vec<usize>);
    impl ReplaySink for Texts {
        fn next(&self) -> Option<Position> {
            self.0.get(self.1).map(|client| client.from.position)
        }
        fn join(&mut self, joins: impl FnOnce(&ReplayFilter<'_>)) {
            self.1 += 1;
            joins(&wanted(&self.0[self.1 - 1]));
        }
        fn found(&mut self, _: usize, found: ReplayOutput) -> bool {
            assert!(found.done);
            let [Delivery::Frame(frame)] = found.items.as_slice() else {
                panic!("{:?}", found.items)
            };
            self.2.push(frame.text.as_str().as_ptr().addr());
            true
        }
    }
    let mut texts = Texts(vec![client(true), client(true), client(false)], 0, Vec::new());
    let mut scan = ReplayCursor::new(&log.journal, Position::after(Lsn(0)), None, MAX_FRAME_BYTES).unwrap();
    texts.join(|wanted| scan.join(wanted));
    scan.step(&mut texts, Lane::SHARED).unwrap();
    let [first, second, third] = texts.2.as_slice() else {
        panic!("{:?}", texts.2)
    };
    assert_eq!(first, second);
    assert_ne!(first, third, "one of them is a whole connection");
}

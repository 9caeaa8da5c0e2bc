//! The requests of an owner have as many turns as those of another one.

use super::super::replay_request::tests::request;
use super::super::replay_shares::MAX_SENDING;
use super::*;
use crate::journal::Journal;

type Queue = ReplayQueue<Journal>;

/// Adds a request of an owner to a lane. It is not taken out before the answer is dropped.
fn add(queue: &mut Queue, lane: Lane, owner: u64) -> oneshot::Receiver<ReplayResult<Journal>> {
    queue.ask(request(owner), lane == Lane::APART)
}

/// The owners and numbers of the requests that are served next, in their order.
fn next(queue: &mut Queue, lane: Lane, max_of_owner: usize, metrics: &Metrics) -> Vec<(u64, u64)> {
    let served = queue.next(lane, max_of_owner, metrics);
    served
        .into_iter()
        .flat_map(|(served, _)| served)
        .map(|waiting| (waiting.request.owner, waiting.number))
        .collect()
}

#[test]
fn who_took_much_apart_has_its_turn_when_the_others_have_taken_as_much() {
    let metrics = Metrics::new();
    let mut queue = Queue::default();
    // The hostile owner has asked first, and by many connections.
    let _kept: Vec<_> = [1, 1, 1, 2, 3]
        .map(|owner| add(&mut queue, Lane::APART, owner))
        .into();
    let mut next = |work: u64| {
        let (owner, number) = next(&mut queue, Lane::APART, MAX_SENDING, &metrics)[0];
        queue.took(owner, work * STEP);
        (owner, number)
    };
    assert_eq!(next(1_000), (1, 0));
    assert_eq!([next(10), next(20)], [(2, 3), (3, 4)]);
    assert_eq!([next(10), next(20)], [(1, 1), (1, 2)]);
}

#[test]
fn an_owner_with_many_requests_has_a_turn_as_one_with_a_single_one_has() {
    let metrics = Metrics::new();
    let mut queue = Queue::default();
    let _kept: Vec<_> = [1, 1, 1, 1, 2, 3, 2]
        .map(|owner| add(&mut queue, Lane::SHARED, owner))
        .into();
    let served: Vec<_> = std::iter::repeat_with(|| next(&mut queue, Lane::SHARED, MAX_SENDING, &metrics))
        .take_while(|served| !served.is_empty())
        .inspect(|served| assert_eq!(served.len(), 1, "they are few"))
        .flatten()
        .collect();
    assert_eq!(served, [(1, 0), (2, 4), (3, 5), (1, 1), (2, 6), (1, 2), (1, 3)]);
}

#[test]
fn so_many_requests_of_an_owner_are_served_at_the_same_moment_and_others_go_on() {
    let metrics = Metrics::new();
    let mut queue = Queue::default();
    let owners: Vec<u64> = (0..100)
        .map(|number| if number % 20 == 0 { number } else { 1 })
        .collect();
    let _kept: Vec<_> = owners
        .iter()
        .map(|owner| add(&mut queue, Lane::SHARED, *owner))
        .collect();
    // Grouped, since they are many.
    let (served, shares) = queue.next(Lane::SHARED, 3, &metrics).unwrap();
    let mut owners: Vec<_> = served.iter().map(|waiting| waiting.request.owner).collect();
    owners.sort_unstable();
    assert_eq!(owners, [0, 1, 1, 1, 20, 40, 60, 80]);
    assert!(queue.next(Lane::SHARED, 3, &metrics).is_none());
    let counted = metrics.render([]);
    assert!(
        counted.contains("walcast_limits_reached_total{limit=\"subject_replays\"} 92"),
        "{counted}"
    );
    // Another one comes, and one of theirs is done.
    let _kept_too = add(&mut queue, Lane::SHARED, 7);
    assert_eq!(next(&mut queue, Lane::SHARED, 3, &metrics), [(7, 100)]);
    for share in shares {
        queue.give_back(share);
    }
    assert_eq!(next(&mut queue, Lane::SHARED, 3, &metrics).len(), 3);
}

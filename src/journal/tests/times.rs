//! The place of a time, found without reading everything.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::support::*;
use crate::event::{Timestamp, Transaction};
use crate::journal::{Journal, Options};
use crate::log::{Log, LogReader, LogWriter, place_of_time};
use crate::lsn::{Lsn, Position, Start};

const SECOND: i64 = 1_000_000;

/// A journal of transactions with these commit times, ending at 100, 200, …, and whether it is opened once more.
fn journal(times: &[i64], options: Options, again: bool) -> (Bed, crate::journal::Writer, Journal) {
    let bed = Bed::new(options);
    let (mut writer, mut journal) = bed.open().unwrap();
    for (tx, time) in txs(times.len() as u64, 3).iter().zip(times) {
        for change in &tx.changes {
            write_change(&mut writer, &relations(), change).unwrap();
        }
        let transaction = Transaction {
            committed_at: Timestamp(*time),
            ..tx.transaction()
        };
        writer.commit(&transaction).unwrap();
    }
    writer.flush().unwrap();
    if again {
        drop((writer, journal));
        (writer, journal) = bed.open().unwrap();
    }
    (bed, writer, journal)
}

/// The end of the transaction before the first that is not earlier; `None` if that is the first of all.
fn expected(times: &[i64], time: i64) -> Option<Lsn> {
    let earlier = times.iter().take_while(|other| **other < time).count() as u64;
    (earlier > 0).then_some(Lsn(earlier * 100))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_is_before_the_first_transaction_that_is_not_earlier_also_where_times_are_out_of_order(
        steps in prop::collection::vec(-4 * SECOND..20 * SECOND, 1..60),
        asked in prop::collection::vec(-SECOND..600 * SECOND, 1..10),
        again: bool,
    ) {
        let mut clock = 0;
        let mut times: Vec<i64> = Vec::new();
        for step in steps {
            // Out of order by no more than four seconds.
            clock += step.max(0);
            times.push(clock + step.min(0));
        }
        let (_bed, _writer, journal) = journal(&times, tiny(), again);
        for asked in asked.into_iter().chain(times.iter().copied()) {
            let found = place_of_time(&journal, Timestamp(asked)).unwrap();
            prop_assert_eq!(found, expected(&times, asked), "{} in {:?}", asked, times);
        }
    }
}

#[test]
fn where_the_clock_was_set_back_the_place_is_one_at_which_times_pass_the_asked_one() {
    let hour = 3600 * SECOND;
    let times: Vec<i64> = (0..100)
        .chain(50..150)
        .map(|minute| minute * 60 * SECOND)
        .collect();
    let (_bed, _writer, journal) = journal(&times, tiny(), true);
    for asked in [hour, 2 * hour, 90 * 60 * SECOND + 1] {
        let found = place_of_time(&journal, Timestamp(asked)).unwrap().unwrap();
        let next = (found.0 / 100) as usize;
        assert!(
            times[next - 1] < asked && times[next] >= asked,
            "{asked}: {found}"
        );
    }
}

#[test]
fn of_a_long_history_little_is_read() {
    let times: Vec<i64> = (0..2000).map(|second| second * SECOND).collect();
    let (bed, _writer, journal) = journal(&times, small(), false);
    assert!(bed.segments().len() > 50);
    let reads = || bed.faults.slow_reads.load(Ordering::SeqCst);
    let before = reads();
    for asked in [1, 700, 1999] {
        let found = place_of_time(&journal, Timestamp(asked * SECOND)).unwrap();
        assert_eq!(found, Some(Lsn(asked as u64 * 100)));
    }
    let searched = reads() - before;
    let before = reads();
    let mut reader = journal.reader(Start::After(Position::after(Lsn::ZERO))).unwrap();
    while reader.next_blocking(4096).unwrap().is_some() {}
    let all = reads() - before;
    assert!(4 * searched < all, "{searched} reads, and {all} for everything");
}

//! Transactions that are put aside.

use super::support::{Bed, small};
use crate::journal::InProgressTransactions;
use crate::journal::in_progress::{LENGTH, READ_BYTES};
use crate::log::Error;

fn all(in_progress: &mut InProgressTransactions, xid: u32) -> Vec<String> {
    let mut spooled = in_progress.take(xid).unwrap();
    let mut messages = Vec::new();
    while let Some(message) = spooled.next_message().unwrap() {
        messages.push(String::from_utf8(message.to_vec()).unwrap());
    }
    messages
}

fn bed() -> (Bed, InProgressTransactions) {
    let bed = Bed::new(small());
    let in_progress = bed.in_progress();
    (bed, in_progress)
}

#[test]
fn what_was_put_aside_comes_back_in_order_and_leaves_no_file() {
    let (bed, mut in_progress) = bed();
    let long = "x".repeat(READ_BYTES + 5);
    for (xid, message) in [(1, "a"), (2, "b"), (1, ""), (1, &*long), (2, "d"), (1, "e")] {
        let (front, back) = message.as_bytes().split_at(message.len() / 2);
        in_progress.append(xid, xid, &[front, back]).unwrap();
        in_progress.flush().unwrap();
    }
    assert_eq!((in_progress.len(), in_progress.is_empty()), (2, false));
    assert_eq!(all(&mut in_progress, 1), ["a", "", &long, "e"]);
    assert_eq!(in_progress.bytes(), 2 * (LENGTH as u64 + 1));
    assert_eq!(all(&mut in_progress, 2), ["b", "d"]);
    assert!(in_progress.take(2).is_none());
    let left = std::fs::read_dir(bed.dir.path().join("spool")).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn a_part_is_rolled_back_with_everything_after_its_start() {
    for flush_after in 0..7 {
        let (_bed, mut in_progress) = bed();
        for (at, (part, message)) in [(1, "a"), (5, "b"), (6, "c"), (5, "d"), (1, "e")]
            .iter()
            .enumerate()
        {
            in_progress.append(1, *part, &[message.as_bytes()]).unwrap();
            if at == flush_after {
                in_progress.flush().unwrap();
            }
        }
        in_progress.roll_back(1, 9).unwrap();
        in_progress.roll_back(2, 6).unwrap();
        in_progress.roll_back(1, 6).unwrap();
        in_progress.append(1, 7, &[b"f"]).unwrap();
        in_progress.roll_back(1, 6).unwrap();
        in_progress.append(1, 6, &[b"g"]).unwrap();
        assert_eq!(all(&mut in_progress, 1), ["a", "b", "f", "g"], "{flush_after}");
    }
}

#[test]
fn a_parent_that_writes_after_its_child_is_rolled_back_with_it() {
    let (_bed, mut in_progress) = bed();
    // The IDs of subtransactions start again at the end of 32 bits.
    let parent = u32::MAX;
    let child = 3;
    let later = 4;
    for (part, message) in [(1, "a"), (child, "b"), (parent, "c"), (later, "d")] {
        in_progress.append(1, part, &[message.as_bytes()]).unwrap();
    }
    in_progress.roll_back(1, later).unwrap();
    assert_eq!(in_progress.bytes(), 3 * (LENGTH as u64 + 1));
    // In the server's order: children first.
    in_progress.roll_back(1, child).unwrap();
    in_progress.roll_back(1, parent).unwrap();
    in_progress.append(1, 5, &[b"e"]).unwrap();
    assert_eq!(all(&mut in_progress, 1), ["a", "e"]);
    assert_eq!(in_progress.bytes(), 0);
}

#[test]
fn what_cannot_be_attributed_is_in_doubt_once_a_part_is_rolled_back_that_it_may_be_of() {
    // Of the transaction 1: a row of the part, a message, or the end of the part by a rollback.
    enum Came {
        Row(u32),
        Message,
        Rollback(u32),
    }
    use Came::{Message, Rollback, Row};
    let is_doubtful = |came: &[Came]| {
        let (_bed, mut in_progress) = bed();
        for what in came {
            match what {
                Row(part) => in_progress.append(1, *part, &[b"r"]).unwrap(),
                Message => in_progress.append_unattributed(1, &[b"m"]).unwrap(),
                Rollback(part) => in_progress.roll_back(1, *part).unwrap(),
            }
        }
        in_progress.is_doubtful(1)
    };
    assert!(!is_doubtful(&[]));
    assert!(!is_doubtful(&[Message, Row(5), Row(1)]));
    // The first, or the only, thing that the part did.
    assert!(is_doubtful(&[Row(1), Message, Row(5), Rollback(5)]));
    assert!(is_doubtful(&[Row(1), Message, Rollback(5)]));
    // Of the part or of its child, both of which are rolled back.
    assert!(is_doubtful(&[Message, Row(6), Row(5), Rollback(6), Rollback(5)]));
    // Gone with the part.
    assert!(!is_doubtful(&[Row(1), Row(5), Message, Rollback(5)]));
    assert!(!is_doubtful(&[Row(5), Message, Rollback(5), Row(1), Rollback(6)]));
    // Before the part began the transaction itself went on.
    assert!(!is_doubtful(&[Message, Row(1), Row(5), Rollback(5)]));
    assert!(is_doubtful(&[
        Row(5),
        Message,
        Row(1),
        Message,
        Row(6),
        Rollback(6)
    ]));
    // It stays so.
    assert!(is_doubtful(&[Message, Rollback(5), Row(1)]));
}

#[test]
fn hundreds_of_thousands_of_subtransactions_take_no_more_than_their_time() {
    // A search through all parts for each would take hours.
    const PARTS: u32 = 200_000;
    let (_bed, mut in_progress) = bed();
    let mut kept = Vec::new();
    for part in 2..PARTS + 2 {
        in_progress.append(1, part, &[&part.to_le_bytes()]).unwrap();
        // Its parent goes on, and another one that is not known is rolled back.
        in_progress.append(1, 2, &[b"p"]).unwrap();
        in_progress.roll_back(1, PARTS + 9).unwrap();
        if part % 3 == 0 {
            in_progress.roll_back(1, part).unwrap();
        } else {
            kept.extend([part.to_le_bytes().to_vec(), b"p".to_vec()]);
        }
    }
    // The newest 60,000 once more, one by one as the server has them: those that are kept two of three.
    let from = PARTS - 60_000 + 2;
    for part in (from..PARTS + 2).rev() {
        in_progress.roll_back(1, part).unwrap();
    }
    kept.truncate(kept.len() - 2 * 40_000);
    let mut spooled = in_progress.take(1).unwrap();
    for expected in kept {
        assert_eq!(spooled.next_message().unwrap(), Some(&*expected));
    }
    assert_eq!(spooled.next_message().unwrap(), None);
}

#[test]
fn a_full_disk_loses_nothing() {
    let (bed, mut in_progress) = bed();
    bed.faults.set_space(10);
    in_progress.append(1, 1, &[b"a"]).unwrap();
    in_progress.append(1, 1, &[b"b"]).unwrap();
    in_progress.append(1, 1, &[b"c"]).unwrap();
    assert!(matches!(in_progress.flush(), Err(Error::Full(_))));
    assert!(matches!(in_progress.flush(), Err(Error::Full(_))));
    in_progress.append(1, 1, &[b"d"]).unwrap();
    bed.faults.set_space(1 << 20);
    in_progress.flush().unwrap();
    assert_eq!(all(&mut in_progress, 1), ["a", "b", "c", "d"]);
}

#[test]
fn a_file_that_ends_inside_a_message_is_an_error() {
    let (_bed, mut in_progress) = bed();
    in_progress.append(1, 1, &[b"abc"]).unwrap();
    in_progress.flush().unwrap();
    let mut spooled = in_progress.take(1).unwrap();
    spooled.spool.file.truncate(5).unwrap();
    assert!(matches!(spooled.next_message(), Err(Error::Failed(_))));
}

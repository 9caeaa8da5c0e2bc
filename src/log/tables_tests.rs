use super::*;
use crate::event::Column;
use crate::log::record::Frame;
use crate::types::Attnum;

fn relation(oid: u32, columns: &[(&str, i16)]) -> Arc<Relation> {
    let mut relation = Relation::of_messages("t", true);
    let column = relation.columns[0].clone();
    relation.oid = oid;
    relation.table = TableName::new("public", "t");
    relation.columns = columns
        .iter()
        .map(|(name, number)| Column {
            name: (*name).to_owned(),
            attnum: Attnum::new(*number),
            ..column.clone()
        })
        .collect();
    Arc::new(relation)
}

fn version(seen: u64, oid: u32, columns: &[(&str, i16)]) -> TableVersion {
    TableVersion {
        seen: Lsn(seen),
        highest: 9,
        relation: relation(oid, columns),
    }
}

fn since(history: &TableHistory, from: u64) -> Option<Vec<String>> {
    let columns = |relation: &Arc<Relation>| {
        let names = relation.columns.iter().map(|column| column.name.as_str());
        names.collect::<Vec<_>>().join(" ")
    };
    let since = history.versions_since(1, Position::after(Lsn(from)))?;
    Some(since.iter().map(columns).collect())
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|word| (*word).to_owned()).collect())
}

/// A table of the name of that number comes by, after that head.
fn show(history: &mut TableHistory, name: &TableName, oid: u32, head: u64) -> bool {
    let record = history.showing(name, oid, Lsn(head));
    record.iter().for_each(|record| history.apply(record));
    record.is_some()
}

/// Notes a version as ingest does: nothing that is known already.
fn note(history: &mut TableHistory, version: TableVersion) -> News {
    let news = history.news(&version);
    if news.is_new {
        history.apply(&version.into());
    }
    news
}

/// The history that its records make, written and read.
fn read_back(history: &TableHistory) -> TableHistory {
    let mut bytes = Vec::new();
    history.records().for_each(|record| record.encode(&mut bytes));
    let mut read = TableHistory::default();
    let mut rest = &bytes[..];
    while let Some((frame, behind)) = Frame::split(rest) {
        assert!(frame.is_intact());
        read.apply(&TableRecord::parse(frame.kind, frame.payload).unwrap());
        rest = behind;
    }
    assert!(rest.is_empty());
    read
}

#[test]
fn a_name_begins_anew_when_another_table_takes_it() {
    let t = TableName::new("public", "t");
    let u = TableName::new("a.b", "u");
    let holder = |oid, since| {
        let since = Lsn(since);
        Some(Holder { oid, since })
    };
    let mut history = TableHistory::default();
    assert!(show(&mut history, &t, 1, 10));
    assert!(!show(&mut history, &t, 1, 20));
    assert_eq!((history.holder(&t), history.holder(&u)), (holder(1, 0), None));
    // Renamed, and its old name taken by another.
    assert!(show(&mut history, &u, 1, 30));
    assert_eq!(history.holder(&u), holder(1, 31));
    history = read_back(&history);
    assert!(!show(&mut history, &u, 1, 40));
    assert!(show(&mut history, &t, 2, 50));
    assert_eq!(history.holder(&t), holder(2, 51));
    // And back to its old name, from the other one.
    assert!(show(&mut history, &t, 1, 60));
    assert_eq!(history.holder(&t), holder(1, 61));
    assert_eq!(read_back(&history), history);
    let mut next = history.next_epoch(Lsn(70));
    assert_eq!(next.holder(&t), None);
    assert!(show(&mut next, &t, 7, 5));
    assert_eq!(next.holder(&t), holder(7, 0));
}

#[test]
fn a_client_is_compared_with_what_it_may_have_been_told_of_and_all_since() {
    let [ab, ba, swapped] = [
        &[("a", 1), ("b", 2)][..],
        &[("b", 1), ("a", 2)],
        &[("b", 1), ("a", 2), ("c", 3)],
    ];
    let old = News::default();
    let new = News {
        is_new: true,
        is_change: false,
    };
    let change = News {
        is_new: true,
        is_change: true,
    };
    let mut history = TableHistory::default();
    assert_eq!(
        note(&mut history, version(10, 1, ab)),
        new,
        "there was nothing to be told of"
    );
    note(&mut history, version(10, 2, ab));
    assert_eq!(note(&mut history, version(20, 1, ab)), old);
    assert_eq!(note(&mut history, version(30, 1, ba)), change);
    assert_eq!(note(&mut history, version(40, 1, swapped)), change);
    // The stream shows that it was so earlier.
    assert_eq!(note(&mut history, version(25, 1, ba)), new);
    let check = |history: &TableHistory| {
        assert_eq!(since(history, 5), words(&["a b", "b a", "b a c"]));
        assert_eq!(since(history, 24), words(&["a b", "b a", "b a c"]));
        assert_eq!(since(history, 25), words(&["b a", "b a c"]));
        assert_eq!(since(history, 99), words(&["b a c"]));
        let inside = Position {
            end: Lsn(99),
            done: Done::Change(3),
        };
        assert_eq!(history.versions_since(1, inside).unwrap().len(), 3);
        assert_eq!(history.newest_version(1).unwrap().columns.len(), 3);
        let unknown = history.versions_since(7, Position::after(Lsn(5)));
        assert_eq!(unknown, Some(Vec::new()));
    };
    check(&history);
    check(&read_back(&history));
    check(&history.of_table(1));
    // Another epoch begins with what the tables were there.
    let next = history.next_epoch(Lsn(99));
    assert_eq!(since(&next, 1), words(&["b a c"]));
    assert_eq!(next.versions().count(), 2);
    let earlier = history.next_epoch(Lsn(30));
    assert_eq!(since(&earlier, 1), words(&["b a", "b a c"]));
    assert_eq!(since(&earlier, 40), words(&["b a c"]));
}

#[test]
fn of_too_many_versions_the_first_are_forgotten_and_that_is_known() {
    let mut history = TableHistory::default();
    for number in 1..100_i16 {
        let seen = 10 * u64::from(number.unsigned_abs());
        note(&mut history, version(seen, 1, &[("a", number)]));
    }
    for history in [&history, &read_back(&history)] {
        assert_eq!(history.versions().count(), MAX_VERSIONS);
        assert_eq!(since(history, 10), None);
        assert_eq!(since(history, 985), words(&["a", "a"]));
    }
    // As a record says it of versions that were never noted.
    let mut cut = TableHistory::default();
    note(&mut cut, version(10, 1, &[("a", 1)]));
    let version = version(20, 1, &[("a", 2)]);
    cut.apply(&TableRecord::Version {
        version,
        is_cut: true,
    });
    assert_eq!((since(&cut, 15), since(&cut, 20)), (None, words(&["a"])));
}

#[test]
fn tables_that_are_not_published_any_more_are_forgotten_once_they_are_many() {
    let mut history = TableHistory::default();
    let last = FEW_TABLES as u32 + 3;
    for oid in 1..last {
        note(&mut history, version(1, oid, &[("a", 1)]));
    }
    let published = HashSet::from([1]);
    assert!(!history.retain(&published), "they are few");
    note(&mut history, version(1, last, &[("a", 1)]));
    assert!(history.retain(&published));
    assert!(history.newest_version(1).is_some() && history.newest_version(2).is_none());
}

#[test]
fn what_is_no_record_of_a_table_is_an_error() {
    let mut bytes = Vec::new();
    TableRecord::from(version(1, 1, &[("a", 1)])).encode(&mut bytes);
    let (frame, _) = Frame::split(&bytes).unwrap();
    let unreadable = Err(Malformed("a table's version is unreadable"));
    let mut payload = frame.payload.to_vec();
    payload[10] = 2;
    assert_eq!(TableRecord::parse(TABLE_VERSION, &payload), unreadable);
    assert_eq!(TableRecord::parse(TABLE_VERSION, &payload[..9]), unreadable);
    assert_eq!(
        TableRecord::parse(TABLE_NAME, frame.payload),
        Err(Malformed("a table's name is unreadable"))
    );
    assert!(TableRecord::parse(1, frame.payload).is_err());
}

#[test]
fn however_tables_take_names_from_each_other_the_records_make_the_same_history() {
    let names = ["a", "b", "c"].map(|name| TableName::new("public", name));
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut history = TableHistory::default();
        for head in 0..rng.u64(1..12) {
            let name = rng.choice(&names).unwrap();
            show(&mut history, name, rng.u32(1..5), head);
        }
        assert_eq!(read_back(&history), history, "seed {seed}");
    }
}

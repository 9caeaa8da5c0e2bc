//! Tests of the parent module, on messages that version 2.5 of the plugin wrote.

use proptest::prelude::*;

use super::*;
use crate::decode::Message;
use crate::event::{OldTuple, Published, StreamColumn, Timestamp, Tuple, Value};
use crate::types::Attnum;

mod versions;

const BEGIN: &str = r#"{"action":"B","xid":724,"timestamp":"2026-11-22 19:15:14.17523+00","lsn":"0/150DFF0","nextlsn":"0/150E0D0"}"#;
const COMMIT: &str = r#"{"action":"C","xid":724,"timestamp":"2026-11-22 19:15:14.17523+00","lsn":"0/150DFF0","nextlsn":"0/150E0D0"}"#;
const INSERT: &str = r#"{"action":"I","xid":724,"timestamp":"2026-11-22 19:15:14.17523+00","lsn":"0/152CAC0","schema":"public","table":"T é","columns":[{"name":"id","typeoid":23,"value":1},{"name":"a \"q\"","typeoid":25,"value":"q\"\\\n\u0001é"},{"name":"b","typeoid":16,"value":true},{"name":"n","typeoid":1700,"value":1.50},{"name":"by","typeoid":17,"value":"deadbeef"},{"name":"g","typeoid":23,"value":2}]}"#;
const UPDATE: &str = r#"{"action":"U","xid":724,"timestamp":"2026-11-22 19:15:14.17523+00","lsn":"0/152CAC0","schema":"public","table":"T é","columns":[{"name":"id","typeoid":23,"value":1},{"name":"b","typeoid":16,"value":false},{"name":"n","typeoid":1700,"value":null},{"name":"by","typeoid":17,"value":""},{"name":"g","typeoid":23,"value":2}],"identity":[{"name":"id","typeoid":23,"value":1}]}"#;
const DELETE: &str = r#"{"action":"D","xid":724,"timestamp":"2026-11-22 19:15:14.17523+00","lsn":"0/152D140","schema":"public","table":"T é","identity":[{"name":"id","typeoid":23,"value":2}]}"#;
const TRUNCATE: &str = r#"{"action":"T","xid":724,"timestamp":"2026-11-22 19:15:14.17523+00","lsn":"0/152DCE0","schema":"public","table":"T é"}"#;
const LOGICAL: &str = r#"{"action":"M","xid":null,"timestamp":null,"lsn":"0/152DEB8","transactional":false,"prefix":"p","content":"non"}"#;
const ALL: [&str; 7] = [BEGIN, COMMIT, INSERT, UPDATE, DELETE, TRUNCATE, LOGICAL];

const OID: u32 = 16_400;

fn table() -> TableName {
    TableName::new("public", "T é")
}

fn column(name: &str, type_oid: u32, identity: bool) -> StreamColumn {
    StreamColumn {
        name: name.into(),
        type_oid,
        typmod: -1,
        identity,
    }
}

/// The table of the messages: its generated column is not published.
fn published() -> Published {
    Published {
        relation: StreamRelation {
            oid: OID,
            table: table(),
            replica_identity: ReplicaIdentity::Default,
            columns: vec![
                column("id", 23, true),
                column("a \"q\"", 25, false),
                column("b", 16, false),
                column("n", 1700, false),
                column("by", 17, false),
            ],
        },
        numbers: (1..=5).map(Attnum::new).collect(),
        order: ["id", "a \"q\"", "b", "n", "by", "g"].map(str::to_owned).to_vec(),
        seen: Lsn(0x200_0000),
        renamed: Vec::new(),
        left_out: vec!["g".into()],
        via_root: false,
        row_filter: false,
        insert: true,
        update: true,
        delete: true,
        truncate: true,
    }
}

/// A translator inside a transaction that knows the table.
fn translator(published: Published) -> Translator {
    let mut translator = Translator::new();
    assert_eq!(translate(&mut translator, BEGIN).len(), 1);
    assert!(translator.learn_table(&table(), Lsn(0x200_0000), Lookup::Published(published)));
    translator
}

/// The bytes of pgoutput's messages.
fn translate(translator: &mut Translator, message: &str) -> Vec<Vec<u8>> {
    match translator.translate(&Record::parse(message.as_bytes()).unwrap()) {
        Ok(Translated::Messages(messages)) => messages.iter().map(<[u8]>::to_vec).collect(),
        other => panic!("{other:?}"),
    }
}

fn values(tuple: Tuple<'_>) -> Vec<Value<'_>> {
    tuple.values().collect()
}

#[test]
fn transactions_have_pgoutputs_positions_and_times() {
    let mut translator = Translator::new();
    let begin = translate(&mut translator, BEGIN);
    let commit = Lsn(0x150_DFF0);
    let committed_at = Timestamp(848_690_114_175_230);
    assert_eq!(
        Message::parse(&begin[0]),
        Ok(Message::Begin {
            commit,
            committed_at,
            xid: 724
        })
    );
    let end = translate(&mut translator, COMMIT);
    assert_eq!(
        Message::parse(&end[0]),
        Ok(Message::Commit {
            commit,
            end: Lsn(0x150_E0D0),
            committed_at
        })
    );
    assert!(translate(&mut translator, LOGICAL).is_empty());
}

#[test]
fn rows_have_pgoutputs_texts_and_a_description_before_the_first() {
    let mut translator = translator(published());
    let messages = translate(&mut translator, INSERT);
    assert_eq!(
        Message::parse(&messages[0]),
        Ok(Message::Relation(published().relation))
    );
    let Ok(Message::Insert { relation: OID, new }) = Message::parse(&messages[1]) else {
        panic!("no insert: {messages:?}");
    };
    let texts = ["1", "q\"\\\n\u{1}é", "t", "1.50", "\\xdeadbeef"];
    assert_eq!(values(new), texts.map(|text| Value::Text(text.as_bytes())));
    // What is missing from an update is unchanged, and a key that did not change is not sent.
    let messages = translate(&mut translator, UPDATE);
    let Ok(Message::Update { old: None, new, .. }) = Message::parse(&messages[0]) else {
        panic!("no update: {messages:?}");
    };
    let one = Value::Text(b"1");
    let no = Value::Text(b"f");
    let empty = Value::Text(b"\\x");
    assert_eq!(values(new), [one, Value::Unchanged, no, Value::Null, empty]);
    let other_key = UPDATE.replace(
        r#""identity":[{"name":"id","typeoid":23,"value":1}"#,
        r#""identity":[{"name":"id","typeoid":23,"value":7}"#,
    );
    let messages = translate(&mut translator, &other_key);
    let Ok(Message::Update {
        old: Some(OldTuple::Key(old)),
        ..
    }) = Message::parse(&messages[0])
    else {
        panic!("no update of the key: {messages:?}");
    };
    let seven = Value::Text(b"7");
    assert_eq!(
        values(old),
        [seven, Value::Null, Value::Null, Value::Null, Value::Null]
    );
    let messages = translate(&mut translator, DELETE);
    assert!(matches!(
        Message::parse(&messages[0]),
        Ok(Message::Delete {
            old: OldTuple::Key(_),
            ..
        })
    ));
    let messages = translate(&mut translator, TRUNCATE);
    let Ok(Message::Truncate { relations, .. }) = Message::parse(&messages[0]) else {
        panic!("no truncate: {messages:?}");
    };
    assert_eq!(relations.collect::<Vec<_>>(), [OID]);
}

#[test]
fn a_row_of_another_version_of_the_table_is_described_by_itself() {
    let mut translator = translator(published());
    translate(&mut translator, INSERT);
    // Before a column was dropped and while another was an integer.
    let older = INSERT
        .replace(r#""n","typeoid":1700"#, r#""n","typeoid":23"#)
        .replace(
            r#"{"name":"g""#,
            r#"{"name":"gone","typeoid":23,"value":5},{"name":"g""#,
        );
    let messages = translate(&mut translator, &older);
    let Ok(Message::Relation(relation)) = Message::parse(&messages[0]) else {
        panic!("no description: {messages:?}");
    };
    let names: Vec<_> = relation
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.type_oid, c.identity))
        .collect();
    assert_eq!(names[0], ("id", 23, true));
    assert_eq!(
        names[3..],
        [("n", 23, false), ("by", 17, false), ("gone", 23, false)]
    );
    // What a table does not have any more is gone, not unchanged.
    let messages = translate(&mut translator, UPDATE);
    assert_eq!(
        Message::parse(&messages[0]),
        Ok(Message::Relation(published().relation))
    );
    // An old row of all columns was written under REPLICA IDENTITY FULL, whatever it is now.
    let row = &INSERT[INSERT.find(r#""columns":["#).unwrap() + 11..INSERT.len() - 2];
    let full = DELETE.replace(r#"{"name":"id","typeoid":23,"value":2}"#, row);
    let messages = translate(&mut translator, &full);
    let Ok(Message::Relation(relation)) = Message::parse(&messages[0]) else {
        panic!("no description: {messages:?}");
    };
    assert_eq!(relation.replica_identity, ReplicaIdentity::Full);
    assert!(matches!(
        Message::parse(&messages[1]),
        Ok(Message::Delete {
            old: OldTuple::Full(_),
            ..
        })
    ));
}

#[test]
fn a_table_is_asked_for_in_each_transaction_that_is_newer_than_the_answer() {
    let mut translator = Translator::new();
    translate(&mut translator, BEGIN);
    let insert = Record::parse(INSERT.as_bytes()).unwrap();
    let unknown = |translator: &mut Translator| matches!(translator.translate(&insert), Ok(Translated::Unknown(asked)) if asked == table());
    assert!(unknown(&mut translator));
    assert!(translator.learn_table(&table(), Lsn(0x150_F000), Lookup::Published(published())));
    assert_eq!(translate(&mut translator, INSERT).len(), 2);
    let later = BEGIN.replace("0/150DFF0", "0/150F000");
    translate(&mut translator, &later);
    assert!(unknown(&mut translator));
    // A table that is gone is what it was.
    assert!(translator.learn_table(&table(), Lsn::ZERO, Lookup::Gone));
    assert_eq!(translate(&mut translator, INSERT).len(), 1);
    let mut translator = Translator::new();
    assert!(!translator.learn_table(&table(), Lsn::ZERO, Lookup::Gone));
    assert!(translate(&mut translator, INSERT).is_empty());
}

#[test]
fn an_update_from_before_the_catalogs_changed_still_names_what_it_left_unchanged() {
    let before = published();
    let mut translator = translator(before.clone());
    translate(&mut translator, INSERT);
    // The catalogs are asked again when another column has another type already.
    let mut now = before.clone();
    now.relation.columns[3].type_oid = 25;
    assert!(translator.learn_table(&table(), Lsn(0x200_0000), Lookup::Published(now.clone())));
    let messages = translate(&mut translator, UPDATE);
    let Ok(Message::Update { new, .. }) = Message::parse(&messages[0]) else {
        panic!("no update by the description before: {messages:?}");
    };
    assert_eq!(new.values().nth(1), Some(Value::Unchanged));
    // And the first row that was written after it is described by them.
    let newer = UPDATE.replace(
        r#""n","typeoid":1700,"value":null"#,
        r#""n","typeoid":25,"value":"x""#,
    );
    let messages = translate(&mut translator, &newer);
    assert_eq!(Message::parse(&messages[0]), Ok(Message::Relation(now.relation)));
}

#[test]
fn what_is_not_published_is_left_out_and_a_row_filter_refused() {
    let nothing = |change: fn(&mut Published), messages: &[&str]| {
        let mut published = published();
        change(&mut published);
        let mut translator = translator(published);
        for message in messages {
            assert!(translate(&mut translator, message).is_empty(), "{message}");
        }
    };
    nothing(|published| published.insert = false, &[INSERT]);
    nothing(|published| published.update = false, &[UPDATE]);
    nothing(|published| published.delete = false, &[DELETE]);
    nothing(|published| published.truncate = false, &[TRUNCATE]);
    nothing(|published| published.via_root = true, &[TRUNCATE]);
    let mut filtered = published();
    filtered.row_filter = true;
    let mut translator = translator(filtered);
    let insert = Record::parse(INSERT.as_bytes()).unwrap();
    assert_eq!(
        translator.translate(&insert).unwrap_err(),
        Error::RowFilter(table())
    );
}

#[test]
fn what_is_no_message_is_refused_in_words() {
    let refused = |message: &str| match Record::parse(message.as_bytes()) {
        Err(error) => error,
        Ok(record) => translator(published()).translate(&record).unwrap_err(),
    };
    assert!(matches!(refused(""), Error::Json(_)));
    assert!(matches!(refused(r#"{"xid":1}"#), Error::Json(_)));
    assert_eq!(refused(r#"{"action":"X"}"#), Error::Action("X".into()));
    assert_eq!(refused(r#"{"action":"B","xid":1}"#), Error::Missing("lsn"));
    assert_eq!(
        refused(&BEGIN.replace("0/150DFF0", "x")),
        Error::Field {
            field: "lsn",
            value: "x".into()
        }
    );
    assert!(matches!(
        refused(&BEGIN.replace("2026-11", "2026-13")),
        Error::Field {
            field: "timestamp",
            ..
        }
    ));
    assert_eq!(
        refused(&INSERT.replace("\"schema\"", "\"x\"")),
        Error::Missing("schema")
    );
    let value = |of: &str| Error::Value { column: of.into() };
    assert_eq!(refused(&INSERT.replace("\"deadbeef\"", "{}")), value("by"));
    assert_eq!(refused(&INSERT.replace("1.50", "true")), value("n"));
    for message in ALL {
        for cut in 0..message.len() {
            assert!(
                Record::parse(&message.as_bytes()[..cut]).is_err(),
                "cut at {cut}: {message}"
            );
        }
    }
}

proptest! {
    #[test]
    fn no_damage_panics_and_what_comes_of_it_is_readable(
        which in 0..ALL.len(), at in 0usize..600, byte: u8, bytes: Vec<u8>
    ) {
        drop(Record::parse(&bytes));
        let mut message = ALL[which].as_bytes().to_vec();
        let at = at % message.len();
        message[at] = byte;
        let Ok(record) = Record::parse(&message) else { return Ok(()) };
        let mut translator = translator(published());
        // A name may hold a zero byte now, which pgoutput's may not: an error is right, too.
        if let Ok(Translated::Messages(messages)) = translator.translate(&record) {
            messages.iter().for_each(|message| drop(Message::parse(message)));
        }
    }
}

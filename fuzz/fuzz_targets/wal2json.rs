//! Bytes as messages of wal2json's: an error, or messages that are read back as pgoutput's.
//!
//! The input is a stream of messages, one a line. What the catalogs would answer follows from the table's name.

#![no_main]

use libfuzzer_sys::fuzz_target;
use walcast::decode::Message;
use walcast::decode::wal2json::{Error, Record, Translated, Translator};
use walcast::event::{Lookup, Published, ReplicaIdentity, StreamColumn, StreamRelation, TableName};
use walcast::lsn::Lsn;
use walcast::types::Attnum;

fuzz_target!(|bytes: &[u8]| {
    let mut translator = Translator::new();
    for line in bytes.split(|&byte| byte == b'\n') {
        let Ok(record) = Record::parse(line) else { continue };
        let unknown = match translator.translate(&record) {
            Ok(Translated::Unknown(table)) => table,
            Ok(Translated::Messages(messages)) => {
                check(messages.iter());
                continue;
            }
            Err(_) => continue,
        };
        translator.learn_table(&unknown, Lsn::ZERO, answer(&unknown));
        match translator.translate(&record) {
            Ok(Translated::Messages(messages)) => check(messages.iter()),
            Ok(Translated::Unknown(table)) => panic!("{table} was learned and is unknown"),
            Err(Error::RowFilter(_)) => panic!("there is none"),
            Err(_) => {}
        }
    }
});

/// They are pgoutput's, unless a name holds a zero byte, which no name of Postgres' does.
fn check<'a>(messages: impl Iterator<Item = &'a [u8]>) {
    for message in messages {
        if let Err(error) = Message::parse(message) {
            assert!(message.first() == Some(&b'R'), "{error}: {message:?}");
        }
    }
}

fn answer(table: &TableName) -> Lookup {
    let column = |name: &str, type_oid, identity| StreamColumn {
        name: name.into(),
        type_oid,
        typmod: -1,
        identity,
    };
    let identity = match table.name.len() % 4 {
        0 => ReplicaIdentity::Default,
        1 => ReplicaIdentity::Full,
        2 => ReplicaIdentity::Index,
        _ => return Lookup::Unpublished,
    };
    Lookup::Published(Published {
        relation: StreamRelation {
            oid: 7,
            table: table.clone(),
            replica_identity: identity,
            columns: vec![
                column("id", 23, true),
                column("v", 25, identity == ReplicaIdentity::Full),
            ],
        },
        numbers: vec![Attnum::new(1), Attnum::new(2)],
        order: ["id", "v", "g"].map(str::to_owned).to_vec(),
        seen: Lsn(0x200_0000),
        renamed: Vec::new(),
        left_out: vec!["g".into()],
        via_root: false,
        row_filter: false,
        insert: true,
        update: true,
        delete: true,
        truncate: true,
    })
}

//! Resuming a subscription: which table had its name, and which columns that had, since the client's position, by the
//! log.

use std::sync::Arc;

use crate::event::Relation;
use crate::log::{Holder, TableHistory};
use crate::lsn::{Position, Start};
use crate::matching::{Query, changed_message, unjudged_message};
use crate::protocol::{Detail, ErrorCode, ErrorMessage, Opening, Subscribe};

/// The place from which a subscription goes on, and the table whose past it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Resumed {
    pub(super) from: Position,
    pub(super) oid: u32,
}

/// The place where a subscription that starts at `from` goes on, which is not before its table had the name. `None` if
/// the log does not know the name.
pub(super) fn resumed(
    tables: &TableHistory,
    subscribe: &Subscribe,
    from: Position,
) -> Result<Option<Resumed>, ErrorMessage> {
    let Some(Holder { oid, since }) = tables.holder(&subscribe.table) else {
        return Ok(None);
    };
    let begins = Position::after(since);
    match subscribe.opening {
        Opening::Changes(Start::After(_)) if from < begins => {
            let message = format!(
                "another table was called {} before {since}: resubscribe with a new snapshot",
                subscribe.table
            );
            Err(ErrorMessage::new(ErrorCode::ResumeExpired, message).with(Detail::Earliest(since)))
        }
        _ => {
            let from = from.max(begins);
            Ok(Some(Resumed { from, oid }))
        }
    }
}

/// Refuses a subscription if a column that it needs has become another one since its client's position. `since` are the
/// versions of the table since then.
pub(super) fn check_versions(query: &Query, since: Option<Vec<Arc<Relation>>>) -> Result<(), ErrorMessage> {
    let Some(since) = since else {
        let message = format!(
            "{} was changed too often since: resubscribe with a new snapshot",
            query.table()
        );
        return Err(ErrorMessage::new(ErrorCode::SchemaChanged, message));
    };
    let changed = |version: &Arc<Relation>| {
        changed_message(query, version).or_else(|| unjudged_message(query, version))
    };
    let mut changes = since.iter().filter_map(changed);
    changes.next().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{Op, TableName, Timestamp, Transaction};
    use crate::log::memory::MemoryLog;
    use crate::log::{Log, TableVersion};
    use crate::lsn::Lsn;
    use crate::matching::tests::{CALLER, relation};
    use crate::protocol::ClientMessage;
    use crate::types::Attnum;

    /// The table of that OID and name, with columns of those numbers.
    fn table(oid: u32, name: &str, columns: [(&str, i16); 2]) -> Relation {
        let names = columns.map(|(name, _)| name);
        let mut relation = (*relation(&names)).clone();
        relation.oid = oid;
        relation.table = TableName::new("public", name);
        for (column, (_, number)) in relation.columns.iter_mut().zip(columns) {
            column.attnum = Attnum::new(number);
        }
        relation
    }

    /// A writer that notes tables as ingest does, and has a transaction on each.
    struct Written(MemoryLog);

    impl Written {
        fn show(&self, relation: &Relation, end: u64) {
            let noted = self.0.tables();
            let named = noted
                .borrow()
                .showing(&relation.table, relation.oid, self.0.head());
            named.iter().for_each(|record| self.0.note_table(record));
            let version = TableVersion {
                seen: Lsn(end - 1),
                highest: 2,
                relation: Arc::new(relation.clone()),
            };
            self.0.note_table(&version.into());
            let transaction = Transaction {
                xid: 1,
                commit: Lsn(end - 1),
                end: Lsn(end),
                committed_at: Timestamp(0),
            };
            self.0.commit(relation, &[Op::Truncate], &transaction);
        }
    }

    /// The answer to a client that resumes at the end of a transaction, found with nothing but the log: the table that
    /// it goes on with.
    fn answer(log: &impl Log, table: &str, predicate: &str, from: u64) -> Result<u32, ErrorCode> {
        let from = Position::after(Lsn(from));
        let message = json!({
            "type": "subscribe", "id": "s", "table": table, "where": predicate, "columns": ["id"],
            "from": from.to_string(),
        });
        let Ok(ClientMessage::Subscribe(subscribe)) = ClientMessage::parse(&message.to_string()) else {
            panic!("it is a subscribe message")
        };
        let tables = log.tables();
        let tables = tables.borrow();
        let resumed = resumed(&tables, &subscribe, from).map_err(|error| error.code)?;
        let Resumed { from, oid } = resumed.expect("the log knows the name");
        let mut query = Query::new(&subscribe, &CALLER).unwrap();
        query.hold_to_key(tables.newest_version(oid).unwrap());
        check_versions(&query, tables.versions_since(oid, from)).map_err(|error| error.code)?;
        Ok(oid)
    }

    #[test]
    fn who_has_nothing_but_a_log_refuses_to_go_on_across_other_tables_and_columns_of_the_name() {
        let log = Written(MemoryLog::new());
        log.show(&table(1, "t", [("id", 1), ("a", 2)]), 100);
        // A reader that was there early, and below one that comes once all is written.
        let early = log.0.elsewhere();
        assert_eq!(answer(&early, "t", "a = 1", 100), Ok(1));
        // Another table takes the name.
        log.show(&table(1, "was", [("id", 1), ("a", 2)]), 200);
        log.show(&table(2, "t", [("id", 1), ("a", 2)]), 300);
        // And columns change places under their names, without a row.
        let swapped = TableVersion {
            seen: Lsn(350),
            highest: 3,
            relation: Arc::new(table(2, "t", [("id", 1), ("a", 3)])),
        };
        log.0.note_table(&swapped.into());
        for log in [&log.0, &early, &log.0.elsewhere()] {
            assert_eq!(answer(log, "t", "a = 1", 100), Err(ErrorCode::ResumeExpired));
            assert_eq!(answer(log, "t", "a = 1", 300), Err(ErrorCode::SchemaChanged));
            assert_eq!(answer(log, "t", "id = 1", 300), Ok(2), "it needs no other column");
            assert_eq!(answer(log, "t", "a = 1", 400), Ok(2));
            assert_eq!(answer(log, "was", "a = 1", 100), Err(ErrorCode::ResumeExpired));
            assert_eq!(answer(log, "was", "a = 1", 200), Ok(1));
        }
    }
}

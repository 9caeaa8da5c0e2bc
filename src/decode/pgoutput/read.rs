//! Reading a message: its first byte says which one it is, and what follows.

use super::error::Error;
use super::fields::Fields;
use super::message::{Message, TruncatedRelations};
use crate::event::{OldTuple, ReplicaIdentity, StreamColumn, StreamRelation, TableName, Tuple};

impl<'a> Message<'a> {
    /// Reads one message: the whole of an XLogData's payload.
    pub fn parse(message: &'a [u8]) -> Result<Message<'a>, Error> {
        let mut fields = Fields::new(message);
        let f = &mut fields;
        let (name, parsed) = match f.u8("message type")? {
            b'B' => ("Begin", begin(f)?),
            b'C' => ("Commit", commit(f)?),
            b'O' => ("Origin", origin(f)?),
            b'R' => ("Relation", relation(f)?),
            b'Y' => ("Type", type_name(f)?),
            b'I' => ("Insert", insert(f)?),
            b'U' => ("Update", update(f)?),
            b'D' => ("Delete", delete(f)?),
            b'T' => ("Truncate", truncate(f)?),
            b'M' => ("Message", logical(f)?),
            b'S' => ("Stream Start", stream_start(f)?),
            b'E' => ("Stream Stop", Message::StreamStop),
            b'c' => ("Stream Commit", stream_commit(f)?),
            b'A' => ("Stream Abort", stream_abort(f)?),
            other => return Err(unexpected(other)),
        };
        fields.finish(name)?;
        Ok(parsed)
    }
}

fn begin<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    Ok(Message::Begin {
        commit: fields.lsn("final lsn")?,
        committed_at: fields.timestamp("commit timestamp")?,
        xid: fields.u32("xid")?,
    })
}

fn commit<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    no_flags(fields, "flags of a commit")?;
    Ok(Message::Commit {
        commit: fields.lsn("commit lsn")?,
        end: fields.lsn("end lsn")?,
        committed_at: fields.timestamp("commit timestamp")?,
    })
}

/// "Currently unused": a server that uses them says something that we do not know.
fn no_flags(fields: &mut Fields<'_>, field: &'static str) -> Result<(), Error> {
    match fields.u8(field)? {
        0 => Ok(()),
        value => Err(Error::BadByte { field, value }),
    }
}

fn origin<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    Ok(Message::Origin {
        commit: fields.lsn("origin's commit lsn")?,
        name: fields.string("origin's name")?,
    })
}

fn relation<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    let oid = fields.u32("relation id")?;
    let schema = schema(fields)?;
    let name = fields.string("relation's name")?;
    let replica_identity = match fields.u8("replica identity")? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        value => {
            return Err(Error::BadByte {
                field: "replica identity",
                value,
            });
        }
    };
    let count = fields.u16("number of columns")?;
    // Not `with_capacity(count)`: a count is a claim until the columns are there.
    let columns = (0..count)
        .map(|_| column(fields))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Message::Relation(StreamRelation {
        oid,
        table: TableName::new(schema, name),
        replica_identity,
        columns,
    }))
}

fn column(fields: &mut Fields<'_>) -> Result<StreamColumn, Error> {
    const PART_OF_THE_KEY: u8 = 1;
    Ok(StreamColumn {
        identity: fields.u8("column's flags")? & PART_OF_THE_KEY != 0,
        name: fields.string("column's name")?.to_owned(),
        type_oid: fields.u32("column's type")?,
        typmod: fields.i32("column's type modifier")?,
    })
}

fn type_name<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    Ok(Message::Type {
        oid: fields.u32("type id")?,
        schema: schema(fields)?,
        name: fields.string("type's name")?,
    })
}

/// A schema's name; `pg_catalog` is sent as an empty string.
fn schema<'a>(fields: &mut Fields<'a>) -> Result<&'a str, Error> {
    Ok(match fields.string("schema's name")? {
        "" => "pg_catalog",
        name => name,
    })
}

fn insert<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    let relation = fields.u32("relation id")?;
    let new = new_row(fields)?;
    Ok(Message::Insert { relation, new })
}

fn update<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    let relation = fields.u32("relation id")?;
    let (old, new) = match fields.u8("kind of row")? {
        b'N' => (None, fields.tuple("new row")?),
        kind => (Some(old_row(kind, fields)?), new_row(fields)?),
    };
    Ok(Message::Update { relation, old, new })
}

fn delete<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    let relation = fields.u32("relation id")?;
    let kind = fields.u8("kind of row")?;
    let old = old_row(kind, fields)?;
    Ok(Message::Delete { relation, old })
}

fn new_row<'a>(fields: &mut Fields<'a>) -> Result<Tuple<'a>, Error> {
    match fields.u8("kind of row")? {
        b'N' => fields.tuple("new row"),
        value => Err(Error::BadByte {
            field: "kind of row",
            value,
        }),
    }
}

fn old_row<'a>(kind: u8, fields: &mut Fields<'a>) -> Result<OldTuple<'a>, Error> {
    match kind {
        b'K' => fields.tuple("old key").map(OldTuple::Key),
        b'O' => fields.tuple("old row").map(OldTuple::Full),
        value => Err(Error::BadByte {
            field: "kind of row",
            value,
        }),
    }
}

fn truncate<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    const CASCADE: u8 = 1;
    const RESTART_IDENTITY: u8 = 2;
    let count = fields.u32("number of relations")? as usize;
    let options = fields.u8("options")?;
    let relations = fields.take(count.saturating_mul(4), "relation ids")?;
    Ok(Message::Truncate {
        cascade: options & CASCADE != 0,
        restart_identity: options & RESTART_IDENTITY != 0,
        relations: TruncatedRelations(relations),
    })
}

fn logical<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    const TRANSACTIONAL: u8 = 1;
    let transactional = fields.u8("flags")? & TRANSACTIONAL != 0;
    let at = fields.lsn("message's lsn")?;
    let prefix = fields.string("message's prefix")?;
    let length = fields.u32("message's length")? as usize;
    Ok(Message::Logical {
        transactional,
        at,
        prefix,
        content: fields.take(length, "message's content")?,
    })
}

fn stream_start<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    let xid = fields.u32("xid")?;
    let field = "flag of the first block";
    let first = match fields.u8(field)? {
        0 => false,
        1 => true,
        value => return Err(Error::BadByte { field, value }),
    };
    Ok(Message::StreamStart { xid, first })
}

fn stream_commit<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    let xid = fields.u32("xid")?;
    no_flags(fields, "flags of a stream commit")?;
    Ok(Message::StreamCommit {
        xid,
        commit: fields.lsn("commit lsn")?,
        end: fields.lsn("end lsn")?,
        committed_at: fields.timestamp("commit timestamp")?,
    })
}

fn stream_abort<'a>(fields: &mut Fields<'a>) -> Result<Message<'a>, Error> {
    Ok(Message::StreamAbort {
        xid: fields.u32("xid")?,
        subxid: fields.u32("subtransaction's xid")?,
    })
}

fn unexpected(message: u8) -> Error {
    Error::Unexpected(match message {
        b'b' => "Begin Prepare",
        b'P' => "Prepare",
        b'K' => "Commit Prepared",
        b'r' => "Rollback Prepared",
        b'p' => "Stream Prepare",
        other => return Error::UnknownMessage(other),
    })
}

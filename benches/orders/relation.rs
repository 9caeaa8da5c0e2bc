//! The table that the benchmarks of the filter share.

use walcast::event::{Collation, Column, Relation, ReplicaIdentity, TableName};
use walcast::types::{Kind, Type};

pub(crate) fn relation() -> Relation {
    let kinds = [
        ("id", "bigint", Kind::Int8),
        ("tenant_id", "integer", Kind::Int4),
        ("status", "text", Kind::Text),
        ("amount", "numeric", Kind::Numeric),
        ("paid", "boolean", Kind::Bool),
        ("at", "timestamp with time zone", Kind::TimestampTz),
    ];
    let columns = kinds.into_iter().map(|(name, of, kind)| Column {
        name: name.into(),
        ty: Type {
            oid: 0,
            name: of.into(),
            kind,
        },
        typmod: -1,
        identity: true,
        collation: Collation::Deterministic,
        ctype: Default::default(),
        attnum: Default::default(),
    });
    Relation {
        oid: 1,
        table: TableName::new("public", "orders"),
        replica_identity: ReplicaIdentity::Full,
        columns: columns.collect(),
        key: vec![0],
        logging: Default::default(),
    }
}

//! Relations for tests of predicates.

use crate::event::{Collation, Column, Relation, ReplicaIdentity, TableName};
use crate::types::{Ctype, Kind, Type};

/// A column outside the replica identity, without a collation.
pub(super) fn column(name: &str, kind: Kind) -> Column {
    Column {
        name: name.into(),
        ty: Type {
            oid: 0,
            name: kind.name().into(),
            kind,
        },
        typmod: -1,
        identity: false,
        collation: Collation::None,
        ctype: Ctype::Unknown,
        attnum: Default::default(),
    }
}

/// The table `public.t`, whose key is its first column.
pub(super) fn table(
    replica_identity: ReplicaIdentity,
    columns: impl IntoIterator<Item = Column>,
) -> Relation {
    Relation {
        oid: 1,
        table: TableName::new("public", "t"),
        replica_identity,
        columns: columns.into_iter().collect(),
        key: vec![0],
        logging: Default::default(),
    }
}

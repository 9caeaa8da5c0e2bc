//! [`OversizeTrimmer`]: trims rows that are too large before they reach the journal. Pure.
//!
//! Large values are removed, except those of the key. What stays identifies the row, and decides predicates that read
//! only small columns. A removed value becomes [`Value::Unchanged`], which fits: it is not null, and not known. It is
//! removed from both versions of the row, so that neither is taken for the other.

use crate::event::{OldTuple, Op, Relation, Tuple, Value, encode_values};

/// Values up to this many bytes stay, which is not much even in the widest row.
const SMALL: usize = 1024;

/// Trims rows of more than a number of bytes.
#[derive(Debug)]
pub(super) struct OversizeTrimmer {
    max_bytes: usize,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl OversizeTrimmer {
    /// A trimmer of rows of more than `max_bytes`, as the stream has them: text, and a few bytes around each value.
    pub(super) fn new(max_bytes: usize) -> OversizeTrimmer {
        OversizeTrimmer {
            max_bytes,
            old: Vec::new(),
            new: Vec::new(),
        }
    }

    /// The trimmed change, if its row is too large; `None` otherwise.
    #[inline]
    pub(super) fn cut<'a>(&'a mut self, relation: &Relation, op: &Op<'a>) -> Option<Op<'a>> {
        let (old, new) = match op {
            Op::Insert { new } => (None, Some(*new)),
            Op::Update { old, new } => (old.map(|old| old.tuple()), Some(*new)),
            Op::Delete { old } => (Some(old.tuple()), None),
            Op::Truncate => (None, None),
        };
        let is_large = |tuple: &Tuple<'_>| tuple.encoded_len() > self.max_bytes;
        if !old.as_ref().is_some_and(is_large) && !new.as_ref().is_some_and(is_large) {
            return None;
        }
        self.write(relation, old, new);
        let old = || read(&self.old);
        let new = || read(&self.new);
        Some(match op {
            Op::Insert { .. } => Op::Insert { new: new() },
            Op::Update { old: None, .. } => Op::Update {
                old: None,
                new: new(),
            },
            Op::Update {
                old: Some(OldTuple::Key(_)),
                ..
            } => Op::Update {
                old: Some(OldTuple::Key(old())),
                new: new(),
            },
            Op::Update {
                old: Some(OldTuple::Full(_)),
                ..
            } => Op::Update {
                old: Some(OldTuple::Full(old())),
                new: new(),
            },
            Op::Delete {
                old: OldTuple::Key(_),
            } => Op::Delete {
                old: OldTuple::Key(old()),
            },
            Op::Delete {
                old: OldTuple::Full(_),
            } => Op::Delete {
                old: OldTuple::Full(old()),
            },
            Op::Truncate => Op::Truncate,
        })
    }

    fn write(&mut self, relation: &Relation, old: Option<Tuple<'_>>, new: Option<Tuple<'_>>) {
        let mut goes = vec![false; relation.columns.len()];
        for row in [old, new].into_iter().flatten() {
            for (goes, value) in goes.iter_mut().zip(row.values()) {
                *goes |= matches!(value, Value::Text(text) if text.len() > SMALL);
            }
        }
        for &index in &relation.key {
            if let Some(goes) = goes.get_mut(index) {
                *goes = false;
            }
        }
        for (row, out) in [(old, &mut self.old), (new, &mut self.new)] {
            let Some(row) = row else { continue };
            let rest: Vec<Value<'_>> = row
                .values()
                .zip(&goes)
                .map(|(value, goes)| match value {
                    Value::Text(_) if *goes => Value::Unchanged,
                    value => value,
                })
                .collect();
            out.clear();
            encode_values(rest.into_iter(), out);
        }
    }
}

fn read(encoded: &[u8]) -> Tuple<'_> {
    Tuple::parse(encoded).expect("it was encoded just now").0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Collation, Column, ReplicaIdentity, TableName};
    use crate::types::{Kind, Type};

    fn relation() -> Relation {
        let column = |name: &str| Column {
            name: name.into(),
            ty: Type {
                oid: 25,
                name: "text".into(),
                kind: Kind::Text,
            },
            typmod: -1,
            identity: true,
            collation: Collation::None,
            ctype: Default::default(),
            attnum: Default::default(),
        };
        Relation {
            oid: 1,
            table: TableName::new("public", "t"),
            replica_identity: ReplicaIdentity::Full,
            columns: vec![column("id"), column("small"), column("a"), column("b")],
            key: vec![0],
            logging: Default::default(),
        }
    }

    fn encoded(values: &[Value<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_values(values.iter().copied(), &mut out);
        out
    }

    #[test]
    fn a_row_within_the_bound_is_left_alone() {
        let row = encoded(&[
            Value::Text(b"1"),
            Value::Null,
            Value::Text(&[b'x'; 1025]),
            Value::Null,
        ]);
        let op = Op::Insert { new: read(&row) };
        assert_eq!(OversizeTrimmer::new(row.len()).cut(&relation(), &op), None);
        assert!(
            OversizeTrimmer::new(row.len() - 3)
                .cut(&relation(), &op)
                .is_some()
        );
        assert_eq!(OversizeTrimmer::new(0).cut(&relation(), &Op::Truncate), None);
    }

    #[test]
    fn large_values_go_from_both_versions_and_the_key_stays() {
        let key = [b'k'; 3000];
        let large = [b'x'; 5000];
        let medium = [b'y'; 2000];
        let old = encoded(&[
            Value::Text(&key),
            Value::Text(b"s"),
            Value::Text(b"1"),
            Value::Text(&medium),
        ]);
        let new = encoded(&[
            Value::Text(&key),
            Value::Null,
            Value::Text(&large),
            Value::Unchanged,
        ]);
        let op = Op::Update {
            old: Some(OldTuple::Full(read(&old))),
            new: read(&new),
        };
        let mut trimmer = OversizeTrimmer::new(6000);
        let Some(Op::Update {
            old: Some(OldTuple::Full(old)),
            new,
        }) = trimmer.cut(&relation(), &op)
        else {
            panic!("it was not cut to what it was");
        };
        let values = |tuple: Tuple<'_>| -> Vec<String> {
            let show = |value| match value {
                Value::Null => "null".to_owned(),
                Value::Unchanged => "gone".to_owned(),
                Value::Text(text) => text.len().to_string(),
            };
            tuple.values().map(show).collect()
        };
        assert_eq!(values(old), ["3000", "1", "gone", "gone"]);
        assert_eq!(values(new), ["3000", "null", "gone", "gone"]);
    }
}

//! [`Projection`]: the columns of a row that a client asked for, as JSON.

use super::{Relation, Tuple, Value};
use crate::types::Kind;
use crate::types::json::{Numbers, write_string, write_value};

/// Some of a relation's columns, prepared for writing rows as `row_to_json` does: `{"id":1,"name":"x"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Ascending by index.
    columns: Box<[Projected]>,
    numbers: Numbers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Projected {
    index: usize,
    /// The name as a JSON string.
    name: Box<[u8]>,
    kind: Kind,
}

impl Projection {
    /// A projection to the columns of these indexes, in the relation's order whatever theirs; others are ignored.
    pub fn new(relation: &Relation, columns: &[usize], numbers: Numbers) -> Projection {
        let chosen = relation.columns.iter().enumerate();
        let columns = chosen
            .filter(|(index, _)| columns.contains(index))
            .map(|(index, column)| {
                let mut name = Vec::new();
                write_string(column.name.as_bytes(), &mut name);
                Projected {
                    index,
                    name: name.into(),
                    kind: column.ty.kind.clone(),
                }
            });
        Projection {
            columns: columns.collect(),
            numbers,
        }
    }

    /// A projection to all columns.
    pub fn all(relation: &Relation, numbers: Numbers) -> Projection {
        let columns: Vec<usize> = (0..relation.columns.len()).collect();
        Projection::new(relation, &columns, numbers)
    }

    /// Appends the row as a JSON object and returns how many columns it lacks because Postgres did not log them.
    ///
    /// Values that the update did not change are taken from `fill`, the old row, as far as it has them.
    pub fn write_row(&self, tuple: Tuple<'_>, fill: Option<Tuple<'_>>, out: &mut Vec<u8>) -> usize {
        let mut unchanged = 0;
        let mut separator = b'{';
        for (column, value) in self.values(tuple, fill) {
            if value == Value::Unchanged {
                unchanged += 1;
                continue;
            }
            out.push(separator);
            separator = b',';
            out.extend_from_slice(&column.name);
            out.push(b':');
            match value {
                Value::Text(text) => write_value(&column.kind, text, self.numbers, out),
                _ => out.extend_from_slice(b"null"),
            }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
        unchanged
    }

    /// Appends the names of the columns that [`Projection::write_row`] leaves out, as a JSON array.
    pub fn write_unchanged(&self, tuple: Tuple<'_>, fill: Option<Tuple<'_>>, out: &mut Vec<u8>) {
        out.push(b'[');
        let mut is_first = true;
        for (column, _) in self
            .values(tuple, fill)
            .filter(|(_, value)| *value == Value::Unchanged)
        {
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            out.extend_from_slice(&column.name);
        }
        out.push(b']');
    }

    /// The projected columns and their values: one walk over the tuple, and one over the old row.
    fn values<'a>(
        &'a self,
        tuple: Tuple<'a>,
        fill: Option<Tuple<'a>>,
    ) -> impl Iterator<Item = (&'a Projected, Value<'a>)> {
        let mut values = tuple.values();
        let mut old = fill.map(|tuple| tuple.values());
        let mut next = 0;
        self.columns.iter().map_while(move |column| {
            let skip = column.index - next;
            next = column.index + 1;
            let value = values.nth(skip)?;
            let old = old.as_mut().and_then(|old| old.nth(skip));
            Some(match (value, old) {
                // What was not logged again is not null: a null here is a column that an old key does not hold.
                (Value::Unchanged, Some(old @ Value::Text(_))) => (column, old),
                (value, _) => (column, value),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Collation, Column, ReplicaIdentity, TableName, encode_values};
    use crate::types::Type;

    fn relation() -> Relation {
        let column = |name: &str, kind: Kind| Column {
            name: name.into(),
            ty: Type {
                oid: 0,
                name: String::new(),
                kind,
            },
            typmod: -1,
            identity: false,
            collation: Collation::None,
            ctype: Default::default(),
            attnum: Default::default(),
        };
        Relation {
            oid: 1,
            table: TableName::new("public", "t"),
            replica_identity: ReplicaIdentity::Default,
            columns: vec![
                column("id", Kind::Int8),
                column("a \"name\"", Kind::Text),
                column("doc", Kind::Jsonb),
                column("on", Kind::Bool),
            ],
            key: vec![0],
            logging: Default::default(),
        }
    }

    fn encoded(values: &[Value<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_values(values.iter().copied(), &mut bytes);
        bytes
    }

    fn written(
        projection: &Projection,
        row: &[Value<'_>],
        fill: Option<&[Value<'_>]>,
    ) -> (String, usize, String) {
        let row = encoded(row);
        let fill = fill.map(encoded);
        let tuple = Tuple::parse(&row).unwrap().0;
        let fill = fill.as_ref().map(|fill| Tuple::parse(fill).unwrap().0);
        let mut out = Vec::new();
        let mut names = Vec::new();
        let unchanged = projection.write_row(tuple, fill, &mut out);
        projection.write_unchanged(tuple, fill, &mut names);
        (
            String::from_utf8(out).unwrap(),
            unchanged,
            String::from_utf8(names).unwrap(),
        )
    }

    const ROW: [Value<'static>; 4] = [
        Value::Text(b"7"),
        Value::Null,
        Value::Text(b"{\"a\": 1}"),
        Value::Text(b"t"),
    ];
    const TOASTED: [Value<'static>; 4] = [
        Value::Text(b"7"),
        Value::Unchanged,
        Value::Unchanged,
        Value::Text(b"f"),
    ];

    #[test]
    fn a_row_is_written_as_an_object_of_the_chosen_columns() {
        let relation = relation();
        let row =
            |columns: &[usize], numbers| written(&Projection::new(&relation, columns, numbers), &ROW, None).0;
        assert_eq!(
            row(&[3, 0, 1, 2], Numbers::Native),
            r#"{"id":7,"a \"name\"":null,"doc":{"a": 1},"on":true}"#
        );
        assert_eq!(row(&[3, 0, 3], Numbers::Strings), r#"{"id":"7","on":true}"#);
        assert_eq!(row(&[], Numbers::Native), "{}");
    }

    #[test]
    fn what_was_not_logged_is_left_out_and_named_or_taken_from_the_old_row() {
        let all = Projection::all(&relation(), Numbers::Native);
        let without = (
            r#"{"id":7,"on":false}"#.to_owned(),
            2,
            r#"["a \"name\"","doc"]"#.to_owned(),
        );
        assert_eq!(written(&all, &TOASTED, None), without);
        let filled = written(
            &all,
            &TOASTED,
            Some(&[Value::Null, Value::Text(b"x"), Value::Text(b"1"), Value::Null]),
        );
        assert_eq!(
            filled,
            (
                r#"{"id":7,"a \"name\"":"x","doc":1,"on":false}"#.to_owned(),
                0,
                "[]".to_owned()
            )
        );
        let only_unchanged = Projection::new(&relation(), &[1], Numbers::Native);
        assert_eq!(written(&only_unchanged, &TOASTED, None).0, "{}");
    }
}

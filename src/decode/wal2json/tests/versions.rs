//! Rows of versions of a table that the catalogs no longer show.

use super::*;

/// The names of the relation that is described before a message, if one is.
fn described(translator: &mut Translator, message: &str) -> Option<Vec<String>> {
    let messages = translate(translator, message);
    match Message::parse(&messages[0]) {
        Ok(Message::Relation(relation)) => {
            Some(relation.columns.into_iter().map(|column| column.name).collect())
        }
        _ => None,
    }
}

/// A row of texts under these names.
fn row(action: &str, names: &str, identity: &str) -> String {
    let fields = |names: &str| -> String {
        let field = |name| format!(r#"{{"name":"{name}","typeoid":25,"value":"v"}}"#);
        names
            .split_terminator(' ')
            .map(field)
            .collect::<Vec<_>>()
            .join(",")
    };
    let columns = fields(names);
    let identity = fields(identity);
    format!(
        r#"{{"action":"{action}","schema":"public","table":"T é","columns":[{columns}],"identity":[{identity}]}}"#
    )
}

/// `id:1 a:2 b:3` and all columns in the order of the table itself, if it is another one.
fn texts(columns: &str, order: &str) -> Published {
    let (names, numbers): (Vec<&str>, Vec<&str>) = columns
        .split(' ')
        .map(|word| word.split_once(':').unwrap())
        .unzip();
    let order = if order.is_empty() {
        names.clone()
    } else {
        order.split(' ').collect()
    };
    Published {
        numbers: numbers
            .iter()
            .map(|number| Attnum::new(number.parse().unwrap()))
            .collect(),
        left_out: order
            .iter()
            .filter(|name| !names.contains(name))
            .map(|name| (*name).to_owned())
            .collect(),
        order: order.into_iter().map(str::to_owned).collect(),
        relation: StreamRelation {
            columns: names.iter().map(|name| column(name, 25, *name == "id")).collect(),
            ..published().relation
        },
        ..published()
    }
}

#[test]
fn the_order_of_a_row_tells_columns_that_have_changed_places() {
    let names = |names: &str| Some(names.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let before = texts("id:1 a:2 b:3", "");
    let mut translator = translator(before.clone());
    assert_eq!(
        described(&mut translator, &row("I", "id a b", "")),
        names("id a b")
    );
    // The catalogs are asked when two columns have changed places, and rows come from before and after.
    let swapped = texts("id:1 b:2 a:3", "");
    let learn = |translator: &mut Translator, now: &Published| {
        assert!(translator.learn_table(&table(), Lsn(0x200_0000), Lookup::Published(now.clone())));
    };
    learn(&mut translator, &swapped);
    assert_eq!(described(&mut translator, &row("U", "id a b", "id")), None);
    assert_eq!(
        described(&mut translator, &row("I", "id b a", "")),
        names("id b a")
    );
    assert_eq!(
        described(&mut translator, &row("U", "id a b", "id")),
        names("id a b")
    );
    // Where one is missing it cannot be told: no column is taken for another one, and what is not shown is not there.
    assert_eq!(described(&mut translator, &row("U", "id a", "id")), names("id a"));
    assert_eq!(described(&mut translator, &row("U", "id", "id")), names("id b a"));
    // A new connection knows no version before, but that there was one.
    let mut translator = self::translator(Published {
        renamed: vec!["a".to_owned(), "b".to_owned()],
        ..swapped
    });
    assert_eq!(described(&mut translator, &row("U", "id a", "id")), names("id a"));
    assert_eq!(
        described(&mut translator, &row("I", "id a b", "")),
        names("id a b")
    );
    assert_eq!(described(&mut translator, &row("D", "", "id")), names("id b a"));
}

#[test]
fn a_column_that_was_added_again_is_described_anew() {
    let names = |names: &str| Some(names.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let mut translator = translator(texts("id:1 a:2 b:3", ""));
    assert_eq!(
        described(&mut translator, &row("I", "id a b", "")),
        names("id a b")
    );
    let mut again = texts("id:1 a:2 b:4", "");
    again.seen = Lsn(0x151_0000);
    assert!(translator.learn_table(&table(), Lsn(0x200_0000), Lookup::Published(again)));
    // Of which of the two it is the catalogs are asked, once.
    assert_eq!(
        described(&mut translator, &row("I", "id a b", "")),
        names("id a b")
    );
    assert_eq!(described(&mut translator, &row("I", "id a b", "")), None);
    translate(&mut translator, COMMIT);
    // Rows from behind what they had seen are of the new one.
    translate(&mut translator, &BEGIN.replace("0/150DFF0", "0/1510000"));
    assert_eq!(
        described(&mut translator, &row("I", "id a b", "")),
        names("id a b")
    );
    assert_eq!(described(&mut translator, &row("I", "id a b", "")), None);
}

#[test]
fn a_partition_s_row_is_told_by_the_partition_s_order_and_described_in_the_root_s() {
    let names = |names: &str| Some(names.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let via_root = |columns: &str, order: &str| Published {
        via_root: true,
        ..texts(columns, order)
    };
    let mut translator = translator(via_root("id:1 a:2 b:3", "b id a"));
    assert_eq!(
        described(&mut translator, &row("I", "b id a", "")),
        names("id a b")
    );
    let swapped = via_root("id:1 b:2 a:3", "a id b");
    assert!(translator.learn_table(&table(), Lsn(0x200_0000), Lookup::Published(swapped.clone())));
    assert_eq!(described(&mut translator, &row("I", "b id a", "")), None);
    assert_eq!(
        described(&mut translator, &row("I", "a id b", "")),
        names("id b a")
    );
    // Without a version before, the places tell it; and where not all are there, nothing is guessed.
    let mut translator = self::translator(swapped);
    assert_eq!(
        described(&mut translator, &row("I", "b id a", "")),
        names("id a b")
    );
    assert_eq!(described(&mut translator, &row("U", "b a", "")), Some(Vec::new()));
}

#[test]
fn a_column_that_is_not_published_does_not_come_under_the_name_of_one_that_is() {
    let names = |names: &str| Some(names.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let mut translator = translator(texts("id:1 note:3", "id secret note"));
    assert_eq!(
        described(&mut translator, &row("I", "id secret note", "")),
        names("id note")
    );
    let swapped = texts("id:1 secret:3", "id note secret");
    assert!(translator.learn_table(&table(), Lsn(0x200_0000), Lookup::Published(swapped)));
    assert_eq!(described(&mut translator, &row("I", "id secret note", "")), None);
    assert_eq!(
        described(&mut translator, &row("I", "id note secret", "")),
        names("id secret")
    );
}

//! A value costs no allocation on its way from the server's message to JSON, whatever its type; and a query takes as many
//! bytes as its estimate says.
#![allow(unsafe_code, reason = "an allocator cannot be made without")]
#![allow(clippy::unwrap_used)]

#[path = "../benches/values/families.rs"]
mod families;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use serde_json::{Value, json};
use walcast::decode::{Assembler, Message, Step};
use walcast::event::{Collation, Op, Projection, Timestamp};
use walcast::filter::Index;
use walcast::lsn::Lsn;
use walcast::matching::Query;
use walcast::protocol::{Caller, ClientMessage};
use walcast::types::json::Numbers;
use walcast::types::{Ctype, Kind};

/// The system's allocator, counting what each thread asks of it.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// The bytes in use, as they were asked for.
    static IN_USE: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator; a counter that needs neither memory nor a destructor is counted up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        IN_USE.set(IN_USE.get() + layout.size() as isize);
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is also the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.set(IN_USE.get() - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        IN_USE.set(IN_USE.get() + size as isize - layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn no_value_of_any_type_costs_an_allocation_between_its_message_and_json() {
    for numbers in [Numbers::Native, Numbers::Strings] {
        for (name, kind, texts) in families::families() {
            let relation = Arc::new(families::relation(texts.iter().map(|_| kind.clone())));
            let message = families::insert(texts.iter().copied());
            let projection = Projection::all(&relation, numbers);
            let mut assembler = assembler(&relation);
            let mut out = Vec::new();
            let mut write = || {
                out.clear();
                let step = assembler.push(Message::parse(&message).unwrap()).unwrap();
                let Step::Changes(changes) = step else {
                    panic!("no change")
                };
                for change in changes {
                    let Op::Insert { new } = change.op else {
                        panic!("no insert")
                    };
                    assert_eq!(projection.write_row(new, None, &mut out), 0);
                }
            };
            // Buffers that are used again grow with the first row.
            write();
            let before = COUNT.get();
            assert!(before > 0, "they are counted");
            (0..100).for_each(|_| write());
            assert_eq!(COUNT.get() - before, 0, "{name}");
            assert!(out.len() > texts.concat().len() / 2, "{name}");
        }
    }
}

/// The predicate of that number, and its parameters.
type Form<'f> = dyn Fn(usize) -> (String, Value) + 'f;

/// The number of queries of a form that are measured: tables that grow by doubling are as full as they mostly are.
const QUERIES: usize = 48;

#[test]
fn a_query_takes_the_bytes_that_its_estimate_says_and_at_most_a_quarter_less() {
    let kinds = [
        Kind::Int8,
        Kind::Text,
        Kind::Numeric,
        Kind::Jsonb,
        Kind::Array(Box::new(Kind::Int8)),
        Kind::Array(Box::new(Kind::Text)),
    ];
    let mut relation = families::relation(kinds.into_iter());
    for column in &mut relation.columns {
        column.collation = Collation::C;
        column.ctype = Ctype::C;
    }
    let relation = Arc::new(relation);
    let caller = Caller {
        connection: 0,
        peer: ([127, 0, 0, 1], 1).into(),
        client: [127, 0, 0, 1].into(),
        numbers: Numbers::Native,
        subject: None,
    };
    let list = |count: usize, number: usize, length: usize| -> Vec<String> {
        let each = (0..count).map(|place| format!("{number}-{place}-{}", "x".repeat(length)));
        each.collect()
    };
    let any = |count: usize, form: &str| {
        let each = (0..count).map(|place| form.replace('~', &place.to_string()));
        each.collect::<Vec<_>>().join(" OR ")
    };
    let ids =
        |count: usize, number: usize| -> Vec<usize> { (0..count).map(|id| id * 1_000 + number).collect() };
    let names: Vec<&str> = relation
        .columns
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    let [id, t, n, j, ints, tags] = names[..] else {
        panic!("{names:?}")
    };
    let forms: [(&str, &Form<'_>); 12] = [
        ("a number", &|k| (format!("{id} = {k}"), json!([]))),
        ("a text", &|k| {
            (format!("{t} = $1"), json!([format!("some text {k}")]))
        }),
        ("a long text", &|k| {
            (format!("{t} = $1"), json!([format!("{k}{}", "x".repeat(20_000))]))
        }),
        ("three conditions", &|k| {
            (
                format!("{id} = {k} AND {t} IN ('new', 'paid') AND {n} > {k}.5"),
                json!([]),
            )
        }),
        ("a list of texts", &|k| {
            (format!("{t} = ANY ($1)"), json!([list(900, k, 30)]))
        }),
        ("a list of long texts", &|k| {
            (format!("{t} = ANY ($1)"), json!([list(20, k, 2_000)]))
        }),
        ("a list of numbers", &|k| {
            (format!("{id} = ANY ($1)"), json!([ids(900, k)]))
        }),
        ("a written list", &|k| {
            let ids = ids(900, k)
                .iter()
                .map(usize::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            (format!("{id} IN ({ids})"), json!([]))
        }),
        ("patterns", &|k| {
            (
                any(20, &format!("{t} LIKE '%{}{k}-~%'", "a_%".repeat(20))),
                json!([]),
            )
        }),
        ("many comparisons", &|k| {
            (any(200, &format!("{t} = 'value {k}-~'")), json!([]))
        }),
        ("parts of a document", &|k| {
            (any(20, &format!("{j} ->> 'key ~' = 'value {k}'")), json!([]))
        }),
        ("arrays", &|k| {
            (
                format!("{ints} && $1 OR {tags} @> $2"),
                json!([ids(300, k), list(100, k, 10)]),
            )
        }),
    ];
    let mut wrong = Vec::new();
    for (name, form) in forms {
        let messages: Vec<String> = (0..QUERIES)
            .map(|number| {
                let (predicate, params) = form(number);
                json!({"type": "subscribe", "id": "a", "table": "t", "where": predicate, "params": params})
                    .to_string()
            })
            .collect();
        let mut index = Index::default();
        let mut kept = Vec::with_capacity(QUERIES);
        let before = IN_USE.get();
        let mut estimated = 0;
        for (number, message) in messages.iter().enumerate() {
            let ClientMessage::Subscribe(subscribe) = ClientMessage::parse(message).unwrap() else {
                panic!("{message}")
            };
            let query = Query::new(&subscribe, &caller).unwrap();
            let selection = query.selection(&relation).unwrap();
            index.insert(number as u32, selection.rows(), false);
            estimated += query.bytes(&selection);
            kept.push(Arc::new(query));
        }
        let taken = (IN_USE.get() - before) as f64;
        let ratio = estimated as f64 / taken;
        println!(
            "{name}: {:.0} bytes each, estimated {ratio:.2} times",
            taken / QUERIES as f64
        );
        if !(1.0..=1.25).contains(&ratio) {
            wrong.push(format!("{name}: {ratio:.2}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// An assembler inside a transaction, to which the table is known.
fn assembler(relation: &Arc<walcast::event::Relation>) -> Assembler {
    let mut description = [&b"R"[..], &relation.oid.to_be_bytes(), b"public\0t\0d"].concat();
    description.extend_from_slice(&(relation.columns.len() as u16).to_be_bytes());
    for column in &relation.columns {
        description.push(0);
        description.extend_from_slice(column.name.as_bytes());
        description.extend_from_slice(&[0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff]);
    }
    let mut assembler = Assembler::new(Lsn::ZERO);
    let described = assembler.push(Message::parse(&description).unwrap()).unwrap();
    assert!(matches!(described, Step::Relation(_)));
    assembler.learn_relation(Arc::clone(relation)).unwrap();
    let begin = Message::Begin {
        commit: Lsn(1),
        committed_at: Timestamp(0),
        xid: 7,
    };
    assert!(matches!(assembler.push(begin), Ok(Step::Nothing)));
    assembler
}

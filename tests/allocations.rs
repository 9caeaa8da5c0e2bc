//! A value costs no allocation on its way from the server's message to JSON, whatever its type.
#![allow(unsafe_code, reason = "an allocator cannot be made without")]
#![allow(clippy::unwrap_used)]

#[path = "../benches/values/families.rs"]
mod families;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use walcast::decode::{Assembler, Message, Step};
use walcast::event::{Op, Projection, Timestamp};
use walcast::lsn::Lsn;
use walcast::types::json::Numbers;

/// The system's allocator, counting what each thread asks of it.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator; a counter that needs neither memory nor a destructor is counted up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps `GlobalAlloc`'s contract, which is also the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
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

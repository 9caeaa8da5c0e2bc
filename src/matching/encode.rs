//! [`Encoder`]: from typed hits to encoded changes, each encoded once for all queries that need the same bytes.

use std::ops::Range;
use std::sync::Arc;

use crate::event::RowChange;
use crate::filter::ResultChange;
use crate::protocol::v1::RowEncoder;

/// A change that concerns a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit<'t> {
    /// The groups that subscribed to the query.
    pub(super) groups: &'t [usize],
    /// The effect of the change on the query's result.
    pub(super) result: ResultChange,
    /// The encoder of the rows that the query wants.
    pub(super) rows: &'t Arc<RowEncoder>,
}

/// The encoded changes of a piece of a transaction.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    /// The encodings of the current change.
    encodings: Vec<Encoding>,
}

/// The encoding of a change for some queries.
#[derive(Debug)]
struct Encoding {
    rows: Arc<RowEncoder>,
    result: ResultChange,
    place: Range<usize>,
}

/// The most memory that is kept for the next piece, in bytes.
const KEPT_BYTES: usize = 4 * 1024 * 1024;

impl Encoder {
    /// Begins with another change.
    pub(super) fn begin_change(&mut self) {
        self.encodings.clear();
    }

    /// Encodes the current change for a hit, and returns the place of the encoding among the piece's bytes.
    pub(super) fn encode(&mut self, change: &RowChange<'_>, hit: &Hit<'_>) -> Range<usize> {
        let same = |encoding: &&Encoding| {
            encoding.result.is_told_as(&hit.result) && Arc::ptr_eq(&encoding.rows, hit.rows)
        };
        if let Some(encoding) = self.encodings.iter().find(same) {
            return encoding.place.clone();
        }
        let start = self.bytes.len();
        hit.rows.write(change, hit.result, &mut self.bytes);
        let place = start..self.bytes.len();
        self.encodings.push(Encoding {
            rows: Arc::clone(hit.rows),
            result: hit.result,
            place: place.clone(),
        });
        place
    }

    /// The size of what is encoded, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes at a place.
    pub(super) fn get(&self, place: Range<usize>) -> Option<&[u8]> {
        self.bytes.get(place)
    }

    /// Forgets the piece, and frees the memory that a large row took.
    pub(super) fn clear(&mut self) {
        self.encodings.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }
}

//! [`Header`]: how a segment begins.

use std::io;

use super::files::{LogFile, read_up_to};
use crate::log::record::{self, Frame, SEGMENT};
use crate::log::{Malformed, TableHistory};
use crate::lsn::Lsn;

/// The beginning of a segment file, before its first record.
const MAGIC: [u8; 8] = *b"walcastJ";

/// The version of the format of segments and their records.
const VERSION: u32 = 2;
/// Segments of this version open with nothing about tables.
const WITHOUT_TABLES: u32 = 1;

/// A segment's first record: whose it is, and what comes before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    pub(super) epoch: String,
    /// Everything in the segment ends after this position; the segment before it ends here.
    pub(super) base: Lsn,
    /// The end of the newest transaction before the segment.
    pub(super) last_transaction: Lsn,
    /// The length of the file before it; 0 if it is the first of its history.
    pub(super) previous_bytes: u64,
}

impl Header {
    /// The file's beginning, with what the history says of tables so far.
    pub(super) fn encode(&self, tables: &TableHistory) -> Vec<u8> {
        let mut opening = Vec::new();
        tables.records().for_each(|record| record.encode(&mut opening));
        let mut out = MAGIC.to_vec();
        let payload: [&[u8]; 7] = [
            &VERSION.to_le_bytes(),
            &self.sequence.to_le_bytes(),
            &self.base.0.to_le_bytes(),
            &self.last_transaction.0.to_le_bytes(),
            &self.previous_bytes.to_le_bytes(),
            &(opening.len() as u64).to_le_bytes(),
            self.epoch.as_bytes(),
        ];
        record::put(&mut out, SEGMENT, &payload);
        out.append(&mut opening);
        out
    }
}

/// The beginning of a segment: its header, and how long it and what follows about tables are.
#[derive(Clone, Debug)]
pub(super) struct Beginning {
    pub(super) header: Header,
    /// The end of the header.
    pub(super) header_end: u64,
    /// The number of bytes of records about tables behind the header; `None` in a segment of an earlier version, which
    /// says nothing of those that were there before it.
    pub(super) opening: Option<u64>,
}

impl Beginning {
    /// The place where the records begin that are not about what was before the segment.
    pub(super) fn end(&self) -> u64 {
        self.header_end.saturating_add(self.opening.unwrap_or(0))
    }

    /// Reads the header from a file's beginning.
    pub(super) fn parse(bytes: &[u8]) -> Result<Beginning, Malformed> {
        let rest = bytes
            .strip_prefix(&MAGIC)
            .ok_or(Malformed("it does not begin as a segment does"))?;
        let (frame, _) = Frame::split(rest)
            .filter(|(frame, _)| frame.kind == SEGMENT && frame.is_intact())
            .ok_or(Malformed("its header is damaged"))?;
        let mut payload = frame.payload;
        let version = record::take_u32(&mut payload)?;
        if version != VERSION && version != WITHOUT_TABLES {
            return Err(Malformed("it was written by another version of walcast"));
        }
        let [sequence, base, last_transaction, previous_bytes] =
            [(); 4].map(|()| record::take_u64(&mut payload));
        let opening = match version {
            WITHOUT_TABLES => None,
            _ => Some(record::take_u64(&mut payload)?),
        };
        let header = Header {
            sequence: sequence?,
            base: Lsn(base?),
            last_transaction: Lsn(last_transaction?),
            previous_bytes: previous_bytes?,
            epoch: String::from_utf8(payload.to_vec()).map_err(|_| Malformed("its epoch is not text"))?,
        };
        Ok(Beginning {
            header,
            header_end: (MAGIC.len() + frame.len()) as u64,
            opening,
        })
    }

    /// Reads the header of `file`.
    pub(super) fn read(file: &dyn LogFile) -> io::Result<Result<Beginning, Malformed>> {
        Ok(Beginning::parse(&read_up_to(file, 0, 4096)?))
    }
}

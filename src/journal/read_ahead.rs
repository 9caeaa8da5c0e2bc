//! [`ReadAhead`]: what was last read from files, for others at the same place. Pure.
//!
//! Clients that come back after an outage read the same part of the history at the same time: it is read and checked
//! once, and they share its bytes.

use std::collections::VecDeque;

use bytes::Bytes;

/// Blocks of whole, checked records.
#[derive(Default)]
pub(super) struct ReadAhead {
    /// The last used last.
    blocks: VecDeque<Block>,
    bytes: usize,
}

struct Block {
    segment: u64,
    offset: u64,
    bytes: Bytes,
}

/// The amount that is kept, in bytes.
const MAX_BYTES: usize = 4 * 1024 * 1024;

impl ReadAhead {
    /// The records of `segment` from the one at `offset` on, if they are here.
    pub(super) fn get(&mut self, segment: u64, offset: u64) -> Option<Bytes> {
        let holds = |block: &Block| block.segment == segment && (block.offset..block.end()).contains(&offset);
        let at = self.blocks.iter().rposition(holds)?;
        let block = self.blocks.remove(at)?;
        let bytes = block.bytes.slice((offset - block.offset) as usize..);
        self.blocks.push_back(block);
        Some(bytes)
    }

    /// Keeps records that were read from `segment` at `offset`, and forgets those that were not used for the longest.
    pub(super) fn put(&mut self, segment: u64, offset: u64, bytes: Bytes) {
        if bytes.len() > MAX_BYTES / 4 {
            return;
        }
        self.bytes += bytes.len();
        self.blocks.push_back(Block {
            segment,
            offset,
            bytes,
        });
        while self.bytes > MAX_BYTES
            && let Some(block) = self.blocks.pop_front()
        {
            self.bytes -= block.bytes.len();
        }
    }

    /// Forgets everything: another history begins.
    pub(super) fn clear(&mut self) {
        *self = ReadAhead::default();
    }
}

impl Block {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_there_for_others_until_it_is_the_oldest() {
        let mut ahead = ReadAhead::default();
        ahead.put(1, 100, Bytes::from_static(b"abcd"));
        ahead.put(2, 100, Bytes::from_static(b"efgh"));
        assert_eq!(ahead.get(1, 102).as_deref(), Some(&b"cd"[..]));
        for (segment, offset) in [(1, 99), (1, 104), (3, 100)] {
            assert_eq!(ahead.get(segment, offset), None);
        }
        let large = Bytes::from(vec![0; MAX_BYTES / 4]);
        for offset in 0..4 {
            ahead.put(9, offset * large.len() as u64, large.clone());
        }
        // The one that was used last stayed longest.
        assert_eq!(ahead.get(2, 100), None);
        assert!(ahead.bytes <= MAX_BYTES);
        ahead.put(9, 0, Bytes::from(vec![0; MAX_BYTES / 4 + 1]));
        assert!(ahead.bytes <= MAX_BYTES, "too large to be kept");
    }
}

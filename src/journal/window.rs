//! [`Window`]: the newest blocks in memory, so that readers near the head don't touch the file. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// The newest blocks, in order. Each holds whole records.
pub(super) struct Window {
    blocks: VecDeque<Block>,
    bytes: usize,
    max_bytes: usize,
}

struct Block {
    segment: u64,
    offset: u64,
    bytes: Bytes,
}

impl Block {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

impl Window {
    pub(super) fn new(max_bytes: usize) -> Window {
        Window {
            blocks: VecDeque::new(),
            bytes: 0,
            max_bytes,
        }
    }

    /// Adds what was written to `segment` at `offset`, and forgets the oldest blocks beyond the limit.
    pub(super) fn push(&mut self, segment: u64, offset: u64, bytes: Bytes) {
        self.bytes += bytes.len();
        self.blocks.push_back(Block {
            segment,
            offset,
            bytes,
        });
        while self.bytes > self.max_bytes
            && let Some(block) = self.blocks.pop_front()
        {
            self.bytes -= block.bytes.len();
        }
    }

    /// The bytes of `segment` from `offset` to the end of the block that holds them, or to `limit`.
    pub(super) fn get(&self, segment: u64, offset: u64, limit: u64) -> Option<Bytes> {
        let at = self
            .blocks
            .partition_point(|block| (block.segment, block.end()) <= (segment, offset));
        let block = self.blocks.get(at)?;
        let inside = block.segment == segment && block.offset <= offset && offset < limit;
        inside.then(|| {
            let from = offset - block.offset;
            let to = limit.min(block.end()) - block.offset;
            block.bytes.slice(from as usize..to as usize)
        })
    }

    /// Forgets what `segment` held from `offset` on: it was rolled back.
    pub(super) fn truncate(&mut self, segment: u64, offset: u64) {
        while let Some(block) = self.blocks.back_mut()
            && block.segment == segment
            && block.end() > offset
        {
            self.bytes -= block.bytes.len();
            if block.offset < offset {
                block.bytes.truncate((offset - block.offset) as usize);
                self.bytes += block.bytes.len();
                return;
            }
            self.blocks.pop_back();
        }
    }

    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_gives_what_it_holds_and_forgets_the_oldest() {
        let mut window = Window::new(10);
        window.push(1, 100, Bytes::from_static(b"abcd"));
        window.push(2, 20, Bytes::from_static(b"efgh"));
        window.push(2, 24, Bytes::from_static(b"ij"));
        assert_eq!(window.get(1, 100, 104).as_deref(), Some(&b"abcd"[..]));
        assert_eq!(window.get(2, 22, 26).as_deref(), Some(&b"gh"[..]));
        assert_eq!(window.get(2, 24, 25).as_deref(), Some(&b"i"[..]));
        for (segment, offset, limit) in [(1, 99, 104), (1, 104, 104), (2, 19, 26), (2, 26, 26), (3, 20, 26)] {
            assert_eq!(window.get(segment, offset, limit), None, "{segment}:{offset}");
        }
        window.push(2, 26, Bytes::from_static(b"k"));
        assert_eq!(window.get(1, 100, 104), None);
        assert_eq!(window.get(2, 20, 27).as_deref(), Some(&b"efgh"[..]));
        window.push(2, 27, Bytes::from_static(b"longer than the window"));
        assert_eq!(window.get(2, 27, 49), None);
    }

    #[test]
    fn what_was_rolled_back_is_gone() {
        let mut window = Window::new(100);
        window.push(2, 20, Bytes::from_static(b"efgh"));
        window.push(2, 24, Bytes::from_static(b"ij"));
        window.truncate(2, 22);
        assert_eq!(window.get(2, 20, 99).as_deref(), Some(&b"ef"[..]));
        assert_eq!(window.get(2, 22, 99), None);
        window.truncate(2, 20);
        assert_eq!(window.get(2, 20, 99), None);
        assert_eq!(window.bytes, 0);
    }
}

//! The last part of the replication stream, for replicas that read it as it grows and for those
//! that come back.
//!
//! Full blocks are shared with whoever has read them; the last one grows, and who reads of it is
//! given a copy, which is cheap, since it has just been written. That a block which others read
//! still grows was refused: it needs memory that two threads know, for a copy of some bytes a turn.
//!
//! What is kept is as much as the configured size, and more where a replica has not come further:
//! so one that is slow, or was cut for that, goes on where it stood.

use bytes::Bytes;
use std::collections::VecDeque;

/// A block is a sixteenth of the size, and no less or more than this.
const BLOCK_BYTES_MIN: usize = 16 << 10;
const BLOCK_BYTES_MAX: usize = 64 << 10;
const BLOCKS: usize = 16;
/// The list of the blocks is not made shorter than this.
const BLOCKS_LISTED_MIN: usize = 64;

/// A block that is full.
struct Block {
    /// The offset behind it.
    end: u64,
    bytes: Bytes,
}

/// Offsets count the bytes before a place in the stream: what is held is that from `start` to
/// `end`.
pub struct Backlog {
    size: usize,
    start: u64,
    blocks: VecDeque<Block>,
    /// The last block, which grows.
    tail: Vec<u8>,
    end: u64,
}

impl Backlog {
    /// An empty one of this size in bytes, behind so much of the stream.
    pub fn new(size: usize, offset: u64) -> Backlog {
        Backlog { size, start: offset, blocks: VecDeque::new(), tail: Vec::new(), end: offset }
    }

    /// From now on so much is kept.
    pub fn resize(&mut self, size: usize) {
        self.size = size;
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// How much is held.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all that follows an offset is here; behind the end there is nothing yet, and that
    /// is here.
    pub fn reaches(&self, offset: u64) -> bool {
        (self.start..=self.end).contains(&offset)
    }

    /// The memory of it, in bytes.
    pub fn memory(&self) -> usize {
        let full = (self.len() - self.tail.len() as u64) as usize;
        full + self.tail.capacity() + self.blocks.capacity() * size_of::<Block>()
    }

    fn block_bytes(&self) -> usize {
        (self.size / BLOCKS).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
    }

    /// The stream goes on with this.
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.len() >= self.block_bytes() {
            return self.push_blocks(bytes);
        }
        self.end += bytes.len() as u64;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if self.tail.capacity() == 0 {
                self.tail = Vec::with_capacity(self.block_bytes());
            }
            let room = self.tail.capacity() - self.tail.len();
            let (fits, others) = rest.split_at(room.min(rest.len()));
            self.tail.extend_from_slice(fits);
            rest = others;
            if self.tail.len() == self.tail.capacity() {
                self.seal_before(rest.len());
            }
        }
    }

    /// What is long becomes blocks of its own, which are forgotten one by one. They share its
    /// memory, unless it is more than is to be kept.
    fn push_blocks(&mut self, mut bytes: Bytes) {
        self.seal();
        let is_copied = bytes.len() > self.size;
        while !bytes.is_empty() {
            let piece = bytes.split_to(self.block_bytes().min(bytes.len()));
            self.end += piece.len() as u64;
            let bytes = if is_copied { Bytes::copy_from_slice(&piece) } else { piece };
            self.blocks.push_back(Block { end: self.end, bytes });
        }
    }

    fn seal(&mut self) {
        let last = self.blocks.back().map_or(self.start, |block| block.end);
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() {
            let end = last + tail.len() as u64;
            self.blocks.push_back(Block { end, bytes: Bytes::from(tail) });
        }
    }

    /// The tail is full, behind which so much of what came last is still to be taken in.
    fn seal_before(&mut self, rest: usize) {
        let end = self.end - rest as u64;
        let tail = std::mem::take(&mut self.tail);
        self.blocks.push_back(Block { end, bytes: Bytes::from(tail) });
    }

    /// What follows an offset, at most so much, as far as it lies in one piece; nothing behind the
    /// end, and of what is not held.
    pub fn read(&self, from: u64, most: usize) -> Option<Bytes> {
        if !self.reaches(from) || from == self.end || most == 0 {
            return None;
        }
        let place = self.blocks.partition_point(|block| block.end <= from);
        let Some(block) = self.blocks.get(place) else {
            let tail_start = self.end - self.tail.len() as u64;
            let tail = &self.tail[(from - tail_start) as usize..];
            return Some(Bytes::copy_from_slice(&tail[..tail.len().min(most)]));
        };
        let len = block.bytes.len();
        let skipped = len - (block.end - from) as usize;
        Some(block.bytes.slice(skipped..len.min(skipped.saturating_add(most))))
    }

    /// Forgets what is more than is to be kept, block by block, but nothing that somebody has yet
    /// to read, who has come to this offset.
    pub fn trim(&mut self, slowest: Option<u64>) {
        let kept_from = self.end.saturating_sub(self.size as u64);
        let needed_from = slowest.map_or(kept_from, |offset| offset.min(kept_from));
        while let Some(block) = self.blocks.pop_front_if(|block| block.end <= needed_from) {
            self.start = block.end;
        }
        // The list of what a slow replica has kept is not to outlive that.
        if self.blocks.capacity() > BLOCKS_LISTED_MIN + 4 * self.blocks.len() {
            self.blocks.shrink_to(2 * self.blocks.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;

    fn read_all(backlog: &Backlog, mut from: u64, most: usize) -> Vec<u8> {
        let mut read = Vec::new();
        while let Some(piece) = backlog.read(from, most) {
            assert!(!piece.is_empty() && piece.len() <= most);
            from += piece.len() as u64;
            read.extend_from_slice(&piece);
        }
        assert_eq!(from, backlog.end());
        read
    }

    #[test]
    fn any_history_is_held_from_any_offset() {
        for seed in 0..40 {
            let mut dice = Prng::seeded(seed);
            let first = dice.below(1_000_000);
            let mut backlog = Backlog::new(dice.below(300_000) as usize, first);
            let mut stream: Vec<u8> = Vec::new();
            let mut reader = first;
            for _ in 0..300 {
                let bound = [10, 1_000, 40_000, 150_000][dice.below(4) as usize];
                let bytes: Vec<u8> =
                    (0..dice.below(bound)).map(|_| dice.next_u64() as u8).collect();
                stream.extend_from_slice(&bytes);
                backlog.push(Bytes::from(bytes));
                assert_eq!(backlog.end(), first + stream.len() as u64);
                if dice.below(2) == 0 {
                    let most = 1 + dice.below(100_000) as usize;
                    reader += backlog.read(reader, most).map_or(0, |piece| piece.len() as u64);
                }
                if dice.below(10) == 0 {
                    backlog.resize(dice.below(300_000) as usize);
                }
                let slowest = (dice.below(10) < 7).then_some(reader);
                backlog.trim(slowest);
                let held = &stream[(backlog.start() - first) as usize..];
                assert_eq!(held.len() as u64, backlog.len());
                assert!(backlog.len() >= held.len().min(backlog.size) as u64);
                assert!(slowest.is_none_or(|offset| backlog.reaches(offset)));
                let from = backlog.start() + dice.below(backlog.len() + 1);
                let expected = &held[(from - backlog.start()) as usize..];
                assert!(read_all(&backlog, from, 1 + dice.below(200_000) as usize) == expected);
                reader = reader.max(backlog.start());
            }
        }
    }

    #[test]
    fn what_is_not_held_is_not_read() {
        let mut backlog = Backlog::new(20_000, 100);
        assert!(backlog.is_empty() && backlog.reaches(100) && !backlog.reaches(99));
        for _ in 0..100 {
            backlog.push(Bytes::from(vec![b'x'; 1_000]));
            backlog.trim(None);
        }
        assert_eq!(backlog.end(), 100_100);
        assert!((20_000..20_000 + 2 * BLOCK_BYTES_MIN as u64).contains(&backlog.len()));
        assert!(backlog.memory() < 20_000 + 4 * BLOCK_BYTES_MIN);
        for offset in [0, backlog.start() - 1, backlog.end() + 1, u64::MAX] {
            assert!(!backlog.reaches(offset) && backlog.read(offset, 10).is_none());
        }
        assert!(backlog.reaches(backlog.end()) && backlog.read(backlog.end(), 10).is_none());
        assert!(backlog.read(backlog.start(), 0).is_none());
    }

    /// Whoever has not come further keeps what it needs, and gives it free when it has.
    #[test]
    fn a_slow_reader_makes_it_longer() {
        let mut backlog = Backlog::new(16 << 10, 0);
        for _ in 0..1_000 {
            backlog.push(Bytes::from(vec![b'x'; 1_000]));
            backlog.trim(Some(5_000));
        }
        assert!(backlog.start() <= 5_000 && backlog.len() > 990_000);
        backlog.trim(Some(backlog.end()));
        assert!(backlog.len() < 40_000, "{}", backlog.len());
    }
}

//! The newest bytes of a snapshot that is being made, in pieces that all who are sent it share.

use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Cloning it copies no bytes.
#[derive(Clone, Default)]
pub struct Ring {
    /// Pieces with the places in the snapshot where they begin.
    pieces: VecDeque<(u64, Bytes)>,
    end: u64,
}

impl Ring {
    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn len(&self) -> u64 {
        self.end - self.pieces.front().map_or(self.end, |(start, _)| *start)
    }

    /// Where the oldest piece ends.
    pub fn oldest_end(&self) -> u64 {
        self.pieces.front().map_or(self.end, |(start, piece)| start + piece.len() as u64)
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.pieces.push_back((self.end, Bytes::copy_from_slice(bytes)));
            self.end += bytes.len() as u64;
        }
    }

    pub fn drop_oldest(&mut self) {
        self.pieces.pop_front();
    }

    /// What follows a place, which must be in here, as far as it fits into the slices; how many
    /// there are.
    pub fn fill<'r>(&'r self, at: u64, slices: &mut [IoSlice<'r>]) -> usize {
        let first = self.pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        let mut filled = 0;
        for ((start, piece), slice) in self.pieces.range(first..).zip(slices) {
            let skipped = at.saturating_sub(*start) as usize;
            *slice = IoSlice::new(&piece[skipped..]);
            filled += 1;
        }
        filled
    }
}

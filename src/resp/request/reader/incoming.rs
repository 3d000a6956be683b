//! A long argument while it arrives.
//!
//! It comes in pieces until an eighth of it is there. Then its final memory is reserved, and each
//! read that follows is preceded by the move of a few pieces. So few bytes are moved, and those
//! once; no step takes long; and what has been moved is freed at once: one value is held once. What
//! is reserved beyond the bytes is not touched before they come, so nothing of it is resident.
//!
//! A vector that grows by doubling was refused: its last step moves half of a value of 512 MB while
//! everybody waits. So was reserving the declared length (Redis's way): saying so would be enough.
//!
//! Invariant: the argument so far is `value`, then `pieces`, then `last`; the value's memory is
//! either not reserved or holds the whole argument.

use super::{READ_LEN_MAX, Room};
use crate::structs::memory;
use std::collections::{TryReserveError, VecDeque};

/// The memory of the first piece, and what is left free in one before the next is begun.
const PIECE_LEN_MIN: usize = 32 * 1024;
const PIECE_FREE_MIN: usize = 4 * 1024;

/// An argument up to this length gets its final memory at once.
const WHOLE_LEN_MAX: usize = 64 * 1024;

/// The final memory is at most so many times what has arrived when it is reserved.
const RESERVED_TIMES: usize = 8;

/// So many pieces are moved before a read, which brings one more at most: they run out when a sixth
/// of the argument is there.
const MOVED_PIECES: usize = 4;

pub struct Incoming {
    len: usize,
    value: Vec<u8>,
    pieces: VecDeque<Vec<u8>>,
    pieces_len: usize,
    /// The piece that the next bytes go to.
    last: Vec<u8>,
}

impl Incoming {
    /// An argument of which these bytes are there.
    pub fn begin(len: usize, mut arrived: &[u8]) -> Result<Incoming, TryReserveError> {
        let mut incoming = Incoming {
            len,
            value: Vec::new(),
            pieces: VecDeque::new(),
            pieces_len: 0,
            last: Vec::new(),
        };
        while !arrived.is_empty() {
            let room = incoming.room()?;
            let (first, rest) = arrived.split_at(room.len.min(arrived.len()));
            room.buffer.extend_from_slice(first);
            arrived = rest;
        }
        Ok(incoming)
    }

    pub fn arrived(&self) -> usize {
        self.value.len() + self.pieces_len + self.last.len()
    }

    pub fn is_whole(&self) -> bool {
        self.arrived() == self.len
    }

    /// The memory held, all that is reserved of the final one too.
    pub fn memory(&self) -> usize {
        self.value.capacity() + self.pieces_len + self.last.capacity()
    }

    /// Where the next bytes go; some are missing.
    pub fn room(&mut self) -> Result<Room<'_>, TryReserveError> {
        let (arrived, missing) = (self.arrived(), self.len - self.arrived());
        if self.len <= WHOLE_LEN_MAX.max(RESERVED_TIMES * arrived) {
            self.reserve_value()?;
            self.move_pieces(MOVED_PIECES);
            if self.pieces.is_empty() {
                self.move_last();
                return Ok(Room { buffer: &mut self.value, len: missing.min(READ_LEN_MAX) });
            }
        }
        if self.last.capacity() - self.last.len() < PIECE_FREE_MIN {
            let mut next = Vec::new();
            let len = arrived.clamp(PIECE_LEN_MIN, READ_LEN_MAX);
            memory::asking(|| next.try_reserve_exact(len))?;
            let full = std::mem::replace(&mut self.last, next);
            self.pieces_len += full.len();
            self.pieces.push_back(full);
        }
        let free = self.last.capacity() - self.last.len();
        Ok(Room { buffer: &mut self.last, len: missing.min(free) })
    }

    /// The whole argument.
    pub fn into_bytes(mut self) -> Result<Vec<u8>, TryReserveError> {
        debug_assert!(self.is_whole());
        self.reserve_value()?;
        self.move_pieces(usize::MAX);
        self.move_last();
        Ok(self.value)
    }

    fn reserve_value(&mut self) -> Result<(), TryReserveError> {
        match self.value.capacity() {
            0 => memory::asking(|| self.value.try_reserve_exact(self.len)),
            _ => Ok(()),
        }
    }

    fn move_pieces(&mut self, max: usize) {
        for piece in self.pieces.drain(..max.min(self.pieces.len())) {
            self.pieces_len -= piece.len();
            self.value.extend_from_slice(&piece);
        }
    }

    fn move_last(&mut self) {
        if !self.last.is_empty() {
            self.value.extend_from_slice(&std::mem::take(&mut self.last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the reads bring, the bytes come out as they went in; the memory follows them, and
    /// no step moves more than a few pieces.
    #[test]
    fn bytes_come_out_as_they_went_in() {
        for len in [32 << 10, 64 << 10, (64 << 10) + 1, 100_000, 1 << 20, (8 << 20) + 7] {
            for read_len in [700, 16 << 10, READ_LEN_MAX] {
                let bytes: Vec<u8> = (0..len).map(|at| (at / 7 % 251) as u8).collect();
                let mut incoming = Incoming::begin(len, &bytes[..10_000]).expect("memory");
                while !incoming.is_whole() {
                    let arrived = incoming.arrived();
                    let moved = incoming.value.len();
                    let room = incoming.room().expect("memory");
                    let read = room.len.min(read_len);
                    room.buffer.extend_from_slice(&bytes[arrived..arrived + read]);
                    let step = incoming.value.len() - moved;
                    assert!(step <= (MOVED_PIECES + 2) * READ_LEN_MAX, "{step}");
                    let reserved = incoming.memory();
                    assert!(reserved <= 9 * arrived + 2 * WHOLE_LEN_MAX, "{reserved}");
                }
                assert!(incoming.pieces.len() <= 1, "what is left at the end is moved at once");
                let value = incoming.into_bytes().expect("memory");
                assert!(value == bytes && value.capacity() == len);
            }
        }
    }
}

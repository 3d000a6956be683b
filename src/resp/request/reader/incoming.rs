//! A long argument while it arrives.
//!
//! It comes in pieces until an eighth of it is there. Then its final memory is reserved, and each
//! read that follows is preceded by the move of a little of the pieces. So few bytes are moved, and
//! those once; no step takes long; and a piece that has been moved is freed: one value is held
//! once. What is reserved beyond the bytes is not touched before they come, so nothing of it is
//! resident, and all of it is backed by small pages until then ([`Filling`]).
//!
//! A vector that grows by doubling was refused: its last step moves half of a value of 512 MB while
//! everybody waits. So was reserving the declared length (Redis's way): saying so would be enough.
//!
//! Invariant: the argument so far is `value`, then `pieces`, then `last`; the value's memory is
//! either not reserved or holds the whole argument.

use super::{READ_LEN_MAX, Room};
use crate::structs::filling::Filling;
use std::collections::{TryReserveError, VecDeque};

/// A piece is as long as all before it, within these bounds.
const PIECE_LEN_MIN: usize = 32 * 1024;
const PIECE_LEN_MAX: usize = 4 << 20;

/// What is left free in a piece before the next is begun.
const PIECE_FREE_MIN: usize = 4 * 1024;

/// An argument up to this length gets its final memory at once.
const WHOLE_LEN_MAX: usize = 64 * 1024;

/// The final memory is at most so many times what has arrived when it is reserved.
const RESERVED_TIMES: usize = 8;

/// So much is moved before a read, which brings a quarter of that at most: the pieces run out when
/// a sixth of the argument is there.
const MOVED_LEN: usize = 4 * READ_LEN_MAX;

pub struct Incoming {
    len: usize,
    value: Filling,
    pieces: VecDeque<Filling>,
    pieces_len: usize,
    /// How much of the first piece has been moved.
    moved_len: usize,
    /// The piece that the next bytes go to.
    last: Filling,
}

impl Incoming {
    /// An argument of which these bytes are there.
    pub fn begin(len: usize, mut arrived: &[u8]) -> Result<Incoming, TryReserveError> {
        let mut incoming = Incoming {
            len,
            value: Filling::default(),
            pieces: VecDeque::new(),
            pieces_len: 0,
            moved_len: 0,
            last: Filling::default(),
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
        self.value.len() + self.pieces_len - self.moved_len + self.last.len()
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
            self.move_pieces(MOVED_LEN);
            if self.pieces.is_empty() {
                self.move_last();
                return Ok(Room { buffer: &mut self.value, len: missing.min(READ_LEN_MAX) });
            }
        }
        if self.last.capacity() - self.last.len() < PIECE_FREE_MIN {
            // Once pieces are moved, they come to an end by a short one.
            let is_moving = self.value.capacity() > 0;
            let max = if is_moving { READ_LEN_MAX } else { PIECE_LEN_MAX };
            let next = Filling::reserve(arrived.clamp(PIECE_LEN_MIN, max))?;
            self.end_piece(next);
        }
        let free = self.last.capacity() - self.last.len();
        Ok(Room { buffer: &mut self.last, len: missing.min(free).min(READ_LEN_MAX) })
    }

    /// The whole argument.
    pub fn into_bytes(mut self) -> Result<Vec<u8>, TryReserveError> {
        debug_assert!(self.is_whole());
        self.reserve_value()?;
        self.move_pieces(usize::MAX);
        self.move_last();
        Ok(self.value.into_vec())
    }

    fn reserve_value(&mut self) -> Result<(), TryReserveError> {
        if self.value.capacity() == 0 {
            self.value = Filling::reserve(self.len)?;
            self.end_piece(Filling::default());
        }
        Ok(())
    }

    fn end_piece(&mut self, next: Filling) {
        let last = std::mem::replace(&mut self.last, next);
        self.pieces_len += last.len();
        self.pieces.push_back(last);
    }

    fn move_pieces(&mut self, mut max: usize) {
        while max > 0
            && let Some(piece) = self.pieces.front()
        {
            let left = &piece[self.moved_len..];
            let moved = left.len().min(max);
            self.value.extend_from_slice(&left[..moved]);
            self.moved_len += moved;
            max -= moved;
            if self.moved_len == piece.len() {
                self.pieces_len -= piece.len();
                self.moved_len = 0;
                self.pieces.pop_front();
            }
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
    /// no step moves much.
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
                    assert!(step <= MOVED_LEN + 2 * READ_LEN_MAX, "{step}");
                    let reserved = incoming.memory();
                    assert!(reserved <= 9 * arrived + 2 * WHOLE_LEN_MAX, "{reserved}");
                }
                let left = incoming.len - incoming.value.len();
                assert!(left <= MOVED_LEN, "{left} of {len} is moved at once at the end");
                let value = incoming.into_bytes().expect("memory");
                assert!(value == bytes && value.capacity() == len);
            }
        }
    }
}

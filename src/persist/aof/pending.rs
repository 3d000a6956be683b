//! What is to be written to the AOF's file: shares of the write stream, and the lines between them.
//!
//! The shares are those of the stream's own buffer, so however many read it, what was written
//! stands in memory once.

use crate::persist::disk::DiskFile;
use bytes::{Buf, Bytes};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// What one system call is given at most.
const SLICES_MAX: usize = 64;
const PIECE_BYTES: usize = 1 << 30;

#[derive(Default)]
pub struct Pending {
    pieces: VecDeque<Bytes>,
    len: usize,
}

impl Pending {
    pub fn push(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.len += bytes.len();
            self.pieces.push_back(bytes);
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn clear(&mut self) {
        self.pieces.clear();
        self.len = 0;
    }

    /// Forgets the first bytes, which have been written.
    pub fn advance(&mut self, mut count: usize) {
        self.len -= count;
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                return first.advance(count);
            }
            count -= first.len();
            self.pieces.pop_front();
        }
    }

    /// Writes everything, or says why not and how much of it is in the file.
    pub fn write_to(&self, file: &dyn DiskFile) -> Result<(), (io::Error, usize)> {
        let mut written = 0;
        let mut slices = Vec::with_capacity(self.pieces.len().min(SLICES_MAX));
        let mut batch = 0;
        for piece in self.pieces.iter().flat_map(|piece| piece.chunks(PIECE_BYTES)) {
            if slices.len() == SLICES_MAX || batch + piece.len() > PIECE_BYTES {
                write_slices(file, &slices, batch, &mut written)?;
                slices.clear();
                batch = 0;
            }
            slices.push(IoSlice::new(piece));
            batch += piece.len();
        }
        write_slices(file, &slices, batch, &mut written)
    }
}

/// Writes some pieces, of so many bytes, and counts what is in the file.
fn write_slices(
    file: &dyn DiskFile,
    slices: &[IoSlice<'_>],
    len: usize,
    written: &mut usize,
) -> Result<(), (io::Error, usize)> {
    let count = file.append_pieces(slices).map_err(|error| (error, *written))?;
    *written += count;
    if count < len {
        return Err((io::Error::from(Errno::NOSPC), *written));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::persist::disk::{Disk, MemoryDisk};
    use std::io::Read;
    use std::path::Path;

    #[test]
    fn what_is_left_after_a_short_write_is_the_rest() {
        let (disk, path) = (MemoryDisk::default(), Path::new("f"));
        let mut pending = Pending::default();
        for word in ["one ", "", "two ", "three"] {
            pending.push(Bytes::from_static(word.as_bytes()));
        }
        assert_eq!(pending.len(), 13);
        pending.advance(5);
        assert_eq!((pending.len(), pending.pieces.len()), (8, 2));
        let file = disk.create(path).expect("memory takes all");
        pending.write_to(&*file).expect("memory takes all");
        let mut text = String::new();
        disk.read(path).and_then(|mut file| file.read_to_string(&mut text)).expect("it is there");
        assert_eq!(text, "wo three");
        pending.advance(8);
        assert!(pending.is_empty() && pending.pieces.is_empty());
    }

    #[test]
    fn many_pieces_are_written_in_their_order() {
        let (disk, path) = (MemoryDisk::default(), Path::new("f"));
        let mut pending = Pending::default();
        let words: Vec<String> = (0..1000).map(|n| format!("{n};")).collect();
        for word in &words {
            pending.push(Bytes::copy_from_slice(word.as_bytes()));
        }
        let file = disk.create(path).expect("memory takes all");
        pending.write_to(&*file).expect("memory takes all");
        let mut text = String::new();
        disk.read(path).and_then(|mut file| file.read_to_string(&mut text)).expect("it is there");
        assert_eq!(text, words.concat());
    }
}

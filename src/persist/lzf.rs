//! LZF, the compression of strings in RDB files.
//!
//! ```text
//! 000lllll                     l+1 bytes as they are follow
//! lllooooo oooooooo            copy l+2 bytes from o+1 bytes back       (l is 1 to 6)
//! 111ooooo llllllll oooooooo   copy l+9 bytes from o+1 bytes back
//! ```
//! The compressor finds matches by a table of where three bytes were last seen. It chooses as
//! Redis's does, down to where a match ends and when it gives up, so that payloads are the same to
//! the byte (but for strings in which Redis's uncleared table makes it find another match).
//!
//! The table is made once a thread and never cleared: each input is given the next positions of one
//! long stream, and what was noted of earlier inputs lies before its start. A fresh table would
//! cost more than compressing most strings.

use std::cell::RefCell;

const SLOTS: usize = 1 << 16;
const RUN_MAX: usize = 32;
const DISTANCE_MAX: usize = 1 << 13;
const MATCH_MAX: usize = 264;
/// A token of three bytes yields no more than this, so that nothing honest grows further.
pub const GROWTH_MAX: usize = 132;

/// A stretch is compared in one go up to here, before Redis looks where it must end.
const UNCHECKED: usize = 16;

/// Inputs from this length on are left as they are: positions have 32 bits.
const INPUT_MAX: usize = 1 << 31;

/// What was said to be compressed is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

struct Compressor {
    /// Positions in the stream by a hash of three bytes; 0 is none.
    slots: Box<[u32]>,
    /// The position of the input's first byte in the stream.
    start: u32,
    out: Vec<u8>,
}

thread_local! {
    static COMPRESSOR: RefCell<Compressor> = RefCell::new(Compressor {
        slots: vec![0; SLOTS].into_boxed_slice(),
        start: 1,
        out: Vec::new(),
    });
}

/// Compresses an input, if that makes it shorter by at least four bytes.
pub fn compress<R>(input: &[u8], take: impl FnOnce(Option<&[u8]>) -> R) -> R {
    COMPRESSOR.with_borrow_mut(|compressor| {
        let is_compressed = compressor.run(input).is_some();
        let result = take(is_compressed.then_some(&compressor.out));
        const KEPT_MAX: usize = 1 << 20;
        compressor.out.clear();
        compressor.out.shrink_to(KEPT_MAX);
        result
    })
}

impl Compressor {
    /// Fills `out`; `None` if it is not worth it.
    fn run(&mut self, input: &[u8]) -> Option<()> {
        self.out.clear();
        let limit = input.len().checked_sub(4).filter(|limit| *limit > 0)?;
        if input.len() >= INPUT_MAX {
            return None;
        }
        let len = input.len() as u32;
        if self.start.checked_add(len).is_none() {
            self.slots.fill(0);
            self.start = 1;
        }
        let result = self.tokens(input, limit);
        self.start += len;
        result
    }

    fn tokens(&mut self, input: &[u8], limit: usize) -> Option<()> {
        let end = input.len();
        // The length of the run of literals, whose head is in place before it.
        let mut run = 0;
        self.out.push(0);
        let mut at = 0;
        while at + 2 < end {
            let Some(from) = self.note(input, at) else {
                if self.out.len() >= limit {
                    return None;
                }
                self.literal(input[at], &mut run);
                at += 1;
                continue;
            };
            // An empty run's head is taken back, which makes room for one more byte.
            if self.out.len() - usize::from(run == 0) + 4 >= limit {
                return None;
            }
            self.end_run(run);
            let len = match_len(input, from, at);
            self.copy(len, at - from - 1);
            run = 0;
            self.out.push(0);
            at += len;
            if at + 2 < end {
                self.note(input, at - 2);
                self.note(input, at - 1);
            }
        }
        if self.out.len() + 3 > limit {
            return None;
        }
        for byte in &input[at..] {
            self.literal(*byte, &mut run);
        }
        self.end_run(run);
        Some(())
    }

    /// Notes where three bytes are; where they were before, if that is near.
    #[inline]
    fn note(&mut self, input: &[u8], at: usize) -> Option<usize> {
        let three = &input[at..at + 3];
        let hash = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        let index = (hash >> 8).wrapping_sub(hash.wrapping_mul(5)) as usize & (SLOTS - 1);
        let noted = std::mem::replace(&mut self.slots[index], self.start + at as u32);
        // The first position is none that Redis would go back to.
        let from = noted.checked_sub(self.start).filter(|from| *from > 0)? as usize;
        let is_near = from < at && at - from <= DISTANCE_MAX;
        (is_near && input[from..from + 3] == *three).then_some(from)
    }

    #[inline]
    fn literal(&mut self, byte: u8, run: &mut usize) {
        self.out.push(byte);
        *run += 1;
        if *run == RUN_MAX {
            self.end_run(*run);
            *run = 0;
            self.out.push(0);
        }
    }

    /// Writes the length of a run into its head, or takes the head of an empty one away.
    #[inline]
    fn end_run(&mut self, run: usize) {
        let head = self.out.len() - run - 1;
        match run.checked_sub(1) {
            Some(code) => self.out[head] = code as u8,
            None => self.out.truncate(head),
        }
    }

    #[inline]
    fn copy(&mut self, len: usize, offset: usize) {
        let (high, low) = ((offset >> 8) as u8, offset as u8);
        match len - 2 {
            code @ ..7 => self.out.extend_from_slice(&[high | (code as u8) << 5, low]),
            code => self.out.extend_from_slice(&[high | 7 << 5, (code - 7) as u8, low]),
        }
    }
}

/// How long two stretches are equal that begin with three equal bytes. Redis leaves the last two
/// bytes of the input out, unless it finds them equal before it looks at the end.
#[inline]
fn match_len(input: &[u8], from: usize, at: usize) -> usize {
    let max = (input.len() - at - 2).min(MATCH_MAX);
    let is_equal = |len: usize| input[from + len] == input[at + len];
    let mut len = 2;
    if max > UNCHECKED {
        for _ in 0..UNCHECKED {
            len += 1;
            if !is_equal(len) {
                return len;
            }
        }
    }
    loop {
        len += 1;
        if len >= max || !is_equal(len) {
            return len;
        }
    }
}

/// Puts what an input of tokens yields in place of what `out` holds; that must be `len` bytes.
pub fn decompress(input: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.clear();
    if len > input.len().saturating_mul(GROWTH_MAX) {
        return Err(Malformed);
    }
    // What is declared is reserved only as far as most inputs grow.
    out.reserve_exact(len.min(input.len().saturating_mul(4).saturating_add(1024)));
    let mut rest = input;
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        let code = usize::from(*token >> 5);
        if code == 0 {
            let run = usize::from(*token) + 1;
            let (literals, after) = rest.split_at_checked(run).ok_or(Malformed)?;
            if run > len - out.len() {
                return Err(Malformed);
            }
            out.extend_from_slice(literals);
            rest = after;
            continue;
        }
        let mut count = code + 2;
        if code == 7 {
            let (more, after) = rest.split_first().ok_or(Malformed)?;
            count += usize::from(*more);
            rest = after;
        }
        let (low, after) = rest.split_first().ok_or(Malformed)?;
        rest = after;
        let distance = (usize::from(*token & 0x1f) << 8 | usize::from(*low)) + 1;
        if distance > out.len() || count > len - out.len() {
            return Err(Malformed);
        }
        copy_back(out, distance, count);
    }
    if out.len() == len { Ok(()) } else { Err(Malformed) }
}

/// Repeats what was so far back. The stretch may reach into what it makes.
#[inline]
fn copy_back(out: &mut Vec<u8>, distance: usize, count: usize) {
    let start = out.len() - distance;
    let mut left = count;
    while left > 0 {
        let step = left.min(out.len() - start);
        out.extend_from_within(start..start + step);
        left -= step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::structs::prng::Prng;
    use proptest::prelude::*;

    fn there_and_back(input: &[u8]) -> Option<usize> {
        compress(input, |compressed| {
            let compressed = compressed?;
            assert!(compressed.len() + 4 <= input.len());
            let mut out = Vec::new();
            assert_eq!(decompress(compressed, input.len(), &mut out), Ok(()));
            assert_eq!(out, input);
            Some(compressed.len())
        })
    }

    #[test]
    fn runs_and_copies_are_those_of_the_format_page() {
        compress(&[b'a'; 40], |compressed| {
            assert_eq!(compressed, Some(&[1, b'a', b'a', 0xe0, 27, 0, 1, b'a', b'a'][..]));
        });
        assert_eq!(there_and_back(b"abcabcabcabcabcabcabc"), Some(11));
        assert_eq!(there_and_back(b""), None);
        assert_eq!(there_and_back(b"abcd"), None);
        assert_eq!(there_and_back(b"no two of these come twice"), None);
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let mut prng = Prng::seeded(5);
        let mut compressed = 0;
        for _ in 0..3000 {
            let letters = 1 + prng.below(12);
            let len = prng.below(4000) as usize;
            let mut input: Vec<u8> = Vec::new();
            while input.len() < len {
                if prng.below(4) == 0 && input.len() > 10 {
                    let start = prng.below(input.len() as u64 - 4) as usize;
                    let end = (start + prng.below(700) as usize).min(input.len());
                    input.extend_from_within(start..end);
                } else {
                    input.push(b'a' + prng.below(letters) as u8);
                }
            }
            compressed += usize::from(there_and_back(&input).is_some());
        }
        assert!(compressed > 2000, "{compressed}");
    }

    #[test]
    fn positions_start_over_before_they_overflow() {
        let mut compressor =
            Compressor { slots: vec![0; SLOTS].into(), start: u32::MAX - 150, out: Vec::new() };
        for _ in 0..4 {
            assert!(compressor.run(&[b'x'; 100]).is_some());
        }
        assert_eq!(compressor.start, 301);
    }

    #[test]
    fn bad_tokens_are_refused() {
        let mut out = Vec::new();
        let table: [(&[u8], usize); 8] = [
            (&[], 1),
            (&[0], 1),
            (&[1, b'a'], 2),
            (&[0, b'a'], 2),
            (&[1, b'a', b'a'], 1),
            (&[0, b'a', 0x20, 1], 4),
            (&[0, b'a', 0xe0, 200, 0], 5),
            (&[0, b'a', 0xe0], 1 << 40),
        ];
        for (input, len) in table {
            assert_eq!(decompress(input, len, &mut out), Err(Malformed), "{input:?}");
        }
        assert!(out.capacity() < 4096);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(input: Vec<u8>, len in 0usize..2000) {
            let _ = decompress(&input, len, &mut Vec::new());
        }
    }
}

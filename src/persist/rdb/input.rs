//! Where a snapshot or a payload is read from: numbers, lengths and strings in the forms of the
//! format, out of a buffer that is filled and summed in large pieces.
//!
//! Short strings are lent where they lie in the buffer or in a scratch vector of the caller, long
//! ones become vectors of just their size: so reading a small key allocates nothing, and a large
//! value is copied once. No declared length reserves memory: it is compared with what there is to
//! come, if that is known, and else memory grows as bytes arrive.
//!
//! Invariant: `summed <= at <= end <= buffer.len()`; what lies between `at` and `end` is still to
//! be read.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use super::error::RdbError;
use super::length;
use crate::persist::{crc64, lzf};
use crate::structs::memory::{self, Growth};
use crate::structs::number::{I64Buf, format_i64};

/// The buffer's size: what is asked of the reader at once.
const BUFFER_BYTES: usize = 64 << 10;

/// Memory for a string of unknown honesty grows by no more than this at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Strings that are longer are read into vectors of their own: entries hold them as such.
pub const OWNED_FROM: usize = crate::keyspace::entry::INLINE_MAX + 1;

pub struct Input<'r> {
    reader: Box<dyn Read + Send + 'r>,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Up to here the buffer is in the sum.
    summed: usize,
    sum: Option<crc64::Sum>,
    /// How many bytes went through the buffer or past it before what is in it now.
    passed: u64,
    /// How many bytes there are in all, if that is known.
    total: Option<u64>,
    growth: Growth,
}

/// A length, or the encoding that stands in its place.
enum Head {
    Len(u64),
    Special(u8),
}

impl<'r> Input<'r> {
    /// Reads from a reader with so many bytes, if that is known.
    pub fn new(reader: impl Read + Send + 'r, total: Option<u64>, has_checksum: bool) -> Input<'r> {
        let wanted = total.unwrap_or(u64::MAX).min(BUFFER_BYTES as u64) as usize;
        Input {
            reader: Box::new(reader),
            buffer: vec![0; wanted.max(1)],
            at: 0,
            end: 0,
            summed: 0,
            sum: has_checksum.then(crc64::Sum::default),
            passed: 0,
            total,
            growth: Growth::default(),
        }
    }

    /// Reads bytes that are there.
    pub fn of_bytes(bytes: &'r [u8]) -> Input<'r> {
        Input::new(bytes, Some(bytes.len() as u64), false)
    }

    /// How many bytes were read.
    pub fn position(&self) -> u64 {
        self.passed + self.at as u64
    }

    /// Whether all bytes there are were read.
    pub fn is_at_end(&mut self) -> Result<bool, RdbError> {
        if self.at < self.end {
            return Ok(false);
        }
        match self.fill(1) {
            Ok(()) => Ok(false),
            Err(RdbError::Truncated) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The sum of the bytes read so far.
    pub fn sum(&mut self) -> u64 {
        self.add_to_sum();
        self.sum.as_ref().map_or(0, crc64::Sum::value)
    }

    /// What is still to be read.
    pub fn into_rest(self) -> impl Read + Send + 'r {
        let mut rest = self.buffer;
        rest.truncate(self.end);
        rest.drain(..self.at);
        Cursor::new(rest).chain(self.reader)
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, RdbError> {
        if self.at == self.end {
            self.fill(1)?;
        }
        self.at += 1;
        Ok(self.buffer[self.at - 1])
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        Ok(*self.short(N)?.first_chunk().expect("it is so long"))
    }

    /// A length.
    #[inline]
    pub fn length(&mut self) -> Result<u64, RdbError> {
        match self.head()? {
            Head::Len(len) => Ok(len),
            Head::Special(_) => Err(RdbError::Corrupt("Unknown length encoding in rdbLoadLen()")),
        }
    }

    /// How many elements follow, each of which takes at least so many bytes.
    #[inline]
    pub fn count(&mut self, bytes_each: u64) -> Result<u64, RdbError> {
        let count = self.length()?;
        self.expect(count.saturating_mul(bytes_each))?;
        Ok(count)
    }

    /// A string, where it lies or in the scratch vector; a long one as a vector of its own.
    #[inline]
    pub fn string<'s>(&'s mut self, scratch: &'s mut Vec<u8>) -> Result<Cow<'s, [u8]>, RdbError> {
        match self.head()? {
            Head::Len(len) if len < OWNED_FROM as u64 => {
                self.short(len as usize).map(Cow::Borrowed)
            }
            Head::Len(len) => self.long(len).map(Cow::Owned),
            Head::Special(encoding) => self.special(encoding, scratch),
        }
    }

    /// A string in the place of what the vector holds.
    pub fn string_to(&mut self, out: &mut Vec<u8>) -> Result<(), RdbError> {
        match self.head()? {
            Head::Len(len) if len < OWNED_FROM as u64 => {
                out.clear();
                out.extend_from_slice(self.short(len as usize)?);
            }
            Head::Len(len) => *out = self.long(len)?,
            Head::Special(encoding) => {
                let mut scratch = std::mem::take(out);
                let text = self.special(encoding, &mut scratch)?;
                *out = match text {
                    Cow::Owned(long) => long,
                    Cow::Borrowed(_) => scratch,
                };
            }
        }
        Ok(())
    }

    #[inline]
    fn head(&mut self) -> Result<Head, RdbError> {
        let first = self.byte()?;
        Ok(match first {
            0..length::LEN_14 => Head::Len(u64::from(first)),
            length::LEN_14..length::LEN_32 => {
                Head::Len(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?))
            }
            length::LEN_32 => Head::Len(u64::from(u32::from_be_bytes(self.array()?))),
            length::LEN_64 => Head::Len(u64::from_be_bytes(self.array()?)),
            length::SPECIAL.. => Head::Special(first & 0x3f),
            _ => return Err(RdbError::Corrupt("Unknown length encoding in rdbLoadLen()")),
        })
    }

    /// A number or a compressed string. It is lent from the scratch vector if it is short.
    fn special<'s>(
        &mut self,
        encoding: u8,
        scratch: &'s mut Vec<u8>,
    ) -> Result<Cow<'s, [u8]>, RdbError> {
        let value = match encoding {
            length::INT_8 => i64::from(i8::from_le_bytes(self.array()?)),
            length::INT_16 => i64::from(i16::from_le_bytes(self.array()?)),
            length::INT_32 => i64::from(i32::from_le_bytes(self.array()?)),
            length::LZF => return self.compressed(scratch),
            _ => return Err(RdbError::Corrupt("Unknown RDB string encoding type")),
        };
        scratch.clear();
        scratch.extend_from_slice(format_i64(value, &mut I64Buf::new()));
        Ok(Cow::Borrowed(scratch))
    }

    fn compressed<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<Cow<'s, [u8]>, RdbError> {
        const BAD: RdbError = RdbError::Corrupt("Invalid LZF compressed string");
        let (compressed_len, len) = (self.length()?, self.length()?);
        let len = usize::try_from(len).ok().filter(|len| *len > 0).ok_or(BAD)?;
        if len as u64 > compressed_len.saturating_mul(lzf::GROWTH_MAX as u64) {
            return Err(BAD);
        }
        self.expect(compressed_len)?;
        hold(&mut self.growth, len as u64)?;
        let long;
        let compressed = if compressed_len < OWNED_FROM as u64 {
            self.short(compressed_len as usize)?
        } else {
            long = self.long(compressed_len)?;
            &long
        };
        if len < OWNED_FROM {
            lzf::decompress(compressed, len, scratch).map_err(|lzf::Malformed| BAD)?;
            return Ok(Cow::Borrowed(scratch));
        }
        let mut text = Vec::new();
        lzf::decompress(compressed, len, &mut text).map_err(|lzf::Malformed| BAD)?;
        text.shrink_to_fit();
        Ok(Cow::Owned(text))
    }

    /// So many bytes out of the buffer, which has room for them.
    #[inline]
    fn short(&mut self, len: usize) -> Result<&[u8], RdbError> {
        if self.end - self.at < len {
            self.fill(len)?;
        }
        let start = self.at;
        self.at += len;
        Ok(&self.buffer[start..self.at])
    }

    fn long(&mut self, len: u64) -> Result<Vec<u8>, RdbError> {
        self.expect(len)?;
        if self.total.is_some() {
            hold(&mut self.growth, len)?;
        }
        let mut out = Vec::new();
        let mut left = len;
        while left > 0 {
            let buffered = (self.end - self.at).min(usize::try_from(left).unwrap_or(usize::MAX));
            if buffered > 0 {
                out.reserve_exact(left.min(STEP_BYTES) as usize);
                out.extend_from_slice(&self.buffer[self.at..self.at + buffered]);
                self.at += buffered;
                left -= buffered as u64;
                continue;
            }
            left -= self.read_past(&mut out, left)?;
        }
        Ok(out)
    }

    /// Reads bytes past the empty buffer: at most what memory is already held again, so that a
    /// length without bytes behind it costs little.
    fn read_past(&mut self, out: &mut Vec<u8>, left: u64) -> Result<u64, RdbError> {
        let is_sure = self.total.is_some();
        let step = if is_sure { left } else { left.min(STEP_BYTES.max(out.len() as u64)) };
        let step_len = usize::try_from(step).unwrap_or(usize::MAX);
        memory::asking(|| out.try_reserve_exact(step_len))
            .map_err(|_| RdbError::Io(io::ErrorKind::OutOfMemory.into()))?;
        let before = out.len();
        let read = (&mut self.reader).take(step).read_to_end(out)? as u64;
        if read < step {
            return Err(RdbError::Truncated);
        }
        self.add_to_sum();
        if let Some(sum) = &mut self.sum {
            sum.add(&out[before..]);
        }
        self.passed += read;
        Ok(read)
    }

    /// Refuses a length that is beyond what there is to come.
    #[inline]
    fn expect(&self, len: u64) -> Result<(), RdbError> {
        match self.total {
            Some(total) if len > total.saturating_sub(self.position()) => Err(RdbError::Truncated),
            _ => Ok(()),
        }
    }

    /// Has at least so many bytes in the buffer, which is large enough.
    #[cold]
    fn fill(&mut self, len: usize) -> Result<(), RdbError> {
        self.add_to_sum();
        self.buffer.copy_within(self.at..self.end, 0);
        self.passed += self.at as u64;
        self.end -= self.at;
        (self.at, self.summed) = (0, 0);
        if len > self.buffer.len() {
            // Only a reader of few bytes has a buffer as small as that.
            return Err(RdbError::Truncated);
        }
        while self.end < len {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Err(RdbError::Truncated),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RdbError::Io(error)),
            }
        }
        Ok(())
    }

    fn add_to_sum(&mut self) {
        if let Some(sum) = &mut self.sum {
            sum.add(&self.buffer[self.summed..self.at]);
        }
        self.summed = self.at;
    }
}

/// Refuses a length for which there is no memory: what is read is held once more as a value.
fn hold(growth: &mut Growth, len: u64) -> Result<(), RdbError> {
    let bytes = usize::try_from(len).unwrap_or(usize::MAX).saturating_mul(2);
    match growth.is_there_for(bytes) {
        true => Ok(()),
        false => Err(RdbError::Io(io::ErrorKind::OutOfMemory.into())),
    }
}

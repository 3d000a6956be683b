//! Where a snapshot or a payload is written to: numbers, lengths and strings in the forms of the
//! format, gathered in a buffer that is summed and passed on piece by piece.
//!
//! Errors of the writer behind it are latched, so that the encoders need not look for one after
//! every byte; whoever drives them asks now and then.

use std::io::{self, Write};

use super::length;
use crate::persist::{crc64, lzf};
use crate::structs::number::parse_i64;

/// So much is gathered before it is passed on.
const PIECE_BYTES: usize = 64 << 10;

/// The longest text that may be an integer of 32 bits.
const INTEGER_TEXT_MAX: usize = 11;

/// Shorter strings are not worth compressing.
const COMPRESSED_FROM: usize = 21;

pub struct Sink<'o> {
    out: Option<&'o mut dyn Write>,
    buffer: Vec<u8>,
    sum: Option<crc64::Sum>,
    compresses: bool,
    passed_on: u64,
    error: Option<io::Error>,
}

impl<'o> Sink<'o> {
    /// A sink that passes on what it is given.
    pub fn new(out: &'o mut dyn Write, compresses: bool, has_checksum: bool) -> Sink<'o> {
        Sink {
            out: Some(out),
            buffer: Vec::with_capacity(2 * PIECE_BYTES),
            sum: has_checksum.then(crc64::Sum::default),
            compresses,
            passed_on: 0,
            error: None,
        }
    }

    /// A sink that keeps all.
    pub fn in_memory(compresses: bool) -> Sink<'static> {
        Sink { out: None, buffer: Vec::new(), sum: None, compresses, passed_on: 0, error: None }
    }

    /// What a sink in memory was given.
    pub fn into_bytes(self) -> Vec<u8> {
        self.buffer
    }

    /// How many bytes it was given.
    pub fn written(&self) -> u64 {
        self.passed_on + self.buffer.len() as u64
    }

    /// The error that was met, if any; nothing was written after it.
    pub fn check(&mut self) -> io::Result<()> {
        self.error.take().map_or(Ok(()), Err)
    }

    /// Passes on what is gathered; the sum of all that was written, 0 without a checksum.
    pub fn finish(&mut self) -> io::Result<u64> {
        self.pass_on();
        self.check()?;
        Ok(self.sum.as_ref().map_or(0, crc64::Sum::value))
    }

    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.buffer.push(byte);
    }

    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > PIECE_BYTES && self.out.is_some() {
            self.pass_on();
            if bytes.len() > PIECE_BYTES {
                self.pass(bytes);
                return;
            }
        }
        self.buffer.extend_from_slice(bytes);
    }

    #[inline]
    pub fn len(&mut self, len: u64) {
        match len {
            0..0x40 => self.byte(len as u8),
            0x40..0x4000 => self.bytes(&[length::LEN_14 | (len >> 8) as u8, len as u8]),
            _ => self.long_len(len),
        }
    }

    fn long_len(&mut self, len: u64) {
        match u32::try_from(len) {
            Ok(len) => self.len_32(len),
            Err(_) => {
                self.byte(length::LEN_64);
                self.bytes(&len.to_be_bytes());
            }
        }
    }

    /// A length in the form for long ones, however short it is.
    pub fn len_32(&mut self, len: u32) {
        self.byte(length::LEN_32);
        self.bytes(&len.to_be_bytes());
    }

    /// A string in its shortest form.
    #[inline]
    pub fn string(&mut self, text: &[u8]) {
        if text.len() <= INTEGER_TEXT_MAX {
            if let Some(value) = parse_i64(text).and_then(|value| i32::try_from(value).ok()) {
                return self.integer(value);
            }
        } else if self.compresses && text.len() >= COMPRESSED_FROM {
            return lzf::compress(text, |compressed| match compressed {
                Some(compressed) => self.compressed(compressed, text.len()),
                None => self.raw(text),
            });
        }
        self.raw(text);
    }

    #[inline]
    fn raw(&mut self, text: &[u8]) {
        self.len(text.len() as u64);
        self.bytes(text);
    }

    fn integer(&mut self, value: i32) {
        let bytes = value.to_le_bytes();
        if i8::try_from(value).is_ok() {
            self.bytes(&[length::SPECIAL | length::INT_8, bytes[0]]);
        } else if i16::try_from(value).is_ok() {
            self.bytes(&[length::SPECIAL | length::INT_16, bytes[0], bytes[1]]);
        } else {
            self.byte(length::SPECIAL | length::INT_32);
            self.bytes(&bytes);
        }
    }

    fn compressed(&mut self, compressed: &[u8], len: usize) {
        self.byte(length::SPECIAL | length::LZF);
        self.len(compressed.len() as u64);
        self.len(len as u64);
        self.bytes(compressed);
    }

    fn pass_on(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.pass(&buffer);
        buffer.clear();
        self.buffer = buffer;
    }

    fn pass(&mut self, bytes: &[u8]) {
        if let Some(sum) = &mut self.sum {
            sum.add(bytes);
        }
        self.passed_on += bytes.len() as u64;
        if let (None, Some(out)) = (&self.error, &mut self.out) {
            self.error = out.write_all(bytes).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Sink<'_>)) -> Vec<u8> {
        let mut sink = Sink::in_memory(true);
        write(&mut sink);
        sink.into_bytes()
    }

    #[test]
    fn lengths_take_the_shortest_form() {
        let table: [(u64, &[u8]); 7] = [
            (0, &[0]),
            (63, &[63]),
            (64, &[0x40, 64]),
            (16_383, &[0x7f, 0xff]),
            (16_384, &[0x80, 0, 0, 0x40, 0]),
            (u64::from(u32::MAX), &[0x80, 0xff, 0xff, 0xff, 0xff]),
            (1 << 32, &[0x81, 0, 0, 0, 1, 0, 0, 0, 0]),
        ];
        for (len, expected) in table {
            assert_eq!(written(|sink| sink.len(len)), expected);
        }
    }

    #[test]
    fn strings_take_the_shortest_form() {
        let table: [(&[u8], &[u8]); 10] = [
            (b"", &[0]),
            (b"a", &[1, b'a']),
            (b"-128", &[0xc0, 0x80]),
            (b"128", &[0xc1, 0x80, 0]),
            (b"-32769", &[0xc2, 0xff, 0x7f, 0xff, 0xff]),
            (b"-2147483648", &[0xc2, 0, 0, 0, 0x80]),
            (b"2147483648", b"\x0a2147483648"),
            (b"007", b"\x03007"),
            (b"aaaaaaaaaaaaaaaaaaaa", b"\x14aaaaaaaaaaaaaaaaaaaa"),
            (b"aaaaaaaaaaaaaaaaaaaaa", b"\xc3\x06\x15\x01aa\xe0\x0a\x00"),
        ];
        for (text, expected) in table {
            let bytes = written(|sink| sink.string(text));
            assert_eq!(bytes, expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn pieces_are_passed_on_and_summed() {
        let mut out = Vec::new();
        let mut sink = Sink::new(&mut out, false, true);
        for number in 0..100_000u64 {
            sink.len(number);
        }
        sink.string(&[b'x'; 200_000]);
        let (written, sum) = (sink.written(), sink.finish().expect("memory takes all"));
        assert_eq!(written, out.len() as u64);
        assert_eq!(sum, crc64::of(&out));
    }

    #[test]
    fn errors_are_kept() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut full = Full;
        let mut sink = Sink::new(&mut full, false, true);
        assert!(sink.check().is_ok());
        (0..20_000).for_each(|_| sink.string(b"twelve bytes"));
        assert_eq!(sink.check().map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
    }
}

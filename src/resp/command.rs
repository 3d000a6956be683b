//! Commands as servers write them: arrays of bulk strings, in logs and between servers.
//!
//! This is the strict half of the protocol, without inline commands and other leniency towards
//! people. The writer is on the way of every write that is logged or replicated, so it formats
//! its numbers by hand and allocates nothing.

use crate::resp::request::SHARED_LEN_MIN;
use crate::structs::number::{I64Buf, format_i64};
use bytes::BytesMut;

/// Where commands are written: a plain buffer, or one whose parts are shared.
pub trait Output {
    fn reserve(&mut self, bytes: usize);
    fn extend_from_slice(&mut self, bytes: &[u8]);
}

impl Output for Vec<u8> {
    #[inline]
    fn reserve(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Output for BytesMut {
    #[inline]
    fn reserve(&mut self, bytes: usize) {
        self.reserve(bytes);
    }

    #[inline]
    fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Appends a command.
#[inline]
pub fn put<'w>(out: &mut impl Output, words: impl ExactSizeIterator<Item = &'w [u8]>) {
    put_header(out, b'*', words.len());
    for word in words {
        put_bulk(out, word);
    }
}

/// What may follow a word without moving a long one again: its end, a note of the log, the next
/// command's beginning.
const ROOM_BEHIND: usize = 512;

/// Appends a word of a command whose header is written.
#[inline]
pub fn put_bulk(out: &mut impl Output, word: &[u8]) {
    let behind = if word.len() < SHARED_LEN_MIN { 24 } else { ROOM_BEHIND };
    out.reserve(word.len() + behind);
    put_header(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Appends `*<count>` or `$<len>`.
#[inline]
pub fn put_header(out: &mut impl Output, prefix: u8, number: usize) {
    if let digit @ 0..=9 = number {
        return out.extend_from_slice(&[prefix, b'0' + digit as u8, b'\r', b'\n']);
    }
    out.extend_from_slice(&[prefix]);
    out.extend_from_slice(format_i64(number as i64, &mut I64Buf::new()));
    out.extend_from_slice(b"\r\n");
}

/// The command at the front of these bytes and its length, if it is whole and well-formed.
#[cfg(test)]
pub fn read(bytes: &[u8]) -> Option<(Vec<Box<[u8]>>, usize)> {
    let mut at = 0;
    let count = read_header(bytes, &mut at, b'*')?;
    let mut words = Vec::new();
    for _ in 0..count {
        let len = read_header(bytes, &mut at, b'$')?;
        let end = at.checked_add(len)?;
        words.push(bytes.get(at..end)?.into());
        at = end.checked_add(2)?;
        if bytes.get(end..at)? != b"\r\n" {
            return None;
        }
    }
    (count > 0).then_some((words, at))
}

/// Reads `<prefix><digits>\r\n`.
#[cfg(test)]
fn read_header(bytes: &[u8], at: &mut usize, prefix: u8) -> Option<usize> {
    let line = bytes.get(*at..)?;
    let end = memchr::memchr(b'\r', &line[..line.len().min(24)])?;
    let digits = line[..end].strip_prefix(&[prefix])?;
    if line.get(end + 1) != Some(&b'\n') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    *at += end + 2;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_can_be_read() {
        let mut out = Vec::new();
        let long = vec![b'x'; 1234];
        put(&mut out, [&b"SET"[..], b"", b"a\r\nb", &long].into_iter());
        put(&mut out, [&b"PING"[..]].into_iter());
        assert!(out.starts_with(b"*4\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\na\r\nb\r\n$1234\r\nxxx"));
        let (words, len) = read(&out).expect("it is whole");
        assert_eq!((words.len(), &*words[1], words[3].len()), (4, &b""[..], 1234));
        assert_eq!(&out[len..], b"*1\r\n$4\r\nPING\r\n");
        for cut in 0..len {
            assert_eq!(read(&out[..cut]), None);
        }
    }

    #[test]
    fn what_is_malformed_is_nothing() {
        for bytes in [
            &b"*0\r\n"[..],
            b"*1\r\n$-1\r\n\r\n",
            b"*1\r\n+OK\r\n",
            b"*1\r\n$1\r\nab\r\n",
            b"*1\n$1\r\na\r\n",
            b"PING\r\n",
            b"*1\r\n$99999999999999999999\r\na\r\n",
            b"*1\r\n$18446744073709551615\r\na\r\n",
        ] {
            assert_eq!(read(bytes), None, "{}", bytes.escape_ascii());
        }
    }
}

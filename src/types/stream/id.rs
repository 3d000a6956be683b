//! Entry IDs: two 64-bit numbers, milliseconds and a sequence within them, in the order of both.
//!
//! Clients write them as `ms-seq`, often without the sequence; which one stands for it depends on
//! the command. Numbers are read as `parse_u64` reads them, leading zeros and all, since the
//! commands of the write streams of other servers are to be taken as they are.

use crate::structs::number::{I64Buf, format_u64, parse_u64};

/// Texts from this length on are no IDs.
const TEXT_LEN_MAX: usize = 127;

/// The longest printed ID: two numbers of 20 digits and a dash.
const PRINTED_LEN_MAX: usize = 41;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

/// The ID of an entry to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewId {
    /// `*`: the time of now, or what comes after the last ID.
    Auto,
    /// `ms-*`: the next sequence of these milliseconds.
    AutoSequence(u64),
    Given(StreamId),
}

/// An end of a range of IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Inclusive(StreamId),
    Exclusive(StreamId),
}

/// What is written before an ID that does not belong to its range.
const EXCLUDING: u8 = b'(';

impl StreamId {
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The ID after this one, if there is any.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The ID before this one, if there is any.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { seq, ..self }),
            None => Some(StreamId { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// Reads `ms-seq` or `ms`, for which the sequence is `missing_seq`.
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        let (ms, seq) = split(text)?;
        let seq = seq.map_or(Some(missing_seq), parse_u64)?;
        Some(StreamId { ms: parse_u64(ms)?, seq })
    }

    /// The same, with `-` for the lowest and `+` for the highest ID.
    pub fn parse_or_end(text: &[u8], missing_seq: u64) -> Option<StreamId> {
        match until_zero(text) {
            b"-" => Some(StreamId::MIN),
            b"+" => Some(StreamId::MAX),
            text => StreamId::parse(text, missing_seq),
        }
    }

    pub fn write(self, buffer: &mut IdBuf) -> &[u8] {
        let mut number = I64Buf::new();
        let ms = format_u64(self.ms, &mut number);
        let dash = ms.len();
        buffer.0[..dash].copy_from_slice(ms);
        buffer.0[dash] = b'-';
        let seq = format_u64(self.seq, &mut number);
        let len = dash + 1 + seq.len();
        buffer.0[dash + 1..len].copy_from_slice(seq);
        &buffer.0[..len]
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.write(&mut IdBuf::new()).to_vec()
    }
}

impl NewId {
    pub fn parse(text: &[u8]) -> Option<NewId> {
        if text == b"*" {
            return Some(NewId::Auto);
        }
        match split(text)? {
            (ms, Some(b"*")) => parse_u64(ms).map(NewId::AutoSequence),
            _ => StreamId::parse(text, 0).map(NewId::Given),
        }
    }
}

impl Bound {
    pub fn parse(text: &[u8], missing_seq: u64) -> Option<Bound> {
        match text {
            [EXCLUDING, id @ ..] if !id.is_empty() => {
                StreamId::parse(id, missing_seq).map(Bound::Exclusive)
            }
            _ => StreamId::parse_or_end(text, missing_seq).map(Bound::Inclusive),
        }
    }

    /// The first ID of a range that begins here.
    pub fn as_start(self) -> Option<StreamId> {
        match self {
            Bound::Inclusive(id) => Some(id),
            Bound::Exclusive(id) => id.next(),
        }
    }

    /// The last ID of a range that ends here.
    pub fn as_end(self) -> Option<StreamId> {
        match self {
            Bound::Inclusive(id) => Some(id),
            Bound::Exclusive(id) => id.previous(),
        }
    }
}

/// Room for a printed ID.
pub struct IdBuf([u8; PRINTED_LEN_MAX]);

impl IdBuf {
    pub fn new() -> IdBuf {
        IdBuf([0; PRINTED_LEN_MAX])
    }
}

impl Default for IdBuf {
    fn default() -> IdBuf {
        IdBuf::new()
    }
}

/// What a C string of these bytes would hold.
fn until_zero(text: &[u8]) -> &[u8] {
    memchr::memchr(0, text).map_or(text, |end| &text[..end])
}

/// The parts before and after the first dash.
fn split(text: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    if text.len() > TEXT_LEN_MAX {
        return None;
    }
    let text = until_zero(text);
    match memchr::memchr(b'-', text) {
        Some(dash) => Some((&text[..dash], Some(&text[dash + 1..]))),
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = u64::MAX;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        type Row = (&'static [u8], Option<(u64, u64)>);
        let table: [Row; 18] = [
            (b"0-0", Some((0, 0))),
            (b"5", Some((5, 7))),
            (b"5-6", Some((5, 6))),
            (b"18446744073709551615-18446744073709551615", Some((MAX, MAX))),
            (b"18446744073709551616-0", None),
            (b"0-18446744073709551616", None),
            (b"", None),
            (b"-", None),
            (b"+", None),
            (b"-1", None),
            (b"1-", None),
            (b"1--1", None),
            (b"1-2-3", None),
            (b"1-x", None),
            (b"007-08", Some((7, 8))),
            (b" 1-2", Some((1, 2))),
            (b"1-2\0x", Some((1, 2))),
            (b"$", None),
        ];
        for (text, expected) in table {
            let id = StreamId::parse(text, 7).map(|id| (id.ms, id.seq));
            assert_eq!(id, expected, "{}", text.escape_ascii());
        }
        assert_eq!(StreamId::parse(&[b'0'; 127], 0), Some(StreamId::MIN));
        assert_eq!(StreamId::parse(&[b'0'; 128], 0), None);
        assert_eq!(StreamId::parse_or_end(b"-", 7), Some(StreamId::MIN));
        assert_eq!(StreamId::parse_or_end(b"+", 7), Some(StreamId::MAX));
    }

    #[test]
    fn new_ids_may_leave_parts_open() {
        assert_eq!(NewId::parse(b"*"), Some(NewId::Auto));
        assert_eq!(NewId::parse(b"5-*"), Some(NewId::AutoSequence(5)));
        assert_eq!(NewId::parse(b"5"), Some(NewId::Given(StreamId::new(5, 0))));
        assert_eq!(NewId::parse(b"*-5"), None);
        assert_eq!(NewId::parse(b"5-**"), None);
        assert_eq!(NewId::parse(b"-"), None);
    }

    #[test]
    fn bounds_leave_out_what_they_exclude() {
        let start = |text: &[u8]| Bound::parse(text, 0).map(Bound::as_start);
        let end = |text: &[u8]| Bound::parse(text, MAX).map(Bound::as_end);
        assert_eq!(start(b"5"), Some(Some(StreamId::new(5, 0))));
        assert_eq!(start(b"(5-18446744073709551615"), Some(Some(StreamId::new(6, 0))));
        assert_eq!(start(b"(18446744073709551615-18446744073709551615"), Some(None));
        assert_eq!(end(b"5"), Some(Some(StreamId::new(5, MAX))));
        assert_eq!(end(b"(5-0"), Some(Some(StreamId::new(4, MAX))));
        assert_eq!(end(b"(0-0"), Some(None));
        assert_eq!(start(b"("), None);
        assert_eq!(start(b"(-"), None);
        assert_eq!(end(b"+"), Some(Some(StreamId::MAX)));
    }

    #[test]
    fn ids_are_printed_in_full() {
        assert_eq!(StreamId::MIN.to_vec(), b"0-0");
        assert_eq!(StreamId::MAX.to_vec(), b"18446744073709551615-18446744073709551615");
    }
}

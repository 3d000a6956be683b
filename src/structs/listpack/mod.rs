//! Listpacks: small collections as one run of bytes, laid out as Redis lays them out.
//!
//! ```text
//! total bytes u32 | count u16 | element ... | ff
//! element: encoding (1, 2 or 5 bytes) [data] | length of both, to be read from its end
//! ```
//! The last part of an element lets readers go backwards. Texts that an `i64` prints as are held as
//! integers of 1 to 9 bytes. DUMP, RDB files and replicas take the bytes as they are, which is why
//! the layout is not ours to better: a table of offsets would make indexing O(1), and every save a
//! conversion.
//!
//! [`Listpack`] reads; the functions of `edit` change a `Vec<u8>` that holds one. A position
//! is the offset of an element, or of the end byte; it dies with the next edit before it.
//!
//! Invariant: bytes that [`validate`] accepts, or that [`new_empty`] and the edits made, are
//! well-formed: the walks below never leave them. What comes from outside must be validated.

mod edit;
mod gapped;
#[cfg(test)]
mod tests;

pub use edit::{
    append, append_element, count_anew, delete, delete_range, extend, insert, new_empty, prepend,
    replace, replace_element, split_off,
};
pub use gapped::Gapped;

use super::number::{I64Buf, format_i64, parse_i64};

/// A listpack may grow to so many bytes.
pub const BYTES_MAX: usize = 1 << 30;

/// The edit would pass [`BYTES_MAX`]; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

const HEADER_LEN: usize = 6;
const END: u8 = 0xff;
/// The count that stands for "too many for 16 bits: count them".
const COUNT_UNKNOWN: u16 = u16::MAX;

const INT_16: u8 = 0xf1;
const INT_24: u8 = 0xf2;
const INT_32: u8 = 0xf3;
const INT_64: u8 = 0xf4;
const LONG_STRING: u8 = 0xf0;

/// What an element holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element<'a> {
    Int(i64),
    Str(&'a [u8]),
}

impl<'a> Element<'a> {
    /// The form in which a text is held.
    #[inline]
    pub fn of(text: &'a [u8]) -> Element<'a> {
        match parse_i64(text) {
            Some(value) => Element::Int(value),
            None => Element::Str(text),
        }
    }

    /// The text, for which an integer needs the buffer.
    #[inline]
    pub fn bytes<'b>(self, buffer: &'b mut I64Buf) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Element::Int(value) => format_i64(value, buffer),
            Element::Str(bytes) => bytes,
        }
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.bytes(&mut I64Buf::new()).to_vec()
    }

    /// The length of the text.
    pub fn text_len(self) -> usize {
        self.bytes(&mut I64Buf::new()).len()
    }

    /// Whether this is the text `bytes`, however it is held.
    pub fn is(self, bytes: &[u8]) -> bool {
        match self {
            Element::Int(value) => parse_i64(bytes) == Some(value),
            Element::Str(own) => own == bytes,
        }
    }
}

/// A reader of a well-formed listpack.
#[derive(Clone, Copy)]
pub struct Listpack<'a>(&'a [u8]);

impl<'a> Listpack<'a> {
    /// Reads bytes that are known to be a listpack: made by this file's functions or validated.
    #[inline]
    pub fn trusted(bytes: &'a [u8]) -> Listpack<'a> {
        debug_assert!(bytes.len() > HEADER_LEN && bytes[bytes.len() - 1] == END);
        Listpack(bytes)
    }

    /// How many elements there are; counted if they are 65535 or more.
    pub fn len(self) -> usize {
        match stored_count(self.0) {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.0.len() == HEADER_LEN + 1
    }

    /// The bytes themselves.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The position behind the last element.
    #[inline]
    pub fn end(self) -> usize {
        self.0.len() - 1
    }

    /// The position of the first element, or the end.
    pub fn start(self) -> usize {
        HEADER_LEN
    }

    /// All elements with their positions.
    #[inline]
    pub fn iter(self) -> Iter<'a> {
        Iter { bytes: self.0, front: HEADER_LEN, back: self.end() }
    }

    /// The elements from a position on.
    #[inline]
    pub fn iter_from(self, position: usize) -> Iter<'a> {
        Iter { bytes: self.0, front: position, back: self.end() }
    }

    /// The elements before a position; read them backwards to go down from it.
    pub fn iter_before(self, position: usize) -> Iter<'a> {
        Iter { bytes: self.0, front: HEADER_LEN, back: position }
    }

    /// The elements from a position to another one.
    pub fn iter_between(self, start: usize, end: usize) -> Iter<'a> {
        Iter { bytes: self.0, front: start, back: end }
    }

    /// The element at a position, which must not be the end.
    #[inline]
    pub fn at(self, position: usize) -> Element<'a> {
        decode(self.0, position).0
    }

    /// The position after an element's, perhaps the end.
    #[inline]
    pub fn next(self, position: usize) -> usize {
        let size = decode(self.0, position).1;
        position + size + backlen_width(size)
    }

    /// The element at a position, which must not be the end, and the position after it.
    #[inline(always)]
    pub fn read(self, position: usize) -> (Element<'a>, usize) {
        let (element, size) = decode(self.0, position);
        (element, position + size + backlen_width(size))
    }

    /// The position so many elements after one; they must be there.
    #[inline]
    pub fn skip(self, mut position: usize, count: usize) -> usize {
        for _ in 0..count {
            let first = self.0[position];
            position = match first {
                0..0x80 => position + 2,
                0x80..0xc0 => position + 2 + usize::from(first & 0x3f),
                _ => self.next(position),
            };
        }
        position
    }

    /// The position before an element's or the end's; `None` at the start.
    pub fn previous(self, position: usize) -> Option<usize> {
        (position > HEADER_LEN).then(|| step_back(self.0, position))
    }

    /// The position of the element at an index, which counts from the end if negative. It is sought
    /// from the nearer end.
    pub fn seek(self, index: i64) -> Option<usize> {
        let distance = usize::try_from(index.unsigned_abs()).ok()?;
        let (forward, steps) = match (stored_count(self.0), index < 0) {
            (COUNT_UNKNOWN, false) => (true, distance),
            (COUNT_UNKNOWN, true) => (false, distance - 1),
            (count, is_negative) => {
                let count = usize::from(count);
                let at = if is_negative { count.checked_sub(distance)? } else { distance };
                let from_end = count.checked_sub(at + 1)?;
                if at <= from_end { (true, at) } else { (false, from_end) }
            }
        };
        let mut iter = self.iter();
        let found = if forward { iter.nth(steps) } else { iter.nth_back(steps) };
        found.map(|(position, _)| position)
    }

    /// The element at an index, which counts from the end if negative.
    pub fn get(self, index: i64) -> Option<Element<'a>> {
        self.seek(index).map(|position| self.at(position))
    }

    /// The first element that is this text; after each element looked at, `skip` are passed over.
    #[inline]
    pub fn find(self, text: &[u8], skip: usize) -> Option<usize> {
        self.find_from(HEADER_LEN, text, skip)
    }

    /// The same from a position on.
    pub fn find_from(self, position: usize, text: &[u8], skip: usize) -> Option<usize> {
        let wanted = parse_i64(text);
        let mut to_pass = 0;
        self.iter_from(position)
            .find(|(_, element)| {
                if to_pass > 0 {
                    to_pass -= 1;
                    return false;
                }
                to_pass = skip;
                match element {
                    Element::Int(value) => wanted == Some(*value),
                    Element::Str(own) => *own == text,
                }
            })
            .map(|(position, _)| position)
    }
}

impl std::fmt::Debug for Listpack<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(|(_, element)| element)).finish()
    }
}

/// Elements with their positions, from both ends.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (usize, Element<'a>);

    #[inline]
    fn next(&mut self) -> Option<(usize, Element<'a>)> {
        if self.front >= self.back {
            return None;
        }
        let position = self.front;
        let (element, size) = decode(self.bytes, position);
        self.front += size + backlen_width(size);
        Some((position, element))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.front >= self.back {
            return None;
        }
        self.back = step_back(self.bytes, self.back);
        Some((self.back, decode(self.bytes, self.back).0))
    }
}

/// What foreign bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Sound,
    /// All elements are, and only the header has another count. [`count_anew`] makes it sound.
    Miscounted,
    Malformed,
}

/// Whether foreign bytes are a listpack. Without `deep` only the frame is looked at, which is not
/// enough to read them.
pub fn validate(bytes: &[u8], deep: bool) -> bool {
    if deep { form(bytes) == Form::Sound } else { is_framed(bytes) }
}

fn is_framed(bytes: &[u8]) -> bool {
    let Some((total, _)) = bytes.split_first_chunk::<4>() else { return false };
    bytes.len() > HEADER_LEN
        && usize::try_from(u32::from_le_bytes(*total)) == Ok(bytes.len())
        && bytes.last() == Some(&END)
}

/// Walks through foreign bytes to see what they are.
pub fn form(bytes: &[u8]) -> Form {
    if !is_framed(bytes) {
        return Form::Malformed;
    }
    let end = bytes.len() - 1;
    let (mut position, mut count) = (HEADER_LEN, 0usize);
    while position < end {
        let Some(size) = checked_size(&bytes[position..end]) else { return Form::Malformed };
        let (backlen, width) = encode_backlen(size);
        let at = position + size;
        if bytes[..end].get(at..at + width) != Some(&backlen[..width]) {
            return Form::Malformed;
        }
        position = at + width;
        count += 1;
    }
    match stored_count(bytes) {
        COUNT_UNKNOWN => Form::Sound,
        stored if usize::from(stored) == count => Form::Sound,
        _ => Form::Miscounted,
    }
}

/// The size of the encoding and data at the start of some bytes, if they are all there.
fn checked_size(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let size = match first {
        0..0x80 => 1,
        0x80..0xc0 => 1 + usize::from(first & 0x3f),
        0xc0..0xe0 => 2,
        0xe0..0xf0 => 2 + (usize::from(first & 0xf) << 8 | usize::from(*bytes.get(1)?)),
        LONG_STRING => {
            let len = u32::from_le_bytes(*bytes.get(1..)?.first_chunk()?);
            usize::try_from(len).ok()?.checked_add(5)?
        }
        INT_16 => 3,
        INT_24 => 4,
        INT_32 => 5,
        INT_64 => 9,
        _ => return None,
    };
    (size <= bytes.len()).then_some(size)
}

/// The element at a position, and the size of its encoding and data.
#[inline(always)]
fn decode(bytes: &[u8], position: usize) -> (Element<'_>, usize) {
    let bytes = &bytes[position..];
    let first = bytes[0];
    let string = |start: usize, len: usize| (Element::Str(&bytes[start..start + len]), start + len);
    match first {
        0..0x80 => (Element::Int(i64::from(first)), 1),
        0x80..0xc0 => string(1, usize::from(first & 0x3f)),
        0xc0..0xe0 => {
            let raw = i64::from(first & 0x1f) << 8 | i64::from(bytes[1]);
            (Element::Int(if raw < 1 << 12 { raw } else { raw - (1 << 13) }), 2)
        }
        0xe0..0xf0 => string(2, usize::from(first & 0xf) << 8 | usize::from(bytes[1])),
        _ => decode_wide(bytes),
    }
}

/// [`decode`] for the encodings whose first byte says nothing but which they are.
fn decode_wide(bytes: &[u8]) -> (Element<'_>, usize) {
    let value = match bytes[0] {
        LONG_STRING => {
            let len = u32::from_le_bytes(chunk(bytes)) as usize;
            return (Element::Str(&bytes[5..5 + len]), 5 + len);
        }
        INT_16 => (i64::from(i16::from_le_bytes(chunk(bytes))), 3),
        INT_24 => {
            let [a, b, c] = chunk(bytes);
            (i64::from(i32::from_le_bytes([0, a, b, c]) >> 8), 4)
        }
        INT_32 => (i64::from(i32::from_le_bytes(chunk(bytes))), 5),
        INT_64 => (i64::from_le_bytes(chunk(bytes)), 9),
        other => unreachable!("a well-formed listpack has no encoding {other:#x}"),
    };
    (Element::Int(value.0), value.1)
}

/// The bytes after an encoding byte.
fn chunk<const N: usize>(bytes: &[u8]) -> [u8; N] {
    *bytes[1..].first_chunk().expect("a well-formed element is whole")
}

/// The position of the element that ends where a position is.
#[inline(always)]
fn step_back(bytes: &[u8], position: usize) -> usize {
    let mut size = 0usize;
    let mut width = 0;
    loop {
        let byte = bytes[position - 1 - width];
        size |= usize::from(byte & 0x7f) << (7 * width);
        width += 1;
        if byte & 0x80 == 0 {
            return position - width - size;
        }
    }
}

/// How many bytes the length of an encoding with its data takes at the end of the element. The
/// bounds are Redis's, one below what would fit.
#[inline(always)]
fn backlen_width(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..16_383 => 2,
        16_383..2_097_151 => 3,
        2_097_151..268_435_455 => 4,
        _ => 5,
    }
}

fn encode_backlen(size: usize) -> ([u8; 5], usize) {
    let width = backlen_width(size);
    let mut bytes = [0; 5];
    for (i, byte) in bytes[..width].iter_mut().enumerate() {
        let group = (size >> (7 * (width - 1 - i))) as u8 & 0x7f;
        *byte = if i == 0 { group } else { group | 0x80 };
    }
    (bytes, width)
}

fn stored_count(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[4], bytes[5]])
}
